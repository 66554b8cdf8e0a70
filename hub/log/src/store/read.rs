//! Reading a store back whole: all of it is what was written, or none of it is used.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use proto::{ChannelId, GuildId};
use rusqlite::{Connection, Row};
use serde::de::DeserializeOwned;

use super::group::{GuildRow, HolderRow, ReachedRow};
use super::load::KeptPast;
use super::schema::{self, sum};
use super::{Failure, Shape};
use crate::chain::{Chain, Holder};
use crate::tail::{Known, STRIDE, Tail};
use crate::truth::{History, chained};
use crate::writer::LedgerRow;
use crate::{Change, Entry, GuildState, Place};

/// All that stands in a store.
pub(super) struct Found {
    /// Which form it has.
    pub(super) form: i64,
    pub(super) store: Option<String>,
    pub(super) chain: Chain,
    /// The number of the oldest id of a claim or a notice.
    pub(super) spent_first: u64,
    /// Whether there is a table for them: stores of the first days have none.
    pub(super) has_spent: bool,
    pub(super) guilds: BTreeMap<GuildId, FoundGuild>,
    pub(super) seen: Vec<Arc<str>>,
    pub(super) next_seen: u64,
    pub(super) rooms: Vec<LedgerRow>,
}

pub(super) struct FoundGuild {
    pub(super) history: History,
    pub(super) past: KeptPast,
    pub(super) shape: Shape,
}

impl Found {
    /// What stands in a store that begins.
    pub(super) fn nothing() -> Self {
        Self {
            form: schema::VERSION,
            store: None,
            chain: Chain::default(),
            spent_first: 0,
            has_spent: true,
            guilds: BTreeMap::new(),
            seen: Vec::new(),
            next_seen: 0,
            rooms: Vec::new(),
        }
    }
}

/// Reads, and checks whatever is read.
pub(super) struct Reader<'a>(pub(super) &'a Connection);

impl Reader<'_> {
    /// All of a store of this form.
    pub(super) fn found(&self, form: i64) -> Result<Found, Failure> {
        let store = self
            .meta("store")?
            .ok_or_else(|| Failure::damaged("it has no name"))?;
        let has_spent = self.has_spent()?;
        let (spent, spent_first) = if has_spent {
            self.spent()?
        } else {
            (Vec::new(), 0)
        };
        let chain = self.chain(spent)?;
        let mut guilds = BTreeMap::new();
        for (guild, row) in self.keyed::<GuildRow>("guilds", "guild")? {
            let id = id(guild, GuildId::new)?;
            guilds.insert(id, self.guild(id, &row, form)?);
        }
        let rooms = self
            .rows("rooms", "channel")?
            .into_iter()
            .map(|(channel, body)| {
                Ok(LedgerRow {
                    channel: id(channel, ChannelId::new)?,
                    room: Some(body),
                })
            })
            .collect::<Result<_, Failure>>()?;
        let (seen, next_seen) = self.seen()?;
        Ok(Found {
            form,
            store: Some(store),
            chain,
            spent_first,
            has_spent,
            guilds,
            seen,
            next_seen,
            rooms,
        })
    }

    fn chain(&self, spent: Vec<(String, u64)>) -> Result<Chain, Failure> {
        let mut holders = Vec::new();
        let mut reached: BTreeMap<i64, ReachedRow> =
            self.keyed("reached", "shard")?.into_iter().collect();
        for (shard, row) in self.keyed::<HolderRow>("holders", "shard")? {
            let ReachedRow {
                reached,
                taken,
                checkpoint,
                lost,
                absent,
            } = reached
                .remove(&shard)
                .ok_or_else(|| Failure::damaged(format!("shard {shard} reached nothing")))?;
            let shard = u32::try_from(shard).map_err(|_| Failure::damaged("a shard's number"))?;
            let holder = Holder {
                of: row.of,
                generation: row.generation,
                worker: row.worker,
                claim_id: row.claim_id,
                guilds: row.guilds,
                reached,
                taken,
                checkpoint,
                lost,
                absent: absent.into_iter().collect(),
            };
            holders.push((shard, holder));
        }
        let generation = self.meta("generation")?.unwrap_or_default();
        let identifies: Vec<u64> = self.meta("identifies")?.unwrap_or_default();
        Ok(Chain::restored(generation, holders, identifies, spent))
    }

    /// A guild: its oldest base, and every entry since, up to where its row says that it stands.
    fn guild(&self, guild: GuildId, row: &GuildRow, form: i64) -> Result<FoundGuild, Failure> {
        let damaged = |why: &str| Failure::damaged(format!("guild {guild}: {why}"));
        let mut bases = self.bases(guild)?.into_iter();
        let (known, kept_ms) = bases.next().ok_or_else(|| damaged("it has no base"))?;
        let mut shape = Shape::default();
        shape.bases.push_back((known.place.offset, kept_ms));
        let (mut place, mut state) = (known.place, known.state.clone());
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
            place.offset += 1;
            place.check = chained(place, body, ts);
            let expected = sum(
                "entries",
                &[
                    &guild.get().to_be_bytes(),
                    &place.offset.to_be_bytes(),
                    &kept_ms.to_be_bytes(),
                    &place.check.to_be_bytes(),
                ],
            );
            if number(row, 0)? != place.offset
                || row.get::<_, i64>(3)? != i64::from(place.check)
                || row.get_ref(5)?.as_blob().ok() != Some(&expected[..])
            {
                return Err(damaged("its entries do not follow one another"));
            }
            let change: Change =
                serde_json::from_slice(body).map_err(|_| damaged("an entry can not be read"))?;
            state.apply(&change);
            tail.push(Arc::new(Entry { place, change, ts }), &state);
            newest_ms = kept_ms;
            if place.offset.is_multiple_of(STRIDE) {
                times.push_back((place.offset, kept_ms));
            }
            if let Some((mut base, kept_ms)) = later.next_if(|(base, _)| base.place == place) {
                if form == 1 {
                    base.state.adopt_inherited_denies(&state);
                }
                if base.state != state {
                    return Err(damaged("a base is another state than its entries make"));
                }
                shape.bases.push_back((base.place.offset, kept_ms));
            }
        }
        if place != row.place || later.peek().is_some() {
            return Err(damaged("it does not stand where its row says"));
        }
        Ok(FoundGuild {
            history: History {
                place,
                mark: row.mark,
                state,
            },
            past: KeptPast {
                tail,
                times,
                newest_ms,
            },
            shape,
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
            let place = Place {
                offset: number(row, 0)?,
                epoch: number(row, 1)?,
                check: u32::try_from(row.get::<_, i64>(2)?).map_err(|_| damaged("a check"))?,
            };
            let kept_ms = number(row, 3)?;
            let body = row.get_ref(4)?.as_blob().map_err(rusqlite::Error::from)?;
            let expected = sum(
                "bases",
                &[
                    &guild.get().to_be_bytes(),
                    &place.offset.to_be_bytes(),
                    &place.epoch.to_be_bytes(),
                    &place.check.to_be_bytes(),
                    &kept_ms.to_be_bytes(),
                    body,
                ],
            );
            if row.get_ref(5)?.as_blob().ok() != Some(&expected[..]) {
                return Err(damaged("a base is not what was written"));
            }
            let state: GuildState =
                serde_json::from_slice(body).map_err(|_| damaged("a base can not be read"))?;
            bases.push((Known { place, state }, kept_ms));
        }
        Ok(bases)
    }

    fn has_spent(&self) -> Result<bool, Failure> {
        let tables = "SELECT count(*) FROM sqlite_schema WHERE type = 'table' AND name = 'spent'";
        Ok(self.0.query_row(tables, [], |row| row.get::<_, i64>(0))? == 1)
    }

    /// The ids of claims and notices, oldest first, each with when; and the number of the oldest.
    fn spent(&self) -> Result<(Vec<(String, u64)>, u64), Failure> {
        let mut statement = self
            .0
            .prepare_cached("SELECT number, id, at_ms, sum FROM spent ORDER BY number")?;
        let mut rows = statement.query([])?;
        let (mut spent, mut first) = (Vec::new(), None);
        while let Some(row) = rows.next()? {
            let (at_number, at_ms) = (number(row, 0)?, number(row, 2)?);
            let id: String = row.get(1)?;
            let expected = sum(
                "spent",
                &[
                    &at_number.to_be_bytes(),
                    id.as_bytes(),
                    &at_ms.to_be_bytes(),
                ],
            );
            let first = *first.get_or_insert(at_number);
            if row.get_ref(3)?.as_blob().ok() != Some(&expected[..])
                || first + spent.len() as u64 != at_number
            {
                return Err(Failure::damaged("the ids of claims"));
            }
            spent.push((id, at_ms));
        }
        Ok((spent, first.unwrap_or(0)))
    }

    fn seen(&self) -> Result<(Vec<Arc<str>>, u64), Failure> {
        let mut statement = self
            .0
            .prepare_cached("SELECT number, id, sum FROM seen ORDER BY number")?;
        let mut rows = statement.query([])?;
        let (mut seen, mut next) = (Vec::new(), None);
        while let Some(row) = rows.next()? {
            let number = number(row, 0)?;
            let id = row.get_ref(1)?.as_str().map_err(rusqlite::Error::from)?;
            let expected = sum("seen", &[&number.to_be_bytes(), id.as_bytes()]);
            if row.get_ref(2)?.as_blob().ok() != Some(&expected[..])
                || next.is_some_and(|next| next != number)
            {
                return Err(Failure::damaged("the ids of known events"));
            }
            seen.push(id.into());
            next = Some(number + 1);
        }
        Ok((seen, next.unwrap_or(0)))
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
        let expected = sum("meta", &[key.as_bytes(), body]);
        if row.get_ref(1)?.as_blob().ok() != Some(&expected[..]) {
            return Err(Failure::damaged(format!("{key} is not what was written")));
        }
        serde_json::from_slice(body)
            .map(Some)
            .map_err(|_| Failure::damaged(format!("{key} can not be read")))
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
            let expected = sum(table, &[&key.to_be_bytes(), &body]);
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
                    .map_err(|_| Failure::damaged(format!("a row of {table} can not be read")))?;
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
