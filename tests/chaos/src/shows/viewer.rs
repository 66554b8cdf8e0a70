//! A viewer: comes back as `docs/protocol.md` tells a client to, with the jitter of the SDK, and
//! keeps every frame. It understands next to nothing of them, so that hundreds cost little: the
//! checker reads them afterwards.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use launch::clock::now_ms;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tokio_tungstenite::connect_async;
use tokio_tungstenite::tungstenite::Message;

use crate::checker::{Heard, Id, Record, What};
use crate::subscriber::Door;

/// How long a connection may take to open.
const OPEN_MAX: Duration = Duration::from_secs(5);
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
    door: Door,
    only: Option<BTreeSet<Id>>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    heard: Vec<Heard>,
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
    /// Starts one; its luck comes from `seed`. `only`: the rooms that it asks for.
    pub(super) fn start(name: String, door: Door, only: Option<BTreeSet<Id>>, seed: u64) -> Self {
        let shared = Arc::new(Shared {
            name,
            door,
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
        &self.shared.door.guild
    }

    /// Whether it sees all that there is to see.
    pub(super) fn sees_all(&self) -> bool {
        self.shared.only.is_none()
    }

    /// How it comes in.
    pub(super) fn door(&self) -> &Door {
        &self.shared.door
    }

    /// The newest mark that it was told of.
    pub(super) fn mark(&self) -> u64 {
        self.shared.state().mark
    }

    /// The last position received.
    pub(super) fn pos(&self) -> Option<String> {
        self.shared.state().pos.clone()
    }

    /// How many things it heard.
    pub(super) fn heard(&self) -> usize {
        self.shared.state().heard.len()
    }

    /// Writes a quiet point into its record.
    pub(super) fn mark_quiet(&self, seq: u64) {
        let mut state = self.shared.state();
        let here = state.heard.len();
        state.quiet_at.get_or_insert(here);
        state.heard.push(Heard {
            at_ms: now_ms(),
            what: What::Quiet { seq },
        });
    }

    /// Everything it received so far.
    pub(super) fn record(&self) -> Record {
        Record {
            name: self.shared.name.clone(),
            only: self.shared.only.clone(),
            heard: self.shared.state().heard.clone(),
        }
    }

    /// How it was answered since the first quiet point. A snapshot that was due to it by its own
    /// doing, since it was cut off before the last one had come, does not count.
    pub(super) fn answers(&self) -> Vec<Answer> {
        let state = self.shared.state();
        let since = &state.heard[state.quiet_at.unwrap_or(0)..];
        let mut due = false;
        let mut answers = Vec::new();
        for heard in since {
            match &heard.what {
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
        let frames = state.heard.iter().filter_map(|heard| match &heard.what {
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

/// Asks once to continue from this place: how that is answered in time, the snapshot's reason
/// included.
pub(super) async fn continued(door: &Door, pos: &str) -> Vec<Answer> {
    let mut answers = Vec::new();
    let until = Instant::now() + OPEN_MAX;
    let Ok(Ok((mut socket, _))) = timeout_at(until, connect_async(address(door))).await else {
        return answers;
    };
    let frame = introduction(door, None, Some(pos));
    if socket.send(Message::text(frame)).await.is_err() {
        return answers;
    }
    while let Ok(Some(Ok(message))) = timeout_at(until, socket.next()).await {
        let Message::Text(text) = message else {
            continue;
        };
        answers.extend(answer(&text));
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

    fn note(&self, what: What) {
        self.state().heard.push(Heard {
            at_ms: now_ms(),
            what,
        });
    }

    fn hear(&self, text: &str) {
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
        state.heard.push(Heard {
            at_ms: now_ms(),
            what: What::Frame(text.to_owned()),
        });
    }
}

/// What stands behind these words, up to the next quotation mark.
fn between<'a>(text: &'a str, words: &str) -> Option<&'a str> {
    let (_, behind) = text.split_once(words)?;
    Some(behind.split_once('"')?.0)
}

fn address(door: &Door) -> String {
    format!("{}/api/ws", door.hub_url.replacen("http", "ws", 1))
}

async fn live(shared: Arc<Shared>, mut luck: StdRng) {
    let mut attempts = 0;
    loop {
        let mut asked_ms = None;
        if let Ok(Ok((mut socket, _))) =
            timeout(OPEN_MAX, connect_async(address(&shared.door))).await
        {
            let (pos, waiting) = {
                let state = shared.state();
                (state.pos.clone(), state.waiting)
            };
            shared.note(What::Opened {
                recovering: pos.is_some(),
                owed: pos.is_none() || waiting,
            });
            let frame = introduction(&shared.door, shared.only.as_ref(), pos.as_deref());
            let mut code = None;
            // If it can not be said, that shows at once in what is read.
            let _said = socket.send(Message::text(frame)).await;
            while let Some(Ok(message)) = socket.next().await {
                match message {
                    Message::Text(text) => {
                        if text.contains("\"event\":\"auth.ok\"") {
                            attempts = 0;
                        }
                        asked_ms = asked_ms.or(waits(&text));
                        shared.hear(&text);
                    }
                    Message::Close(close) => {
                        code = close.map(|close| close.code.into());
                        break;
                    }
                    _ => {}
                }
            }
            shared.note(What::Ended(code));
        }
        let ceiling_ms = (BACK_MIN_MS << attempts).min(BACK_MAX_MS);
        attempts = (attempts + 1).min(5);
        let jitter_ms = luck.random_range(0..ceiling_ms);
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

fn introduction(door: &Door, only: Option<&BTreeSet<Id>>, pos: Option<&str>) -> String {
    let mut frame = json!({"type": "auth", "token": door.token, "guilds": [door.guild]});
    if let Some(only) = only {
        frame["rooms"] = json!(only);
    }
    if let Some(pos) = pos {
        frame["recover"] = json!({&door.guild: pos});
    }
    frame.to_string()
}
