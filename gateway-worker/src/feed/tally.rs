//! What a dispatch or an answer led to, and its counters.

/// The result of one dispatch or answer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// Events that were queued.
    pub queued: u64,
    /// Events that a later snapshot will contain.
    pub covered: u64,
    /// Events of a replay that the hub already has.
    pub known: u64,
    /// Events of a guild that the hub does not serve.
    pub unserved: u64,
    /// Times that the outbox was full.
    pub full: u64,
    /// The dispatch was about a guild that is not followed.
    pub foreign: bool,
    /// It was a repeat.
    pub repeated: bool,
    /// It, or a part of it, could not be read and is asked for over REST.
    pub unreadable: bool,
}

impl Tally {
    /// Adds it to the counters.
    #[cfg(feature = "program")]
    pub(crate) fn record(self) {
        metrics::counter!("worker_events_total", "fate" => "queued").increment(self.queued);
        metrics::counter!("worker_events_total", "fate" => "covered_by_snapshot")
            .increment(self.covered);
        metrics::counter!("worker_events_total", "fate" => "known").increment(self.known);
        metrics::counter!("worker_events_total", "fate" => "not_served").increment(self.unserved);
        metrics::counter!("worker_outbox_full_total").increment(self.full);
        metrics::counter!("worker_dispatches_foreign_total").increment(u64::from(self.foreign));
        metrics::counter!("worker_dispatches_repeated_total").increment(u64::from(self.repeated));
    }
}
