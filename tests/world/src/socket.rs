//! The WebSocket client of all tests. It adds nothing to the frames: a text that arrives is passed
//! on without a copy, so that the load generator can use it too.

use futures_util::{SinkExt as _, StreamExt as _};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Error, Message, Utf8Bytes};
use tokio_tungstenite::{WebSocketStream, client_async_with_config};

/// A frame of an event is some 600 bytes. Small buffers, since tests open many sockets.
const READ_BUFFER_BYTES: usize = 4 * 1024;
/// The close code of a Close frame without one (RFC 6455, section 7.1.5).
const NO_CODE: u16 = 1005;

/// A connection to the hub's `/api/ws`.
#[derive(Debug)]
pub struct Socket(WebSocketStream<TcpStream>);

/// Why no connection was opened.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The hub refused with this HTTP status.
    #[error("refused with status {0}")]
    Status(u16),
    /// The connection failed.
    #[error("cannot connect: {0}")]
    Network(Error),
}

/// How a connection ended.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Ended {
    /// With this close code; 1005 if the Close frame has none.
    #[error("closed with {0}")]
    Closed(u16),
    /// Without a Close frame.
    #[error("cut off")]
    Cut,
    /// With bytes that are no WebSocket.
    #[error("the peer broke the protocol: {0}")]
    Broken(String),
}

impl Socket {
    /// Opens a connection to the hub at this URL.
    ///
    /// # Errors
    /// The hub refuses it or is not there.
    pub async fn connect(hub_url: &str) -> Result<Self, ConnectError> {
        Self::connect_with(hub_url, &[]).await
    }

    /// Opens a connection with these headers.
    ///
    /// # Errors
    /// The hub refuses it or is not there.
    pub async fn connect_with(
        hub_url: &str,
        headers: &[(&'static str, &str)],
    ) -> Result<Self, ConnectError> {
        let address = hub_url.trim_start_matches("http://");
        let network = |error| ConnectError::Network(Error::Io(error));
        let stream = TcpStream::connect(address).await.map_err(network)?;
        stream.set_nodelay(true).map_err(network)?;
        Self::over(stream, address, headers).await
    }

    /// Upgrades a stream that is open already.
    ///
    /// # Errors
    /// The hub refuses the upgrade.
    pub async fn over(
        stream: TcpStream,
        address: &str,
        headers: &[(&'static str, &str)],
    ) -> Result<Self, ConnectError> {
        let mut request = format!("ws://{address}/api/ws")
            .into_client_request()
            .map_err(ConnectError::Network)?;
        for (name, value) in headers {
            request.headers_mut().insert(*name, value.parse().unwrap());
        }
        let config = WebSocketConfig::default().read_buffer_size(READ_BUFFER_BYTES);
        match client_async_with_config(request, stream, Some(config)).await {
            Ok((socket, _)) => Ok(Self(socket)),
            Err(Error::Http(response)) => Err(ConnectError::Status(response.status().as_u16())),
            Err(error) => Err(ConnectError::Network(error)),
        }
    }

    /// Sends a text.
    ///
    /// # Errors
    /// The connection ended.
    pub async fn send(&mut self, text: impl Into<Utf8Bytes>) -> Result<(), Ended> {
        self.send_message(Message::text(text)).await
    }

    /// Sends any message.
    ///
    /// # Errors
    /// The connection ended.
    pub async fn send_message(&mut self, message: Message) -> Result<(), Ended> {
        self.0.send(message).await.map_err(|_| Ended::Cut)
    }

    /// Sends a Close frame without a code. [`Socket::receive`] returns the answer.
    pub async fn close(&mut self) {
        let _sent = self.send_message(Message::Close(None)).await;
    }

    /// Waits for the next text. Cancel safe.
    ///
    /// # Errors
    /// The connection ended.
    pub async fn receive(&mut self) -> Result<Utf8Bytes, Ended> {
        loop {
            match self.0.next().await {
                Some(Ok(Message::Text(text))) => return Ok(text),
                Some(Ok(Message::Close(close))) => {
                    let code = close.map_or(NO_CODE, |close| close.code.into());
                    return Err(Ended::Closed(code));
                }
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                Some(Ok(other)) => return Err(Ended::Broken(format!("{other:?}"))),
                Some(Err(error @ (Error::Capacity(_) | Error::Utf8(_)))) => {
                    return Err(Ended::Broken(error.to_string()));
                }
                Some(Err(_)) | None => return Err(Ended::Cut),
            }
        }
    }

    /// The stream below, for bytes that are no whole messages.
    pub fn stream(&mut self) -> &mut TcpStream {
        self.0.get_mut()
    }
}
