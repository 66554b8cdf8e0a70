//! The frames that answer one connection. Each is complete when it is made: it has no number.

use proto::frame::{
    Ack, AckFrame, Correlation, ErrorFrame, FRAME_VERSION, FrameError, Notice, NoticeFrame,
    ServerFrame,
};

use super::frames::{Frame, encode};
use crate::error::ApiError;

/// An answer.
pub(super) fn ack(ack: Ack, re: Option<Correlation>) -> Frame {
    Frame::complete(encode(&ServerFrame::Ack(AckFrame {
        v: FRAME_VERSION,
        ack,
        re,
        ts: launch::clock::now_ms(),
    })))
}

/// An error. One that ends the connection names it, as the log does.
pub(super) fn error(
    error: &ApiError,
    re: Option<Correlation>,
    connection_id: Option<String>,
) -> Frame {
    Frame::complete(encode(&ServerFrame::Error(ErrorFrame {
        v: FRAME_VERSION,
        error: FrameError {
            code: error.code,
            message: error.detail.clone().into_owned(),
            retry_after_ms: error.retry_after_ms,
        },
        re,
        connection_id,
        ts: launch::clock::now_ms(),
    })))
}

/// The client should reconnect after this time.
pub(super) fn draining(reconnect_after_ms: u64) -> Frame {
    Frame::complete(encode(&ServerFrame::Notice(NoticeFrame {
        v: FRAME_VERSION,
        notice: Notice::Draining { reconnect_after_ms },
        ts: launch::clock::now_ms(),
    })))
}
