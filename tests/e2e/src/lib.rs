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
pub mod documents;
mod folder;
pub mod mirror;
pub mod nginx;
mod process;
mod scrape;
pub mod tools;

pub use browser::{Browser, Ended};
pub use folder::Folder;
pub use nginx::Nginx;
pub use process::{Process, built_at, program};
pub use scrape::{Family, Scrape};

use std::net::TcpListener;
use std::sync::atomic::{AtomicU32, Ordering};
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
/// The bot's role.
pub const BOT_ROLE: &str = "100000000000000021";
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
    /// Where the hub keeps its store, `hub.db`, unless the plan says otherwise.
    pub folder: Folder,
}

/// What a world is made of where it is not the usual.
#[derive(Debug, Clone, Copy, Default)]
pub struct Plan<'a> {
    /// Settings of the hub, beside or instead of the usual.
    pub hub: &'a [(&'a str, &'a str)],
    /// Settings of the worker, likewise.
    pub worker: &'a [(&'a str, &'a str)],
    /// Settings of the simulator, likewise.
    pub sim: &'a [(&'a str, &'a str)],
    /// The hub's program; empty: `hub`.
    pub hub_program: &'a str,
    /// The worker's program; empty: `gateway-worker`.
    pub worker_program: &'a str,
    /// A shell's words before hub and worker, such as a limit.
    pub prelude: &'a str,
    /// The hub's internal address and the simulator's, where something must know them before.
    pub addresses: Option<[&'a str; 2]>,
}

impl World {
    /// A quiet world: nobody moves unless told.
    pub async fn start() -> Self {
        Self::with(&[]).await
    }

    /// A quiet world with some of the hub's settings changed.
    pub async fn with(hub_settings: &[(&str, &str)]) -> Self {
        Self::of(Plan {
            hub: hub_settings,
            ..Plan::default()
        })
        .await
    }

    /// A quiet world by this plan.
    pub async fn of(plan: Plan<'_>) -> Self {
        let [mut sim_at, issuer_at, hub_at, mut internal_at, worker_at] = free_addresses();
        if let Some([internal, sim]) = plan.addresses {
            (internal_at, sim_at) = (internal.to_owned(), sim.to_owned());
        }
        let http = unpooled();
        let urls = [&sim_at, &issuer_at, &hub_at, &internal_at, &worker_at]
            .map(|at| format!("http://{at}"));
        let [sim_url, issuer_url, hub_url, internal_url, worker_url] = urls;

        let interactions = format!("{hub_url}/interactions");
        let usual = [
            ("SIM_LISTEN", sim_at.as_str()),
            ("SIM_QUIET", "1"),
            ("SIM_SEED", "1"),
            ("SIM_INTERACTIONS_URL", &interactions),
            ("LOG_LEVEL", "info"),
        ];
        let sim = Process::start("discord-sim", &changed(&usual, plan.sim));
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
        let folder = Folder::new();
        let store = format!("sqlite://{}", folder.path().join("hub.db").display());
        let usual = [
            ("STORE_URL", store.as_str()),
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
        let hub = Process::start_after(
            plan.prelude,
            named(plan.hub_program, "hub"),
            &changed(&usual, plan.hub),
        );
        let endpoint = format!("{internal_url}/api/internal/events");
        let usual = [
            ("HUB_SECRET", SECRET),
            ("PRIMARY_GUILD_ID", GUILD),
            ("DISCORD_BOT_TOKEN", "sim-token"),
            ("HUB_ENDPOINT", &endpoint),
            ("WORKER_LISTEN", &worker_at),
            ("DISCORD_API_URL", &sim_url),
            ("LOG_LEVEL", "debug"),
        ];
        let worker = Process::start_after(
            plan.prelude,
            named(plan.worker_program, "gateway-worker"),
            &changed(&usual, plan.worker),
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
            folder,
        };
        answers(&world.http, &format!("{}/readyz", world.internal_url)).await;
        world.worker_ready().await;
        // The hub may answer a worker's first beat before it was told the guild.
        eventually("the hub was told a guild", || async {
            let url = format!("{}/health", world.internal_url);
            let answer = world.http.get(url).send().await.ok()?;
            let health: Value = answer.json().await.ok()?;
            (health["guilds"]["live"].as_u64()? > 0).then_some(())
        })
        .await;
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

    /// Asserts that the worker identified once, at the beginning, and resumed once since then, as
    /// Discord counts.
    pub async fn resumed_once(&self) {
        let counters = &self.truth().await["counters"];
        let counted = (&counters["identify"], &counters["resume"]);
        assert_eq!(counted, (&json!(1), &json!(1)), "identifies, resumes");
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

    /// The hub's metrics and the worker's.
    pub async fn scrapes(&self) -> [Scrape; 2] {
        let mut scrapes = [Scrape::default(), Scrape::default()];
        for (scrape, url) in scrapes
            .iter_mut()
            .zip([&self.internal_url, &self.worker_url])
        {
            *scrape = Scrape::read(&self.scraped(url).await);
        }
        scrapes
    }

    /// The text of the metrics at an internal address.
    pub async fn scraped(&self, url: &str) -> String {
        let answer = self.http.get(format!("{url}/metrics")).send().await;
        answer.unwrap().text().await.unwrap()
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

fn named<'a>(program: &'a str, usual: &'a str) -> &'a str {
    if program.is_empty() { usual } else { program }
}

/// The usual settings with some of them changed, or more.
fn changed<'a>(
    usual: &[(&'a str, &'a str)],
    changes: &[(&'a str, &'a str)],
) -> Vec<(&'a str, &'a str)> {
    let kept = usual
        .iter()
        .filter(|(name, _)| changes.iter().all(|(changed, _)| changed != name));
    kept.chain(changes).copied().collect()
}

/// Addresses that nothing listens on at the moment, and that nobody is given again soon: they lie
/// below the ports that systems give to connections of their own accord, and each call of this
/// process goes on where the last one was.
pub fn free_addresses<const N: usize>() -> [String; N] {
    const LOWEST: u32 = 10_000;
    const PORTS: u32 = 20_000;
    static NEXT: AtomicU32 = AtomicU32::new(0);
    // Processes that run at once begin apart.
    let begin = std::process::id().wrapping_mul(977);
    std::array::from_fn(|_| {
        let ports = (0..PORTS).map(|_| {
            let step = NEXT.fetch_add(1, Ordering::Relaxed);
            LOWEST + begin.wrapping_add(step) % PORTS
        });
        let mut addresses = ports.map(|port| format!("127.0.0.1:{port}"));
        addresses
            .find(|address| TcpListener::bind(address).is_ok())
            .expect("a free port")
    })
}

/// One connection a request: a test that is refused half-way must not spoil the next.
fn unpooled() -> Client {
    let builder = Client::builder().timeout(DEADLINE);
    builder.pool_max_idle_per_host(0).build().unwrap()
}
