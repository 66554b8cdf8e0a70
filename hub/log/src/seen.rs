//! The ids of events that were appended by hand, so that a repeat is known as one.

use std::sync::Arc;

use imbl::{HashSet, Vector};

/// An id is remembered for at least this long, …
const REMEMBERED_MS: u64 = 10 * 60 * 1000;
/// … and until at least this many others came after it.
const REMEMBERED_EVENTS: usize = 100_000;

/// Remembers ids for at least 10 minutes *and* 100,000 events, up to a bound: at the bound the
/// oldest are forgotten early, which `hub_log_seen_forgotten_early_total` counts. Persistent, as
/// [`Truth`](super::truth::Truth) is.
#[derive(Debug, Clone)]
pub(super) struct Seen {
    ids: HashSet<Arc<str>>,
    /// When each was seen, oldest first.
    order: Vector<(u64, Arc<str>)>,
    /// The number of the next id: numbers are without a gap.
    next: u64,
    max: usize,
}

impl Seen {
    /// Remembers these as if they were seen at the beginning of time. `next` is the number of the
    /// next one.
    pub(super) fn new(max: usize, kept: Vec<Arc<str>>, next: u64) -> Self {
        let order: Vector<_> = kept.into_iter().map(|id| (0, id)).collect();
        Self {
            ids: order.iter().map(|(_, id)| Arc::clone(id)).collect(),
            order,
            next,
            max,
        }
    }

    /// Remembers the id; false if it was known. `now_ms` is monotonic.
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
        self.next += 1;
        self.ids.insert(id).is_none()
    }

    /// The number of the next id.
    pub(super) fn next(&self) -> u64 {
        self.next
    }

    /// The number of the oldest id that is remembered.
    pub(super) fn first(&self) -> u64 {
        self.next - self.order.len() as u64
    }

    /// The remembered ids from a number on, with their numbers.
    pub(super) fn since(&self, number: u64) -> impl Iterator<Item = (u64, &Arc<str>)> {
        (number.max(self.first())..self.next).filter_map(|number| {
            let index = usize::try_from(number - self.first()).ok()?;
            Some((number, &self.order.get(index)?.1))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn empty(max: usize) -> Seen {
        Seen::new(max, Vec::new(), 0)
    }

    #[test]
    fn an_id_is_known_for_ten_minutes_and_a_hundred_thousand_events() {
        let mut seen = empty(1_000_000);
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
        let mut seen = empty(3);
        for id in ["a", "b", "c", "d"] {
            assert!(seen.insert(id, 0));
        }
        assert!(seen.order.len() == 3 && seen.ids.len() == 3);
        assert!(!seen.insert("d", 0) && seen.insert("a", 0));
    }

    #[test]
    fn what_was_kept_goes_on_with_its_numbers() {
        let mut seen = Seen::new(3, vec!["a".into(), "b".into()], 7);
        assert!(!seen.insert("a", 0) && seen.insert("c", 0) && seen.insert("d", 0));
        assert_eq!((seen.first(), seen.next()), (6, 9));
        let since = |number| {
            seen.since(number)
                .map(|(n, id)| (n, &**id))
                .collect::<Vec<_>>()
        };
        assert_eq!(since(7), [(7, "c"), (8, "d")]);
        assert_eq!(since(0), [(6, "b"), (7, "c"), (8, "d")]);
        assert_eq!(since(9), []);
    }
}
