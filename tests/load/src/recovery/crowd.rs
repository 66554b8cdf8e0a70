//! The crowd: browsers that watch a room each, and come back when the hub is gone, as the SDK does.
//! Of each, there is a task, a socket and its place in the room, and nothing else.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use proto::close::{Advice, advice};
use proto::frame::ClientFrame;
use proto::{ChannelId, GuildId};
use rand::RngExt as _;
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};
use world::{Ended as Closed, Socket};

use super::jitter::Backoff;
use super::script::{Follower, Meaning};
use super::tally::Tally;

/// Browsers that connect at the same time, at first.
const JOINING_MAX: usize = 64;
/// Until a connection is open, as the SDK waits (its `connectMs`).
const CONNECT_MAX: Duration = Duration::from_secs(15);
/// A connection that held for so long restarts the backoff (the SDK's `stableMs`).
const STABLE: Duration = Duration::from_secs(10);

/// Where browsers connect to, and with what.
#[derive(Debug)]
pub(crate) struct Crowd {
    /// The hub's public URL.
    pub(crate) hub_url: String,
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
    /// Lets every browser connect. The set yields the reason of a browser that ended permanently.
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
            let random = rand::rng().random();
            sleep(self.backoff.wait(attempt, random)).await;
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
            let ended = match socket.receive().await {
                Ok(text) => match self.receive(browser, &mut up_to, &text) {
                    Ok(()) => continue,
                    Err(error) => return Ended::ForGood(error),
                },
                Err(ended) => ended,
            };
            let stays_away = match &ended {
                Closed::Closed(code) => matches!(
                    advice(*code),
                    Advice::StayAway | Advice::ComeBackWithNewToken
                ),
                Closed::Broken(_) => true,
                Closed::Cut => false,
            };
            return if stays_away {
                Ended::ForGood(ended.into())
            } else {
                Ended::Network(ended.into())
            };
        }
    }

    async fn open(&self, browser: &Browser) -> anyhow::Result<Socket> {
        let mut socket = Socket::connect(&self.hub_url).await?;
        let pos = browser.follower.pos();
        let auth = ClientFrame::Auth {
            token: self.tokens.get(browser.me).cloned().unwrap_or_default(),
            guilds: None,
            rooms: self.rooms.get(browser.room).map(|room| vec![*room]),
            recover: pos.map(|pos| BTreeMap::from([(self.guild, pos.to_owned())])),
        };
        socket.send(serde_json::to_string(&auth)?).await?;
        Ok(socket)
    }

    fn receive(&self, browser: &mut Browser, up_to: &mut UpTo, text: &str) -> anyhow::Result<()> {
        let tally = &self.tally;
        let sent = tally.sent_in(browser.room);
        match browser.follower.read(text, sent)? {
            Meaning::Recovered => {
                *up_to = UpTo::Behind(sent);
                if tally.is_killed() {
                    tally.recover();
                }
            }
            Meaning::NotRecovered => *up_to = UpTo::Unknown,
            Meaning::Snapshot => {
                *up_to = UpTo::Behind(sent);
                if tally.is_killed() {
                    tally.renew();
                }
            }
            Meaning::Event(nth) => {
                tally.weigh(text.len());
                if matches!(up_to, UpTo::Date(since) if nth >= *since) {
                    tally.wait(browser.room, nth);
                }
            }
            Meaning::Fault(fault) => tally.fault(fault),
            Meaning::Nothing => return Ok(()),
            Meaning::Refused => {
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
    /// It had all of them at a moment when this many were sent: later ones are live.
    Date(u64),
}
