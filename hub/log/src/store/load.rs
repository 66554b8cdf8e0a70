//! Opening a store: the file is judged, read back whole, and brought in line with the settings; or
//! it is set aside, and an empty one takes its place.

use std::collections::{BTreeMap, VecDeque};
use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use proto::GuildId;
use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, MAIN_DB};

use super::checkpoints::Checkpointer;
use super::group::Group;
use super::read::{Found, Reader};
use super::schema;
use super::{Failure, Shape, Store, StoreBounds, connect, json, prepare};
use crate::StoreError;
use crate::files::Files;
use crate::tail::{Known, Tail};
use crate::truth::{History, Truth};
use crate::writer::LedgerRow;

/// What was kept.
pub(crate) struct Kept {
    /// Names the store.
    pub(crate) store: String,
    pub(crate) truth: Truth,
    /// Each guild's past.
    pub(crate) pasts: BTreeMap<GuildId, KeptPast>,
    /// Ids of events told by hand, oldest first.
    pub(crate) seen: Vec<Arc<str>>,
    /// The number of the next one.
    pub(crate) next_seen: u64,
    /// The ledger's rooms.
    pub(crate) rooms: Vec<LedgerRow>,
}

/// One guild's past, as far as it is kept.
pub(crate) struct KeptPast {
    pub(crate) tail: Tail,
    /// Offsets that entries were kept at, and when, oldest first, as many as there are strides.
    pub(crate) times: VecDeque<(u64, u64)>,
    /// When the newest entry was kept; 0 without one.
    pub(crate) newest_ms: u64,
}

impl KeptPast {
    /// The past of a guild that begins.
    pub(crate) fn begin(history: &History) -> Self {
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
            Failure::Failed(rusqlite::Error::SqliteFailure(cause, _))
                if matches!(
                    cause.code,
                    ErrorCode::ReadOnly | ErrorCode::PermissionDenied
                ) =>
            {
                Self::Refused(StoreError::wrong(failure.to_string()))
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
    pub(crate) fn open(
        path: &Path,
        bounds: &StoreBounds,
        guilds: &[GuildId],
        named: &str,
        now_ms: u64,
    ) -> Result<(Self, Kept), StoreError> {
        let files = Files::take(path).map_err(|error| {
            if error.is_wrong_setting() {
                StoreError::wrong(error.to_string())
            } else {
                StoreError::failed(error.to_string())
            }
        })?;
        files
            .finish_anew(now_ms)
            .and_then(|()| files.drop_anew())
            .map_err(|error| StoreError::failed(format!("can not be put in its place: {error}")))?;
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
            spent_first: 0,
            unchecked_bytes: 0,
            refused_bytes: 0,
            anew_failed_at: None,
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
        self.spent_first = found.spent_first;
        let transaction = self.connection.transaction()?;
        let mut group = Group {
            transaction: &transaction,
            bounds: &self.bounds,
            now_ms,
            spent_first: self.spent_first,
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
        let is_older = found.form != schema::VERSION;
        if is_older {
            tracing::info!(
                from = found.form,
                to = schema::VERSION,
                "the store gets the form of this version; an older version does not open it any more"
            );
            group.put_meta("version", &json(&schema::VERSION))?;
            group
                .transaction
                .pragma_update(None, "user_version", schema::VERSION)?;
        }
        let mut changed = is_new || is_older || !found.has_spent;
        if !found.has_spent {
            group.transaction.execute_batch(schema::ADD_SPENT)?;
        }
        for (guild, mut found) in found.guilds {
            if guilds.contains(&guild) {
                if is_older {
                    // Its bases are of the older form; its state stands for them.
                    group.forget_past(guild, &mut found.shape, &found.history)?;
                    found.past = KeptPast::begin(&found.history);
                }
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
    let found = if let Some(form) = judge(&connection)? {
        Reader(&connection).found(form)?
    } else {
        connection.execute_batch(&format!(
            "BEGIN; {} PRAGMA application_id = {}; PRAGMA user_version = {}; COMMIT;",
            schema::TABLES,
            schema::APPLICATION,
            schema::VERSION
        ))?;
        Found::nothing()
    };
    prepare(&connection, bounds)?;
    connection.set_db_config(keep_journal, false)?;
    Ok((connection, found))
}

/// The form of what is to be read, if there is anything.
fn judge(connection: &Connection) -> Result<Option<i64>, NotOpen> {
    let number = |sql: &str| connection.query_row(sql, [], |row| row.get::<_, i64>(0));
    let version = number("PRAGMA user_version")?;
    let application = number("PRAGMA application_id")?;
    let tables = number("SELECT count(*) FROM sqlite_schema WHERE type = 'table'")?;
    let ours = number("SELECT count(*) FROM sqlite_schema WHERE name = 'meta'")? == 1;
    if tables == 0 && version == 0 {
        return Ok(None);
    }
    if !ours && application != schema::APPLICATION {
        return Err(NotOpen::Refused(StoreError::wrong(
            "it is a database, and not a store of Roomwire".to_owned(),
        )));
    }
    let written = Reader(connection).meta::<i64>("version").ok().flatten();
    let is_known = (schema::OLDEST..=schema::VERSION).contains(&version);
    // A number in the header that fell to an older form's is damage.
    if is_known && written.is_none_or(|written| written == version) {
        return Ok(Some(version));
    }
    if version > schema::VERSION && written.is_none_or(|written| written > schema::VERSION) {
        return Err(NotOpen::Refused(StoreError::wrong(format!(
            "it was written by a later version of Roomwire (form {version}, this one knows {})",
            schema::VERSION
        ))));
    }
    Err(NotOpen::Damaged(format!("its form is {version}")))
}
