//! Where a measured hub keeps its log: a directory of its own, gone afterwards.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// What an acknowledged event survives: the hub's setting `STORE_DURABILITY`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Durability {
    /// Any death of the process.
    Process,
    /// A power cut too.
    Power,
}

impl Durability {
    /// Both.
    pub(crate) const ALL: [Self; 2] = [Self::Process, Self::Power];

    /// As the setting has it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Process => "process",
            Self::Power => "power",
        }
    }
}

/// A directory for one hub; dropping it removes it.
#[derive(Debug)]
pub(crate) struct Store(PathBuf);

impl Store {
    /// An empty one below `parent`.
    ///
    /// # Errors
    /// It can not be made.
    pub(crate) fn new(parent: &Path) -> std::io::Result<Self> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let directory = parent.join(format!(
            "roomwire-load.{}.{}",
            std::process::id(),
            NEXT.fetch_add(1, Ordering::Relaxed)
        ));
        std::fs::create_dir(&directory)?;
        Ok(Self(directory))
    }

    /// The hub's setting `STORE_URL`.
    pub(crate) fn url(&self) -> String {
        format!("sqlite://{}", self.file("hub.db"))
    }

    /// A path in it.
    pub(crate) fn file(&self, name: &str) -> String {
        self.0.join(name).display().to_string()
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        // What can not be removed is left to whoever empties the directory for temporary files.
        let _removed = std::fs::remove_dir_all(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_stores_are_apart_and_leave_nothing_behind() {
        let parent = std::env::temp_dir();
        let (one, other) = (Store::new(&parent).unwrap(), Store::new(&parent).unwrap());
        assert_ne!(one.url(), other.url());
        std::fs::write(one.file("hub.db"), "x").unwrap();
        let path = one.file("hub.db");
        drop(one);
        assert!(!Path::new(&path).exists());
        assert!(Path::new(&other.file("")).is_dir());
    }
}
