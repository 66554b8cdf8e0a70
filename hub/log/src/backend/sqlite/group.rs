//! One transaction: what a group of commands writes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use proto::GuildId;
use proto::chain::Mark;
use rusqlite::{Transaction, params};
use serde::{Deserialize, Serialize};

use super::schema::{self, checksum};
use super::{BaseIndex, Bases, PAGE_BYTES, StoreBounds, json};
use crate::backend::Failure;
use crate::dedup::DedupWindow;
use crate::entry::{Applied, Position};
use crate::group::Group;
use crate::log_state::GuildRecord;
use crate::record::NewEntry;
use crate::rooms::{CreateTicket, LedgerChange};
use crate::state::GuildState;
use crate::workers::{Holder, Progress};

/// How much a probe writes besides what was refused, in bytes: about what a group does.
const PROBE_BYTES: u64 = 64 * 1024;
/// How much it writes at most: there is no larger group, unless everybody waited for long.
const PROBE_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// One transaction.
pub(super) struct GroupWriter<'a> {
    pub(super) transaction: &'a Transaction<'a>,
    pub(super) bounds: &'a StoreBounds,
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
            self.write_ids("seen", after.event_ids(), record.event_ids.len())?;
        }
        for change in LedgerChange::last_of_each(&record.ledger) {
            self.write_ledger(change)?;
        }
        let interactions = record.ledger.iter();
        let interactions =
            interactions.filter(|change| matches!(change, LedgerChange::Interaction(..)));
        let added = interactions.count();
        if added > 0 {
            self.write_ids("interactions", after.ledger.interactions(), added)?;
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
                self.delete_entries(guild, u64::MAX)?;
                index.bases.clear();
                self.write_base(guild, index, position, after)?;
                continue;
            }
            let digest = checksum(
                "entries",
                &[
                    &guild.get().to_be_bytes(),
                    &position.offset.to_be_bytes(),
                    &self.now_ms.to_be_bytes(),
                    &position.check.to_be_bytes(),
                ],
            );
            self.transaction
                .prepare_cached(schema::PUT_ENTRY)?
                .execute(params![
                    guild.get().cast_signed(),
                    position.offset.cast_signed(),
                    entry.ts.cast_signed(),
                    self.now_ms.cast_signed(),
                    position.check,
                    new.json,
                    digest
                ])?;
            self.bytes += new.json.len() as u64 + 64;
            if index.is_due(position.offset, self.now_ms, self.bounds) {
                self.write_base(guild, index, position, after)?;
            }
        }
        if index.trim(known.position.offset, self.now_ms, self.bounds) {
            let (first, _) = index.bases.front().copied().unwrap_or_default();
            self.delete_entries(guild, first)?;
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
        self.delete_entries(guild, u64::MAX)?;
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
        let digest = checksum("guilds", &[&guild.get().to_be_bytes(), &body]);
        self.transaction
            .prepare_cached(schema::PUT_GUILD)?
            .execute(params![guild.get().cast_signed(), body, digest])?;
        self.bytes += PAGE_BYTES;
        Ok(())
    }

    pub(super) fn write_base(
        &mut self,
        guild: GuildId,
        index: &mut BaseIndex,
        position: Position,
        state: &GuildState,
    ) -> Result<(), Failure> {
        let body = json(state);
        let digest = checksum(
            "bases",
            &[
                &guild.get().to_be_bytes(),
                &position.offset.to_be_bytes(),
                &position.epoch.to_be_bytes(),
                &position.check.to_be_bytes(),
                &self.now_ms.to_be_bytes(),
                &body,
            ],
        );
        self.transaction
            .prepare_cached(schema::PUT_BASE)?
            .execute(params![
                guild.get().cast_signed(),
                position.offset.cast_signed(),
                position.epoch.cast_signed(),
                position.check,
                self.now_ms.cast_signed(),
                body,
                digest
            ])?;
        self.bytes += PAGE_BYTES + body.len() as u64;
        index.bases.push_back((position.offset, self.now_ms));
        Ok(())
    }

    /// Deletes bases before a place, and the entries up to it.
    pub(super) fn delete_entries(&self, guild: GuildId, first: u64) -> Result<(), Failure> {
        let first = i64::try_from(first).unwrap_or(i64::MAX);
        for delete in [schema::DELETE_BASES, schema::DELETE_ENTRIES] {
            self.transaction
                .prepare_cached(delete)?
                .execute(params![guild.get().cast_signed(), first])?;
        }
        Ok(())
    }

    /// Who holds which shard, how far its worker is, and the requests of workers.
    fn write_workers(&mut self, group: &Group) -> Result<(), Failure> {
        let (workers, record) = (&group.after.workers, &group.record);
        for (shard, holder) in &record.holders {
            match holder {
                Some(holder) => {
                    self.write_holder(*shard, holder)?;
                    self.write_progress(*shard, &holder.progress)?;
                }
                None => {
                    for delete in schema::DELETE_SHARD {
                        self.transaction.execute(delete, [shard])?;
                    }
                }
            }
        }
        for (shard, progress) in &record.progress {
            self.write_progress(*shard, progress)?;
        }
        if let Some(generation) = record.generation {
            self.put_meta("generation", &json(&generation))?;
        }
        if !record.identifies.is_empty() {
            self.put_meta(
                "identifies",
                &json(&workers.identified().collect::<Vec<_>>()),
            )?;
        }
        if !record.request_ids.is_empty() {
            self.write_ids("spent", workers.request_ids(), record.request_ids.len())?;
        }
        Ok(())
    }

    fn write_holder(&mut self, shard: u32, holder: &Holder) -> Result<(), Failure> {
        let body = json(holder);
        let digest = checksum("holders", &[&u64::from(shard).to_be_bytes(), &body]);
        self.transaction
            .prepare_cached(schema::PUT_HOLDER)?
            .execute(params![shard, body, digest])?;
        self.bytes += PAGE_BYTES + body.len() as u64;
        Ok(())
    }

    fn write_progress(&mut self, shard: u32, progress: &Progress) -> Result<(), Failure> {
        let body = json(progress);
        let digest = checksum("reached", &[&u64::from(shard).to_be_bytes(), &body]);
        self.transaction
            .prepare_cached(schema::PUT_REACHED)?
            .execute(params![shard, body, digest])?;
        self.bytes += PAGE_BYTES + body.len() as u64;
        Ok(())
    }

    /// The newest `added` ids of a window, into a table of its own.
    pub(super) fn write_ids(
        &mut self,
        table: &str,
        ids: &DedupWindow<Arc<str>>,
        added: usize,
    ) -> Result<(), Failure> {
        let put = format!(
            "INSERT OR REPLACE INTO {table} (number, id, at_ms, sum) VALUES (?1, ?2, ?3, ?4)"
        );
        for (number, at_ms, id) in ids.since(ids.next().saturating_sub(added as u64)) {
            let digest = checksum(
                table,
                &[&number.to_be_bytes(), id.as_bytes(), &at_ms.to_be_bytes()],
            );
            self.transaction.prepare_cached(&put)?.execute(params![
                number.cast_signed(),
                &**id,
                at_ms.cast_signed(),
                digest
            ])?;
            self.bytes += 64 + id.len() as u64;
        }
        self.bytes += 2 * PAGE_BYTES;
        self.transaction
            .prepare_cached(&format!("DELETE FROM {table} WHERE number < ?1"))?
            .execute([ids.first().cast_signed()])?;
        Ok(())
    }

    fn write_ledger(&mut self, change: &LedgerChange) -> Result<(), Failure> {
        match change {
            LedgerChange::Began(CreateTicket(ticket), pending) => {
                let body = json(pending);
                let digest = checksum("pending", &[&ticket.to_be_bytes(), &body]);
                self.transaction
                    .prepare_cached(schema::PUT_PENDING)?
                    .execute(params![ticket.cast_signed(), body, digest])?;
                self.bytes += PAGE_BYTES + body.len() as u64;
            }
            LedgerChange::Finished(ticket) => self.delete_pending(*ticket)?,
            LedgerChange::Room(room) => {
                let (channel, body) = (room.channel_id.get(), room.row());
                let digest = checksum("rooms", &[&channel.to_be_bytes(), &body]);
                self.transaction
                    .prepare_cached(schema::PUT_ROOM)?
                    .execute(params![channel.cast_signed(), body, digest])?;
                self.bytes += PAGE_BYTES + body.len() as u64;
            }
            LedgerChange::Forgotten(channel) => {
                self.transaction
                    .prepare_cached("DELETE FROM rooms WHERE channel = ?1")?
                    .execute([channel.get().cast_signed()])?;
            }
            LedgerChange::Budget(owner, Some(bucket)) => {
                let (owner, body) = (owner.as_str(), json(&bucket.full_at_us()));
                let digest = checksum("budgets", &[owner.as_bytes(), &body]);
                self.transaction
                    .prepare_cached(schema::PUT_BUDGET)?
                    .execute(params![owner, body, digest])?;
                self.bytes += PAGE_BYTES + owner.len() as u64;
            }
            // Stored as a window, all of them at once.
            LedgerChange::Interaction(..) => {}
            LedgerChange::Budget(owner, None) => {
                self.transaction
                    .prepare_cached("DELETE FROM budgets WHERE owner = ?1")?
                    .execute([owner.as_str()])?;
            }
        }
        Ok(())
    }

    pub(super) fn delete_pending(&self, CreateTicket(ticket): CreateTicket) -> Result<(), Failure> {
        self.transaction
            .prepare_cached("DELETE FROM pending WHERE ticket = ?1")?
            .execute([ticket.cast_signed()])?;
        Ok(())
    }

    pub(super) fn put_meta(&mut self, key: &str, body: &[u8]) -> Result<(), Failure> {
        let digest = checksum("meta", &[key.as_bytes(), body]);
        self.transaction
            .prepare_cached(schema::PUT_META)?
            .execute(params![key, body, digest])?;
        self.bytes += PAGE_BYTES + body.len() as u64;
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
