//! What the command `check` sees of the store's place. It takes nothing, and leaves nothing behind:
//! a hub that runs, or that another user starts later, must not notice.

use std::fs::{self, File, TryLockError};
use std::io::{self, Read as _};
use std::path::Path;

use crate::address::StoreAddress;
use crate::backend::sqlite::files::{beside, directory};
use crate::backend::sqlite::schema::{APPLICATION, VERSION};

/// The first bytes of every database of SQLite ("Database File Format", section 1.3).
const MAGIC: &[u8] = b"SQLite format 3\0";
/// Where `user_version` and `application_id` stand in it, big-endian (the same section).
const VERSION_AT: usize = 60;
const APPLICATION_AT: usize = 68;
/// Where the number of its pages stands.
const PAGES_AT: usize = 28;
const HEADER_BYTES: u64 = 100;

/// What is at the store's place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// No file: the store is memory.
    Memory,
    /// A hub has the store open.
    InUse,
    /// A store that can be opened, or an empty file.
    Kept,
    /// Nothing yet, and a store can be made.
    Free,
}

/// Probes the store's place.
///
/// # Errors
/// A sentence or two: why a hub could not open a store there, and what to do.
pub fn probe(address: &StoreAddress) -> Result<Place, String> {
    let path = match address {
        StoreAddress::Memory => return Ok(Place::Memory),
        StoreAddress::File(path) => path,
    };
    let main = fs::canonicalize(path).unwrap_or_else(|_| path.clone());
    if is_locked(&beside(&main, ".lock")) {
        return Ok(Place::InUse);
    }
    match fs::metadata(&main) {
        Ok(found) if !found.is_file() => Err(format!(
            "{} is not a file. Name a file, as in sqlite:///var/lib/roomwire/hub.db.",
            path.display()
        )),
        Ok(_) => {
            // SQLite writes its journal beside the file.
            let writable = File::options().write(true).open(&main).map(drop);
            writable
                .and_then(|()| try_directory(directory(&main), &main))
                .map_err(|error| cannot_be_written(path, &error))?;
            let header = header(&main).map_err(|error| cannot_be_written(path, &error))?;
            let has_journal = beside(&main, "-wal").exists();
            judge(path, &header, has_journal)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            // The hub makes the directories too.
            let existing = directory(&main)
                .ancestors()
                .find(|folder| folder.exists())
                .unwrap_or(Path::new("."));
            try_directory(existing, &main)
                .map(|()| Place::Free)
                .map_err(|error| cannot_be_written(existing, &error))
        }
        Err(error) => Err(cannot_be_written(path, &error)),
    }
}

fn is_locked(lock: &Path) -> bool {
    // Reading suffices for the lock, and a lock that does not exist is not made.
    let Ok(file) = File::open(lock) else {
        return false;
    };
    matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock))
}

/// Makes a file in the directory, and removes it.
fn try_directory(folder: &Path, main: &Path) -> io::Result<()> {
    let name = main.file_name().unwrap_or_default().to_string_lossy();
    let probe = folder.join(format!("{name}.check-{}", std::process::id()));
    File::create_new(&probe)?;
    fs::remove_file(probe)
}

fn header(main: &Path) -> io::Result<Vec<u8>> {
    let mut header = Vec::new();
    File::open(main)?
        .take(HEADER_BYTES)
        .read_to_end(&mut header)?;
    Ok(header)
}

fn judge(path: &Path, header: &[u8], has_journal: bool) -> Result<Place, String> {
    let number = |at: usize| {
        let bytes = header.get(at..at + 4)?.first_chunk::<4>()?;
        Some(i64::from(u32::from_be_bytes(*bytes)))
    };
    if header.is_empty() {
        return Ok(Place::Kept);
    }
    if !header.starts_with(MAGIC) {
        return Err(format!(
            "{} is not a database. The hub would set it aside as damaged and begin with an empty store. Name another file, or remove it.",
            path.display()
        ));
    }
    // A database without a table may be any program's; the hub makes its tables there. What a store
    // holds may still be in its journal alone, the names of its program and its form with it.
    let is_unnamed = number(APPLICATION_AT) == Some(0) && number(VERSION_AT) == Some(0);
    if is_unnamed && (has_journal || number(PAGES_AT) == Some(1)) {
        return Ok(Place::Kept);
    }
    if number(APPLICATION_AT) != Some(APPLICATION) {
        return Err(format!(
            "{} is a database of another program. Name another file.",
            path.display()
        ));
    }
    match number(VERSION_AT) {
        Some(version) if version > VERSION => Err(format!(
            "{} was written by a later version of Roomwire. Use that version, or name another file.",
            path.display()
        )),
        _ => Ok(Place::Kept),
    }
}

fn cannot_be_written(path: &Path, error: &io::Error) -> String {
    let path = path.display();
    match error.kind() {
        io::ErrorKind::PermissionDenied => format!(
            "this user may not write {path}. Give the hub's user the right, or name another place."
        ),
        io::ErrorKind::ReadOnlyFilesystem => {
            format!("{path} is on a file system that is read-only. Name another place.")
        }
        io::ErrorKind::StorageFull => format!("the disk of {path} is full. Make room on it."),
        io::ErrorKind::NotADirectory => {
            format!("a file stands where {path} needs a directory. Name another place.")
        }
        _ => format!("{path} cannot be written. Look at it, or name another place."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::Place as Folder;
    use crate::{Log, LogSettings};

    #[tokio::test]
    async fn probing_the_store_leaves_everything_as_it_was() {
        let folder = Folder::new("probe");
        let path = folder.0.join("data/hub.db");
        let address = StoreAddress::File(path.clone());
        assert_eq!(probe(&StoreAddress::Memory), Ok(Place::Memory));
        assert_eq!(probe(&address), Ok(Place::Free));
        assert!(folder.names().is_empty());

        let settings = LogSettings {
            store: address.clone(),
            ..LogSettings::default()
        };
        let log = Log::open(&[], "test", &settings).unwrap();
        let files = || fs::read_dir(folder.0.join("data")).unwrap().count();
        let open = files();
        assert_eq!(probe(&address), Ok(Place::InUse));
        assert_eq!(files(), open);
        log.close().await;
        drop(log);
        let kept = files();
        assert_eq!(probe(&address), Ok(Place::Kept));
        assert_eq!(files(), kept);
    }

    #[test]
    fn a_place_that_no_store_can_have_is_said_with_what_to_do() {
        let Folder(folder) = &Folder::new("wrong");
        fs::write(folder.join("text"), "hello ".repeat(30)).unwrap();
        fs::write(folder.join("empty"), "").unwrap();
        let mut header = [MAGIC, &[0; 84]].concat();
        fs::write(folder.join("other"), &header).unwrap();
        fs::write(folder.join("begun"), &header).unwrap();
        fs::write(folder.join("begun-wal"), "").unwrap();
        header[PAGES_AT + 3] = 1;
        fs::write(folder.join("no-table"), &header).unwrap();
        header[VERSION_AT + 3] = 1;
        fs::write(folder.join("another"), &header).unwrap();
        fs::write(folder.join("another-wal"), "").unwrap();
        header[APPLICATION_AT..APPLICATION_AT + 4].copy_from_slice(b"RWIR");
        fs::write(folder.join("ours"), &header).unwrap();
        header[VERSION_AT + 3] = 200;
        fs::write(folder.join("later"), &header).unwrap();
        let probe = |name: &str| probe(&StoreAddress::File(folder.join(name)));
        for (name, words) in [
            ("", "is not a file."),
            ("text", "is not a database."),
            ("other", "is a database of another program."),
            ("another", "is a database of another program."),
            ("later", "was written by a later version"),
            ("text/hub.db", "needs a directory."),
        ] {
            let why = probe(name).unwrap_err();
            assert!(why.contains(words) && why.ends_with('.'), "{name}: {why}");
        }
        assert_eq!(probe("empty"), Ok(Place::Kept));
        assert_eq!(probe("begun"), Ok(Place::Kept));
        assert_eq!(probe("no-table"), Ok(Place::Kept));
        assert_eq!(probe("ours"), Ok(Place::Kept));
    }
}
