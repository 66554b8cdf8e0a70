//! One WebSocket: HELLO, then payloads both ways until either side ends it.

use std::collections::VecDeque;
use std::time::Duration;

use axum::extract::ws::{CloseFrame, Message, WebSocket};
use futures_util::FutureExt as _;
use tokio::time::{Instant, sleep_until, timeout};

use super::payload::{self, Packing};
use super::{Attached, Order, close_reason};
use crate::Sim;

/// How long the client may take to answer a close.
const GOODBYE: Duration = Duration::from_secs(2);
/// The span of the limit on what a client sends.
const SENDS_SPAN: Duration = Duration::from_secs(60);

/// What the URL's query asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Negotiated {
    /// Version 10, JSON, plain.
    Plain,
    /// Version 10, JSON, one zlib stream.
    ZlibStream,
    /// Another version: close 4012.
    WrongVersion,
}

/// How a connection ended, as far as its session cares.
enum End {
    /// Its session may be resumed.
    Resumable,
    /// Its session is over.
    Over,
}

struct Connection {
    socket: WebSocket,
    packing: Packing,
    sim: Sim,
    attached: Attached,
    silent_until: Option<Instant>,
    close_at: Option<Instant>,
    heartbeat_by: Instant,
    sends: VecDeque<Instant>,
}

/// Serves one connection until its end.
pub(crate) async fn serve(socket: WebSocket, negotiated: Negotiated, sim: Sim) {
    let attached = sim.world().gateway.connect();
    let id = attached.id;
    let packing = match negotiated {
        Negotiated::ZlibStream => Packing::zlib_stream(),
        Negotiated::Plain | Negotiated::WrongVersion => Packing::Plain,
    };
    let mut connection = Connection {
        socket,
        packing,
        heartbeat_by: Instant::now() + patience(&sim),
        sim: sim.clone(),
        attached,
        silent_until: None,
        close_at: None,
        sends: VecDeque::new(),
    };
    let end = if negotiated == Negotiated::WrongVersion {
        connection.close(4012).await;
        End::Over
    } else {
        connection.run().await
    };
    sim.world()
        .gateway
        .disconnect(id, matches!(end, End::Over), sim.now_ms());
}

/// How long a client may go without a heartbeat: one and a half intervals.
fn patience(sim: &Sim) -> Duration {
    let interval = Duration::from_millis(sim.settings().sim_heartbeat_ms);
    interval + (interval / 2).max(Duration::from_millis(250))
}

impl Connection {
    async fn run(&mut self) -> End {
        let hello = payload::hello(self.sim.settings().sim_heartbeat_ms);
        if self.send(&hello).await.is_err() {
            return End::Resumable;
        }
        loop {
            let silent = self.silent_until;
            let close_at = self.close_at;
            tokio::select! {
                () = self.attached.cut.cancelled() => return End::Resumable,
                () = self.sim.shutdown().cancelled() => {
                    self.close(1001).await;
                    return End::Resumable;
                }
                () = until(silent) => self.silent_until = None,
                () = until(close_at) => {
                    self.close(4000).await;
                    return End::Resumable;
                }
                order = self.attached.orders.recv(), if silent.is_none() => {
                    let Some(order) = order else { return End::Resumable };
                    if self.obey(order).await.is_err() {
                        return End::Resumable;
                    }
                }
                message = self.socket.recv() => {
                    if let Some(end) = self.hear(message) {
                        return end;
                    }
                }
                () = sleep_until(self.heartbeat_by) => {
                    // A payload that arrived in time counts, even if it is read late.
                    if let Some(message) = self.socket.recv().now_or_never() {
                        match self.hear(message) {
                            Some(end) => return end,
                            None => continue,
                        }
                    }
                    // The session ends first: a client that is quick to resume must not find it.
                    let now_ms = self.sim.now_ms();
                    self.sim.world().gateway.refuse(self.attached.id, 4009, now_ms);
                    self.close(4009).await;
                    return End::Over;
                }
            }
        }
    }

    /// Takes what came over the socket; how the connection ends, if it does.
    fn hear(&mut self, message: Option<Result<Message, axum::Error>>) -> Option<End> {
        match message {
            Some(Ok(Message::Text(text))) => self.take(text.as_bytes()),
            Some(Ok(Message::Binary(bytes))) => self.take(&bytes),
            Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
            Some(Ok(Message::Close(frame))) => {
                let over = frame.is_some_and(|frame| matches!(frame.code, 1000 | 1001));
                return Some(if over { End::Over } else { End::Resumable });
            }
            Some(Err(_)) | None => return Some(End::Resumable),
        }
        None
    }

    async fn obey(&mut self, order: Order) -> Result<(), ()> {
        match order {
            Order::Say(text) => self.send(&text).await,
            Order::Replay(texts) => {
                for text in texts {
                    self.send(&text).await?;
                }
                Ok(())
            }
            Order::Reconnect => {
                let grace = Duration::from_millis(self.sim.settings().sim_reconnect_grace_ms);
                self.close_at = Some(Instant::now() + grace);
                self.send(&payload::reconnect()).await
            }
            Order::Drop => Err(()),
            Order::Silence(time) => {
                self.silent_until = Some(Instant::now() + time);
                Ok(())
            }
            Order::Close(code) => {
                self.close(code).await;
                Err(())
            }
        }
    }

    /// Takes one message of the client.
    fn take(&mut self, bytes: &[u8]) {
        let now = Instant::now();
        while self
            .sends
            .front()
            .is_some_and(|sent| now.duration_since(*sent) >= SENDS_SPAN)
        {
            self.sends.pop_front();
        }
        let now_ms = self.sim.now_ms();
        let id = self.attached.id;
        let most = usize::try_from(self.sim.settings().sim_sends_per_minute).unwrap_or(usize::MAX);
        if self.sends.len() >= most {
            self.sim.world().gateway.refuse(id, 4008, now_ms);
            return;
        }
        self.sends.push_back(now);
        let received = payload::read(bytes);
        if received.as_ref().is_some_and(|received| received.op == 1) {
            self.heartbeat_by = now + patience(&self.sim);
        }
        if self.silent_until.is_some() {
            return;
        }
        match received {
            Some(received) => self.sim.world().receive(id, &received, now_ms),
            None => self.sim.world().gateway.refuse(id, 4002, now_ms),
        }
    }

    async fn send(&mut self, text: &str) -> Result<(), ()> {
        let message = match self.packing.pack(text) {
            Ok(Some(packed)) => Message::Binary(packed),
            Ok(None) => Message::Text(text.into()),
            Err(_) => return Err(()),
        };
        tokio::select! {
            () = self.attached.cut.cancelled() => Err(()),
            sent = self.socket.send(message) => sent.map_err(drop),
        }
    }

    /// Says goodbye, and waits a little for the answer.
    async fn close(&mut self, code: u16) {
        let frame = CloseFrame {
            code,
            reason: close_reason(code).into(),
        };
        if self.socket.send(Message::Close(Some(frame))).await.is_err() {
            return;
        }
        let answered = timeout(GOODBYE, async {
            while let Some(Ok(message)) = self.socket.recv().await {
                if matches!(message, Message::Close(_)) {
                    break;
                }
            }
        });
        // Without an answer the socket is dropped all the same.
        if answered.await.is_err() {
            tracing::debug!(code, "a client did not answer the close");
        }
    }
}

async fn until(moment: Option<Instant>) {
    match moment {
        Some(moment) => sleep_until(moment).await,
        None => std::future::pending().await,
    }
}
