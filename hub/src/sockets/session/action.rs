//! The actions that a session asks its connection to do.

use proto::GuildId;
use proto::close::CloseCode;
use proto::frame::{
    Ack, AckFrame, Correlation, ErrorFrame, FRAME_VERSION, FrameError, ServerFrame,
};
use proto::problem::Code;

use crate::auth::Principal;
use crate::error::ApiError;
use crate::view::View;

/// What the connection does, in order. `Verify` and `Subscribe` are asynchronous.
#[derive(Debug, PartialEq)]
pub enum Action {
    /// Write a frame.
    Send(ServerFrame),
    /// Verify a token, then call [`super::Session::verified`].
    Verify(String),
    /// Count the connection for this principal from here on.
    Authenticated(Principal),
    /// Subscribe to a guild.
    Subscribe(Subscribe),
    /// Unsubscribe from it.
    Unsubscribe(GuildId),
    /// Send a ping.
    Ping,
    /// Write the waiting frames, then close.
    Close(CloseCode),
}

/// A subscription that a client asks for.
#[derive(Debug, PartialEq, Eq)]
pub struct Subscribe {
    /// The client's view of the guild.
    pub view: View,
    /// The position to continue from, as the client wrote it. It may be any text.
    pub recover: Option<String>,
    /// The id that the answer carries.
    pub re: Option<Correlation>,
}

/// The client has sent more frames than its budget allows.
pub(super) fn flooded() -> ApiError {
    ApiError::new(Code::RateLimited, "too many frames").retry_after_ms(5_000)
}

/// Sends an answer.
pub(super) fn send_ack(ack: Ack, re: Option<Correlation>, ts: u64) -> Action {
    Action::Send(ServerFrame::Ack(AckFrame {
        v: FRAME_VERSION,
        ack,
        re,
        ts,
    }))
}

/// Sends an error.
pub(super) fn send_error(error: &ApiError, re: Option<Correlation>, ts: u64) -> Action {
    Action::Send(ServerFrame::Error(error_frame(error, re, ts)))
}

/// An error as a frame.
pub fn error_frame(error: &ApiError, re: Option<Correlation>, ts: u64) -> ErrorFrame {
    ErrorFrame {
        v: FRAME_VERSION,
        error: FrameError {
            code: error.code,
            message: error.detail.clone().into_owned(),
            retry_after_ms: error.retry_after_ms,
        },
        re,
        connection_id: None,
        ts,
    }
}
