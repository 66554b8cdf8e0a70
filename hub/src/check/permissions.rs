//! What the bot may do, as Discord computes it ("Permissions", "Permission Overwrites" and
//! "Implicit Permissions" in its documentation). Pure.

use crate::discord::{Channel, Guild, Member, Overwrite};

/// Everything, whatever the roles say.
const ADMINISTRATOR: u64 = 1 << 3;
/// To create, change and delete channels.
pub(super) const MANAGE_CHANNELS: u64 = 1 << 4;
/// To invite people to a channel.
pub(super) const CREATE_INSTANT_INVITE: u64 = 1;
/// To read the guild's audit log.
pub(super) const VIEW_AUDIT_LOG: u64 = 1 << 7;
/// To see a channel.
pub(super) const VIEW_CHANNEL: u64 = 1 << 10;
/// To join a voice channel. Discord takes every other permission in it from a bot that lacks this.
pub(super) const CONNECT: u64 = 1 << 20;

/// What the hub's features need, by Discord's own names, and what is missing without it.
pub(super) const NEEDED: [(u64, &str, &str); 3] = [
    (
        VIEW_CHANNEL,
        "View Channels",
        "rooms are shown without it only where a channel itself allows it",
    ),
    (
        MANAGE_CHANNELS,
        "Manage Channels",
        "nobody can create or end a room without it",
    ),
    (
        CONNECT,
        "Connect",
        "without it Discord lets the bot manage no voice channel",
    ),
];

/// What a member may do in the guild, before any channel's overwrites.
pub(super) fn in_guild(guild: &Guild, member: &Member, user: &str) -> u64 {
    if guild.owner_id.to_string() == user {
        return u64::MAX;
    }
    let everyone = guild.id.to_string();
    let granted = guild
        .roles
        .iter()
        .filter(|role| role.id == everyone || member.roles.contains(&role.id))
        .fold(0, |granted, role| granted | bits(&role.permissions));
    if granted & ADMINISTRATOR != 0 {
        u64::MAX
    } else {
        granted
    }
}

/// What a member may do in a channel.
pub(super) fn in_channel(
    in_guild: u64,
    guild: &Guild,
    channel: &Channel,
    member: &Member,
    user: &str,
) -> u64 {
    if in_guild == u64::MAX {
        return in_guild;
    }
    let everyone = guild.id.to_string();
    let of = |applies: &dyn Fn(&Overwrite) -> bool| {
        channel
            .permission_overwrites
            .iter()
            .filter(|overwrite| applies(overwrite))
            .fold((0, 0), |(allow, deny), overwrite| {
                (allow | bits(&overwrite.allow), deny | bits(&overwrite.deny))
            })
    };
    let steps = [
        of(&|overwrite| overwrite.id == everyone),
        of(&|overwrite| overwrite.id != everyone && member.roles.contains(&overwrite.id)),
        of(&|overwrite| overwrite.id == user),
    ];
    steps
        .into_iter()
        .fold(in_guild, |allowed, (allow, deny)| (allowed & !deny) | allow)
}

/// A permission set as Discord writes it. What cannot be read allows nothing.
fn bits(text: &str) -> u64 {
    text.parse().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn guild(everyone: u64, bot: u64) -> Guild {
        serde_json::from_value(json!({"id": "1", "owner_id": "9", "roles": [
            {"id": "1", "permissions": everyone.to_string()},
            {"id": "5", "permissions": bot.to_string()},
            {"id": "6", "permissions": ADMINISTRATOR.to_string()},
        ]}))
        .unwrap()
    }

    fn member(roles: &[&str]) -> Member {
        serde_json::from_value(json!({ "roles": roles })).unwrap()
    }

    #[test]
    fn roles_add_up_and_owners_and_administrators_may_everything() {
        let guild = guild(VIEW_CHANNEL, MANAGE_CHANNELS);
        assert_eq!(in_guild(&guild, &member(&[]), "2"), VIEW_CHANNEL);
        assert_eq!(
            in_guild(&guild, &member(&["5"]), "2"),
            VIEW_CHANNEL | MANAGE_CHANNELS
        );
        assert_eq!(in_guild(&guild, &member(&["6"]), "2"), u64::MAX);
        assert_eq!(in_guild(&guild, &member(&[]), "9"), u64::MAX);
    }

    #[test]
    fn overwrites_of_everyone_roles_and_the_member_apply_in_this_order() {
        let guild = guild(VIEW_CHANNEL | CONNECT, 0);
        let (bot, user) = (member(&["5"]), "2");
        let base = in_guild(&guild, &bot, user);
        let overwrite = |id: &str, allow: u64, deny: u64| json!({"id": id, "type": 0, "allow": allow.to_string(), "deny": deny.to_string()});
        for (overwrites, allowed) in [
            (vec![], VIEW_CHANNEL | CONNECT),
            (vec![overwrite("1", 0, CONNECT)], VIEW_CHANNEL),
            (
                vec![overwrite("5", CONNECT, 0), overwrite("1", 0, CONNECT)],
                VIEW_CHANNEL | CONNECT,
            ),
            (
                vec![overwrite("2", 0, CONNECT), overwrite("5", CONNECT, 0)],
                VIEW_CHANNEL,
            ),
            (vec![overwrite("7", 0, CONNECT)], VIEW_CHANNEL | CONNECT),
        ] {
            let channel = json!({"id": "3", "type": 2, "permission_overwrites": overwrites});
            let channel: Channel = serde_json::from_value(channel).unwrap();
            assert_eq!(in_channel(base, &guild, &channel, &bot, user), allowed);
        }
    }
}
