//! Whether the log can be stored now.

/// How the store is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Health {
    /// What is acknowledged is stored.
    Storing,
    /// Nothing can be written, and nothing is acknowledged.
    Failing,
    /// The file is damaged, or another hub's: this process must end.
    Ruined,
}
