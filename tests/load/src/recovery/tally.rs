//! What all browsers together have seen, and when: written by the browsers, read by the measurement.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::script::{Fault, Play};

/// Waits that are kept: enough for minutes; beyond it the measurement is refused.
const WAITS_MAX: usize = 20_000_000;

/// The tally of one measurement. Both ends run in one process, by one monotonic clock.
#[derive(Debug)]
pub(crate) struct Tally {
    origin: Instant,
    play: Play,
    /// When each event was sent, in ns since `origin`; 0: not yet.
    sent: Vec<AtomicU64>,
    count: AtomicU64,
    /// Events of its room that each browser has.
    has: Vec<AtomicU64>,
    joined: AtomicU64,
    killed: AtomicBool,
    caught_up: AtomicU64,
    last_caught_up_ns: AtomicU64,
    recovered: AtomicU64,
    snapshots: AtomicU64,
    attempts: AtomicU64,
    lost: AtomicU64,
    doubled: AtomicU64,
    gaps: AtomicU64,
    untrue: AtomicU64,
    frames: AtomicU64,
    bytes: AtomicU64,
    waits: Mutex<Vec<Wait>>,
}

/// A live event at a browser that was up to date.
#[derive(Debug, Clone, Copy)]
struct Wait {
    sent_ns: u64,
    took_us: u32,
    after_kill: bool,
}

/// Figures of all browsers together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Counts {
    /// Are connected, and know their room, for the first time.
    pub(crate) joined: u64,
    /// Are up to date again after the kill.
    pub(crate) caught_up: u64,
    /// Subscriptions after the kill that went on from the browser's position.
    pub(crate) recovered: u64,
    /// Snapshots after the kill.
    pub(crate) snapshots: u64,
    /// Connections that were tried after the kill.
    pub(crate) attempts: u64,
}

impl Tally {
    /// A tally for so many browsers and events.
    pub(crate) fn new(play: Play, browsers: usize, events: u64) -> Self {
        let count = |_| AtomicU64::new(0);
        Self {
            origin: Instant::now(),
            play,
            sent: (0..events).map(count).collect(),
            count: AtomicU64::new(0),
            has: (0..browsers as u64).map(count).collect(),
            joined: AtomicU64::new(0),
            killed: AtomicBool::new(false),
            caught_up: AtomicU64::new(0),
            last_caught_up_ns: AtomicU64::new(0),
            recovered: AtomicU64::new(0),
            snapshots: AtomicU64::new(0),
            attempts: AtomicU64::new(0),
            lost: AtomicU64::new(0),
            doubled: AtomicU64::new(0),
            gaps: AtomicU64::new(0),
            untrue: AtomicU64::new(0),
            frames: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            waits: Mutex::new(Vec::new()),
        }
    }

    /// Notes that the next event is being sent now; `None` once there were as many as planned.
    pub(crate) fn send(&self) -> Option<u64> {
        let event = self.count.load(Ordering::Relaxed);
        let sent = self.sent.get(usize::try_from(event).ok()?)?;
        sent.store(self.now_ns(), Ordering::Relaxed);
        self.count.store(event + 1, Ordering::Relaxed);
        Some(event)
    }

    /// Events so far.
    pub(crate) fn sent(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    /// Events of a room so far.
    pub(crate) fn sent_in(&self, room: usize) -> u64 {
        self.play.events_of(room, self.sent())
    }

    /// Notes that the hub is being killed, and when.
    pub(crate) fn kill(&self) -> Duration {
        self.killed.store(true, Ordering::Relaxed);
        self.origin.elapsed()
    }

    /// Whether the hub was killed: then connections may end.
    pub(crate) fn is_killed(&self) -> bool {
        self.killed.load(Ordering::Relaxed)
    }

    /// By the clock of this tally.
    pub(crate) fn elapsed(&self) -> Duration {
        self.origin.elapsed()
    }

    /// When the last browser that is up to date again was so.
    pub(crate) fn last_caught_up(&self) -> Duration {
        Duration::from_nanos(self.last_caught_up_ns.load(Ordering::Relaxed))
    }

    /// Notes that a browser knows its room for the first time.
    pub(crate) fn join(&self) {
        self.joined.fetch_add(1, Ordering::Relaxed);
    }

    /// Notes that a browser tries to connect again.
    pub(crate) fn attempt(&self) {
        self.attempts.fetch_add(1, Ordering::Relaxed);
    }

    /// Notes that a browser is up to date again.
    pub(crate) fn catch_up(&self) {
        self.caught_up.fetch_add(1, Ordering::Relaxed);
        self.last_caught_up_ns
            .fetch_max(self.now_ns(), Ordering::Relaxed);
    }

    /// Notes that a browser goes on from its position.
    pub(crate) fn recover(&self) {
        self.recovered.fetch_add(1, Ordering::Relaxed);
    }

    /// Notes that a browser got a snapshot after the kill.
    pub(crate) fn renew(&self) {
        self.snapshots.fetch_add(1, Ordering::Relaxed);
    }

    /// Notes how many events of its room a browser has.
    pub(crate) fn has(&self, browser: usize, events: u64) {
        if let Some(has) = self.has.get(browser) {
            has.store(events, Ordering::Relaxed);
        }
    }

    /// Notes that a browser that was up to date has this event of its room now.
    pub(crate) fn wait(&self, room: usize, nth: u64) {
        let event = nth * self.play.rooms.len() as u64 + room as u64;
        let sent = usize::try_from(event)
            .ok()
            .and_then(|event| self.sent.get(event));
        let sent_ns = sent.map_or(0, |sent| sent.load(Ordering::Relaxed));
        let took_us = self.now_ns().saturating_sub(sent_ns) / 1_000;
        let wait = Wait {
            sent_ns,
            took_us: u32::try_from(took_us).unwrap_or(u32::MAX),
            after_kill: self.is_killed(),
        };
        let mut waits = self.waits.lock().unwrap_or_else(PoisonError::into_inner);
        if waits.len() < WAITS_MAX {
            waits.push(wait);
        }
    }

    /// Counts the frame of an event.
    pub(crate) fn weigh(&self, bytes: usize) {
        self.frames.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Notes what must not happen.
    pub(crate) fn fault(&self, fault: Fault) {
        match fault {
            Fault::Lost(events) => self.lost.fetch_add(events, Ordering::Relaxed),
            Fault::Doubled => self.doubled.fetch_add(1, Ordering::Relaxed),
            Fault::Gap => self.gaps.fetch_add(1, Ordering::Relaxed),
            Fault::Untrue => self.untrue.fetch_add(1, Ordering::Relaxed),
        };
    }

    /// Figures of all browsers together.
    pub(crate) fn counts(&self) -> Counts {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Counts {
            joined: read(&self.joined),
            caught_up: read(&self.caught_up),
            recovered: read(&self.recovered),
            snapshots: read(&self.snapshots),
            attempts: read(&self.attempts),
        }
    }

    /// Browsers, each watching the room of its number, that lack an event.
    pub(crate) fn lacking(&self) -> usize {
        let has = self.has.iter().enumerate();
        has.filter(|(browser, has)| {
            has.load(Ordering::Relaxed) != self.sent_in(browser % self.play.rooms.len())
        })
        .count()
    }

    /// The mean size of an event's frame, in bytes.
    pub(crate) fn frame_bytes(&self) -> usize {
        let (frames, bytes) = (&self.frames, &self.bytes);
        let mean = bytes.load(Ordering::Relaxed) / frames.load(Ordering::Relaxed).max(1);
        usize::try_from(mean).unwrap_or_default()
    }

    /// Waits for live events, in ms: before the kill, and from the kill until all were up to date.
    pub(crate) fn waits_ms(&self) -> [Vec<f64>; 2] {
        let waits = self.waits.lock().unwrap_or_else(PoisonError::into_inner);
        let until = self.last_caught_up_ns.load(Ordering::Relaxed);
        [false, true].map(|after_kill| {
            waits
                .iter()
                .filter(|wait| wait.after_kill == after_kill)
                .filter(|wait| !after_kill || wait.sent_ns <= until)
                .map(|wait| f64::from(wait.took_us) / 1_000.0)
                .collect()
        })
    }

    /// Whether nothing happened that must not.
    ///
    /// # Errors
    /// What did, and how often.
    pub(crate) fn check(&self) -> anyhow::Result<()> {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let faults = [&self.lost, &self.doubled, &self.gaps, &self.untrue].map(read);
        let [lost, doubled, gaps, untrue] = faults;
        anyhow::ensure!(
            faults == [0; 4],
            "lost {lost}, doubled {doubled}, gaps in the numbering {gaps}, untrue snapshots {untrue}"
        );
        let kept = self
            .waits
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .len();
        anyhow::ensure!(kept < WAITS_MAX, "more than {WAITS_MAX} waits");
        Ok(())
    }

    fn now_ns(&self) -> u64 {
        u64::try_from(self.origin.elapsed().as_nanos())
            .unwrap_or(u64::MAX)
            .max(1)
    }
}

#[cfg(test)]
mod tests {
    use proto::GuildId;

    use super::*;

    fn tally() -> Tally {
        let play = Play {
            guild: GuildId::new(1).unwrap(),
            rooms: vec!["2".into(), "3".into()],
        };
        Tally::new(play, 3, 5)
    }

    #[test]
    fn a_browser_that_lacks_or_has_too_many_of_its_rooms_events_is_counted() {
        let tally = tally();
        let events: Vec<_> = std::iter::from_fn(|| tally.send()).collect();
        assert_eq!(events, [0, 1, 2, 3, 4]);
        assert_eq!(tally.lacking(), 3);
        for (browser, has) in [(0, 3), (1, 2), (2, 3)] {
            tally.has(browser, has);
        }
        assert_eq!(tally.lacking(), 0);
        tally.has(1, 3);
        assert_eq!(tally.lacking(), 1);
    }

    #[test]
    fn waits_count_until_the_last_is_up_to_date() {
        let tally = tally();
        tally.send();
        tally.wait(0, 0);
        tally.kill();
        tally.send();
        tally.wait(1, 0);
        tally.catch_up();
        tally.send();
        tally.wait(0, 1);
        let [before, after] = tally.waits_ms();
        assert_eq!((before.len(), after.len()), (1, 1));
    }

    #[test]
    fn any_fault_is_reported() {
        assert!(tally().check().is_ok());
        for fault in [Fault::Lost(3), Fault::Doubled, Fault::Gap, Fault::Untrue] {
            let tally = tally();
            tally.fault(fault);
            assert!(tally.check().is_err());
        }
    }
}
