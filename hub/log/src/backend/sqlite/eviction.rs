//! The store near its bound: the oldest entries of any guild are evicted before a group is refused.
//!
//! The entries of each guild have bounds of their own, and many busy guilds may fill the store within
//! them. Eviction affects only the file. Memory keeps the entries; after a restart, a client whose
//! position was evicted gets a snapshot.

use std::collections::BTreeSet;

use proto::GuildId;

use super::group::GroupWriter;
use super::{BaseIndex, Bases, PAGE_BYTES, rows};
use crate::backend::Failure;
use crate::group::Group;
use crate::ledger::LedgerChange;
use crate::log_state::{GuildRecord, LogState};

/// Which part of the bound is kept free.
const RESERVE: u64 = 16;
/// How many entries are worth it that their guild's state is written once more, where no state
/// after them is in the file: about a page of them.
const WORTH_ENTRIES: u64 = 16;

impl GroupWriter<'_> {
    /// Evicts the oldest entries of any guild until a group has room, or until nothing is left to
    /// evict. `before` is what was durable, `refused_bytes` how much could not be written just before.
    pub(super) fn evict(
        &mut self,
        bases: &mut Bases<'_>,
        group: &Group,
        before: &LogState,
        refused_bytes: u64,
    ) -> Result<(), Failure> {
        let reserve = self.settings.store_bytes_max / RESERVE;
        let needed = reserve.saturating_add(refused_bytes.max(estimate(group)).saturating_mul(2));
        if self.free_bytes()? >= needed {
            return Ok(());
        }
        let evictable = |guild: GuildId, index: &BaseIndex| {
            let known = before.guild(guild)?;
            let (first, at) = *index.bases.front()?;
            let entries = known.position.offset.saturating_sub(first);
            (index.bases.len() > 1 || entries >= WORTH_ENTRIES).then_some((at, guild, known))
        };
        let mut oldest: BTreeSet<(u64, GuildId)> = bases
            .stored
            .iter()
            .filter_map(|(guild, index)| evictable(*guild, index))
            .map(|(at, guild, _)| (at, guild))
            .collect();
        while let Some((_, guild)) = oldest.pop_first() {
            let index = bases.get(guild);
            let Some((.., known)) = evictable(guild, index) else {
                continue;
            };
            self.evict_oldest(guild, index, known)?;
            metrics::counter!("hub_store_forgotten_early_total").increment(1);
            if self.free_bytes()? >= needed {
                return Ok(());
            }
            oldest.extend(evictable(guild, bases.get(guild)).map(|(at, guild, _)| (at, guild)));
        }
        Ok(())
    }

    /// Evicts a guild's entries up to its next base in the file, or up to the newest entry.
    fn evict_oldest(
        &mut self,
        guild: GuildId,
        index: &mut BaseIndex,
        known: &GuildRecord,
    ) -> Result<(), Failure> {
        let oldest = index.bases.pop_front();
        match index.bases.front() {
            Some((next, _)) => rows::delete_before(self.transaction, guild, *next),
            None => {
                index.bases.extend(oldest);
                self.forget_entries(guild, index, known)
            }
        }
    }

    /// How much the file may still take, in bytes: what it may grow, and what is free in it.
    fn free_bytes(&self) -> Result<u64, Failure> {
        let pages = |pragma: &str| {
            let mut statement = self.transaction.prepare_cached(pragma)?;
            statement.query_row([], |row| row.get::<_, i64>(0).map(i64::unsigned_abs))
        };
        let used = pages("PRAGMA page_count")?.saturating_sub(pages("PRAGMA freelist_count")?);
        Ok(self
            .settings
            .store_bytes_max
            .saturating_sub(used * PAGE_BYTES))
    }
}

/// How many bytes a group writes, about. The entries of each guild may need a page of their own.
pub(super) fn estimate(group: &Group) -> u64 {
    let record = &group.record;
    let entries = record.entries.iter().map(|entry| entry.json.len());
    let rooms = LedgerChange::last_of_each(&record.ledger).filter_map(|change| match change {
        LedgerChange::Room(room) => Some(room.row().len()),
        _ => None,
    });
    let rows = entries.chain(rooms).sum::<usize>() as u64;
    let guilds: BTreeSet<_> = record
        .guilds()
        .into_iter()
        .chain(record.marks.keys().copied())
        .collect();
    rows + guilds.len() as u64 * PAGE_BYTES
}
