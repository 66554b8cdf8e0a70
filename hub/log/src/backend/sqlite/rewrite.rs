//! The store's files are deleted, moved or replaced while the store is open.
//!
//! The open files can still be read and written then, and the next start would not find them. So
//! the writer checks the place before each commit and every second, and rewrites the whole store into
//! its place. Every position keeps its meaning: it is the same store.

use std::time::{Duration, Instant};

use super::files::{NotTaken, remove};
use super::wal::WalCheckpointer;
use super::{Store, connect, prepare};
use crate::backend::Failure;

/// Between two attempts: each copies the whole store.
const PAUSE: Duration = Duration::from_secs(1);

impl Store {
    /// Ensures that the open store is the one that the next start finds.
    pub(crate) fn ensure_in_place(&mut self, now_ms: u64) -> Result<(), Failure> {
        if self.files.are_in_place() {
            if self.rewrite_failed_at.take().is_some() {
                // Somebody put the files back.
                self.files.drop_rewrite().map_err(Failure::failed)?;
            }
            return Ok(());
        }
        if self
            .rewrite_failed_at
            .is_some_and(|at| at.elapsed() < PAUSE)
        {
            let why = "its files were taken away, and it could not be rewritten";
            return Err(Failure::failed(why));
        }
        self.files.take_again().map_err(|error| match error {
            NotTaken::Locked => Failure::Taken,
            NotTaken::NotAFile | NotTaken::Io(..) => Failure::failed(error),
        })?;
        self.rewrite_failed_at = Some(Instant::now());
        self.rewrite(now_ms)?;
        self.rewrite_failed_at = None;
        metrics::counter!("hub_store_written_anew_total").increment(1);
        tracing::error!(
            "ALARM: the store's files were deleted, moved or replaced under the running hub; it was rewritten, and what stood in its place is set aside"
        );
        Ok(())
    }

    fn rewrite(&mut self, now_ms: u64) -> Result<(), Failure> {
        let copy = self.files.unfinished();
        remove(&copy).map_err(Failure::failed)?;
        let name = copy
            .to_str()
            .ok_or_else(|| Failure::failed("its name is not UTF-8"))?;
        if let Err(error) = self.connection.execute("VACUUM INTO ?1", [name]) {
            // A part of it is of no use, and takes room; the next attempt removes it as well.
            let _removed = remove(&copy);
            return Err(error.into());
        }
        self.files.put_rewrite(now_ms).map_err(Failure::failed)?;
        let connection = connect(self.files.main(), &self.settings)?;
        prepare(&connection, &self.settings)?;
        let wal = WalCheckpointer::start(self.files.main(), &self.settings)?;
        // What was open is closed only now: until here another attempt can begin from it. SQLite
        // sees that its file has moved, and leaves the journal that stands there now alone.
        (self.wal, self.connection) = (wal, connection);
        self.files.note_opened();
        Ok(())
    }
}
