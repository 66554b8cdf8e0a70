//! The store's file among others: its lock, the marker of a suspicion, and what is set aside.

use std::ffi::OsString;
use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

/// How many damaged stores are kept for whoever wants to look at them.
const DAMAGED_KEPT: usize = 3;

/// The names that belong to one store, and its lock for as long as this lives.
#[derive(Debug)]
pub(super) struct Files {
    main: PathBuf,
    _lock: File,
}

/// Why a store's place can not be taken.
#[derive(Debug, thiserror::Error)]
pub(super) enum NotTaken {
    #[error("another hub has it open")]
    Locked,
    #[error("it is not a file")]
    NotAFile,
    #[error("{0}: {1}")]
    Io(String, io::Error),
}

impl Files {
    /// Makes the directories, and takes the store for this process.
    pub(super) fn take(main: &Path) -> Result<Self, NotTaken> {
        let named = |path: &Path| {
            let path = path.display().to_string();
            move |error| NotTaken::Io(path, error)
        };
        if let Some(parent) = main
            .parent()
            .filter(|parent| !parent.as_os_str().is_empty())
        {
            fs::create_dir_all(parent).map_err(named(parent))?;
        }
        if fs::metadata(main).is_ok_and(|there| !there.is_file()) {
            return Err(NotTaken::NotAFile);
        }
        let path = beside(main, ".lock");
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
        Ok(Self {
            main: main.to_owned(),
            _lock: lock,
        })
    }

    pub(super) fn main(&self) -> &Path {
        &self.main
    }

    /// How many bytes the store has on the disk.
    pub(super) fn bytes(&self) -> u64 {
        let length = |path: &Path| fs::metadata(path).map_or(0, |there| there.len());
        length(&self.main) + length(&beside(&self.main, "-wal"))
    }

    /// Writes down that the store must not be opened again: it was found damaged while in use.
    pub(super) fn suspect(&self) -> io::Result<()> {
        File::create(beside(&self.main, ".suspect"))?.sync_all()
    }

    /// Whether that was written down.
    pub(super) fn is_suspect(&self) -> bool {
        beside(&self.main, ".suspect").exists()
    }

    /// Moves the store away, so that an empty one can take its place. The oldest of those that
    /// were moved away before are removed.
    pub(super) fn set_aside(&self, now_ms: u64) -> io::Result<PathBuf> {
        let aside = beside(&self.main, &format!(".damaged-{now_ms}"));
        // The main file last: without its companions it is an older store, the other way round
        // they would be taken for those of the next one.
        for suffix in ["-shm", "-wal", ""] {
            match fs::rename(beside(&self.main, suffix), beside(&aside, suffix)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        match fs::remove_file(beside(&self.main, ".suspect")) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        self.forget_damaged()?;
        Ok(aside)
    }

    fn forget_damaged(&self) -> io::Result<()> {
        let prefix = beside(&self.main, ".damaged-");
        let Some(prefix) = prefix.file_name().and_then(|name| name.to_str()) else {
            return Ok(());
        };
        let directory = match self.main.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        let mut damaged: Vec<(u64, PathBuf)> = fs::read_dir(directory)?
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

/// The name with something behind it.
fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(suffix);
    PathBuf::from(name)
}
