//! The browsers: WebSocket clients that join as a page does and then count what they receive.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use proto::frame::ClientFrame;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};
use world::Socket;

use crate::board::Board;
use crate::script::{Follower, Frame, Meaning};

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
    /// One cannot join, or not in time.
    pub(crate) async fn join(
        &mut self,
        hub_url: &str,
        tokens: &[String],
        next: usize,
    ) -> anyhow::Result<()> {
        for token in tokens.iter().skip(self.count) {
            let (board, joining) = (Arc::clone(&self.board), Arc::clone(&self.joining));
            let (hub_url, token, me) = (hub_url.to_owned(), token.clone(), self.count);
            self.count += 1;
            let browser = async move {
                let joined = async {
                    let _turn = joining.acquire().await?;
                    timeout(JOIN_MAX, join(&hub_url, token))
                        .await
                        .context("no snapshot in time")?
                };
                match joined.await {
                    Ok(socket) => {
                        board.get_ready();
                        watch(socket, &board, me, next).await
                    }
                    Err(error) => error.context(format!("browser {me} cannot join")),
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
async fn join(hub_url: &str, token: String) -> anyhow::Result<Socket> {
    let mut socket = Socket::connect(hub_url).await?;
    let auth = ClientFrame::Auth {
        token,
        guilds: None,
        rooms: None,
        recover: None,
    };
    socket.send(serde_json::to_string(&auth)?).await?;
    loop {
        let text = socket.receive().await?;
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

/// Counts every event of the script until the connection ends, and returns the reason.
async fn watch(mut socket: Socket, board: &Board, me: usize, next: usize) -> anyhow::Error {
    let mut follower = Follower::from(next);
    loop {
        let text = match socket.receive().await {
            Ok(text) => text,
            Err(ended) => return anyhow::Error::from(ended).context(format!("browser {me}")),
        };
        let frame: Frame<'_> = match serde_json::from_str(&text) {
            Ok(frame) => frame,
            Err(error) => {
                return anyhow::Error::from(error).context(format!("a frame to browser {me}"));
            }
        };
        match follower.read(&frame) {
            Meaning::Event(event) => board.see(event, me),
            Meaning::Again => board.double(),
            Meaning::Nothing if frame.event == Some("guild.snapshot") => {
                return anyhow::anyhow!(
                    "browser {me} fell behind and got a snapshot instead of events"
                );
            }
            Meaning::Nothing => {}
        }
        if !follower.is_next(&frame) {
            board.gap();
        }
        board.weigh(text.len());
    }
}
