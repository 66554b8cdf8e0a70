//! Recovery: a crowd of browsers loses its hub to `kill -9` while events go on, and comes back to
//! the hub that is started again on the same store. Every browser must have every event of its room
//! exactly once.
//!
//! The floor is the same crowd with a bare accept loop in the place of hub, worker and simulator,
//! which is killed in the same way and stays away for as long.

pub(crate) mod bare_crowd;
mod crowd;
mod jitter;
mod script;
mod tally;

use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use proto::ChannelId;
use serde::de::IgnoredAny;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::runtime::Handle;
use tokio::sync::Mutex;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, sleep, sleep_until};
use world::{GUILD, Launch, Output, Process, free_addresses};

use crate::bare::Bare;
use crate::figures::{Figure, quantile};
use crate::settings::Settings;
use crate::system::{Simulator, System, listening};
use crowd::Crowd;
use jitter::Backoff;
use script::Play;
use tally::{Counts, Tally};

/// From the first connection until the last browser has its snapshot.
const JOIN_MAX: Duration = Duration::from_secs(180);
/// From the kill until the last browser is up to date again.
const CATCH_UP_MAX: Duration = Duration::from_secs(120);
/// From the last event until everybody has it.
const SETTLE_MAX: Duration = Duration::from_secs(20);
/// Events go on this long before the kill, and a doubled frame would have come within it.
const LEAD: Duration = Duration::from_secs(4);
const QUIET: Duration = Duration::from_secs(1);
const LOOK_AGAIN: Duration = Duration::from_millis(5);
/// The worker warns about a killed hub: that is expected here.
const LOG_LEVEL: &str = "error";

/// Measures the system and the floor.
///
/// # Errors
/// Something cannot be started, was refused, lost or doubled.
pub(crate) async fn measure(
    settings: &Settings,
    readers: &Handle,
    directory: &Path,
) -> anyhow::Result<Recovered> {
    let system = System::start(directory, LOG_LEVEL).await;
    let (mut rooms, count) = (Vec::new(), settings.recovery_browsers as usize);
    for room in 0..settings.recovery_rooms {
        let name = format!("Room {room}");
        rooms.push(system.create_discord_room(&name).await);
    }
    let play = Play {
        guild: GUILD.parse()?,
        rooms,
    };
    let tokens = system.browser_tokens(count).await;
    let mut course = Course {
        settings,
        play: &play,
        tokens: &tokens,
        readers,
    };
    let mut side = Side::System(Box::new(system));
    let ours = course.measure(&mut side, Duration::ZERO).await;
    side.stop().await;
    let ours = ours?;

    let mut side = Side::bare(&play, ours.frame_bytes).await?;
    let floor = course.measure(&mut side, ours.ready).await;
    side.stop().await;
    Ok(Recovered {
        ours,
        floor: floor?,
    })
}

/// The results.
#[derive(Debug)]
pub(crate) struct Recovered {
    ours: Measured,
    floor: Measured,
}

/// Of one side. Times are from the kill.
#[derive(Debug)]
struct Measured {
    ready: Duration,
    all_caught_up: Duration,
    joined_in: Duration,
    before_ms: Vec<f64>,
    after_ms: Vec<f64>,
    counts: Counts,
    frame_bytes: usize,
    events: u64,
}

impl Recovered {
    /// The rows of the table.
    pub(crate) fn figures(mut self, settings: &Settings) -> Vec<Figure> {
        let what = format!("{} browsers, hub killed", settings.recovery_browsers);
        let mut figures = Vec::new();
        let mut row = |name: &str, pick: &dyn Fn(&mut Measured) -> f64| {
            let (ours, floor) = (pick(&mut self.ours), pick(&mut self.floor));
            figures.push(Figure::new(format!("{what}: {name}"), ours, floor));
        };
        row("until the last is caught up, from the kill, s", &|of| {
            of.all_caught_up.as_secs_f64()
        });
        row("until the last is caught up, from readiness, s", &|of| {
            of.all_caught_up.saturating_sub(of.ready).as_secs_f64()
        });
        row(
            "meanwhile a caught-up one waits for a live event, p99, ms",
            &|of| quantile(&mut of.after_ms, 0.99),
        );
        row(
            "meanwhile a caught-up one waits for a live event, longest, ms",
            &|of| quantile(&mut of.after_ms, 1.0),
        );
        row(
            "before the kill one waits for a live event, p99, ms",
            &|of| quantile(&mut of.before_ms, 0.99),
        );
        row("snapshots instead of what was missed", &|of| {
            of.counts.snapshots as f64
        });
        figures
    }

    /// The line beside the table.
    pub(crate) fn remark(&self) -> String {
        let side = |of: &Measured| {
            format!(
                "{} joined in {:.1} s; ready {:.2} s after the kill; {} attempts, {} recovered, {} snapshots; {} events, lost 0, doubled 0, gaps 0; {} live waits",
                of.counts.joined,
                of.joined_in.as_secs_f64(),
                of.ready.as_secs_f64(),
                of.counts.attempts,
                of.counts.recovered,
                of.counts.snapshots,
                of.events,
                of.after_ms.len(),
            )
        };
        format!("hub: {}\nfloor: {}", side(&self.ours), side(&self.floor))
    }
}

/// The side that is killed.
enum Side {
    System(Box<System>),
    Bare {
        process: Process,
        hub_url: String,
        control: String,
        line: Line,
    },
}

/// The line to the bare side; none while it is away.
type Line = Arc<Mutex<Option<TcpStream>>>;

impl Side {
    async fn bare(play: &Play, frame_bytes: usize) -> anyhow::Result<Self> {
        let [listen, control] = free_addresses();
        let plan = bare_crowd::Plan {
            listen: listen.clone(),
            control: control.clone(),
            guild: play.guild,
            rooms: play.rooms.clone(),
            frame_bytes,
        };
        let launch = Launch::itself("bare crowd", Bare::Crowd(plan).arguments()?);
        let mut process = launch.writing_to(Output::Inherited).start();
        let line = Arc::new(Mutex::new(Some(listening(&mut process, &control).await?)));
        Ok(Self::Bare {
            process,
            hub_url: format!("http://{listen}"),
            control,
            line,
        })
    }

    fn hub_url(&self) -> &str {
        match self {
            Self::System(system) => system.hub_url(),
            Self::Bare { hub_url, .. } => hub_url,
        }
    }

    fn source(&self, play: &Play) -> Source {
        match self {
            Self::System(system) => Source::System(system.simulator().clone(), play.clone()),
            Self::Bare { line, .. } => Source::Bare(Arc::clone(line)),
        }
    }

    async fn kill(&mut self) {
        match self {
            Self::System(system) => system.kill_hub().await,
            Self::Bare { process, line, .. } => {
                *line.lock().await = None;
                process.kill().await;
            }
        }
    }

    /// Starts it again; the bare side after so long, and it receives the number of events.
    async fn restart(&mut self, away: Duration, tally: &Tally) -> anyhow::Result<()> {
        match self {
            Self::System(system) => system.restart_hub().await,
            Self::Bare {
                process,
                control,
                line,
                ..
            } => {
                sleep(away).await;
                *process = process.again();
                let mut stream = listening(process, control).await?;
                let mut line = line.lock().await;
                stream.write_u64_le(tally.sent()).await?;
                *line = Some(stream);
            }
        }
        Ok(())
    }

    /// Panics if a process has ended.
    fn assert_running(&mut self) {
        match self {
            Self::System(system) => system.assert_running(),
            Self::Bare { process, .. } => process.assert_running(),
        }
    }

    async fn stop(self) {
        match self {
            Self::System(system) => system.stop().await,
            Self::Bare { mut process, .. } => process.kill().await,
        }
    }
}

/// Causes events.
#[derive(Clone)]
enum Source {
    System(Simulator, Play),
    Bare(Line),
}

impl Source {
    async fn send(self, event: u64) -> anyhow::Result<()> {
        match self {
            Self::System(simulator, play) => {
                let _answer: IgnoredAny = simulator.voice(&play.change(event)).answer().await?;
            }
            Self::Bare(line) => {
                if let Some(stream) = line.lock().await.as_mut() {
                    stream.write_u64_le(event + 1).await?;
                }
            }
        }
        Ok(())
    }
}

/// One course of the measurement.
struct Course<'a> {
    settings: &'a Settings,
    play: &'a Play,
    tokens: &'a [String],
    readers: &'a Handle,
}

impl Course<'_> {
    /// The browsers of this side, which have not connected yet.
    fn crowd(&self, side: &Side, tally: &Arc<Tally>) -> anyhow::Result<Crowd> {
        let rooms: Result<Vec<ChannelId>, _> =
            self.play.rooms.iter().map(|room| room.parse()).collect();
        Ok(Crowd {
            hub_url: side.hub_url().to_owned(),
            guild: self.play.guild,
            rooms: rooms?,
            tokens: self.tokens.to_vec(),
            backoff: Backoff {
                base: Duration::from_millis(self.settings.backoff_base_ms.into()),
                cap: Duration::from_millis(self.settings.backoff_cap_ms.into()),
            },
            tally: Arc::clone(tally),
            last_end: std::sync::Mutex::default(),
        })
    }

    /// Lets every browser join, kills, restarts, and waits until every browser has everything.
    async fn measure(&mut self, side: &mut Side, away: Duration) -> anyhow::Result<Measured> {
        let rate = self.settings.events_per_s;
        let longest = LEAD + CATCH_UP_MAX + QUIET;
        let events = self.play.joins() + u64::from(rate) * longest.as_secs();
        let tally = Arc::new(Tally::new(self.play.clone(), self.tokens.len(), events));
        let source = side.source(self.play);
        for _ in 0..self.play.joins() {
            let event = tally.send().unwrap_or_default();
            source.clone().send(event).await?;
        }
        let crowd = Arc::new(self.crowd(side, &tally)?);
        let all = self.tokens.len() as u64;
        let mut crowd_run = RunningCrowd {
            tasks: crowd.enter(self.readers),
            crowd,
        };
        let begun = Instant::now();
        crowd_run
            .until(side, "joined", JOIN_MAX, |tally| tally.counts().joined, all)
            .await?;
        let joined_in = begun.elapsed();

        let stop = Arc::new(AtomicBool::new(false));
        let sending = tokio::spawn(send_events(
            source,
            Arc::clone(&tally),
            self.play.rooms.len(),
            rate,
            Arc::clone(&stop),
        ));
        sleep(LEAD).await;
        let killed = tally.kill();
        side.kill().await;
        side.restart(away, &tally).await?;
        let ready = tally.elapsed() - killed;
        crowd_run
            .until(
                side,
                "caught up",
                CATCH_UP_MAX,
                |tally| tally.counts().caught_up,
                all,
            )
            .await?;
        let all_caught_up = tally.last_caught_up() - killed;
        sleep(QUIET).await;
        stop.store(true, Ordering::Relaxed);
        sending.await??;
        let has_all = |tally: &Tally| all - tally.lacking() as u64;
        crowd_run
            .until(side, "have everything", SETTLE_MAX, has_all, all)
            .await?;
        sleep(QUIET).await;
        tally.check()?;
        let [before_ms, after_ms] = tally.waits_ms();
        Ok(Measured {
            ready,
            all_caught_up,
            joined_in,
            before_ms,
            after_ms,
            counts: tally.counts(),
            frame_bytes: tally.frame_bytes(),
            events: tally.sent(),
        })
    }
}

/// A crowd with its tasks.
struct RunningCrowd {
    tasks: JoinSet<anyhow::Error>,
    crowd: Arc<Crowd>,
}

impl RunningCrowd {
    /// Waits until a count is `all`.
    async fn until(
        &mut self,
        side: &mut Side,
        what: &str,
        most: Duration,
        count: impl Fn(&Tally) -> u64,
        all: u64,
    ) -> anyhow::Result<()> {
        let deadline = Instant::now() + most;
        loop {
            let now = count(&self.crowd.tally);
            if now == all {
                return Ok(());
            }
            if let Some(ended) = self.tasks.try_join_next() {
                return Err(ended.unwrap_or_else(Into::into));
            }
            side.assert_running();
            self.crowd.tally.check()?;
            if Instant::now() >= deadline {
                let last_end = self
                    .crowd
                    .last_end
                    .lock()
                    .map(|end| end.clone())
                    .unwrap_or_default();
                anyhow::bail!(
                    "{now} of {all} browsers {what} within {} s; the last end: {last_end}",
                    most.as_secs()
                );
            }
            sleep(LOOK_AGAIN).await;
        }
    }
}

/// Causes events at a steady rate until `stop` is set. Two events of one room are never in flight
/// together, so that none overtakes another.
async fn send_events(
    source: Source,
    tally: Arc<Tally>,
    rooms: usize,
    per_s: u32,
    stop: Arc<AtomicBool>,
) -> anyhow::Result<()> {
    let mut in_flight: VecDeque<JoinHandle<anyhow::Result<()>>> = VecDeque::new();
    let mut due = Instant::now();
    while !stop.load(Ordering::Relaxed) {
        sleep_until(due).await;
        due += Duration::from_secs(1) / per_s;
        while in_flight.len() >= rooms {
            if let Some(oldest) = in_flight.pop_front() {
                oldest.await??;
            }
        }
        let Some(event) = tally.send() else {
            anyhow::bail!("it took too long: no more events are planned");
        };
        in_flight.push_back(tokio::spawn(source.clone().send(event)));
    }
    for sent in in_flight {
        sent.await??;
    }
    Ok(())
}
