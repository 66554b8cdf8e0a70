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
use super::schema;
use super::wal::WalCheckpointer;
use super::{BaseIndex, Store, StoreBounds, connect, json, prepare};
use crate::backend::loaded::{Loaded, retention_from};
use crate::backend::{Failure, StoreError};
use crate::log_state::{GuildRecord, LogState};

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
        bounds: &StoreBounds,
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
            read(&files, bounds)
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
                read(&files, bounds).map_err(|error| match error {
                    NotOpen::Refused(error) => error,
                    NotOpen::Damaged(why) => StoreError::failed(format!("an empty store: {why}")),
                })?
            }
        };
        let wal = WalCheckpointer::start(files.main(), bounds)
            .map_err(|failure| StoreError::failed(failure.to_string()))?;
        let mut store = Self {
            wal,
            connection,
            bounds: bounds.clone(),
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
        mut contents: StoreContents,
        guilds: &[GuildId],
        named: &str,
        now_ms: u64,
    ) -> Result<Loaded, Failure> {
        let transaction = self.connection.transaction()?;
        let mut writer = GroupWriter {
            transaction: &transaction,
            bounds: &self.bounds,
            now_ms,
            bytes: 0,
        };
        let is_new = contents.store.is_none();
        let store = contents.store.unwrap_or_else(|| named.to_owned());
        if is_new {
            tracing::warn!(
                store = named,
                "a new store begins: no guild, no room that Roomwire made and no worker is known in it"
            );
            writer.put_meta("store", &json(&store))?;
            writer.put_meta("version", &json(&schema::VERSION))?;
        }
        let is_older = contents.form != schema::VERSION;
        if is_older {
            tracing::info!(
                from = contents.form,
                to = schema::VERSION,
                "the store gets the form of this version; an older version does not open it any more"
            );
            writer.put_meta("version", &json(&schema::VERSION))?;
            writer
                .transaction
                .pragma_update(None, "user_version", schema::VERSION)?;
            writer.transaction.execute_batch(schema::TO_FORM_3)?;
            // An older form does not say when: they are remembered from now on.
            for (at_ms, _) in &mut contents.event_ids {
                *at_ms = now_ms;
            }
        }
        let mut loaded = Loaded {
            store,
            state: LogState::restored(
                self.bounds.state,
                contents.workers,
                contents.event_ids,
                contents.next_event_id,
                now_ms,
            ),
            retentions: BTreeMap::new(),
            ledger: contents.ledger,
            interactions: (contents.interactions, contents.next_interaction),
        };
        if is_older {
            let ids = loaded.state.event_ids();
            let all = usize::try_from(ids.next() - ids.first()).unwrap_or(usize::MAX);
            writer.write_ids("seen", ids, all)?;
        }
        let mut changed = is_new || is_older;
        for (ticket, pending) in contents.pending {
            changed = true;
            writer.delete_pending(ticket)?;
            tracing::warn!(
                guild_id = %pending.guild_id,
                creator = pending.owner.as_str(),
                "a room was being created when the hub ended: if Discord created its channel, the channel is not Roomwire's own"
            );
        }
        for (guild, mut stored) in contents.guilds {
            if guilds.contains(&guild) {
                if is_older {
                    // Its bases are of the older form; its state stands for them.
                    writer.forget_entries(guild, &mut stored.index, &stored.record)?;
                    stored.retention = retention_from(&stored.record);
                }
                loaded.put(guild, stored.retention, stored.record);
                self.indexes.insert(guild, stored.index);
                continue;
            }
            // No worker reports it any more, so that its state would grow old.
            changed = true;
            writer.delete_entries(guild, u64::MAX)?;
            writer.transaction.execute(
                "DELETE FROM guilds WHERE guild = ?1",
                [guild.get().cast_signed()],
            )?;
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

fn read(files: &Files, bounds: &StoreBounds) -> Result<(Connection, StoreContents), NotOpen> {
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
        Reader(&connection).contents(form)?
    } else {
        connection.execute_batch(&format!(
            "BEGIN; {} PRAGMA application_id = {}; PRAGMA user_version = {}; COMMIT;",
            schema::TABLES,
            schema::APPLICATION,
            schema::VERSION
        ))?;
        StoreContents::nothing()
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
