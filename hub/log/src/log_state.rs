//! The workers, the guilds and the ledger as one value: what a command means, and what it adds.
//!
//! Pure and persistent: a clone costs nothing. So a group of commands is executed on a copy, which
//! replaces the state once the group's record is durable, and is dropped otherwise.

use std::sync::Arc;

use imbl::OrdMap;
use proto::chain::{
    Claim, Claimed, Conflict, IdentifyNoted, IdentifyNotice, KnownGuild, Link, Mark,
};
use proto::delivery::RefusedEvent;
use proto::event::{Event, Fact};
use proto::problem::Code;
use proto::{ChannelId, GuildId};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use launch::mutation::{Rule, disabled};

use crate::command::{
    Appended, ClaimRefused, Command, DeliveryRefused, Finished, Identified, Reply,
};
use crate::contention::{ClaimContention, Fencing};
use crate::dedup::{Admission, DedupWindow, StoredIds, WindowBounds};
use crate::ledger::{CreateOutcome, CreateTicket, Ledger, LedgerStep, NotPending, PendingCreate};
use crate::record::{NewEntry, Record};
use crate::settings::LogSettings;
use crate::slots::IdentifySlots;
use crate::state::{Change, GuildState, Source};
use crate::workers::{Holder, Progress, Workers};
use crate::{Applied, Entry, Position};

/// Ids of events that were appended by hand stay known for 10 minutes *and* 100,000 events.
const EVENT_IDS: WindowBounds = WindowBounds {
    age_ms: 10 * 60 * 1000,
    entries_min: 100_000,
    entries_max: 1_000_000,
};

/// Everything that the log knows.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct LogState {
    /// Who may deliver, and from where they continue.
    pub workers: Workers,
    /// The rooms that Roomwire created.
    pub ledger: Ledger,
    guilds: OrdMap<GuildId, GuildRecord>,
    event_ids: DedupWindow<Arc<str>>,
    slots: IdentifySlots,
    contention: ClaimContention,
}

/// One guild, and where its log stands.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct GuildRecord {
    /// Where.
    pub position: Position,
    /// The newest event of a worker: an event that is not above it is a repeat.
    pub mark: Mark,
    /// The guild.
    pub state: GuildState,
}

impl Default for LogState {
    /// A state without guilds, in which no contention begins.
    fn default() -> Self {
        let settings = LogSettings {
            fencings_per_minute_max: usize::MAX - 1,
            ..LogSettings::default()
        };
        let ledger = Ledger::default();
        Self::restored(
            &settings,
            Workers::default(),
            ledger,
            StoredIds::default(),
            0,
        )
    }
}

impl LogState {
    /// A state without guilds. `event_ids` are the known ids of events.
    pub(crate) fn restored(
        settings: &LogSettings,
        workers: Workers,
        ledger: Ledger,
        event_ids: StoredIds<Arc<str>>,
        now_ms: u64,
    ) -> Self {
        let window = WindowBounds {
            entries_max: settings.seen_events_max,
            ..EVENT_IDS
        };
        let newest_identify_ms = workers.identified().next_back();
        Self {
            workers,
            ledger,
            guilds: OrdMap::new(),
            event_ids: DedupWindow::restored(window, event_ids),
            slots: IdentifySlots::after(newest_identify_ms, now_ms),
            contention: ClaimContention::new(settings.fencings_per_minute_max),
        }
    }

    /// Forgets what only repeats and limits depend on: ids of requests, slots and fencings. States
    /// that differ in these alone are then equal.
    pub fn forget_requests(&mut self) {
        self.workers.forget_request_ids();
        self.forget_unstored();
    }

    /// Forgets what is not stored.
    pub(crate) fn forget_unstored(&mut self) {
        self.slots = IdentifySlots::default();
        self.contention.forget();
    }

    /// Puts a guild into the state.
    pub fn put(&mut self, guild: GuildId, record: GuildRecord) {
        self.guilds.insert(guild, record);
    }

    /// One guild.
    pub fn guild(&self, guild: GuildId) -> Option<&GuildRecord> {
        self.guilds.get(&guild)
    }

    /// Every guild.
    pub fn guilds(&self) -> impl Iterator<Item = (GuildId, &GuildRecord)> {
        self.guilds.iter().map(|(guild, record)| (*guild, record))
    }

    /// The ids of events that were appended by hand.
    pub(crate) fn event_ids(&self) -> &DedupWindow<Arc<str>> {
        &self.event_ids
    }

    /// Executes a command, and gives what it adds: the state changes as if it had absorbed the
    /// record. A command that is refused changes nothing, except that a fenced delivery is
    /// counted, and that a create costs its budget although the ledger is full. `now_ms` is the time
    /// since the Unix epoch.
    pub fn execute(&mut self, command: &Command, now_ms: u64) -> (Reply, Record) {
        let mut record = Record::default();
        let reply = match command {
            Command::Claim { id, claim } => {
                Reply::Claimed(self.claim(id, claim, now_ms, &mut record))
            }
            Command::Identify { id, notice } => {
                Reply::Identified(self.identify(id, notice, now_ms, &mut record))
            }
            Command::Deliver { link, events } => {
                Reply::Delivered(self.deliver(link, events, now_ms, &mut record))
            }
            Command::Append { events } => {
                Reply::Appended(self.ingest(events, Source::Manual, now_ms, &mut record))
            }
            Command::BeginCreate { ticket, create } => {
                let known = self.guilds.get(&create.guild_id);
                let pending = PendingCreate {
                    create: create.clone(),
                    epoch: known.map_or(0, |known| known.position.epoch),
                    began_ms: now_ms,
                };
                let changes = &mut record.ledger;
                Reply::CreateBegun(self.ledger.begin_create(*ticket, pending, now_ms, changes))
            }
            Command::FinishCreate { ticket, outcome } => {
                Reply::CreateFinished(self.finish_create(*ticket, outcome, now_ms, &mut record))
            }
            Command::EndRoom { channel } => {
                self.end_room(*channel, now_ms, &mut record);
                Reply::Done
            }
            Command::NoteInteraction { id } => {
                let changes = &mut record.ledger;
                Reply::InteractionNoted(self.ledger.note_interaction(id, now_ms, changes))
            }
            Command::ReconcileRooms => {
                self.reconcile_rooms(now_ms, &mut record);
                Reply::Done
            }
            #[cfg(test)]
            Command::Panic => {
                self.workers = Workers::default();
                panic!("a planted fault");
            }
        };
        (reply, record)
    }

    /// Applies the effects of a record.
    pub fn absorb(&mut self, record: &Record) {
        for new in &record.entries {
            if let Some(known) = self.guilds.get_mut(&new.guild) {
                let entry = &new.applied.entry;
                known.state.apply(&entry.change);
                known.position = entry.position;
            }
        }
        for (guild, mark) in &record.marks {
            if let Some(known) = self.guilds.get_mut(guild) {
                known.mark = *mark;
            }
        }
        if let Some(generation) = record.generation {
            self.workers.put_generation(generation);
        }
        for (shard, holder) in &record.holders {
            self.workers.put_holder(*shard, holder.clone());
        }
        for (shard, progress) in &record.progress {
            self.workers.put_progress(*shard, progress);
        }
        for at_ms in &record.identifies {
            self.workers.identify(*at_ms);
        }
        for (at_ms, id) in &record.request_ids {
            self.workers.admit(id, *at_ms);
        }
        for (at_ms, id) in &record.event_ids {
            self.event_ids.admit(Arc::clone(id), (), *at_ms);
        }
        for change in &record.ledger {
            self.ledger.apply(change);
        }
        for (at_ms, slot) in &record.slots {
            self.slots.give(*slot, *at_ms);
        }
        for fencing in &record.fencings {
            self.contention.add(*fencing);
        }
    }

    fn finish_create(
        &mut self,
        ticket: CreateTicket,
        outcome: &CreateOutcome,
        now_ms: u64,
        record: &mut Record,
    ) -> Result<Finished, NotPending> {
        let guild = self.ledger.guild_of(ticket).ok_or(NotPending)?;
        let unserved = GuildRecord::begin(0);
        let known = self.guilds.get(&guild).unwrap_or(&unserved);
        let (state, epoch) = (&known.state, known.position.epoch);
        let step = self
            .ledger
            .finish_create(ticket, outcome, state, epoch, now_ms)?;
        let forgotten_early = step.forgotten_early;
        self.publish_step(guild, step, now_ms, record);
        Ok(Finished { forgotten_early })
    }

    fn end_room(&mut self, channel: ChannelId, now_ms: u64, record: &mut Record) {
        let Some(guild) = self.ledger.room(channel).map(|room| room.guild_id) else {
            return;
        };
        let unserved = GuildRecord::begin(0);
        let known = self.guilds.get(&guild).unwrap_or(&unserved);
        let step = self.ledger.end(channel, &known.state, now_ms);
        self.publish_step(guild, step, now_ms, record);
    }

    fn reconcile_rooms(&mut self, now_ms: u64, record: &mut Record) {
        self.ledger.trim(now_ms, &mut record.ledger);
        for (guild, known) in self.guilds.clone() {
            let (state, epoch) = (&known.state, known.position.epoch);
            let step = self.ledger.reconcile(guild, state, epoch, now_ms);
            self.publish_step(guild, step, now_ms, record);
        }
    }

    /// Adds what a step of the ledger changes: in the ledger, and in the guild's log.
    fn publish_step(&mut self, guild: GuildId, step: LedgerStep, now_ms: u64, record: &mut Record) {
        record.ledger.extend(step.ledger);
        if let Some(known) = self.guilds.get_mut(&guild) {
            let changes = step.guild.into_iter();
            let entries = changes.map(|change| known.add(guild, change, now_ms, now_ms));
            record.entries.extend(entries);
        }
    }

    /// A claim is executed once. Repeated, it is answered again as long as it holds, and takes
    /// nothing back from a worker that has claimed since.
    fn claim(
        &mut self,
        id: &Arc<str>,
        claim: &Claim,
        now_ms: u64,
        record: &mut Record,
    ) -> Result<Claimed, ClaimRefused> {
        let shard = claim.shard.0;
        let wait_ms = match self.workers.holder(shard) {
            Some(holder) if holder.worker == claim.worker => None,
            Some(holder) if holder.of == claim.shard.1 => self.contention.wait_ms(shard, now_ms),
            // A worker that counts the shards in another way takes all of them.
            _ => self.contention.wait_any_ms(now_ms),
        };
        if let Some(wait_ms) = wait_ms {
            return Err(ClaimRefused::Contended { wait_ms });
        }
        if self.workers.request_ids().contains(id) {
            return match self.workers.holder(shard) {
                Some(holder) if *holder.claim_id == **id => {
                    let holder = holder.clone();
                    Ok(self.claimed(claim, holder, now_ms))
                }
                _ => Err(ClaimRefused::Conflict(Conflict::Fenced)),
            };
        }
        self.workers.admit(id, now_ms);
        record.request_ids.push((now_ms, Arc::clone(id)));
        let before = self.workers.clone();
        let holder = self.workers.claim(id, claim, now_ms);
        record.generation = Some(holder.generation);
        for (gone, _) in before.holders() {
            if self.workers.holder(gone).is_none() {
                record.holders.insert(gone, None);
            }
        }
        record.holders.insert(shard, Some(holder.clone()));
        Ok(self.claimed(claim, holder, now_ms))
    }

    fn claimed(&self, claim: &Claim, holder: Holder, now_ms: u64) -> Claimed {
        let Progress {
            absent, checkpoint, ..
        } = holder.progress;
        let remembered = claim.guilds.iter().filter(|_| claim.memory);
        let known = remembered.filter_map(|guild| {
            let known = self.guilds.get(guild).filter(|known| known.state.known)?;
            Some(KnownGuild {
                mark: known.mark,
                absent: absent.get(guild).copied(),
                roster: known.state.roster(*guild, "claimed"),
            })
        });
        let unserved = claim.guilds.iter();
        let unserved = unserved.filter(|guild| !self.guilds.contains_key(*guild));
        Claimed {
            generation: holder.generation,
            guilds: known.collect(),
            unserved: unserved.copied().collect(),
            last_session: self.last_session(),
            identifies: self.workers.identifies(now_ms),
            checkpoint: checkpoint.filter(|_| claim.memory),
        }
    }

    fn last_session(&self) -> u64 {
        let marks = self.guilds.values().map(|known| known.mark);
        self.workers.last_session(marks)
    }

    /// The highest number of a gateway session or of a generation that is known.
    pub fn newest_number(&self) -> u64 {
        self.last_session().max(self.workers.last_generation())
    }

    fn identify(
        &mut self,
        id: &Arc<str>,
        notice: &IdentifyNotice,
        now_ms: u64,
        record: &mut Record,
    ) -> Result<Identified, Conflict> {
        self.workers.recognise(notice.shard, notice.generation)?;
        if self.workers.admit(id, now_ms) {
            record.request_ids.push((now_ms, Arc::clone(id)));
            record.identifies.push(now_ms);
            self.workers.identify(now_ms);
        }
        let slot_ms = notice.bucket.map(|bucket| {
            let slot = self.slots.next(notice.shard.0, bucket, now_ms);
            record.slots.push((now_ms, slot));
            self.slots.give(slot, now_ms);
            slot.at_ms
        });
        Ok(Identified {
            noted: IdentifyNoted {
                identifies: self.workers.identifies(now_ms),
                after_ms: slot_ms.map(|slot_ms| slot_ms - now_ms),
            },
            slot_ms,
        })
    }

    /// Guilds that a shard's worker follows, and that no snapshot has reported.
    pub fn wanted(&self, shard: u32) -> Vec<GuildId> {
        let followed = self
            .workers
            .holder(shard)
            .map(|holder| holder.guilds.as_slice());
        let unknown = |guild: &&GuildId| {
            self.guilds
                .get(*guild)
                .is_some_and(|known| !known.state.known)
        };
        followed
            .unwrap_or_default()
            .iter()
            .filter(unknown)
            .copied()
            .collect()
    }

    fn deliver(
        &mut self,
        link: &Link,
        events: &[Event],
        now_ms: u64,
        record: &mut Record,
    ) -> Result<Appended, DeliveryRefused> {
        if let Err(conflict) = self.workers.judge(link) {
            let (shard, generation) = (link.shard.0, link.generation);
            let is_new =
                conflict == Conflict::Fenced && !self.contention.knows(shard, generation, now_ms);
            let begins_contention = is_new && {
                let fencing = Fencing {
                    shard,
                    generation,
                    at_ms: now_ms,
                };
                record.fencings.push(fencing);
                self.contention.add(fencing)
            };
            return Err(DeliveryRefused {
                conflict,
                begins_contention,
            });
        }
        let appended = self.ingest(events, Source::Worker, now_ms, record);
        self.workers.advance(link, !events.is_empty());
        let shard = link.shard.0;
        if let Some(holder) = self.workers.holder(shard) {
            record.progress.insert(shard, holder.progress.clone());
        }
        Ok(appended)
    }

    /// Appends events in order. A worker's event is new if its mark is above its guild's
    /// watermark, an event by hand if its id is new. `now_ms` goes into new epochs.
    fn ingest(
        &mut self,
        events: &[Event],
        source: Source,
        now_ms: u64,
        record: &mut Record,
    ) -> Appended {
        let mut appended = Appended::default();
        for event in events {
            let guild = event.fact.guild_id();
            let Some(known) = self.guilds.get_mut(&guild) else {
                appended.refused.push(RefusedEvent {
                    id: event.id.clone(),
                    code: Code::Forbidden,
                });
                continue;
            };
            let is_new = match (event.at, source) {
                (Some(at), Source::Worker) => {
                    let is_new = at > known.mark || disabled(Rule::Watermark);
                    if at > known.mark {
                        known.mark = at;
                        record.marks.insert(guild, at);
                    }
                    is_new
                }
                (None, Source::Worker) => true,
                (_, Source::Manual) => {
                    let id: Arc<str> = event.id.as_str().into();
                    match self.event_ids.admit(Arc::clone(&id), (), now_ms) {
                        Admission::Repeat => false,
                        Admission::New { forgotten_early } => {
                            appended.forgotten_early += forgotten_early;
                            record.event_ids.push((now_ms, id));
                            true
                        }
                    }
                }
            };
            if !is_new {
                appended.duplicates += 1;
                continue;
            }
            appended.accepted += 1;
            for change in known.state.admit(event.fact.clone(), source) {
                let entry = known.add(guild, change, event.ts, now_ms);
                let change = &entry.applied.entry.change;
                let step = self.ledger.observe(guild, change, &known.state, now_ms);
                record.entries.push(entry);
                record.ledger.extend(step.ledger);
                let changes = step.guild.into_iter();
                let entries = changes.map(|change| known.add(guild, change, now_ms, now_ms));
                record.entries.extend(entries);
            }
        }
        appended
    }
}

impl GuildRecord {
    /// A guild of which nothing is known, at the beginning of its log.
    pub fn begin(epoch: u64) -> Self {
        Self {
            position: Position {
                epoch,
                offset: 0,
                check: 0,
            },
            mark: Mark::default(),
            state: GuildState::default(),
        }
    }

    /// Appends a change.
    fn add(&mut self, guild: GuildId, change: Change, ts: u64, now_ms: u64) -> NewEntry {
        if let Change::Fact(Fact::Snapshot(_)) = change {
            // What comes after a snapshot does not continue what came before it. The time keeps
            // an epoch from repeating after the store was replaced by an older copy.
            self.position = Position {
                epoch: now_ms.max(self.position.epoch + 1),
                offset: 0,
                check: 0,
            };
        } else {
            self.position.offset += 1;
        }
        let before = self.state.clone();
        self.state.apply(&change);
        // Strings, numbers and lists: nothing in a change can fail to be written.
        let json = serde_json::to_vec(&change).unwrap_or_default();
        self.position.check = chained(self.position, &json, ts);
        NewEntry {
            guild,
            applied: Arc::new(Applied {
                entry: Arc::new(Entry {
                    position: self.position,
                    change,
                    ts,
                }),
                before,
                after: self.state.clone(),
            }),
            json,
        }
    }
}

/// Names an entry together with all before it, by `place`, which still carries the check before it.
/// `json` is the change as it is kept.
pub(crate) fn chained(position: Position, json: &[u8], ts: u64) -> u32 {
    let mut digest = Sha256::new();
    digest.update(position.check.to_be_bytes());
    digest.update(position.epoch.to_be_bytes());
    digest.update(position.offset.to_be_bytes());
    digest.update(ts.to_be_bytes());
    digest.update(json);
    digest
        .finalize()
        .first_chunk()
        .map_or(0, |bytes| u32::from_be_bytes(*bytes))
}

#[cfg(test)]
pub(crate) mod tests;
