//! The journal is written back beside the writer, on a thread and a connection of its own, so that
//! a slow flush there does not set the pace.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::JoinHandle;

use rusqlite::Connection;

use super::{Failure, StoreBounds, connect};

/// How often it is tried to write back what came meanwhile.
const PASSES_MAX: usize = 3;
/// With more pages than this in the journal (64 MiB) the writer itself waits for a checkpoint: in
/// a stream of commits without a pause there is no other moment at which it could begin anew.
const JOURNAL_PAGES_MAX: i64 = 16 * 1024;

/// The thread, until this is dropped.
#[derive(Debug)]
pub(super) struct Checkpointer {
    wake: Option<SyncSender<()>>,
    thread: Option<JoinHandle<()>>,
    state: Arc<CheckpointState>,
}

#[derive(Debug, Default)]
struct CheckpointState {
    behind: AtomicBool,
    damaged: AtomicBool,
}

impl Checkpointer {
    pub(super) fn start(path: &Path, bounds: &StoreBounds) -> Result<Self, Failure> {
        let connection = connect(path, bounds)?;
        let (wake, woken) = sync_channel(1);
        let state = Arc::new(CheckpointState::default());
        let told = Arc::clone(&state);
        let checkpoints = move || {
            while woken.recv().is_ok() {
                match write_back(&connection) {
                    Ok(pages) => told.behind.store(pages > JOURNAL_PAGES_MAX, Relaxed),
                    Err(Failure::Damaged(why)) => {
                        tracing::error!(why, "a checkpoint found the store damaged");
                        told.damaged.store(true, Relaxed);
                    }
                    // The next commit says so too, and louder.
                    Err(Failure::Failed(error)) => tracing::warn!(%error, "a checkpoint failed"),
                }
            }
        };
        let thread = std::thread::Builder::new()
            .name("log-checkpoints".to_owned())
            .spawn(checkpoints)
            .map_err(|error| {
                Failure::Failed(rusqlite::Error::ToSqlConversionFailure(error.into()))
            })?;
        Ok(Self {
            wake: Some(wake),
            thread: Some(thread),
            state,
        })
    }

    /// Asks for a checkpoint.
    pub(super) fn wake(&self) {
        if let Some(wake) = &self.wake {
            // It is at it already, or has ended with the hub.
            let _awake = wake.try_send(());
        }
    }

    /// What the writer has to know before it writes. A checkpointer that can not keep up is waited
    /// for, so that the journal does not grow for ever.
    pub(super) fn heed(&self, connection: &Connection) -> Result<(), Failure> {
        if self.state.damaged.load(Relaxed) {
            return Err(Failure::damaged("found by a checkpoint"));
        }
        if self.state.behind.swap(false, Relaxed) {
            checkpoint(connection, "RESTART")?;
        }
        Ok(())
    }
}

impl Drop for Checkpointer {
    fn drop(&mut self) {
        self.wake = None;
        if let Some(thread) = self.thread.take() {
            // One that panicked has nothing left to do.
            let _ended = thread.join();
        }
    }
}

/// Writes the journal back while the writer goes on; how many pages are in it. One that is written
/// back whole is begun anew by the next commit, so the quicker passes behind the first are to
/// catch the writer between two commits.
fn write_back(connection: &Connection) -> Result<i64, Failure> {
    let mut pages = checkpoint(connection, "PASSIVE")?;
    for _ in 0..PASSES_MAX {
        let before = pages;
        pages = checkpoint(connection, "PASSIVE")?;
        if pages <= before {
            break;
        }
    }
    Ok(pages)
}

/// Writes the journal back; how many pages were in it.
fn checkpoint(connection: &Connection, how: &str) -> Result<i64, Failure> {
    let checkpoint = format!("PRAGMA wal_checkpoint({how})");
    let pages = connection.query_row(&checkpoint, [], |row| row.get(1))?;
    tracing::debug!(how, pages, "wrote the journal back");
    Ok(pages)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::address::Durability;

    #[test]
    fn a_journal_that_grew_too_long_is_begun_anew_by_the_writer() {
        let path = std::env::temp_dir().join(format!("roomwire-journal-{}", std::process::id()));
        let bounds = StoreBounds {
            durability: Durability::Process,
            bytes_max: 1 << 30,
            entries_max: 1,
            age_max_ms: 1,
        };
        let writer = connect(&path, &bounds).unwrap();
        let write = "INSERT INTO t VALUES (1)";
        writer
            .execute_batch("PRAGMA journal_mode = WAL; CREATE TABLE t (a)")
            .unwrap();
        for _ in 0..50 {
            writer.execute_batch(write).unwrap();
        }
        let checkpointer = Checkpointer::start(&path, &bounds).unwrap();
        checkpointer.heed(&writer).unwrap();
        assert!(checkpoint(&writer, "PASSIVE").unwrap() > 50);
        writer.execute_batch(write).unwrap();
        checkpointer.state.behind.store(true, Relaxed);
        checkpointer.heed(&writer).unwrap();
        writer.execute_batch(write).unwrap();
        assert!(write_back(&writer).unwrap() < 5);
        checkpointer.state.damaged.store(true, Relaxed);
        assert!(checkpointer.heed(&writer).is_err());
        drop((checkpointer, writer));
        std::fs::remove_file(path).unwrap();
    }
}
