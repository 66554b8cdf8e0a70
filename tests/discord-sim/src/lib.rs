//! A simulated Discord: gateway v10, REST v10, pictures, and a control side for tests.
//!
//! It behaves as Discord's documentation says. Independent libraries run against it unchanged; every
//! answer is checked against Discord's OpenAPI, and every dispatch against `discord-api-types`.
//! [`state`] is the simulated state; [`run`] serves it.

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
pub mod state;
mod timestamp;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use serve::run;
pub use settings::Settings;

use gateway::payload::Received;
use gateway::{Asked, Gateway, Visible};
use state::{APPLICATION_ID, DiscordState, Refusal, Transition};

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
    /// Tasks beside the accept loop; the simulator waits for them when it ends.
    tasks: TaskTracker,
    /// State and gateway under one lock: a transition and its dispatches are one step.
    world: Mutex<World>,
    rest: Mutex<rest::RestState>,
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
                rest: Mutex::new(rest::RestState::new(&settings)),
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

    fn rest(&self) -> MutexGuard<'_, rest::RestState> {
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

/// The state, and the gateway that publishes its changes.
struct World {
    state: DiscordState,
    gateway: Gateway,
    visible: Visible,
}

impl World {
    fn new(settings: &Settings, host: String, now_ms: u64) -> Self {
        let bound = |number: u32| usize::try_from(number).unwrap_or(usize::MAX);
        let state = DiscordState::seeded(
            settings.sim_guilds,
            now_ms,
            bound(settings.sim_transitions_max),
            bound(settings.sim_members_max),
        )
        .with_bot_permissions(settings.sim_bot_permissions);
        Self {
            visible: gateway::visible(&state),
            gateway: Gateway::new(settings, host),
            state,
        }
    }

    /// Changes the state, and publishes the transitions, which are returned. "Unchanged" is not a
    /// failure: it makes no transition.
    fn act(
        &mut self,
        change: impl FnOnce(&mut DiscordState) -> Result<Vec<Transition>, Refusal>,
    ) -> Result<Vec<Transition>, Refusal> {
        let made = match change(&mut self.state) {
            Err(Refusal::Unchanged) => Vec::new(),
            other => other?,
        };
        self.gateway.publish(&self.state, &mut self.visible, &made);
        Ok(made)
    }

    /// Takes a payload of a gateway connection.
    fn receive(&mut self, connection: u64, received: &Received, now_ms: u64) {
        if !self.gateway.is_open(connection) {
            return;
        }
        match self
            .gateway
            .receive(&self.state, connection, received, now_ms)
        {
            Asked::Nothing => {}
            Asked::Voice(guild, wish) => {
                let moved = self.act(|state| state.voice(guild, APPLICATION_ID, wish, now_ms));
                if let Err(refusal) = moved {
                    tracing::debug!(%refusal, "the bot's voice state update is ignored");
                }
            }
        }
    }
}
