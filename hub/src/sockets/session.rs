//! The mind of one connection, where there is no socket: a client frame, a verified token or the
//! passing of time in; actions out.
//!
//! Some actions take their time. Until they are done, a client's further wishes are held back, so
//! that all is done in the order in which it was asked for. Only a `ping` is answered at once, and
//! what ends the connection ends it: whoever waits is not left without a sign of life.
//!
//! What is left in this file is one subject: the phases of a conversation, and what leads from one to
//! the next. Each frame's answer depends on the phase, and most change it.
//!
//! Time is monotonic, in ms, and comes from outside.

mod action;
mod hearing;

use std::collections::{BTreeMap, BTreeSet};

use launch::rate::{RateBucket, RateLimit};
use proto::close::CloseCode;
use proto::frame::{Ack, ClientFrame, Correlation, ErrorFrame, ServerFrame};
use proto::problem::Code;
use proto::{ChannelId, GuildId};

pub use self::action::{Action, Subscribe, error_frame};
use self::action::{ack, error, flooded};
use self::hearing::{HeldBack, Illegible};
use crate::access::Access;
use crate::auth::{AuthError, Principal};
use crate::error::ApiError;

/// The bounds of a connection.
#[derive(Debug, Clone)]
pub struct SessionLimits {
    /// How long a client may take to say who it is, in ms.
    pub auth_timeout_ms: u64,
    /// The largest frame before that, in bytes.
    pub unauthenticated_frame_bytes_max: usize,
    /// The largest frame after that, in bytes.
    pub frame_bytes_max: usize,
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
    /// What is read ahead of what is done, in bytes; one frame may pass it.
    pub held_back_bytes_max: usize,
}

/// One connection's state.
pub struct Session {
    connection_id: String,
    limits: SessionLimits,
    access: Access,
    phase: Phase,
    frame_rate: RateLimit,
    frame_budget: RateBucket,
    held_back: HeldBack,
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
            frame_rate: RateLimit::per_second(limits.frames_per_s_max, limits.frames_burst_max),
            frame_budget: RateBucket::default(),
            held_back: HeldBack::new(limits.held_back_bytes_max),
            ping_due_ms: now_ms + limits.ping_interval_ms,
            pong_due_ms: None,
            limits,
            access,
        }
    }

    /// A text message came. While `is_busy`, because something that was asked for is still to be
    /// done, only what overtakes it comes out: answers, and the end.
    pub fn text(&mut self, text: &str, is_busy: bool, now_ms: u64, ts: u64) -> Vec<Action> {
        if matches!(self.phase, Phase::Ended) {
            return Vec::new();
        }
        if !self.may_receive(now_ms) {
            return self.end_with_error(&flooded(), None, CloseCode::TooMany, ts);
        }
        if text.len() > self.message_bytes_max() {
            return self.too_big(ts);
        }
        let bad = |detail| ApiError::new(Code::BadRequest, detail);
        match hearing::read(text) {
            Ok(said) if is_busy && said.0 != ClientFrame::Ping => {
                self.held_back.push(said, text.len());
                Vec::new()
            }
            Ok((frame, re)) => self.frame(frame, re, ts),
            Err(Illegible::NoFrame) => {
                let refusal = bad("not a JSON object with a type");
                self.end_with_error(&refusal, None, CloseCode::BadMessage, ts)
            }
            Err(Illegible::Id) => {
                let refusal = bad(
                    "an id is a whole number from 0 to 2^64 - 1, or a text of at most 64 bytes",
                );
                vec![error(&refusal, None, ts)]
            }
            Err(Illegible::Type(re)) => vec![error(&bad("unknown type"), re, ts)],
            Err(Illegible::Field(re)) => {
                let refusal = bad("a field of this frame is missing or not of the documented form");
                if matches!(self.phase, Phase::Greeting { .. }) {
                    return self.end_with_error(&refusal, re, CloseCode::BadMessage, ts);
                }
                vec![error(&refusal, re, ts)]
            }
        }
    }

    /// All that was asked for is done: what is to be done for the oldest frame that was held back;
    /// `None` if there is none.
    pub fn next(&mut self, ts: u64) -> Option<Vec<Action>> {
        let (frame, re) = self.held_back.pop()?;
        Some(self.frame(frame, re, ts))
    }

    /// A subscription came to nothing: the guild does not count.
    pub fn forget(&mut self, guild: GuildId) {
        if let Phase::Open(open) = &mut self.phase {
            open.subscribed.remove(&guild);
        }
    }

    /// The largest message that is accepted now, in bytes.
    pub fn message_bytes_max(&self) -> usize {
        match self.phase {
            Phase::Greeting { .. } => self.limits.unauthenticated_frame_bytes_max,
            _ => self.limits.frame_bytes_max,
        }
    }

    /// A message is larger than [`Session::message_bytes_max`]. The error names the limit, because
    /// the reason of a close code is a fixed text.
    pub fn too_big(&mut self, ts: u64) -> Vec<Action> {
        let allowed = self.message_bytes_max();
        let detail = match self.phase {
            Phase::Ended => return self.end(CloseCode::TooBig),
            Phase::Greeting { .. } => {
                format!("a message before authentication is at most {allowed} bytes")
            }
            _ => format!("a message is at most {allowed} bytes"),
        };
        let refusal = ApiError::new(Code::TooLarge, detail);
        self.end_with_error(&refusal, None, CloseCode::TooBig, ts)
    }

    /// Whether the client is not to be heard, because too much of what it said waits already.
    pub fn is_deaf(&self) -> bool {
        self.held_back.is_full()
    }

    /// The client is heard again, having not been for a while: its pong may just be on its way.
    pub fn listen_again(&mut self, now_ms: u64) {
        if let Some(due_ms) = &mut self.pong_due_ms {
            *due_ms = (*due_ms).max(now_ms + self.limits.pong_timeout_ms);
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
            Err(AuthError::Unauthorized(_)) => {
                let refusal = ApiError::new(Code::Unauthorized, "the token is invalid");
                return self.end_with_error(&refusal, re, CloseCode::Unauthorized, ts);
            }
            Err(AuthError::Unavailable) => {
                let refusal =
                    ApiError::new(Code::Unavailable, "tokens can not be verified right now");
                // The token that the connection has holds until its own end.
                if let Wish::Refresh { open, .. } = wish {
                    self.phase = Phase::Open(open);
                    return vec![error(&refusal, re, ts)];
                }
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
        if awaited || self.may_receive(now_ms) {
            Vec::new()
        } else {
            self.end_with_error(&flooded(), None, CloseCode::TooMany, ts)
        }
    }

    /// Takes one frame from the client's budget; false if it is exhausted.
    fn may_receive(&mut self, now_ms: u64) -> bool {
        self.frame_budget.take(self.frame_rate, now_ms).is_ok()
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
                let refusal = ApiError::new(Code::Unauthorized, "no auth frame in time");
                return self.end_with_error(&refusal, None, CloseCode::AuthTimeout, ts);
            }
            Phase::Open(open) if now_ms >= open.expires_ms => {
                let refusal = ApiError::new(Code::Unauthorized, "the token has expired");
                return self.end_with_error(&refusal, None, CloseCode::Unauthorized, ts);
            }
            _ => {}
        }
        if let Some(due_ms) = self.pong_due_ms {
            if self.is_deaf() {
                // The pong may have come.
                self.pong_due_ms = Some(now_ms + self.limits.pong_timeout_ms);
                return Vec::new();
            }
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
            (phase, ClientFrame::Ping) => {
                self.phase = phase;
                vec![ack(Ack::Pong, re, ts)]
            }
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
            (Phase::Greeting { .. }, _) => {
                let refusal = ApiError::new(Code::Unauthorized, "the first frame is auth");
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
                        &ApiError::new(Code::NotFound, "not subscribed to this guild"),
                        re,
                        ts,
                    )]
                }
            }
            (Phase::Open(open), ClientFrame::Auth { .. }) => {
                self.phase = Phase::Open(open);
                vec![error(
                    &ApiError::new(
                        Code::BadRequest,
                        "already authenticated; a newer token comes by refresh",
                    ),
                    re,
                    ts,
                )]
            }
            // While a token is verified, frames are held back; after the end, nothing is heard.
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
        let allowed = match self.access.readable_guilds(&principal) {
            Ok(allowed) => allowed,
            Err(refusal) => return self.end_with_error(&refusal, re, CloseCode::Forbidden, ts),
        };
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
            // A token without a guild is accepted: a newer one may bring guilds.
            None => allowed
                .into_iter()
                .take(self.limits.subscriptions_max)
                .collect(),
        };
        if wanted.len() > self.limits.subscriptions_max {
            // Waiting does not help: the same list would be as long.
            let refusal = ApiError::new(Code::BadRequest, self.too_many_guilds().detail);
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
            guild_id: wanted.first().copied(),
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
            let refusal = ApiError::new(Code::Unauthorized, "a refresh keeps the same subject");
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
        let guilds = self.access.readable_guilds(&principal).unwrap_or_default();
        let refreshed = Ack::AuthRefreshed { expires_at, guilds };
        let mut actions = vec![ack(refreshed, re, ts)];
        for guild_id in lost {
            open.subscribed.remove(&guild_id);
            actions.push(Action::Unsubscribe(guild_id));
            actions.push(error(
                &ApiError::new(Code::Forbidden, "the newer token does not allow a guild"),
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

    fn too_many_guilds(&self) -> ApiError {
        ApiError::new(
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
        refusal: &ApiError,
        re: Option<Correlation>,
        code: CloseCode,
        ts: u64,
    ) -> Vec<Action> {
        self.phase = Phase::Ended;
        let connection_id = Some(self.connection_id.clone());
        let last = ErrorFrame {
            connection_id,
            ..error_frame(refusal, re, ts)
        };
        vec![Action::Send(ServerFrame::Error(last)), Action::Close(code)]
    }
}

#[cfg(test)]
mod tests;
