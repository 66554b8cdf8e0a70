//! What could not be read: the worker asks Discord's REST and publishes the answer. If REST cannot
//! answer, or too much is open, the shard identifies to read the guild again.

use proto::event::{Fact, VoiceFlags};
use proto::{ChannelId, GuildId, UserId};

use super::tracked_guild::Presence;
use super::{Feed, Tally};
use crate::dispatch::{Channel, Dispatch, Redaction, Subject, VoiceState};
use crate::outbox::Origin;
use crate::roster::{Change, Roster};

/// How often an answer may lead to the next question before the shard identifies instead.
const UNSETTLED_MAX: u32 = 10;

/// A question that has to be put to Discord's REST.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Question {
    /// In which guild.
    pub guild: GuildId,
    /// About what.
    pub subject: Subject,
    /// Which time it was asked; an answer with an older ticket is dropped.
    pub ticket: u64,
}

/// What Discord's REST answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finding {
    /// The channel.
    Channel(ChannelFinding),
    /// The user's voice state. `None`: not in voice.
    Voice(Option<VoiceState>),
    /// No usable answer, repeatedly: only GUILD_CREATE can help.
    Unknown,
}

/// What REST says of a channel.
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
    /// A payload could not be read at all: every guild of the shard is read again by identifying. Until
    /// then everything is redacted.
    pub fn on_unreadable(&mut self, now_ms: u64) -> Tally {
        let mut tally = Tally::default();
        // Without a session nothing is published, and the identify that follows reads everything.
        if self.stream.session().is_some() {
            self.redact(None, Redaction::Everything, now_ms, &mut tally);
        }
        self.reopen(None, Subject::Guild);
        self.pay_debts(now_ms);
        tally
    }

    /// Whether the shard has to identify because a guild can be read in no other way.
    pub fn wants_identify(&self) -> bool {
        self.identify_wanted
    }

    /// The next question for Discord's REST.
    pub fn question(&self) -> Option<Question> {
        // While a guild replays, the dispatches that still come may answer.
        let mut asking = self
            .guilds
            .iter()
            .filter(|(_, guild)| !guild.is_replaying());
        asking.find_map(|(guild, tracked)| {
            let (subject, ticket) = tracked
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

    /// Whether the question is still open, and nothing newer was read meanwhile.
    pub fn is_open(&self, question: Question) -> bool {
        self.guilds
            .get(&question.guild)
            .and_then(|tracked| tracked.gaps.get(&question.subject))
            == Some(&question.ticket)
    }

    /// Takes the answer to a question, unless something newer was read meanwhile.
    pub fn answer(&mut self, question: Question, finding: Finding, now_ms: u64) -> Tally {
        let mut tally = Tally::default();
        if !self.is_open(question) {
            return tally;
        }
        let Some(tracked) = self.guilds.get_mut(&question.guild) else {
            return tally;
        };
        tracked.gaps.remove(&question.subject);
        let mut change = Change::default();
        match (question.subject, finding) {
            (_, Finding::Channel(channel)) => {
                let awaited = tracked
                    .gaps
                    .keys()
                    .any(|gap| matches!(gap, Subject::Voice(_)));
                change.facts = take_channel(&mut tracked.roster, channel, awaited);
            }
            (Subject::Voice(user), Finding::Voice(state)) => {
                let state = state.unwrap_or_else(|| nowhere(user));
                let channel = state.channel_id;
                change = tracked
                    .roster
                    .apply(Dispatch::VoiceChanged(question.guild, state));
                if !change.gaps.is_empty() {
                    // In an unknown room: ask for the room first, then for the user again.
                    change.gaps.extend(channel.map(Subject::Channel));
                    tracked.unsettled += 1;
                }
            }
            (_, Finding::Voice(_) | Finding::Unknown) => change.gaps.push(Subject::Guild),
        }
        if change.gaps.is_empty() && tracked.gaps.is_empty() {
            tracked.unsettled = 0;
        } else if tracked.unsettled > UNSETTLED_MAX {
            // Discord's answers contradict each other again and again.
            tracked.unsettled = 0;
            change.gaps = vec![Subject::Guild];
        }
        self.publish(question.guild, change, Origin::Answer, now_ms, &mut tally);
        self.pay_debts(now_ms);
        tally
    }

    /// [`Feed::open_gap`] for this guild, or for every guild if none is named.
    pub(super) fn reopen(&mut self, guild: Option<GuildId>, subject: Subject) {
        for guild in self.named(guild) {
            self.open_gap(guild, subject);
        }
    }

    /// It is no longer known who may view these channels, so @everyone may not: a join there must not
    /// be shown to a viewer who may lack the right. Of every guild if none is named.
    pub(super) fn redact(
        &mut self,
        guild: Option<GuildId>,
        redaction: Redaction,
        now_ms: u64,
        tally: &mut Tally,
    ) {
        if redaction == Redaction::Nothing {
            return;
        }
        for guild in self.named(guild) {
            let Some(tracked) = self.guilds.get_mut(&guild) else {
                continue;
            };
            let mut change = Change::facts(tracked.roster.redact(redaction));
            // An answer that is on its way may be older, so these questions get new tickets.
            let asked = tracked.gaps.keys().copied();
            change.gaps = asked
                .filter(|gap| matches!(gap, Subject::Channel(id) if redaction.has_channel(*id)))
                .collect();
            self.publish(guild, change, Origin::Dispatch, now_ms, tally);
        }
    }

    fn named(&self, guild: Option<GuildId>) -> Vec<GuildId> {
        match guild {
            Some(guild) => vec![guild],
            None => self.guild_ids().collect(),
        }
    }

    pub(super) fn open_gap(&mut self, guild: GuildId, subject: Subject) {
        let Some(tracked) = self.guilds.get_mut(&guild) else {
            return;
        };
        // An absent guild's whole state comes anyway, unless that was what could not be read.
        if tracked.presence != Presence::Present && subject != Subject::Guild {
            return;
        }
        self.last_ticket += 1;
        tracked.gaps.insert(subject, self.last_ticket);
        if tracked.gaps.len() > self.setting.gaps_max {
            tracked.gaps.clear();
            tracked.gaps.insert(Subject::Guild, self.last_ticket);
        }
        if tracked.gaps.contains_key(&Subject::Guild) {
            self.identify_wanted = true;
        }
    }
}

/// `awaited`: a user is in an unknown room, which may be this one.
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
