//! A socket that keeps every frame, for tests that ask for one frame after the other.

use std::time::Duration;

use serde_json::Value;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_tungstenite::tungstenite::Message;

use crate::{ConnectError, DEADLINE, Ended, Socket};

/// A browser's connection to the hub.
#[derive(Debug)]
pub struct Browser {
    /// The connection.
    pub socket: Socket,
    /// Every text so far.
    pub received: Vec<String>,
}

impl From<Socket> for Browser {
    fn from(socket: Socket) -> Self {
        Self {
            socket,
            received: Vec::new(),
        }
    }
}

impl Browser {
    /// Opens a connection and sends nothing yet.
    pub async fn open(hub_url: &str) -> Self {
        Self::open_with(hub_url, &[])
            .await
            .unwrap_or_else(|status| panic!("refused with {status}"))
    }

    /// Opens a connection with these headers.
    ///
    /// # Errors
    /// The HTTP status of a refusal.
    pub async fn open_with(hub_url: &str, headers: &[(&'static str, &str)]) -> Result<Self, u16> {
        match Socket::connect_with(hub_url, headers).await {
            Ok(socket) => Ok(socket.into()),
            Err(ConnectError::Status(status)) => Err(status),
            Err(error) => panic!("{error}"),
        }
    }

    /// Sends a frame.
    pub async fn send(&mut self, frame: &Value) {
        self.socket.send(frame.to_string()).await.unwrap();
    }

    /// Sends any message.
    pub async fn send_message(&mut self, message: Message) {
        self.socket.send_message(message).await.unwrap();
    }

    /// The next frame, before the deadline.
    pub async fn frame(&mut self) -> Value {
        self.frame_before(Instant::now() + DEADLINE)
            .await
            .unwrap_or_else(|ended| panic!("{ended}"))
    }

    /// The next event of this name. Frames before it stay in `received`.
    pub async fn event(&mut self, name: &str) -> Value {
        let until = Instant::now() + DEADLINE;
        loop {
            match self.frame_before(until).await {
                Ok(frame) if frame["event"] == name => return frame,
                Ok(_) => {}
                Err(ended) => panic!("{ended} before {name}; received {:#?}", self.received),
            }
        }
    }

    /// The frames until nothing has come for `quiet`.
    pub async fn settle(&mut self, quiet: Duration) -> Vec<Value> {
        let mut frames = Vec::new();
        let far = Instant::now() + DEADLINE;
        while let Ok(Ok(frame)) = timeout(quiet, self.frame_before(far)).await {
            frames.push(frame);
        }
        frames
    }

    /// The number of snapshots so far.
    pub fn snapshots(&self) -> usize {
        let is_snapshot = |frame: &&String| frame.contains("\"event\":\"guild.snapshot\"");
        self.received.iter().filter(is_snapshot).count()
    }

    /// Waits for the end of the connection. Frames before it stay in `received`.
    pub async fn end(&mut self) -> Ended {
        let until = Instant::now() + DEADLINE;
        loop {
            if let Err(ended) = self.frame_before(until).await {
                return ended;
            }
        }
    }

    async fn frame_before(&mut self, until: Instant) -> Result<Value, Ended> {
        let text = timeout_at(until, self.socket.receive())
            .await
            .unwrap_or_else(|_| panic!("nothing in time; received {:#?}", self.received))?;
        self.received.push(text.to_string());
        Ok(serde_json::from_str(&text).unwrap())
    }
}
