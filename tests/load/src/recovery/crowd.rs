//! The crowd: browsers that watch a room each, and come back when the hub is gone, as the SDK does.
//! Of each, there is a task, a socket and its place in the room, and nothing else.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use futures_util::{SinkExt as _, StreamExt as _};
use proto::close::{Advice, advice};
use proto::frame::ClientFrame;
use proto::{ChannelId, GuildId};
use rand::RngExt as _;
use tokio::net::TcpStream;
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::{WebSocketStream, client_async_with_config};

use super::jitter::Backoff;
use super::script::{Follower, Told};
use super::tally::Tally;

/// A frame of an event is some 600 bytes; a snapshot of a room takes a few.
const READ_BUFFER_BYTES: usize = 4 * 1024;
/// Browsers that connect at the same time, at first.
const JOINING_MAX: usize = 64;
/// Until a connection is open, as the SDK waits (its `connectMs`).
const CONNECT_MAX: Duration = Duration::from_secs(15);
/// A connection that held for so long begins the next backoff anew (the SDK's `stableMs`).
const STABLE: Duration = Duration::from_secs(10);

/// Where browsers connect to, and with what.
#[derive(Debug)]
pub(crate) struct Crowd {
    /// The public listener.
    pub(crate) address: String,
    /// The guild.
    pub(crate) guild: GuildId,
    /// Browser `b` watches room `b % rooms`.
    pub(crate) rooms: Vec<ChannelId>,
    /// One for each browser.
    pub(crate) tokens: Vec<String>,
    /// How they come back.
    pub(crate) backoff: Backoff,
    /// What they see.
    pub(crate) tally: Arc<Tally>,
    /// Why a connection ended last, for people.
    pub(crate) last_end: Mutex<String>,
}

enum Ended {
    /// A browser comes back.
    Network(anyhow::Error),
    /// A browser would stay away.
    ForGood(anyhow::Error),
}

struct Browser {
    me: usize,
    room: usize,
    follower: Follower,
    /// Connects for the first time, one of a few.
    turn: Option<OwnedSemaphorePermit>,
    /// Was up to date since the kill.
    counted: bool,
}

impl Crowd {
    /// Lets every browser connect; what comes out of the set is why one ended for good.
    pub(crate) fn enter(self: &Arc<Self>, runtime: &Handle) -> JoinSet<anyhow::Error> {
        let (mut tasks, joining) = (JoinSet::new(), Arc::new(Semaphore::new(JOINING_MAX)));
        for me in 0..self.tokens.len() {
            let (crowd, joining) = (Arc::clone(self), Arc::clone(&joining));
            let browse = async move {
                match joining.acquire_owned().await {
                    Ok(turn) => crowd.browse(me, turn).await,
                    Err(closed) => closed.into(),
                }
            };
            tasks.spawn_on(browse, runtime);
        }
        tasks
    }

    async fn browse(&self, me: usize, turn: OwnedSemaphorePermit) -> anyhow::Error {
        let room = me % self.rooms.len();
        let mut browser = Browser {
            me,
            room,
            follower: Follower::new(room),
            turn: Some(turn),
            counted: false,
        };
        let mut attempt = 0;
        loop {
            let begun = Instant::now();
            match self.connect(&mut browser).await {
                Ended::ForGood(error) => return error.context(format!("browser {me}")),
                Ended::Network(error) if !self.tally.is_killed() => {
                    return error.context(format!("browser {me}, before anything was killed"));
                }
                Ended::Network(error) => {
                    *self.last_end.lock().unwrap_or_else(PoisonError::into_inner) =
                        format!("{error:#}");
                }
            }
            if begun.elapsed() >= STABLE {
                attempt = 0;
            }
            let luck = rand::rng().random();
            sleep(self.backoff.wait(attempt, luck)).await;
            attempt += 1;
            self.tally.attempt();
        }
    }

    /// One connection, from its beginning to its end.
    async fn connect(&self, browser: &mut Browser) -> Ended {
        let opened = timeout(CONNECT_MAX, self.open(browser)).await;
        let mut socket = match opened.context("not open in time") {
            Ok(Ok(socket)) => socket,
            Ok(Err(error)) | Err(error) => return Ended::Network(error),
        };
        let mut up_to = UpTo::Unknown;
        loop {
            match socket.next().await {
                Some(Ok(Message::Text(text))) => {
                    if let Err(error) = self.hear(browser, &mut up_to, &text) {
                        return Ended::ForGood(error);
                    }
                }
                Some(Ok(Message::Close(why))) => {
                    let code = why.as_ref().map_or(1005, |why| why.code.into());
                    let error = anyhow::anyhow!("closed: {why:?}");
                    return match advice(code) {
                        Advice::StayAway | Advice::ComeBackWithNewToken => Ended::ForGood(error),
                        _ => Ended::Network(error),
                    };
                }
                Some(Ok(_)) => {}
                Some(Err(error)) => return Ended::Network(error.into()),
                None => return Ended::Network(anyhow::anyhow!("hung up on")),
            }
        }
    }

    async fn open(&self, browser: &Browser) -> anyhow::Result<WebSocketStream<TcpStream>> {
        let stream = TcpStream::connect(&self.address).await?;
        stream.set_nodelay(true)?;
        let config = WebSocketConfig::default().read_buffer_size(READ_BUFFER_BYTES);
        let url = format!("ws://{}/api/ws", self.address);
        let (mut socket, _) = client_async_with_config(url, stream, Some(config)).await?;
        let pos = browser.follower.pos();
        let auth = ClientFrame::Auth {
            token: self.tokens.get(browser.me).cloned().unwrap_or_default(),
            guilds: None,
            rooms: self.rooms.get(browser.room).map(|room| vec![*room]),
            recover: pos.map(|pos| BTreeMap::from([(self.guild, pos.to_owned())])),
        };
        socket
            .send(Message::text(serde_json::to_string(&auth)?))
            .await?;
        Ok(socket)
    }

    fn hear(&self, browser: &mut Browser, up_to: &mut UpTo, text: &str) -> anyhow::Result<()> {
        let tally = &self.tally;
        let sent = tally.sent_in(browser.room);
        let told = browser.follower.read(text, sent)?;
        match told {
            Told::Recovered => {
                *up_to = UpTo::Behind(sent);
                if tally.is_killed() {
                    tally.recover();
                }
            }
            Told::Anew => *up_to = UpTo::Unknown,
            Told::Snapshot => {
                *up_to = UpTo::Behind(sent);
                if tally.is_killed() {
                    tally.renew();
                }
            }
            Told::Event(nth) => {
                tally.weigh(text.len());
                if matches!(up_to, UpTo::Date(since) if nth >= *since) {
                    tally.wait(browser.room, nth);
                }
            }
            Told::Fault(fault) => tally.fault(fault),
            Told::Nothing => return Ok(()),
            Told::Refused => {
                *self.last_end.lock().unwrap_or_else(PoisonError::into_inner) = text.to_owned();
            }
        }
        tally.has(browser.me, browser.follower.next());
        if matches!(up_to, UpTo::Behind(all) if browser.follower.next() >= *all) {
            *up_to = UpTo::Date(tally.sent_in(browser.room));
            if browser.turn.take().is_some() {
                tally.join();
            }
            if tally.is_killed() && !std::mem::replace(&mut browser.counted, true) {
                tally.catch_up();
            }
        }
        Ok(())
    }
}

/// How far a connection is.
#[derive(Debug, Clone, Copy)]
enum UpTo {
    /// A snapshot is still to come.
    Unknown,
    /// It lacks some of this many events, which were sent when it subscribed.
    Behind(u64),
    /// It had all of them, at a moment when this many were sent: what comes after is live.
    Date(u64),
}
