//! The state machine of one connection, without a socket: a client frame, a verified token or the
//! time goes in, actions come out.
//!
//! Some actions are asynchronous. Until one is done, further frames of the client are deferred, so
//! the answers come in the order of the requests. Two things overtake it: the answer to a `ping`,
//! and whatever ends the connection.
//!
//! This file has the phases of a connection and their transitions. Time is monotonic, in ms, and an
//! argument.

mod action;
mod authenticated;
mod parse;

use launch::rate::{RateBucket, RateLimit};
use proto::GuildId;
use proto::close::CloseCode;
use proto::frame::{Ack, ClientFrame, Correlation};
use proto::problem::Code;

pub use self::action::{Action, Subscribe};
use self::authenticated::{AuthRequest, Authenticated};
use self::parse::{DeferredFrames, ParseError};
use super::limits::SessionLimits;
use crate::access::Access;
use crate::auth::{AuthError, Principal};
use crate::error::ApiError;

/// One connection's state.
pub struct Session {
    connection_id: String,
    limits: SessionLimits,
    access: Access,
    phase: Phase,
    frame_rate: RateLimit,
    frame_budget: RateBucket,
    deferred: DeferredFrames,
    ping_due_ms: u64,
    pong_due_ms: Option<u64>,
}

enum Phase {
    /// The client has not sent its token.
    Unauthenticated { until_ms: u64 },
    /// A token is being verified.
    Verifying(TokenUse),
    /// The principal is known.
    Authenticated(Authenticated),
    /// The connection ends: frames are ignored.
    Ended,
}

/// Which frame carried a token.
enum TokenUse {
    Auth(AuthRequest),
    Refresh {
        authenticated: Authenticated,
        re: Option<Correlation>,
    },
}

impl Session {
    /// A connection that was just opened.
    pub fn new(connection_id: String, access: Access, limits: SessionLimits, now_ms: u64) -> Self {
        Self {
            connection_id,
            phase: Phase::Unauthenticated {
                until_ms: now_ms + limits.auth_timeout_ms,
            },
            frame_rate: RateLimit::per_second(limits.frames_per_s_max, limits.frames_burst_max),
            frame_budget: RateBucket::default(),
            deferred: DeferredFrames::new(limits.held_back_bytes_max),
            ping_due_ms: now_ms + limits.ping_interval_ms,
            pong_due_ms: None,
            limits,
            access,
        }
    }

    /// Handles a text message. While `is_busy`, because an earlier request is not done, the actions
    /// are only those that overtake it: answers, and the end.
    pub fn text(&mut self, text: &str, is_busy: bool, now_ms: u64) -> Vec<Action> {
        if matches!(self.phase, Phase::Ended) {
            return Vec::new();
        }
        if !self.may_receive(now_ms) {
            return self.flooded();
        }
        if text.len() > self.message_bytes_max() {
            return self.too_big();
        }
        match parse::parse(text) {
            Ok(frame) if is_busy && frame.0 != ClientFrame::Ping => {
                self.deferred.push(frame, text.len());
                Vec::new()
            }
            Ok((frame, re)) => self.frame(frame, re),
            Err(error) => self.unreadable(error),
        }
    }

    fn unreadable(&mut self, error: ParseError) -> Vec<Action> {
        let bad_request = |detail| ApiError::new(Code::BadRequest, detail);
        match error {
            ParseError::NoFrame => {
                let error = bad_request("not a JSON object with a type");
                self.end_with_error(error, None, CloseCode::BadMessage)
            }
            ParseError::Id => {
                let error = bad_request(
                    "an id is a whole number from 0 to 2^64 - 1, or a text of at most 64 bytes",
                );
                vec![Action::Error(error, None)]
            }
            ParseError::Type(re) => vec![Action::Error(bad_request("unknown type"), re)],
            ParseError::Field(re) => {
                let error =
                    bad_request("a field of this frame is missing or not of the documented form");
                if matches!(self.phase, Phase::Unauthenticated { .. }) {
                    return self.end_with_error(error, re, CloseCode::BadMessage);
                }
                vec![Action::Error(error, re)]
            }
        }
    }

    /// The actions for the oldest deferred frame, if there is one. Call it when nothing is busy.
    pub fn next_deferred(&mut self) -> Option<Vec<Action>> {
        let (frame, re) = self.deferred.pop()?;
        Some(self.frame(frame, re))
    }

    /// A subscription failed: the guild does not count.
    pub fn forget(&mut self, guild: GuildId) {
        if let Phase::Authenticated(authenticated) = &mut self.phase {
            authenticated.forget(guild);
        }
    }

    /// The largest message that is accepted now, in bytes.
    pub fn message_bytes_max(&self) -> usize {
        match self.phase {
            Phase::Unauthenticated { .. } => self.limits.unauthenticated_frame_bytes_max,
            _ => self.limits.frame_bytes_max,
        }
    }

    /// A message is larger than [`Session::message_bytes_max`]. The error names the limit, because
    /// the reason of a close code is a fixed text.
    pub fn too_big(&mut self) -> Vec<Action> {
        let allowed = self.message_bytes_max();
        let detail = match self.phase {
            Phase::Ended => return self.end(CloseCode::TooBig),
            Phase::Unauthenticated { .. } => {
                format!("a message before authentication is at most {allowed} bytes")
            }
            _ => format!("a message is at most {allowed} bytes"),
        };
        let error = ApiError::new(Code::TooLarge, detail);
        self.end_with_error(error, None, CloseCode::TooBig)
    }

    /// Whether the connection reads nothing, because too many deferred frames wait.
    pub fn read_paused(&self) -> bool {
        self.deferred.is_full()
    }

    /// The connection reads again after a pause: a pong may just be on its way.
    pub fn resume_reading(&mut self, now_ms: u64) {
        if let Some(due_ms) = &mut self.pong_due_ms {
            *due_ms = (*due_ms).max(now_ms + self.limits.pong_timeout_ms);
        }
    }

    /// The token of [`Action::Verify`] was verified. It is valid for `expires_in_ms` from now by
    /// the wall clock; a negative number means that it has expired.
    pub fn verified(
        &mut self,
        result: Result<Principal, AuthError>,
        expires_in_ms: i64,
        now_ms: u64,
    ) -> Vec<Action> {
        let token_use = match std::mem::replace(&mut self.phase, Phase::Ended) {
            Phase::Verifying(token_use) => token_use,
            other => {
                self.phase = other;
                return Vec::new();
            }
        };
        let re = match &token_use {
            TokenUse::Auth(AuthRequest { re, .. }) | TokenUse::Refresh { re, .. } => re.clone(),
        };
        let principal = match result {
            Ok(principal) => principal,
            Err(AuthError::Unauthorized(_)) => {
                let error = ApiError::new(Code::Unauthorized, "the token is invalid");
                return self.end_with_error(error, re, CloseCode::Unauthorized);
            }
            Err(AuthError::Unavailable) => {
                let detail = "tokens cannot be verified right now";
                let error = ApiError::new(Code::Unavailable, detail);
                // The connection's current token is valid until its own end.
                if let TokenUse::Refresh { authenticated, .. } = token_use {
                    self.phase = Phase::Authenticated(authenticated);
                    return vec![Action::Error(error, re)];
                }
                return self.end_with_error(error, re, CloseCode::CannotVerify);
            }
        };
        let valid_ms = expires_in_ms.saturating_add_unsigned(self.limits.expiry_leeway_ms);
        let expires_ms = now_ms.saturating_add(u64::try_from(valid_ms).unwrap_or(0));
        let outcome = match token_use {
            TokenUse::Auth(request) => Authenticated::begin(
                principal,
                request,
                expires_ms,
                &self.connection_id,
                &self.access,
                self.limits.subscriptions_max,
            ),
            TokenUse::Refresh {
                mut authenticated,
                re,
            } => authenticated
                .refresh(principal, re, expires_ms, &self.access)
                .map(|actions| (authenticated, actions)),
        };
        match outcome {
            Ok((authenticated, actions)) => {
                self.phase = Phase::Authenticated(authenticated);
                actions
            }
            Err((error, code)) => self.end_with_error(*error, re, code),
        }
    }

    /// A ping or pong came. An expected pong costs nothing; too many others end the connection.
    pub fn control(&mut self, pong: bool, now_ms: u64) -> Vec<Action> {
        let expected = pong && self.pong_due_ms.take().is_some();
        if expected || self.may_receive(now_ms) {
            Vec::new()
        } else {
            self.flooded()
        }
    }

    /// Takes one frame from the client's budget; false if it is exhausted.
    fn may_receive(&mut self, now_ms: u64) -> bool {
        self.frame_budget.take(self.frame_rate, now_ms).is_ok()
    }

    /// When [`Session::tick`] has something to do next.
    pub fn due_ms(&self) -> u64 {
        let phase = match &self.phase {
            Phase::Unauthenticated { until_ms } => *until_ms,
            Phase::Authenticated(authenticated) => authenticated.expires_ms,
            Phase::Verifying(_) | Phase::Ended => u64::MAX,
        };
        phase.min(self.pong_due_ms.unwrap_or(self.ping_due_ms))
    }

    /// Time passed.
    pub fn tick(&mut self, now_ms: u64) -> Vec<Action> {
        match &self.phase {
            Phase::Unauthenticated { until_ms } if now_ms >= *until_ms => {
                let error = ApiError::new(Code::Unauthorized, "no auth frame in time");
                return self.end_with_error(error, None, CloseCode::AuthTimeout);
            }
            Phase::Authenticated(authenticated) if now_ms >= authenticated.expires_ms => {
                let error = ApiError::new(Code::Unauthorized, "the token has expired");
                return self.end_with_error(error, None, CloseCode::Unauthorized);
            }
            _ => {}
        }
        if let Some(due_ms) = self.pong_due_ms {
            if self.read_paused() {
                // The pong may have arrived unread.
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

    fn frame(&mut self, frame: ClientFrame, re: Option<Correlation>) -> Vec<Action> {
        if frame == ClientFrame::Ping {
            return vec![Action::Ack(Ack::Pong, re)];
        }
        match std::mem::replace(&mut self.phase, Phase::Ended) {
            Phase::Unauthenticated { .. } => self.first_frame(frame, re),
            Phase::Authenticated(authenticated) => {
                self.authenticated_frame(authenticated, frame, re)
            }
            // While a token is verified, frames are deferred. After the end, they are ignored.
            phase @ (Phase::Verifying(_) | Phase::Ended) => {
                self.phase = phase;
                Vec::new()
            }
        }
    }

    fn first_frame(&mut self, frame: ClientFrame, re: Option<Correlation>) -> Vec<Action> {
        let ClientFrame::Auth {
            token,
            guilds,
            rooms,
            recover,
        } = frame
        else {
            let error = ApiError::new(Code::Unauthorized, "the first frame is auth");
            return self.end_with_error(error, re, CloseCode::Unauthorized);
        };
        self.phase = Phase::Verifying(TokenUse::Auth(AuthRequest {
            guilds,
            rooms: rooms.map(|rooms| rooms.into_iter().collect()),
            recover: recover.unwrap_or_default(),
            re,
        }));
        vec![Action::Verify(token)]
    }

    fn authenticated_frame(
        &mut self,
        mut authenticated: Authenticated,
        frame: ClientFrame,
        re: Option<Correlation>,
    ) -> Vec<Action> {
        let actions = match frame {
            ClientFrame::Refresh { token } => {
                self.phase = Phase::Verifying(TokenUse::Refresh { authenticated, re });
                return vec![Action::Verify(token)];
            }
            ClientFrame::Subscribe {
                guild_id,
                rooms,
                recover,
            } => authenticated.subscribe(
                guild_id,
                (rooms, recover),
                re,
                &self.access,
                self.limits.subscriptions_max,
            ),
            ClientFrame::Unsubscribe { guild_id } => authenticated.unsubscribe(guild_id, re),
            ClientFrame::Auth { .. } => {
                let detail = "already authenticated; a newer token comes by refresh";
                vec![Action::Error(ApiError::new(Code::BadRequest, detail), re)]
            }
            ClientFrame::Ping => Vec::new(),
        };
        self.phase = Phase::Authenticated(authenticated);
        actions
    }

    fn end(&mut self, code: CloseCode) -> Vec<Action> {
        self.phase = Phase::Ended;
        vec![Action::Close(code)]
    }

    fn end_with_error(
        &mut self,
        error: ApiError,
        re: Option<Correlation>,
        code: CloseCode,
    ) -> Vec<Action> {
        self.phase = Phase::Ended;
        vec![Action::Fail(error, re, code)]
    }

    /// The client has sent more frames than its budget allows.
    fn flooded(&mut self) -> Vec<Action> {
        let error = ApiError::new(Code::RateLimited, "too many frames").retry_after_ms(5_000);
        self.end_with_error(error, None, CloseCode::TooMany)
    }
}

#[cfg(test)]
mod tests;
