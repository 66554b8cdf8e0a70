//! The simulated Discord, and everything that happened there since a run began.

use serde_json::Value;
use world::Simulator;

use crate::checker::History;
use crate::sessions::Note;

/// The simulator, and its state when the run began.
pub struct Discord {
    simulator: Simulator,
    began: Value,
}

impl Discord {
    /// The simulator in its present state.
    pub async fn now(simulator: &Simulator) -> Self {
        Self {
            began: simulator.state().await,
            simulator: simulator.clone(),
        }
    }

    /// The present state.
    pub async fn state(&self) -> Value {
        self.simulator.state().await
    }

    /// The transitions since the run began, oldest first.
    pub async fn transitions(&self) -> Vec<Value> {
        let since = self.began["seq"].as_u64().unwrap();
        self.simulator.transitions(since).await
    }

    /// The truth of a guild from these transitions.
    pub fn truth(&self, guild: &str, transitions: &[Value]) -> History {
        History::new(guild, &self.began, transitions)
    }

    /// The notes about gateway sessions, the first session included.
    pub async fn sessions(&self) -> Vec<Note> {
        serde_json::from_value(self.simulator.sessions().await).unwrap()
    }
}
