//! The bounded queue toward the hub: in order, and when it is full it forgets instead of growing.
//!
//! A guild whose events were forgotten is *in debt*: it owes one snapshot. Until that is queued its
//! further events are not, because the snapshot will contain them. The snapshot is queued at the
//! tail, replaces what that guild still had waiting, and overtakes nothing. Pure.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use proto::GuildId;
use proto::event::Event;

/// The bounds of an outbox and of one batch taken from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Events that wait, those in flight included.
    pub events_max: usize,
    /// Their JSON, in bytes.
    pub bytes_max: usize,
    /// Events of one delivery.
    pub batch_events_max: usize,
    /// Their JSON, in bytes; a single larger event is still sent, alone.
    pub batch_bytes_max: usize,
}

/// Events on their way to the hub.
#[derive(Debug, Clone)]
pub struct Outbox {
    limits: Limits,
    entries: VecDeque<Entry>,
    bytes: usize,
    /// How many of the first entries are being delivered; they stay as they are until answered.
    in_flight: usize,
    /// Who owes a snapshot, and why.
    debts: BTreeMap<GuildId, &'static str>,
}

#[derive(Debug, Clone)]
struct Entry {
    event: Event,
    guild: GuildId,
    bytes: usize,
    /// It pays a debt, alone or with others.
    pays: bool,
}

impl Entry {
    fn new(event: Event) -> Self {
        Self {
            pays: false,
            guild: event.fact.guild_id(),
            // What can not be written can not be delivered either, and counts as nothing.
            bytes: serde_json::to_vec(&event).map_or(0, |json| json.len()),
            event,
        }
    }
}

/// What became of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pushed {
    /// It waits its turn.
    Queued,
    /// Its guild is in debt; the snapshot will contain it.
    Covered,
    /// There was no room: its guild's backlog was forgotten, and owes a snapshot since now.
    Full,
}

impl Outbox {
    /// An empty outbox.
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            entries: VecDeque::new(),
            bytes: 0,
            in_flight: 0,
            debts: BTreeMap::new(),
        }
    }

    /// Queues an event at the tail.
    pub fn push(&mut self, event: Event) -> Pushed {
        let entry = Entry::new(event);
        if self.debts.contains_key(&entry.guild) {
            return Pushed::Covered;
        }
        if !self.fits(1, entry.bytes) {
            self.owe(entry.guild, "outbox_full");
            return Pushed::Full;
        }
        self.queue(entry);
        Pushed::Queued
    }

    /// Forgets what a guild has waiting; it owes a snapshot instead. An older debt keeps its reason.
    pub fn owe(&mut self, guild: GuildId, reason: &'static str) {
        self.debts.entry(guild).or_insert(reason);
        let waiting = self.entries.split_off(self.in_flight);
        self.entries
            .extend(waiting.into_iter().filter(|entry| entry.guild != guild));
        self.bytes = self.entries.iter().map(|entry| entry.bytes).sum();
    }

    /// Who owes a snapshot, and why.
    pub fn debts(&self) -> impl Iterator<Item = (GuildId, &'static str)> + '_ {
        self.debts.iter().map(|(guild, reason)| (*guild, *reason))
    }

    /// Whether there is room for snapshots: half of it, so that a full outbox does not make one
    /// snapshot after the other only to forget them.
    pub fn has_room(&self) -> bool {
        self.entries.len() * 2 <= self.limits.events_max && self.bytes * 2 <= self.limits.bytes_max
    }

    /// Pays a guild's debt with a snapshot (and, of a guild too large for one delivery, the events
    /// that complete it), if there is room for it.
    pub fn pay(&mut self, guild: GuildId, snapshot: Vec<Event>) -> bool {
        let entries: Vec<Entry> = snapshot.into_iter().map(Entry::new).collect();
        let bytes = entries.iter().map(|entry| entry.bytes).sum();
        if !self.fits(entries.len(), bytes) {
            return false;
        }
        self.debts.remove(&guild);
        for entry in entries {
            self.queue(Entry {
                pays: true,
                ..entry
            });
        }
        true
    }

    /// The next delivery's events; the same ones until [`Outbox::delivered`] or
    /// [`Outbox::give_up`].
    pub fn batch(&mut self) -> Vec<Event> {
        if self.in_flight == 0 {
            let mut bytes = 0;
            self.in_flight = self
                .entries
                .iter()
                .take(self.limits.batch_events_max)
                .take_while(|entry| {
                    let first = bytes == 0;
                    bytes += entry.bytes;
                    first || bytes <= self.limits.batch_bytes_max
                })
                .count();
        }
        self.entries
            .iter()
            .take(self.in_flight)
            .map(|entry| entry.event.clone())
            .collect()
    }

    /// The events in flight have arrived.
    pub fn delivered(&mut self) {
        self.drop_in_flight();
    }

    /// The events in flight will not be delivered; their guilds owe snapshots.
    pub fn give_up(&mut self, reason: &'static str) {
        for guild in self.drop_in_flight() {
            self.owe(guild, reason);
        }
    }

    /// Who will not be known whole by what is in flight: who owes a snapshot, or has one waiting
    /// behind it, or a part of one.
    pub fn lacking(&self) -> BTreeSet<GuildId> {
        let waiting = self.behind().filter(|entry| entry.pays);
        self.debts
            .keys()
            .copied()
            .chain(waiting.map(|entry| entry.guild))
            .collect()
    }

    /// When the oldest event was read that waits behind what is in flight, in ms since the Unix
    /// epoch; none if nothing does.
    pub fn behind_since_ms(&self) -> Option<u64> {
        self.behind().next().map(|entry| entry.event.ts)
    }

    /// How many events wait, those in flight included.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether nothing waits and nothing is owed that could be paid.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The JSON of what waits, in bytes.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    fn behind(&self) -> impl Iterator<Item = &Entry> {
        self.entries.range(self.in_flight..)
    }

    fn fits(&self, events: usize, bytes: usize) -> bool {
        self.entries.len() + events <= self.limits.events_max
            && self.bytes + bytes <= self.limits.bytes_max
    }

    fn queue(&mut self, entry: Entry) {
        self.bytes += entry.bytes;
        self.entries.push_back(entry);
    }

    fn drop_in_flight(&mut self) -> BTreeSet<GuildId> {
        let dropped: Vec<Entry> = self.entries.drain(..self.in_flight).collect();
        self.in_flight = 0;
        self.bytes -= dropped.iter().map(|entry| entry.bytes).sum::<usize>();
        dropped.into_iter().map(|entry| entry.guild).collect()
    }
}

#[cfg(test)]
mod tests;
