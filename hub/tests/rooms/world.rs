//! The world of these tests: a simulated Discord, an issuer, and the hub's two doors to rooms. The
//! tests take the worker's part and deliver the guild's events to the log.

use std::time::Duration;

use ::world::{Issuer, Simulator, pooled, within_async};
use axum::Router;
use axum::middleware::from_fn_with_state;
use hub::access::Access;
use hub::auth::{AuthSettings, Verifier};
use hub::discord::{Discord, DiscordSettings};
use hub::discord_http::{InteractionSettings, Interactions, PublicKey};
use hub::error::ErrorLog;
use hub::freshness::Freshness;
use hub::http::write_problems;
use hub::positions::Positions;
use hub::rooms::Rooms;
use hub::rooms::api::RoomsApi;
use hub::view::RoomsShown;
use launch::Secret;
use launch::clock::Monotonic;
use proto::GuildId;
use proto::position::PositionKey;
use reqwest::{Client, Method, RequestBuilder};
use roomlog::rooms::LedgerBounds;
use roomlog::{Log, LogSettings};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::worker::Worker;

pub(crate) use ::world::{ADA, CATEGORY, GUILD, LOUNGE, STAFF, STUDY};

/// A category that the test adds, which @everyone may not view.
pub(crate) const HIDDEN_CATEGORY: &str = "100000000000000090";

/// How long a fact may take to come true.
const PATIENCE: Duration = Duration::from_secs(10);

/// What a test changes before the world begins.
pub(crate) struct Plan {
    pub(crate) shown: RoomsShown,
    pub(crate) discord: fn(&mut DiscordSettings),
    pub(crate) ledger: LedgerBounds,
    pub(crate) interactions: InteractionSettings,
    pub(crate) with_key: bool,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            shown: RoomsShown::Everyone,
            discord: |_| {},
            ledger: LedgerBounds {
                creates_per_minute: 1_000,
                ..LedgerBounds::default()
            },
            interactions: InteractionSettings::default(),
            with_key: true,
        }
    }
}

pub(crate) struct World {
    pub(crate) client: Client,
    pub(crate) hub: String,
    pub(crate) simulator: Simulator,
    pub(crate) log: Log,
    worker: Worker,
    pub(crate) rooms: Rooms,
    pub(crate) discord: Discord,
    issuer: Issuer,
    _stop: DropGuard,
}

/// An answer, as far as tests look at it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) retry_after: Option<String>,
    pub(crate) body: Value,
}

impl Answer {
    pub(crate) fn code(&self) -> (u16, &str) {
        (self.status, self.body["code"].as_str().unwrap_or_default())
    }

    /// The names of the wrong fields, in order.
    pub(crate) fn fields(&self) -> Vec<&str> {
        self.body["errors"]
            .as_array()
            .map(|errors| {
                errors
                    .iter()
                    .map(|error| error["field"].as_str().unwrap())
                    .collect()
            })
            .unwrap_or_default()
    }

    /// Everything of it that may not differ between what is hidden and what is absent.
    pub(crate) fn without_request_id(mut self) -> Self {
        assert!(self.body["requestId"].take().is_string());
        self
    }
}

impl World {
    pub(crate) async fn new() -> Self {
        Self::with(Plan::default()).await
    }

    pub(crate) async fn with(plan: Plan) -> Self {
        let shutdown = CancellationToken::new();
        let hub_listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let sim_listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let issuer_listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = |listener: &TcpListener| format!("http://{}", listener.local_addr().unwrap());
        let (hub, sim, issuer) = (
            address(&hub_listener),
            address(&sim_listener),
            address(&issuer_listener),
        );

        let mut sim_settings = discord_sim::Settings::quiet();
        sim_settings.sim_interactions_url = Some(format!("{hub}/interactions"));
        // These tests are about our own limits and about scripted ones.
        sim_settings.sim_route_requests = 1_000;
        sim_settings.sim_global_per_s = 1_000;
        tokio::spawn(discord_sim::run(
            sim_listener,
            sim_settings,
            shutdown.clone(),
        ));
        tokio::spawn(dev_issuer::run(
            issuer_listener,
            dev_issuer::Settings::default(),
            shutdown.clone(),
        ));

        let client = pooled();
        let guild: GuildId = GUILD.parse().unwrap();
        let access = Access::new(guild, &[], plan.shown);
        let settings = LogSettings {
            ledger: plan.ledger,
            ..LogSettings::default()
        };
        let log = Log::in_memory(access.guilds(), &settings).unwrap();
        let worker = Worker::claim(&log, access.guilds()).await;
        let freshness = Freshness::new(access.guilds(), 6_000, Monotonic::start());
        let mut settings =
            DiscordSettings::new(sim.parse().unwrap(), Secret::new(discord_sim::TOKEN));
        settings.per_second_max = 1_000;
        (plan.discord)(&mut settings);
        let discord = Discord::new(settings).unwrap();
        let rooms = Rooms::new(log.clone(), access.clone(), discord.clone());
        let jwks_url = format!("{issuer}/.well-known/jwks.json").parse().unwrap();
        let api = RoomsApi {
            verifier: Verifier::new(AuthSettings::new(issuer.clone(), "roomwire", jwks_url)),
            access,
            rooms: rooms.clone(),
            positions: Positions::new(PositionKey::derive(b"test")),
            freshness,
            body_bytes_max: RoomsApi::BODY_BYTES_MAX,
        };
        let world = Self {
            hub,
            simulator: Simulator::new(client.clone(), sim),
            issuer: Issuer::new(client.clone(), issuer),
            client,
            log,
            worker,
            rooms: rooms.clone(),
            discord: discord.clone(),
            _stop: shutdown.clone().drop_guard(),
        };
        let key = world.state().await["publicKey"].take();
        let key: PublicKey = key.as_str().unwrap().parse().unwrap();
        let door = Interactions::new(
            plan.with_key.then_some(key),
            rooms,
            discord,
            plan.interactions,
        );
        let router = Router::new()
            .merge(api.router())
            .merge(door.router())
            .layer(from_fn_with_state(ErrorLog::new(0), write_problems));
        tokio::spawn(async move { axum::serve(hub_listener, router).await });
        world
    }

    /// A token of the issuer; `claims` may hold `guilds` and `scope`.
    pub(crate) async fn token(&self, sub: &str, claims: Value) -> String {
        let mut all = json!({"sub": sub, "alg": "ES256"});
        let claims = claims.as_object().cloned().unwrap();
        all.as_object_mut().unwrap().extend(claims);
        self.issuer.token(all).await
    }

    /// A token of a member, as most are.
    pub(crate) async fn member(&self, sub: &str) -> String {
        self.token(sub, json!({})).await
    }

    pub(crate) fn request(&self, method: Method, path: &str, token: &str) -> RequestBuilder {
        self.client
            .request(method, format!("{}{path}", self.hub))
            .bearer_auth(token)
    }

    pub(crate) async fn create(&self, token: &str, request: Value) -> Answer {
        answer(
            self.request(Method::POST, "/api/create-room", token)
                .json(&request),
        )
        .await
    }

    /// Creates a room that must be created, and gives its channel.
    pub(crate) async fn room(&self, token: &str, request: Value) -> String {
        let created = self.create(token, request).await;
        assert_eq!(created.status, 201, "{created:?}");
        created.body["channelId"].as_str().unwrap().to_owned()
    }

    pub(crate) async fn end(&self, token: &str, channel: &str) -> Answer {
        answer(self.request(Method::DELETE, &format!("/api/end-room/{channel}"), token)).await
    }

    pub(crate) async fn get(&self, token: &str, path: &str) -> Answer {
        answer(self.request(Method::GET, path, token)).await
    }

    /// The channels of a list, and which of them are opening.
    pub(crate) async fn listed(&self, token: &str) -> Vec<(String, bool)> {
        let list = self.get(token, "/api/rooms").await;
        assert_eq!(list.status, 200, "{list:?}");
        let rooms = list.body["rooms"].as_array().unwrap().iter();
        rooms
            .map(|room| {
                (
                    room["channelId"].as_str().unwrap().to_owned(),
                    room["opening"] == true,
                )
            })
            .collect()
    }

    pub(crate) async fn state(&self) -> Value {
        self.simulator.state().await
    }

    /// A channel of the guild as it is in Discord; null if it is not.
    pub(crate) async fn channel(&self, channel: &str) -> Value {
        self.state().await["guilds"][GUILD]["channels"][channel].take()
    }

    /// How often Discord was asked for a route.
    pub(crate) async fn asked(&self, route: &str) -> u64 {
        self.state().await["counters"]["rest"][route]
            .as_u64()
            .unwrap_or(0)
    }

    /// As [`Simulator::control`].
    pub(crate) async fn control(&self, path: &str, body: Value) -> Value {
        self.simulator.control(path, body).await
    }

    /// What Discord's REST does to the next request of a route.
    pub(crate) async fn script(&self, route: &str, fault: Value) {
        let mut request = json!({"match": route});
        for (name, value) in fault.as_object().unwrap() {
            request[name] = value.clone();
        }
        self.control("rest", request).await;
    }

    /// Delivers an interaction as Discord would, signed.
    pub(crate) async fn interact(&self, interaction: Value) -> Value {
        self.control("interactions", json!({"interaction": interaction}))
            .await
    }

    /// Delivers an event to the log, as the worker does.
    pub(crate) async fn deliver(&self, event: &str, payload: Value) {
        let appended = self.worker.deliver(event, payload).await.unwrap();
        assert_eq!(appended.accepted, 1);
    }

    /// Delivers a snapshot of the guild with these rooms beside the initial ones.
    pub(crate) async fn deliver_snapshot(&self, rooms: &[Value]) {
        let room = |channel: &str, kind: &str, audience: &str| json!({"guildId": GUILD, "channelId": channel, "name": "x", "kind": kind, "audience": audience});
        let mut all = vec![
            room(CATEGORY, "category", "everyone"),
            room(HIDDEN_CATEGORY, "category", "restricted"),
            room(LOUNGE, "voice", "everyone"),
            room(STUDY, "voice", "everyone"),
            room(STAFF, "voice", "restricted"),
        ];
        all.extend_from_slice(rooms);
        self.deliver(
            "guild.snapshot",
            json!({"guildId": GUILD, "rooms": all, "voices": [], "reason": "worker_started"}),
        )
        .await;
    }

    /// Delivers the event that the worker sends after Discord's CHANNEL_CREATE.
    pub(crate) async fn deliver_created(&self, channel: &str) {
        self.deliver(
            "room.created",
            json!({"guildId": GUILD, "channelId": channel, "name": "x", "userLimit": 4}),
        )
        .await;
    }

    /// Waits until something is so.
    pub(crate) async fn until<F: Future<Output = bool>>(&self, what: &str, so: impl Fn() -> F) {
        assert!(within_async(PATIENCE, so).await, "not in time: {what}");
    }
}

pub(crate) async fn answer(request: RequestBuilder) -> Answer {
    let answer = request.send().await.unwrap();
    let retry_after = answer
        .headers()
        .get("retry-after")
        .map(|value| value.to_str().unwrap().to_owned());
    let status = answer.status().as_u16();
    if status >= 400 {
        assert_eq!(answer.headers()["content-type"], "application/problem+json");
    }
    Answer {
        status,
        retry_after,
        body: answer.json().await.unwrap(),
    }
}
