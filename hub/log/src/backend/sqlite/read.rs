//! Reading a store back whole: all of it is what was written, or none of it is used.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use launch::rate::RateBucket;
use proto::{ChannelId, GuildId};
use rusqlite::{Connection, Row};
use serde::de::DeserializeOwned;

use super::BaseIndex;
use super::group::GuildRow;
use super::schema::{self, checksum};
use crate::backend::Failure;
use crate::entry::{Entry, Position};
use crate::log_state::{GuildRecord, chained};
use crate::retention::Retention;
use crate::rooms::{CreateTicket, LedgerChange, OwnedRoom, PendingCreate};
use crate::state::{Change, GuildState};
use crate::tail::{Known, STRIDE, Tail};
use crate::workers::{Holder, Progress, Workers};

/// Ids of a window, oldest first, each with when it was admitted.
type Ids = Vec<(u64, Arc<str>)>;

/// All that stands in a store.
pub(super) struct StoreContents {
    /// Which form it has.
    pub(super) form: i64,
    /// Names the store. None: it is new.
    pub(super) store: Option<String>,
    pub(super) workers: Workers,
    pub(super) guilds: BTreeMap<GuildId, StoredGuild>,
    /// Ids of events that were appended by hand.
    pub(super) event_ids: Ids,
    pub(super) next_event_id: u64,
    /// The ledger's rooms and budgets.
    pub(super) ledger: Vec<LedgerChange>,
    /// Its pending creates.
    pub(super) pending: Vec<(CreateTicket, PendingCreate)>,
    /// Interactions that were answered.
    pub(super) interactions: Ids,
    pub(super) next_interaction: u64,
}

pub(super) struct StoredGuild {
    pub(super) record: GuildRecord,
    pub(super) retention: Retention,
    pub(super) index: BaseIndex,
}

impl StoreContents {
    /// A store that begins.
    pub(super) fn nothing() -> Self {
        Self {
            form: schema::VERSION,
            store: None,
            workers: Workers::default(),
            guilds: BTreeMap::new(),
            event_ids: Vec::new(),
            next_event_id: 0,
            ledger: Vec::new(),
            pending: Vec::new(),
            interactions: Vec::new(),
            next_interaction: 0,
        }
    }
}

/// Reads, and checks whatever is read.
pub(super) struct Reader<'a>(pub(super) &'a Connection);

impl Reader<'_> {
    /// All of a store of this form.
    pub(super) fn contents(&self, form: i64) -> Result<StoreContents, Failure> {
        let store = self
            .meta("store")?
            .ok_or_else(|| Failure::damaged("it has no name"))?;
        let workers = self.workers()?;
        let mut guilds = BTreeMap::new();
        for (guild, row) in self.keyed::<GuildRow>("guilds", "guild")? {
            let id = id(guild, GuildId::new)?;
            guilds.insert(id, self.guild(id, &row, form)?);
        }
        let mut ledger = self.rooms()?;
        let mut pending = Vec::new();
        let (mut interactions, mut next_interaction) = (Vec::new(), 0);
        if form > 2 {
            (interactions, next_interaction) = self.ids("interactions", true)?;
            ledger.extend(self.budgets()?);
            for (ticket, create) in self.keyed("pending", "ticket")? {
                pending.push((CreateTicket(i64::cast_unsigned(ticket)), create));
            }
        }
        let (event_ids, next_event_id) = self.ids("seen", form > 2)?;
        Ok(StoreContents {
            form,
            store: Some(store),
            workers,
            guilds,
            event_ids,
            next_event_id,
            ledger,
            pending,
            interactions,
            next_interaction,
        })
    }

    fn rooms(&self) -> Result<Vec<LedgerChange>, Failure> {
        let mut rooms = Vec::new();
        for (channel, body) in self.rows("rooms", "channel")? {
            let channel_id = id(channel, ChannelId::new)?;
            match OwnedRoom::read(channel_id, &body) {
                Some(room) => rooms.push(LedgerChange::Room(Arc::new(room))),
                None => {
                    tracing::error!(%channel_id, "ALARM: a room of the ledger cannot be read");
                }
            }
        }
        Ok(rooms)
    }

    fn budgets(&self) -> Result<Vec<LedgerChange>, Failure> {
        let damaged = || Failure::damaged("a row of budgets is not what was written");
        let mut statement = self.0.prepare("SELECT owner, body, sum FROM budgets")?;
        let mut rows = statement.query([])?;
        let mut budgets = Vec::new();
        while let Some(row) = rows.next()? {
            let (owner, body): (String, Vec<u8>) = (row.get(0)?, row.get(1)?);
            let expected = checksum("budgets", &[owner.as_bytes(), &body]);
            if row.get_ref(2)?.as_blob().ok() != Some(&expected[..]) {
                return Err(damaged());
            }
            let full_at_us = serde_json::from_slice(&body).map_err(|_| damaged())?;
            let bucket = RateBucket::full_at(full_at_us);
            budgets.push(LedgerChange::Budget(owner.into(), Some(bucket)));
        }
        Ok(budgets)
    }

    fn workers(&self) -> Result<Workers, Failure> {
        let mut holders = Vec::new();
        let mut progress: BTreeMap<i64, Progress> =
            self.keyed("reached", "shard")?.into_iter().collect();
        for (shard, holder) in self.keyed::<Holder>("holders", "shard")? {
            let progress = progress
                .remove(&shard)
                .ok_or_else(|| Failure::damaged(format!("shard {shard} reached nothing")))?;
            let shard = u32::try_from(shard).map_err(|_| Failure::damaged("a shard's number"))?;
            holders.push((shard, Holder { progress, ..holder }));
        }
        let generation = self.meta("generation")?.unwrap_or_default();
        let identifies: Vec<u64> = self.meta("identifies")?.unwrap_or_default();
        let (ids, next_id) = self.ids("spent", true)?;
        Ok(Workers::restored(
            generation, holders, identifies, ids, next_id,
        ))
    }

    /// A guild: its oldest base, and every entry since, up to where its row says that it stands.
    fn guild(&self, guild: GuildId, row: &GuildRow, form: i64) -> Result<StoredGuild, Failure> {
        let damaged = |why: &str| Failure::damaged(format!("guild {guild}: {why}"));
        let mut bases = self.bases(guild)?.into_iter();
        let (known, kept_ms) = bases.next().ok_or_else(|| damaged("it has no base"))?;
        let mut index = BaseIndex::default();
        index.bases.push_back((known.position.offset, kept_ms));
        let (mut position, mut state) = (known.position, known.state.clone());
        let mut tail = Tail::begin(known);
        let (mut times, mut newest_ms) = (VecDeque::new(), 0);
        let mut later = bases.peekable();
        let mut statement = self.0.prepare_cached(
            "SELECT at_offset, ts, kept_ms, at_check, body, sum FROM entries WHERE guild = ?1 ORDER BY at_offset",
        )?;
        let mut rows = statement.query([guild.get().cast_signed()])?;
        while let Some(row) = rows.next()? {
            let ts = number(row, 1)?;
            let kept_ms = number(row, 2)?;
            let body = row.get_ref(4)?.as_blob().map_err(rusqlite::Error::from)?;
            position.offset += 1;
            position.check = chained(position, body, ts);
            let expected = checksum(
                "entries",
                &[
                    &guild.get().to_be_bytes(),
                    &position.offset.to_be_bytes(),
                    &kept_ms.to_be_bytes(),
                    &position.check.to_be_bytes(),
                ],
            );
            if number(row, 0)? != position.offset
                || row.get::<_, i64>(3)? != i64::from(position.check)
                || row.get_ref(5)?.as_blob().ok() != Some(&expected[..])
            {
                return Err(damaged("its entries do not follow one another"));
            }
            let change: Change =
                serde_json::from_slice(body).map_err(|_| damaged("an entry cannot be read"))?;
            state.apply(&change);
            tail.push(
                Arc::new(Entry {
                    position,
                    change,
                    ts,
                }),
                &state,
            );
            newest_ms = kept_ms;
            if position.offset.is_multiple_of(STRIDE) {
                times.push_back((position.offset, kept_ms));
            }
            if let Some((mut base, kept_ms)) = later.next_if(|(base, _)| base.position == position)
            {
                if form == 1 {
                    base.state.adopt_inherited_denies(&state);
                }
                if base.state != state {
                    return Err(damaged("a base is another state than its entries make"));
                }
                index.bases.push_back((base.position.offset, kept_ms));
            }
        }
        if position != row.position || later.peek().is_some() {
            return Err(damaged("it does not stand where its row says"));
        }
        Ok(StoredGuild {
            record: GuildRecord {
                position,
                mark: row.mark,
                state,
            },
            retention: Retention::restored(tail, times, newest_ms),
            index,
        })
    }

    /// The bases of a guild, oldest first, each with when it was kept.
    fn bases(&self, guild: GuildId) -> Result<Vec<(Known, u64)>, Failure> {
        let mut statement = self.0.prepare_cached(
            "SELECT at_offset, epoch, at_check, kept_ms, body, sum FROM bases WHERE guild = ?1 ORDER BY at_offset",
        )?;
        let mut rows = statement.query([guild.get().cast_signed()])?;
        let mut bases = Vec::new();
        while let Some(row) = rows.next()? {
            let damaged = |why: &str| Failure::damaged(format!("guild {guild}: {why}"));
            let position = Position {
                offset: number(row, 0)?,
                epoch: number(row, 1)?,
                check: u32::try_from(row.get::<_, i64>(2)?).map_err(|_| damaged("a check"))?,
            };
            let kept_ms = number(row, 3)?;
            let body = row.get_ref(4)?.as_blob().map_err(rusqlite::Error::from)?;
            let expected = checksum(
                "bases",
                &[
                    &guild.get().to_be_bytes(),
                    &position.offset.to_be_bytes(),
                    &position.epoch.to_be_bytes(),
                    &position.check.to_be_bytes(),
                    &kept_ms.to_be_bytes(),
                    body,
                ],
            );
            if row.get_ref(5)?.as_blob().ok() != Some(&expected[..]) {
                return Err(damaged("a base is not what was written"));
            }
            let state: GuildState =
                serde_json::from_slice(body).map_err(|_| damaged("a base cannot be read"))?;
            bases.push((Known { position, state }, kept_ms));
        }
        Ok(bases)
    }

    /// The ids of a window, oldest first, each with when, and the number of the next one.
    /// `has_times`: older forms lack the times of some.
    fn ids(&self, table: &str, has_times: bool) -> Result<(Ids, u64), Failure> {
        let at_ms = if has_times { "at_ms" } else { "0" };
        let mut statement = self.0.prepare_cached(&format!(
            "SELECT number, id, {at_ms}, sum FROM {table} ORDER BY number"
        ))?;
        let mut rows = statement.query([])?;
        let (mut ids, mut next) = (Vec::new(), None);
        while let Some(row) = rows.next()? {
            let (at_number, at_ms) = (number(row, 0)?, number(row, 2)?);
            let id = row.get_ref(1)?.as_str().map_err(rusqlite::Error::from)?;
            let (number, time) = (at_number.to_be_bytes(), at_ms.to_be_bytes());
            let columns = [&number[..], id.as_bytes(), &time];
            let columns = if has_times {
                &columns[..]
            } else {
                &columns[..2]
            };
            if row.get_ref(3)?.as_blob().ok() != Some(&checksum(table, columns)[..])
                || next.is_some_and(|next| next != at_number)
            {
                return Err(Failure::damaged(format!("the ids in {table}")));
            }
            ids.push((at_ms, id.into()));
            next = Some(at_number + 1);
        }
        Ok((ids, next.unwrap_or(0)))
    }

    pub(super) fn meta<T: DeserializeOwned>(&self, key: &str) -> Result<Option<T>, Failure> {
        let mut statement = self
            .0
            .prepare_cached("SELECT body, sum FROM meta WHERE key = ?1")?;
        let mut rows = statement.query([key])?;
        let Some(row) = rows.next()? else {
            return Ok(None);
        };
        let body = row.get_ref(0)?.as_blob().map_err(rusqlite::Error::from)?;
        let expected = checksum("meta", &[key.as_bytes(), body]);
        if row.get_ref(1)?.as_blob().ok() != Some(&expected[..]) {
            return Err(Failure::damaged(format!("{key} is not what was written")));
        }
        serde_json::from_slice(body)
            .map(Some)
            .map_err(|_| Failure::damaged(format!("{key} cannot be read")))
    }

    /// The rows of a table whose key is a number.
    fn rows(&self, table: &str, key: &str) -> Result<Vec<(i64, Vec<u8>)>, Failure> {
        let mut statement = self.0.prepare(&format!(
            "SELECT {key}, body, sum FROM {table} ORDER BY {key}"
        ))?;
        let mut rows = statement.query([])?;
        let mut found = Vec::new();
        while let Some(row) = rows.next()? {
            let key: i64 = row.get(0)?;
            let body: Vec<u8> = row.get(1)?;
            let expected = checksum(table, &[&key.to_be_bytes(), &body]);
            if row.get_ref(2)?.as_blob().ok() != Some(&expected[..]) {
                return Err(Failure::damaged(format!(
                    "a row of {table} is not what was written"
                )));
            }
            found.push((key, body));
        }
        Ok(found)
    }

    fn keyed<T: DeserializeOwned>(&self, table: &str, key: &str) -> Result<Vec<(i64, T)>, Failure> {
        self.rows(table, key)?
            .into_iter()
            .map(|(key, body)| {
                let row = serde_json::from_slice(&body)
                    .map_err(|_| Failure::damaged(format!("a row of {table} cannot be read")))?;
                Ok((key, row))
            })
            .collect()
    }
}

fn number(row: &Row<'_>, index: usize) -> Result<u64, Failure> {
    Ok(row.get::<_, i64>(index)?.cast_unsigned())
}

fn id<T, E>(number: i64, new: impl Fn(u64) -> Result<T, E>) -> Result<T, Failure> {
    new(number.cast_unsigned()).map_err(|_| Failure::damaged("an id"))
}
