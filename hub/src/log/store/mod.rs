//! The log's file: one SQLite database, written by the log's one writer.
//!
//! Of each guild it holds its state at some places (bases) and every entry after the oldest of
//! them, so that an event costs one row, and never its whole guild. Whatever is read is checked:
//! each row carries a sum, the entries of a guild chain from its base to where its row says that
//! it stands, and the database's own structure is looked through first. What does not fit is
//! damage, and nothing of a damaged store is used.

mod checkpoints;
mod group;
mod load;
mod schema;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};
use std::path::Path;
use std::time::Duration;

use proto::GuildId;
use rusqlite::{Connection, ErrorCode, OpenFlags, TransactionBehavior};
use serde::Serialize;

use self::checkpoints::Checkpointer;
use self::group::Group;
pub(super) use self::load::{Kept, KeptPast};
use super::address::Durability;
use super::files::Files;
use super::truth::Written;
use super::writer::{Draft, Memory};

/// A guild's state is kept anew after so many entries: what has to be replayed at a start.
const BASE_ENTRIES: u64 = 512;
/// How long a commit waits for somebody else's look into the file.
const BUSY_TIMEOUT: Duration = Duration::from_millis(500);
/// With so many bytes in it the journal is worth a checkpoint.
const CHECKPOINT_BYTES: u64 = 4 * 1024 * 1024;

/// The bounds of the store.
#[derive(Debug, Clone)]
pub(super) struct StoreBounds {
    pub(super) durability: Durability,
    pub(super) bytes_max: u64,
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
    /// Bytes written since the last checkpoint was asked for, about.
    unchecked_bytes: u64,
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
        self.checkpointer.heed(&self.connection)?;
        let transaction = self
            .connection
            .transaction_with_behavior(TransactionBehavior::Immediate)?;
        let mut group = Group {
            transaction: &transaction,
            bounds: &self.bounds,
            now_ms: draft.now_ms,
            bytes: 0,
        };
        let mut shapes = BTreeMap::new();
        let mut written: BTreeMap<GuildId, Vec<&Written>> = BTreeMap::new();
        for entry in &draft.written {
            written.entry(entry.guild).or_default().push(entry);
        }
        for guild in &draft.guilds {
            let mut shape = self.shapes.get(guild).cloned().unwrap_or_default();
            let written = written.remove(guild).unwrap_or_default();
            group.write_guild(*guild, &mut shape, &written, draft)?;
            shapes.insert(*guild, shape);
        }
        for guild in &draft.aged {
            let mut shape = self.shapes.get(guild).cloned().unwrap_or_default();
            group.forget_past(*guild, &mut shape, draft)?;
            shapes.insert(*guild, shape);
        }
        group.write_chain(draft)?;
        group.write_seen(draft, before)?;
        for row in &draft.rooms {
            group.write_room(row.channel, row.room.as_deref())?;
        }
        if draft.probe {
            group.probe()?;
        }
        let bytes = group.bytes;
        transaction.commit()?;
        self.shapes.extend(shapes);
        self.unchecked_bytes += bytes;
        if self.unchecked_bytes >= CHECKPOINT_BYTES {
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

fn json(value: &impl Serialize) -> Vec<u8> {
    // Strings, numbers and lists: nothing of it can fail to be written.
    serde_json::to_vec(value).unwrap_or_default()
}
