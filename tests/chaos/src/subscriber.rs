//! A subscriber: it comes, goes and recovers as `docs/protocol.md` tells a client to, and keeps
//! every frame.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use launch::clock::now_ms;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

use crate::checker::{Frame, Heard, Id, Record, Reduction, Scene, What};

/// How long a connection may take to open.
const OPEN_MAX: Duration = Duration::from_secs(5);
/// The wait before coming back, in ms: short, since a run is.
const BACK_MS: std::ops::Range<u64> = 20..250;
/// How long a restless one stays, in ms.
const STAY_MS: std::ops::Range<u64> = 200..2_500;
/// How long it stays away, in ms.
const AWAY_MS: std::ops::Range<u64> = 30..1_200;

/// What a subscriber is like.
#[derive(Debug, Clone, Default)]
pub struct Temper {
    /// For findings.
    pub name: String,
    /// The rooms that it asks for; none: all.
    pub only: Option<BTreeSet<Id>>,
    /// It goes and comes back.
    pub restless: bool,
    /// It forgets everything when it goes.
    pub forgetful: bool,
}

/// Where and as whom to subscribe.
#[derive(Debug, Clone)]
pub struct Door {
    /// The hub's public address.
    pub hub_url: String,
    /// A token that outlives the run.
    pub token: String,
    /// The guild.
    pub guild: Id,
}

/// A running subscriber. Dropping it ends it.
pub struct Subscriber {
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

struct Shared {
    temper: Temper,
    /// It stays where it is, and comes back at once.
    calm: AtomicBool,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    reduction: Reduction,
    /// The subscription of the connection that is open was answered.
    subscribed: bool,
    /// How fresh the guild was said to be last, and why.
    freshness: (String, String),
    steps: usize,
    snapshots: usize,
    ends: usize,
    heard: Vec<Heard>,
}

impl Subscriber {
    /// Starts one; its luck comes from `seed`.
    pub fn start(door: Door, temper: Temper, seed: u64) -> Self {
        let shared = Arc::new(Shared {
            temper,
            calm: AtomicBool::new(false),
            state: Mutex::default(),
        });
        let life = Life {
            shared: Arc::clone(&shared),
            door,
            luck: StdRng::seed_from_u64(seed),
        };
        Self {
            shared,
            task: tokio::spawn(life.live()),
        }
    }

    /// Which rooms it asked for.
    pub fn only(&self) -> Option<&BTreeSet<Id>> {
        self.shared.temper.only.as_ref()
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.shared.temper.name
    }

    /// Makes it stay, or lets it go again.
    pub fn calm(&self, calm: bool) {
        self.shared.calm.store(calm, Ordering::Relaxed);
    }

    /// Whether it is subscribed and believes exactly this.
    pub fn agrees(&self, scene: &Scene) -> bool {
        let state = self.shared.state();
        state.subscribed && state.reduction.told && state.reduction.scene == *scene
    }

    /// How many frames it heard.
    pub fn heard(&self) -> usize {
        self.shared.state().heard.len()
    }

    /// Whether it is subscribed and was told this of the gateway last: the state, and the reason
    /// (empty: none).
    pub fn is_told(&self, state: &str, reason: &str) -> bool {
        let known = self.shared.state();
        known.subscribed && known.freshness.0 == state && known.freshness.1 == reason
    }

    /// How many steps it was told, besides snapshots.
    pub fn steps(&self) -> usize {
        self.shared.state().steps
    }

    /// How many snapshots it was told.
    pub fn snapshots(&self) -> usize {
        self.shared.state().snapshots
    }

    /// How many rooms it believes in.
    pub fn rooms(&self) -> usize {
        self.shared.state().reduction.scene.rooms.len()
    }

    /// How many of its connections ended.
    pub fn ends(&self) -> usize {
        self.shared.state().ends
    }

    /// Writes a quiet point into its record.
    pub fn mark_quiet(&self, seq: u64) {
        self.shared.state().heard.push(Heard {
            at_ms: now_ms(),
            what: What::Quiet { seq },
        });
    }

    /// Everything it received so far.
    pub fn record(&self) -> Record {
        Record {
            name: self.shared.temper.name.clone(),
            only: self.shared.temper.only.clone(),
            heard: self.shared.state().heard.clone(),
        }
    }
}

impl Drop for Subscriber {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_calm(&self) -> bool {
        self.calm.load(Ordering::Relaxed)
    }

    fn note(&self, what: What) {
        let mut state = self.state();
        state.subscribed = false;
        state.ends += usize::from(matches!(what, What::Ended(_)));
        state.heard.push(Heard {
            at_ms: now_ms(),
            what,
        });
    }

    /// Takes a frame in: into the record, and into what it believes.
    fn hear(&self, text: &str) {
        let frame = Frame::read(text);
        let mut state = self.state();
        state.heard.push(Heard {
            at_ms: now_ms(),
            what: What::Frame(text.to_owned()),
        });
        state.subscribed |= matches!(frame, Frame::Subscribed { .. });
        state.steps += usize::from(matches!(frame, Frame::Event { .. }));
        state.snapshots += usize::from(matches!(frame, Frame::Snapshot { part: 1, .. }));
        if let Some(freshness) = freshness(text) {
            state.freshness = freshness;
        }
        // What is odd about it is the checker's to say.
        let _judged_later = state.reduction.hear(&frame);
    }
}

/// What a frame says of the gateway, if it does.
fn freshness(text: &str) -> Option<(String, String)> {
    if !text.contains("\"event\":\"gateway.state\"") && !text.contains("\"gateway\":{") {
        return None;
    }
    let frame: Value = serde_json::from_str(text).ok()?;
    let payload = &frame["payload"];
    let told = if frame["event"] == "gateway.state" {
        payload
    } else {
        &payload["gateway"]
    };
    let reason = told["reason"].as_str().unwrap_or_default();
    Some((told["state"].as_str()?.to_owned(), reason.to_owned()))
}

struct Life {
    shared: Arc<Shared>,
    door: Door,
    luck: StdRng,
}

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

impl Life {
    async fn live(mut self) {
        loop {
            let url = format!("{}/api/ws", self.door.hub_url.replacen("http", "ws", 1));
            if let Ok(Ok((socket, _))) = timeout(OPEN_MAX, connect_async(url)).await {
                let code = self.stay(socket).await;
                self.shared.note(What::Ended(code));
            }
            let away = if self.shared.temper.restless && !self.shared.is_calm() {
                AWAY_MS
            } else {
                BACK_MS
            };
            sleep(Duration::from_millis(self.luck.random_range(away))).await;
        }
    }

    /// One connection, until its end; the close code if there was one.
    async fn stay(&mut self, mut socket: Socket) -> Option<u16> {
        let frame = self.introduction();
        socket.send(Message::text(frame)).await.ok()?;
        let leaves_at = Instant::now() + Duration::from_millis(self.luck.random_range(STAY_MS));
        loop {
            let restless = self.shared.temper.restless && !self.shared.is_calm();
            let message = tokio::select! {
                message = socket.next() => message,
                // Gone without a word, in the middle of whatever is under way.
                () = sleep_until(leaves_at), if restless => return None,
            };
            match message {
                Some(Ok(Message::Text(text))) => self.shared.hear(&text),
                Some(Ok(Message::Close(close))) => return close.map(|close| close.code.into()),
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return None,
            }
        }
    }

    /// The `auth` frame, with the last position received.
    fn introduction(&self) -> String {
        let (shared, door) = (&self.shared, &self.door);
        let mut state = shared.state();
        if shared.temper.forgetful {
            state.reduction = Reduction::default();
        }
        state.reduction.opened();
        let pos = state.reduction.pos.clone();
        let owed = pos.is_none() || state.reduction.waiting;
        drop(state);
        shared.note(What::Opened {
            recovering: pos.is_some(),
            owed,
        });
        let mut frame = json!({"type": "auth", "token": door.token, "guilds": [door.guild]});
        if let Some(only) = &shared.temper.only {
            frame["rooms"] = json!(only);
        }
        if let Some(pos) = pos {
            frame["recover"] = json!({&door.guild: pos});
        }
        frame.to_string()
    }
}
