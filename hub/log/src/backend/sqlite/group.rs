//! One transaction: what a group of commands writes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use proto::GuildId;
use proto::chain::Mark;
use rusqlite::Transaction;
use serde::{Deserialize, Serialize};

use super::rows::{self, Key, Table};
use super::{BaseIndex, Bases, PAGE_BYTES, json, schema};
use crate::backend::Failure;
use crate::dedup::DedupWindow;
use crate::entry::{Applied, Position};
use crate::group::Group;
use crate::ledger::{CreateTicket, LedgerChange};
use crate::log_state::GuildRecord;
use crate::record::NewEntry;
use crate::settings::LogSettings;
use crate::state::GuildState;
use crate::workers::Progress;

/// How much a probe writes besides what was refused, in bytes: about what a group does.
const PROBE_BYTES: u64 = 64 * 1024;
/// How much it writes at most: there is no larger group, unless everybody waited for long.
const PROBE_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// One transaction.
pub(super) struct GroupWriter<'a> {
    pub(super) transaction: &'a Transaction<'a>,
    pub(super) settings: &'a LogSettings,
    pub(super) now_ms: u64,
    /// How much this writes, about. What a row costs besides itself is the page in which it
    /// stands, which is written as a whole.
    pub(super) bytes: u64,
}

impl GroupWriter<'_> {
    /// Everything that a group adds to what was durable. `refused_bytes` is how much could not be
    /// written just before.
    pub(super) fn write(
        &mut self,
        bases: &mut Bases<'_>,
        group: &Group,
        refused_bytes: u64,
    ) -> Result<(), Failure> {
        let (after, record) = (&group.after, &group.record);
        let mut entries: BTreeMap<GuildId, Vec<&NewEntry>> = BTreeMap::new();
        for entry in &record.entries {
            entries.entry(entry.guild).or_default().push(entry);
        }
        let changed: BTreeSet<_> = entries.keys().chain(record.marks.keys()).copied().collect();
        for guild in changed {
            if let Some(known) = after.guild(guild) {
                let entries = entries.remove(&guild).unwrap_or_default();
                self.write_guild(guild, bases.get(guild), &entries, known)?;
            }
        }
        for guild in &group.expired {
            if let Some(known) = after.guild(*guild) {
                self.forget_entries(*guild, bases.get(*guild), known)?;
            }
        }
        self.write_workers(group)?;
        if !record.event_ids.is_empty() {
            self.put_ids(schema::EVENT_IDS, after.event_ids(), record.event_ids.len())?;
        }
        for change in LedgerChange::last_of_each(&record.ledger) {
            self.write_ledger(change)?;
        }
        let interactions = record.ledger.iter();
        let interactions =
            interactions.filter(|change| matches!(change, LedgerChange::Interaction(..)));
        let added = interactions.count();
        if added > 0 {
            self.put_ids(schema::INTERACTIONS, after.ledger.interactions(), added)?;
        }
        if group.probe {
            self.probe(refused_bytes)?;
        }
        Ok(())
    }

    /// A guild's new entries, the bases that they make due, and where it stands.
    fn write_guild(
        &mut self,
        guild: GuildId,
        index: &mut BaseIndex,
        entries: &[&NewEntry],
        known: &GuildRecord,
    ) -> Result<(), Failure> {
        // Nothing before a snapshot is continued from.
        self.bytes += PAGE_BYTES;
        let snapshot = entries
            .iter()
            .rposition(|new| new.applied.entry.position.offset == 0);
        for new in entries.iter().skip(snapshot.unwrap_or(0)) {
            let Applied { entry, after, .. } = &*new.applied;
            let position = entry.position;
            if position.offset == 0 {
                rows::delete_before(self.transaction, guild, u64::MAX)?;
                index.bases.clear();
                self.write_base(guild, index, position, after)?;
                continue;
            }
            rows::put_entry(self.transaction, guild, entry, &new.json, self.now_ms)?;
            self.bytes += new.json.len() as u64 + 64;
            if index.is_due(position.offset, self.now_ms, self.settings) {
                self.write_base(guild, index, position, after)?;
            }
        }
        if index.trim(known.position.offset, self.now_ms, self.settings) {
            let (first, _) = index.bases.front().copied().unwrap_or_default();
            rows::delete_before(self.transaction, guild, first)?;
        }
        self.put_guild(guild, known.position, known.mark)
    }

    /// Forgets all entries of a guild: its state stands for them.
    pub(super) fn forget_entries(
        &mut self,
        guild: GuildId,
        index: &mut BaseIndex,
        known: &GuildRecord,
    ) -> Result<(), Failure> {
        rows::delete_before(self.transaction, guild, u64::MAX)?;
        index.bases.clear();
        self.write_base(guild, index, known.position, &known.state)
    }

    pub(super) fn put_guild(
        &mut self,
        guild: GuildId,
        position: Position,
        mark: Mark,
    ) -> Result<(), Failure> {
        let body = json(&GuildRow { position, mark });
        self.put(schema::GUILDS, &guild.get().cast_signed(), &body)
    }

    pub(super) fn write_base(
        &mut self,
        guild: GuildId,
        index: &mut BaseIndex,
        position: Position,
        state: &GuildState,
    ) -> Result<(), Failure> {
        let body = json(state);
        rows::put_base(self.transaction, guild, position, &body, self.now_ms)?;
        self.bytes += PAGE_BYTES + body.len() as u64;
        index.bases.push_back((position.offset, self.now_ms));
        Ok(())
    }

    /// Who holds which shard, how far its worker is, and the requests of workers.
    fn write_workers(&mut self, group: &Group) -> Result<(), Failure> {
        let (workers, record) = (&group.after.workers, &group.record);
        for (shard, holder) in &record.holders {
            match holder {
                Some(holder) => {
                    self.put(schema::HOLDERS, &i64::from(*shard), &json(holder))?;
                    self.write_progress(*shard, &holder.progress)?;
                }
                None => {
                    for table in [schema::HOLDERS, schema::REACHED] {
                        table.delete(self.transaction, &i64::from(*shard))?;
                    }
                }
            }
        }
        for (shard, progress) in &record.progress {
            self.write_progress(*shard, progress)?;
        }
        if let Some(generation) = record.generation {
            self.put_meta("generation", &generation)?;
        }
        if !record.identifies.is_empty() {
            self.put_meta("identifies", &workers.identified().collect::<Vec<_>>())?;
        }
        let added = record.request_ids.len();
        if added > 0 {
            self.put_ids(schema::REQUEST_IDS, workers.request_ids(), added)?;
        }
        Ok(())
    }

    fn write_progress(&mut self, shard: u32, progress: &Progress) -> Result<(), Failure> {
        self.put(schema::REACHED, &i64::from(shard), &json(progress))
    }

    fn write_ledger(&mut self, change: &LedgerChange) -> Result<(), Failure> {
        match change {
            LedgerChange::Began(CreateTicket(ticket), pending) => {
                self.put(schema::PENDING, &ticket.cast_signed(), &json(pending))
            }
            LedgerChange::Finished(CreateTicket(ticket)) => {
                schema::PENDING.delete(self.transaction, &ticket.cast_signed())
            }
            LedgerChange::Answer(key, Some(answer)) => {
                self.put(schema::ANSWERS, &String::from(key.clone()), &json(answer))
            }
            LedgerChange::Answer(key, None) => {
                schema::ANSWERS.delete(self.transaction, &String::from(key.clone()))
            }
            LedgerChange::Room(room) => {
                let channel = room.channel_id.get().cast_signed();
                self.put(schema::ROOMS, &channel, &room.row())
            }
            LedgerChange::Forgotten(channel) => {
                schema::ROOMS.delete(self.transaction, &channel.get().cast_signed())
            }
            LedgerChange::Budget(owner, Some(bucket)) => {
                let owner = owner.as_str().to_owned();
                self.put(schema::BUDGETS, &owner, &json(&bucket.full_at_us()))
            }
            LedgerChange::Budget(owner, None) => {
                schema::BUDGETS.delete(self.transaction, &owner.as_str().to_owned())
            }
            // Stored as a window, all of them at once.
            LedgerChange::Interaction(..) => Ok(()),
        }
    }

    pub(super) fn put_meta(&mut self, key: &str, value: &impl Serialize) -> Result<(), Failure> {
        self.put(schema::META, &key.to_owned(), &json(value))
    }

    fn put(&mut self, table: Table, key: &impl Key, body: &[u8]) -> Result<(), Failure> {
        self.bytes += PAGE_BYTES + body.len() as u64;
        table.put(self.transaction, key, body)
    }

    fn put_ids(
        &mut self,
        table: &str,
        ids: &DedupWindow<Arc<str>>,
        added: usize,
    ) -> Result<(), Failure> {
        let bytes = rows::put_ids(self.transaction, table, ids, added)?;
        self.bytes += 2 * PAGE_BYTES + 64 * added as u64 + bytes;
        Ok(())
    }

    /// Writes something, to see whether it can be written: more than what could not be, or the store
    /// would seem to be well until that comes again.
    fn probe(&mut self, refused_bytes: u64) -> Result<(), Failure> {
        let bytes = refused_bytes
            .saturating_add(PROBE_BYTES)
            .min(PROBE_BYTES_MAX);
        self.bytes += bytes;
        self.transaction
            .prepare_cached(
                "INSERT OR REPLACE INTO probe (only_one, body) VALUES (1, zeroblob(?1))",
            )?
            .execute([bytes.cast_signed()])?;
        Ok(())
    }
}

/// What is stored of a guild besides its state.
#[derive(Serialize, Deserialize)]
pub(super) struct GuildRow {
    #[serde(rename = "place")]
    pub(super) position: Position,
    pub(super) mark: Mark,
}
