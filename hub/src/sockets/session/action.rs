//! What a session says is to be done.

use proto::GuildId;
use proto::close::CloseCode;
use proto::frame::{
    Ack, AckFrame, Correlation, ErrorFrame, FRAME_VERSION, FrameError, ServerFrame,
};
use proto::problem::Code;

use crate::auth::Principal;
use crate::error::ApiError;
use crate::view::View;

/// What the connection is to do, in order. `Verify` and `Subscribe` take their time.
#[derive(Debug, PartialEq)]
pub enum Action {
    /// Write a frame.
    Send(ServerFrame),
    /// Verify a token, then call [`super::Session::verified`].
    Verify(String),
    /// The principal is known: the connection counts as theirs from here on.
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

/// More was said than the budget allows.
pub(super) fn flooded() -> ApiError {
    ApiError::new(Code::RateLimited, "too many frames").retry_after_ms(5_000)
}

/// Writing an answer.
pub(super) fn ack(ack: Ack, re: Option<Correlation>, ts: u64) -> Action {
    Action::Send(ServerFrame::Ack(AckFrame {
        v: FRAME_VERSION,
        ack,
        re,
        ts,
    }))
}

/// Writing a refusal.
pub(super) fn error(refusal: &ApiError, re: Option<Correlation>, ts: u64) -> Action {
    Action::Send(ServerFrame::Error(error_frame(refusal, re, ts)))
}

/// A refusal as an error frame.
pub fn error_frame(refusal: &ApiError, re: Option<Correlation>, ts: u64) -> ErrorFrame {
    ErrorFrame {
        v: FRAME_VERSION,
        error: FrameError {
            code: refusal.code,
            message: refusal.detail.clone().into_owned(),
            retry_after_ms: refusal.retry_after_ms,
        },
        re,
        connection_id: None,
        ts,
    }
}
