//! A viewer: it reconnects by `docs/protocol.md`, with the jitter of the SDK, and keeps every frame.
//! It reads next to nothing of them, so that hundreds cost little: the checker reads them afterwards.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use launch::clock::now_ms;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use serde_json::Value;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout_at};
use world::{Ended, Socket};

use crate::access::{HubAccess, OPEN_MAX};
use crate::checker::{Id, Received, Record, What};

/// The ceiling of the first wait before coming back, in ms; it doubles with each attempt.
const BACK_MIN_MS: u64 = 500;
/// The highest ceiling, in ms.
const BACK_MAX_MS: u64 = 15_000;
/// What a mark's number stands behind.
const MARK: &str = "\"name\":\"mark ";

/// A running viewer. Dropping it ends it.
pub(super) struct Viewer {
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

struct Shared {
    name: String,
    access: HubAccess,
    only: Option<BTreeSet<Id>>,
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
}

/// How one subscription was answered, or a snapshot in the middle of one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Answer {
    /// Continued.
    Recovered,
    /// Not continued: a snapshot follows.
    Afresh,
    /// A snapshot, with its reason.
    Snapshot(String),
}

impl Viewer {
    /// Starts one; its rng comes from `seed`. `only`: the rooms that it asks for.
    pub(super) fn start(
        name: String,
        access: HubAccess,
        only: Option<BTreeSet<Id>>,
        seed: u64,
    ) -> Self {
        let shared = Arc::new(Shared {
            name,
            access,
            only,
            state: Mutex::default(),
        });
        let task = tokio::spawn(live(Arc::clone(&shared), StdRng::seed_from_u64(seed)));
        Self { shared, task }
    }

    /// Its name.
    pub(super) fn name(&self) -> &str {
        &self.shared.name
    }

    /// Its guild.
    pub(super) fn guild(&self) -> &str {
        &self.shared.access.guild
    }

    /// Whether it sees its whole guild.
    pub(super) fn sees_all(&self) -> bool {
        self.shared.only.is_none()
    }

    /// How it connects.
    pub(super) fn access(&self) -> &HubAccess {
        &self.shared.access
    }

    /// The newest mark that it received.
    pub(super) fn mark(&self) -> u64 {
        self.shared.state().mark
    }

    /// The last position received.
    pub(super) fn pos(&self) -> Option<String> {
        self.shared.state().pos.clone()
    }

    /// The number of entries in its record.
    pub(super) fn received(&self) -> usize {
        self.shared.state().received.len()
    }

    /// Writes a quiet point into its record.
    pub(super) fn mark_quiet(&self, seq: u64) {
        let mut state = self.shared.state();
        let here = state.received.len();
        state.quiet_at.get_or_insert(here);
        state.received.push(Received {
            at_ms: now_ms(),
            what: What::Quiet { seq },
        });
    }

    /// Everything it received so far.
    pub(super) fn record(&self) -> Record {
        Record {
            name: self.shared.name.clone(),
            only: self.shared.only.clone(),
            received: self.shared.state().received.clone(),
        }
    }

    /// The answers since the first quiet point. A snapshot does not count if the viewer needs it by
    /// itself, since it was cut off before the last one was complete.
    pub(super) fn answers(&self) -> Vec<Answer> {
        let state = self.shared.state();
        let since = &state.received[state.quiet_at.unwrap_or(0)..];
        let mut due = false;
        let mut answers = Vec::new();
        for received in since {
            match &received.what {
                What::Opened { owed, .. } => due = *owed,
                What::Frame(text) => match answer(text) {
                    Some(Answer::Afresh) if due => {}
                    Some(Answer::Snapshot(_)) if due => due = false,
                    found => answers.extend(found),
                },
                What::Ended(_) | What::Quiet { .. } => {}
            }
        }
        answers
    }

    /// Every frame so far.
    pub(super) fn frames(&self) -> Vec<String> {
        let state = self.shared.state();
        let frames = state
            .received
            .iter()
            .filter_map(|received| match &received.what {
                What::Frame(text) => Some(text.clone()),
                _ => None,
            });
        frames.collect()
    }
}

impl Drop for Viewer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// What a frame answers, if it does. The rest of a snapshot in parts is none.
fn answer(text: &str) -> Option<Answer> {
    if !text.contains("\"event\":\"subscribed\"") && !text.contains("\"event\":\"guild.snapshot\"")
    {
        return None;
    }
    let frame: Value = serde_json::from_str(text).ok()?;
    match frame["event"].as_str()? {
        "subscribed" if frame["recovered"] == true => Some(Answer::Recovered),
        "subscribed" => Some(Answer::Afresh),
        _ if frame["payload"]["part"].as_u64().unwrap_or(1) > 1 => None,
        _ => Some(Answer::Snapshot(
            frame["payload"]["reason"]
                .as_str()
                .unwrap_or_default()
                .to_owned(),
        )),
    }
}

/// Asks once to recover from this position: the answers in time, the snapshot's reason included.
pub(super) async fn continued(access: &HubAccess, pos: &str) -> Vec<Answer> {
    let mut answers = Vec::new();
    let until = Instant::now() + OPEN_MAX;
    let Some(mut socket) = access.open().await else {
        return answers;
    };
    if socket.send(access.auth(None, Some(pos))).await.is_err() {
        return answers;
    }
    while let Ok(Ok(text)) = timeout_at(until, socket.receive()).await {
        answers.extend(answer(&text));
        if answers.iter().any(|answer| *answer != Answer::Afresh) {
            break;
        }
    }
    answers
}

impl Shared {
    /// One connection, until its end; the close code if there was one.
    async fn stay(
        &self,
        socket: &mut Socket,
        attempts: &mut u32,
        asked_ms: &mut Option<u64>,
    ) -> Option<u16> {
        let (pos, waiting) = {
            let state = self.state();
            (state.pos.clone(), state.waiting)
        };
        self.note(What::Opened {
            recovering: pos.is_some(),
            owed: pos.is_none() || waiting,
        });
        let auth = self.access.auth(self.only.as_ref(), pos.as_deref());
        // If the send fails, the next receive fails too.
        let _sent = socket.send(auth).await;
        loop {
            match socket.receive().await {
                Ok(text) => {
                    if text.contains("\"event\":\"auth.ok\"") {
                        *attempts = 0;
                    }
                    *asked_ms = asked_ms.or(waits(&text));
                    self.receive(&text);
                }
                Err(Ended::Closed(code)) => return Some(code),
                Err(Ended::Cut | Ended::Broken(_)) => return None,
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, what: What) {
        self.state().received.push(Received {
            at_ms: now_ms(),
            what,
        });
    }

    fn receive(&self, text: &str) {
        let mut state = self.state();
        if let Some(pos) = between(text, "\"pos\":\"") {
            pos.clone_into(state.pos.get_or_insert_default());
        }
        match answer(text) {
            Some(Answer::Afresh) => state.waiting = true,
            Some(Answer::Snapshot(_) | Answer::Recovered) => state.waiting = false,
            None => {}
        }
        if let Some(number) = between(text, MARK).and_then(|number| number.parse().ok()) {
            state.mark = state.mark.max(number);
        }
        state.received.push(Received {
            at_ms: now_ms(),
            what: What::Frame(text.to_owned()),
        });
    }
}

/// The text behind these words, up to the next quotation mark.
fn between<'a>(text: &'a str, words: &str) -> Option<&'a str> {
    let (_, behind) = text.split_once(words)?;
    Some(behind.split_once('"')?.0)
}

async fn live(shared: Arc<Shared>, mut rng: StdRng) {
    let mut attempts = 0;
    loop {
        let mut asked_ms = None;
        if let Some(mut socket) = shared.access.open().await {
            let code = shared.stay(&mut socket, &mut attempts, &mut asked_ms).await;
            shared.note(What::Ended(code));
        }
        let ceiling_ms = (BACK_MIN_MS << attempts).min(BACK_MAX_MS);
        attempts = (attempts + 1).min(5);
        let jitter_ms = rng.random_range(0..ceiling_ms);
        sleep(Duration::from_millis(asked_ms.unwrap_or(jitter_ms))).await;
    }
}

/// How long a notice asks to wait before coming back, in ms.
fn waits(text: &str) -> Option<u64> {
    if !text.contains("\"event\":\"draining\"") {
        return None;
    }
    let frame: Value = serde_json::from_str(text).ok()?;
    frame["reconnectAfterMs"].as_u64()
}
