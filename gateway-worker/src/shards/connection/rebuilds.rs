//! When a shard identifies because a guild can be read in no other way. Each rebuild in a row waits
//! longer, so that a guild that is always unreadable does not spend the budget. Pure.

use std::time::Duration;

use tokio::time::Instant;

use crate::retry::Backoff;

/// After so long without a rebuild, the next wait is short again.
const RESET_AFTER: Duration = Duration::from_secs(3_600);

/// The rebuilds of one shard.
pub(super) struct Rebuilds {
    min: Duration,
    wait: Backoff,
    due: Option<Instant>,
    /// The last one; before the first, the start.
    last: Instant,
}

impl Rebuilds {
    /// The first wait, and what it grows to.
    pub(super) fn new(min: Duration, max: Duration, now: Instant) -> Self {
        Self {
            min,
            wait: Backoff::new(min, max),
            due: None,
            last: now,
        }
    }

    /// A rebuild is needed: it is due after the wait, unless one is planned already.
    pub(super) fn plan(&mut self, now: Instant) {
        if self.due.is_some() {
            return;
        }
        if now.duration_since(self.last) > RESET_AFTER {
            self.wait.reset();
        }
        self.due = Some(now + self.wait.after_failure_in_full());
    }

    /// A rebuild is needed because nothing at all is read until then: it is due after the first wait,
    /// or when one is planned earlier.
    pub(super) fn hasten(&mut self, now: Instant) {
        let soon = now + self.min;
        self.due = Some(self.due.map_or(soon, |due| due.min(soon)));
    }

    /// Whether one is planned.
    #[cfg(test)]
    pub(super) fn is_planned(&self) -> bool {
        self.due.is_some()
    }

    /// Whether the planned rebuild is due; if so, it is no longer planned.
    pub(super) fn falls_due(&mut self, now: Instant) -> bool {
        self.due.take_if(|due| *due <= now).is_some()
    }

    /// The shard identifies for it.
    pub(super) fn done(&mut self, now: Instant) {
        self.last = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_rebuild_in_a_row_waits_longer_until_an_hour_passes_without_one() {
        let (min, max) = (Duration::from_secs(5), Duration::from_secs(15));
        let mut now = Instant::now();
        let mut rebuilds = Rebuilds::new(min, max, now);
        for wait in [5, 10, 15, 15] {
            let wait = Duration::from_secs(wait);
            rebuilds.plan(now);
            // It is planned once.
            rebuilds.plan(now + wait);
            assert!(!rebuilds.falls_due(now + wait - Duration::from_millis(1)));
            now += wait;
            assert!(rebuilds.falls_due(now) && !rebuilds.falls_due(now));
            rebuilds.done(now);
        }
        now += RESET_AFTER + min;
        rebuilds.plan(now);
        assert!(rebuilds.falls_due(now + min));
    }

    #[test]
    fn an_urgent_rebuild_comes_before_the_planned_one_and_is_not_delayed() {
        let (min, max) = (Duration::from_secs(5), Duration::from_secs(3_600));
        let now = Instant::now();
        let mut rebuilds = Rebuilds::new(min, max, now);
        for _time in 0..20 {
            rebuilds.due = None;
            rebuilds.plan(now);
        }
        assert!(!rebuilds.falls_due(now + max - min), "it has grown");
        rebuilds.hasten(now);
        // It is requested again and again, and keeps its time.
        rebuilds.hasten(now + min / 2);
        assert!(!rebuilds.falls_due(now + min - Duration::from_millis(1)));
        assert!(rebuilds.falls_due(now + min));
        // And when nothing was planned.
        rebuilds.hasten(now);
        assert!(rebuilds.falls_due(now + min));
    }
}
