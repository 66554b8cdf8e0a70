//! The store's files are taken away while it is open: somebody deletes, moves or replaces them.
//!
//! What is open can still be read and written then, and the next start would find nothing of it.
//! So it is looked at before each commit, and every second; and what is open is written anew to
//! the store's place, whole. Nobody's position changes its meaning by that: it is the same store.

use std::io;
use std::time::{Duration, Instant};

use super::checkpoints::Checkpointer;
use super::{Failure, Store, connect, prepare};
use crate::files::{NotTaken, remove};

/// Between two attempts: each copies the whole store.
const PAUSE: Duration = Duration::from_secs(1);

impl Store {
    /// Sees to it that what is open is what the next start finds.
    pub(crate) fn keep_place(&mut self, now_ms: u64) -> Result<(), Failure> {
        if self.files.are_in_place() {
            if self.anew_failed_at.take().is_some() {
                // Somebody put the files back.
                self.files.drop_anew().map_err(|error| displaced(&error))?;
            }
            return Ok(());
        }
        if self.anew_failed_at.is_some_and(|at| at.elapsed() < PAUSE) {
            let why = "its files were taken away, and it could not be written anew";
            return Err(Failure::NoPlace(why.to_owned()));
        }
        self.files.take_again().map_err(|error| match error {
            NotTaken::Locked => Failure::Taken,
            NotTaken::NotAFile | NotTaken::Io(..) => Failure::NoPlace(error.to_string()),
        })?;
        self.anew_failed_at = Some(Instant::now());
        self.write_anew(now_ms)?;
        self.anew_failed_at = None;
        metrics::counter!("hub_store_written_anew_total").increment(1);
        tracing::error!(
            "ALARM: the store's files were deleted, moved or replaced under the running hub; it was written anew, and what stood in its place is set aside"
        );
        Ok(())
    }

    fn write_anew(&mut self, now_ms: u64) -> Result<(), Failure> {
        let copy = self.files.unfinished();
        remove(&copy).map_err(|error| displaced(&error))?;
        let name = copy
            .to_str()
            .ok_or_else(|| Failure::NoPlace("its name is not UTF-8".to_owned()))?;
        if let Err(error) = self.connection.execute("VACUUM INTO ?1", [name]) {
            // A part of it is of no use, and takes room; the next attempt removes it as well.
            let _removed = remove(&copy);
            return Err(error.into());
        }
        self.files
            .put_anew(now_ms)
            .map_err(|error| displaced(&error))?;
        let connection = connect(self.files.main(), &self.bounds)?;
        prepare(&connection, &self.bounds)?;
        let checkpointer = Checkpointer::start(self.files.main(), &self.bounds)?;
        // What was open is closed only now: until here another attempt can begin from it. SQLite
        // sees that its file has moved, and leaves the journal that stands there now alone.
        (self.checkpointer, self.connection) = (checkpointer, connection);
        self.files.note_opened();
        Ok(())
    }
}

fn displaced(error: &io::Error) -> Failure {
    Failure::NoPlace(error.to_string())
}
