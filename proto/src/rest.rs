//! REST: what is asked for and what is answered.

use serde::{Deserialize, Serialize};
use ts_rs::TS;

use crate::frame::SnapshotRoom;
use crate::gateway::GatewayPayload;
use crate::{ChannelId, GuildId};

/// `POST /api/create-room`. What is absent is chosen by the hub.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, TS)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[ts(optional_fields)]
pub struct CreateRoom {
    /// 1 to 100 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// A category.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent_id: Option<ChannelId>,
    /// 0 (no limit) to 99; 4 when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_limit: Option<u32>,
    /// The primary guild when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub guild_id: Option<GuildId>,
}

/// 201 of `POST /api/create-room`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "camelCase")]
#[ts(optional_fields)]
pub struct CreatedRoom {
    /// The channel that Discord made.
    pub channel_id: ChannelId,
    /// Its name, as Discord took it.
    pub name: String,
    /// Its guild.
    pub guild_id: GuildId,
    /// Its category.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent_id: Option<ChannelId>,
    /// How many may be in it; 0: no limit.
    pub user_limit: u32,
    /// The link that opens it in Discord: `https://discord.com/channels/<guild>/<channel>`.
    pub join_url: String,
}

/// `POST /api/rooms/{channelId}/invites`. What is absent is Discord's default.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, TS)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[ts(optional_fields)]
pub struct CreateInvite {
    /// After how many seconds it ends, up to 604,800 (a week); 0: never; 86,400 (a day) when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_age_seconds: Option<u32>,
    /// How often it may be used, up to 100; 0 (no limit) when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_uses: Option<u32>,
}

/// 201 of `POST /api/rooms/{channelId}/invites`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "camelCase")]
#[ts(optional_fields)]
pub struct Invite {
    /// The link: it leads into the channel, and makes who is not in the guild a member of it.
    pub url: String,
    /// Discord's code.
    pub code: String,
    /// When it ends, in ms since the Unix epoch; absent: never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[ts(type = "number")]
    pub expires_at: Option<u64>,
}

/// 200 of `DELETE /api/end-room/{channelId}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, TS)]
pub struct EndedRoom {
    /// Always true.
    pub ok: bool,
}

/// 200 of `GET /api/rooms` and `GET /api/rooms/{channelId}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct RoomList {
    /// The guild.
    pub guild_id: GuildId,
    /// What this principal may see of it.
    pub rooms: Vec<SnapshotRoom>,
    /// Where in the guild's log this was read.
    pub pos: String,
    /// How fresh it is.
    pub gateway: GatewayPayload,
}

/// `GET /console.json`: what the console asks before it asks anything else.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct ConsoleConfig {
    /// How a person signs in.
    pub sign_in: SignIn,
    /// The guilds that the hub serves, the primary one first.
    pub guild_ids: Vec<GuildId>,
}

/// How a person signs in to the console.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(
    tag = "kind",
    rename_all = "camelCase",
    rename_all_fields = "camelCase"
)]
pub enum SignIn {
    /// As one of a few people, by a development issuer.
    Demo {
        /// Where the issuer is.
        issuer_url: String,
    },
    /// With a token from the team's own issuer.
    Token,
}
