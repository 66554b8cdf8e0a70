//! One followed guild: its roster, whether it is there, what of it has to be asked for, and the mark
//! of its newest event.

use std::collections::BTreeMap;

use proto::GuildId;
use proto::chain::{Absence, KnownGuild, Mark, Reached};
use proto::event::{Event, Fact};

use crate::dispatch::Subject;
use crate::roster::{Roster, RosterSetting, diff};

/// A followed guild.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Followed {
    pub(super) roster: Roster,
    pub(super) presence: Presence,
    /// What has to be asked for, each with the ticket of the last time it became illegible.
    pub(super) gaps: BTreeMap<Subject, u64>,
    /// The hub refused an event of this guild, and no snapshot has been taken since.
    pub(super) refused: bool,
    /// The hub said that it does not serve this guild, and nothing since that it may: nothing of it
    /// is told.
    pub(super) unserved: bool,
    /// The session goes on although nothing is known of this guild, since the hub does not serve it;
    /// until something tells it whole.
    pub(super) passed_over: bool,
    /// How many answers in a row led to new questions.
    pub(super) unsettled: u32,
    /// Of the newest event that was made of it, or that the hub had when this worker began.
    mark: Mark,
    /// While the dispatches that the hub knows already are replayed: the roster as the hub has it.
    told: Option<Roster>,
}

/// Whether a guild is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Presence {
    Absent(Absence),
    Present,
}

impl Followed {
    /// A guild of which nothing is known.
    pub(super) fn new(guild: GuildId, setting: RosterSetting) -> Self {
        Self {
            roster: Roster::new(guild, setting),
            presence: Presence::Absent(Absence::Awaited),
            gaps: BTreeMap::new(),
            refused: false,
            unserved: false,
            passed_over: false,
            unsettled: 0,
            mark: Mark::default(),
            told: None,
        }
    }

    /// Takes the guild as the hub has it. Behind `resumed`, a dispatch up to the guild's mark is in
    /// it already: those are applied silently.
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
            self.told = (known.mark.reached > resumed).then(|| self.roster.clone());
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

    /// Whether what is read of it is known to the hub already.
    pub(super) fn is_silent(&self) -> bool {
        self.told.is_some()
    }

    /// The roster as it was, or will be, told by the events that were made.
    pub(super) fn told(&self) -> &Roster {
        self.told.as_ref().unwrap_or(&self.roster)
    }

    /// Something beyond this point is read next, or the replay is over: from now on it is told.
    /// Returns what the replay has shown that the hub does not know. What is being asked for stays
    /// as the hub has it until the answer is there.
    pub(super) fn speak(&mut self) -> Vec<Fact> {
        let Some(told) = self.told.take() else {
            return Vec::new();
        };
        for subject in self.gaps.keys() {
            self.roster.keep(&told, *subject);
        }
        diff(&told, &self.roster)
    }

    /// The replay ends before it was complete: what it showed is forgotten.
    pub(super) fn break_off(&mut self) {
        if let Some(told) = self.told.take() {
            self.roster = told;
        }
    }
}
