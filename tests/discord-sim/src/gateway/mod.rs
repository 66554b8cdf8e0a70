//! The gateway: sessions, the connections they are attached to, and their dispatches.

pub(crate) mod connection;
mod history;
mod identify;
mod intents;
pub(crate) mod payload;
mod publish;
mod receive;
mod requests;
pub(crate) mod resumes;
mod session;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::render::Hidden;
use crate::settings::Settings;
use history::{Fate, History, Why};
use identify::Budget;
pub(crate) use publish::{Visible, visible};
pub(crate) use receive::{Asked, application_flags};
use session::Session;

/// What a connection is to do next.
#[derive(Debug)]
pub(crate) enum Order {
    /// Send a payload.
    Say(Arc<str>),
    /// Send many, in order.
    Replay(Vec<Arc<str>>),
    /// Close with this code.
    Close(u16),
    /// Send RECONNECT, and close a little later.
    Reconnect,
    /// End the connection without a Close.
    Drop,
    /// Send nothing, answers included, for so long.
    Silence(Duration),
}

struct Link {
    orders: mpsc::Sender<Order>,
    cut: CancellationToken,
}

/// What a connection holds of itself: its number, its orders, and the word to end without one.
pub(crate) struct Attached {
    pub(crate) id: u64,
    pub(crate) orders: mpsc::Receiver<Order>,
    pub(crate) cut: CancellationToken,
}

/// How often things happened, for the control side.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    pub(crate) identify: u64,
    pub(crate) resume: u64,
    pub(crate) resumed: u64,
    pub(crate) heartbeats: u64,
    pub(crate) dispatches: u64,
    pub(crate) closed: BTreeMap<u16, u64>,
}

/// Which sessions a request of the control side is for; none: all of them.
#[derive(Debug, Default)]
pub(crate) struct Which {
    pub(crate) shard: Option<u32>,
    pub(crate) session: Option<String>,
}

impl Which {
    fn takes(&self, session: &Session) -> bool {
        self.shard.is_none_or(|shard| session.shard.0 == shard)
            && self.session.as_ref().is_none_or(|id| *id == session.id)
    }
}

/// All sessions and connections.
pub(crate) struct Gateway {
    pub(crate) counts: Counts,
    /// The budget was overspent: the token is worth nothing any more.
    pub(crate) token_reset: bool,
    /// `host:port` that clients reach this simulator by.
    host: String,
    settings: Settings,
    sessions: BTreeMap<String, Session>,
    links: BTreeMap<u64, Link>,
    last_connection: u64,
    budget: Budget,
    history: History,
    resume_fault: Option<resumes::ResumeFault>,
}

impl Gateway {
    /// A gateway without sessions, reached by `host` (`host:port`).
    pub(crate) fn new(settings: &Settings, host: String) -> Self {
        Self {
            counts: Counts::default(),
            token_reset: false,
            host,
            settings: settings.clone(),
            sessions: BTreeMap::new(),
            links: BTreeMap::new(),
            last_connection: 0,
            budget: Budget::new(
                settings.sim_identify_total,
                settings.sim_identify_window_s.saturating_mul(1_000),
                settings.sim_identify_every_ms,
                settings.sim_max_concurrency,
            ),
            history: History::default(),
            resume_fault: None,
        }
    }

    /// The URL of this gateway.
    pub(crate) fn url(&self) -> String {
        format!("ws://{}", self.host)
    }

    /// `session_start_limit` of `GET /gateway/bot`.
    pub(crate) fn session_start_limit(&self, now_ms: u64) -> Value {
        json!({
            "total": self.settings.sim_identify_total,
            "remaining": self.budget.remaining(now_ms),
            "reset_after": self.budget.reset_after_ms(now_ms),
            "max_concurrency": self.settings.sim_max_concurrency,
        })
    }

    /// A connection begins.
    pub(crate) fn connect(&mut self) -> Attached {
        self.last_connection += 1;
        let id = self.last_connection;
        let capacity = usize::try_from(self.settings.sim_queue_max).unwrap_or(usize::MAX);
        let (sender, orders) = mpsc::channel(capacity);
        let cut = CancellationToken::new();
        self.links.insert(
            id,
            Link {
                orders: sender,
                cut: cut.clone(),
            },
        );
        Attached { id, orders, cut }
    }

    /// A connection ended. Its session waits for RESUME, unless the client ended it
    /// (`over`: closed with 1000 or 1001, or timed out).
    pub(crate) fn disconnect(&mut self, connection: u64, over: bool, now_ms: u64) {
        self.links.remove(&connection);
        self.detach(connection, over.then_some(Why::Client), now_ms);
    }

    /// Removes sessions that were not resumed in time.
    pub(crate) fn remove_ended(&mut self, now_ms: u64) {
        let ttl_ms = self.settings.sim_session_ttl_s.saturating_mul(1_000);
        self.sessions.retain(|id, session| {
            let over = session.is_over(now_ms, ttl_ms);
            if over && !session.expired {
                let fate = Fate::Ended(Why::Forgotten);
                self.history.note(id, fate, now_ms);
            }
            !over
        });
    }

    /// Queues an order; a connection whose queue is full is cut, and may resume.
    fn order(&mut self, connection: u64, order: Order) {
        if let Some(link) = self.links.get(&connection)
            && link.orders.try_send(order).is_err()
        {
            link.cut.cancel();
            self.links.remove(&connection);
        }
    }

    fn say(&mut self, connection: u64, text: String) {
        self.order(connection, Order::Say(text.into()));
    }

    fn close(&mut self, connection: u64, code: u16) {
        if !self.is_open(connection) {
            return;
        }
        *self.counts.closed.entry(code).or_default() += 1;
        self.order(connection, Order::Close(code));
        // The last order: later payloads of the client are ignored.
        self.links.remove(&connection);
    }

    /// Whether a connection still takes payloads.
    pub(crate) fn is_open(&self, connection: u64) -> bool {
        self.links.contains_key(&connection)
    }

    fn session_of(&mut self, connection: u64) -> Option<&mut Session> {
        self.sessions
            .values_mut()
            .find(|session| session.connection == Some(connection))
    }

    /// Numbers a dispatch in one session, and sends it where the session is attached.
    fn dispatch(&mut self, session_id: &str, event: &str, data: &Value) {
        let Some(session) = self.sessions.get_mut(session_id) else {
            return;
        };
        let text = session.dispatch(event, data);
        let connection = session.connection;
        self.counts.dispatches += 1;
        if let Some(connection) = connection {
            self.order(connection, Order::Say(text));
        }
    }

    /// How channels that the bot cannot view come to every session.
    pub(crate) fn hides(&self) -> Hidden {
        if self.settings.sim_obfuscate {
            Hidden::Obfuscated
        } else {
            Hidden::Shown
        }
    }

    /// Whether a session of this id is known.
    pub(crate) fn has_session(&self, id: &str) -> bool {
        self.sessions.contains_key(id)
    }

    fn chosen(&self, which: &Which) -> Vec<String> {
        self.sessions
            .values()
            .filter(|session| which.takes(session))
            .map(|session| session.id.clone())
            .collect()
    }

    fn connections(&self, which: &Which) -> Vec<u64> {
        self.sessions
            .values()
            .filter(|session| which.takes(session))
            .filter_map(|session| session.connection)
            .collect()
    }

    /// Closes chosen connections with `code`; sessions end with the codes that end them
    /// (4004, 4007, 4009, 4010 to 4014). Returns how many there were.
    pub(crate) fn close_all(&mut self, which: &Which, code: u16, now_ms: u64) -> usize {
        let ends = matches!(code, 4004 | 4007 | 4009..=4014);
        let connections = self.connections(which);
        for connection in &connections {
            self.close(*connection, code);
            self.detach(*connection, ends.then_some(Why::Control), now_ms);
        }
        connections.len()
    }

    /// Detaches the session of a connection that is about to end, so that it gets nothing more; its
    /// session ends with it if there is a reason.
    fn detach(&mut self, connection: u64, ends: Option<Why>, now_ms: u64) {
        // Not by `session_of`, which would borrow the history as well.
        let of_it = |session: &&mut Session| session.connection == Some(connection);
        if let Some(session) = self.sessions.values_mut().find(of_it) {
            session.connection = None;
            session.detached_ms = now_ms;
            self.history.note(&session.id, Fate::Detached, now_ms);
            if let Some(why) = ends
                && !std::mem::replace(&mut session.expired, true)
            {
                self.history.note(&session.id, Fate::Ended(why), now_ms);
            }
        }
        self.remove_ended(now_ms);
    }

    /// Cuts chosen connections without a word.
    pub(crate) fn cut_all(&mut self, which: &Which, now_ms: u64) -> usize {
        let connections = self.connections(which);
        for connection in &connections {
            if let Some(link) = self.links.remove(connection) {
                link.cut.cancel();
            }
            self.detach(*connection, None, now_ms);
        }
        connections.len()
    }

    /// Asks chosen connections to reconnect (op 7).
    pub(crate) fn reconnect_all(&mut self, which: &Which) -> usize {
        let connections = self.connections(which);
        for connection in &connections {
            self.order(*connection, Order::Reconnect);
        }
        connections.len()
    }

    /// Asks chosen connections for a heartbeat at once (op 1).
    pub(crate) fn request_heartbeats(&mut self, which: &Which) -> usize {
        let connections = self.connections(which);
        for connection in &connections {
            self.say(*connection, payload::heartbeat_request());
        }
        connections.len()
    }

    /// Invalidates chosen sessions (op 9).
    pub(crate) fn invalidate_all(&mut self, which: &Which, resumable: bool, now_ms: u64) -> usize {
        let connections = self.connections(which);
        for connection in &connections {
            self.say(*connection, payload::invalid_session(resumable));
            let ends = (!resumable).then_some(Why::Control);
            self.detach(*connection, ends, now_ms);
        }
        connections.len()
    }

    /// Makes chosen connections deaf and dumb for a while.
    pub(crate) fn silence_all(&mut self, which: &Which, time: Duration) -> usize {
        let connections = self.connections(which);
        for connection in &connections {
            self.order(*connection, Order::Silence(time));
        }
        connections.len()
    }

    /// Makes chosen sessions expire: those that wait are gone, and the others cannot be resumed.
    pub(crate) fn expire_all(&mut self, which: &Which, now_ms: u64) -> usize {
        let chosen = self.chosen(which);
        for id in &chosen {
            if let Some(session) = self.sessions.get_mut(id)
                && !std::mem::replace(&mut session.expired, true)
            {
                self.history.note(id, Fate::Ended(Why::Control), now_ms);
            }
        }
        self.remove_ended(now_ms);
        chosen.len()
    }

    /// Sends any dispatch to chosen sessions.
    pub(crate) fn dispatch_all(&mut self, which: &Which, event: &str, data: &Value) -> usize {
        let chosen = self.chosen(which);
        for id in &chosen {
            self.dispatch(id, event, data);
        }
        chosen.len()
    }

    /// What became of sessions after the note of this number, for the control side.
    pub(crate) fn history(&self, since: u64) -> Value {
        self.history.describe(since)
    }

    /// The sessions, for the control side.
    pub(crate) fn describe(&self) -> Value {
        self.sessions
            .values()
            .map(|session| {
                json!({
                    "session": session.id,
                    "shard": [session.shard.0, session.shard.1],
                    "intents": session.intents,
                    "connected": session.connection.is_some(),
                    "seq": session.seq(),
                })
            })
            .collect()
    }
}

/// The words that go with a close code (`opcodes-and-status-codes.mdx`).
pub(crate) fn close_reason(code: u16) -> &'static str {
    match code {
        4000 => "Unknown error.",
        4001 => "Unknown opcode.",
        4002 => "Decode error.",
        4003 => "Not authenticated.",
        4004 => "Authentication failed.",
        4005 => "Already authenticated.",
        4007 => "Invalid seq.",
        4008 => "Rate limited.",
        4009 => "Session timed out.",
        4010 => "Invalid shard.",
        4011 => "Sharding required.",
        4012 => "Invalid API version.",
        4013 => "Invalid intent(s).",
        4014 => "Disallowed intent(s).",
        _ => "",
    }
}
