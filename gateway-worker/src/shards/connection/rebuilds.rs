//! When a shard identifies anew because a guild can not be known otherwise. Each time in a row waits
//! longer, so that what is always illegible does not spend the budget. Pure.

use std::time::Duration;

use tokio::time::Instant;

use crate::retry::Backoff;

/// Without one for so long, the wait before the next is short again.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(3_600);

/// The identifies of one shard that something illegible leads to.
pub(super) struct Rebuilds {
    min: Duration,
    wait: Backoff,
    due: Option<Instant>,
    /// The last one; before that, the beginning.
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

    /// One is needed: it falls due after the wait, unless one is planned already.
    pub(super) fn plan(&mut self, now: Instant) {
        if self.due.is_some() {
            return;
        }
        if now.duration_since(self.last) > FORGOTTEN_AFTER {
            self.wait.reset();
        }
        self.due = Some(now + self.wait.after_failure_in_full());
    }

    /// One is needed because nothing at all is read until then, and not for anything illegible: it
    /// falls due after the first wait, or when one is planned earlier.
    pub(super) fn hasten(&mut self, now: Instant) {
        let soon = now + self.min;
        self.due = Some(self.due.map_or(soon, |due| due.min(soon)));
    }

    /// Whether one is planned.
    #[cfg(test)]
    pub(super) fn is_planned(&self) -> bool {
        self.due.is_some()
    }

    /// Whether the one that is planned is due; it is planned no longer then.
    pub(super) fn falls_due(&mut self, now: Instant) -> bool {
        self.due.take_if(|due| *due <= now).is_some()
    }

    /// The shard identifies anew for it.
    pub(super) fn done(&mut self, now: Instant) {
        self.last = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_illegible_again_and_again_waits_longer_each_time_and_a_quiet_hour_forgets_it() {
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
        now += FORGOTTEN_AFTER + min;
        rebuilds.plan(now);
        assert!(rebuilds.falls_due(now + min));
    }

    #[test]
    fn what_can_not_wait_does_not_wait_for_what_is_planned_and_is_not_put_off() {
        let (min, max) = (Duration::from_secs(5), Duration::from_secs(3_600));
        let now = Instant::now();
        let mut rebuilds = Rebuilds::new(min, max, now);
        for _time in 0..20 {
            rebuilds.due = None;
            rebuilds.plan(now);
        }
        assert!(!rebuilds.falls_due(now + max - min), "it has grown");
        rebuilds.hasten(now);
        // As long as it is so, it is said again.
        rebuilds.hasten(now + min / 2);
        assert!(!rebuilds.falls_due(now + min - Duration::from_millis(1)));
        assert!(rebuilds.falls_due(now + min));
        // And when nothing was planned.
        rebuilds.hasten(now);
        assert!(rebuilds.falls_due(now + min));
    }
}
