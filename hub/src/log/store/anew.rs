//! The store's files are taken away while it is open: somebody deletes, moves or replaces them.
//!
//! What is open can still be read and written then, and the next start would find nothing of it.
//! So it is looked at before each commit, and every second; and what is open is written anew to
//! the store's place, whole. Nobody's position changes its meaning by that: it is the same store.

use std::{fs, io};

use super::checkpoints::Checkpointer;
use super::{Failure, Store, connect, prepare};
use crate::log::files::NotTaken;

impl Store {
    /// Sees to it that what is open is what the next start finds.
    pub(in crate::log) fn keep_place(&mut self, now_ms: u64) -> Result<(), Failure> {
        if self.files.are_in_place() {
            return Ok(());
        }
        self.files.take_again().map_err(|error| match error {
            NotTaken::Locked => Failure::Taken,
            NotTaken::NotAFile | NotTaken::Io(..) => Failure::NoPlace(error.to_string()),
        })?;
        self.write_anew(now_ms)?;
        metrics::counter!("hub_store_written_anew_total").increment(1);
        tracing::error!(
            "ALARM: the store's files were deleted, moved or replaced under the running hub; it was written anew, and what stood in its place is set aside"
        );
        Ok(())
    }

    fn write_anew(&mut self, now_ms: u64) -> Result<(), Failure> {
        let displaced = |error: io::Error| Failure::NoPlace(error.to_string());
        let anew = self.files.anew();
        remove(&anew).map_err(displaced)?;
        let name = anew
            .to_str()
            .ok_or_else(|| Failure::NoPlace("its name is not UTF-8".to_owned()))?;
        if let Err(error) = self.connection.execute("VACUUM INTO ?1", [name]) {
            // A part of it is of no use, and takes room; the next attempt removes it as well.
            let _removed = remove(&anew);
            return Err(error.into());
        }
        self.files.put_anew(now_ms).map_err(displaced)?;
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

fn remove(path: &std::path::Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
