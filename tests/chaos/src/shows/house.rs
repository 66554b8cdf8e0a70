//! The house of a show: the real processes as they are delivered, with their own defaults where a
//! show does not say otherwise.

use std::fs;
use std::path::Path;
use std::time::Duration;

use e2e::{Plan, Process, World};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tokio::time::{Instant, sleep};

use crate::checker::Id;
use crate::stage::Side;
use crate::store_files::StoreFiles;

/// How often a process is looked at.
const LOOK: Duration = Duration::from_millis(5);
/// How long a killed process may take to be gone, and a stopped one to stand still.
const END_MAX: Duration = Duration::from_secs(5);

/// What a show needs that is not the usual: settings, by process.
#[derive(Debug, Clone, Default)]
pub(super) struct House {
    /// Guilds.
    pub(super) guilds: u32,
    /// The hub's settings.
    pub(super) hub: Vec<(&'static str, String)>,
    /// The worker's.
    pub(super) worker: Vec<(&'static str, String)>,
    /// The simulator's.
    pub(super) sim: Vec<(&'static str, String)>,
}

/// Everything that runs.
pub(super) struct Open {
    /// The processes.
    pub(super) world: World,
    /// All guilds, the primary one first.
    pub(super) guilds: Vec<Id>,
    /// What processes that are no more printed: the hub's, the worker's.
    past_logs: [String; 2],
}

/// The id of one of the simulator's guilds: they are 2^22 apart.
pub(super) fn guild(index: u32) -> Id {
    (100_000_000_000_000_001 + (u64::from(index) << 22)).to_string()
}

impl House {
    /// Starts everything and waits until it is ready.
    pub(super) async fn open(&self) -> Open {
        let guilds: Vec<Id> = (0..self.guilds.max(1)).map(guild).collect();
        let count = guilds.len().to_string();
        let more = guilds[1..].join(",");
        let mut sim = vec![("SIM_GUILDS", count.as_str())];
        let mut hub = vec![("LOG_LEVEL", "info")];
        let mut worker = vec![("LOG_LEVEL", "info")];
        if !more.is_empty() {
            hub.push(("GUILD_IDS", &more));
            worker.push(("GUILD_IDS", &more));
        }
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
        Open {
            world,
            guilds,
            past_logs: Default::default(),
        }
    }
}

fn borrowed<'a>(
    settings: &'a [(&'static str, String)],
) -> impl Iterator<Item = (&'a str, &'a str)> {
    settings.iter().map(|(name, value)| (*name, &**value))
}

impl Open {
    /// The process of this side.
    pub(super) fn process(&mut self, side: Side) -> &mut Process {
        match side {
            Side::Worker => &mut self.world.worker,
            Side::Hub => &mut self.world.hub,
        }
    }

    /// Ends this side by SIGKILL.
    pub(super) async fn kill(&mut self, side: Side) {
        if let Some(pid) = self.process(side).running() {
            signal(pid, Signal::KILL);
        }
        let until = Instant::now() + END_MAX;
        while self.process(side).running().is_some() {
            assert!(Instant::now() < until, "{side:?} does not end");
            sleep(LOOK).await;
        }
    }

    /// Starts this side again.
    pub(super) fn start(&mut self, side: Side) {
        let next = self.process(side).again();
        let former = std::mem::replace(self.process(side), next);
        self.past_logs[usize::from(side == Side::Worker)].push_str(&former.log());
    }

    /// Ends the simulator, and starts another with these settings changed: it knows nothing of what
    /// was, neither sessions nor who sat where.
    pub(super) async fn another_discord(&mut self, changes: &[(&str, &str)]) {
        self.world.sim.kill().await;
        self.world.sim = self.world.sim.again_with(changes);
        let url = format!("{}/_sim/state", self.world.sim_url);
        let until = Instant::now() + END_MAX;
        while self.world.http.get(&url).send().await.is_err() {
            assert!(Instant::now() < until, "the simulator does not start");
            sleep(LOOK).await;
        }
    }

    /// How much memory this side has resident, in KiB; 0 if it does not run.
    pub(super) fn resident_kib(&mut self, side: Side) -> u64 {
        self.status_kib(side, "VmRSS:")
    }

    /// How much memory this side had resident at most since its start, in KiB.
    pub(super) fn peak_kib(&mut self, side: Side) -> u64 {
        self.status_kib(side, "VmHWM:")
    }

    fn status_kib(&mut self, side: Side, of: &str) -> u64 {
        let Some(pid) = self.process(side).running() else {
            return 0;
        };
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix(of));
        let number = line.and_then(|line| line.split_whitespace().next());
        number.and_then(|kib| kib.parse().ok()).unwrap_or(0)
    }

    /// The simulator's state.
    pub(super) async fn truth(&self) -> Value {
        self.world.truth().await
    }

    /// The files of the hub's store.
    pub(super) fn store(&self) -> StoreFiles {
        StoreFiles::of(self.world.folder.path())
    }

    /// Copies the store aside while the hub is stopped for that moment, so that file and log of the
    /// store fit each other.
    pub(super) fn keep_store(&mut self) {
        let pid = self.world.hub.id();
        signal(pid, Signal::STOP);
        // A signal takes effect a moment after it was sent.
        let stat = format!("/proc/{pid}/status");
        let until = Instant::now() + END_MAX;
        while !fs::read_to_string(&stat).unwrap().contains("State:\tT") {
            assert!(Instant::now() < until, "the hub does not stop");
            std::thread::yield_now();
        }
        self.store().keep();
        signal(pid, Signal::CONT);
    }

    /// Writes the logs of all processes into a folder.
    pub(super) fn keep_logs(&self, folder: &Path) {
        let [hub, worker] = &self.past_logs;
        for (name, past, process) in [
            ("hub", hub.as_str(), &self.world.hub),
            ("worker", worker, &self.world.worker),
            ("sim", "", &self.world.sim),
        ] {
            let text = format!("{past}{}", process.log());
            fs::write(folder.join(format!("{name}.log")), text).unwrap();
        }
    }
}

/// Sends a signal; that it is gone already is fine.
pub(super) fn signal(pid: u32, signal: Signal) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        let _sent = kill_process(pid, signal);
    }
}
