//! A subscriber: it connects, leaves and recovers by `docs/protocol.md`, and keeps every frame.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use launch::clock::now_ms;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use serde_json::Value;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, sleep_until};
use world::{Ended, Socket};

use crate::access::HubAccess;
use crate::checker::{Frame, Id, Received, Record, Reducer, Roster, What};

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
    reducer: Reducer,
    /// The subscription of the connection that is open was answered.
    subscribed: bool,
    /// How fresh the guild was said to be last, and why.
    freshness: (String, String),
    steps: usize,
    snapshots: usize,
    ends: usize,
    received: Vec<Received>,
}

impl Subscriber {
    /// Starts one; its rng comes from `seed`.
    pub fn start(access: HubAccess, temper: Temper, seed: u64) -> Self {
        let shared = Arc::new(Shared {
            temper,
            calm: AtomicBool::new(false),
            state: Mutex::default(),
        });
        let life = Life {
            shared: Arc::clone(&shared),
            access,
            rng: StdRng::seed_from_u64(seed),
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
    pub fn agrees(&self, roster: &Roster) -> bool {
        let state = self.shared.state();
        state.subscribed && state.reducer.complete && state.reducer.roster == *roster
    }

    /// How many frames it received.
    pub fn received(&self) -> usize {
        self.shared.state().received.len()
    }

    /// Whether it is subscribed and this is the gateway's last state that it received, with this
    /// reason (empty: none).
    pub fn shows_gateway(&self, state: &str, reason: &str) -> bool {
        let known = self.shared.state();
        known.subscribed && known.freshness.0 == state && known.freshness.1 == reason
    }

    /// How many steps it received, besides snapshots.
    pub fn steps(&self) -> usize {
        self.shared.state().steps
    }

    /// How many snapshots it received.
    pub fn snapshots(&self) -> usize {
        self.shared.state().snapshots
    }

    /// How many rooms it believes in.
    pub fn rooms(&self) -> usize {
        self.shared.state().reducer.roster.rooms.len()
    }

    /// How many of its connections ended.
    pub fn ends(&self) -> usize {
        self.shared.state().ends
    }

    /// Writes a quiet point into its record.
    pub fn mark_quiet(&self, seq: u64) {
        self.shared.state().received.push(Received {
            at_ms: now_ms(),
            what: What::Quiet { seq },
        });
    }

    /// Everything it received so far.
    pub fn record(&self) -> Record {
        Record {
            name: self.shared.temper.name.clone(),
            only: self.shared.temper.only.clone(),
            received: self.shared.state().received.clone(),
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
        state.received.push(Received {
            at_ms: now_ms(),
            what,
        });
    }

    /// Adds a frame to the record and applies it.
    fn receive(&self, text: &str) {
        let frame = Frame::read(text);
        let mut state = self.state();
        state.received.push(Received {
            at_ms: now_ms(),
            what: What::Frame(text.to_owned()),
        });
        state.subscribed |= matches!(frame, Frame::Subscribed { .. });
        state.steps += usize::from(matches!(frame, Frame::Event { .. }));
        state.snapshots += usize::from(matches!(frame, Frame::Snapshot { part: 1, .. }));
        if let Some(freshness) = freshness(text) {
            state.freshness = freshness;
        }
        // The checker judges the violations.
        let _judged_later = state.reducer.apply(&frame);
    }
}

/// The gateway's state and reason in a frame, if it has them.
fn freshness(text: &str) -> Option<(String, String)> {
    if !text.contains("\"event\":\"gateway.state\"") && !text.contains("\"gateway\":{") {
        return None;
    }
    let frame: Value = serde_json::from_str(text).ok()?;
    let payload = &frame["payload"];
    let gateway = if frame["event"] == "gateway.state" {
        payload
    } else {
        &payload["gateway"]
    };
    let reason = gateway["reason"].as_str().unwrap_or_default();
    Some((gateway["state"].as_str()?.to_owned(), reason.to_owned()))
}

struct Life {
    shared: Arc<Shared>,
    access: HubAccess,
    rng: StdRng,
}

impl Life {
    async fn live(mut self) {
        loop {
            if let Some(socket) = self.access.open().await {
                let code = self.stay(socket).await;
                self.shared.note(What::Ended(code));
            }
            let away = if self.shared.temper.restless && !self.shared.is_calm() {
                AWAY_MS
            } else {
                BACK_MS
            };
            sleep(Duration::from_millis(self.rng.random_range(away))).await;
        }
    }

    /// One connection, until its end; the close code if there was one.
    async fn stay(&mut self, mut socket: Socket) -> Option<u16> {
        socket.send(self.auth()).await.ok()?;
        let leaves_at = Instant::now() + Duration::from_millis(self.rng.random_range(STAY_MS));
        loop {
            let restless = self.shared.temper.restless && !self.shared.is_calm();
            let received = tokio::select! {
                received = socket.receive() => received,
                // It leaves without a Close frame, at any moment.
                () = sleep_until(leaves_at), if restless => return None,
            };
            match received {
                Ok(text) => self.shared.receive(&text),
                Err(Ended::Closed(code)) => return Some(code),
                Err(Ended::Cut | Ended::Broken(_)) => return None,
            }
        }
    }

    /// The `auth` frame, with the last position received.
    fn auth(&self) -> String {
        let shared = &self.shared;
        let mut state = shared.state();
        if shared.temper.forgetful {
            state.reducer = Reducer::default();
        }
        state.reducer.opened();
        let pos = state.reducer.pos.clone();
        let owed = pos.is_none() || state.reducer.waiting;
        drop(state);
        let recovering = pos.is_some();
        shared.note(What::Opened { recovering, owed });
        self.access
            .auth(shared.temper.only.as_ref(), pos.as_deref())
    }
}
