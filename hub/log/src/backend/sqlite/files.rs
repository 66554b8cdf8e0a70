//! The store's file among others: its lock, the marker of a suspicion, what is set aside, and
//! whether what stands at its names is still what was opened there.

use std::ffi::OsString;
use std::fs::{self, File, Metadata, TryLockError};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// How many damaged stores are kept for an operator.
const DAMAGED_KEPT: usize = 3;

/// What stands behind the store's name in the names of the files that SQLite has open.
const OPENED: [&str; 3] = ["", JOURNAL, "-shm"];
const JOURNAL: &str = "-wal";
const LOCK: &str = ".lock";
/// Behind the name of a whole store that is to take the place of what stands there.
pub(super) const REWRITE: &str = ".rewrite";
/// The same, as older versions named it.
pub(super) const OLDER_REWRITE: &str = ".anew";

/// The names that belong to one store, and its lock for as long as this lives.
#[derive(Debug)]
pub(super) struct Files {
    main: PathBuf,
    lock: File,
    /// Which files were found where SQLite opened its own. They are looked up by name: a handle
    /// of our own on a database's file would take SQLite's locks along when it is closed.
    opened: [Option<Identity>; OPENED.len()],
}

/// Identifies a file, whatever its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Identity {
    device: u64,
    inode: u64,
}

impl Identity {
    fn of(file: &Metadata) -> Self {
        Self {
            device: file.dev(),
            inode: file.ino(),
        }
    }

    /// The file of a name; none: there is none.
    fn named(path: &Path) -> Option<Self> {
        fs::metadata(path).ok().as_ref().map(Self::of)
    }
}

/// Why a store's place cannot be taken.
#[derive(Debug, thiserror::Error)]
pub(super) enum NotTaken {
    #[error("another hub has it open")]
    Locked,
    #[error("it is not a file")]
    NotAFile,
    #[error("{0}: {1}")]
    Io(String, io::Error),
}

impl NotTaken {
    /// Whether starting again does not help: another place, or other rights, are needed.
    pub(super) fn is_wrong_setting(&self) -> bool {
        use io::ErrorKind::{
            AlreadyExists, IsADirectory, NotADirectory, PermissionDenied, ReadOnlyFilesystem,
        };
        match self {
            Self::NotAFile => true,
            Self::Locked => false,
            Self::Io(_, error) => matches!(
                error.kind(),
                // Something else stands where a directory should be.
                AlreadyExists
                    | IsADirectory
                    | NotADirectory
                    | PermissionDenied
                    | ReadOnlyFilesystem
            ),
        }
    }
}

impl Files {
    /// Makes the directories, and takes the store for this process.
    pub(super) fn take(main: &Path) -> Result<Self, NotTaken> {
        make_directory(main)?;
        let main = behind_links(main)?;
        let lock = lock(&main)?;
        Ok(Self {
            main,
            lock,
            opened: [None; OPENED.len()],
        })
    }

    /// Takes the store's place again, if its directory or its lock were taken away.
    pub(super) fn take_again(&mut self) -> Result<(), NotTaken> {
        if !self.is_locked() {
            self.lock = lock(&self.main)?;
        }
        Ok(())
    }

    fn is_locked(&self) -> bool {
        let held = self.lock.metadata().ok().as_ref().map(Identity::of);
        held.is_some() && held == Identity::named(&beside(&self.main, LOCK))
    }

    /// Notes the files that SQLite has open: those that are found now.
    pub(super) fn note_opened(&mut self) {
        self.opened = OPENED.map(|suffix| Identity::named(&beside(&self.main, suffix)));
    }

    /// Whether the files that are open are the ones that the next start would find.
    pub(super) fn are_in_place(&self) -> bool {
        let found = OPENED.map(|suffix| Identity::named(&beside(&self.main, suffix)));
        found == self.opened && self.is_locked()
    }

    /// Where another file for the store is written, before it is known to be whole.
    pub(super) fn unfinished(&self) -> PathBuf {
        beside(&self.main, ".rewrite-unfinished")
    }

    /// Puts what was written to [`Files::unfinished`] into the store's place. Whatever stands there
    /// is set aside. A process that dies meanwhile leaves the whole file beside the place, and the
    /// next one goes on.
    pub(super) fn put_rewrite(&self, now_ms: u64) -> io::Result<()> {
        let unfinished = self.unfinished();
        File::open(&unfinished)?.sync_all()?;
        fs::rename(unfinished, beside(&self.main, REWRITE))?;
        File::open(directory(&self.main))?.sync_all()?;
        self.finish_rewrite(now_ms)
    }

    /// Puts a whole file that was left beside the store's place into it, if there is one.
    pub(super) fn finish_rewrite(&self, now_ms: u64) -> io::Result<()> {
        let rewrite = beside(&self.main, REWRITE);
        let older = beside(&self.main, OLDER_REWRITE);
        if older.exists() && !rewrite.exists() {
            fs::rename(older, &rewrite)?;
        }
        if !rewrite.exists() {
            return Ok(());
        }
        self.move_away(now_ms)?;
        fs::rename(rewrite, &self.main)?;
        File::open(directory(&self.main))?.sync_all()?;
        self.forget_damaged()
    }

    /// Removes the rest of an unfinished rewrite: the store in its place is newer.
    pub(super) fn drop_rewrite(&self) -> io::Result<()> {
        for name in [REWRITE, OLDER_REWRITE, ".anew-unfinished"] {
            remove(&beside(&self.main, name))?;
        }
        remove(&self.unfinished())
    }

    pub(super) fn main(&self) -> &Path {
        &self.main
    }

    /// How many bytes the store has on the disk.
    pub(super) fn bytes(&self) -> u64 {
        length(&self.main) + self.journal_bytes()
    }

    /// How many bytes the journal has on the disk.
    pub(super) fn journal_bytes(&self) -> u64 {
        length(&beside(&self.main, JOURNAL))
    }

    /// Writes down that the store must not be opened again: it was found damaged while in use.
    pub(super) fn mark_corrupt(&self) -> io::Result<()> {
        File::create(beside(&self.main, ".suspect"))?.sync_all()
    }

    /// Whether that was written down.
    pub(super) fn is_marked_corrupt(&self) -> bool {
        beside(&self.main, ".suspect").exists()
    }

    /// Moves the store away, so that an empty one can take its place. The oldest of those that
    /// were moved away before are removed.
    pub(super) fn quarantine(&self, now_ms: u64) -> io::Result<PathBuf> {
        let aside = self.move_away(now_ms)?;
        self.forget_damaged()?;
        Ok(aside)
    }

    fn move_away(&self, now_ms: u64) -> io::Result<PathBuf> {
        let aside = beside(&self.main, &format!(".damaged-{now_ms}"));
        // The main file last: without its companions it is an older store, the other way round
        // they would be taken for those of the next one.
        for suffix in OPENED.into_iter().rev() {
            match fs::rename(beside(&self.main, suffix), beside(&aside, suffix)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        remove(&beside(&self.main, ".suspect"))?;
        Ok(aside)
    }

    fn forget_damaged(&self) -> io::Result<()> {
        let prefix = beside(&self.main, ".damaged-");
        let Some(prefix) = prefix.file_name().and_then(|name| name.to_str()) else {
            return Ok(());
        };
        let mut damaged: Vec<(u64, PathBuf)> = fs::read_dir(directory(&self.main))?
            .filter_map(|entry| {
                let path = entry.ok()?.path();
                let at = path.file_name()?.to_str()?.strip_prefix(prefix)?;
                Some((at.split('-').next()?.parse().ok()?, path))
            })
            .collect();
        damaged.sort();
        let mut times: Vec<u64> = damaged.iter().map(|(at, _)| *at).collect();
        times.dedup();
        let Some(oldest_kept) = times.iter().rev().nth(DAMAGED_KEPT - 1) else {
            return Ok(());
        };
        for (_, path) in damaged.iter().filter(|(at, _)| at < oldest_kept) {
            fs::remove_file(path)?;
        }
        Ok(())
    }
}

fn make_directory(main: &Path) -> Result<(), NotTaken> {
    let parent = directory(main);
    fs::create_dir_all(parent).map_err(named(parent))
}

/// The file's own name, whatever links lead to it: two hubs on one file must meet at one lock, and
/// the journal stands beside the file and not beside a link.
fn behind_links(main: &Path) -> Result<PathBuf, NotTaken> {
    if fs::symlink_metadata(main).is_ok() {
        return fs::canonicalize(main).map_err(named(main));
    }
    let parent = directory(main);
    let name = main.file_name().ok_or(NotTaken::NotAFile)?;
    Ok(fs::canonicalize(parent).map_err(named(parent))?.join(name))
}

/// Makes the directories, and locks the store that is to stand there.
fn lock(main: &Path) -> Result<File, NotTaken> {
    make_directory(main)?;
    if fs::metadata(main).is_ok_and(|there| !there.is_file()) {
        return Err(NotTaken::NotAFile);
    }
    let path = beside(main, LOCK);
    let lock = File::options()
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path)
        .map_err(named(&path))?;
    lock.try_lock().map_err(|error| match error {
        TryLockError::WouldBlock => NotTaken::Locked,
        TryLockError::Error(error) => named(&path)(error),
    })?;
    Ok(lock)
}

fn named(path: &Path) -> impl Fn(io::Error) -> NotTaken + use<> {
    let path = path.display().to_string();
    move |error| NotTaken::Io(path.clone(), error)
}

/// Removes a file, if it exists.
pub(super) fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn length(path: &Path) -> u64 {
    fs::metadata(path).map_or(0, |there| there.len())
}

pub(crate) fn directory(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// The name with something behind it.
pub(crate) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(suffix);
    PathBuf::from(name)
}
