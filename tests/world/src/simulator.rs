//! The simulated Discord's control side: what is true there, and how it changes.

use reqwest::{Client, Method, StatusCode};
use serde_json::{Value, json};

/// The simulator's first guild.
pub const GUILD: &str = "100000000000000001";
/// Its category.
pub const CATEGORY: &str = "100000000000000010";
/// A voice channel that @everyone may view.
pub const LOUNGE: &str = "100000000000000011";
/// Another one.
pub const STUDY: &str = "100000000000000012";
/// The staff's channel, which @everyone may not view.
pub const STAFF: &str = "100000000000000013";
/// The bot's role.
pub const BOT_ROLE: &str = "100000000000000021";
/// A user.
pub const ADA: &str = "200000000000000001";
/// Another user.
pub const GRACE: &str = "200000000000000002";
/// The bot's token.
pub const BOT_TOKEN: &str = "sim-token";

/// A client of the simulator's control side. A clone is a reference.
#[derive(Debug, Clone)]
pub struct Simulator {
    http: Client,
    /// Its URL, without a slash at the end.
    pub url: String,
}

impl Simulator {
    /// The simulator at this URL.
    pub fn new(http: Client, url: String) -> Self {
        Self { http, url }
    }

    /// The whole state: guilds, counters, the number of the last transition.
    pub async fn state(&self) -> Value {
        self.get("state").await
    }

    /// The channels of the first guild.
    pub async fn channels(&self) -> Value {
        self.state().await["guilds"][GUILD]["channels"].take()
    }

    /// The transitions after this number, oldest first.
    pub async fn transitions(&self, mut since: u64) -> Vec<Value> {
        let mut all = Vec::new();
        loop {
            let page = self.get(&format!("transitions?since={since}")).await;
            assert_eq!(page["complete"], true, "the simulator dropped transitions");
            let list = page["transitions"].as_array().unwrap();
            let Some(last) = list.last() else {
                return all;
            };
            since = last["seq"].as_u64().unwrap();
            all.extend(list.iter().cloned());
        }
    }

    /// The notes about gateway sessions, oldest first.
    pub async fn sessions(&self) -> Value {
        let mut page = self.get("sessions?since=0").await;
        assert_eq!(page["complete"], true, "the simulator dropped notes");
        page["notes"].take()
    }

    async fn get(&self, path: &str) -> Value {
        let answer = self.http.get(format!("{}/_sim/{path}", self.url)).send();
        answer.await.unwrap().json().await.unwrap()
    }

    /// Sends a request that may be refused; `None` if it was not answered.
    pub async fn ask(
        &self,
        method: Method,
        path: &str,
        body: &Value,
    ) -> Option<(StatusCode, Value)> {
        let url = format!("{}/_sim/{path}", self.url);
        let answer = self
            .http
            .request(method, url)
            .json(body)
            .send()
            .await
            .ok()?;
        Some((answer.status(), answer.json().await.unwrap_or_default()))
    }

    async fn must(&self, method: Method, path: &str, body: Value) -> Value {
        let (status, answer) = self.ask(method, path, &body).await.expect("an answer");
        assert!(
            status.is_success(),
            "/_sim/{path} {body}: {status} {answer}"
        );
        answer
    }

    /// Posts a request that the simulator must accept.
    pub async fn control(&self, path: &str, body: Value) -> Value {
        self.must(Method::POST, path, body).await
    }

    /// A user of the first guild joins, moves or leaves.
    pub async fn voice(&self, user: &str, channel: Option<&str>) {
        let body = json!({"guildId": GUILD, "userId": user, "channelId": channel});
        self.control("voice", body).await;
    }

    /// Creates a channel, and returns its id.
    pub async fn create_channel(&self, body: Value) -> String {
        let created = self.control("channels", body).await;
        created["channelId"].as_str().unwrap().to_owned()
    }

    /// Changes a channel as somebody in Discord would.
    pub async fn change_channel(&self, id: &str, body: Value) {
        self.must(Method::PATCH, &format!("channels/{id}"), body)
            .await;
    }

    /// Deletes a channel as somebody in Discord would.
    pub async fn delete_channel(&self, id: &str) {
        self.must(Method::DELETE, &format!("channels/{id}"), json!({}))
            .await;
    }
}
