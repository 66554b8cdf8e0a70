//! The environment of one run: the real processes, the proxies between them, and a folder for their
//! store.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use launch::clock::now_ms;
use rustix::process::{Pid, Resource, Rlimit, prlimit};
use serde_json::Value;
use tokio::time::sleep;
use world::{
    LOOK, Plan, Process, Side, Signal, World, built_at, free_addresses, within, within_async,
};

use crate::cable::Cable;
use crate::proxy::Proxy;
use crate::store_files::StoreFiles;

/// Where Debian's package `faketime` puts its library, for the machine at hand.
const FAKETIME: [&str; 2] = [
    "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1",
    "/usr/lib/aarch64-linux-gnu/faketime/libfaketime.so.1",
];
/// How long a gateway session may take to exist.
const SESSION_MAX: Duration = Duration::from_secs(10);
/// Every wait is shorter than in production, so that a run takes seconds.
const WORKER: [(&str, &str); 13] = [
    ("BEAT_MS", "300"),
    ("HUB_TIMEOUT_MS", "1000"),
    ("RETRY_MIN_MS", "20"),
    ("RETRY_MAX_MS", "300"),
    ("IDENTIFY_EVERY_MS", "100"),
    ("IDENTIFY_AGAIN_MS", "100"),
    ("REBUILD_MIN_MS", "100"),
    ("RECONNECT_MAX_MS", "500"),
    ("GATEWAY_STALL_MS", "2000"),
    ("RESUME_ANSWER_MS", "2000"),
    ("QUESTION_EVERY_MS", "20"),
    ("DRAIN_MS", "1000"),
    ("LOG_LEVEL", "info"),
];
const HUB: [(&str, &str); 6] = [
    ("DISCORD_TIMEOUT_MS", "1000"),
    ("DISCORD_SETTLE_MS", "2000"),
    ("RECONNECT_SPREAD_MS", "200"),
    ("WORKER_SILENCE_MAX_MS", "2000"),
    ("DRAIN_TIMEOUT_MS", "1000"),
    ("LOG_LEVEL", "info"),
];
const SIM: [(&str, &str); 5] = [
    ("SIM_HEARTBEAT_MS", "1000"),
    ("SIM_IDENTIFY_EVERY_MS", "20"),
    ("SIM_RECONNECT_GRACE_MS", "500"),
    ("SIM_ROUTE_REQUESTS", "1000"),
    ("SIM_GLOBAL_PER_S", "1000"),
];

/// What a run needs beside the usual.
#[derive(Debug, Clone, Default)]
pub struct Needs {
    /// More settings of the hub: planted faults.
    pub hub: Vec<(String, String)>,
    /// Hub and worker read a clock that can be set.
    pub clock: bool,
    /// The address that Discord names for resuming can die, the main one stays.
    pub resume_address: bool,
}

/// Everything that runs.
pub struct Environment {
    /// The processes.
    pub world: World,
    /// Between the worker and the hub.
    pub proxy: Proxy,
    /// Between the worker and Discord's gateway.
    pub cable: Cable,
    /// The store, and the clock.
    pub folder: PathBuf,
    /// When faults lasted, in Unix milliseconds.
    pub faults: Vec<(u64, u64)>,
    /// When workers were started, in Unix milliseconds.
    pub worker_starts: Vec<u64>,
    /// Promises of a fault's own text that were not kept.
    pub complaints: Vec<String>,
}

/// The library that fakes a process's time, if it is installed.
pub fn faketime() -> Option<&'static str> {
    FAKETIME.into_iter().find(|path| Path::new(path).exists())
}

/// Whether the programs with fail points and planted faults were built, and after the plain ones:
/// older ones are of other code.
pub fn has_fault_programs() -> bool {
    ["hub", "gateway-worker"].into_iter().all(|plain| {
        let with_faults = built_at(&format!("{plain}-with-faults"));
        with_faults.is_some() && with_faults >= built_at(plain)
    })
}

impl Environment {
    /// Starts everything and waits until it is ready. `folder` is made, and not removed.
    pub async fn start(folder: &Path, needs: &Needs, seed: u64) -> Self {
        // An earlier run of the same seed may have left one.
        let _removed = fs::remove_dir_all(folder);
        fs::create_dir_all(folder).unwrap();
        let clocks = [Side::Hub, Side::Worker].map(|side| {
            let clock = clock_of(folder, side);
            fs::write(&clock, "+0").unwrap();
            clock.display().to_string()
        });
        let [internal, sim] = free_addresses();
        let proxy = Proxy::start(&internal, seed).await;
        let cable = Cable::start(&sim).await;
        let store = format!("sqlite://{}", folder.join("hub.db").display());
        let library = faketime().filter(|_| needs.clock);
        let endpoint = format!("http://{}/api/internal/events", proxy.address());
        let gateway = if needs.resume_address {
            format!("ws://{sim}")
        } else {
            format!("ws://{}", cable.address())
        };
        let mut hub = HUB.to_vec();
        hub.push(("STORE_URL", &store));
        hub.extend(needs.hub.iter().map(|(name, value)| (&**name, &**value)));
        hub.extend(faked(library, &clocks[0]));
        let mut worker = WORKER.to_vec();
        worker.push(("HUB_ENDPOINT", &endpoint));
        worker.push(("DISCORD_GATEWAY_URL", &gateway));
        worker.extend(faked(library, &clocks[1]));
        let mut sim_settings = SIM.to_vec();
        sim_settings.push(("SIM_PUBLIC_HOST", cable.address()));
        let programs = if has_fault_programs() {
            ["hub-with-faults", "gateway-worker-with-faults"]
        } else {
            ["", ""]
        };
        let world = World::of(Plan {
            hub: &hub,
            worker: &worker,
            sim: &sim_settings,
            hub_program: programs[0],
            worker_program: programs[1],
            // So that a file that may not grow is an error to a program, not its end.
            prelude: "trap '' XFSZ",
            addresses: Some([&internal, &sim]),
            ..Plan::default()
        })
        .await;
        Self {
            world,
            proxy,
            cable,
            folder: folder.to_owned(),
            faults: Vec::new(),
            worker_starts: Vec::new(),
            complaints: Vec::new(),
        }
    }

    /// A fault lasted from `began_ms` until now.
    pub fn lasted_since(&mut self, began_ms: u64) {
        self.faults.push((began_ms, now_ms()));
    }

    /// Sends a signal to this side, if it runs.
    pub fn signal(&mut self, side: Side, signal: Signal) {
        self.world.process(side).signal(signal);
    }

    /// Ends this side by SIGKILL, if it runs.
    pub async fn kill(&mut self, side: Side) {
        if !self.world.kill(side).await {
            self.complain(format!("{side:?} still runs after SIGKILL"));
        }
    }

    /// Starts this side again, with changed settings.
    pub fn restart(&mut self, side: Side, changes: &[(&str, &str)]) {
        if side == Side::Worker {
            self.worker_starts.push(now_ms());
        }
        self.world.restart(side, changes);
    }

    /// Starts this side again, without a fail point.
    pub fn disarm(&mut self, side: Side) {
        self.restart(side, &[("FAIL_POINT", "")]);
    }

    /// Starts another worker of the same shard at this address.
    pub fn another_worker(&mut self, at: &str) -> Process {
        self.worker_starts.push(now_ms());
        self.world.worker.again_with(&[("WORKER_LISTEN", at)])
    }

    /// Notes a promise that was not kept.
    pub fn complain(&mut self, of: impl Into<String>) {
        self.complaints.push(of.into());
    }

    /// Waits until this side has ended; false if it still runs after `most`.
    pub async fn ended(&mut self, side: Side, most: Duration) -> bool {
        let process = self.world.process(side);
        within(most, || process.running().is_none()).await
    }

    /// Waits until this side has ended by itself with this code, or complains.
    pub async fn ends_with(&mut self, side: Side, code: i32, most: Duration) {
        if !self.ended(side, most).await {
            self.complain(format!(
                "{side:?} still runs after {most:?}, should end with {code}"
            ));
            self.kill(side).await;
            return;
        }
        let status = self.world.process(side).exit().await;
        if status.code() != Some(code) {
            self.complain(format!("{side:?} ended with {status}, not with {code}"));
        }
    }

    /// Bounds the size of the files that the hub writes; none: as before.
    pub fn limit_files(&mut self, bytes: Option<u64>) {
        let pid = self.world.hub.running().map(i32::try_from);
        if let Some(pid) = pid.and_then(Result::ok).and_then(Pid::from_raw) {
            let limit = Rlimit {
                current: bytes,
                maximum: None,
            };
            prlimit(Some(pid), Resource::Fsize, limit).unwrap();
        }
    }

    /// Sets the clock of this side, if it reads one that can be set: a difference such as `+3600`.
    pub fn set_clock(&self, side: Side, difference: &str) {
        fs::write(clock_of(&self.folder, side), difference).unwrap();
    }

    /// The files of the hub's store.
    pub fn store(&self) -> StoreFiles {
        StoreFiles::of(&self.folder)
    }

    /// Asks the simulator's gateway side for something, once a session exists to which it applies.
    pub async fn gateway(&mut self, request: Value) {
        let discord = self.world.discord.clone();
        let has_session =
            || async { discord.control("gateway", request.clone()).await["sessions"] != 0 };
        if !within_async(SESSION_MAX, has_session).await {
            self.complain(format!("no session within {SESSION_MAX:?} for {request}"));
        }
    }

    /// Ends every fault that would not end by itself, and starts what does not run.
    pub async fn heal(&mut self) {
        self.proxy.behave();
        self.cable.mend();
        self.limit_files(None);
        for side in [Side::Hub, Side::Worker] {
            self.set_clock(side, "+0");
            self.signal(side, Signal::CONT);
            if self.world.process(side).running().is_none() {
                self.restart(side, &[]);
            }
        }
        sleep(LOOK).await;
    }
}

fn clock_of(folder: &Path, side: Side) -> PathBuf {
    folder.join(match side {
        Side::Hub => "clock-of-hub",
        Side::Worker => "clock-of-worker",
    })
}

/// The settings with which a process reads this clock.
fn faked<'a>(library: Option<&'a str>, clock: &'a str) -> Vec<(&'a str, &'a str)> {
    library.map_or_else(Vec::new, |library| {
        vec![
            ("LD_PRELOAD", library),
            ("FAKETIME_TIMESTAMP_FILE", clock),
            ("FAKETIME_NO_CACHE", "1"),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
        ]
    })
}
