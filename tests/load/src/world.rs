//! The system under measurement: the real processes, on free loopback ports, with the demo's
//! settings.

use anyhow::Context as _;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::kernel::{Observed, descriptor_limit};
use crate::processes::{Processes, client, free_addresses};
use crate::script::{Stage, Wish};
use crate::store::Store;

/// The simulator's first guild.
pub(crate) const GUILD: &str = "100000000000000001";
const BOT_TOKEN: &str = "sim-token";
/// Signs deliveries between two processes of one measurement; it protects nothing.
pub(crate) const HUB_SECRET: &str = "whsec_bWVhc3VyZWQgb24gdGhlIGxvb3BiYWNrIG9ubHkgISEh";
/// What the simulator's rate limits are raised to: they are Discord's, not ours, to measure.
const UNLIMITED: &str = "1000000";
/// Browsers that share one subject, as tabs and devices do; below the hub's bound of 50.
const BROWSERS_A_SUBJECT: usize = 40;

/// The running system. What is dropped without [`World::stop`] is killed as well.
pub(crate) struct World {
    processes: Processes,
    hub: String,
    internal: String,
    issuer: String,
    simulator: Simulator,
    /// Keeps its connections open between requests.
    http: reqwest::Client,
    /// Outlives the hub that writes into it.
    _store: Store,
}

/// Where a hub listens and whom it asks.
#[derive(Debug, Clone, Copy)]
pub(crate) struct HubPlan<'a> {
    /// Its public listener.
    pub(crate) hub: &'a str,
    /// Its internal listener.
    pub(crate) internal: &'a str,
    /// The issuer, as an address.
    pub(crate) issuer: &'a str,
    /// Discord's API, as an address.
    pub(crate) discord: &'a str,
    /// The setting `PRIMARY_GUILD_ID`.
    pub(crate) guild: &'a str,
    /// Its log.
    pub(crate) store: &'a Store,
}

impl HubPlan<'_> {
    /// Starts the hub; `more` are settings beside the plan's.
    ///
    /// # Errors
    /// It can not be started or is not ready in time.
    pub(crate) async fn start(
        self,
        processes: &mut Processes,
        more: &[(&str, &str)],
    ) -> anyhow::Result<()> {
        let url = |address: &str| format!("http://{address}");
        let settings = [
            ("HUB_LISTEN", self.hub.to_owned()),
            ("INTERNAL_LISTEN", self.internal.to_owned()),
            ("HUB_SECRET", HUB_SECRET.to_owned()),
            ("JWT_ISSUER", url(self.issuer)),
            ("JWT_AUDIENCE", "roomwire".to_owned()),
            ("JWT_PUBLIC_JWK_URL", keys_url(self.issuer)),
            ("WEB_ORIGIN", url(self.hub)),
            ("PRIMARY_GUILD_ID", self.guild.to_owned()),
            ("DISCORD_BOT_TOKEN", BOT_TOKEN.to_owned()),
            ("DISCORD_API_URL", url(self.discord)),
            ("CONNECTIONS_MAX", "25000".to_owned()),
            ("TCP_CONNECTIONS_MAX", connections_max().to_string()),
            ("STORE_URL", self.store.url()),
        ];
        let settings: Vec<(&str, &str)> = settings
            .iter()
            .map(|(name, value)| (*name, value.as_str()))
            .chain(more.iter().copied())
            .collect();
        processes.spawn("hub", &settings)?;
        processes.ready(&ready_url(self.internal)).await
    }
}

/// The development issuer's keys.
pub(crate) fn keys_url(issuer: &str) -> String {
    format!("http://{issuer}/.well-known/jwks.json")
}

/// As many as the hub's descriptors, which are as many as this process's, allow beside its files.
fn connections_max() -> u64 {
    const FILES: u64 = 200;
    const MOST: u64 = 30_000;
    let limit = descriptor_limit().map_or(MOST, |limit| limit.soft);
    limit.saturating_sub(FILES).clamp(FILES, MOST)
}

/// Answers 200 once the process with this internal listener is ready.
pub(crate) fn ready_url(internal: &str) -> String {
    format!("http://{internal}/readyz")
}

impl World {
    /// Starts everything and waits until it is ready. What the processes say that is at least of
    /// this level stands beside the table.
    ///
    /// # Errors
    /// A program is missing, ended by itself, or is not ready in time.
    pub(crate) async fn start(store: Store, log_level: &'static str) -> anyhow::Result<Self> {
        let [hub, internal, worker, sim, issuer] = free_addresses().await?;
        let (sim_url, http) = (format!("http://{sim}"), client()?);
        let mut processes = Processes::none(log_level)?;
        processes.spawn(
            "discord-sim",
            &[
                ("SIM_LISTEN", &sim),
                ("SIM_QUIET", "1"),
                ("SIM_ROUTE_REQUESTS", UNLIMITED),
                ("SIM_GLOBAL_PER_S", UNLIMITED),
            ],
        )?;
        processes.spawn("dev-issuer", &[("ISSUER_LISTEN", &issuer)])?;
        processes.ready(&format!("{sim_url}/_sim/state")).await?;
        processes.ready(&keys_url(&issuer)).await?;
        let plan = HubPlan {
            hub: &hub,
            internal: &internal,
            issuer: &issuer,
            discord: &sim,
            guild: GUILD,
            store: &store,
        };
        plan.start(&mut processes, &[]).await?;
        processes.spawn(
            "gateway-worker",
            &[
                (
                    "HUB_ENDPOINT",
                    &format!("http://{internal}/api/internal/events"),
                ),
                ("WORKER_LISTEN", &worker),
                ("HUB_SECRET", HUB_SECRET),
                ("PRIMARY_GUILD_ID", GUILD),
                ("DISCORD_BOT_TOKEN", BOT_TOKEN),
                ("DISCORD_API_URL", &sim_url),
                ("DISCORD_CDN_URL", &sim_url),
            ],
        )?;
        processes.ready(&ready_url(&worker)).await?;
        Ok(Self {
            processes,
            hub: format!("http://{hub}"),
            internal,
            issuer: format!("http://{issuer}"),
            simulator: Simulator {
                http: http.clone(),
                url: sim_url,
            },
            http,
            _store: store,
        })
    }

    /// Ends every process and waits for it.
    pub(crate) async fn stop(self) {
        self.processes.stop().await;
    }

    /// Whether every process is still there.
    ///
    /// # Errors
    /// One ended by itself.
    pub(crate) fn check(&mut self) -> anyhow::Result<()> {
        self.processes.check()
    }

    /// Kills the hub as `kill -9` does.
    ///
    /// # Errors
    /// It had ended by itself.
    pub(crate) async fn kill_hub(&mut self) -> anyhow::Result<()> {
        self.processes.check()?;
        self.processes.kill("hub").await
    }

    /// Starts the hub anew on the same store, and waits until it is ready.
    ///
    /// # Errors
    /// It can not be started or is not ready in time.
    pub(crate) async fn revive_hub(&mut self) -> anyhow::Result<()> {
        self.processes.revive("hub")?;
        self.processes.ready(&ready_url(&self.internal)).await
    }

    /// Processor time and memory of a process that was started here.
    ///
    /// # Errors
    /// It has ended.
    pub(crate) fn observe(&self, name: &str) -> anyhow::Result<Observed> {
        self.processes.observe(name)
    }

    /// Where things happen.
    pub(crate) fn simulator(&self) -> &Simulator {
        &self.simulator
    }

    /// The hub's public listener.
    pub(crate) fn hub_address(&self) -> &str {
        self.hub.trim_start_matches("http://")
    }

    /// A bearer token for this subject.
    ///
    /// # Errors
    /// The issuer gives none.
    pub(crate) async fn token(&self, subject: &str) -> anyhow::Result<String> {
        let answer: Value = self
            .ask(
                self.http
                    .post(format!("{}/token", self.issuer))
                    .json(&json!({"sub": subject, "alg": "ES256"})),
            )
            .await?;
        answer["token"]
            .as_str()
            .map(str::to_owned)
            .context("the issuer's answer has no token")
    }

    /// Tokens for this many browsers, several to a subject.
    ///
    /// # Errors
    /// The issuer gives none.
    pub(crate) async fn browser_tokens(&self, browsers: usize) -> anyhow::Result<Vec<String>> {
        let mut tokens = Vec::with_capacity(browsers);
        while tokens.len() < browsers {
            let token = self
                .token(&format!("viewer-{}", tokens.len() / BROWSERS_A_SUBJECT))
                .await?;
            let share = BROWSERS_A_SUBJECT.min(browsers - tokens.len());
            tokens.extend(std::iter::repeat_n(token, share));
        }
        Ok(tokens)
    }

    /// Opens two rooms in Discord for the measurement.
    ///
    /// # Errors
    /// The simulator refuses.
    pub(crate) async fn stage(&self) -> anyhow::Result<Stage> {
        Ok(Stage {
            guild: GUILD.to_owned(),
            first_room: self.simulator.open_room("First room").await?,
            second_room: self.simulator.open_room("Second room").await?,
        })
    }

    /// `POST /api/create-room` at the hub.
    pub(crate) fn create_room(&self, token: &str, body: &proto::rest::CreateRoom) -> Asked {
        Asked(
            self.http
                .post(format!("{}/api/create-room", self.hub))
                .bearer_auth(token)
                .json(body),
        )
    }

    /// `DELETE /api/end-room/{channel}` at the hub.
    pub(crate) fn end_room(&self, token: &str, channel: &str) -> Asked {
        Asked(
            self.http
                .delete(format!("{}/api/end-room/{channel}", self.hub))
                .bearer_auth(token),
        )
    }

    /// The request to Discord that creating a room leads to.
    pub(crate) fn create_channel(&self, name: &str) -> Asked {
        let body = json!({"name": name, "type": 2, "user_limit": 4});
        Asked(
            self.as_bot(self.http.post(format!(
                "{}/api/v10/guilds/{GUILD}/channels",
                self.simulator.url
            )))
            .json(&body),
        )
    }

    /// The request to Discord that ending a room leads to.
    pub(crate) fn delete_channel(&self, channel: &str) -> Asked {
        Asked(
            self.as_bot(
                self.http
                    .delete(format!("{}/api/v10/channels/{channel}", self.simulator.url)),
            ),
        )
    }

    fn as_bot(&self, request: reqwest::RequestBuilder) -> reqwest::RequestBuilder {
        request.header("authorization", format!("Bot {BOT_TOKEN}"))
    }

    async fn ask<T: DeserializeOwned>(
        &self,
        request: reqwest::RequestBuilder,
    ) -> anyhow::Result<T> {
        Asked(request).answer().await
    }
}

/// The simulator's control side. A clone is a reference.
#[derive(Debug, Clone)]
pub(crate) struct Simulator {
    http: reqwest::Client,
    url: String,
}

impl Simulator {
    /// The control request that makes a wish come true, to be sent whenever it suits.
    pub(crate) fn voice(&self, wish: &Wish) -> Asked {
        Asked(
            self.http
                .post(format!("{}/_sim/voice", self.url))
                .json(wish),
        )
    }

    /// Opens a room in Discord, and says which.
    ///
    /// # Errors
    /// The simulator refuses.
    pub(crate) async fn open_room(&self, name: &str) -> anyhow::Result<String> {
        let body = json!({"guildId": GUILD, "name": name});
        let request = self.http.post(format!("{}/_sim/channels", self.url));
        let answer: Value = Asked(request.json(&body)).answer().await?;
        answer["channelId"]
            .as_str()
            .map(str::to_owned)
            .context("the simulator's answer has no channelId")
    }
}

/// A request that is ready to be sent.
pub(crate) struct Asked(reqwest::RequestBuilder);

impl Asked {
    /// This request.
    pub(crate) fn new(request: reqwest::RequestBuilder) -> Self {
        Self(request)
    }

    /// Sends it and reads the whole answer.
    ///
    /// # Errors
    /// Any answer but a success, with its beginning.
    pub(crate) async fn answer<T: DeserializeOwned>(self) -> anyhow::Result<T> {
        const SHOWN_CHARS_MAX: usize = 300;
        let answer = self.0.send().await?;
        let (status, url) = (answer.status(), answer.url().clone());
        let body = answer.bytes().await?;
        if !status.is_success() {
            let shown: String = String::from_utf8_lossy(&body)
                .chars()
                .take(SHOWN_CHARS_MAX)
                .collect();
            anyhow::bail!("{url} answered {status}: {shown}");
        }
        serde_json::from_slice(&body).with_context(|| format!("the answer of {url}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_measurement_has_its_own_secret_of_a_length_that_the_hub_takes() {
        assert!(proto::signing::SigningKeys::parse(HUB_SECRET).is_ok());
    }
}
