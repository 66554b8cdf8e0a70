//! A browser's connection as a program: it keeps every frame that it got.

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

use crate::DEADLINE;

/// A connection to the hub.
pub struct Browser {
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
    /// Every text that came, as it came.
    pub heard: Vec<String>,
}

/// How a connection ended.
#[derive(Debug, PartialEq, Eq)]
pub enum Ended {
    /// With this close code.
    Closed(u16),
    /// Without a Close frame.
    Cut,
}

impl Browser {
    /// Opens a connection and says nothing yet.
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
        let mut request = format!("{}/api/ws", hub_url.replacen("http", "ws", 1))
            .into_client_request()
            .unwrap();
        for (name, value) in headers {
            request.headers_mut().insert(*name, value.parse().unwrap());
        }
        match connect_async(request).await {
            Ok((socket, _)) => Ok(Self {
                socket,
                heard: Vec::new(),
            }),
            Err(Error::Http(response)) => Err(response.status().as_u16()),
            Err(error) => panic!("can not connect: {error}"),
        }
    }

    /// Sends a frame.
    pub async fn say(&mut self, frame: &Value) {
        self.send(Message::text(frame.to_string())).await;
    }

    /// Sends any message.
    pub async fn send(&mut self, message: Message) {
        self.socket.send(message).await.unwrap();
    }

    /// The next frame, before the deadline.
    pub async fn frame(&mut self) -> Value {
        self.frame_before(Instant::now() + DEADLINE)
            .await
            .unwrap_or_else(|ended| panic!("ended: {ended:?}"))
    }

    /// The next event of this name; what comes before it is passed over (and kept in `heard`).
    pub async fn event(&mut self, name: &str) -> Value {
        let until = Instant::now() + DEADLINE;
        loop {
            match self.frame_before(until).await {
                Ok(frame) if frame["event"] == name => return frame,
                Ok(_) => {}
                Err(ended) => panic!("no {name} before {ended:?}; heard {:#?}", self.heard),
            }
        }
    }

    /// Whatever comes until nothing has come for `quiet`.
    pub async fn settle(&mut self, quiet: Duration) -> Vec<Value> {
        let mut frames = Vec::new();
        while let Ok(Ok(frame)) =
            tokio::time::timeout(quiet, self.frame_before(Instant::now() + DEADLINE)).await
        {
            frames.push(frame);
        }
        frames
    }

    /// How many snapshots came so far.
    pub fn snapshots(&self) -> usize {
        let of_it = |frame: &&String| frame.contains("\"event\":\"guild.snapshot\"");
        self.heard.iter().filter(of_it).count()
    }

    /// How the connection ends; what comes before is kept in `heard`.
    pub async fn end(&mut self) -> Ended {
        let until = Instant::now() + DEADLINE;
        loop {
            if let Err(ended) = self.frame_before(until).await {
                return ended;
            }
        }
    }

    async fn frame_before(&mut self, until: Instant) -> Result<Value, Ended> {
        loop {
            let message = timeout_at(until, self.socket.next())
                .await
                .unwrap_or_else(|_| panic!("nothing came in time; heard {:#?}", self.heard));
            match message {
                Some(Ok(Message::Text(text))) => {
                    self.heard.push(text.to_string());
                    return Ok(serde_json::from_str(&text).unwrap());
                }
                Some(Ok(Message::Close(Some(frame)))) => {
                    return Err(Ended::Closed(frame.code.into()));
                }
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                Some(Ok(other)) => panic!("{other:?}"),
                Some(Err(_)) | None => return Err(Ended::Cut),
            }
        }
    }
}
