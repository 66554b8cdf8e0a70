//! One followed guild: its roster, whether Discord has it, its open questions, and the mark of its
//! newest event.

use std::collections::BTreeMap;

use proto::GuildId;
use proto::chain::{Absence, KnownGuild, Mark, Reached};
use proto::event::{Event, Fact};

use crate::dispatch::Subject;
use crate::roster::{Roster, RosterSetting, diff};

/// A followed guild.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct TrackedGuild {
    pub(super) roster: Roster,
    pub(super) presence: Presence,
    pub(super) service: Service,
    phase: Phase,
    /// Open questions, each with the ticket of the last time its subject became unreadable.
    pub(super) gaps: BTreeMap<Subject, u64>,
    /// How many answers in a row led to new questions.
    pub(super) unsettled: u32,
    /// Of the newest event of this guild, or of the newest one that the hub had at the claim.
    mark: Mark,
}

/// Whether Discord has the guild for this bot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Presence {
    Absent(Absence),
    Present,
}

/// Whether the hub takes events of a guild.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Service {
    Served,
    /// The hub said so, and nothing since that may have changed it: no event of the guild is sent.
    NotServed,
}

/// How the roster relates to the dispatches of the session.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Phase {
    /// The roster follows the session, and each difference is published.
    Current,
    /// The hub already has what is replayed: the roster follows it without events.
    Replaying { hub_roster: Roster },
    /// The session was resumed without the guild's state, since the hub did not serve it. Ends with
    /// the next dispatch that gives the whole state.
    Skipped,
}

impl TrackedGuild {
    /// A guild of which nothing is known.
    pub(super) fn new(guild: GuildId, setting: RosterSetting) -> Self {
        Self {
            roster: Roster::new(guild, setting),
            presence: Presence::Absent(Absence::Awaited),
            service: Service::Served,
            phase: Phase::Current,
            gaps: BTreeMap::new(),
            unsettled: 0,
            mark: Mark::default(),
        }
    }

    /// Takes the guild as the hub has it. A session that is resumed behind `resumed` replays what the
    /// hub has up to the guild's mark.
    pub(super) fn restore(
        &mut self,
        known: KnownGuild,
        setting: RosterSetting,
        resumed: Option<Reached>,
    ) {
        self.mark = known.mark;
        self.roster = Roster::restore(setting, known.roster);
        if let Some(resumed) = resumed {
            self.presence = known.absent.map_or(Presence::Present, Presence::Absent);
            if known.mark.reached > resumed {
                let hub_roster = self.roster.clone();
                self.phase = Phase::Replaying { hub_roster };
            }
        }
    }

    /// The next event.
    pub(super) fn event(&mut self, fact: Fact, read: Reached, now_ms: u64) -> Event {
        let fresh = Mark {
            reached: read,
            n: 0,
        };
        self.mark = if fresh.reached > self.mark.reached {
            fresh
        } else {
            Mark {
                n: self.mark.n.saturating_add(1),
                ..self.mark
            }
        };
        let Mark { reached, n } = self.mark;
        let guild = fact.guild_id();
        Event {
            id: format!("{}:{}:{n}:{guild}", reached.session, reached.sequence),
            fact,
            ts: now_ms,
            at: Some(self.mark),
        }
    }

    /// The mark of its newest event.
    pub(super) fn mark(&self) -> Mark {
        self.mark
    }

    /// The hub has a newer event than this worker knew.
    pub(super) fn raise(&mut self, mark: Mark) {
        self.mark = self.mark.max(mark);
    }

    /// The session is resumed although the guild's state is unknown: the hub does not serve it.
    pub(super) fn skip(&mut self) {
        (self.phase, self.service) = (Phase::Skipped, Service::NotServed);
    }

    /// The guild's whole state is here, or the new session sends it. Returns whether it was skipped.
    pub(super) fn end_skip(&mut self) -> bool {
        let skipped = self.is_skipped();
        if skipped {
            self.phase = Phase::Current;
        }
        skipped
    }

    /// Whether the session was resumed without the guild's state.
    pub(super) fn is_skipped(&self) -> bool {
        self.phase == Phase::Skipped
    }

    /// Whether the hub already has what is replayed of the guild now.
    pub(super) fn is_replaying(&self) -> bool {
        matches!(self.phase, Phase::Replaying { .. })
    }

    /// The roster that the published events lead to.
    pub(super) fn published_roster(&self) -> &Roster {
        match &self.phase {
            Phase::Replaying { hub_roster } => hub_roster,
            Phase::Current | Phase::Skipped => &self.roster,
        }
    }

    /// The replay has passed the mark, or is over: from now on events are published. Returns the
    /// facts that the hub lacks. A subject with an open question stays as the hub has it until the
    /// answer comes.
    pub(super) fn finish_replay(&mut self) -> Vec<Fact> {
        let Some(hub_roster) = self.take_hub_roster() else {
            return Vec::new();
        };
        for subject in self.gaps.keys() {
            self.roster.keep(&hub_roster, *subject);
        }
        diff(&hub_roster, &self.roster)
    }

    /// The replay ends before it was complete: the roster is the hub's again.
    pub(super) fn abort_replay(&mut self) {
        if let Some(hub_roster) = self.take_hub_roster() {
            self.roster = hub_roster;
        }
    }

    fn take_hub_roster(&mut self) -> Option<Roster> {
        match std::mem::replace(&mut self.phase, Phase::Current) {
            Phase::Replaying { hub_roster } => Some(hub_roster),
            other => {
                self.phase = other;
                None
            }
        }
    }
}
