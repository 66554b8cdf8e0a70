//! A client program from outside, under test: `--client 'python3 client.py'`.
//!
//! It is given `HUB_URL`, `TOKEN` and `GUILD_ID` in its environment, and prints one line of JSON
//! whenever what it believes has changed: `{"rooms": {"<channelId>": ["<userId>", …]}}`. At a quiet
//! point its last line must be the truth.

use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};
use world::roster::Seating;

use crate::access::HubAccess;

/// A running client program. Dropping it kills it.
pub struct Client {
    child: Child,
    last: Arc<Mutex<String>>,
}

impl Client {
    /// Starts it by the shell.
    pub fn start(command: &str, access: &HubAccess) -> Self {
        let mut child = Command::new("/bin/sh")
            .arg("-c")
            .arg(format!("exec {command}"))
            .env("HUB_URL", &access.hub_url)
            .env("TOKEN", &access.token)
            .env("GUILD_ID", &access.guild)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let last = Arc::new(Mutex::new(String::new()));
        let (kept, output) = (Arc::clone(&last), child.stdout.take().unwrap());
        tokio::spawn(async move {
            let mut lines = BufReader::new(output).lines();
            while let Ok(Some(line)) = lines.next_line().await {
                *kept.lock().unwrap_or_else(PoisonError::into_inner) = line;
            }
        });
        Self { child, last }
    }

    /// Its last line.
    pub fn last(&self) -> String {
        self.last
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Whether it runs and its last line says exactly this.
    pub fn agrees(&mut self, truth: &Seating) -> bool {
        matches!(self.child.try_wait(), Ok(None)) && seating(&self.last()).as_ref() == Some(truth)
    }
}

fn seating(line: &str) -> Option<Seating> {
    let line: Value = serde_json::from_str(line).ok()?;
    let rooms = line["rooms"].as_object()?.iter();
    let who = |users: &Value| {
        let users = users.as_array().into_iter().flatten();
        users
            .filter_map(|user| user.as_str().map(str::to_owned))
            .collect()
    };
    Some(rooms.map(|(id, users)| (id.clone(), who(users))).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_a_seating_and_anything_else_is_none() {
        let line = r#"{"rooms":{"1":["2","3"],"4":[]}}"#;
        let seating_of_it = seating(line).unwrap();
        assert_eq!(seating_of_it["1"].len(), 2);
        assert!(seating_of_it["4"].is_empty());
        assert_eq!(seating("hello"), None);
        assert_eq!(seating("{}"), None);
    }
}
