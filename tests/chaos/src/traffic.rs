//! Things that happen in Discord while programs fail, by a seed.

mod first_guild;
mod guilds;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use reqwest::Method;
use serde_json::Value;
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval};
use world::Simulator;

pub use first_guild::FirstGuild;
pub use guilds::Guilds;

/// A sequence of acts.
pub trait Script: Send + 'static {
    /// The next act.
    fn act(&mut self) -> impl Future<Output = ()> + Send;

    /// Undoes what must not last while the traffic is paused.
    fn settle(&mut self) -> impl Future<Output = ()> + Send {
        async {}
    }
}

/// A running script. Dropping it stops it.
pub struct Traffic {
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

#[derive(Default)]
struct Shared {
    paused: AtomicBool,
    resting: AtomicBool,
    acts: AtomicU64,
}

impl Traffic {
    /// Starts a script with so many acts a second.
    pub fn start(mut script: impl Script, per_s: u32) -> Self {
        let shared = Arc::new(Shared::default());
        let state = Arc::clone(&shared);
        let task = tokio::spawn(async move {
            let mut ticks = interval(Duration::from_secs(1) / per_s.max(1));
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                ticks.tick().await;
                if state.paused.load(Ordering::Acquire) {
                    script.settle().await;
                    state.resting.store(true, Ordering::Release);
                } else {
                    script.act().await;
                    state.acts.fetch_add(1, Ordering::Release);
                }
            }
        });
        Self { shared, task }
    }

    /// Pauses after the present act, or continues.
    pub fn pause(&self, pause: bool) {
        self.shared.resting.store(false, Ordering::Release);
        self.shared.paused.store(pause, Ordering::Release);
    }

    /// Whether it is paused and the last act is done.
    pub fn rests(&self) -> bool {
        self.shared.resting.load(Ordering::Acquire)
    }

    /// The number of acts so far.
    pub fn acts(&self) -> u64 {
        self.shared.acts.load(Ordering::Acquire)
    }
}

impl Drop for Traffic {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Sends a request to the simulator. It refuses what changes nothing, and that is fine.
async fn ask(discord: &Simulator, method: Method, path: &str, body: &Value) -> Value {
    let answer = discord.ask(method, path, body).await;
    answer.map(|(_, body)| body).unwrap_or_default()
}
