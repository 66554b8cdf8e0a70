//! How long it took until every subscriber had a transition.

use std::collections::BTreeMap;

use super::story::Story;
use super::{Record, Terms, What};

/// The longest wait for each transition, over subscribers.
#[derive(Debug, Default)]
pub(super) struct Lags(BTreeMap<u64, u64>);

impl Lags {
    /// Notes when one subscriber had each moment of its story (in ms; none: never received by itself).
    /// The wait counts from the transition; from the end of a fault that touched the wait; from the
    /// opening of the subscriber's connection, if it was away.
    pub(super) fn note(
        &mut self,
        story: &Story,
        had_at_ms: &[Option<u64>],
        record: &Record,
        terms: &Terms,
    ) {
        let opened: Vec<u64> = record
            .received
            .iter()
            .filter(|received| matches!(received.what, What::Opened { .. }))
            .map(|received| received.at_ms)
            .collect();
        for (moment, had_at_ms) in story.moments.iter().zip(had_at_ms).skip(1) {
            let Some(had_at_ms) = *had_at_ms else {
                continue;
            };
            let last_opened = opened[..opened.partition_point(|at| *at <= had_at_ms)].last();
            let mut from = moment.at_ms.max(last_opened.copied().unwrap_or(0));
            for (began, ended) in &terms.faults {
                if *began <= had_at_ms && from <= *ended {
                    from = *ended;
                }
            }
            let lag = had_at_ms.saturating_sub(from);
            let longest = self.0.entry(moment.seq).or_default();
            *longest = lag.max(*longest);
        }
    }

    /// The longest wait for each transition.
    pub(super) fn worst(self) -> Vec<u64> {
        self.0.into_values().collect()
    }
}
