//! The journal is written back beside the writer, on a thread and a connection of its own, so that
//! a slow flush there does not set the pace.
//!
//! A journal is restarted only by a commit that finds all of it written back. In a stream of
//! commits without a pause there may never be one: then the writer itself cuts it at its bound.

use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use rusqlite::Connection;

use super::connect;
use crate::backend::Failure;
use crate::settings::LogSettings;

/// How often it is tried to write back what came meanwhile.
const PASSES_MAX: usize = 3;
/// How much longer the journal grows until it is tried again to cut it, in parts of its bound, where
/// somebody else reads the file (a backup).
const CUT_AGAIN: u64 = 4;

/// The thread, until this is dropped.
#[derive(Debug)]
pub(super) struct WalCheckpointer {
    wake: Option<SyncSender<()>>,
    thread: Option<JoinHandle<()>>,
    state: Arc<CheckpointState>,
    /// How long the journal may be, in bytes.
    journal_bytes_max: u64,
    /// Once it is longer than this it is cut.
    cut_above: u64,
}

#[derive(Debug, Default)]
struct CheckpointState {
    /// Held by the checkpoint that runs: SQLite refuses a second one at once, whatever it would wait.
    turn: Mutex<()>,
    damaged: AtomicBool,
}

impl WalCheckpointer {
    pub(super) fn start(path: &Path, settings: &LogSettings) -> Result<Self, Failure> {
        let connection = connect(path, settings)?;
        let (wake, woken) = sync_channel(1);
        let state = Arc::new(CheckpointState::default());
        let shared = Arc::clone(&state);
        let checkpoints = move || {
            while woken.recv().is_ok() {
                match shared.in_turn(|| write_back(&connection)) {
                    Ok(()) => {}
                    Err(Failure::Damaged(why)) => {
                        tracing::error!(why, "a checkpoint found the store damaged");
                        shared.damaged.store(true, Relaxed);
                    }
                    // The next commit says so too, and louder.
                    Err(failure) => tracing::warn!(%failure, "a checkpoint failed"),
                }
            }
        };
        let thread = std::thread::Builder::new()
            .name("log-checkpoints".to_owned())
            .spawn(checkpoints)
            .map_err(Failure::failed)?;
        Ok(Self {
            wake: Some(wake),
            thread: Some(thread),
            state,
            journal_bytes_max: settings.journal_bytes_max,
            cut_above: settings.journal_bytes_max,
        })
    }

    /// Asks for a checkpoint.
    pub(super) fn wake(&self) {
        if let Some(wake) = &self.wake {
            // It is at it already, or has ended with the hub.
            let _awake = wake.try_send(());
        }
    }

    /// What the writer has to know before it writes. A journal that is longer than its bound is
    /// written back by the writer, and cut.
    pub(super) fn bound(
        &mut self,
        connection: &Connection,
        journal_bytes: u64,
    ) -> Result<(), Failure> {
        if self.state.damaged.load(Relaxed) {
            return Err(Failure::damaged("found by a checkpoint"));
        }
        if journal_bytes <= self.cut_above {
            return Ok(());
        }
        let cut = self.state.in_turn(|| checkpoint(connection, "TRUNCATE"))?;
        let outcome = if cut.is_whole { "cut" } else { "read" };
        metrics::counter!("hub_store_journal_full_total", "outcome" => outcome).increment(1);
        self.cut_above = if cut.is_whole {
            self.journal_bytes_max
        } else {
            journal_bytes + self.journal_bytes_max / CUT_AGAIN
        };
        Ok(())
    }
}

impl CheckpointState {
    fn in_turn<T>(&self, write_back: impl FnOnce() -> T) -> T {
        // Nothing is guarded but the turn itself.
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        write_back()
    }
}

impl Drop for WalCheckpointer {
    fn drop(&mut self) {
        self.wake = None;
        if let Some(thread) = self.thread.take() {
            // One that panicked has nothing left to do.
            let _ended = thread.join();
        }
    }
}

/// Writes the journal back while the writer goes on. One that is written back whole is restarted
/// by the next commit, so the quicker passes behind the first are to catch the writer between two
/// commits.
fn write_back(connection: &Connection) -> Result<(), Failure> {
    let mut pages = checkpoint(connection, "PASSIVE")?.pages;
    for _ in 0..PASSES_MAX {
        let before = pages;
        pages = checkpoint(connection, "PASSIVE")?.pages;
        if pages <= before {
            break;
        }
    }
    Ok(())
}

/// What a checkpoint found.
struct Checkpoint {
    /// Nobody kept it from doing all that it was asked for.
    is_whole: bool,
    /// How many pages are in the journal; -1: it was not looked at.
    pages: i64,
}

/// Writes the journal back.
fn checkpoint(connection: &Connection, how: &str) -> Result<Checkpoint, Failure> {
    let done = connection.query_row(&format!("PRAGMA wal_checkpoint({how})"), [], |row| {
        Ok(Checkpoint {
            is_whole: !row.get(0)?,
            pages: row.get(1)?,
        })
    })?;
    tracing::debug!(how, done.pages, done.is_whole, "wrote the journal back");
    Ok(done)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_journal_at_its_bound_is_cut_unless_somebody_reads_it() {
        let path = std::env::temp_dir().join(format!("roomwire-journal-{}", std::process::id()));
        let settings = LogSettings {
            journal_bytes_max: 100_000,
            ..LogSettings::default()
        };
        let writer = connect(&path, &settings).unwrap();
        let write = "INSERT INTO t VALUES (1)";
        writer
            .execute_batch("PRAGMA journal_mode = WAL; CREATE TABLE t (a)")
            .unwrap();
        for _ in 0..50 {
            writer.execute_batch(write).unwrap();
        }
        let mut checkpointer = WalCheckpointer::start(&path, &settings).unwrap();
        let pages = |writer| checkpoint(writer, "PASSIVE").unwrap().pages;
        checkpointer.bound(&writer, 100_000).unwrap();
        assert!(pages(&writer) > 50);
        let reader = connect(&path, &settings).unwrap();
        // A reader of a journal that is written back whole blocks nobody.
        writer.execute_batch(write).unwrap();
        reader
            .execute_batch("BEGIN; SELECT count(*) FROM t")
            .unwrap();
        checkpointer.bound(&writer, 100_001).unwrap();
        assert!(pages(&writer) > 0, "it is read");
        reader.execute_batch("ROLLBACK").unwrap();
        checkpointer.bound(&writer, 125_001).unwrap();
        assert!(pages(&writer) > 0, "not tried again before it has grown");
        checkpointer.bound(&writer, 125_002).unwrap();
        assert_eq!(pages(&writer), 0);
        checkpointer.state.damaged.store(true, Relaxed);
        assert!(checkpointer.bound(&writer, 0).is_err());
        drop((checkpointer, reader, writer));
        std::fs::remove_file(path).unwrap();
    }
}
