//! What is heard on a gateway connection, before anybody makes something of it.

use std::borrow::Cow;
use std::future::poll_fn;
use std::task::Poll;

use futures_util::StreamExt as _;
use serde::Deserialize;
use serde_json::value::RawValue;
use twilight_gateway::error::ReceiveMessageError;
use twilight_gateway::{Message, Shard, ShardState};

use super::Gate;

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

/// What comes of listening to a shard.
pub(super) enum Heard {
    Said(Option<Result<Message, ReceiveMessageError>>),
    /// The connection ended without a word.
    Cut,
}

/// The shard's next word. Twilight connects anew by itself, and at once, when a connection ends
/// without a Close; whoever is to have a say in that has to notice it here.
pub(super) async fn listen(shard: &mut Shard<Gate>) -> Heard {
    poll_fn(|context| {
        let connected = !is_disconnected(shard);
        match shard.poll_next_unpin(context) {
            Poll::Ready(said) => Poll::Ready(Heard::Said(said)),
            Poll::Pending if connected && is_disconnected(shard) => Poll::Ready(Heard::Cut),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}

pub(super) fn is_disconnected(shard: &Shard<Gate>) -> bool {
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
