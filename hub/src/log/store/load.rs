//! Opening a store, and reading it back whole: all of it is what was written, or none of it is used.

use std::collections::{BTreeMap, VecDeque};
use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use proto::{ChannelId, GuildId};
use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, MAIN_DB, Row};
use serde::de::DeserializeOwned;

use super::checkpoints::Checkpointer;
use super::group::{Group, GuildRow, HolderRow, ReachedRow};
use super::schema::{self, sum};
use super::{Failure, Shape, Store, StoreBounds, connect, json, prepare};
use crate::log::chain::{Chain, Holder};
use crate::log::files::{Files, NotTaken};
use crate::log::tail::{Known, STRIDE, Tail};
use crate::log::truth::{History, Truth, chained};
use crate::log::writer::LedgerRow;
use crate::log::{Change, Entry, GuildState, Place, StoreError};

/// What was kept.
pub(in crate::log) struct Kept {
    /// Names the store.
    pub(in crate::log) store: String,
    pub(in crate::log) truth: Truth,
    /// Each guild's past.
    pub(in crate::log) pasts: BTreeMap<GuildId, KeptPast>,
    /// Ids of events told by hand, oldest first.
    pub(in crate::log) seen: Vec<Arc<str>>,
    /// The number of the next one.
    pub(in crate::log) next_seen: u64,
    /// The ledger's rooms.
    pub(in crate::log) rooms: Vec<LedgerRow>,
}

/// One guild's past, as far as it is kept.
pub(in crate::log) struct KeptPast {
    pub(in crate::log) tail: Tail,
    /// Offsets that entries were kept at, and when, oldest first, as many as there are strides.
    pub(in crate::log) times: VecDeque<(u64, u64)>,
    /// When the newest entry was kept; 0 without one.
    pub(in crate::log) newest_ms: u64,
}

impl KeptPast {
    /// The past of a guild that begins.
    pub(in crate::log) fn begin(history: &History) -> Self {
        Self {
            tail: Tail::begin(Known {
                place: history.place,
                state: history.state.clone(),
            }),
            times: VecDeque::new(),
            newest_ms: 0,
        }
    }
}

/// Why a store is not open.
enum NotOpen {
    /// It is damaged: another one takes its place.
    Damaged(String),
    /// Somebody has to look.
    Refused(StoreError),
}

impl From<Failure> for NotOpen {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Damaged(why) => Self::Damaged(why),
            // Nothing is wrong with what is asked, nor with the disk: it is the file ("unsupported
            // file format", "malformed database schema").
            Failure::Failed(rusqlite::Error::SqliteFailure(cause, why))
                if cause.code == ErrorCode::Unknown =>
            {
                Self::Damaged(why.unwrap_or_else(|| cause.to_string()))
            }
            Failure::Failed(_) | Failure::NoPlace(_) | Failure::Taken => {
                Self::Refused(StoreError::failed(failure.to_string()))
            }
        }
    }
}

impl From<rusqlite::Error> for NotOpen {
    fn from(error: rusqlite::Error) -> Self {
        Failure::from(error).into()
    }
}

impl Store {
    /// Opens the store of these guilds, and forgets all others. A damaged one is set aside, and an
    /// empty one takes its place. `named` names a new one.
    pub(in crate::log) fn open(
        path: &Path,
        bounds: &StoreBounds,
        guilds: &[GuildId],
        named: &str,
        now_ms: u64,
    ) -> Result<(Self, Kept), StoreError> {
        let files = Files::take(path).map_err(|error| match error {
            NotTaken::NotAFile => StoreError::wrong(error.to_string()),
            NotTaken::Locked | NotTaken::Io(..) => StoreError::failed(error.to_string()),
        })?;
        let found = if files.is_suspect() {
            Err(NotOpen::Damaged(
                "it was found damaged while in use".to_owned(),
            ))
        } else {
            read(&files, bounds)
        };
        let (connection, kept) = match found {
            Ok(found) => found,
            Err(NotOpen::Refused(error)) => return Err(error),
            Err(NotOpen::Damaged(why)) => {
                let aside = files.set_aside(now_ms).map_err(|error| {
                    StoreError::failed(format!("can not be set aside: {error}"))
                })?;
                metrics::counter!("hub_store_set_aside_total").increment(1);
                tracing::error!(
                    why,
                    aside = %aside.display(),
                    "ALARM: the store was damaged and is set aside; an empty one takes its place, and workers tell every guild anew"
                );
                read(&files, bounds).map_err(|error| match error {
                    NotOpen::Refused(error) => error,
                    NotOpen::Damaged(why) => StoreError::failed(format!("an empty store: {why}")),
                })?
            }
        };
        let checkpointer = Checkpointer::start(files.main(), bounds)
            .map_err(|failure| StoreError::failed(failure.to_string()))?;
        let mut store = Self {
            checkpointer,
            connection,
            bounds: bounds.clone(),
            shapes: BTreeMap::new(),
            unchecked_bytes: 0,
            refused_bytes: 0,
            files,
        };
        let kept = store
            .begin(kept, guilds, named, now_ms)
            .map_err(|failure| StoreError::failed(failure.to_string()))?;
        store.files.note_opened();
        store.measure();
        Ok((store, kept))
    }

    /// Brings what was kept in line with the settings.
    fn begin(
        &mut self,
        found: Found,
        guilds: &[GuildId],
        named: &str,
        now_ms: u64,
    ) -> Result<Kept, Failure> {
        let mut kept = Kept {
            store: found.store.unwrap_or_default(),
            truth: Truth::default(),
            pasts: BTreeMap::new(),
            seen: found.seen,
            next_seen: found.next_seen,
            rooms: found.rooms,
        };
        kept.truth.chain = found.chain;
        let transaction = self.connection.transaction()?;
        let mut group = Group {
            transaction: &transaction,
            bounds: &self.bounds,
            now_ms,
            bytes: 0,
        };
        let is_new = kept.store.is_empty();
        if is_new {
            tracing::warn!(
                store = named,
                "a new store begins: no guild, no room that Roomwire made and no worker is known in it"
            );
            named.clone_into(&mut kept.store);
            group.put_meta("store", &json(&kept.store))?;
            group.put_meta("version", &json(&schema::VERSION))?;
        }
        let mut changed = is_new;
        for (guild, found) in found.guilds {
            if guilds.contains(&guild) {
                kept.truth.put(guild, found.history);
                kept.pasts.insert(guild, found.past);
                self.shapes.insert(guild, found.shape);
                continue;
            }
            // Nobody tells of it any more, so that what is known grows old.
            changed = true;
            group.delete_past(guild, u64::MAX)?;
            group.transaction.execute(
                "DELETE FROM guilds WHERE guild = ?1",
                [guild.get().cast_signed()],
            )?;
            tracing::info!(%guild, "not a guild of this hub any more: forgotten");
        }
        for guild in guilds {
            if kept.truth.guild(*guild).is_some() {
                continue;
            }
            changed = true;
            let history = History::begin(now_ms);
            let mut shape = Shape::default();
            group.write_base(*guild, &mut shape, history.place, &history.state)?;
            group.put_guild(*guild, history.place, history.mark)?;
            kept.pasts.insert(*guild, KeptPast::begin(&history));
            kept.truth.put(*guild, history);
            self.shapes.insert(*guild, shape);
        }
        if changed {
            transaction.commit()?;
        }
        Ok(kept)
    }
}

/// All that stands in a store.
#[derive(Default)]
struct Found {
    store: Option<String>,
    chain: Chain,
    guilds: BTreeMap<GuildId, FoundGuild>,
    seen: Vec<Arc<str>>,
    next_seen: u64,
    rooms: Vec<LedgerRow>,
}

struct FoundGuild {
    history: History,
    past: KeptPast,
    shape: Shape,
}

fn read(files: &Files, bounds: &StoreBounds) -> Result<(Connection, Found), NotOpen> {
    let connection = connect(files.main(), bounds)?;
    // A damaged store is set aside as it was found.
    let keep_journal = DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE;
    connection.set_db_config(keep_journal, true)?;
    if connection.is_readonly(MAIN_DB)? {
        return Err(match File::options().write(true).open(files.main()) {
            Err(error) => NotOpen::Refused(StoreError::failed(error.to_string())),
            // Its own header says so, which Roomwire never writes.
            Ok(_) => NotOpen::Damaged("its header says that it is read-only".to_owned()),
        });
    }
    let checked: String = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
    if checked != "ok" {
        return Err(NotOpen::Damaged(checked));
    }
    let found = if judge(&connection)? {
        Reader(&connection).found()?
    } else {
        connection.execute_batch(&format!(
            "BEGIN; {} PRAGMA application_id = {}; PRAGMA user_version = {}; COMMIT;",
            schema::TABLES,
            schema::APPLICATION,
            schema::VERSION
        ))?;
        Found::default()
    };
    prepare(&connection, bounds)?;
    connection.set_db_config(keep_journal, false)?;
    Ok((connection, found))
}

/// Whether there is something to be read.
fn judge(connection: &Connection) -> Result<bool, NotOpen> {
    let number = |sql: &str| connection.query_row(sql, [], |row| row.get::<_, i64>(0));
    let version = number("PRAGMA user_version")?;
    let application = number("PRAGMA application_id")?;
    let tables = number("SELECT count(*) FROM sqlite_schema WHERE type = 'table'")?;
    let ours = number("SELECT count(*) FROM sqlite_schema WHERE name = 'meta'")? == 1;
    if tables == 0 && version == 0 {
        return Ok(false);
    }
    if !ours && application != schema::APPLICATION {
        return Err(NotOpen::Refused(StoreError::wrong(
            "it is a database, and not a store of Roomwire".to_owned(),
        )));
    }
    if version == schema::VERSION {
        return Ok(true);
    }
    let written = Reader(connection).meta::<i64>("version").ok().flatten();
    if version > schema::VERSION && written.is_none_or(|written| written > schema::VERSION) {
        return Err(NotOpen::Refused(StoreError::wrong(format!(
            "it was written by a later version of Roomwire (form {version}, this one knows {})",
            schema::VERSION
        ))));
    }
    Err(NotOpen::Damaged(format!("its form is {version}")))
}

struct Reader<'a>(&'a Connection);

impl Reader<'_> {
    fn found(&self) -> Result<Found, Failure> {
        let store = self
            .meta("store")?
            .ok_or_else(|| Failure::damaged("it has no name"))?;
        let chain = self.chain()?;
        let mut guilds = BTreeMap::new();
        for (guild, row) in self.keyed::<GuildRow>("guilds", "guild")? {
            let id = id(guild, GuildId::new)?;
            guilds.insert(id, self.guild(id, &row)?);
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
            store: Some(store),
            chain,
            guilds,
            seen,
            next_seen,
            rooms,
        })
    }

    fn chain(&self) -> Result<Chain, Failure> {
        let mut holders = Vec::new();
        let mut reached: BTreeMap<i64, ReachedRow> =
            self.keyed("reached", "shard")?.into_iter().collect();
        for (shard, row) in self.keyed::<HolderRow>("holders", "shard")? {
            let ReachedRow {
                reached,
                taken,
                checkpoint,
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
                absent: absent.into_iter().collect(),
            };
            holders.push((shard, holder));
        }
        let generation = self.meta("generation")?.unwrap_or_default();
        let identifies: Vec<u64> = self.meta("identifies")?.unwrap_or_default();
        let spent: Vec<(String, u64)> = self.meta("spent")?.unwrap_or_default();
        Ok(Chain::restored(generation, holders, identifies, spent))
    }

    /// A guild: its oldest base, and every entry since, up to where its row says that it stands.
    fn guild(&self, guild: GuildId, row: &GuildRow) -> Result<FoundGuild, Failure> {
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
            if let Some((base, kept_ms)) = later.next_if(|(base, _)| base.place == place) {
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

    fn meta<T: DeserializeOwned>(&self, key: &str) -> Result<Option<T>, Failure> {
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
