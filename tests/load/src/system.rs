//! The system under measurement: the real programs of [`world`], with limits that do not bound the
//! measurement.

use std::path::Path;
use std::time::Duration;

use serde_json::json;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep};
use world::{BOT_TOKEN, Folder, GUILD, LOOK, Output, Plan, Process, Side, World};

use crate::kernel::{Observed, descriptor_limit};
use crate::request::Request;
use crate::script::{TwoRooms, VoiceChange};

/// The simulator's rate limits. Discord's limits are not part of the measurement.
const UNLIMITED: &str = "1000000";
/// Browsers with the same subject, as tabs and devices have; below the hub's bound of 50.
const BROWSERS_A_SUBJECT: usize = 40;
/// How long a bare process may take to listen.
const LISTEN_MAX: Duration = Duration::from_secs(60);

/// The running system.
pub(crate) struct System {
    world: World,
    simulator: Simulator,
    /// Keeps its connections open between requests.
    http: reqwest::Client,
    /// Outlives the hub that writes into it.
    _store: Folder,
}

/// The hub's settings whose usual values would bound a measurement.
pub(crate) fn hub_limits() -> [(&'static str, String); 2] {
    const FILES: u64 = 200;
    const MOST: u64 = 30_000;
    // The hub may open as many descriptors as this process.
    let limit = descriptor_limit().soft;
    let connections = limit.saturating_sub(FILES).clamp(FILES, MOST);
    [
        ("CONNECTIONS_MAX", "25000".to_owned()),
        ("TCP_CONNECTIONS_MAX", connections.to_string()),
    ]
}

/// Waits until this process listens at this address.
///
/// # Errors
/// It does not in time.
pub(crate) async fn listening(process: &mut Process, address: &str) -> anyhow::Result<TcpStream> {
    let deadline = Instant::now() + LISTEN_MAX;
    loop {
        if let Ok(stream) = TcpStream::connect(address).await {
            return Ok(stream);
        }
        process.assert_running();
        anyhow::ensure!(Instant::now() < deadline, "nothing listens at {address}");
        sleep(LOOK).await;
    }
}

impl System {
    /// Starts everything, with a store in this folder, and waits until it is ready. Log lines of at
    /// least this level stand beside the table.
    pub(crate) async fn start(stores: &Path, log_level: &'static str) -> Self {
        let (store, http) = (Folder::below(stores), world::pooled());
        let store_url = store.store_url();
        let limits = hub_limits();
        let mut hub = world::borrowed(&limits);
        hub.extend([("STORE_URL", &*store_url), ("LOG_LEVEL", log_level)]);
        let world = World::of(Plan {
            hub: &hub,
            worker: &[("LOG_LEVEL", log_level)],
            sim: &[
                ("SIM_ROUTE_REQUESTS", UNLIMITED),
                ("SIM_GLOBAL_PER_S", UNLIMITED),
                ("LOG_LEVEL", log_level),
            ],
            output: Output::Inherited,
            ..Plan::default()
        })
        .await;
        Self {
            simulator: Simulator {
                http: http.clone(),
                url: world.discord.url.clone(),
            },
            world,
            http,
            _store: store,
        }
    }

    /// Ends every program and waits for its end.
    pub(crate) async fn stop(self) {
        self.world.stop().await;
    }

    /// Panics if a program has ended.
    pub(crate) fn assert_running(&mut self) {
        self.world.assert_running();
    }

    /// Kills the hub as `kill -9` does.
    pub(crate) async fn kill_hub(&mut self) {
        self.world.assert_running();
        self.world.kill(Side::Hub).await;
    }

    /// Starts the hub again on the same store, and waits until it is ready.
    pub(crate) async fn restart_hub(&mut self) {
        self.world.restart(Side::Hub, &[]);
        self.world.hub_ready().await;
    }

    /// Processor time and memory of the hub, the worker and the simulator.
    pub(crate) fn observed(&self) -> [(&'static str, Observed); 3] {
        let World {
            hub, worker, sim, ..
        } = &self.world;
        let of = |name, process: &Process| (name, Observed::process(process.id()));
        [
            of("hub", hub),
            of("gateway-worker", worker),
            of("discord-sim", sim),
        ]
    }

    /// The simulator's control side.
    pub(crate) fn simulator(&self) -> &Simulator {
        &self.simulator
    }

    /// The hub's public URL.
    pub(crate) fn hub_url(&self) -> &str {
        &self.world.hub_url
    }

    /// A bearer token for this subject.
    pub(crate) async fn token(&self, subject: &str) -> String {
        let claims = json!({"sub": subject, "alg": "ES256"});
        self.world.token(claims).await
    }

    /// Tokens for this many browsers, several to a subject.
    pub(crate) async fn browser_tokens(&self, browsers: usize) -> Vec<String> {
        let mut tokens = Vec::with_capacity(browsers);
        while tokens.len() < browsers {
            let subject = format!("viewer-{}", tokens.len() / BROWSERS_A_SUBJECT);
            let token = self.token(&subject).await;
            let share = BROWSERS_A_SUBJECT.min(browsers - tokens.len());
            tokens.extend(std::iter::repeat_n(token, share));
        }
        tokens
    }

    /// Creates two rooms in Discord for the measurement.
    pub(crate) async fn two_rooms(&self) -> TwoRooms {
        TwoRooms {
            guild: GUILD.to_owned(),
            first_room: self.create_discord_room("First room").await,
            second_room: self.create_discord_room("Second room").await,
        }
    }

    /// Creates a room in Discord, and returns its id.
    pub(crate) async fn create_discord_room(&self, name: &str) -> String {
        let body = json!({"guildId": GUILD, "name": name});
        self.world.discord.create_channel(body).await
    }

    /// `POST /api/create-room` at the hub.
    pub(crate) fn create_room(&self, token: &str, body: &proto::rest::CreateRoom) -> Request {
        let url = format!("{}/api/create-room", self.hub_url());
        Request(self.http.post(url).bearer_auth(token).json(body))
    }

    /// `DELETE /api/end-room/{channel}` at the hub.
    pub(crate) fn end_room(&self, token: &str, channel: &str) -> Request {
        let url = format!("{}/api/end-room/{channel}", self.hub_url());
        Request(self.http.delete(url).bearer_auth(token))
    }

    /// The request to Discord that creating a room leads to.
    pub(crate) fn create_channel(&self, name: &str) -> Request {
        let body = json!({"name": name, "type": 2, "user_limit": 4});
        let url = format!("{}/api/v10/guilds/{GUILD}/channels", self.simulator.url);
        Request(as_bot(self.http.post(url)).json(&body))
    }

    /// The request to Discord that ending a room leads to.
    pub(crate) fn delete_channel(&self, channel: &str) -> Request {
        let url = format!("{}/api/v10/channels/{channel}", self.simulator.url);
        Request(as_bot(self.http.delete(url)))
    }
}

fn as_bot(request: reqwest::RequestBuilder) -> reqwest::RequestBuilder {
    request.header("authorization", format!("Bot {BOT_TOKEN}"))
}

/// The simulator's control side, over connections that stay open. A clone is a reference.
#[derive(Debug, Clone)]
pub(crate) struct Simulator {
    http: reqwest::Client,
    url: String,
}

impl Simulator {
    /// The control request for a change, to be sent at any time.
    pub(crate) fn voice(&self, change: &VoiceChange) -> Request {
        let url = format!("{}/_sim/voice", self.url);
        Request(self.http.post(url).json(change))
    }
}
