//! A simulated Discord: gateway v10, REST v10, pictures, and a control side that makes things happen.
//!
//! It is made to behave as Discord documents itself, not as one client would like it: independent
//! libraries run against it unchanged, every answer is checked against Discord's OpenAPI and every
//! dispatch against `discord-api-types`. [`truth`] is what is so; [`run`] serves it.

mod avatars;
mod control;
mod gateway;
mod interactions;
mod people;
mod render;
mod rest;
mod serve;
mod settings;
pub mod snowflake;
mod timestamp;
pub mod truth;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use rest::routes as rest_routes;
pub use serve::run;
pub use settings::Settings;

use gateway::payload::Received;
use gateway::{Asked, Gateway, Visible};
use truth::{APPLICATION_ID, Refusal, Transition, Truth};

/// The bot's token.
pub const TOKEN: &str = "sim-token";

/// A handle on the whole simulator; a clone is a reference.
#[derive(Clone)]
struct Sim {
    shared: Arc<Shared>,
}

struct Shared {
    settings: Settings,
    shutdown: CancellationToken,
    /// Whatever runs beside the accept loop; the end waits for it.
    tasks: TaskTracker,
    /// Truth and gateway under one lock: a transition and its dispatches are one step.
    world: Mutex<World>,
    rest: Mutex<rest::Books>,
    interactions: Mutex<interactions::Interactions>,
    outbound: reqwest::Client,
}

impl Sim {
    fn new(
        settings: Settings,
        address: std::net::SocketAddr,
        shutdown: CancellationToken,
    ) -> anyhow::Result<Self> {
        let now_ms = launch::clock::now_ms();
        let host = settings
            .sim_public_host
            .clone()
            .unwrap_or_else(|| address.to_string());
        let outbound = reqwest::Client::builder()
            .timeout(interactions::DELIVERY_TIMEOUT)
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .build()?;
        Ok(Self {
            shared: Arc::new(Shared {
                world: Mutex::new(World::new(&settings, host, now_ms)),
                rest: Mutex::new(rest::Books::new(&settings)),
                interactions: Mutex::new(interactions::Interactions::new(&settings)),
                settings,
                shutdown,
                tasks: TaskTracker::new(),
                outbound,
            }),
        })
    }

    fn settings(&self) -> &Settings {
        &self.shared.settings
    }

    fn shutdown(&self) -> &CancellationToken {
        &self.shared.shutdown
    }

    fn tasks(&self) -> &TaskTracker {
        &self.shared.tasks
    }

    fn now_ms(&self) -> u64 {
        launch::clock::now_ms()
    }

    fn world(&self) -> MutexGuard<'_, World> {
        hold(&self.shared.world)
    }

    fn rest(&self) -> MutexGuard<'_, rest::Books> {
        hold(&self.shared.rest)
    }

    fn interactions(&self) -> MutexGuard<'_, interactions::Interactions> {
        hold(&self.shared.interactions)
    }
}

/// Locks; what a panicking holder left behind is used as it is, since every change is one call.
fn hold<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The truth and those who are told about it.
struct World {
    truth: Truth,
    gateway: Gateway,
    visible: Visible,
}

impl World {
    fn new(settings: &Settings, host: String, now_ms: u64) -> Self {
        let bound = |number: u32| usize::try_from(number).unwrap_or(usize::MAX);
        let truth = Truth::seeded(
            settings.sim_guilds,
            now_ms,
            bound(settings.sim_transitions_max),
            bound(settings.sim_members_max),
        );
        Self {
            visible: gateway::visible(&truth),
            gateway: Gateway::new(settings, host),
            truth,
        }
    }

    /// Changes the truth, and tells whoever is to be told. "Unchanged" is no failure: there is
    /// just nothing to tell. Returns what was made.
    fn act(
        &mut self,
        change: impl FnOnce(&mut Truth) -> Result<Vec<Transition>, Refusal>,
    ) -> Result<Vec<Transition>, Refusal> {
        let made = match change(&mut self.truth) {
            Err(Refusal::Unchanged) => Vec::new(),
            other => other?,
        };
        self.gateway.publish(&self.truth, &mut self.visible, &made);
        Ok(made)
    }

    /// Takes a payload of a gateway connection.
    fn receive(&mut self, connection: u64, received: &Received, now_ms: u64) {
        if !self.gateway.is_open(connection) {
            return;
        }
        match self
            .gateway
            .receive(&self.truth, connection, received, now_ms)
        {
            Asked::Nothing => {}
            Asked::Voice(guild, wish) => {
                let moved = self.act(|truth| truth.voice(guild, APPLICATION_ID, wish, now_ms));
                if let Err(refusal) = moved {
                    tracing::debug!(%refusal, "the bot's wish for voice is ignored");
                }
            }
        }
    }
}
