//! The world at the start: its guilds, channels, roles and people.

use super::{
    Channel, ChannelKind, DiscordState, Guild, Member, Overwrite, OverwriteKind, Role, User,
    permissions as may,
};
use crate::snowflake::{Id, hash_of, scramble};

/// The application, and its bot user.
pub const APPLICATION_ID: Id = Id::new(300_000_000_000_000_001);
/// Who owns every guild, and the application.
pub const OWNER_ID: Id = Id::new(200_000_000_000_000_001);

/// Offset of the category from its guild's id.
pub const CATEGORY: u64 = 9;
/// Offset of the first voice channel.
pub const LOUNGE: u64 = 10;
/// Offset of the second voice channel.
pub const STUDY_HALL: u64 = 11;
/// Offset of the voice channel that @everyone may not view.
pub const STAFF_ROOM: u64 = 12;
/// Offset of the text channel.
pub const TEXT_CHANNEL: u64 = 13;
/// Offset of the staff's role.
const STAFF_ROLE: u64 = 19;
/// Offset of the bot's role.
const BOT_ROLE: u64 = 20;

/// The people of the first guild, in the order of their ids.
const PEOPLE: [(&str, &str); 12] = [
    ("ada", "Ada"),
    ("grace.h", "Grace"),
    ("linus_t", "Linus"),
    ("margaret", "Margaret"),
    ("dennis.r", "Dennis"),
    ("katherine_j", "Katherine"),
    ("alan", "Alan"),
    ("hedy", "Hedy"),
    ("edsger", "Edsger"),
    ("radia", "Radia"),
    ("ken.t", "Ken"),
    ("barbara_l", "Barbara"),
];

/// The id of guild `index`, from 0: the first is 100000000000000001, the others are 2^22 apart.
pub fn guild_id(index: u32) -> Id {
    Id::new(100_000_000_000_000_001 + (u64::from(index) << 22))
}

/// What stands `offset` after the guild's id: its seeded channels and roles.
pub fn nth(guild: Id, offset: u64) -> Id {
    Id::new(guild.get() + offset)
}

/// The ids of the seeded people.
pub fn people() -> impl Iterator<Item = Id> {
    (0..PEOPLE.len() as u64).map(|index| Id::new(OWNER_ID.get() + index))
}

pub(super) fn furnish(state: &mut DiscordState, guilds: u32, now_ms: u64) {
    state.users.insert(
        APPLICATION_ID,
        User {
            id: APPLICATION_ID,
            username: "roomwire".to_owned(),
            global_name: None,
            avatar: Some(hash_of(&[APPLICATION_ID.get()])),
            bot: true,
        },
    );
    for (id, (username, shown)) in people().zip(PEOPLE) {
        state.users.insert(
            id,
            User {
                id,
                username: username.to_owned(),
                global_name: Some(shown.to_owned()),
                avatar: Some(hash_of(&[id.get()])),
                bot: false,
            },
        );
    }
    for index in 0..guilds {
        let guild = guild(index, now_ms);
        state.guilds.insert(guild.id, guild);
    }
}

fn guild(index: u32, now_ms: u64) -> Guild {
    let id = guild_id(index);
    let role = |offset, name: &str, permissions, position, color, bot_id| Role {
        id: nth(id, offset),
        name: name.to_owned(),
        permissions,
        position,
        color,
        bot_id,
    };
    let roles = [
        role(0, "@everyone", may::EVERYONE_DEFAULT, 0, 0, None),
        role(
            STAFF_ROLE,
            "Staff",
            may::EVERYONE_DEFAULT | may::MOVE_MEMBERS,
            1,
            0x2E_CC_71,
            None,
        ),
        role(
            BOT_ROLE,
            "Roomwire",
            may::BOT_DEFAULT,
            2,
            0,
            Some(APPLICATION_ID),
        ),
    ];
    let channel = |offset, kind, name: &str, position, parent: Option<u64>| Channel {
        position,
        parent_id: parent.map(|offset| nth(id, offset)),
        ..Channel::new(nth(id, offset), kind, name)
    };
    let mut staff_room = channel(
        STAFF_ROOM,
        ChannelKind::Voice,
        "staff-room",
        2,
        Some(CATEGORY),
    );
    for (role, allow, deny) in [
        (id, 0, may::VIEW_CHANNEL),
        (nth(id, STAFF_ROLE), may::VIEW_CHANNEL | may::CONNECT, 0),
    ] {
        let overwrite = Overwrite {
            id: role,
            kind: OverwriteKind::Role,
            allow,
            deny,
        };
        staff_room.overwrites.insert(role, overwrite);
    }
    let channels = [
        channel(CATEGORY, ChannelKind::Category, "Voice rooms", 0, None),
        channel(LOUNGE, ChannelKind::Voice, "Lounge", 0, Some(CATEGORY)),
        channel(
            STUDY_HALL,
            ChannelKind::Voice,
            "Study hall",
            1,
            Some(CATEGORY),
        ),
        staff_room,
        channel(TEXT_CHANNEL, ChannelKind::Text, "general", 0, None),
    ];
    let joined_ms = now_ms.saturating_sub(90 * 86_400_000);
    let member = |roles: Vec<Id>| Member {
        nick: None,
        roles,
        joined_ms,
    };
    let mut members: std::collections::BTreeMap<_, _> = people()
        .enumerate()
        .map(|(place, user)| {
            // The owner and every fourth of the others are staff.
            let staff = place % 4 == 0;
            (
                user,
                member(if staff {
                    vec![nth(id, STAFF_ROLE)]
                } else {
                    Vec::new()
                }),
            )
        })
        .collect();
    members.insert(APPLICATION_ID, member(vec![nth(id, BOT_ROLE)]));
    Guild {
        id,
        name: if index == 0 {
            "Roomwire demo".to_owned()
        } else {
            format!("Guild {}", index + 1)
        },
        owner_id: OWNER_ID,
        roles: roles.into_iter().map(|role| (role.id, role)).collect(),
        channels: channels
            .into_iter()
            .map(|channel| (channel.id, channel))
            .collect(),
        members,
        voice: std::collections::BTreeMap::new(),
        unavailable: false,
    }
}

/// A new user, with a plausible name that depends on the id alone.
pub(super) fn stranger(id: Id) -> User {
    const FIRST: [&str; 16] = [
        "Robin", "Sam", "Noor", "Kai", "Yuki", "Ines", "Milo", "Zoe", "Amir", "Lena", "Tomás",
        "Ravi", "Nia", "Otto", "Mei", "Jules",
    ];
    let first = FIRST[usize::try_from(scramble(&[id.get()], 7) % 16).unwrap_or(0)];
    User {
        id,
        username: format!("user_{id}"),
        global_name: Some(format!("{first} {:03}", id.get() % 1_000)),
        // Every third keeps Discord's own picture.
        avatar: (!id.get().is_multiple_of(3)).then(|| hash_of(&[id.get()])),
        bot: false,
    }
}
