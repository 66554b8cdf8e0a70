//! The mind of one connection, where there is no socket: a client frame, a verified token or the
//! passing of time in; actions out.
//!
//! Time is monotonic, in ms, and comes from outside.

use std::collections::{BTreeMap, BTreeSet};

use proto::close::CloseCode;
use proto::frame::{
    Ack, AckFrame, CORRELATION_BYTES_MAX, ClientFrame, Correlation, ErrorFrame, FRAME_VERSION,
    FrameError, ServerFrame,
};
use proto::problem::Code;
use proto::{ChannelId, GuildId};
use serde::Deserialize;

use crate::access::Access;
use crate::auth::{AuthError, Principal};
use crate::refusal::Refusal;
use crate::view::View;

/// The bounds of a connection.
#[derive(Debug, Clone)]
pub struct SessionLimits {
    /// How long a client may take to say who it is, in ms.
    pub auth_timeout_ms: u64,
    /// The largest frame before that, in bytes.
    pub unauthenticated_frame_bytes_max: usize,
    /// Client frames (and pings) a second, over time.
    pub frames_per_s_max: u32,
    /// How many may come at once.
    pub frames_burst_max: u32,
    /// Guilds of one connection.
    pub subscriptions_max: usize,
    /// How often the hub pings, in ms.
    pub ping_interval_ms: u64,
    /// How long it waits for the pong, in ms.
    pub pong_timeout_ms: u64,
    /// How long a token holds after its `exp`, in ms.
    pub expiry_leeway_ms: u64,
}

/// What the connection is to do, in order.
#[derive(Debug, PartialEq)]
pub enum Action {
    /// Write a frame.
    Send(ServerFrame),
    /// Verify a token, then call [`Session::verified`].
    Verify(String),
    /// The principal is known: it counts as theirs from here on, see [`Session::welcome`].
    Authenticated(Principal),
    /// Watch a guild.
    Subscribe(Subscribe),
    /// Watch it no more.
    Unsubscribe(GuildId),
    /// Send a ping.
    Ping,
    /// Write what waits, then end.
    Close(CloseCode),
}

/// A wish to watch a guild.
#[derive(Debug, PartialEq, Eq)]
pub struct Subscribe {
    /// What may be seen of it.
    pub view: View,
    /// Where to continue: as the client wrote it, which may be no position at all.
    pub recover: Option<String>,
    /// What the answer carries.
    pub re: Option<Correlation>,
}

/// One connection's state.
pub struct Session {
    connection_id: String,
    limits: SessionLimits,
    access: Access,
    phase: Phase,
    budget: Budget,
    ping_due_ms: u64,
    pong_due_ms: Option<u64>,
}

enum Phase {
    /// Nothing proved yet.
    Greeting { until_ms: u64 },
    /// A token is being verified.
    Verifying { wish: Wish },
    /// The principal is known.
    Open(Open),
    /// Nothing more is heard.
    Ended,
}

/// What a token is for.
enum Wish {
    Begin(Begin),
    Refresh { open: Open, re: Option<Correlation> },
}

/// What an `auth` frame asks for.
struct Begin {
    guilds: Option<Vec<GuildId>>,
    rooms: Option<BTreeSet<ChannelId>>,
    recover: BTreeMap<GuildId, String>,
    re: Option<Correlation>,
}

struct Open {
    principal: Principal,
    subscribed: BTreeSet<GuildId>,
    expires_ms: u64,
}

impl Session {
    /// A connection that was just opened.
    pub fn new(connection_id: String, access: Access, limits: SessionLimits, now_ms: u64) -> Self {
        Self {
            connection_id,
            phase: Phase::Greeting {
                until_ms: now_ms + limits.auth_timeout_ms,
            },
            budget: Budget {
                left_ms: 0,
                at_ms: now_ms,
            }
            .full(&limits),
            ping_due_ms: now_ms + limits.ping_interval_ms,
            pong_due_ms: None,
            limits,
            access,
        }
    }

    /// A text message came.
    pub fn text(&mut self, text: &str, now_ms: u64, ts: u64) -> Vec<Action> {
        if !self.budget.spend(&self.limits, now_ms) {
            return self.end_with_error(&flooded(), None, CloseCode::TooMany, ts);
        }
        if matches!(self.phase, Phase::Greeting { .. })
            && text.len() > self.limits.unauthenticated_frame_bytes_max
        {
            return self.end(CloseCode::TooBig);
        }
        // Read whole first: the envelope alone would pass over a field of any depth.
        // (And an array is no object, though it could be read as one.)
        let legible =
            serde_json::from_str(text).is_ok_and(|json: serde_json::Value| json.is_object());
        let envelope = serde_json::from_str(text).ok().filter(|_| legible);
        let Some(Envelope { r#type, id }) = envelope else {
            let refusal = Refusal::new(Code::BadRequest, "not a JSON object with a type");
            return self.end_with_error(&refusal, None, CloseCode::BadMessage, ts);
        };
        let Ok(re) = read_correlation(id) else {
            let refusal = Refusal::new(
                Code::BadRequest,
                "an id is a number, or a text of at most 64 bytes",
            );
            return vec![error(&refusal, None, ts)];
        };
        if !["auth", "refresh", "subscribe", "unsubscribe", "ping"].contains(&r#type.as_str()) {
            return vec![error(
                &Refusal::new(Code::BadRequest, "unknown type"),
                re,
                ts,
            )];
        }
        match serde_json::from_str(text) {
            Ok(frame) => self.frame(frame, re, ts),
            Err(_) => {
                let refusal = Refusal::new(
                    Code::BadRequest,
                    "a field of this frame is missing or not of the documented form",
                );
                if matches!(self.phase, Phase::Greeting { .. }) {
                    return self.end_with_error(&refusal, re, CloseCode::BadMessage, ts);
                }
                vec![error(&refusal, re, ts)]
            }
        }
    }

    /// The token that [`Action::Verify`] named was verified; `expires_in_ms` is how long it holds
    /// from now by the wall clock, below zero if it does not.
    pub fn verified(
        &mut self,
        result: Result<Principal, AuthError>,
        expires_in_ms: i64,
        now_ms: u64,
        ts: u64,
    ) -> Vec<Action> {
        let wish = match std::mem::replace(&mut self.phase, Phase::Ended) {
            Phase::Verifying { wish } => wish,
            other => {
                self.phase = other;
                return Vec::new();
            }
        };
        let re = match &wish {
            Wish::Begin(Begin { re, .. }) | Wish::Refresh { re, .. } => re.clone(),
        };
        let principal = match result {
            Ok(principal) => principal,
            Err(AuthError::Unauthorized) => {
                let refusal = Refusal::new(Code::Unauthorized, "the token does not hold");
                return self.end_with_error(&refusal, re, CloseCode::Unauthorized, ts);
            }
            Err(AuthError::Unavailable) => {
                let refusal =
                    Refusal::new(Code::Unavailable, "tokens can not be verified right now");
                return self.end_with_error(&refusal, re, CloseCode::CanNotVerify, ts);
            }
        };
        let held_ms = expires_in_ms.saturating_add_unsigned(self.limits.expiry_leeway_ms);
        let expires_ms = now_ms.saturating_add(u64::try_from(held_ms).unwrap_or(0));
        match wish {
            Wish::Begin(begin) => self.begin(principal, begin, expires_ms, ts),
            Wish::Refresh { open, re } => self.refresh(open, principal, re, expires_ms, ts),
        }
    }

    /// A ping or pong came. A pong that is waited for costs nothing; too many others end the connection.
    pub fn control(&mut self, pong: bool, now_ms: u64, ts: u64) -> Vec<Action> {
        let awaited = pong && self.pong_due_ms.take().is_some();
        if awaited || self.budget.spend(&self.limits, now_ms) {
            Vec::new()
        } else {
            self.end_with_error(&flooded(), None, CloseCode::TooMany, ts)
        }
    }

    /// When [`Session::tick`] has something to do next.
    pub fn due_ms(&self) -> u64 {
        let phase = match &self.phase {
            Phase::Greeting { until_ms } => *until_ms,
            Phase::Open(open) => open.expires_ms,
            Phase::Verifying { .. } | Phase::Ended => u64::MAX,
        };
        phase.min(self.pong_due_ms.unwrap_or(self.ping_due_ms))
    }

    /// Time passed.
    pub fn tick(&mut self, now_ms: u64, ts: u64) -> Vec<Action> {
        match &self.phase {
            Phase::Greeting { until_ms } if now_ms >= *until_ms => {
                let refusal = Refusal::new(Code::Unauthorized, "no auth frame in time");
                return self.end_with_error(&refusal, None, CloseCode::AuthTimeout, ts);
            }
            Phase::Open(open) if now_ms >= open.expires_ms => {
                let refusal = Refusal::new(Code::Unauthorized, "the token has expired");
                return self.end_with_error(&refusal, None, CloseCode::Unauthorized, ts);
            }
            _ => {}
        }
        if let Some(due_ms) = self.pong_due_ms {
            return if now_ms >= due_ms {
                self.end(CloseCode::GoingAway)
            } else {
                Vec::new()
            };
        }
        if now_ms >= self.ping_due_ms {
            self.ping_due_ms = now_ms + self.limits.ping_interval_ms;
            self.pong_due_ms = Some(now_ms + self.limits.pong_timeout_ms);
            return vec![Action::Ping];
        }
        Vec::new()
    }

    fn frame(&mut self, frame: ClientFrame, re: Option<Correlation>, ts: u64) -> Vec<Action> {
        match (std::mem::replace(&mut self.phase, Phase::Ended), frame) {
            (
                Phase::Greeting { .. },
                ClientFrame::Auth {
                    token,
                    guilds,
                    rooms,
                    recover,
                },
            ) => {
                let begin = Begin {
                    guilds,
                    rooms: rooms.map(|rooms| rooms.into_iter().collect()),
                    recover: recover.unwrap_or_default(),
                    re,
                };
                self.phase = Phase::Verifying {
                    wish: Wish::Begin(begin),
                };
                vec![Action::Verify(token)]
            }
            (Phase::Greeting { until_ms }, ClientFrame::Ping) => {
                self.phase = Phase::Greeting { until_ms };
                vec![ack(Ack::Pong, re, ts)]
            }
            (Phase::Greeting { .. }, _) => {
                let refusal = Refusal::new(Code::Unauthorized, "the first frame is auth");
                self.end_with_error(&refusal, re, CloseCode::Unauthorized, ts)
            }
            (Phase::Open(open), ClientFrame::Refresh { token }) => {
                self.phase = Phase::Verifying {
                    wish: Wish::Refresh { open, re },
                };
                vec![Action::Verify(token)]
            }
            (
                Phase::Open(mut open),
                ClientFrame::Subscribe {
                    guild_id,
                    rooms,
                    recover,
                },
            ) => {
                let actions = self.subscribe(&mut open, guild_id, rooms, recover, re, ts);
                self.phase = Phase::Open(open);
                actions
            }
            (Phase::Open(mut open), ClientFrame::Unsubscribe { guild_id }) => {
                let known = open.subscribed.remove(&guild_id);
                self.phase = Phase::Open(open);
                if known {
                    vec![
                        Action::Unsubscribe(guild_id),
                        ack(Ack::Unsubscribed { guild_id }, re, ts),
                    ]
                } else {
                    vec![error(
                        &Refusal::new(Code::NotFound, "not subscribed to this guild"),
                        re,
                        ts,
                    )]
                }
            }
            (Phase::Open(open), ClientFrame::Ping) => {
                self.phase = Phase::Open(open);
                vec![ack(Ack::Pong, re, ts)]
            }
            (Phase::Open(open), ClientFrame::Auth { .. }) => {
                self.phase = Phase::Open(open);
                vec![error(
                    &Refusal::new(
                        Code::BadRequest,
                        "already authenticated; a newer token comes by refresh",
                    ),
                    re,
                    ts,
                )]
            }
            // The connection does not read while it verifies, and not after the end.
            (phase @ (Phase::Verifying { .. } | Phase::Ended), _) => {
                self.phase = phase;
                Vec::new()
            }
        }
    }

    fn begin(
        &mut self,
        principal: Principal,
        begin: Begin,
        expires_ms: u64,
        ts: u64,
    ) -> Vec<Action> {
        let Begin {
            guilds,
            rooms,
            mut recover,
            re,
        } = begin;
        let wanted: Vec<GuildId> = match guilds {
            Some(guilds) => {
                let mut unique = Vec::new();
                for guild in guilds {
                    if !unique.contains(&guild) {
                        unique.push(guild);
                    }
                }
                unique
            }
            None => self
                .access
                .guilds_of(&principal)
                .into_iter()
                .take(self.limits.subscriptions_max)
                .collect(),
        };
        // An empty list is a choice too: to be let in, and to subscribe later.
        let allowed = self.access.guilds_of(&principal);
        let Some(first) = wanted.first().or(allowed.first()).copied() else {
            let refusal = Refusal::new(Code::Forbidden, "no guild of this hub");
            return self.end_with_error(&refusal, re, CloseCode::Forbidden, ts);
        };
        if wanted.len() > self.limits.subscriptions_max {
            // Waiting does not help: the same list would be as long.
            let refusal = Refusal::new(Code::BadRequest, self.too_many_guilds().detail);
            return self.end_with_error(&refusal, re, CloseCode::BadMessage, ts);
        }
        let views: Result<Vec<_>, _> = wanted
            .iter()
            .map(|guild| self.access.view(&principal, *guild, rooms.clone()))
            .collect();
        let views = match views {
            Ok(views) => views,
            Err(refusal) => return self.end_with_error(&refusal, re, CloseCode::Forbidden, ts),
        };
        let welcome = Ack::AuthOk {
            guild_id: first,
            guilds: wanted.clone(),
            sub: principal.subject.to_string(),
            connection_id: self.connection_id.clone(),
            expires_at: principal.expires_at_ms,
        };
        self.phase = Phase::Open(Open {
            principal: principal.clone(),
            subscribed: wanted.into_iter().collect(),
            expires_ms,
        });
        let mut actions = vec![Action::Authenticated(principal), ack(welcome, re, ts)];
        actions.extend(views.into_iter().map(|view| {
            Action::Subscribe(Subscribe {
                recover: recover.remove(&view.guild()),
                view,
                re: None,
            })
        }));
        actions
    }

    fn refresh(
        &mut self,
        mut open: Open,
        principal: Principal,
        re: Option<Correlation>,
        expires_ms: u64,
        ts: u64,
    ) -> Vec<Action> {
        if principal.subject != open.principal.subject {
            let refusal = Refusal::new(Code::Unauthorized, "a refresh keeps the same subject");
            return self.end_with_error(&refusal, re, CloseCode::Unauthorized, ts);
        }
        let expires_at = principal.expires_at_ms;
        // What the newer token no longer allows ends here.
        let lost: Vec<_> = open
            .subscribed
            .iter()
            .copied()
            .filter(|guild| self.access.view(&principal, *guild, None).is_err())
            .collect();
        let mut actions = vec![ack(Ack::AuthRefreshed { expires_at }, re, ts)];
        for guild_id in lost {
            open.subscribed.remove(&guild_id);
            actions.push(Action::Unsubscribe(guild_id));
            actions.push(error(
                &Refusal::new(Code::Forbidden, "the newer token does not allow a guild"),
                None,
                ts,
            ));
            actions.push(ack(Ack::Unsubscribed { guild_id }, None, ts));
        }
        open.principal = principal;
        open.expires_ms = expires_ms;
        self.phase = Phase::Open(open);
        actions
    }

    fn subscribe(
        &self,
        open: &mut Open,
        guild_id: GuildId,
        rooms: Option<Vec<ChannelId>>,
        recover: Option<String>,
        re: Option<Correlation>,
        ts: u64,
    ) -> Vec<Action> {
        let rooms = rooms.map(|rooms| rooms.into_iter().collect());
        let view = match self.access.view(&open.principal, guild_id, rooms) {
            Ok(view) => view,
            Err(refusal) => return vec![error(&refusal, re, ts)],
        };
        if !open.subscribed.contains(&guild_id)
            && open.subscribed.len() >= self.limits.subscriptions_max
        {
            return vec![error(&self.too_many_guilds(), re, ts)];
        }
        open.subscribed.insert(guild_id);
        vec![Action::Subscribe(Subscribe { view, recover, re })]
    }

    fn too_many_guilds(&self) -> Refusal {
        Refusal::new(
            Code::RateLimited,
            format!(
                "at most {} guilds a connection",
                self.limits.subscriptions_max
            ),
        )
    }

    fn end(&mut self, code: CloseCode) -> Vec<Action> {
        self.phase = Phase::Ended;
        vec![Action::Close(code)]
    }

    fn end_with_error(
        &mut self,
        refusal: &Refusal,
        re: Option<Correlation>,
        code: CloseCode,
        ts: u64,
    ) -> Vec<Action> {
        self.phase = Phase::Ended;
        vec![error(refusal, re, ts), Action::Close(code)]
    }
}

/// What is read of a client frame before its type is known.
#[derive(Deserialize)]
struct Envelope {
    r#type: String,
    #[serde(default)]
    id: serde_json::Value,
}

/// The `id` of a client frame, if it has one.
fn read_correlation(id: serde_json::Value) -> Result<Option<Correlation>, ()> {
    if id.is_null() {
        return Ok(None);
    }
    match serde_json::from_value(id) {
        Ok(Correlation::Text(text)) if text.len() > CORRELATION_BYTES_MAX => Err(()),
        Ok(id) => Ok(Some(id)),
        Err(_) => Err(()),
    }
}

/// A token bucket: milliseconds of allowance, of which each frame costs `1000 / frames_per_s_max`.
struct Budget {
    left_ms: u64,
    at_ms: u64,
}

impl Budget {
    fn full(mut self, limits: &SessionLimits) -> Self {
        self.left_ms = Self::cost_ms(limits) * u64::from(limits.frames_burst_max);
        self
    }

    fn cost_ms(limits: &SessionLimits) -> u64 {
        (1000 / u64::from(limits.frames_per_s_max.max(1))).max(1)
    }

    fn spend(&mut self, limits: &SessionLimits, now_ms: u64) -> bool {
        let cost_ms = Self::cost_ms(limits);
        let gained_ms = now_ms.saturating_sub(self.at_ms);
        self.left_ms = (self.left_ms + gained_ms).min(cost_ms * u64::from(limits.frames_burst_max));
        self.at_ms = now_ms;
        let affordable = self.left_ms >= cost_ms;
        if affordable {
            self.left_ms -= cost_ms;
        }
        affordable
    }
}

fn flooded() -> Refusal {
    Refusal::new(Code::RateLimited, "too many frames").retry_after_ms(5_000)
}

fn ack(ack: Ack, re: Option<Correlation>, ts: u64) -> Action {
    Action::Send(ServerFrame::Ack(AckFrame {
        v: FRAME_VERSION,
        ack,
        re,
        ts,
    }))
}

fn error(refusal: &Refusal, re: Option<Correlation>, ts: u64) -> Action {
    Action::Send(error_frame(refusal, re, ts))
}

/// A refusal as an error frame.
pub fn error_frame(refusal: &Refusal, re: Option<Correlation>, ts: u64) -> ServerFrame {
    ServerFrame::Error(ErrorFrame {
        v: FRAME_VERSION,
        error: FrameError {
            code: refusal.code,
            message: refusal.detail.clone().into_owned(),
            retry_after_ms: refusal.retry_after_ms,
        },
        re,
        ts,
    })
}

#[cfg(test)]
mod tests;
