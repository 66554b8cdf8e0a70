//! The world: the real programs, as processes, against the simulated Discord.
//!
//! A [`World`] starts the simulator, the development issuer, the hub and the worker on free
//! loopback ports and ends them when it is dropped. Nothing here sleeps for luck: every wait is
//! for a fact, with a deadline.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a world for tests: what goes wrong ends the test, with the reason"
)]

mod browser;
pub mod mirror;
mod process;

pub use browser::{Browser, Ended};
pub use process::Process;

use std::net::TcpListener;
use std::time::{Duration, Instant};

use reqwest::{Client, Method, StatusCode};
use serde_json::{Value, json};

/// The simulator's guild.
pub const GUILD: &str = "100000000000000001";
/// Its category.
pub const CATEGORY: &str = "100000000000000010";
/// A voice channel that everybody may view.
pub const LOUNGE: &str = "100000000000000011";
/// Another one.
pub const STUDY: &str = "100000000000000012";
/// The staff's channel.
pub const STAFF: &str = "100000000000000013";
/// A user.
pub const ADA: &str = "200000000000000001";
/// Another one.
pub const GRACE: &str = "200000000000000002";
/// Signs what the worker delivers.
pub const SECRET: &str = "whsec_ZTJlLWUyZS1lMmUtZTJlLWUyZS1lMmUtZTJlLWUyZS0=";

/// How long a fact may take to become true on a busy machine.
pub const DEADLINE: Duration = Duration::from_secs(20);

/// Everything that runs.
pub struct World {
    /// The simulated Discord.
    pub sim: Process,
    /// The issuer of tokens.
    pub issuer: Process,
    /// The hub.
    pub hub: Process,
    /// The gateway worker.
    pub worker: Process,
    /// Where the simulator is.
    pub sim_url: String,
    /// Where the issuer is.
    pub issuer_url: String,
    /// The hub's public address.
    pub hub_url: String,
    /// The hub's internal address.
    pub internal_url: String,
    /// The worker's address.
    pub worker_url: String,
    /// Asks over HTTP.
    pub http: Client,
}

impl World {
    /// A quiet world: nobody moves unless told.
    pub async fn start() -> Self {
        Self::with(&[]).await
    }

    /// A quiet world with some of the hub's settings changed.
    pub async fn with(hub_settings: &[(&str, &str)]) -> Self {
        let [sim_at, issuer_at, hub_at, internal_at, worker_at] = free_addresses();
        let http = unpooled();
        let urls = [&sim_at, &issuer_at, &hub_at, &internal_at, &worker_at]
            .map(|at| format!("http://{at}"));
        let [sim_url, issuer_url, hub_url, internal_url, worker_url] = urls;

        let sim = Process::start(
            "discord-sim",
            &[
                ("SIM_LISTEN", &sim_at),
                ("SIM_QUIET", "1"),
                ("SIM_SEED", "1"),
                ("SIM_INTERACTIONS_URL", &format!("{hub_url}/interactions")),
                ("LOG_LEVEL", "info"),
            ],
        );
        let issuer = Process::start("dev-issuer", &[("ISSUER_LISTEN", &issuer_at)]);
        answers(&http, &format!("{sim_url}/_sim/state")).await;
        answers(&http, &format!("{issuer_url}/.well-known/jwks.json")).await;
        let state: Value = http
            .get(format!("{sim_url}/_sim/state"))
            .send()
            .await
            .unwrap()
            .json()
            .await
            .unwrap();

        let jwks = format!("{issuer_url}/.well-known/jwks.json");
        let public_key = state["publicKey"]
            .as_str()
            .expect("the simulator shows its public key")
            .to_owned();
        let mut settings = vec![
            ("HUB_LISTEN", hub_at.as_str()),
            ("INTERNAL_LISTEN", &internal_at),
            ("HUB_SECRET", SECRET),
            ("JWT_ISSUER", &issuer_url),
            ("JWT_AUDIENCE", "roomwire"),
            ("JWT_PUBLIC_JWK_URL", &jwks),
            ("WEB_ORIGIN", &hub_url),
            ("PRIMARY_GUILD_ID", GUILD),
            ("DISCORD_BOT_TOKEN", "sim-token"),
            ("DISCORD_API_URL", &sim_url),
            ("DISCORD_PUBLIC_KEY", &public_key),
            ("LOG_LEVEL", "debug"),
        ];
        for (name, value) in hub_settings {
            settings.retain(|(known, _)| known != name);
            settings.push((name, value));
        }
        let hub = Process::start("hub", &settings);
        let worker = Process::start(
            "gateway-worker",
            &[
                ("HUB_SECRET", SECRET),
                ("PRIMARY_GUILD_ID", GUILD),
                ("DISCORD_BOT_TOKEN", "sim-token"),
                (
                    "HUB_ENDPOINT",
                    &format!("{internal_url}/api/internal/events"),
                ),
                ("WORKER_LISTEN", &worker_at),
                ("DISCORD_API_URL", &sim_url),
                ("LOG_LEVEL", "debug"),
            ],
        );
        let world = Self {
            sim,
            issuer,
            hub,
            worker,
            sim_url,
            issuer_url,
            hub_url,
            internal_url,
            worker_url,
            http,
        };
        answers(&world.http, &format!("{}/readyz", world.internal_url)).await;
        world.worker_ready().await;
        world
    }

    /// Waits until the worker is live and the hub has acknowledged.
    pub async fn worker_ready(&self) {
        answers(&self.http, &format!("{}/readyz", self.worker_url)).await;
    }

    /// A token of the issuer.
    pub async fn token(&self, wish: Value) -> String {
        let answer = self
            .http
            .post(format!("{}/token", self.issuer_url))
            .json(&wish)
            .send()
            .await
            .unwrap();
        let answer: Value = answer.json().await.unwrap();
        answer["token"]
            .as_str()
            .unwrap_or_else(|| panic!("no token: {answer}"))
            .to_owned()
    }

    /// A browser of this person, subscribed.
    pub async fn browser(&self, sub: &str) -> Browser {
        let token = self.token(json!({ "sub": sub })).await;
        let mut browser = Browser::open(&self.hub_url).await;
        browser
            .say(&json!({ "type": "auth", "token": token }))
            .await;
        browser.event("guild.snapshot").await;
        browser
    }

    /// Asks the hub's REST as this person.
    pub async fn rest(
        &self,
        method: Method,
        path: &str,
        wish: Value,
        body: Option<Value>,
    ) -> (StatusCode, Value) {
        let token = self.token(wish).await;
        self.rest_with(method, path, &token, body).await
    }

    /// Asks the hub's REST with this token.
    pub async fn rest_with(
        &self,
        method: Method,
        path: &str,
        token: &str,
        body: Option<Value>,
    ) -> (StatusCode, Value) {
        let mut request = self
            .http
            .request(method, format!("{}{path}", self.hub_url))
            .bearer_auth(token);
        if let Some(body) = body {
            request = request.json(&body);
        }
        let answer = request.send().await.unwrap();
        (answer.status(), answer.json().await.unwrap_or(Value::Null))
    }

    /// The simulator's control side.
    pub async fn control(&self, path: &str, body: Value) -> Value {
        let answer = self
            .http
            .post(format!("{}/_sim/{path}", self.sim_url))
            .json(&body)
            .send()
            .await
            .unwrap();
        let status = answer.status();
        let text = answer.text().await.unwrap();
        assert!(status.is_success(), "/_sim/{path} {body}: {status} {text}");
        serde_json::from_str(&text).unwrap_or(Value::Null)
    }

    /// Changes a channel as somebody in Discord would.
    pub async fn change_channel(&self, id: &str, body: Value) {
        let url = format!("{}/_sim/channels/{id}", self.sim_url);
        let answer = self.http.patch(url).json(&body).send().await.unwrap();
        assert!(
            answer.status().is_success(),
            "{}",
            answer.text().await.unwrap()
        );
    }

    /// Somebody in Discord joins, moves, mutes or leaves.
    pub async fn voice(&self, user: &str, channel: Option<&str>) {
        self.control(
            "voice",
            json!({ "guildId": GUILD, "userId": user, "channelId": channel }),
        )
        .await;
    }

    /// The truth.
    pub async fn truth(&self) -> Value {
        self.http
            .get(format!("{}/_sim/state", self.sim_url))
            .send()
            .await
            .unwrap()
            .json()
            .await
            .unwrap()
    }

    /// The channels of the guild, in truth.
    pub async fn channels(&self) -> Value {
        self.truth().await["guilds"][GUILD]["channels"].clone()
    }

    /// Restarts the hub on the same addresses, by SIGKILL.
    pub async fn restart_hub(&mut self) {
        self.hub.kill().await;
        self.hub = self.hub.again();
        answers(&self.http, &format!("{}/readyz", self.internal_url)).await;
    }

    /// Restarts the worker, by SIGKILL.
    pub async fn restart_worker(&mut self) {
        self.worker.kill().await;
        self.worker = self.worker.again();
        self.worker_ready().await;
    }

    /// One of the hub's metrics, summed over its labels; 0 while it was never counted.
    pub async fn hub_metric(&self, name: &str) -> f64 {
        let url = format!("{}/metrics", self.internal_url);
        let text = self
            .http
            .get(url)
            .send()
            .await
            .unwrap()
            .text()
            .await
            .unwrap();
        let values = text.lines().filter_map(|line| {
            let rest = line.strip_prefix(name)?;
            rest.starts_with(['{', ' '])
                .then(|| rest.rsplit(' ').next()?.parse::<f64>().ok())?
        });
        values.sum()
    }

    /// The hub's and the worker's metrics and logs, and what the hub answers about itself.
    pub async fn outputs(&self) -> String {
        let mut text = format!("{}\n{}", self.hub.log(), self.worker.log());
        for url in [
            format!("{}/metrics", self.internal_url),
            format!("{}/health", self.internal_url),
            format!("{}/metrics", self.worker_url),
            format!("{}/health", self.worker_url),
            format!("{}/health", self.hub_url),
        ] {
            text.push_str(
                &self
                    .http
                    .get(url)
                    .send()
                    .await
                    .unwrap()
                    .text()
                    .await
                    .unwrap(),
            );
        }
        text
    }
}

/// Asks until it is so, or panics at the deadline.
pub async fn eventually<T, F: Future<Output = Option<T>>>(
    what: &str,
    mut ask: impl FnMut() -> F,
) -> T {
    let until = Instant::now() + DEADLINE;
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(Instant::now() < until, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn answers(http: &Client, url: &str) {
    eventually(url, || async {
        let answer = http.get(url).send().await.ok()?;
        answer.status().is_success().then_some(())
    })
    .await;
}

/// Addresses that nothing listens on at the moment.
fn free_addresses<const N: usize>() -> [String; N] {
    // All are held until all are known, so that they differ.
    let listeners: Vec<_> = (0..N)
        .map(|_| TcpListener::bind("127.0.0.1:0").unwrap())
        .collect();
    std::array::from_fn(|index| listeners[index].local_addr().unwrap().to_string())
}

/// One connection a request: a test that is refused half-way must not spoil the next.
fn unpooled() -> Client {
    let builder = Client::builder().timeout(DEADLINE);
    builder.pool_max_idle_per_host(0).build().unwrap()
}
