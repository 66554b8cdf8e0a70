//! Invites to channels (`resources/channel.mdx`, "Create Channel Invite"; `resources/invite.mdx`).

use std::collections::VecDeque;

use serde_json::{Value, json};

use super::Call;
use super::audit::{self, Action, Entry};
use super::channels::read_one;
use super::errors::{Problem, Reply, Served};
use super::form::Form;
use crate::snowflake::{Id, hash_of};
use crate::state::{APPLICATION_ID, permissions as may};
use crate::timestamp::iso8601;
use crate::{Sim, render};

/// How long an invite lives unless the request says, in seconds.
const MAX_AGE_DEFAULT_S: u32 = 86_400;
/// The longest life, in seconds.
const MAX_AGE_S_MAX: u32 = 604_800;
/// The most uses.
const MAX_USES_MAX: u32 = 100;
/// "Maximum number of invites reached (1000)".
const INVITES_FULL: u32 = 30_016;
/// How many invites a guild has at most.
const INVITES_MAX: usize = 1_000;

#[derive(Debug)]
struct Invite {
    code: String,
    guild: Id,
    channel: Id,
    max_age_s: u32,
    max_uses: u32,
    temporary: bool,
    created_ms: u64,
}

/// The invites that have not ended, oldest first.
#[derive(Debug, Default)]
pub(crate) struct Invites {
    invites: VecDeque<Invite>,
    made: u64,
}

impl Invite {
    fn ends_ms(&self) -> Option<u64> {
        (self.max_age_s > 0).then(|| self.created_ms + u64::from(self.max_age_s) * 1_000)
    }
}

impl Invites {
    fn drop_ended(&mut self, now_ms: u64) {
        self.invites
            .retain(|invite| invite.ends_ms().is_none_or(|ends_ms| ends_ms > now_ms));
    }

    pub(crate) fn describe(&self) -> Value {
        let invites = self.invites.iter().map(|invite| {
            json!({
                "code": invite.code,
                "guildId": invite.guild,
                "channelId": invite.channel,
                "maxAgeSeconds": invite.max_age_s,
                "maxUses": invite.max_uses,
            })
        });
        invites.collect()
    }
}

/// Creates an invite; without `unique`, a similar one that exists is returned.
pub(super) fn create(sim: &Sim, call: &Call) -> Served {
    let channel_id = call.id(0)?;
    let reason = audit::reason(&call.headers)?;
    let fields = call.object()?;
    let mut world = sim.world();
    let entry_id = world.state.next_id(call.now_ms);
    let guild = world.state.guild_of(channel_id)?;
    let channel = read_one(guild, channel_id, may::CREATE_INSTANT_INVITE)?;
    let mut form = Form::new(&fields);
    let max_age_s = form.number("max_age", 0, MAX_AGE_S_MAX);
    let max_uses = form.number("max_uses", 0, MAX_USES_MAX);
    let (temporary, unique) = (form.flag("temporary"), form.flag("unique"));
    form.finish(())?;
    let mut rest = sim.rest();
    rest.invites.drop_ended(call.now_ms);
    let (max_age_s, max_uses) = (
        max_age_s.unwrap_or(MAX_AGE_DEFAULT_S),
        max_uses.unwrap_or(0),
    );
    let temporary = temporary.unwrap_or(false);
    let is_similar = |invite: &&Invite| {
        invite.channel == channel_id
            && (invite.max_age_s, invite.max_uses, invite.temporary)
                == (max_age_s, max_uses, temporary)
    };
    let similar = rest.invites.invites.iter().find(is_similar);
    let render = |invite: &Invite| {
        json!({
            "type": 0,
            "code": invite.code,
            "guild": {
                "id": guild.id,
                "name": guild.name,
                "splash": null,
                "banner": null,
                "description": null,
                "icon": null,
                "features": [],
                "verification_level": 0,
                "vanity_url_code": null,
                "nsfw_level": 0,
                "nsfw": false,
                "premium_subscription_count": 0,
            },
            "guild_id": guild.id,
            "channel": {"id": channel.id, "name": channel.name, "type": channel.kind.number()},
            "inviter": world.state.users.get(&APPLICATION_ID).map(render::user),
            "expires_at": invite.ends_ms().map(iso8601),
            "uses": 0,
            "max_uses": invite.max_uses,
            "max_age": invite.max_age_s,
            "temporary": invite.temporary,
            "created_at": iso8601(invite.created_ms),
        })
    };
    if let Some(similar) = similar.filter(|_| unique != Some(true)) {
        return Reply::ok(render(similar));
    }
    let of_guild = rest.invites.invites.iter();
    if of_guild.filter(|invite| invite.guild == guild.id).count() >= INVITES_MAX {
        return Err(Problem::bad(
            INVITES_FULL,
            "Maximum number of invites reached (1000)",
        ));
    }
    rest.invites.made += 1;
    let code = hash_of(&[channel_id.get(), rest.invites.made]);
    let invite = Invite {
        code: code.chars().take(8).collect(),
        guild: guild.id,
        channel: channel_id,
        max_age_s,
        max_uses,
        temporary,
        created_ms: call.now_ms,
    };
    let reply = Reply::ok(render(&invite));
    rest.invites.invites.push_back(invite);
    rest.audit.note(Entry {
        id: entry_id,
        action: Action::InviteCreate,
        guild: guild.id,
        target: channel_id,
        reason,
        changes: vec![
            json!({"key": "max_age", "new_value": max_age_s}),
            json!({"key": "max_uses", "new_value": max_uses}),
        ],
    });
    reply
}
