//! Who has seen which event, and when: one place for each event and receiver, written by the
//! receivers and read when all is quiet.

use std::ops::Range;
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::time::Instant;

/// The board of one measurement. Both ends run in one process, by one monotonic clock.
#[derive(Debug)]
pub(crate) struct Board {
    origin: Instant,
    receivers: usize,
    /// When each event was sent, in ns since `origin`; 0: not yet.
    sent: Vec<AtomicU64>,
    /// How long each event took to each receiver, in µs; 0: not seen.
    took: Vec<AtomicU32>,
    ready: AtomicUsize,
    seen: AtomicU64,
    doubled: AtomicU64,
    gaps: AtomicU64,
    frames: AtomicU64,
    bytes: AtomicU64,
}

/// What must not happen, and how often it did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Faults {
    /// Events that a receiver got twice, or that were never sent.
    pub(crate) doubled: u64,
    /// Frames whose number did not follow the one before.
    pub(crate) gaps: u64,
}

impl Board {
    /// A board for this many events and receivers.
    pub(crate) fn new(events: usize, receivers: usize) -> Self {
        let places = events.saturating_mul(receivers);
        Self {
            origin: Instant::now(),
            receivers,
            sent: (0..events).map(|_| AtomicU64::new(0)).collect(),
            took: (0..places).map(|_| AtomicU32::new(0)).collect(),
            ready: AtomicUsize::new(0),
            seen: AtomicU64::new(0),
            doubled: AtomicU64::new(0),
            gaps: AtomicU64::new(0),
            frames: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
        }
    }

    /// Notes that an event is being sent now.
    pub(crate) fn send(&self, event: usize) {
        if let Some(sent) = self.sent.get(event) {
            sent.store(self.now_ns(), Ordering::Relaxed);
        }
    }

    /// Notes that a receiver has an event now.
    pub(crate) fn see(&self, event: usize, receiver: usize) {
        let sent_ns = self
            .sent
            .get(event)
            .map_or(0, |sent| sent.load(Ordering::Relaxed));
        let Some(took) = self
            .took
            .get(event * self.receivers + receiver)
            .filter(|_| sent_ns > 0)
        else {
            return self.double();
        };
        let took_us = self.now_ns().saturating_sub(sent_ns) / 1_000;
        let took_us = u32::try_from(took_us).unwrap_or(u32::MAX).max(1);
        if took.swap(took_us, Ordering::Relaxed) == 0 {
            self.seen.fetch_add(1, Ordering::Relaxed);
        } else {
            self.double();
        }
    }

    /// Counts an event that came twice, or that was never sent.
    pub(crate) fn double(&self) {
        self.doubled.fetch_add(1, Ordering::Relaxed);
    }

    /// Notes that the number of a frame did not follow the one before.
    pub(crate) fn gap(&self) {
        self.gaps.fetch_add(1, Ordering::Relaxed);
    }

    /// Notes a frame of this size.
    pub(crate) fn weigh(&self, bytes: usize) {
        self.frames.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Notes that one more receiver is ready.
    pub(crate) fn get_ready(&self) {
        self.ready.fetch_add(1, Ordering::Relaxed);
    }

    /// How many receivers are ready.
    pub(crate) fn ready(&self) -> usize {
        self.ready.load(Ordering::Relaxed)
    }

    /// How many pairs of event and receiver are through.
    pub(crate) fn seen(&self) -> u64 {
        self.seen.load(Ordering::Relaxed)
    }

    /// Frames and their bytes so far.
    pub(crate) fn weight(&self) -> (u64, u64) {
        (
            self.frames.load(Ordering::Relaxed),
            self.bytes.load(Ordering::Relaxed),
        )
    }

    /// What must not have happened.
    pub(crate) fn faults(&self) -> Faults {
        Faults {
            doubled: self.doubled.load(Ordering::Relaxed),
            gaps: self.gaps.load(Ordering::Relaxed),
        }
    }

    /// How long these events took to the first `receivers` receivers, in ms, one for each pair.
    pub(crate) fn all_ms(&self, events: Range<usize>, receivers: usize) -> Vec<f64> {
        events
            .flat_map(|event| self.row_ms(event, receivers))
            .collect()
    }

    /// How long each of these events took until the last of the first `receivers` receivers had it, in ms.
    pub(crate) fn last_ms(&self, events: Range<usize>, receivers: usize) -> Vec<f64> {
        events
            .map(|event| self.row_ms(event, receivers).fold(0.0, f64::max))
            .collect()
    }

    fn row_ms(&self, event: usize, receivers: usize) -> impl Iterator<Item = f64> {
        let row = self
            .took
            .iter()
            .skip(event * self.receivers)
            .take(receivers.min(self.receivers));
        row.map(|took| f64::from(took.load(Ordering::Relaxed)) / 1_000.0)
    }

    fn now_ns(&self) -> u64 {
        u64::try_from(self.origin.elapsed().as_nanos())
            .unwrap_or(u64::MAX)
            .max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pair_is_counted_once_and_repeats_apart() {
        let board = Board::new(2, 3);
        board.send(0);
        for receiver in 0..3 {
            board.see(0, receiver);
        }
        assert_eq!((board.seen(), board.faults()), (3, Faults::default()));
        board.see(0, 1);
        // Never sent, and beyond all events.
        board.see(1, 0);
        board.see(9, 0);
        board.gap();
        assert_eq!(
            (board.seen(), board.faults()),
            (
                3,
                Faults {
                    doubled: 3,
                    gaps: 1
                }
            )
        );
    }

    #[test]
    fn times_are_read_by_event_and_by_the_last_receiver() {
        let board = Board::new(2, 3);
        for (place, us) in [
            (0, 1_000),
            (1, 3_000),
            (2, 9_000),
            (3, 4_000),
            (4, 2_000),
            (5, 500),
        ] {
            board.took[place].store(us, Ordering::Relaxed);
        }
        assert_eq!(board.all_ms(0..2, 2), [1.0, 3.0, 4.0, 2.0]);
        assert_eq!(board.last_ms(0..2, 3), [9.0, 4.0]);
        assert_eq!(board.last_ms(1..2, 1), [4.0]);
    }
}
