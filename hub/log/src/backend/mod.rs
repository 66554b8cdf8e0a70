//! Where the log is stored. [`contract`] is what every backend promises, as a test.

#[cfg(test)]
mod contract;
pub(crate) mod loaded;
pub(crate) mod sqlite;

use self::sqlite::Store;
use crate::group::Group;
use crate::log_state::LogState;

/// Why a group is not durable.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// What is stored is not what was written.
    #[error("damaged: {0}")]
    Damaged(String),
    /// The store cannot be written, or read, now.
    #[error(transparent)]
    Failed(Box<dyn std::error::Error + Send + Sync>),
    /// Another hub has the store's place: this one must end.
    #[error("another hub has taken the place of the store")]
    Taken,
}

impl Failure {
    pub(crate) fn damaged(why: impl Into<String>) -> Self {
        Self::Damaged(why.into())
    }

    pub(crate) fn failed(why: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::Failed(why.into())
    }
}

/// Why there is no log.
#[derive(Debug, thiserror::Error)]
#[error("STORE_URL: {why}")]
pub struct StoreError {
    why: String,
    /// Whether another setting is needed: starting again does not help.
    pub is_wrong_setting: bool,
}

impl StoreError {
    pub(crate) fn wrong(why: String) -> Self {
        Self {
            why,
            is_wrong_setting: true,
        }
    }

    pub(crate) fn failed(why: impl Into<String>) -> Self {
        Self {
            why: why.into(),
            is_wrong_setting: false,
        }
    }

    pub(crate) fn of(mut self, path: &std::path::Path) -> Self {
        self.why = format!("{}: {}", path.display(), self.why);
        self
    }
}

/// Where the log is stored.
#[derive(Debug)]
pub(crate) enum Backend {
    /// Nowhere: nothing outlives the process.
    Memory,
    /// In one file.
    Sqlite(Box<Store>),
}

impl Backend {
    /// Whether a committed group outlives the process.
    pub(crate) fn is_durable(&self) -> bool {
        match self {
            Self::Memory => false,
            Self::Sqlite(_) => true,
        }
    }

    /// Stores a group, all of it or nothing. `before` is the state that was committed before.
    pub(crate) fn commit(&mut self, group: &Group, before: &LogState) -> Result<(), Failure> {
        match self {
            Self::Memory => Ok(()),
            Self::Sqlite(store) => store.commit(group, before),
        }
    }

    /// Ensures that the next start finds what is stored.
    pub(crate) fn ensure_in_place(&mut self, now_ms: u64) -> Result<(), Failure> {
        match self {
            Self::Memory => Ok(()),
            Self::Sqlite(store) => store.ensure_in_place(now_ms),
        }
    }

    /// Leaves a mark that the next start must not use what is stored.
    pub(crate) fn mark_corrupt(&self) -> std::io::Result<()> {
        match self {
            Self::Memory => Ok(()),
            Self::Sqlite(store) => store.mark_corrupt(),
        }
    }
}
