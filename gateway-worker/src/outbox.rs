//! The bounded queue toward the hub: ordered, and when it is full it drops events instead of growing.
//!
//! Pure. Its entries are [`Group`]s: the events of one guild from one dispatch, one answer, or one
//! snapshot. A group is never split over deliveries, so that the hub's state of a guild never stands
//! inside a dispatch.
//!
//! A guild whose events were dropped is *in debt*: it owes one snapshot. The debt has the guild's
//! newest mark at that moment, and only a snapshot with a later mark pays it, once it is delivered.
//! Until that snapshot is queued, further events of the guild are not: the snapshot will contain them.
//! The snapshot is queued at the tail and replaces what that guild still had waiting. It overtakes
//! nothing, and later events follow it.
//!
//! [`Outbox::checkpoint`] is the point up to which the hub has everything with the delivery in flight.

mod debt;
mod group;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use proto::GuildId;
use proto::chain::{Mark, Reached};

use launch::mutation::{Rule, disabled};

pub use debt::{Debt, FailureReason};
pub use group::{Group, Origin};

/// What a delivery takes besides its events, in bytes, generously.
const ENVELOPE_BYTES: usize = 65_536;

/// The bounds of an outbox and of one batch taken from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Limits {
    /// Events that wait, those in flight included.
    pub events_max: usize,
    /// Their JSON, in bytes.
    pub bytes_max: usize,
    /// Events of one delivery; a single larger group is still sent, alone.
    pub batch_events_max: usize,
    /// Their JSON, in bytes; a single larger group is still sent, alone.
    pub batch_bytes_max: usize,
    /// Events of one group: the hub does not take more.
    pub group_events_max: usize,
    /// The largest delivery that the hub takes, in bytes.
    pub delivery_bytes_max: usize,
}

/// Events on their way to the hub.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Outbox {
    limits: Limits,
    groups: VecDeque<Group>,
    events: usize,
    bytes: usize,
    /// How many of the first groups are being delivered; they do not change until answered.
    in_flight: usize,
    /// How many of the first groups were refused together, because of one of them.
    suspects: usize,
    debts: BTreeMap<GuildId, Debt>,
}

/// The result of a push.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pushed {
    /// The group waits for delivery.
    Queued,
    /// Its guild is in debt; the snapshot will contain it.
    Covered,
    /// The outbox is full, or the group is larger than any delivery may be. Its guild's backlog was
    /// dropped, and the guild owes a snapshot from now on.
    Full,
}

/// The result of a delivery that the hub called malformed or too large.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rejected {
    /// It had no events.
    Empty,
    /// It had several groups: the first half goes alone now, to find the refused one.
    Halved,
    /// This group was refused: it is dropped, and its guild owes a snapshot.
    SetAside(Group),
}

impl Outbox {
    /// An empty outbox.
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            groups: VecDeque::new(),
            events: 0,
            bytes: 0,
            in_flight: 0,
            suspects: 0,
            debts: BTreeMap::new(),
        }
    }

    /// Queues a group at the tail, unless its guild's snapshot is still to be queued.
    pub fn push(&mut self, group: Group) -> Pushed {
        if self
            .debts
            .get(&group.guild())
            .is_some_and(|debt| debt.paying().is_none())
        {
            return Pushed::Covered;
        }
        if !self.fits(&group) || !self.is_deliverable(&group) {
            self.owe(group.guild(), "outbox_full", group.mark());
            return Pushed::Full;
        }
        self.queue(group);
        Pushed::Queued
    }

    /// Drops what a guild has waiting; it owes a snapshot with a later mark than `since` instead.
    /// An older debt keeps its reason.
    pub fn owe(&mut self, guild: GuildId, reason: &'static str, since: Mark) {
        let debt = self.debts.entry(guild).or_insert(Debt::new(reason));
        debt.renew(since);
        self.forget(guild);
    }

    /// The guilds in debt.
    pub fn debts(&self) -> impl Iterator<Item = (GuildId, &Debt)> {
        self.debts.iter().map(|(guild, debt)| (*guild, debt))
    }

    /// The debt of this guild.
    pub fn debt(&self, guild: GuildId) -> Option<&Debt> {
        self.debts.get(&guild)
    }

    /// The guilds whose snapshots are due, each with its reason.
    pub fn payable(&self, now_ms: u64) -> Vec<(GuildId, &'static str)> {
        self.debts
            .iter()
            .filter(|(_, debt)| debt.is_due(now_ms))
            .map(|(guild, debt)| (*guild, debt.reason))
            .collect()
    }

    /// Whether the outbox has room for snapshots. It must be half empty, so that it does not queue one
    /// snapshot after the other only to drop them.
    pub fn has_room(&self) -> bool {
        self.events * 2 <= self.limits.events_max && self.bytes * 2 <= self.limits.bytes_max
    }

    /// Queues the snapshot that pays a guild's debt. Does nothing without room, or if it does not pay.
    /// One that is larger than any delivery may be is not queued and is retried later; then the reason
    /// is returned.
    pub fn pay(&mut self, snapshot: Group, now_ms: u64) -> Option<FailureReason> {
        let fits = self.fits(&snapshot);
        let deliverable = self.is_deliverable(&snapshot);
        let debt = self.debts.get_mut(&snapshot.guild())?;
        if !debt.takes(snapshot.mark()) {
            return None;
        }
        if !deliverable {
            debt.fail(FailureReason::TooLarge, now_ms);
            return Some(FailureReason::TooLarge);
        }
        if fits {
            debt.pay(snapshot.mark());
            self.queue(snapshot);
            if disabled(Rule::SnapshotsLast)
                && let Some(last) = self.groups.pop_back()
            {
                self.groups.insert(self.in_flight, last);
            }
        }
        None
    }

    /// Takes the next delivery's groups; the same ones until they are [`Outbox::delivered`],
    /// [`Outbox::give_up`] or [`Outbox::reject`]ed.
    pub fn batch(&mut self) -> impl Iterator<Item = &Group> {
        if self.in_flight == 0 {
            let (mut events, mut bytes) = (0, 0);
            let most = match self.suspects {
                0 => usize::MAX,
                suspects => (suspects / 2).max(1),
            };
            self.in_flight = self
                .groups
                .iter()
                .take(most)
                .take_while(|group| {
                    let first = events == 0;
                    events += group.events().len();
                    bytes += group.bytes();
                    first
                        || (events <= self.limits.batch_events_max
                            && bytes <= self.limits.batch_bytes_max)
                })
                .count();
        }
        self.groups.range(..self.in_flight)
    }

    /// What is in flight was taken: its snapshots pay their debts.
    pub fn delivered(&mut self) -> Vec<Group> {
        let delivered = self.drop_in_flight();
        for group in &delivered {
            if self.debts.get(&group.guild()).is_some_and(|debt| {
                group.origin() == Origin::Snapshot
                    && (debt.paying() == Some(group.mark()) || disabled(Rule::DatedDebts))
            }) {
                self.debts.remove(&group.guild());
            }
        }
        delivered
    }

    /// What is in flight will not be delivered. Returns its guilds, which the caller puts in debt.
    pub fn give_up(&mut self) -> BTreeSet<GuildId> {
        self.suspects = 0;
        self.drop_in_flight()
            .into_iter()
            .map(|group| group.guild())
            .collect()
    }

    /// The hub calls what is in flight malformed, or too large.
    pub fn reject(&mut self, failure: FailureReason, now_ms: u64) -> Rejected {
        match self.in_flight {
            0 => Rejected::Empty,
            1 => {
                self.suspects = 0;
                let Some(group) = self.drop_in_flight().pop() else {
                    return Rejected::Empty;
                };
                self.owe(group.guild(), "delivery_rejected", group.mark());
                if group.origin() == Origin::Snapshot {
                    self.fail(group.guild(), failure, now_ms);
                }
                Rejected::SetAside(group)
            }
            groups => {
                self.suspects = groups;
                self.in_flight = 0;
                Rejected::Halved
            }
        }
    }

    /// A guild's snapshot was refused: it is retried later.
    pub fn fail(&mut self, guild: GuildId, failure: FailureReason, now_ms: u64) {
        if let Some(debt) = self.debts.get_mut(&guild) {
            debt.fail(failure, now_ms);
        }
    }

    /// Drops the events and the debt of a guild that the hub does not serve.
    pub fn forgive(&mut self, guild: GuildId) {
        self.debts.remove(&guild);
        self.forget(guild);
    }

    /// The checkpoint once the hub has what is in flight: `acked`, or further if nothing before it is
    /// missing. It passes no unpaid debt, and no event that is still queued. An answer or a snapshot
    /// that is still queued holds it at `acked`. `read` is the point up to which the stream was read.
    pub fn checkpoint(&self, acked: Reached, read: Reached) -> Reached {
        let flying = self.groups.range(..self.in_flight);
        let paid_by_it = |debt: &Debt| {
            let mut flying = self.groups.range(..self.in_flight);
            debt.paying()
                .is_some_and(|paying| flying.any(|group| group.mark() == paying))
        };
        let indebted = self.debts.iter().any(|(_, debt)| !paid_by_it(debt));
        let mut behind = self.behind();
        if (indebted || behind.any(|group| group.origin() != Origin::Dispatch))
            && !disabled(Rule::CheckpointBehindDebts)
        {
            return acked;
        }
        let delivered = match self.behind().next() {
            None => Some(read),
            // One dispatch may have led to groups of several guilds.
            Some(next) => flying
                .map(Group::read)
                .filter(|read| *read < next.read() || disabled(Rule::SnapshotsLast))
                .max(),
        };
        delivered.map_or(acked, |delivered| delivered.max(acked))
    }

    /// The guilds that owe a snapshot which is not in flight.
    pub fn lacking(&self) -> BTreeSet<GuildId> {
        let flying: BTreeSet<(GuildId, Mark)> = self
            .groups
            .range(..self.in_flight)
            .map(|group| (group.guild(), group.mark()))
            .collect();
        self.debts
            .iter()
            .filter(|(guild, debt)| {
                debt.paying()
                    .is_none_or(|paying| !flying.contains(&(**guild, paying)))
            })
            .map(|(guild, _)| *guild)
            .collect()
    }

    /// When the oldest event behind what is in flight was read, in ms since the Unix epoch.
    pub fn behind_since_ms(&self) -> Option<u64> {
        self.behind().next()?.events().first().map(|event| event.ts)
    }

    /// How many events wait, those in flight included.
    pub fn len(&self) -> usize {
        self.events
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }

    /// The JSON of what waits, in bytes.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    fn behind(&self) -> impl Iterator<Item = &Group> {
        self.groups.range(self.in_flight..)
    }

    fn fits(&self, group: &Group) -> bool {
        self.events + group.events().len() <= self.limits.events_max
            && self.bytes + group.bytes() <= self.limits.bytes_max
    }

    fn is_deliverable(&self, group: &Group) -> bool {
        group.events().len() <= self.limits.group_events_max
            && group.bytes() + ENVELOPE_BYTES <= self.limits.delivery_bytes_max
    }

    fn queue(&mut self, group: Group) {
        self.events += group.events().len();
        self.bytes += group.bytes();
        self.groups.push_back(group);
    }

    fn drop_in_flight(&mut self) -> Vec<Group> {
        let dropped: Vec<Group> = self.groups.drain(..self.in_flight).collect();
        self.suspects = self.suspects.saturating_sub(self.in_flight);
        self.in_flight = 0;
        for group in &dropped {
            self.events -= group.events().len();
            self.bytes -= group.bytes();
        }
        dropped
    }

    /// Drops what a guild has waiting behind what is in flight.
    fn forget(&mut self, guild: GuildId) {
        let waiting = self.groups.split_off(self.in_flight);
        self.groups
            .extend(waiting.into_iter().filter(|group| group.guild() != guild));
        self.recount();
    }

    fn recount(&mut self) {
        self.events = self.groups.iter().map(|group| group.events().len()).sum();
        self.bytes = self.groups.iter().map(Group::bytes).sum();
        self.suspects = self.suspects.min(self.groups.len());
    }
}

#[cfg(test)]
mod tests;
