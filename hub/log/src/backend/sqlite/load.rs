//! Opening a store: the file is judged, read back whole, and brought in line with the settings; or
//! it is set aside, and an empty one takes its place.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;

use proto::GuildId;
use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, MAIN_DB};

use super::files::Files;
use super::group::GroupWriter;
use super::read::{Reader, StoreContents};
use super::wal::WalCheckpointer;
use super::{BaseIndex, Store, connect, prepare, rows, schema};
use crate::backend::loaded::Loaded;
use crate::backend::{Failure, StoreError};
use crate::ledger::Ledger;
use crate::log_state::{GuildRecord, LogState};
use crate::settings::LogSettings;

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
            Failure::Failed(error) => {
                let of_sqlite = error.downcast_ref::<rusqlite::Error>();
                match of_sqlite.and_then(rusqlite::Error::sqlite_error_code) {
                    // Nothing is wrong with what is asked, nor with the disk: it is the file
                    // ("unsupported file format", "malformed database schema").
                    Some(ErrorCode::Unknown) => Self::Damaged(error.to_string()),
                    Some(ErrorCode::ReadOnly | ErrorCode::PermissionDenied) => {
                        Self::Refused(StoreError::wrong(error.to_string()))
                    }
                    _ => Self::Refused(StoreError::failed(error.to_string())),
                }
            }
            Failure::Taken => Self::Refused(StoreError::failed(failure.to_string())),
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
        settings: &LogSettings,
        guilds: &[GuildId],
        named: &str,
        now_ms: u64,
    ) -> Result<(Self, Loaded), StoreError> {
        let files = Files::take(path).map_err(|error| {
            if error.is_wrong_setting() {
                StoreError::wrong(error.to_string())
            } else {
                StoreError::failed(error.to_string())
            }
        })?;
        files
            .finish_rewrite(now_ms)
            .and_then(|()| files.drop_rewrite())
            .map_err(|error| StoreError::failed(format!("cannot be put in its place: {error}")))?;
        let found = if files.is_marked_corrupt() {
            Err(NotOpen::Damaged(
                "it was found damaged while in use".to_owned(),
            ))
        } else {
            read(&files, settings)
        };
        let (connection, contents) = match found {
            Ok(found) => found,
            Err(NotOpen::Refused(error)) => return Err(error),
            Err(NotOpen::Damaged(why)) => {
                let aside = files
                    .quarantine(now_ms)
                    .map_err(|error| StoreError::failed(format!("cannot be set aside: {error}")))?;
                metrics::counter!("hub_store_set_aside_total").increment(1);
                tracing::error!(
                    why,
                    aside = %aside.display(),
                    "ALARM: the store was damaged and is set aside; an empty one takes its place, and workers send every guild again"
                );
                read(&files, settings).map_err(|error| match error {
                    NotOpen::Refused(error) => error,
                    NotOpen::Damaged(why) => StoreError::failed(format!("an empty store: {why}")),
                })?
            }
        };
        let wal = WalCheckpointer::start(files.main(), settings)
            .map_err(|failure| StoreError::failed(failure.to_string()))?;
        let mut store = Self {
            wal,
            connection,
            settings: settings.clone(),
            indexes: BTreeMap::new(),
            unchecked_bytes: 0,
            refused_bytes: 0,
            rewrite_failed_at: None,
            files,
        };
        let loaded = store
            .begin(contents, guilds, named, now_ms)
            .map_err(|failure| StoreError::failed(failure.to_string()))?;
        store.files.note_opened();
        store.measure();
        Ok((store, loaded))
    }

    /// Brings what was stored in line with the settings.
    fn begin(
        &mut self,
        contents: StoreContents,
        guilds: &[GuildId],
        named: &str,
        now_ms: u64,
    ) -> Result<Loaded, Failure> {
        let transaction = self.connection.transaction()?;
        let mut writer = GroupWriter {
            transaction: &transaction,
            settings: &self.settings,
            now_ms,
            bytes: 0,
        };
        let mut changed = contents.store.is_none();
        let store = match contents.store {
            Some(store) => store,
            None => {
                if contents.ledger.is_empty() {
                    tracing::warn!(
                        store = named,
                        "a new store begins: no guild, no room that Roomwire made and no worker is known in it"
                    );
                } else {
                    tracing::warn!(
                        store = named,
                        form = schema::VERSION,
                        "the store gets the form of this version: the ledger is kept, and workers send every guild again; an older version does not open it any more"
                    );
                }
                transaction.execute_batch(schema::BEGIN)?;
                transaction.pragma_update(None, "application_id", schema::APPLICATION)?;
                transaction.pragma_update(None, "user_version", schema::VERSION)?;
                writer.put_meta("store", &named)?;
                writer.put_meta("version", &schema::VERSION)?;
                named.to_owned()
            }
        };
        let bounds = self.settings.ledger.clone();
        let mut ledger = Ledger::restored(bounds, contents.interactions);
        for change in &contents.ledger {
            ledger.apply(change);
        }
        let (workers, event_ids) = (contents.workers, contents.event_ids);
        let state = LogState::restored(&self.settings, workers, ledger, event_ids, now_ms);
        let mut loaded = Loaded::new(store, state);
        for (guild, stored) in contents.guilds {
            if guilds.contains(&guild) {
                loaded.put(guild, stored.tail, stored.record);
                self.indexes.insert(guild, stored.index);
                continue;
            }
            // No worker reports it any more, so that its state would grow old.
            changed = true;
            rows::delete_before(&transaction, guild, u64::MAX)?;
            schema::GUILDS.delete(&transaction, &guild.get().cast_signed())?;
            tracing::info!(%guild, "not a guild of this hub any more: forgotten");
        }
        for guild in guilds {
            if loaded.state.guild(*guild).is_some() {
                continue;
            }
            changed = true;
            let record = GuildRecord::begin(now_ms);
            let mut index = BaseIndex::default();
            writer.write_base(*guild, &mut index, record.position, &record.state)?;
            writer.put_guild(*guild, record.position, record.mark)?;
            loaded.begin(*guild, record);
            self.indexes.insert(*guild, index);
        }
        if changed {
            transaction.commit()?;
        }
        Ok(loaded)
    }
}

fn read(files: &Files, settings: &LogSettings) -> Result<(Connection, StoreContents), NotOpen> {
    let connection = connect(files.main(), settings)?;
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
    let reader = Reader(&connection);
    let found = match judge(&connection)? {
        None => StoreContents::default(),
        Some(schema::VERSION) => reader.contents()?,
        Some(_) => StoreContents {
            ledger: reader.rooms()?,
            ..StoreContents::default()
        },
    };
    prepare(&connection, settings)?;
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
    let is_known = (1..=schema::VERSION).contains(&version);
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
