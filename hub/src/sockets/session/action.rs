//! The actions that a session asks its connection to do.

use proto::GuildId;
use proto::close::CloseCode;
use proto::frame::{Ack, Correlation};

use crate::auth::Principal;
use crate::error::ApiError;
use crate::view::View;

/// What the connection does, in order. `Verify` and `Subscribe` are asynchronous.
#[derive(Debug, PartialEq)]
pub enum Action {
    /// Send an answer.
    Ack(Ack, Option<Correlation>),
    /// Send an error.
    Error(ApiError, Option<Correlation>),
    /// Send an error that names the connection, and close.
    Fail(ApiError, Option<Correlation>, CloseCode),
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
