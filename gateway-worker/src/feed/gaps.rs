//! What could not be read: it is asked of Discord's REST, and told when the answer is there; what
//! can not be asked, or is too much, is read anew by identifying.

use proto::event::{Fact, VoiceFlags};
use proto::{ChannelId, GuildId, UserId};

use super::followed::Presence;
use super::{Feed, Tally};
use crate::dispatch::{Channel, Dispatch, Hides, Subject, VoiceState};
use crate::outbox::Origin;
use crate::roster::{Change, Roster};

/// How often an answer may lead to the next question before the guild is read anew instead.
const UNSETTLED_MAX: u32 = 10;

/// A question that has to be put to Discord's REST.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Question {
    /// In which guild.
    pub guild: GuildId,
    /// About what.
    pub subject: Subject,
    /// Which time it was asked; an answer to an older one is no longer wanted.
    pub ticket: u64,
}

/// What Discord's REST answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finding {
    /// The channel.
    Channel(ChannelFinding),
    /// The user's voice state. `None`: not in voice.
    Voice(Option<VoiceState>),
    /// Nothing that could be used, repeatedly: only GUILD_CREATE can help.
    Unknown,
}

/// What is known of a channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChannelFinding {
    /// It is this.
    There(Channel),
    /// It is gone.
    Gone(ChannelId),
    /// The bot may not view it.
    Hidden(ChannelId),
}

impl Feed {
    /// Something was lost that can not even be named: every guild of the shard is read anew, and
    /// until then nobody may view anything.
    pub fn lose(&mut self, now_ms: u64) -> Tally {
        let mut tally = Tally::default();
        // Without a session nothing is told, and the identify that follows tells all.
        if self.stream.session().is_some() {
            self.hide(None, Hides::Everything, now_ms, &mut tally);
        }
        self.reopen(None, Subject::Guild);
        self.settle(now_ms);
        tally
    }

    /// Whether the shard has to identify anew because a guild can not be known otherwise.
    pub fn wants_identify(&self) -> bool {
        self.identify_wanted
    }

    /// The next question for Discord's REST.
    pub fn question(&self) -> Option<Question> {
        // While a guild's replay is silent, the dispatches that still come may answer.
        let mut asking = self.guilds.iter().filter(|(_, guild)| !guild.is_silent());
        asking.find_map(|(guild, followed)| {
            let (subject, ticket) = followed
                .gaps
                .iter()
                .find(|(subject, _)| **subject != Subject::Guild)?;
            Some(Question {
                guild: *guild,
                subject: *subject,
                ticket: *ticket,
            })
        })
    }

    /// Whether this is still the question, and nothing newer was read meanwhile.
    pub fn is_open(&self, question: Question) -> bool {
        self.guilds
            .get(&question.guild)
            .and_then(|followed| followed.gaps.get(&question.subject))
            == Some(&question.ticket)
    }

    /// Takes the answer to a question, unless something newer was read meanwhile.
    pub fn answer(&mut self, question: Question, finding: Finding, now_ms: u64) -> Tally {
        let mut tally = Tally::default();
        if !self.is_open(question) {
            return tally;
        }
        let Some(followed) = self.guilds.get_mut(&question.guild) else {
            return tally;
        };
        followed.gaps.remove(&question.subject);
        let mut change = Change::default();
        match (question.subject, finding) {
            (_, Finding::Channel(channel)) => {
                let awaited = followed
                    .gaps
                    .keys()
                    .any(|gap| matches!(gap, Subject::Voice(_)));
                change.facts = take_channel(&mut followed.roster, channel, awaited);
            }
            (Subject::Voice(user), Finding::Voice(state)) => {
                let state = state.unwrap_or_else(|| nowhere(user));
                let channel = state.channel_id;
                change = followed
                    .roster
                    .apply(Dispatch::VoiceChanged(question.guild, state));
                if !change.gaps.is_empty() {
                    // In a room that is not known: first that, then the user again.
                    change.gaps.extend(channel.map(Subject::Channel));
                    followed.unsettled += 1;
                }
            }
            (_, Finding::Voice(_) | Finding::Unknown) => change.gaps.push(Subject::Guild),
        }
        if change.gaps.is_empty() && followed.gaps.is_empty() {
            followed.unsettled = 0;
        } else if followed.unsettled > UNSETTLED_MAX {
            // Discord's answers go on contradicting each other.
            followed.unsettled = 0;
            change.gaps = vec![Subject::Guild];
        }
        self.publish(question.guild, change, Origin::Answer, now_ms, &mut tally);
        self.settle(now_ms);
        tally
    }

    /// As [`Feed::open_gap`], for every guild if none is named.
    pub(super) fn reopen(&mut self, guild: Option<GuildId>, subject: Subject) {
        for guild in self.named(guild) {
            self.open_gap(guild, subject);
        }
    }

    /// Who may view what is not known any more, so nobody may: whoever joins there must not be told
    /// to those who perhaps may not know. Of every guild if none is named.
    pub(super) fn hide(
        &mut self,
        guild: Option<GuildId>,
        what: Hides,
        now_ms: u64,
        tally: &mut Tally,
    ) {
        if what == Hides::Nothing {
            return;
        }
        for guild in self.named(guild) {
            let Some(followed) = self.guilds.get_mut(&guild) else {
                continue;
            };
            let mut change = Change::facts(followed.roster.hide(what));
            // An answer that is on its way may be older: it is asked for again.
            let asked = followed.gaps.keys().copied();
            change.gaps = asked
                .filter(|gap| matches!(gap, Subject::Channel(id) if what.has_channel(*id)))
                .collect();
            self.publish(guild, change, Origin::Dispatch, now_ms, tally);
        }
    }

    fn named(&self, guild: Option<GuildId>) -> Vec<GuildId> {
        match guild {
            Some(guild) => vec![guild],
            None => self.followed().collect(),
        }
    }

    pub(super) fn open_gap(&mut self, guild: GuildId, subject: Subject) {
        let Some(followed) = self.guilds.get_mut(&guild) else {
            return;
        };
        // A guild that is awaited will be told whole anyway; but not if that is what was illegible.
        if followed.presence != Presence::Present && subject != Subject::Guild {
            return;
        }
        self.last_ticket += 1;
        followed.gaps.insert(subject, self.last_ticket);
        if followed.gaps.len() > self.setting.gaps_max {
            followed.gaps.clear();
            followed.gaps.insert(Subject::Guild, self.last_ticket);
        }
        if followed.gaps.contains_key(&Subject::Guild) {
            self.identify_wanted = true;
        }
    }
}

/// `awaited`: somebody is in a room that is not known, which may be this.
fn take_channel(roster: &mut Roster, finding: ChannelFinding, awaited: bool) -> Vec<Fact> {
    match finding {
        ChannelFinding::There(channel) => roster.put_channel(channel),
        ChannelFinding::Gone(id) => roster.delete_channel(id),
        ChannelFinding::Hidden(id) if awaited && !roster.is_channel(id) => {
            roster.put_channel(Channel::hidden(id))
        }
        ChannelFinding::Hidden(id) => roster.hide_channel(id),
    }
}

fn nowhere(user_id: UserId) -> VoiceState {
    VoiceState {
        user_id,
        channel_id: None,
        flags: VoiceFlags::default(),
        profile: None,
    }
}
