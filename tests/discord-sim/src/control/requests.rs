//! The bodies that the control side takes.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Deserializer, de};
use serde_json::Value;

use crate::gateway::resumes::{Instead, ResumeFault};
use crate::snowflake::Id;
use crate::state::{Overwrite, OverwriteKind, VoiceChange};

/// The longest outage or silence, seconds.
const SECONDS_MAX: f64 = 86_400.0;

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct VoiceRequest {
    pub(super) guild_id: Id,
    pub(super) user_id: Id,
    /// Absent keeps, null leaves.
    #[serde(default, deserialize_with = "present")]
    channel_id: Option<Option<Id>>,
    mute: Option<bool>,
    deaf: Option<bool>,
    self_mute: Option<bool>,
    self_deaf: Option<bool>,
    self_video: Option<bool>,
    self_stream: Option<bool>,
    suppress: Option<bool>,
}

impl VoiceRequest {
    pub(super) fn change(&self) -> VoiceChange {
        VoiceChange {
            channel: self.channel_id,
            mute: self.mute,
            deaf: self.deaf,
            self_mute: self.self_mute,
            self_deaf: self.self_deaf,
            self_video: self.self_video,
            self_stream: self.self_stream,
            suppress: self.suppress,
        }
    }
}

/// Null counts as present: `Some(None)`.
fn present<'de, T, D>(deserializer: D) -> Result<Option<Option<T>>, D::Error>
where
    T: Deserialize<'de>,
    D: Deserializer<'de>,
{
    Option::deserialize(deserializer).map(Some)
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct ChannelRequest {
    pub(super) guild_id: Id,
    pub(super) name: String,
    #[serde(rename = "type", default = "voice_kind")]
    pub(super) kind: u64,
    #[serde(default)]
    pub(super) parent_id: Option<Id>,
    #[serde(default)]
    pub(super) user_limit: u32,
    #[serde(default)]
    pub(super) overwrites: Vec<OverwriteRequest>,
}

fn voice_kind() -> u64 {
    2
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct ChannelChange {
    pub(super) name: Option<String>,
    #[serde(default, deserialize_with = "present")]
    pub(super) parent_id: Option<Option<Id>>,
    pub(super) user_limit: Option<u32>,
    pub(super) overwrites: Option<Vec<OverwriteRequest>>,
    #[serde(default, deserialize_with = "present")]
    pub(super) status: Option<Option<String>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct OverwriteRequest {
    id: Id,
    /// 0 or `role`, 1 or `member`.
    #[serde(rename = "type", default)]
    kind: Value,
    #[serde(default)]
    allow: Bits,
    #[serde(default)]
    deny: Bits,
}

pub(super) fn overwrites(
    requests: Vec<OverwriteRequest>,
) -> Result<BTreeMap<Id, Overwrite>, String> {
    if requests.len() > 100 {
        return Err("overwrites: at most 100".to_owned());
    }
    requests
        .into_iter()
        .map(|request| {
            let kind = match &request.kind {
                Value::Null => OverwriteKind::Role,
                value if *value == 0 || value == "role" => OverwriteKind::Role,
                value if *value == 1 || value == "member" => OverwriteKind::Member,
                _ => return Err("overwrites.type: 0 (role) or 1 (member)".to_owned()),
            };
            let overwrite = Overwrite {
                id: request.id,
                kind,
                allow: request.allow.0,
                deny: request.deny.0,
            };
            Ok((request.id, overwrite))
        })
        .collect()
}

/// Permission bits: a decimal string as Discord writes them, or a number.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Bits(pub(super) u64);

impl<'de> Deserialize<'de> for Bits {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(deserializer)?;
        value
            .as_u64()
            .or_else(|| value.as_str().and_then(|text| text.parse().ok()))
            .map(Self)
            .ok_or_else(|| de::Error::custom("permission bits as a decimal string or a number"))
    }
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct GuildChange {
    pub(super) name: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct RoleRequest {
    pub(super) guild_id: Id,
    pub(super) role_id: Id,
    pub(super) permissions: Option<Bits>,
    pub(super) name: Option<String>,
    #[serde(default)]
    pub(super) delete: bool,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct MemberRequest {
    pub(super) guild_id: Id,
    pub(super) user_id: Id,
    pub(super) roles: Vec<Id>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct GatewayRequest {
    pub(super) action: String,
    pub(super) code: Option<u16>,
    pub(super) resumable: Option<bool>,
    seconds: Option<f64>,
    pub(super) guild_id: Option<Id>,
    pub(super) shard: Option<u32>,
    pub(super) session: Option<String>,
    pub(super) event: Option<String>,
    pub(super) data: Option<Value>,
    answer: Option<String>,
    #[serde(default)]
    replay: bool,
    times: Option<u32>,
}

impl GatewayRequest {
    /// A close code that may be sent.
    pub(super) fn close_code(&self) -> Result<u16, String> {
        let code = self.code.ok_or("code: a close code")?;
        if matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999) {
            Ok(code)
        } else {
            Err("code: a close code that may be sent".to_owned())
        }
    }

    /// How RESUMEs are answered from now on; none: as Discord does.
    pub(super) fn resumes(&self) -> Result<Option<ResumeFault>, String> {
        let instead = match self.answer.as_deref() {
            Some("resumed") => return Ok(None),
            Some("close") => Instead::Close(self.close_code()?),
            Some("drop") => Instead::Drop,
            Some("nothing") => Instead::Nothing,
            Some("silence") => Instead::Silence(self.time()?),
            Some("reconnect") => Instead::Reconnect,
            Some("invalidate") => Instead::Invalid,
            _ => {
                return Err(
                    "answer: one of close, drop, nothing, silence, reconnect, invalidate, resumed"
                        .to_owned(),
                );
            }
        };
        if self.times == Some(0) {
            return Err("times: at least 1".to_owned());
        }
        Ok(Some(ResumeFault {
            instead,
            replay: self.replay,
            times: self.times,
        }))
    }

    pub(super) fn time(&self) -> Result<Duration, String> {
        self.seconds
            .filter(|seconds| (0.0..=SECONDS_MAX).contains(seconds))
            .map(Duration::from_secs_f64)
            .ok_or_else(|| format!("seconds: 0 to {SECONDS_MAX}"))
    }
}
