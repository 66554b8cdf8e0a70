//! A subscriber: it connects, leaves and recovers by `docs/protocol.md`, and keeps every frame. It
//! reads next to nothing of them, so that hundreds cost little: what it believes is worked out when
//! somebody asks, and the checker reads its record afterwards.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use launch::clock::now_ms;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use serde_json::Value;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, sleep_until, timeout_at};
use world::{Ended, Socket};

use crate::access::{HubAccess, OPEN_MAX};
use crate::checker::{Frame, Id, Received, Record, Reducer, Roster, What};

/// The wait before coming back, in ms: short, since a run is.
const BACK_MS: std::ops::Range<u64> = 20..250;
/// How long a restless one stays, in ms.
const STAY_MS: std::ops::Range<u64> = 200..2_500;
/// How long it stays away, in ms.
const AWAY_MS: std::ops::Range<u64> = 30..1_200;
/// The SDK's ceiling of the first wait before coming back, in ms; it doubles with each attempt.
const SDK_BACK_MIN_MS: u64 = 500;
/// The SDK's highest ceiling, in ms.
const SDK_BACK_MAX_MS: u64 = 15_000;
/// What a mark's number stands behind.
const MARK: &str = "\"name\":\"mark ";

/// How a subscriber comes and goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Pace {
    /// It stays, and comes back soon.
    #[default]
    Steady,
    /// It leaves at any moment while it is not calm.
    Restless,
    /// It stays, and comes back as the SDK does.
    Sdk,
}

/// What a subscriber is like.
#[derive(Debug, Clone, Default)]
pub struct Temper {
    /// For findings.
    pub name: String,
    /// The rooms that it asks for; none: all.
    pub only: Option<BTreeSet<Id>>,
    /// How it comes and goes.
    pub pace: Pace,
    /// It forgets everything when it goes.
    pub forgetful: bool,
}

/// A running subscriber. Dropping it ends it.
pub struct Subscriber {
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

struct Shared {
    access: HubAccess,
    temper: Temper,
    /// It stays where it is, and comes back at once.
    calm: AtomicBool,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    received: Vec<Received>,
    pos: Option<String>,
    /// The last position came before a snapshot was complete.
    waiting: bool,
    mark: u64,
    quiet_at: Option<usize>,
    belief: Belief,
}

/// What a subscriber believes after the first `applied` entries of its record.
#[derive(Default)]
struct Belief {
    applied: usize,
    reducer: Reducer,
    /// The subscription of the connection that is open was answered.
    subscribed: bool,
    /// How fresh the guild was said to be last, and why.
    freshness: (String, String),
    steps: usize,
    snapshots: usize,
    ends: usize,
}

/// How one subscription was answered, or a snapshot in the middle of one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// Continued.
    Recovered,
    /// Not continued: a snapshot follows.
    Afresh,
    /// A snapshot, with its reason.
    Snapshot(String),
}

impl Subscriber {
    /// Starts one; its rng comes from `seed`.
    pub fn start(access: HubAccess, temper: Temper, seed: u64) -> Self {
        let shared = Arc::new(Shared {
            access,
            temper,
            calm: AtomicBool::new(false),
            state: Mutex::default(),
        });
        let life = Life {
            shared: Arc::clone(&shared),
            rng: StdRng::seed_from_u64(seed),
            attempts: 0,
            asked_ms: None,
        };
        Self {
            shared,
            task: tokio::spawn(life.live()),
        }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.shared.temper.name
    }

    /// Its guild.
    pub fn guild(&self) -> &str {
        &self.shared.access.guild
    }

    /// Which rooms it asked for.
    pub fn only(&self) -> Option<&BTreeSet<Id>> {
        self.shared.temper.only.as_ref()
    }

    /// How it connects.
    pub fn access(&self) -> &HubAccess {
        &self.shared.access
    }

    /// Makes it stay, or lets it go again.
    pub fn calm(&self, calm: bool) {
        self.shared.calm.store(calm, Ordering::Relaxed);
    }

    /// Whether it is subscribed and believes exactly this.
    pub fn agrees(&self, roster: &Roster) -> bool {
        self.believes(|belief| {
            belief.subscribed && belief.reducer.complete && belief.reducer.roster == *roster
        })
    }

    /// The rooms and people that it believes in.
    pub fn roster(&self) -> Roster {
        self.believes(|belief| belief.reducer.roster.clone())
    }

    /// The gateway's last state that it received, and the reason (empty: none).
    pub fn freshness(&self) -> (String, String) {
        self.believes(|belief| belief.freshness.clone())
    }

    /// Whether it is subscribed and this is the gateway's last state that it received, with this
    /// reason (empty: none).
    pub fn shows_gateway(&self, state: &str, reason: &str) -> bool {
        self.believes(|belief| {
            let (known, why) = &belief.freshness;
            belief.subscribed && known == state && why == reason
        })
    }

    /// How many steps it received, besides snapshots.
    pub fn steps(&self) -> usize {
        self.believes(|belief| belief.steps)
    }

    /// How many snapshots it received.
    pub fn snapshots(&self) -> usize {
        self.believes(|belief| belief.snapshots)
    }

    /// How many rooms it believes in.
    pub fn rooms(&self) -> usize {
        self.believes(|belief| belief.reducer.roster.rooms.len())
    }

    /// How many of its connections ended.
    pub fn ends(&self) -> usize {
        self.believes(|belief| belief.ends)
    }

    fn believes<T>(&self, read: impl FnOnce(&Belief) -> T) -> T {
        let mut state = self.shared.state();
        let State {
            received, belief, ..
        } = &mut *state;
        for received in &received[belief.applied..] {
            belief.apply(&received.what);
        }
        belief.applied = received.len();
        read(belief)
    }

    /// The newest mark that it received.
    pub fn mark(&self) -> u64 {
        self.shared.state().mark
    }

    /// The last position received.
    pub fn pos(&self) -> Option<String> {
        self.shared.state().pos.clone()
    }

    /// The number of entries in its record.
    pub fn received(&self) -> usize {
        self.shared.state().received.len()
    }

    /// Writes a quiet point into its record.
    pub fn mark_quiet(&self, seq: u64) {
        let mut state = self.shared.state();
        let here = state.received.len();
        state.quiet_at.get_or_insert(here);
        state.note(What::Quiet { seq });
    }

    /// Everything it received so far.
    pub fn record(&self) -> Record {
        Record {
            name: self.shared.temper.name.clone(),
            only: self.shared.temper.only.clone(),
            received: self.shared.state().received.clone(),
        }
    }

    /// The answers since the first quiet point. A snapshot does not count if the subscriber needs it
    /// by itself, since it was cut off before the last one was complete.
    pub fn answers(&self) -> Vec<Answer> {
        let state = self.shared.state();
        let since = &state.received[state.quiet_at.unwrap_or(0)..];
        let mut due = false;
        let mut answers = Vec::new();
        for received in since {
            match &received.what {
                What::Opened { owed, .. } => due = *owed,
                What::Frame(text) => match Answer::of(text) {
                    Some(Answer::Afresh) if due => {}
                    Some(Answer::Snapshot(_)) if due => due = false,
                    found => answers.extend(found),
                },
                What::Ended(_) | What::Quiet { .. } => {}
            }
        }
        answers
    }
}

impl Drop for Subscriber {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Belief {
    fn apply(&mut self, what: &What) {
        match what {
            What::Opened { recovering, .. } => {
                self.subscribed = false;
                if !recovering {
                    self.reducer = Reducer::default();
                }
                self.reducer.opened();
            }
            What::Ended(_) => {
                self.subscribed = false;
                self.ends += 1;
            }
            What::Frame(text) => {
                let frame = Frame::read(text);
                self.subscribed |= matches!(frame, Frame::Subscribed { .. });
                self.steps += usize::from(matches!(frame, Frame::Event { .. }));
                self.snapshots += usize::from(matches!(frame, Frame::Snapshot { part: 1, .. }));
                if let Some(freshness) = freshness(text) {
                    self.freshness = freshness;
                }
                // The checker judges the violations.
                let _judged_later = self.reducer.apply(&frame);
            }
            What::Quiet { .. } => {}
        }
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

impl Answer {
    /// What a frame answers, if it does. The rest of a snapshot in parts is none.
    fn of(text: &str) -> Option<Self> {
        match answering(text)? {
            Frame::Subscribed { recovered, .. } if recovered => Some(Self::Recovered),
            Frame::Subscribed { .. } => Some(Self::Afresh),
            Frame::Snapshot {
                part: 1, reason, ..
            } => Some(Self::Snapshot(reason)),
            _ => None,
        }
    }
}

/// The frame, if it answers a subscription or is a snapshot. Others are not read.
fn answering(text: &str) -> Option<Frame> {
    let is = |event: &str| text.contains(&format!("\"event\":\"{event}\""));
    (is("subscribed") || is("guild.snapshot")).then(|| Frame::read(text))
}

/// Asks once to recover from this position: the answers in time, the snapshot's reason included.
pub async fn continued(access: &HubAccess, pos: &str) -> Vec<Answer> {
    let mut answers = Vec::new();
    let until = Instant::now() + OPEN_MAX;
    let Some(mut socket) = access.open().await else {
        return answers;
    };
    if socket.send(access.auth(None, Some(pos))).await.is_err() {
        return answers;
    }
    while let Ok(Ok(text)) = timeout_at(until, socket.receive()).await {
        answers.extend(Answer::of(&text));
        if answers.iter().any(|answer| *answer != Answer::Afresh) {
            break;
        }
    }
    answers
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn leaves(&self) -> bool {
        self.temper.pace == Pace::Restless && !self.calm.load(Ordering::Relaxed)
    }
}

impl State {
    fn note(&mut self, what: What) {
        self.received.push(Received {
            at_ms: now_ms(),
            what,
        });
    }

    fn receive(&mut self, text: &str) {
        if let Some(pos) = between(text, "\"pos\":\"") {
            pos.clone_into(self.pos.get_or_insert_default());
        }
        match answering(text) {
            Some(Frame::Subscribed { recovered, .. }) => self.waiting = !recovered,
            Some(Frame::Snapshot { part, of, .. }) => self.waiting = part < of,
            _ => {}
        }
        if let Some(number) = between(text, MARK).and_then(|number| number.parse().ok()) {
            self.mark = self.mark.max(number);
        }
        self.note(What::Frame(text.to_owned()));
    }
}

/// The text behind these words, up to the next quotation mark.
fn between<'a>(text: &'a str, words: &str) -> Option<&'a str> {
    let (_, behind) = text.split_once(words)?;
    Some(behind.split_once('"')?.0)
}

struct Life {
    shared: Arc<Shared>,
    rng: StdRng,
    /// Since a connection was last accepted.
    attempts: u32,
    /// How long a notice asked to wait before coming back, in ms.
    asked_ms: Option<u64>,
}

impl Life {
    async fn live(mut self) {
        loop {
            self.asked_ms = None;
            if let Some(socket) = self.shared.access.open().await {
                let code = self.stay(socket).await;
                self.shared.state().note(What::Ended(code));
            }
            let away_ms = self.away_ms();
            sleep(Duration::from_millis(away_ms)).await;
        }
    }

    fn away_ms(&mut self) -> u64 {
        match self.shared.temper.pace {
            Pace::Restless if self.shared.leaves() => self.rng.random_range(AWAY_MS),
            Pace::Restless | Pace::Steady => self.rng.random_range(BACK_MS),
            Pace::Sdk => {
                let ceiling_ms = (SDK_BACK_MIN_MS << self.attempts).min(SDK_BACK_MAX_MS);
                self.attempts = (self.attempts + 1).min(5);
                let jitter_ms = self.rng.random_range(0..ceiling_ms);
                self.asked_ms.unwrap_or(jitter_ms)
            }
        }
    }

    /// One connection, until its end; the close code if there was one.
    async fn stay(&mut self, mut socket: Socket) -> Option<u16> {
        socket.send(self.auth()).await.ok()?;
        let leaves_at = Instant::now() + Duration::from_millis(self.rng.random_range(STAY_MS));
        loop {
            let received = tokio::select! {
                received = socket.receive() => received,
                // It leaves without a Close frame, at any moment.
                () = sleep_until(leaves_at), if self.shared.leaves() => return None,
            };
            match received {
                Ok(text) => self.receive(&text),
                Err(Ended::Closed(code)) => return Some(code),
                Err(Ended::Cut | Ended::Broken(_)) => return None,
            }
        }
    }

    fn receive(&mut self, text: &str) {
        if text.contains("\"event\":\"auth.ok\"") {
            self.attempts = 0;
        }
        if text.contains("\"event\":\"draining\"")
            && let Ok(frame) = serde_json::from_str::<Value>(text)
        {
            self.asked_ms = frame["reconnectAfterMs"].as_u64();
        }
        self.shared.state().receive(text);
    }

    /// The `auth` frame, with the last position received.
    fn auth(&self) -> String {
        let shared = &self.shared;
        let mut state = shared.state();
        if shared.temper.forgetful {
            state.pos = None;
        }
        let pos = state.pos.clone();
        let owed = pos.is_none() || state.waiting;
        let recovering = pos.is_some();
        state.note(What::Opened { recovering, owed });
        shared
            .access
            .auth(shared.temper.only.as_ref(), pos.as_deref())
    }
}
