//! The browsers: WebSocket clients that join as a page does and then note what they are told.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use futures_util::{SinkExt as _, StreamExt as _};
use proto::frame::ClientFrame;
use tokio::net::TcpStream;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::{WebSocketStream, client_async_with_config};

use crate::board::Board;
use crate::script::{Follower, Frame, Told};

/// A frame of an event is some 600 bytes; a snapshot takes a few reads.
const READ_BUFFER_BYTES: usize = 4 * 1024;
/// Browsers that connect at the same time.
const JOINING_MAX: usize = 32;
/// From the handshake to the snapshot.
const JOIN_MAX: Duration = Duration::from_secs(20);
/// Until as many browsers as were asked for have joined.
const ALL_JOIN_MAX: Duration = Duration::from_secs(120);
/// How often it is looked whether all have seen what they should; the times come from the board.
const LOOK_AGAIN: Duration = Duration::from_millis(2);
/// An event that has not come after this long without any other coming either is lost.
const STILL_MAX: Duration = Duration::from_secs(10);

/// Browsers that are connected; dropping them disconnects.
pub(crate) struct Browsers {
    board: Arc<Board>,
    runtime: Handle,
    tasks: JoinSet<anyhow::Error>,
    joining: Arc<Semaphore>,
    count: usize,
}

impl Browsers {
    /// None yet; those that come run on `runtime`, whose one thread does nothing else.
    pub(crate) fn none(board: Arc<Board>, runtime: Handle) -> Self {
        Self {
            board,
            runtime,
            tasks: JoinSet::new(),
            joining: Arc::new(Semaphore::new(JOINING_MAX)),
            count: 0,
        }
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.count
    }

    /// Lets more browsers join, one for each of `tokens` beyond those that are there, and waits
    /// until they have their snapshots. Nothing may happen meanwhile; event `next` comes next.
    ///
    /// # Errors
    /// One can not join, or not in time.
    pub(crate) async fn join(
        &mut self,
        address: &str,
        tokens: &[String],
        next: usize,
    ) -> anyhow::Result<()> {
        for token in tokens.iter().skip(self.count) {
            let (board, joining) = (Arc::clone(&self.board), Arc::clone(&self.joining));
            let (address, token, me) = (address.to_owned(), token.clone(), self.count);
            self.count += 1;
            let browser = async move {
                let joined = async {
                    let _turn = joining.acquire().await?;
                    timeout(JOIN_MAX, join(&address, token))
                        .await
                        .context("no snapshot in time")?
                };
                match joined.await {
                    Ok(socket) => {
                        board.get_ready();
                        watch(socket, &board, me, next).await
                    }
                    Err(error) => error.context(format!("browser {me} can not join")),
                }
            };
            self.tasks.spawn_on(browser, &self.runtime);
        }
        let deadline = Instant::now() + ALL_JOIN_MAX;
        while self.board.ready() < self.count {
            self.check()?;
            anyhow::ensure!(
                Instant::now() < deadline,
                "{} of {} browsers joined in time",
                self.board.ready(),
                self.count
            );
            sleep(LOOK_AGAIN).await;
        }
        Ok(())
    }

    /// Waits until `expected` pairs of event and browser are on the board.
    ///
    /// # Errors
    /// Some are lost, or a browser was disconnected.
    pub(crate) async fn see(&mut self, expected: u64) -> anyhow::Result<()> {
        let (mut seen, mut since) = (self.board.seen(), Instant::now());
        while seen < expected {
            self.check()?;
            anyhow::ensure!(
                since.elapsed() < STILL_MAX,
                "lost {} of {expected} (event, browser) pairs",
                expected - seen
            );
            sleep(LOOK_AGAIN).await;
            let now = self.board.seen();
            if now > seen {
                (seen, since) = (now, Instant::now());
            }
        }
        Ok(())
    }

    fn check(&mut self) -> anyhow::Result<()> {
        match self.tasks.try_join_next() {
            None => Ok(()),
            Some(ended) => Err(ended.unwrap_or_else(Into::into)),
        }
    }
}

/// Authenticates by the first frame and reads up to the end of the snapshot.
async fn join(address: &str, token: String) -> anyhow::Result<WebSocketStream<TcpStream>> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let config = WebSocketConfig::default().read_buffer_size(READ_BUFFER_BYTES);
    let (mut socket, _) =
        client_async_with_config(format!("ws://{address}/api/ws"), stream, Some(config)).await?;
    let auth = ClientFrame::Auth {
        token,
        guilds: None,
        rooms: None,
        recover: None,
    };
    socket
        .send(Message::text(serde_json::to_string(&auth)?))
        .await?;
    loop {
        let text = match socket.next().await.context("the hub hung up")?? {
            Message::Text(text) => text,
            Message::Close(why) => bail!("the hub closed: {why:?}"),
            _ => continue,
        };
        let frame: Frame<'_> = serde_json::from_str(&text)?;
        anyhow::ensure!(frame.r#type != "error", "refused: {}", text.as_str());
        if frame.event == Some("guild.snapshot")
            && frame
                .payload
                .is_some_and(|payload| payload.part == payload.of)
        {
            return Ok(socket);
        }
    }
}

/// Notes every event of the script until the connection ends, and says why it did.
async fn watch(
    mut socket: WebSocketStream<TcpStream>,
    board: &Board,
    me: usize,
    next: usize,
) -> anyhow::Error {
    let mut follower = Follower::from(next);
    loop {
        let text = match socket.next().await {
            Some(Ok(Message::Text(text))) => text,
            Some(Ok(Message::Close(why))) => {
                return anyhow::anyhow!("browser {me} was closed: {why:?}");
            }
            Some(Ok(_)) => continue,
            Some(Err(error)) => return anyhow::Error::from(error).context(format!("browser {me}")),
            None => return anyhow::anyhow!("browser {me} was hung up on"),
        };
        let frame: Frame<'_> = match serde_json::from_str(&text) {
            Ok(frame) => frame,
            Err(error) => {
                return anyhow::Error::from(error).context(format!("a frame to browser {me}"));
            }
        };
        match follower.read(&frame) {
            Told::Event(event) => board.see(event, me),
            Told::Again => board.double(),
            Told::Nothing if frame.event == Some("guild.snapshot") => {
                return anyhow::anyhow!(
                    "browser {me} fell behind and got a snapshot instead of events"
                );
            }
            Told::Nothing => {}
        }
        if !follower.is_next(&frame) {
            board.gap();
        }
        board.weigh(text.len());
    }
}
