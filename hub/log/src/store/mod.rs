//! The log's file: one SQLite database, written by the log's one writer.
//!
//! Of each guild it holds its state at some places (bases) and every entry after the oldest of
//! them, so that an event costs one row, and never its whole guild. Whatever is read is checked:
//! each row carries a sum, the entries of a guild chain from its base to where its row says that
//! it stands, and the database's own structure is looked through first. What does not fit is
//! damage, and nothing of a damaged store is used.

mod anew;
mod bound;
mod checkpoints;
mod group;
mod load;
mod read;
pub(super) mod schema;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};
use std::path::Path;
use std::time::{Duration, Instant};

use proto::GuildId;
use rusqlite::{Connection, ErrorCode, OpenFlags, TransactionBehavior};
use serde::Serialize;

use self::checkpoints::Checkpointer;
use self::group::Group;
pub(super) use self::load::{Kept, KeptPast};
use super::address::Durability;
use super::files::Files;
use super::writer::{Draft, Memory};

/// The size of a page of the file, which a new one has by itself, in bytes.
const PAGE_BYTES: u64 = 4096;
/// A guild's state is kept anew after so many entries: what has to be replayed at a start.
const BASE_ENTRIES: u64 = 512;
/// How long a commit waits for somebody else's look into the file.
const BUSY_TIMEOUT: Duration = Duration::from_millis(500);
/// With so many bytes in it the journal is worth a checkpoint, if its bound is not near already.
const CHECKPOINT_BYTES: u64 = 4 * 1024 * 1024;

/// The bounds of the store.
#[derive(Debug, Clone)]
pub(super) struct StoreBounds {
    pub(super) durability: Durability,
    pub(super) bytes_max: u64,
    pub(super) journal_bytes_max: u64,
    pub(super) entries_max: u64,
    pub(super) age_max_ms: u64,
}

/// Why something can not be kept.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    /// What stands in the file is not what was written.
    #[error("damaged: {0}")]
    Damaged(String),
    /// It can not be written, or read, now.
    #[error(transparent)]
    Failed(rusqlite::Error),
    /// The store's place can not hold it.
    #[error("{0}")]
    NoPlace(String),
    /// Another hub has the store's place: this one must end.
    #[error("another hub has taken the place of the store")]
    Taken,
}

/// The open store.
#[derive(Debug)]
pub(super) struct Store {
    // In the order in which they end: the last connection writes the journal back, and the lock
    // is the last thing that is given back.
    checkpointer: Checkpointer,
    connection: Connection,
    bounds: StoreBounds,
    /// What of each guild is in the file.
    shapes: BTreeMap<GuildId, Shape>,
    /// The number of the oldest id of a claim or a notice that is in the file.
    spent_first: u64,
    /// Bytes written since the last checkpoint was asked for, about.
    unchecked_bytes: u64,
    /// How much could not be written when it was last tried, about; 0: it could.
    refused_bytes: u64,
    /// When it was last tried to write the store anew, since its files were taken away.
    anew_failed_at: Option<Instant>,
    files: Files,
}

/// The bases of one guild that are in the file: where, and since when. Never empty.
#[derive(Debug, Clone, Default)]
struct Shape {
    bases: VecDeque<(u64, u64)>,
}

impl Failure {
    fn damaged(why: impl Into<String>) -> Self {
        Self::Damaged(why.into())
    }
}

impl From<rusqlite::Error> for Failure {
    fn from(error: rusqlite::Error) -> Self {
        match error {
            rusqlite::Error::SqliteFailure(cause, _)
                if !matches!(
                    cause.code,
                    ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase
                ) =>
            {
                Self::Failed(error)
            }
            // The wrong type in a column, a table that is missing, …
            _ => Self::Damaged(error.to_string()),
        }
    }
}

impl Store {
    /// Makes a group's changes durable, all or none of them. `before` is what was durable.
    pub(super) fn commit(&mut self, draft: &Draft, before: &Memory) -> Result<(), Failure> {
        let committed = self.try_commit(draft, before);
        if committed.is_err() {
            // What is written back can be written over: it may be the room that is missing.
            self.checkpointer.wake();
        }
        committed
    }

    fn try_commit(&mut self, draft: &Draft, before: &Memory) -> Result<(), Failure> {
        self.keep_place(draft.now_ms)?;
        let journal_bytes = self.files.journal_bytes();
        self.checkpointer.heed(&self.connection, journal_bytes)?;
        let transaction = self
            .connection
            .transaction_with_behavior(TransactionBehavior::Immediate)?;
        let mut group = Group {
            transaction: &transaction,
            bounds: &self.bounds,
            now_ms: draft.now_ms,
            spent_first: self.spent_first,
            bytes: 0,
        };
        let mut shapes = Shapes::of(&self.shapes);
        let made_room = group.make_room(&mut shapes, draft, before, self.refused_bytes);
        let room_bytes = group.bytes;
        let written =
            made_room.and_then(|()| group.write(&mut shapes, draft, before, self.refused_bytes));
        let (bytes, spent_first, changed) = (group.bytes, group.spent_first, shapes.changed);
        if let Err(failure) = written.and_then(|()| transaction.commit().map_err(Failure::from)) {
            // What was asked for; neither what was to make room for it, nor what only tried.
            let asked = if draft.probe { 0 } else { bytes - room_bytes };
            let refused = asked.max(bound::estimate(draft));
            self.refused_bytes = self.refused_bytes.max(refused);
            return Err(failure);
        }
        if draft.probe {
            // What is left of it is written over by the next one.
            let _left = self.connection.execute("DELETE FROM probe", []);
        }
        self.refused_bytes = 0;
        self.shapes.extend(changed);
        self.spent_first = spent_first;
        self.unchecked_bytes += bytes;
        if self.unchecked_bytes >= CHECKPOINT_BYTES.min(self.bounds.journal_bytes_max / 4) {
            self.unchecked_bytes = 0;
            self.checkpointer.wake();
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

    /// Writes down that the file must not be opened again.
    pub(super) fn suspect(&self) -> std::io::Result<()> {
        self.files.suspect()
    }
}

/// What of each guild is in the file once a transaction is: what it changes, over what is there.
struct Shapes<'a> {
    there: &'a BTreeMap<GuildId, Shape>,
    changed: BTreeMap<GuildId, Shape>,
}

impl<'a> Shapes<'a> {
    fn of(there: &'a BTreeMap<GuildId, Shape>) -> Self {
        Self {
            there,
            changed: BTreeMap::new(),
        }
    }

    fn get(&mut self, guild: GuildId) -> &mut Shape {
        self.changed
            .entry(guild)
            .or_insert_with(|| self.there.get(&guild).cloned().unwrap_or_default())
    }
}

impl Shape {
    /// Whether the state is to be kept at this offset.
    fn is_due(&self, offset: u64, now_ms: u64, bounds: &StoreBounds) -> bool {
        let (last, at) = self.bases.back().copied().unwrap_or_default();
        offset.saturating_sub(last) >= BASE_ENTRIES.min(bounds.entries_max)
            || now_ms.saturating_sub(at) >= bounds.age_max_ms / 2
    }

    /// Forgets bases that the bounds allow to be forgotten; whether there were any.
    fn trim(&mut self, offset: u64, now_ms: u64, bounds: &StoreBounds) -> bool {
        let before = self.bases.len();
        while let Some((next, at)) = self.bases.get(1)
            && (next + bounds.entries_max <= offset
                || now_ms.saturating_sub(*at) > bounds.age_max_ms)
        {
            self.bases.pop_front();
        }
        self.bases.len() < before
    }
}

/// Opens the database of a file, with the settings that a connection has of its own.
fn connect(path: &Path, bounds: &StoreBounds) -> Result<Connection, Failure> {
    let connection = Connection::open_with_flags(
        path,
        OpenFlags::SQLITE_OPEN_READ_WRITE
            | OpenFlags::SQLITE_OPEN_CREATE
            | OpenFlags::SQLITE_OPEN_NO_MUTEX,
    )?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.set_prepared_statement_cache_capacity(32);
    let synchronous = match bounds.durability {
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
fn prepare(connection: &Connection, bounds: &StoreBounds) -> Result<(), Failure> {
    let pages = i64::try_from(bounds.bytes_max / PAGE_BYTES).unwrap_or(i64::MAX);
    connection.pragma_update(None, "max_page_count", pages)?;
    let mode: String = connection.query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0))?;
    if mode != "wal" {
        return Err(Failure::NoPlace(format!(
            "its file system can not hold a journal (mode {mode})"
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
