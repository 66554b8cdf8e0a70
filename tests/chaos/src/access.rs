//! How subscribers and viewers connect to the hub.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::json;
use tokio::time::timeout;
use world::Socket;

use crate::checker::Id;

/// How long a connection may take to open.
pub(crate) const OPEN_MAX: Duration = Duration::from_secs(5);

/// Where to subscribe, and with which token.
#[derive(Debug, Clone)]
pub struct HubAccess {
    /// The hub's public URL.
    pub hub_url: String,
    /// A token that outlives the run.
    pub token: String,
    /// The guild.
    pub guild: Id,
}

impl HubAccess {
    /// Opens a connection; none if that fails or takes too long.
    pub async fn open(&self) -> Option<Socket> {
        let opened = timeout(OPEN_MAX, Socket::connect(&self.hub_url)).await;
        opened.ok()?.ok()
    }

    /// The `auth` frame: of these rooms only, and to recover from this position.
    pub fn auth(&self, only: Option<&BTreeSet<Id>>, pos: Option<&str>) -> String {
        let mut frame = json!({"type": "auth", "token": self.token, "guilds": [self.guild]});
        if let Some(only) = only {
            frame["rooms"] = json!(only);
        }
        if let Some(pos) = pos {
            frame["recover"] = json!({&self.guild: pos});
        }
        frame.to_string()
    }
}
