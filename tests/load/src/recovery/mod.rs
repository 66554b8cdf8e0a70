//! Recovery: a crowd of browsers loses its hub to `kill -9` while events go on, and comes back to
//! the hub that is started anew on the same store. Every browser must have every event of its room
//! exactly once.
//!
//! The floor is the same crowd with a bare accept loop in the place of hub, worker and simulator,
//! which is killed likewise and stays away for as long.

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

use crate::bare::Bare;
use crate::figures::{Figure, quantile};
use crate::processes::{Processes, free_addresses};
use crate::settings::Settings;
use crate::store::Store;
use crate::world::{GUILD, Simulator, World};
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
/// That a hub is away while it is killed is no news.
const LOG_LEVEL: &str = "error";
const BARE: &str = "bare crowd";

/// Measures the system and the floor.
///
/// # Errors
/// Something can not be started, was refused, lost or doubled.
pub(crate) async fn measure(
    settings: &Settings,
    readers: &Handle,
    directory: &Path,
) -> anyhow::Result<Recovered> {
    let world = World::start(Store::new(directory)?, LOG_LEVEL).await?;
    let (mut rooms, count) = (Vec::new(), settings.recovery_browsers as usize);
    for room in 0..settings.recovery_rooms {
        rooms.push(world.simulator().open_room(&format!("Room {room}")).await?);
    }
    let play = Play {
        guild: GUILD.parse()?,
        rooms,
    };
    let tokens = world.browser_tokens(count).await?;
    let mut scene = Scene {
        settings,
        play: &play,
        tokens: &tokens,
        readers,
    };
    let mut side = Side::System(world);
    let ours = scene.measure(&mut side, Duration::ZERO).await;
    side.stop().await;
    let ours = ours?;

    let mut side = Side::bare(&play, ours.frame_bytes).await?;
    let floor = scene.measure(&mut side, ours.ready).await;
    side.stop().await;
    Ok(Recovered {
        ours,
        floor: floor?,
    })
}

/// What was measured.
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

    /// What is worth a line but not a row.
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

/// What is killed.
enum Side {
    System(World),
    Bare {
        processes: Processes,
        browsers: String,
        control: String,
        line: Line,
    },
}

/// The line to the bare side; none while it is away.
type Line = Arc<Mutex<Option<TcpStream>>>;

impl Side {
    async fn bare(play: &Play, frame_bytes: usize) -> anyhow::Result<Self> {
        let [browsers, control] = free_addresses().await?;
        let mut processes = Processes::none(LOG_LEVEL)?;
        let plan = bare_crowd::Plan {
            listen: browsers.clone(),
            control: control.clone(),
            guild: play.guild,
            rooms: play.rooms.clone(),
            frame_bytes,
        };
        processes.spawn_this(BARE, Bare::Crowd(plan).arguments()?)?;
        let line = Arc::new(Mutex::new(Some(processes.listening(&control).await?)));
        Ok(Self::Bare {
            processes,
            browsers,
            control,
            line,
        })
    }

    fn address(&self) -> &str {
        match self {
            Self::System(world) => world.hub_address(),
            Self::Bare { browsers, .. } => browsers,
        }
    }

    fn teller(&self, play: &Play) -> Teller {
        match self {
            Self::System(world) => Teller::System(world.simulator().clone(), play.clone()),
            Self::Bare { line, .. } => Teller::Bare(Arc::clone(line)),
        }
    }

    async fn kill(&mut self) -> anyhow::Result<()> {
        match self {
            Self::System(world) => world.kill_hub().await,
            Self::Bare {
                processes, line, ..
            } => {
                *line.lock().await = None;
                processes.kill(BARE).await
            }
        }
    }

    /// Starts it anew; the bare side after so long, and it is told how many events there are.
    async fn revive(&mut self, away: Duration, tally: &Tally) -> anyhow::Result<()> {
        match self {
            Self::System(world) => world.revive_hub().await,
            Self::Bare {
                processes,
                control,
                line,
                ..
            } => {
                sleep(away).await;
                processes.revive(BARE)?;
                let mut stream = processes.listening(control).await?;
                let mut line = line.lock().await;
                stream.write_u64_le(tally.sent()).await?;
                *line = Some(stream);
                Ok(())
            }
        }
    }

    /// Whether every process is still there.
    fn check(&mut self) -> anyhow::Result<()> {
        match self {
            Self::System(world) => world.check(),
            Self::Bare { processes, .. } => processes.check(),
        }
    }

    async fn stop(self) {
        match self {
            Self::System(world) => world.stop().await,
            Self::Bare { processes, .. } => processes.stop().await,
        }
    }
}

/// Makes events happen.
#[derive(Clone)]
enum Teller {
    System(Simulator, Play),
    Bare(Line),
}

impl Teller {
    async fn tell(self, event: u64) -> anyhow::Result<()> {
        match self {
            Self::System(simulator, play) => {
                let _answer: IgnoredAny = simulator.voice(&play.wish(event)).answer().await?;
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

/// Who watches what.
struct Scene<'a> {
    settings: &'a Settings,
    play: &'a Play,
    tokens: &'a [String],
    readers: &'a Handle,
}

impl Scene<'_> {
    /// Lets everybody join, kills, revives, and waits until everybody has everything.
    async fn measure(&mut self, side: &mut Side, away: Duration) -> anyhow::Result<Measured> {
        let rate = self.settings.events_per_s;
        let longest = LEAD + CATCH_UP_MAX + QUIET;
        let events = self.play.joins() + u64::from(rate) * longest.as_secs();
        let tally = Arc::new(Tally::new(self.play.clone(), self.tokens.len(), events));
        let teller = side.teller(self.play);
        for _ in 0..self.play.joins() {
            let event = tally.send().unwrap_or_default();
            teller.clone().tell(event).await?;
        }
        let rooms: Result<Vec<ChannelId>, _> =
            self.play.rooms.iter().map(|room| room.parse()).collect();
        let crowd = Arc::new(Crowd {
            address: side.address().to_owned(),
            guild: self.play.guild,
            rooms: rooms?,
            tokens: self.tokens.to_vec(),
            backoff: Backoff {
                base: Duration::from_millis(self.settings.backoff_base_ms.into()),
                cap: Duration::from_millis(self.settings.backoff_cap_ms.into()),
            },
            tally: Arc::clone(&tally),
            last_end: std::sync::Mutex::default(),
        });
        let all = self.tokens.len() as u64;
        let mut watched = Watched {
            tasks: crowd.enter(self.readers),
            crowd,
        };
        let begun = Instant::now();
        watched
            .until(side, "joined", JOIN_MAX, |tally| tally.counts().joined, all)
            .await?;
        let joined_in = begun.elapsed();

        let stop = Arc::new(AtomicBool::new(false));
        let telling = tokio::spawn(tell(
            teller,
            Arc::clone(&tally),
            self.play.rooms.len(),
            rate,
            Arc::clone(&stop),
        ));
        sleep(LEAD).await;
        let killed = tally.kill();
        side.kill().await?;
        side.revive(away, &tally).await?;
        let ready = tally.elapsed() - killed;
        watched
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
        telling.await??;
        let has_all = |tally: &Tally| all - tally.lacking() as u64;
        watched
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
struct Watched {
    tasks: JoinSet<anyhow::Error>,
    crowd: Arc<Crowd>,
}

impl Watched {
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
            side.check()?;
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

/// Lets events happen at a steady rate until it is told to stop. Two events of one room are never
/// in flight together, so that none overtakes another.
async fn tell(
    teller: Teller,
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
        in_flight.push_back(tokio::spawn(teller.clone().tell(event)));
    }
    for told in in_flight {
        told.await??;
    }
    Ok(())
}
