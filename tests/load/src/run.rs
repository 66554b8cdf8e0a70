//! One run: everything is measured once, on processes started for it.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use serde::de::IgnoredAny;
use tokio::runtime::Handle;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};

use crate::board::Board;
use crate::browsers::Browsers;
use crate::figures::{Figure, quantile};
use crate::floor::{Floor, Plan};
use crate::kernel::{self, Observed};
use crate::rooms;
use crate::script::{TwoRooms, USERS};
use crate::settings::Settings;
use crate::system::System;

/// Control requests in flight: below the number of users, so that no user's events overtake one another.
const IN_FLIGHT_MAX: usize = USERS / 2;
/// Connections are idle for this long before their memory is read, and a doubled frame would have
/// come within it.
const QUIET: Duration = Duration::from_millis(500);
/// Length of a frame's header in front of 126 to 65,535 bytes (RFC 6455, section 5.2).
const FRAME_HEADER_BYTES: u64 = 4;

/// What a run found of the system.
#[derive(Debug)]
pub(crate) struct Measured {
    /// For each number of browsers: until the last of them had a single event, ms, the median.
    single_ms: Vec<f64>,
    /// Each (event, browser) at the steady rate, ms.
    rated_ms: Vec<f64>,
    /// Of one event to one browser on the wire.
    pub(crate) event_bytes: usize,
    /// How late the control requests were at most, ms: how much the sender itself was held up.
    late_ms: f64,
    /// The hub's processor time for one frame, µs.
    frame_us: f64,
    /// The hub's memory for one idle connection, KiB.
    connection_kib: f64,
    /// Processor time of each process at the steady rate, of one core.
    shares: Vec<(&'static str, f64)>,
    unwatched: rooms::Took,
    watched: rooms::Took,
    /// Pairs of event and browser that are through: all that were expected.
    delivered: u64,
}

/// Measures the system.
///
/// # Errors
/// Something cannot be started, was refused, lost or doubled.
pub(crate) async fn measure(
    settings: &Settings,
    system: &System,
    readers: &Handle,
) -> anyhow::Result<Measured> {
    let (sizes, singles) = (settings.sizes(), settings.single_events as usize);
    let all = settings.browsers as usize;
    let events = USERS + sizes.len() * singles + settings.rated_events();
    let board = Arc::new(Board::new(events, all));
    let mut traffic = Traffic {
        system,
        rooms: system.two_rooms().await,
        browsers: Browsers::none(Arc::clone(&board), readers.clone()),
        board: &board,
        next: 0,
        expected: 0,
    };
    let unwatched = rooms::measure(system, "unwatched", settings.rooms as usize).await?;

    let tokens = system.browser_tokens(all).await;
    let programs = system.observed();
    let [(_, hub), ..] = &programs;
    let (mut single_ms, mut connection_kib) = (Vec::new(), 0.0);
    for size in &sizes {
        let (before, before_kib) = (traffic.browsers.count(), hub.resident_kib()?);
        traffic
            .browsers
            .join(system.hub_url(), &tokens[..*size], traffic.next)
            .await?;
        sleep(QUIET).await;
        connection_kib = (hub.resident_kib()? - before_kib) / (*size - before) as f64;
        if traffic.next == 0 {
            // Everybody joins, and every process has done everything once.
            traffic.one_by_one(USERS).await?;
        }
        let events = traffic.one_by_one(singles).await?;
        single_ms.push(quantile(&mut board.last_ms(events, *size), 0.5));
    }

    let (mut names, mut observed): (Vec<_>, Vec<_>) = programs.iter().cloned().unzip();
    names.extend(["this program", "everything else"]);
    observed.push(Observed::this_process());
    let (before, weight_before, begun) = (processor_s(&observed)?, board.weight(), Instant::now());
    let (rated, late_ms) = traffic
        .at_rate(settings.rated_events(), settings.events_per_s)
        .await?;
    let (after, weight) = (processor_s(&observed)?, board.weight());
    let elapsed_s = begun.elapsed().as_secs_f64();
    let frames = weight.0 - weight_before.0;
    // A small difference of values that are rounded to ticks may be negative.
    let shares: Vec<_> = names
        .into_iter()
        .zip(before.iter().zip(&after))
        .map(|(name, (before, after))| (name, ((after - before) / elapsed_s).max(0.0)))
        .collect();
    let hub_share = shares.first().map_or(f64::NAN, |(_, share)| *share);
    let event_bytes = (weight.1 - weight_before.1) / frames.max(1) + FRAME_HEADER_BYTES;

    let watched = rooms::measure(system, "watched", settings.rooms as usize).await?;
    sleep(QUIET).await;
    let faults = board.faults();
    anyhow::ensure!(
        faults.doubled == 0 && faults.gaps == 0,
        "doubled {}, gaps in the numbering {}",
        faults.doubled,
        faults.gaps
    );
    Ok(Measured {
        single_ms,
        rated_ms: board.all_ms(rated, all),
        event_bytes: usize::try_from(event_bytes)?,
        late_ms,
        frame_us: hub_share * elapsed_s * 1e6 / frames.max(1) as f64,
        connection_kib,
        shares,
        unwatched,
        watched,
        delivered: board.seen(),
    })
}

impl Measured {
    /// What the floor is to do to be comparable.
    pub(crate) fn plan(&self, settings: &Settings) -> Plan {
        Plan {
            sizes: settings.sizes(),
            single_events: settings.single_events as usize,
            rated_events: settings.rated_events(),
            every: Duration::from_secs(1) / settings.events_per_s,
            event_bytes: self.event_bytes,
        }
    }

    /// The rows of the table.
    pub(crate) fn figures(mut self, mut floor: Floor, settings: &Settings) -> Vec<Figure> {
        let mut figures = Vec::new();
        let rate = format!(
            "{} browsers, {} events/s",
            settings.browsers, settings.events_per_s
        );
        for (name, share) in [("p50", 0.5), ("p99", 0.99), ("max", 1.0)] {
            figures.push(Figure::new(
                format!("simulator to browser, {rate}, {name}, ms"),
                quantile(&mut self.rated_ms, share),
                quantile(&mut floor.rated_ms, share),
            ));
        }
        for ((size, ours), floor) in settings
            .sizes()
            .iter()
            .zip(&self.single_ms)
            .zip(&floor.single_ms)
        {
            let browsers = if *size == 1 {
                "1 browser has".to_owned()
            } else {
                format!("the last of {size} browsers has")
            };
            figures.push(Figure::new(
                format!("one event, until {browsers} it, ms"),
                *ours,
                *floor,
            ));
        }
        let watching = format!("{} browsers watching", settings.browsers);
        for (what, took) in [
            ("nobody watching", &mut self.unwatched),
            (&watching, &mut self.watched),
        ] {
            for (name, share) in [("p50", 0.5), ("p95", 0.95)] {
                let (ours, bare) = (
                    quantile(&mut took.create_ms, share),
                    quantile(&mut took.bare_create_ms, share),
                );
                figures.push(Figure::new(
                    format!("create-room, {what}, {name}, ms"),
                    ours,
                    bare,
                ));
            }
            let (ours, bare) = (
                quantile(&mut took.end_ms, 0.95),
                quantile(&mut took.bare_end_ms, 0.95),
            );
            figures.push(Figure::new(
                format!("end-room, {what}, p95, ms"),
                ours,
                bare,
            ));
        }
        figures.push(Figure::new(
            "processor time of the hub a frame (floor: of a write), us",
            self.frame_us,
            floor.write_us,
        ));
        figures.push(Figure::new(
            format!("memory an idle connection, {USERS} people in its snapshot, KiB"),
            self.connection_kib,
            floor.socket_kib,
        ));
        figures
    }

    /// The line beside the table.
    pub(crate) fn remark(&self) -> String {
        let shares: Vec<String> = self
            .shares
            .iter()
            .map(|(name, share)| format!("{name} {:.0} %", share * 100.0))
            .collect();
        format!(
            "{} (event, browser) pairs delivered, lost 0, doubled 0, gaps 0; {} bytes a frame; of one core meanwhile: {}; requests at most {:.1} ms late",
            self.delivered,
            self.event_bytes,
            shares.join(", "),
            self.late_ms
        )
    }
}

/// Processor time of each of these, and last of everything else on the machine.
fn processor_s(observed: &[Observed]) -> anyhow::Result<Vec<f64>> {
    let mut used: Vec<f64> = observed
        .iter()
        .map(Observed::processor_s)
        .collect::<anyhow::Result<_>>()?;
    used.push(kernel::busy_s()? - used.iter().sum::<f64>());
    Ok(used)
}

/// The events of a run, and the browsers that receive them.
struct Traffic<'a> {
    system: &'a System,
    rooms: TwoRooms,
    browsers: Browsers,
    board: &'a Board,
    next: usize,
    /// Pairs of event and browser until now.
    expected: u64,
}

impl Traffic<'_> {
    /// Lets single events happen, each after everybody has the one before.
    async fn one_by_one(&mut self, count: usize) -> anyhow::Result<Range<usize>> {
        let events = self.take(count);
        let watching = self.browsers.count() as u64;
        for (nth, event) in (1..).zip(events.clone()) {
            let request = self.system.simulator().voice(&self.rooms.change(event));
            self.board.send(event);
            let _answer: IgnoredAny = request.answer().await?;
            self.browsers.see(self.expected + nth * watching).await?;
        }
        self.expected += count as u64 * watching;
        Ok(events)
    }

    /// Lets events happen at a steady rate, whether or not the ones before have been answered, and
    /// waits until everybody has them all. Also says how late a request was at most, in ms.
    async fn at_rate(&mut self, count: usize, per_s: u32) -> anyhow::Result<(Range<usize>, f64)> {
        let events = self.take(count);
        let mut in_flight: JoinSet<anyhow::Result<IgnoredAny>> = JoinSet::new();
        let every = Duration::from_secs(1) / per_s;
        let (mut due, mut late) = (Instant::now(), Duration::ZERO);
        for event in events.clone() {
            while in_flight.len() >= IN_FLIGHT_MAX {
                check(in_flight.join_next().await)?;
            }
            while let Some(answered) = in_flight.try_join_next() {
                check(Some(answered))?;
            }
            let request = self.system.simulator().voice(&self.rooms.change(event));
            sleep_until(due).await;
            late = late.max(due.elapsed());
            self.board.send(event);
            in_flight.spawn(request.answer());
            due += every;
        }
        while let Some(answered) = in_flight.join_next().await {
            check(Some(answered))?;
        }
        self.expected += count as u64 * self.browsers.count() as u64;
        self.browsers.see(self.expected).await?;
        Ok((events, late.as_secs_f64() * 1_000.0))
    }

    fn take(&mut self, count: usize) -> Range<usize> {
        let first = self.next;
        self.next += count;
        first..self.next
    }
}

fn check(
    answered: Option<Result<anyhow::Result<IgnoredAny>, tokio::task::JoinError>>,
) -> anyhow::Result<()> {
    match answered {
        Some(answered) => answered?.map(|_| ()),
        None => Ok(()),
    }
}
