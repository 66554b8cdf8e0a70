//! Interactions that were seen, so that a repeated one has the same answer and no second effect.
//!
//! Pure. Only what is truly signed is remembered, so only Discord decides what stands in here.

use std::collections::{HashMap, VecDeque};

/// How long an interaction is remembered, in milliseconds: its token lives as long, and no
/// signature is believed that long.
const REMEMBERED_MS: u64 = 15 * 60 * 1000;

/// Remembers something for each interaction, up to a bound: at the bound the oldest is forgotten
/// early, which `hub_discord_interactions_forgotten_early_total` counts.
pub(super) struct Seen<T> {
    max: usize,
    by_id: HashMap<u64, T>,
    order: VecDeque<(u64, u64)>,
}

impl<T: Clone> Seen<T> {
    /// Remembers `max` interactions at most.
    pub(super) fn new(max: usize) -> Self {
        Self {
            max,
            by_id: HashMap::new(),
            order: VecDeque::new(),
        }
    }

    /// What is remembered of this interaction, or else what `first` makes of it. `now_ms` is
    /// monotonic, from any zero.
    pub(super) fn get_or_insert(&mut self, id: u64, now_ms: u64, first: impl FnOnce() -> T) -> T {
        if let Some(known) = self.by_id.get(&id) {
            return known.clone();
        }
        while let Some((at, oldest)) = self.order.front().copied() {
            let old = now_ms.saturating_sub(at) > REMEMBERED_MS;
            if !old && self.order.len() < self.max {
                break;
            }
            if !old {
                metrics::counter!("hub_discord_interactions_forgotten_early_total").increment(1);
            }
            self.order.pop_front();
            self.by_id.remove(&oldest);
        }
        let value = first();
        self.order.push_back((now_ms, id));
        self.by_id.insert(id, value.clone());
        value
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repeat_gets_what_the_first_got_for_fifteen_minutes() {
        let mut seen = Seen::new(10);
        assert_eq!(seen.get_or_insert(1, 0, || "first"), "first");
        assert_eq!(seen.get_or_insert(1, REMEMBERED_MS, || "second"), "first");
        assert_eq!(
            seen.get_or_insert(2, REMEMBERED_MS + 1, || "other"),
            "other"
        );
        assert_eq!(
            seen.get_or_insert(1, REMEMBERED_MS + 1, || "second"),
            "second"
        );
    }

    #[test]
    fn the_bound_holds_and_forgets_the_oldest() {
        let mut seen = Seen::new(2);
        for id in 1..=3 {
            seen.get_or_insert(id, 0, || id);
        }
        assert!(seen.by_id.len() == 2 && seen.order.len() == 2);
        assert_eq!(seen.get_or_insert(3, 0, || 0), 3);
        assert_eq!(seen.get_or_insert(1, 0, || 0), 0);
    }
}
