//! The ids of events that were appended, so that a repeat is known as one.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;

/// An id is remembered for at least this long, …
const REMEMBERED_MS: u64 = 10 * 60 * 1000;
/// … and until at least this many others came after it.
const REMEMBERED_EVENTS: usize = 100_000;

/// Remembers ids for at least 10 minutes *and* 100,000 events, up to a bound: at the bound the
/// oldest are forgotten early, which `hub_log_seen_forgotten_early_total` counts.
pub(super) struct Seen {
    ids: HashSet<Arc<str>>,
    order: VecDeque<(u64, Arc<str>)>,
    max: usize,
}

impl Seen {
    pub(super) fn new(max: usize) -> Self {
        Self {
            ids: HashSet::new(),
            order: VecDeque::new(),
            max,
        }
    }

    /// Remembers the id; false if it was known.
    pub(super) fn insert(&mut self, id: &str, now_ms: u64) -> bool {
        if self.ids.contains(id) {
            return false;
        }
        while let Some((at, _)) = self.order.front() {
            let old =
                now_ms.saturating_sub(*at) > REMEMBERED_MS && self.order.len() > REMEMBERED_EVENTS;
            let full = self.order.len() >= self.max;
            if !old && !full {
                break;
            }
            if !old {
                metrics::counter!("hub_log_seen_forgotten_early_total").increment(1);
            }
            if let Some((_, id)) = self.order.pop_front() {
                self.ids.remove(&id);
            }
        }
        let id: Arc<str> = id.into();
        self.order.push_back((now_ms, Arc::clone(&id)));
        self.ids.insert(id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_known_for_ten_minutes_and_a_hundred_thousand_events() {
        let mut seen = Seen::new(1_000_000);
        assert!(seen.insert("first", 0) && !seen.insert("first", 0));
        assert!(seen.insert("much later", 2 * REMEMBERED_MS));
        assert!(
            !seen.insert("first", 2 * REMEMBERED_MS),
            "few came after it"
        );
        for n in 0..REMEMBERED_EVENTS {
            seen.insert(&n.to_string(), 2 * REMEMBERED_MS);
        }
        assert!(
            seen.insert("first", 2 * REMEMBERED_MS),
            "old, and many came after it"
        );
        assert!(!seen.insert("much later", 3 * REMEMBERED_MS));
    }

    #[test]
    fn the_bound_holds_and_forgets_the_oldest() {
        let mut seen = Seen::new(3);
        for id in ["a", "b", "c", "d"] {
            assert!(seen.insert(id, 0));
        }
        assert!(seen.order.len() == 3 && seen.ids.len() == 3);
        assert!(!seen.insert("d", 0) && seen.insert("a", 0));
    }
}
