//! The store near its bound: the oldest entries of any guild give way before something is refused.
//!
//! Each guild's past has bounds of its own, and many busy guilds may fill the store within them.
//! Only what lies in the file gives way: in memory it stays as long as it would, and is missing
//! after a restart, when whoever comes back from there gets a snapshot.

use std::collections::BTreeSet;

use proto::GuildId;

use super::group::Group;
use super::{Failure, PAGE_BYTES, Shape, Shapes};
use crate::truth::History;
use crate::writer::{Draft, Memory};

/// Which part of the bound is kept free.
const RESERVE: u64 = 16;
/// How many entries are worth it that their guild's state is written once more, where no state
/// after them is in the file: about a page of them.
const WORTH_ENTRIES: u64 = 16;

impl Group<'_> {
    /// Has the oldest past of any guild give way until there is room for what a draft writes, or
    /// until nothing is left that could. `before` is what was durable, `refused_bytes` how much
    /// could not be written just before.
    pub(super) fn make_room(
        &mut self,
        shapes: &mut Shapes<'_>,
        draft: &Draft,
        before: &Memory,
        refused_bytes: u64,
    ) -> Result<(), Failure> {
        let reserve = self.bounds.bytes_max / RESERVE;
        let needed = reserve.saturating_add(refused_bytes.max(estimate(draft)).saturating_mul(2));
        if self.free_bytes()? >= needed {
            return Ok(());
        }
        let may_give = |guild: GuildId, shape: &Shape| {
            let history = before.truth.guild(guild)?;
            let (first, at) = *shape.bases.front()?;
            let entries = history.place.offset.saturating_sub(first);
            (shape.bases.len() > 1 || entries >= WORTH_ENTRIES).then_some((at, guild, history))
        };
        let mut oldest: BTreeSet<(u64, GuildId)> = shapes
            .there
            .iter()
            .filter_map(|(guild, shape)| may_give(*guild, shape))
            .map(|(at, guild, _)| (at, guild))
            .collect();
        while let Some((_, guild)) = oldest.pop_first() {
            let shape = shapes.get(guild);
            let Some((.., history)) = may_give(guild, shape) else {
                continue;
            };
            self.give_way(guild, shape, history)?;
            metrics::counter!("hub_store_forgotten_early_total").increment(1);
            if self.free_bytes()? >= needed {
                return Ok(());
            }
            oldest.extend(may_give(guild, shapes.get(guild)).map(|(at, guild, _)| (at, guild)));
        }
        Ok(())
    }

    /// Forgets a guild's entries up to its next state in the file, or up to the newest.
    fn give_way(
        &mut self,
        guild: GuildId,
        shape: &mut Shape,
        history: &History,
    ) -> Result<(), Failure> {
        let oldest = shape.bases.pop_front();
        match shape.bases.front() {
            Some((next, _)) => self.delete_past(guild, *next),
            None => {
                shape.bases.extend(oldest);
                self.forget_past(guild, shape, history)
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
        Ok(self.bounds.bytes_max.saturating_sub(used * PAGE_BYTES))
    }
}

/// How much a draft writes, in bytes, about. Each guild's entries may need a page of their own.
pub(super) fn estimate(draft: &Draft) -> u64 {
    let entries = draft.written.iter().map(|written| written.json.len());
    let rooms = draft.rooms.iter().filter_map(|row| row.room.as_ref());
    let rows = entries.chain(rooms.map(Vec::len)).sum::<usize>() as u64;
    rows + draft.guilds.len() as u64 * PAGE_BYTES
}
