//! Why a WebSocket ends, and what its client does then: one table for both sides.

use serde::{Deserialize, Serialize};
use ts_rs::TS;

/// What a client does after a close.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "camelCase")]
pub enum Advice {
    /// Stays away: the same connection would end the same way.
    StayAway,
    /// Comes back, with jitter.
    ComeBack,
    /// Comes back after the `reconnectAfterMs` of the notice, else with jitter.
    ComeBackAfterNotice,
    /// Comes back after the `retryAfterMs` of the last error frame, else with jitter.
    ComeBackAfterError,
    /// Comes back with a new token.
    ComeBackWithNewToken,
}

macro_rules! close_codes {
    ($($(#[$doc:meta])* $name:ident = $code:literal, $text:literal, $advice:ident;)*) => {
        /// The codes that the hub closes with, and those that a client may see from elsewhere.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[repr(u16)]
        pub enum CloseCode {
            $($(#[$doc])* $name = $code,)*
        }

        impl CloseCode {
            /// Every code of the table.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// The number on the wire (RFC 6455, section 7.4).
            pub fn code(self) -> u16 {
                self as u16
            }

            /// The reason that is sent with it: a few words, the same every time.
            pub fn reason(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }

            /// What the client does.
            pub fn advice(self) -> Advice {
                match self { $(Self::$name => Advice::$advice,)* }
            }
        }
    };
}

close_codes! {
    /// Asked for.
    Normal = 1000, "asked for", StayAway;
    /// The hub is draining, or the other side did not answer a ping.
    GoingAway = 1001, "going away", ComeBackAfterNotice;
    /// A protocol error.
    ProtocolError = 1002, "protocol error", StayAway;
    /// A binary message.
    Unsupported = 1003, "text frames only", StayAway;
    /// Text that is not UTF-8.
    InvalidText = 1007, "not UTF-8", StayAway;
    /// Against a rule that has no code of its own.
    Policy = 1008, "policy", StayAway;
    /// A message above the bound.
    TooBig = 1009, "message too big", StayAway;
    /// A fault of the hub.
    InternalError = 1011, "internal error", ComeBack;
    /// The hub restarts.
    Restarting = 1012, "restarting", ComeBackAfterNotice;
    /// Too far behind, or the hub is full.
    Overloaded = 1013, "overloaded", ComeBack;
    /// Not JSON, too deep, or without a type.
    BadMessage = 4400, "bad message", StayAway;
    /// The token does not hold, or has expired.
    Unauthorized = 4401, "unauthorized", ComeBackWithNewToken;
    /// A guild that the token does not allow.
    Forbidden = 4403, "forbidden", StayAway;
    /// No authentication in time.
    AuthTimeout = 4408, "no authentication in time", ComeBack;
    /// Too many frames, subscriptions or connections.
    TooMany = 4429, "too many", ComeBackAfterError;
    /// The token cannot be verified now.
    CannotVerify = 4503, "cannot verify now", ComeBack;
}

/// What a client does after any code, also one that is not in the table (1005, 1006: the network).
pub fn advice(code: u16) -> Advice {
    CloseCode::ALL
        .iter()
        .find(|known| known.code() == code)
        .map_or(Advice::ComeBack, |known| known.advice())
}
