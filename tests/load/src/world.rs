//! The system under measurement: the real processes, on free loopback ports, with the demo's
//! settings. Only what this program started is ever ended by it.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use anyhow::Context as _;
use reqwest::StatusCode;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep, timeout};

use crate::kernel::Observed;
use crate::script::{Stage, Wish};

/// The simulator's first guild.
const GUILD: &str = "100000000000000001";
const BOT_TOKEN: &str = "sim-token";
/// Signs deliveries between two processes of one measurement; it protects nothing.
const HUB_SECRET: &str = "whsec_bWVhc3VyZWQgb24gdGhlIGxvb3BiYWNrIG9ubHkgISEh";
/// Until every process is ready: identifying takes a second, making keys in a debug build several.
const STARTUP_MAX: Duration = Duration::from_secs(60);
const ASK_AGAIN: Duration = Duration::from_millis(50);
const STOP_MAX: Duration = Duration::from_secs(5);
const REQUEST_MAX: Duration = Duration::from_secs(10);
/// What the simulator's rate limits are raised to: they are Discord's, not ours, to measure.
const UNLIMITED: &str = "1000000";
/// Browsers that share one subject, as tabs and devices do; below the hub's bound of 50.
const BROWSERS_A_SUBJECT: usize = 40;

/// The running system. What is dropped without [`World::stop`] is killed as well.
pub(crate) struct World {
    processes: Vec<Process>,
    hub: String,
    sim: String,
    issuer: String,
    /// Keeps its connections open between requests.
    http: reqwest::Client,
}

struct Process {
    name: &'static str,
    child: Child,
}

impl World {
    /// Starts everything and waits until it is ready.
    ///
    /// # Errors
    /// A program is missing, ended by itself, or is not ready in time.
    pub(crate) async fn start() -> anyhow::Result<Self> {
        let [hub, internal, worker, sim, issuer] = free_addresses().await?;
        let url = |address: &String| format!("http://{address}");
        let http = reqwest::Client::builder()
            .no_proxy()
            .timeout(REQUEST_MAX)
            .build()?;
        let mut world = Self {
            processes: Vec::new(),
            hub: url(&hub),
            sim: url(&sim),
            issuer: url(&issuer),
            http,
        };
        let (sim_url, issuer_url, hub_url) = (url(&sim), url(&issuer), url(&hub));
        world.spawn(
            "discord-sim",
            &[
                ("SIM_LISTEN", &sim),
                ("SIM_QUIET", "1"),
                ("SIM_ROUTE_REQUESTS", UNLIMITED),
                ("SIM_GLOBAL_PER_S", UNLIMITED),
            ],
        )?;
        world.spawn("dev-issuer", &[("ISSUER_LISTEN", &issuer)])?;
        world.ready(&format!("{sim_url}/_sim/state")).await?;
        let keys = format!("{issuer_url}/.well-known/jwks.json");
        world.ready(&keys).await?;
        world.spawn(
            "hub",
            &[
                ("HUB_LISTEN", &hub),
                ("INTERNAL_LISTEN", &internal),
                ("HUB_SECRET", HUB_SECRET),
                ("JWT_ISSUER", &issuer_url),
                ("JWT_AUDIENCE", "roomwire"),
                ("JWT_PUBLIC_JWK_URL", &keys),
                ("WEB_ORIGIN", &hub_url),
                ("PRIMARY_GUILD_ID", GUILD),
                ("DISCORD_BOT_TOKEN", BOT_TOKEN),
                ("DISCORD_API_URL", &sim_url),
                ("CONNECTIONS_MAX", "25000"),
                ("TCP_CONNECTIONS_MAX", "30000"),
            ],
        )?;
        world.ready(&format!("http://{internal}/readyz")).await?;
        world.spawn(
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
        world.ready(&format!("http://{worker}/readyz")).await?;
        Ok(world)
    }

    /// Ends every process and waits for it.
    pub(crate) async fn stop(mut self) {
        // The worker before the simulator, or it would complain.
        for process in self.processes.iter_mut().rev() {
            // One that has ended already needs no end.
            let _ended = process.child.start_kill();
        }
        for process in &mut self.processes {
            let _ended = timeout(STOP_MAX, process.child.wait()).await;
        }
    }

    /// Processor time and memory of a process that was started here.
    ///
    /// # Errors
    /// It has ended.
    pub(crate) fn observe(&self, name: &str) -> anyhow::Result<Observed> {
        self.processes
            .iter()
            .find(|process| process.name == name)
            .and_then(|process| process.child.id())
            .map(Observed::process)
            .with_context(|| format!("{name} has ended"))
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
        let room = async |name: &str| {
            let body = json!({"guildId": GUILD, "name": name});
            let answer: Value = self
                .ask(
                    self.http
                        .post(format!("{}/_sim/channels", self.sim))
                        .json(&body),
                )
                .await?;
            answer["channelId"]
                .as_str()
                .map(str::to_owned)
                .context("the simulator's answer has no channelId")
        };
        Ok(Stage {
            guild: GUILD.to_owned(),
            first_room: room("First room").await?,
            second_room: room("Second room").await?,
        })
    }

    /// The control request that makes a wish come true, to be sent whenever it suits.
    pub(crate) fn voice(&self, wish: &Wish) -> Asked {
        Asked(
            self.http
                .post(format!("{}/_sim/voice", self.sim))
                .json(wish),
        )
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
            self.as_bot(
                self.http
                    .post(format!("{}/api/v10/guilds/{GUILD}/channels", self.sim)),
            )
            .json(&body),
        )
    }

    /// The request to Discord that ending a room leads to.
    pub(crate) fn delete_channel(&self, channel: &str) -> Asked {
        Asked(
            self.as_bot(
                self.http
                    .delete(format!("{}/api/v10/channels/{channel}", self.sim)),
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

    fn spawn(&mut self, name: &'static str, variables: &[(&str, &str)]) -> anyhow::Result<()> {
        let child = Command::new(beside(name)?)
            // Whatever this shell has set is not part of the measurement.
            .env_clear()
            .env("LOG_LEVEL", "warn")
            .envs(variables.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("{name} can not be started"))?;
        self.processes.push(Process { name, child });
        Ok(())
    }

    async fn ready(&mut self, url: &str) -> anyhow::Result<()> {
        let deadline = Instant::now() + STARTUP_MAX;
        loop {
            if let Ok(answer) = self.http.get(url).send().await
                && answer.status() == StatusCode::OK
            {
                return Ok(());
            }
            for process in &mut self.processes {
                if let Some(status) = process.child.try_wait()? {
                    anyhow::bail!("{} ended by itself: {status}", process.name);
                }
            }
            anyhow::ensure!(
                Instant::now() < deadline,
                "{url} is not ready after {} s",
                STARTUP_MAX.as_secs()
            );
            sleep(ASK_AGAIN).await;
        }
    }
}

/// A request that is ready to be sent.
pub(crate) struct Asked(reqwest::RequestBuilder);

impl Asked {
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

fn beside(name: &str) -> anyhow::Result<PathBuf> {
    let path = std::env::current_exe()?.with_file_name(name);
    anyhow::ensure!(
        path.is_file(),
        "{} is missing; `cargo build --release --workspace --bins` makes it",
        path.display()
    );
    Ok(path)
}

/// Addresses that were free a moment ago, all different.
async fn free_addresses() -> anyhow::Result<[String; 5]> {
    let mut held = Vec::new();
    for _ in 0..5 {
        held.push(TcpListener::bind("127.0.0.1:0").await?);
    }
    let mut addresses = [const { String::new() }; 5];
    for (address, listener) in addresses.iter_mut().zip(&held) {
        *address = listener.local_addr()?.to_string();
    }
    Ok(addresses)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_measurement_has_its_own_secret_of_a_length_that_the_hub_takes() {
        assert!(proto::signing::SigningKeys::parse(HUB_SECRET).is_ok());
    }

    #[test]
    fn a_program_that_is_not_there_is_named_with_how_to_make_it() {
        let said = beside("no-such-program").unwrap_err().to_string();
        assert!(
            said.contains("no-such-program") && said.contains("cargo build"),
            "{said}"
        );
    }
}
