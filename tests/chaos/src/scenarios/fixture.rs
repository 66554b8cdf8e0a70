//! The fixture of a scenario: the real programs with their own defaults where the scenario does not
//! say otherwise.

use std::fs;

use world::{Plan, Side, Signal, World, borrowed, within};

use crate::checker::Id;
use crate::store_files::StoreFiles;

/// How long a process may take to stand still once it is stopped.
const STOP_MAX: std::time::Duration = std::time::Duration::from_secs(5);

/// What a scenario needs beside the usual: settings, by program.
#[derive(Debug, Clone, Default)]
pub(super) struct Fixture {
    /// The number of guilds.
    pub(super) guilds: u32,
    /// The hub's settings.
    pub(super) hub: Vec<(&'static str, String)>,
    /// The worker's.
    pub(super) worker: Vec<(&'static str, String)>,
    /// The simulator's.
    pub(super) sim: Vec<(&'static str, String)>,
}

/// The id of one of the simulator's guilds: they are 2^22 apart.
fn guild(index: u32) -> Id {
    (100_000_000_000_000_001 + (u64::from(index) << 22)).to_string()
}

impl Fixture {
    /// Starts everything and waits until it is ready; all guilds, the primary one first.
    pub(super) async fn start(&self) -> (World, Vec<Id>) {
        let guilds: Vec<Id> = (0..self.guilds.max(1)).map(guild).collect();
        let count = guilds.len().to_string();
        // Empty for one guild: then it is not set.
        let more = guilds[1..].join(",");
        let mut sim = vec![("SIM_GUILDS", count.as_str())];
        let mut hub = vec![("LOG_LEVEL", "info"), ("GUILD_IDS", more.as_str())];
        let mut worker = hub.clone();
        sim.extend(borrowed(&self.sim));
        hub.extend(borrowed(&self.hub));
        worker.extend(borrowed(&self.worker));
        let world = World::of(Plan {
            hub: &hub,
            worker: &worker,
            sim: &sim,
            ..Plan::default()
        })
        .await;
        (world, guilds)
    }
}

/// Ends the simulator and starts another one with changed settings. It knows neither the sessions
/// nor the people of the former one.
pub(super) async fn another_discord(world: &mut World, changes: &[(&str, &str)]) {
    world.sim.kill().await;
    world.sim = world.sim.again_with(changes);
    let url = format!("{}/_sim/state", world.discord.url);
    world.sim.ready(&world.http, &url).await;
}

/// The resident memory of this side, in KiB; 0 if it does not run.
pub(super) fn resident_kib(world: &mut World, side: Side) -> u64 {
    status_kib(world, side, "VmRSS:")
}

/// The most resident memory of this side since its start, in KiB.
pub(super) fn peak_kib(world: &mut World, side: Side) -> u64 {
    status_kib(world, side, "VmHWM:")
}

fn status_kib(world: &mut World, side: Side, of: &str) -> u64 {
    let Some(pid) = world.process(side).running() else {
        return 0;
    };
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(of));
    let number = line.and_then(|line| line.split_whitespace().next());
    number.and_then(|kib| kib.parse().ok()).unwrap_or(0)
}

/// The files of the hub's store.
pub(super) fn store(world: &World) -> StoreFiles {
    StoreFiles::of(world.folder.path())
}

/// Copies the store aside while the hub is stopped, so that the file and its journal fit each other.
pub(super) async fn keep_store(world: &World) {
    world.hub.signal(Signal::STOP);
    // A signal takes effect a moment after it was sent.
    let status = format!("/proc/{}/status", world.hub.id());
    let is_stopped = || fs::read_to_string(&status).unwrap().contains("State:\tT");
    assert!(within(STOP_MAX, is_stopped).await, "the hub does not stop");
    store(world).keep();
    world.hub.signal(Signal::CONT);
}
