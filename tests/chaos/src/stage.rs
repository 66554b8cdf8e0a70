//! The stage of one run: the real processes, what stands between them, and a folder for their store.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use e2e::{Plan, Process, World, built_at, free_addresses};
use launch::clock::now_ms;
use rustix::process::{Pid, Resource, Rlimit, Signal, kill_process, prlimit};
use serde_json::Value;
use tokio::time::{Instant, sleep};

use crate::cable::Cable;
use crate::proxy::Proxy;
use crate::store_files::StoreFiles;

/// Where Debian's package `faketime` puts its library, for the machine at hand.
const FAKETIME: [&str; 2] = [
    "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1",
    "/usr/lib/aarch64-linux-gnu/faketime/libfaketime.so.1",
];
/// How often a process is looked at.
const LOOK: Duration = Duration::from_millis(10);
/// How long a killed process may take to be gone.
const KILLED_WITHIN: Duration = Duration::from_secs(5);
/// How long a session may take to be there.
const SESSION_MAX: Duration = Duration::from_secs(10);
/// Everything that waits, waits shorter than it would in earnest, so that a run takes seconds.
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
const HUB: [(&str, &str); 4] = [
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

/// Which of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The gateway worker.
    Worker,
    /// The hub.
    Hub,
}

/// What a stage needs that is not the usual.
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
pub struct Stage {
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
    /// What was promised by a fault's own text and did not happen.
    pub complaints: Vec<String>,
    /// What processes that are no more printed: the hub's, the worker's.
    past_logs: [String; 2],
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

impl Stage {
    /// Sets the stage and waits until everything is ready. `folder` is made, and not removed.
    pub async fn set(folder: &Path, needs: &Needs, seed: u64) -> Self {
        // What an earlier run of the same seed left behind.
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
        hub.extend(borrowed(&needs.hub));
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
            past_logs: Default::default(),
        }
    }

    /// The process of this side.
    pub fn process(&mut self, side: Side) -> &mut Process {
        match side {
            Side::Worker => &mut self.world.worker,
            Side::Hub => &mut self.world.hub,
        }
    }

    /// A fault lasts from `began_ms` until now.
    pub fn lasted_since(&mut self, began_ms: u64) {
        self.faults.push((began_ms, now_ms()));
    }

    /// Sends a signal to this side, if it runs.
    pub fn signal(&mut self, side: Side, signal: Signal) {
        if let Some(pid) = self.pid(side) {
            // It may end at this very moment.
            let _sent = kill_process(pid, signal);
        }
    }

    fn pid(&mut self, side: Side) -> Option<Pid> {
        let id = self.process(side).running()?;
        Pid::from_raw(i32::try_from(id).ok()?)
    }

    /// Ends this side by SIGKILL, if it runs.
    pub async fn kill(&mut self, side: Side) {
        self.signal(side, Signal::KILL);
        if !self.ended(side, KILLED_WITHIN).await {
            self.complain(format!(
                "{side:?} still runs {KILLED_WITHIN:?} after SIGKILL"
            ));
        }
    }

    /// Starts this side again, with these settings changed.
    pub fn start(&mut self, side: Side, changes: &[(&str, &str)]) {
        if side == Side::Worker {
            self.worker_starts.push(now_ms());
        }
        let next = self.process(side).again_with(changes);
        self.replace(side, next);
    }

    /// Starts this side again, without a fail point.
    pub fn disarm(&mut self, side: Side) {
        self.start(side, &[("FAIL_POINT", "")]);
    }

    /// Starts another worker of the same shard, at this address, beside the one that is there.
    pub fn another_worker(&mut self, at: &str) -> Process {
        self.worker_starts.push(now_ms());
        self.world.worker.again_with(&[("WORKER_LISTEN", at)])
    }

    /// Everything that this side printed in this run.
    pub fn log(&self, side: Side) -> String {
        let process = match side {
            Side::Worker => &self.world.worker,
            Side::Hub => &self.world.hub,
        };
        format!(
            "{}{}",
            self.past_logs[usize::from(side == Side::Worker)],
            process.log()
        )
    }

    /// Notes what is not as promised.
    pub fn complain(&mut self, of: impl Into<String>) {
        self.complaints.push(of.into());
    }

    /// Lets another process stand for this side; the former ends, if it still runs.
    pub fn replace(&mut self, side: Side, next: Process) {
        let former = std::mem::replace(self.process(side), next);
        self.past_logs[usize::from(side == Side::Worker)].push_str(&former.log());
    }

    /// Waits until this side has ended; false if it still runs after `most`.
    pub async fn ended(&mut self, side: Side, most: Duration) -> bool {
        let until = Instant::now() + most;
        while self.process(side).running().is_some() {
            if Instant::now() > until {
                return false;
            }
            sleep(LOOK).await;
        }
        true
    }

    /// Waits until this side has ended by itself with this code, or complains.
    pub async fn ends_with(&mut self, side: Side, code: i32, most: Duration) {
        if !self.ended(side, most).await {
            self.complaints.push(format!(
                "{side:?} still runs after {most:?}, should end with {code}"
            ));
            self.kill(side).await;
            return;
        }
        let status = self.process(side).exit().await;
        if status.code() != Some(code) {
            self.complaints
                .push(format!("{side:?} ended with {status}, not with {code}"));
        }
    }

    /// Bounds the size of the files that the hub writes; none: as before.
    pub fn limit_files(&mut self, bytes: Option<u64>) {
        if let Some(pid) = self.pid(Side::Hub) {
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

    /// Asks the simulator's gateway side for something, once a session is there to suffer it.
    pub async fn gateway(&mut self, wish: Value) {
        let until = Instant::now() + SESSION_MAX;
        loop {
            let answer = self.world.control("gateway", wish.clone()).await;
            if answer["sessions"] != 0 {
                return;
            }
            if Instant::now() > until {
                self.complain(format!("no session within {SESSION_MAX:?} for {wish}"));
                return;
            }
            sleep(LOOK).await;
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
            if self.process(side).running().is_none() {
                self.start(side, &[]);
            }
        }
        sleep(LOOK).await;
    }

    /// Writes the logs of all processes into the folder.
    pub fn keep_logs(&self) {
        for (name, log) in [
            ("hub", self.log(Side::Hub)),
            ("worker", self.log(Side::Worker)),
            ("sim", self.world.sim.log()),
        ] {
            fs::write(self.folder.join(format!("{name}.log")), log).unwrap();
        }
    }
}

fn borrowed(settings: &[(String, String)]) -> impl Iterator<Item = (&str, &str)> {
    settings.iter().map(|(name, value)| (&**name, &**value))
}

fn clock_of(folder: &Path, side: Side) -> PathBuf {
    folder.join(match side {
        Side::Hub => "clock-of-hub",
        Side::Worker => "clock-of-worker",
    })
}

/// What has a process read this clock.
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
