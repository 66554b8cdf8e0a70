//! The frames of a browser's WebSocket: JSON, one frame a text message.
//!
//! Server frames have no field for what a viewer may not know: a hidden room cannot get into one by
//! accident.

use serde::{Deserialize, Deserializer, Serialize};
use std::collections::BTreeMap;
use ts_rs::TS;

use crate::event::{Member, VoiceFlags};
use crate::gateway::GatewayPayload;
use crate::problem::Code;
use crate::{ChannelId, GuildId, UserId};

/// The version in every server frame.
pub const FRAME_VERSION: u8 = 1;

/// The longest correlation id of a client frame, in bytes.
pub const CORRELATION_BYTES_MAX: usize = 64;

/// What a client says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(
    tag = "type",
    rename_all = "camelCase",
    rename_all_fields = "camelCase"
)]
#[ts(optional_fields)]
pub enum ClientFrame {
    /// The first frame, within 10 s.
    Auth {
        /// A JWT.
        token: String,
        /// Which guilds to subscribe; all that the token allows and the hub serves when absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        guilds: Option<Vec<GuildId>>,
        /// Only these rooms.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        rooms: Option<Vec<ChannelId>>,
        /// Where to continue, a guild; a `null` is as good as nothing.
        #[serde(
            default,
            skip_serializing_if = "Option::is_none",
            deserialize_with = "without_nulls"
        )]
        #[ts(type = "Record<string, string>")]
        recover: Option<BTreeMap<GuildId, String>>,
    },
    /// A newer token of the same subject.
    Refresh {
        /// A JWT.
        token: String,
    },
    /// One more guild, or another choice of its rooms.
    Subscribe {
        /// The guild.
        guild_id: GuildId,
        /// Only these rooms.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        rooms: Option<Vec<ChannelId>>,
        /// Where to continue.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        recover: Option<String>,
    },
    /// One guild less.
    Unsubscribe {
        /// The guild.
        guild_id: GuildId,
    },
    /// Answered by a `pong`.
    Ping,
}

/// Clients write `pos ?? null`, and mean none.
fn without_nulls<'de, D: Deserializer<'de>>(
    from: D,
) -> Result<Option<BTreeMap<GuildId, String>>, D::Error> {
    let named: Option<BTreeMap<GuildId, Option<String>>> = Deserialize::deserialize(from)?;
    Ok(named.map(|named| {
        let given = named.into_iter();
        given
            .filter_map(|(guild, pos)| Some((guild, pos?)))
            .collect()
    }))
}

/// What a client frame may carry as `id`, and its answer as `re`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(untagged)]
pub enum Correlation {
    /// A whole number, 0 to 2^64 - 1.
    Number(#[ts(type = "number")] u64),
    /// A text of at most [`CORRELATION_BYTES_MAX`] bytes.
    Text(String),
}

/// What the hub says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(tag = "type", rename_all = "camelCase")]
pub enum ServerFrame {
    /// An answer.
    Ack(AckFrame),
    /// Something happened.
    Event(EventFrame),
    /// Something will happen.
    Notice(NoticeFrame),
    /// Something was refused.
    Error(ErrorFrame),
}

/// An answer to a client frame.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct AckFrame {
    /// [`FRAME_VERSION`].
    pub v: u8,
    /// What is answered.
    #[serde(flatten)]
    pub ack: Ack,
    /// The client frame's `id`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[ts(optional)]
    pub re: Option<Correlation>,
    /// When this frame was made, in ms since the Unix epoch.
    #[ts(type = "number")]
    pub ts: u64,
}

/// The answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(tag = "event", rename_all_fields = "camelCase")]
pub enum Ack {
    /// The token holds.
    #[serde(rename = "auth.ok")]
    AuthOk {
        /// The first of `guilds`; absent where `guilds` is empty.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[ts(optional)]
        guild_id: Option<GuildId>,
        /// The guilds that are subscribed now, perhaps none; a `subscribed` follows for each.
        guilds: Vec<GuildId>,
        /// The token's subject.
        sub: String,
        /// Names this connection in the hub's log.
        connection_id: String,
        /// When the connection ends without a `refresh`, in ms since the Unix epoch.
        #[ts(type = "number")]
        expires_at: u64,
    },
    /// The newer token holds.
    #[serde(rename = "auth.refreshed")]
    AuthRefreshed {
        /// When the connection ends without another, in ms since the Unix epoch.
        #[ts(type = "number")]
        expires_at: u64,
        /// All guilds that the newer token allows and the hub serves. Those that are not
        /// subscribed yet are subscribed by the client.
        guilds: Vec<GuildId>,
    },
    /// A subscription begins.
    #[serde(rename = "subscribed")]
    Subscribed {
        /// The guild.
        guild_id: GuildId,
        /// Whether the missed events follow (and no snapshot).
        recovered: bool,
        /// Where this client continues from.
        pos: String,
    },
    /// A subscription ended.
    #[serde(rename = "unsubscribed")]
    Unsubscribed {
        /// The guild.
        guild_id: GuildId,
    },
    /// The answer to a `ping`.
    #[serde(rename = "pong")]
    Pong,
}

/// Something happened in a guild.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct EventFrame {
    /// [`FRAME_VERSION`].
    pub v: u8,
    /// What happened.
    #[serde(flatten)]
    pub event: ViewEvent,
    /// Where.
    pub guild_id: GuildId,
    /// The place in the guild's log; absent on unnumbered events.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[ts(optional)]
    pub pos: Option<String>,
    /// When the worker read it; when this frame was made for snapshots and unnumbered events.
    /// In ms since the Unix epoch.
    #[ts(type = "number")]
    pub ts: u64,
    /// Counts the numbered frames of this subscription, without gaps; a snapshot starts it at 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[ts(optional, type = "number")]
    pub n: Option<u64>,
}

/// An event in a view.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(tag = "event", content = "payload")]
pub enum ViewEvent {
    /// A room can be seen that could not.
    #[serde(rename = "room.created")]
    RoomCreated(RoomPayload),
    /// A room changed.
    #[serde(rename = "room.updated")]
    RoomUpdated(RoomPayload),
    /// A room is gone, and with it everybody in it.
    #[serde(rename = "room.deleted")]
    RoomDeleted(RoomPayload),
    /// Somebody came into a room.
    #[serde(rename = "voice.joined")]
    VoiceJoined(VoicePayload),
    /// Somebody left a room.
    #[serde(rename = "voice.left")]
    VoiceLeft(VoicePayload),
    /// Somebody's marks changed.
    #[serde(rename = "voice.state_changed")]
    VoiceStateChanged(VoicePayload),
    /// All of it: replaces what was known.
    #[serde(rename = "guild.snapshot")]
    Snapshot(SnapshotPayload),
    /// How fresh all this is. Not numbered.
    #[serde(rename = "gateway.state")]
    GatewayState(GatewayPayload),
}

/// A room.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "camelCase")]
#[ts(optional_fields)]
pub struct RoomPayload {
    /// Its guild.
    pub guild_id: GuildId,
    /// Its channel.
    pub channel_id: ChannelId,
    /// Its name; empty while only a member's voice state made it known.
    pub name: String,
    /// Its category.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent_id: Option<ChannelId>,
    /// How many may be in it; 0: no limit.
    pub user_limit: u32,
    /// The link that opens it in Discord: `https://discord.com/channels/<guild>/<channel>`.
    pub join_url: String,
}

/// The link that opens a channel in Discord.
pub fn join_url(guild: GuildId, channel: ChannelId) -> String {
    format!("https://discord.com/channels/{guild}/{channel}")
}

/// A room with who is in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct SnapshotRoom {
    /// The room.
    #[serde(flatten)]
    pub room: RoomPayload,
    /// Roomwire made it, and Discord has not echoed it yet (only in REST answers).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    #[ts(optional, as = "Option<bool>")]
    pub opening: bool,
    /// Who is in it.
    pub members: Vec<VoicePayload>,
}

/// A user in a room.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct VoicePayload {
    /// The guild.
    pub guild_id: GuildId,
    /// The room; of `voice.left`: the one that was left.
    pub channel_id: ChannelId,
    /// The Discord user.
    pub user_id: UserId,
    /// Name and picture, where known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[ts(optional)]
    pub member: Option<Member>,
    /// Muted, deafened, on camera, …
    #[serde(flatten)]
    pub flags: VoiceFlags,
    /// `voice.left` of a move: where to, if the viewer may see that room.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[ts(optional)]
    pub moved_to: Option<ChannelId>,
    /// `voice.joined` of a move: where from, if the viewer may see that room.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[ts(optional)]
    pub moved_from: Option<ChannelId>,
}

/// A guild as one viewer sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "camelCase")]
#[ts(optional_fields)]
pub struct SnapshotPayload {
    /// The guild.
    pub guild_id: GuildId,
    /// Why a snapshot and not events, in a fixed word such as `subscribed`.
    pub reason: String,
    /// The rooms, by channel id.
    pub rooms: Vec<SnapshotRoom>,
    /// How fresh it is.
    pub gateway: GatewayPayload,
    /// Of a snapshot in parts: which this is, from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub part: Option<u32>,
    /// Of a snapshot in parts: how many there are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub of: Option<u32>,
}

/// Something will happen to this connection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct NoticeFrame {
    /// [`FRAME_VERSION`].
    pub v: u8,
    /// What.
    #[serde(flatten)]
    pub notice: Notice,
    /// When this frame was made, in ms since the Unix epoch.
    #[ts(type = "number")]
    pub ts: u64,
}

/// The notices.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(
    tag = "event",
    rename_all = "camelCase",
    rename_all_fields = "camelCase"
)]
pub enum Notice {
    /// The hub will close this connection.
    Draining {
        /// When to come back, in ms from now.
        #[ts(type = "number")]
        reconnect_after_ms: u64,
    },
}

/// Something was refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct ErrorFrame {
    /// [`FRAME_VERSION`].
    pub v: u8,
    /// Why.
    pub error: FrameError,
    /// The client frame's `id`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[ts(optional)]
    pub re: Option<Correlation>,
    /// Of an error that ends the connection: its name in the hub's log. A client that was refused has
    /// no `auth.ok` that names it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[ts(optional)]
    pub connection_id: Option<String>,
    /// When this frame was made, in ms since the Unix epoch.
    #[ts(type = "number")]
    pub ts: u64,
}

/// Why something was refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct FrameError {
    /// As in REST's problems.
    pub code: Code,
    /// What it is this time.
    pub message: String,
    /// Where waiting helps: how long, in ms.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[ts(optional, type = "number")]
    pub retry_after_ms: Option<u64>,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_null_among_the_positions_is_none_and_anything_else_but_a_text_is_refused() {
        let read = |recover| {
            let frame = json!({"type": "auth", "token": "t", "recover": recover});
            match serde_json::from_value(frame)? {
                ClientFrame::Auth { recover, .. } => Ok(recover),
                other => panic!("{other:?}"),
            }
        };
        let ids = |recover: serde_json::Value| -> Result<Vec<String>, serde_json::Error> {
            let recover = read(recover)?.unwrap_or_default();
            Ok(recover
                .iter()
                .map(|(id, pos)| format!("{id}={pos}"))
                .collect())
        };
        assert_eq!(ids(json!(null)).unwrap(), [""; 0]);
        assert_eq!(ids(json!({"1": null})).unwrap(), [""; 0]);
        assert_eq!(
            ids(json!({"1": null, "2": "", "3": "p"})).unwrap(),
            ["2=", "3=p"]
        );
        for bad in [json!({"1": 5}), json!({"x": null}), json!([null])] {
            assert!(ids(bad).is_err());
        }
    }
}
