//! The log's file: one SQLite database, written by the log's one writer.
//!
//! Of each guild it holds its state at some places (bases) and every entry after the oldest of
//! them, so that an event costs one row, and never its whole guild. Whatever is read is checked:
//! each row carries a sum, the entries of a guild chain from its base to where its row says that
//! it stands, and the database's own structure is looked through first. What does not fit is
//! damage, and nothing of a damaged store is used.

mod eviction;
pub(crate) mod files;
mod group;
mod load;
mod read;
mod rewrite;
mod rows;
pub(crate) mod schema;
#[cfg(test)]
mod tests;
mod wal;

use std::collections::{BTreeMap, VecDeque};
use std::path::Path;
use std::time::{Duration, Instant};

use proto::GuildId;
use rusqlite::{Connection, ErrorCode, OpenFlags, TransactionBehavior};
use serde::Serialize;

use self::files::Files;
use self::group::GroupWriter;
use self::wal::WalCheckpointer;
use super::Failure;
use crate::address::Durability;
use crate::group::Group;
use crate::log_state::LogState;
use crate::settings::LogSettings;

/// The size of a page of the file, which a new one has by itself, in bytes.
const PAGE_BYTES: u64 = 4096;
/// A guild's state is stored again after this many entries: the bound on what a start replays.
const BASE_ENTRIES: u64 = 512;
/// How long a commit waits for somebody else's look into the file.
const BUSY_TIMEOUT: Duration = Duration::from_millis(500);
/// With so many bytes in it the journal is worth a checkpoint, if its bound is not near already.
const CHECKPOINT_BYTES: u64 = 4 * 1024 * 1024;

/// The open store.
#[derive(Debug)]
pub(crate) struct Store {
    // In the order in which they end: the last connection writes the journal back, and the lock
    // is the last thing that is given back.
    wal: WalCheckpointer,
    connection: Connection,
    settings: LogSettings,
    /// What of each guild is in the file.
    indexes: BTreeMap<GuildId, BaseIndex>,
    /// Bytes written since the last checkpoint was asked for, about.
    unchecked_bytes: u64,
    /// How much could not be written when it was last tried, about; 0: it could.
    refused_bytes: u64,
    /// When the store was last rewritten in vain, after its files were taken away.
    rewrite_failed_at: Option<Instant>,
    files: Files,
}

/// The bases of one guild that are in the file: where, and since when. Never empty.
#[derive(Debug, Clone, Default)]
struct BaseIndex {
    bases: VecDeque<(u64, u64)>,
}

impl Store {
    /// Makes a group durable, all of it or nothing. `before` is what was durable.
    pub(super) fn commit(&mut self, group: &Group, before: &LogState) -> Result<(), Failure> {
        let committed = self.try_commit(group, before);
        if committed.is_err() {
            // A journal that is written back can be overwritten: that may be the space that lacks.
            self.wal.wake();
        }
        committed
    }

    fn try_commit(&mut self, group: &Group, before: &LogState) -> Result<(), Failure> {
        self.ensure_in_place(group.now_ms)?;
        let journal_bytes = self.files.journal_bytes();
        self.wal.bound(&self.connection, journal_bytes)?;
        let transaction = self
            .connection
            .transaction_with_behavior(TransactionBehavior::Immediate)?;
        let mut writer = GroupWriter {
            transaction: &transaction,
            settings: &self.settings,
            now_ms: group.now_ms,
            bytes: 0,
        };
        let mut bases = Bases::of(&self.indexes);
        let evicted = writer.evict(&mut bases, group, before, self.refused_bytes);
        let evicted_bytes = writer.bytes;
        let written = evicted.and_then(|()| writer.write(&mut bases, group, self.refused_bytes));
        let (bytes, changed) = (writer.bytes, bases.changed);
        if let Err(failure) = written.and_then(|()| transaction.commit().map_err(Failure::from)) {
            // The bytes of the commands: neither those of the eviction, nor those of a probe.
            let asked = if group.probe {
                0
            } else {
                bytes - evicted_bytes
            };
            let refused = asked.max(eviction::estimate(group));
            self.refused_bytes = self.refused_bytes.max(refused);
            return Err(failure);
        }
        if group.probe {
            // If this fails, the next probe overwrites it.
            let _deleted = self.connection.execute("DELETE FROM probe", []);
        }
        self.refused_bytes = 0;
        self.indexes.extend(changed);
        self.unchecked_bytes += bytes;
        if self.unchecked_bytes >= CHECKPOINT_BYTES.min(self.settings.journal_bytes_max / 4) {
            self.unchecked_bytes = 0;
            self.wal.wake();
            self.measure();
        }
        Ok(())
    }

    #[expect(
        clippy::cast_precision_loss,
        reason = "a metric of 2^52 bytes is precise enough"
    )]
    fn measure(&self) {
        metrics::gauge!("hub_store_file_bytes").set(self.files.bytes() as f64);
    }

    /// Leaves a mark that the file must not be opened again.
    pub(super) fn mark_corrupt(&self) -> std::io::Result<()> {
        self.files.mark_corrupt()
    }
}

/// The bases of each guild once a transaction is committed: those that it changes, over those that
/// are in the file.
struct Bases<'a> {
    stored: &'a BTreeMap<GuildId, BaseIndex>,
    changed: BTreeMap<GuildId, BaseIndex>,
}

impl<'a> Bases<'a> {
    fn of(stored: &'a BTreeMap<GuildId, BaseIndex>) -> Self {
        Self {
            stored,
            changed: BTreeMap::new(),
        }
    }

    fn get(&mut self, guild: GuildId) -> &mut BaseIndex {
        self.changed
            .entry(guild)
            .or_insert_with(|| self.stored.get(&guild).cloned().unwrap_or_default())
    }
}

impl BaseIndex {
    /// Whether the state is to be kept at this offset.
    fn is_due(&self, offset: u64, now_ms: u64, settings: &LogSettings) -> bool {
        let (last, at) = self.bases.back().copied().unwrap_or_default();
        offset.saturating_sub(last) >= BASE_ENTRIES.min(settings.entries_max as u64)
            || now_ms.saturating_sub(at) >= settings.age_max_ms / 2
    }

    /// Forgets bases that the bounds allow to be forgotten; whether there were any.
    fn trim(&mut self, offset: u64, now_ms: u64, settings: &LogSettings) -> bool {
        let before = self.bases.len();
        while let Some((next, at)) = self.bases.get(1)
            && (next + settings.entries_max as u64 <= offset
                || now_ms.saturating_sub(*at) > settings.age_max_ms)
        {
            self.bases.pop_front();
        }
        self.bases.len() < before
    }
}

impl From<rusqlite::Error> for Failure {
    fn from(error: rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) | None => {
                // Without a code: the wrong type in a column, a table that is missing, …
                Self::Damaged(error.to_string())
            }
            Some(_) => Self::failed(error),
        }
    }
}

/// Opens the database of a file, with the settings that a connection has of its own.
fn connect(path: &Path, settings: &LogSettings) -> Result<Connection, Failure> {
    let connection = Connection::open_with_flags(
        path,
        OpenFlags::SQLITE_OPEN_READ_WRITE
            | OpenFlags::SQLITE_OPEN_CREATE
            | OpenFlags::SQLITE_OPEN_NO_MUTEX,
    )?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.set_prepared_statement_cache_capacity(32);
    let synchronous = match settings.durability {
        Durability::Process => "NORMAL",
        Durability::Power => "FULL",
    };
    connection.pragma_update(None, "synchronous", synchronous)?;
    connection.pragma_update(None, "wal_autocheckpoint", 0)?;
    connection.pragma_update(None, "trusted_schema", false)?;
    connection.pragma_update(None, "cell_size_check", true)?;
    Ok(connection)
}

/// Bounds the file of the writer's connection, and has what is written go through a journal.
fn prepare(connection: &Connection, settings: &LogSettings) -> Result<(), Failure> {
    let pages = i64::try_from(settings.store_bytes_max / PAGE_BYTES).unwrap_or(i64::MAX);
    connection.pragma_update(None, "max_page_count", pages)?;
    let mode: String = connection.query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0))?;
    if mode != "wal" {
        return Err(Failure::failed(format!(
            "its file system cannot hold a journal (mode {mode})"
        )));
    }
    // The journal and the memory beside it are there only once something was read.
    connection.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(()))?;
    Ok(())
}

fn json(value: &impl Serialize) -> Vec<u8> {
    // Strings, numbers and lists: nothing of it can fail to be written.
    serde_json::to_vec(value).unwrap_or_default()
}
