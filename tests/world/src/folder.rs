//! A folder for the time of a test.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// A new, empty folder. Dropping it removes it and its content.
#[derive(Debug)]
pub struct Folder(PathBuf);

impl Folder {
    /// A folder of this process among the machine's temporary files.
    pub fn new() -> Self {
        Self::below(&std::env::temp_dir())
    }

    /// A folder of this process in `parent`.
    pub fn below(parent: &Path) -> Self {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = parent.join(format!("roomwire-{}-{count}", std::process::id()));
        // An earlier process with this id may have been killed and have left one.
        let _removed = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path)
            .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        Self(path)
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// The path of a file in it.
    pub fn file(&self, name: &str) -> String {
        self.0.join(name).display().to_string()
    }

    /// The hub's setting `STORE_URL` for a store in it.
    pub fn store_url(&self) -> String {
        format!("sqlite://{}", self.file("hub.db"))
    }
}

impl Default for Folder {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _removed = std::fs::remove_dir_all(&self.0);
    }
}
