//! The files of a hub's store, `hub.db` and what belongs to it, and a copy of them aside.

use std::fs;
use std::path::{Path, PathBuf};

/// The store's files in a folder.
pub struct StoreFiles {
    folder: PathBuf,
    kept: PathBuf,
}

impl StoreFiles {
    /// Those in this folder; the copy lies in `kept` there.
    pub fn of(folder: &Path) -> Self {
        Self {
            folder: folder.to_owned(),
            kept: folder.join("kept"),
        }
    }

    /// Where they are.
    pub fn paths(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(&self.folder).unwrap();
        let files = entries.filter_map(|entry| Some(entry.ok()?.path()));
        let named = |path: &PathBuf| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            name.starts_with("hub.db")
        };
        files.filter(named).collect()
    }

    /// Copies them aside, in place of an earlier copy. The hub must not write meanwhile.
    pub fn keep(&self) {
        // Of an earlier copy there may be none.
        let _removed = fs::remove_dir_all(&self.kept);
        fs::create_dir_all(&self.kept).unwrap();
        for file in self.paths() {
            fs::copy(&file, self.kept.join(file.file_name().unwrap())).unwrap();
        }
    }

    /// Takes them away. The hub must not run.
    pub fn remove(&self) {
        for file in self.paths() {
            fs::remove_file(file).unwrap();
        }
    }

    /// Puts the copy in their place. The hub must not run.
    pub fn restore(&self) {
        self.remove();
        for entry in fs::read_dir(&self.kept).unwrap() {
            let path = entry.unwrap().path();
            fs::copy(&path, self.folder.join(path.file_name().unwrap())).unwrap();
        }
    }
}
