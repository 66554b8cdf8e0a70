//! What comes over a gateway connection: messages, payloads, opcodes and close codes.

use std::borrow::Cow;
use std::future::poll_fn;
use std::task::Poll;

use futures_util::StreamExt as _;
use serde::Deserialize;
use serde_json::value::RawValue;
use twilight_gateway::error::ReceiveMessageError;
use twilight_gateway::{Message, Shard, ShardState};

use super::IdentifyQueue;

/// Gateway opcodes (Discord's documentation, "Gateway Opcodes").
pub(super) const DISPATCH: u8 = 0;
pub(super) const HEARTBEAT: u8 = 1;
pub(super) const RECONNECT: u8 = 7;
pub(super) const INVALID_SESSION: u8 = 9;
pub(super) const HELLO: u8 = 10;

/// One gateway payload.
#[derive(Deserialize)]
pub(super) struct Payload<'a> {
    pub(super) op: u8,
    #[serde(default)]
    pub(super) s: Option<u64>,
    #[serde(borrow, default)]
    pub(super) t: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    pub(super) d: Option<&'a RawValue>,
}

/// What a shard's connection received.
pub(super) enum Received {
    Message(Option<Result<Message, ReceiveMessageError>>),
    /// The connection ended without a Close.
    Cut,
}

/// Waits for the next message. When a connection ends without a Close, twilight connects again by
/// itself and at once; [`Received::Cut`] lets the caller act before that.
pub(super) async fn receive(shard: &mut Shard<IdentifyQueue>) -> Received {
    poll_fn(|context| {
        let connected = !is_disconnected(shard);
        match shard.poll_next_unpin(context) {
            Poll::Ready(message) => Poll::Ready(Received::Message(message)),
            Poll::Pending if connected && is_disconnected(shard) => Poll::Ready(Received::Cut),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}

pub(super) fn is_disconnected(shard: &Shard<IdentifyQueue>) -> bool {
    matches!(shard.state(), ShardState::Disconnected { .. })
}

/// The label of a close code: one of a fixed set.
pub(super) fn label(code: u16) -> &'static str {
    match code {
        1000 => "1000",
        1001 => "1001",
        1006 => "1006",
        4000 => "4000",
        4001 => "4001",
        4002 => "4002",
        4003 => "4003",
        4004 => "4004",
        4005 => "4005",
        4007 => "4007",
        4008 => "4008",
        4009 => "4009",
        4010..=4014 => "4010-4014",
        _ => "other",
    }
}
