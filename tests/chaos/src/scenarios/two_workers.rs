//! Two workers of one shard, each under a supervisor that starts it again at once; one of them is
//! stopped and continued.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use launch::clock::now_ms;
use rand::RngExt as _;
use rustix::process::{Pid, kill_process};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};
use world::{Process, Side, Signal, free_addresses};

use super::Size;
use super::fixture::Fixture;
use super::running::Running;

/// The code of a worker that was replaced by a newer one.
const FENCED: i32 = 75;
/// How often a process is checked.
const LOOK: Duration = Duration::from_millis(10);
/// The time within which everything must be right after the last stop.
const RIGHT_WITHIN: Duration = Duration::from_secs(15);
/// Fencings within a minute at most: the hub's own bound (`FENCINGS_PER_MINUTE_MAX`) and one more, by
/// which it shows; and as many again at the change from one minute to the next.
const CHANGES_PER_MINUTE_MAX: usize = 8;

pub(super) async fn run(size: Size, seed: u64) -> Running {
    let mut running = Running::begin(&Fixture::default(), 3, seed).await;
    let [first, second] = free_addresses();
    let worker = |at: &str| {
        let of = &running.world.worker;
        of.again_with(&[("WORKER_LISTEN", at)])
    };
    let supervisors = [
        Supervisor::start(worker(&first)),
        Supervisor::start(worker(&second)),
    ];
    running.world.kill(Side::Worker).await;
    let lasts = match size {
        Size::Short => Duration::from_secs(10),
        Size::Full { minutes } => Duration::from_secs(60 * minutes),
    };
    let began = Instant::now();
    let mut stops = 0;
    while began.elapsed() < lasts {
        running.go_on_for(size.of(500..1_500, 1_000..8_000)).await;
        let which = running.rng.random_range(0..2);
        let pid = supervisors[which].pid.load(Ordering::Acquire);
        let stopped_ms = now_ms();
        signal(pid, Signal::STOP);
        running.go_on_for(size.of(500..2_500, 500..8_000)).await;
        signal(pid, Signal::CONT);
        running.lasted_since(stopped_ms);
        stops += 1;
    }
    let continued = Instant::now();
    let took = running.right_again(continued).await;
    let acts = running.acts();
    let (_, _, longest_ms) = running.end(RIGHT_WITHIN).await.convergence_ms();
    if Duration::from_millis(longest_ms) >= RIGHT_WITHIN {
        let line = format!("right only {longest_ms} ms after somebody was continued");
        running.report.wrong(line);
    }

    let mut codes: BTreeMap<Option<i32>, usize> = BTreeMap::new();
    let mut times = Vec::new();
    for (at, code) in supervisors.iter().flat_map(Supervisor::ends) {
        *codes.entry(code).or_default() += 1;
        times.push(at);
    }
    times.sort_unstable();
    let within = |at: &Instant| {
        let in_time = times
            .iter()
            .filter(|other| *at <= **other && **other - *at < Duration::from_secs(60));
        in_time.count()
    };
    let most = times.iter().map(within).max().unwrap_or(0);
    let ends = times.len();
    running.report.say(format!(
        "two workers for {lasts:?}, {stops} times one was stopped, {acts} acts; ends by code {codes:?}, at most {most} within a minute; right again {took:.2?} after the last stop"
    ));
    if codes.keys().any(|code| *code != Some(FENCED)) {
        running.report.wrong(format!(
            "a worker ended with another code than {FENCED}: {codes:?}"
        ));
    }
    if ends == 0 {
        running.report.wrong("no worker gave way");
    }
    if most > CHANGES_PER_MINUTE_MAX {
        running
            .report
            .wrong(format!("ping-pong: {most} ends within a minute"));
    }
    running.judge_time(took, RIGHT_WITHIN);
    running.judge_identifies(0);
    running.judge_snapshots(0, 0);
    let logs = supervisors.iter().map(Supervisor::log);
    running.more_logs = logs.collect();
    running
}

/// Starts a process again as soon as it has ended. Dropping the supervisor ends the process.
struct Supervisor {
    pid: Arc<AtomicU32>,
    book: Arc<Mutex<Book>>,
    task: JoinHandle<()>,
}

#[derive(Default)]
struct Book {
    ends: Vec<(Instant, Option<i32>)>,
    log: String,
}

impl Supervisor {
    fn start(mut process: Process) -> Self {
        let pid = Arc::new(AtomicU32::new(process.running().unwrap_or(0)));
        let book: Arc<Mutex<Book>> = Arc::default();
        let (running, written) = (Arc::clone(&pid), Arc::clone(&book));
        let task = tokio::spawn(async move {
            loop {
                sleep(LOOK).await;
                if process.running().is_some() {
                    continue;
                }
                let code = process.exit().await.code();
                let log = process.log();
                process = process.again();
                keep(&written).log.push_str(&log);
                running.store(process.running().unwrap_or(0), Ordering::Release);
                keep(&written).ends.push((Instant::now(), code));
            }
        });
        Self { pid, book, task }
    }

    fn ends(&self) -> Vec<(Instant, Option<i32>)> {
        keep(&self.book).ends.clone()
    }

    fn log(&self) -> String {
        keep(&self.book).log.clone()
    }
}

fn keep(book: &Mutex<Book>) -> std::sync::MutexGuard<'_, Book> {
    book.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Drop for Supervisor {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Sends a signal to a process, which may have ended.
fn signal(pid: u32, signal: Signal) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        let _sent = kill_process(pid, signal);
    }
}
