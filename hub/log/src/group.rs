//! A group of commands, executed and not yet durable: what a backend commits as one.

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};

use proto::GuildId;

use crate::command::{Command, Reply};
use crate::log_state::LogState;
use crate::record::Record;

/// A group of commands. A backend commits all of it or nothing.
#[derive(Debug)]
pub(crate) struct Group {
    /// The state with the group.
    pub(crate) after: LogState,
    /// When the commands were executed, in ms since the Unix epoch.
    pub(crate) now_ms: u64,
    /// What the commands add.
    pub(crate) record: Record,
    /// Guilds whose old entries are to be forgotten.
    pub(crate) expired: BTreeSet<GuildId>,
    /// Whether to write although nothing is to be written.
    pub(crate) probe: bool,
}

impl Group {
    /// An empty group on a state.
    pub(crate) fn new(state: LogState, now_ms: u64) -> Self {
        Self {
            after: state,
            now_ms,
            record: Record::default(),
            expired: BTreeSet::new(),
            probe: false,
        }
    }

    /// Whether there is nothing to commit.
    pub(crate) fn is_empty(&self) -> bool {
        self.record.is_empty() && self.expired.is_empty() && !self.probe
    }

    /// Whether a durable backend has something to store.
    pub(crate) fn is_stored(&self) -> bool {
        self.record.is_stored() || !self.expired.is_empty() || self.probe
    }

    /// Executes a command. One that panics leaves nothing behind, and has no reply.
    pub(crate) fn execute(&mut self, command: &Command) -> Option<Reply> {
        let mut after = self.after.clone();
        let executed = catch_unwind(AssertUnwindSafe(|| after.execute(command, self.now_ms)));
        let Ok((reply, record)) = executed else {
            metrics::counter!("hub_panics_total").increment(1);
            tracing::error!("ALARM: a command of the log ended in a fault of the hub");
            return None;
        };
        self.after = after;
        self.record.append(record);
        Some(reply)
    }
}
