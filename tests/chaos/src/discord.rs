//! What a run asks the simulated Discord: how things are, and what happened since it first asked.

use std::time::Duration;

use reqwest::Client as Http;
use serde_json::Value;

use crate::checker::Truth;
use crate::sessions::Note;

/// How long an answer may take.
const ANSWER_MAX: Duration = Duration::from_secs(10);

/// The simulator, and how things were when it was first asked.
pub struct Discord {
    http: Http,
    url: String,
    began: Value,
}

impl Discord {
    /// The simulator at this address, as it is now.
    pub async fn now(sim_url: &str) -> Self {
        let http = Http::builder().timeout(ANSWER_MAX).build().unwrap();
        let mut discord = Self {
            http,
            url: sim_url.to_owned(),
            began: Value::Null,
        };
        discord.began = discord.state().await;
        discord
    }

    /// How things are.
    pub async fn state(&self) -> Value {
        self.ask("state").await
    }

    /// Everything that happened, oldest first.
    pub async fn transitions(&self) -> Vec<Value> {
        let mut since = self.began["seq"].as_u64().unwrap();
        let mut all = Vec::new();
        loop {
            let page = self.ask(&format!("transitions?since={since}")).await;
            assert_eq!(page["complete"], true, "the simulator forgot transitions");
            let list = page["transitions"].as_array().unwrap();
            let Some(last) = list.last() else {
                return all;
            };
            since = last["seq"].as_u64().unwrap();
            all.extend(list.iter().cloned());
        }
    }

    /// The truth of a guild from these transitions.
    pub fn truth(&self, guild: &str, transitions: &[Value]) -> Truth {
        Truth::new(guild, &self.began, transitions)
    }

    /// What became of gateway sessions, the first one included.
    pub async fn sessions(&self) -> Vec<Note> {
        let told = self.ask("sessions?since=0").await;
        assert_eq!(told["complete"], true, "the simulator forgot sessions");
        serde_json::from_value(told["notes"].clone()).unwrap()
    }

    async fn ask(&self, what: &str) -> Value {
        let answer = self.http.get(format!("{}/_sim/{what}", self.url)).send();
        answer.await.unwrap().json().await.unwrap()
    }
}
