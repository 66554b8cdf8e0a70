//! One transaction: what a group of changes writes.

use std::collections::BTreeMap;

use proto::chain::{Absence, Checkpoint, Mark, Reached};
use proto::{ChannelId, GuildId};
use rusqlite::{Transaction, params};
use serde::{Deserialize, Serialize};

use super::schema::{self, sum};
use super::{Failure, PAGE_BYTES, Shape, Shapes, StoreBounds, json};
use crate::chain::{Chain, Holder};
use crate::truth::{History, Written};
use crate::writer::{Draft, Memory};
use crate::{Applied, GuildState, Place};

/// How much a probe writes besides what was refused, in bytes: about what a group does.
const PROBE_BYTES: u64 = 64 * 1024;
/// How much it writes at most: there is no larger group, unless everybody waited for long.
const PROBE_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// One transaction.
pub(super) struct Group<'a> {
    pub(super) transaction: &'a Transaction<'a>,
    pub(super) bounds: &'a StoreBounds,
    pub(super) now_ms: u64,
    /// The number of the oldest id of a claim or a notice: numbers are without a gap.
    pub(super) spent_first: u64,
    /// How much this writes, about. What a row costs besides itself is the page in which it
    /// stands, which is written as a whole.
    pub(super) bytes: u64,
}

impl Group<'_> {
    /// Everything that a draft changes. `before` is what was durable, `refused_bytes` how much
    /// could not be written just before.
    pub(super) fn write(
        &mut self,
        shapes: &mut Shapes<'_>,
        draft: &Draft,
        before: &Memory,
        refused_bytes: u64,
    ) -> Result<(), Failure> {
        let mut written: BTreeMap<GuildId, Vec<&Written>> = BTreeMap::new();
        for entry in &draft.written {
            written.entry(entry.guild).or_default().push(entry);
        }
        for guild in &draft.guilds {
            let written = written.remove(guild).unwrap_or_default();
            self.write_guild(*guild, shapes.get(*guild), &written, draft)?;
        }
        for guild in &draft.aged {
            if let Some(history) = draft.memory.truth.guild(*guild) {
                self.forget_past(*guild, shapes.get(*guild), history)?;
            }
        }
        self.write_chain(draft, &before.truth.chain)?;
        self.write_seen(draft, before)?;
        for row in &draft.rooms {
            self.write_room(row.channel, row.room.as_deref())?;
        }
        if draft.probe {
            self.probe(refused_bytes)?;
        }
        Ok(())
    }

    /// A guild's new entries, the bases that they make due, and where it stands.
    pub(super) fn write_guild(
        &mut self,
        guild: GuildId,
        shape: &mut Shape,
        written: &[&Written],
        draft: &Draft,
    ) -> Result<(), Failure> {
        let Some(history) = draft.memory.truth.guild(guild) else {
            return Ok(());
        };
        // Nothing before a snapshot is continued from.
        self.bytes += PAGE_BYTES;
        let snapshot = written
            .iter()
            .rposition(|written| written.applied.entry.place.offset == 0);
        for written in written.iter().skip(snapshot.unwrap_or(0)) {
            let Applied { entry, after, .. } = &*written.applied;
            let place = entry.place;
            if place.offset == 0 {
                self.delete_past(guild, u64::MAX)?;
                shape.bases.clear();
                self.write_base(guild, shape, place, after)?;
                continue;
            }
            let digest = sum(
                "entries",
                &[
                    &guild.get().to_be_bytes(),
                    &place.offset.to_be_bytes(),
                    &self.now_ms.to_be_bytes(),
                    &place.check.to_be_bytes(),
                ],
            );
            self.transaction
                .prepare_cached(schema::PUT_ENTRY)?
                .execute(params![
                    guild.get().cast_signed(),
                    place.offset.cast_signed(),
                    entry.ts.cast_signed(),
                    self.now_ms.cast_signed(),
                    place.check,
                    written.json,
                    digest
                ])?;
            self.bytes += written.json.len() as u64 + 64;
            if shape.is_due(place.offset, self.now_ms, self.bounds) {
                self.write_base(guild, shape, place, after)?;
            }
        }
        if shape.trim(history.place.offset, self.now_ms, self.bounds) {
            let (first, _) = shape.bases.front().copied().unwrap_or_default();
            self.delete_past(guild, first)?;
        }
        self.put_guild(guild, history.place, history.mark)
    }

    /// Forgets all entries of a guild: its state stands for them.
    pub(super) fn forget_past(
        &mut self,
        guild: GuildId,
        shape: &mut Shape,
        history: &History,
    ) -> Result<(), Failure> {
        self.delete_past(guild, u64::MAX)?;
        shape.bases.clear();
        self.write_base(guild, shape, history.place, &history.state)
    }

    pub(super) fn put_guild(
        &mut self,
        guild: GuildId,
        place: Place,
        mark: Mark,
    ) -> Result<(), Failure> {
        let body = json(&GuildRow { place, mark });
        let digest = sum("guilds", &[&guild.get().to_be_bytes(), &body]);
        self.transaction
            .prepare_cached(schema::PUT_GUILD)?
            .execute(params![guild.get().cast_signed(), body, digest])?;
        self.bytes += PAGE_BYTES;
        Ok(())
    }

    pub(super) fn write_base(
        &mut self,
        guild: GuildId,
        shape: &mut Shape,
        place: Place,
        state: &GuildState,
    ) -> Result<(), Failure> {
        let body = json(state);
        let digest = sum(
            "bases",
            &[
                &guild.get().to_be_bytes(),
                &place.offset.to_be_bytes(),
                &place.epoch.to_be_bytes(),
                &place.check.to_be_bytes(),
                &self.now_ms.to_be_bytes(),
                &body,
            ],
        );
        self.transaction
            .prepare_cached(schema::PUT_BASE)?
            .execute(params![
                guild.get().cast_signed(),
                place.offset.cast_signed(),
                place.epoch.cast_signed(),
                place.check,
                self.now_ms.cast_signed(),
                body,
                digest
            ])?;
        self.bytes += PAGE_BYTES + body.len() as u64;
        shape.bases.push_back((place.offset, self.now_ms));
        Ok(())
    }

    /// Deletes bases before a place, and the entries up to it.
    pub(super) fn delete_past(&self, guild: GuildId, first: u64) -> Result<(), Failure> {
        let first = i64::try_from(first).unwrap_or(i64::MAX);
        for delete in [schema::DELETE_BASES, schema::DELETE_ENTRIES] {
            self.transaction
                .prepare_cached(delete)?
                .execute(params![guild.get().cast_signed(), first])?;
        }
        Ok(())
    }

    /// Who holds which shard, and how far it was told, as far as it is another now.
    fn write_chain(&mut self, draft: &Draft, before: &Chain) -> Result<(), Failure> {
        let chain = &draft.memory.truth.chain;
        if !draft.claimed {
            for shard in &draft.shards {
                if let Some(holder) = chain.holder(*shard) {
                    self.write_reached(*shard, holder)?;
                }
            }
            return Ok(());
        }
        for (shard, holder) in chain.holders() {
            if before.holder(shard) != Some(holder) {
                self.write_holder(shard, holder)?;
                self.write_reached(shard, holder)?;
            }
        }
        for (shard, _) in before.holders() {
            if chain.holder(shard).is_none() {
                self.transaction
                    .execute("DELETE FROM holders WHERE shard = ?1", [shard])?;
                self.transaction
                    .execute("DELETE FROM reached WHERE shard = ?1", [shard])?;
            }
        }
        if chain.last_generation() != before.last_generation() {
            self.put_meta("generation", &json(&chain.last_generation()))?;
        }
        if !chain.identified().eq(before.identified()) {
            self.put_meta("identifies", &json(&chain.identified().collect::<Vec<_>>()))?;
        }
        self.write_spent(chain, before)
    }

    fn write_holder(&mut self, shard: u32, holder: &Holder) -> Result<(), Failure> {
        let body = json(&HolderRow {
            of: holder.of,
            generation: holder.generation,
            worker: holder.worker.clone(),
            claim_id: holder.claim_id.clone(),
            guilds: holder.guilds.clone(),
        });
        let digest = sum("holders", &[&u64::from(shard).to_be_bytes(), &body]);
        self.transaction
            .prepare_cached(schema::PUT_HOLDER)?
            .execute(params![shard, body, digest])?;
        self.bytes += PAGE_BYTES + body.len() as u64;
        Ok(())
    }

    /// The ids of claims and notices: the oldest were forgotten, and some came behind the newest.
    fn write_spent(&mut self, chain: &Chain, before: &Chain) -> Result<(), Failure> {
        let oldest = chain.spent().next();
        let kept = before.spent().skip_while(|known| Some(*known) != oldest);
        let (kept, all) = (kept.count(), before.spent().count());
        self.spent_first += (all - kept) as u64;
        for (number, (id, at_ms)) in (self.spent_first..).zip(chain.spent()).skip(kept) {
            let digest = sum(
                "spent",
                &[&number.to_be_bytes(), id.as_bytes(), &at_ms.to_be_bytes()],
            );
            self.transaction
                .prepare_cached(schema::PUT_SPENT)?
                .execute(params![
                    number.cast_signed(),
                    id,
                    at_ms.cast_signed(),
                    digest
                ])?;
            self.bytes += PAGE_BYTES + id.len() as u64;
        }
        self.transaction
            .prepare_cached("DELETE FROM spent WHERE number < ?1")?
            .execute([self.spent_first.cast_signed()])?;
        Ok(())
    }

    fn write_reached(&mut self, shard: u32, holder: &Holder) -> Result<(), Failure> {
        let body = json(&ReachedRow {
            reached: holder.reached,
            taken: holder.taken,
            checkpoint: holder.checkpoint.clone(),
            lost: holder.lost,
            absent: holder.absent.iter().map(|(id, why)| (*id, *why)).collect(),
        });
        let digest = sum("reached", &[&u64::from(shard).to_be_bytes(), &body]);
        self.transaction
            .prepare_cached(schema::PUT_REACHED)?
            .execute(params![shard, body, digest])?;
        self.bytes += PAGE_BYTES + body.len() as u64;
        Ok(())
    }

    pub(super) fn write_seen(&mut self, draft: &Draft, before: &Memory) -> Result<(), Failure> {
        let seen = &draft.memory.seen;
        for (number, id) in seen.since(before.seen.next()) {
            let digest = sum("seen", &[&number.to_be_bytes(), id.as_bytes()]);
            self.transaction
                .prepare_cached(schema::PUT_SEEN)?
                .execute(params![number.cast_signed(), &**id, digest])?;
            self.bytes += 64 + id.len() as u64;
        }
        if seen.next() != before.seen.next() {
            self.bytes += 2 * PAGE_BYTES;
            self.transaction
                .prepare_cached("DELETE FROM seen WHERE number < ?1")?
                .execute([seen.first().cast_signed()])?;
        }
        Ok(())
    }

    pub(super) fn write_room(
        &mut self,
        channel: ChannelId,
        room: Option<&[u8]>,
    ) -> Result<(), Failure> {
        match room {
            Some(body) => {
                let digest = sum("rooms", &[&channel.get().to_be_bytes(), body]);
                self.transaction
                    .prepare_cached(schema::PUT_ROOM)?
                    .execute(params![channel.get().cast_signed(), body, digest])?;
                self.bytes += PAGE_BYTES + body.len() as u64;
            }
            None => {
                self.transaction
                    .prepare_cached("DELETE FROM rooms WHERE channel = ?1")?
                    .execute([channel.get().cast_signed()])?;
            }
        }
        Ok(())
    }

    pub(super) fn put_meta(&mut self, key: &str, body: &[u8]) -> Result<(), Failure> {
        let digest = sum("meta", &[key.as_bytes(), body]);
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

/// What is kept of a guild besides its state.
#[derive(Serialize, Deserialize)]
pub(super) struct GuildRow {
    pub(super) place: Place,
    pub(super) mark: Mark,
}

/// What is kept of a holder when it takes its shard …
#[derive(Serialize, Deserialize)]
pub(super) struct HolderRow {
    pub(super) of: u32,
    pub(super) generation: u64,
    pub(super) worker: String,
    pub(super) claim_id: String,
    pub(super) guilds: Vec<GuildId>,
}

/// … and when it delivers.
#[derive(Serialize, Deserialize)]
pub(super) struct ReachedRow {
    pub(super) reached: Reached,
    pub(super) taken: u64,
    pub(super) checkpoint: Option<Checkpoint>,
    /// An older store knows of none.
    #[serde(default)]
    pub(super) lost: u64,
    pub(super) absent: BTreeMap<GuildId, Absence>,
}
