//! The dispatches of a change, for each session.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::session::Session;
use super::{Gateway, intents};
use crate::render::{self, GuildCreate, Hidden};
use crate::snowflake::Id;
use crate::state::{APPLICATION_ID, Change, DiscordState, Guild, Transition, permissions};

/// Channels that the bot can view, by guild: what obfuscated sessions were shown in full.
pub(crate) type Visible = BTreeMap<Id, BTreeSet<Id>>;

/// A dispatch, and the intent that it needs (0: none).
struct Dispatch {
    intent: u64,
    event: &'static str,
    data: Value,
}

impl Session {
    pub(super) fn hidden(&self, everywhere: bool) -> Hidden {
        if everywhere || self.obfuscated {
            Hidden::Obfuscated
        } else {
            Hidden::Shown
        }
    }

    pub(super) fn guild_create(
        &self,
        state: &DiscordState,
        guild: &Guild,
        hidden: Hidden,
    ) -> Value {
        GuildCreate {
            voice_states: self.intents & intents::GUILD_VOICE_STATES != 0,
            all_members: self.intents & intents::GUILD_PRESENCES != 0,
            hidden,
        }
        .render(state, guild)
    }
}

/// The channels of every guild that the bot can view.
pub(crate) fn visible(state: &DiscordState) -> Visible {
    state
        .guilds
        .values()
        .map(|guild| (guild.id, visible_in(guild)))
        .collect()
}

fn visible_in(guild: &Guild) -> BTreeSet<Id> {
    guild
        .channels
        .values()
        .filter(|channel| permissions::views(guild, channel, APPLICATION_ID))
        .map(|channel| channel.id)
        .collect()
}

impl Gateway {
    /// Sends what happened to every session of the guild's shard, each by its intents.
    pub(crate) fn publish(
        &mut self,
        state: &DiscordState,
        visible: &mut Visible,
        made: &[Transition],
    ) {
        for transition in made {
            let Some(guild) = state.guilds.get(&transition.guild) else {
                continue;
            };
            let outage = matches!(transition.change, Change::Unavailable | Change::Available);
            if guild.unavailable && !outage {
                continue;
            }
            let mut shown = None;
            let mut obfuscated = None;
            for id in self.sessions_of(guild.id) {
                let Some(session) = self.sessions.get(&id) else {
                    continue;
                };
                let intents = session.intents;
                if transition.change == Change::Available {
                    if intents & intents::GUILDS != 0 {
                        let hidden = session.hidden(self.settings.sim_obfuscate);
                        let data = session.guild_create(state, guild, hidden);
                        self.dispatch(&id, "GUILD_CREATE", &data);
                    }
                    continue;
                }
                let hidden = session.hidden(self.settings.sim_obfuscate);
                let slot = match hidden {
                    Hidden::Shown => &mut shown,
                    Hidden::Obfuscated => &mut obfuscated,
                };
                let dispatches =
                    slot.get_or_insert_with(|| dispatches(state, guild, transition, hidden));
                for Dispatch {
                    intent,
                    event,
                    data,
                } in dispatches.iter()
                {
                    if *intent == 0 || intents & intent != 0 {
                        self.dispatch(&id, event, data);
                    }
                }
            }
        }
        self.unveil(state, visible, made);
    }

    /// The ids of the sessions whose shard serves this guild.
    fn sessions_of(&self, guild: Id) -> Vec<String> {
        let sessions = self.sessions.values();
        let serving = sessions.filter(|session| session.serves(guild));
        serving.map(|session| session.id.clone()).collect()
    }

    /// Sends CHANNEL_UPDATE for channels that came into the bot's view, to the sessions that see others
    /// obfuscated. Of a channel that goes out of view Discord promises no event: it is sent with the
    /// channel's next change.
    fn unveil(&mut self, state: &DiscordState, visible: &mut Visible, made: &[Transition]) {
        let touched: BTreeSet<Id> = made
            .iter()
            .filter(|transition| match &transition.change {
                Change::Voice { user, .. } | Change::MemberUpdated(user) => *user == APPLICATION_ID,
                Change::RoleUpdated(_)
                | Change::RoleDeleted(_)
                | Change::ChannelCreated(_)
                | Change::ChannelUpdated(_)
                | Change::ChannelDeleted(_) => true,
                _ => false,
            })
            .map(|transition| transition.guild)
            .collect();
        for guild in touched.iter().filter_map(|id| state.guilds.get(id)) {
            let now = visible_in(guild);
            let before = visible.insert(guild.id, now.clone()).unwrap_or_default();
            let published: BTreeSet<Id> = made
                .iter()
                .filter_map(|transition| match &transition.change {
                    Change::ChannelCreated(channel) | Change::ChannelUpdated(channel) => {
                        Some(channel.id)
                    }
                    _ => None,
                })
                .collect();
            let regained: Vec<&Id> = now
                .difference(&before)
                .filter(|channel| !published.contains(channel))
                .collect();
            if regained.is_empty() || guild.unavailable {
                continue;
            }
            for id in self.sessions_of(guild.id) {
                let is_obfuscated = self.sessions.get(&id).is_some_and(|session| {
                    session.intents & intents::GUILDS != 0
                        && session.hidden(self.settings.sim_obfuscate) == Hidden::Obfuscated
                });
                if !is_obfuscated {
                    continue;
                }
                for channel in regained
                    .iter()
                    .filter_map(|channel| guild.channels.get(*channel))
                {
                    let data = render::seen_channel(guild, channel, Hidden::Obfuscated);
                    self.dispatch(&id, "CHANNEL_UPDATE", &data);
                }
            }
        }
    }
}

fn dispatches(
    state: &DiscordState,
    guild: &Guild,
    transition: &Transition,
    hidden: Hidden,
) -> Vec<Dispatch> {
    let by = |intent, event, data| {
        vec![Dispatch {
            intent,
            event,
            data,
        }]
    };
    match &transition.change {
        Change::Voice {
            user,
            before,
            after,
        } => by(
            intents::GUILD_VOICE_STATES,
            "VOICE_STATE_UPDATE",
            render::full_voice_state(state, guild, *user, after.as_ref(), before.as_ref()),
        ),
        Change::ChannelCreated(channel) => by(
            intents::GUILDS,
            "CHANNEL_CREATE",
            render::seen_channel(guild, channel, hidden),
        ),
        Change::ChannelUpdated(channel) => by(
            intents::GUILDS,
            "CHANNEL_UPDATE",
            render::seen_channel(guild, channel, hidden),
        ),
        Change::ChannelDeleted(channel) => by(
            intents::GUILDS,
            "CHANNEL_DELETE",
            render::seen_channel(guild, channel, hidden),
        ),
        Change::ChannelStatus { channel, status } => by(
            intents::GUILDS,
            "VOICE_CHANNEL_STATUS_UPDATE",
            json!({"id": channel, "guild_id": guild.id, "status": status}),
        ),
        Change::ChannelStart { channel, since_s } => by(
            intents::GUILDS,
            "VOICE_CHANNEL_START_TIME_UPDATE",
            json!({"id": channel, "guild_id": guild.id, "voice_start_time": since_s}),
        ),
        Change::RoleCreated(role) => by(
            intents::GUILDS,
            "GUILD_ROLE_CREATE",
            json!({"guild_id": guild.id, "role": render::role(role)}),
        ),
        Change::RoleUpdated(role) => by(
            intents::GUILDS,
            "GUILD_ROLE_UPDATE",
            json!({"guild_id": guild.id, "role": render::role(role)}),
        ),
        Change::RoleDeleted(role) => by(
            intents::GUILDS,
            "GUILD_ROLE_DELETE",
            json!({"guild_id": guild.id, "role_id": role}),
        ),
        Change::GuildUpdated => by(intents::GUILDS, "GUILD_UPDATE", render::guild(guild)),
        Change::MemberAdded(user) | Change::MemberUpdated(user) => {
            let Some(mut member) = render::member(state, guild, *user) else {
                return Vec::new();
            };
            member["guild_id"] = json!(guild.id);
            let added = matches!(transition.change, Change::MemberAdded(_));
            let event = if added {
                "GUILD_MEMBER_ADD"
            } else {
                "GUILD_MEMBER_UPDATE"
            };
            // A bot gets its own changes with any intents (`gateway.mdx`, "Caveats").
            let own = !added && *user == APPLICATION_ID;
            by(if own { 0 } else { intents::GUILD_MEMBERS }, event, member)
        }
        Change::Unavailable => by(
            intents::GUILDS,
            "GUILD_DELETE",
            json!({"id": guild.id, "unavailable": true}),
        ),
        // By session, since GUILD_CREATE depends on its choices.
        Change::Available => Vec::new(),
    }
}
