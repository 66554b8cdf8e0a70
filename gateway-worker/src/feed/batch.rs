//! The next delivery: its events, its report, and its link of the chain.

use proto::chain::{Link, Reached};
use proto::delivery::Report;
use proto::event::Event;

use super::Feed;
use super::tracked_guild::{Presence, TrackedGuild};

/// One delivery's content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    /// In order; empty for a beat.
    pub events: Vec<Event>,
    /// The worker's state.
    pub report: Report,
}

impl Feed {
    /// The next delivery. None before the claim, and none without events if the hub has the newest
    /// report and no beat is due.
    pub fn next_batch(&mut self, due: bool, now_ms: u64) -> Option<Batch> {
        if self.generation == 0 {
            return None;
        }
        self.pay_debts(now_ms);
        let events: Vec<Event> = self
            .outbox
            .batch()
            .flat_map(|group| group.events().iter().cloned())
            .collect();
        let batch = self.batch_of(events, now_ms);
        let news = !batch.events.is_empty()
            || self.acked_report.as_ref() != Some(&batch.report.gateway)
            || self.acked_resumes != resumes_of(&batch.report.link);
        (due || news).then_some(batch)
    }

    /// A delivery without events, whatever waits: the hub's answer to it depends on no event. It is
    /// for when nothing is in flight, such as after [`Feed::reject`].
    pub fn beat(&mut self, now_ms: u64) -> Option<Batch> {
        (self.generation > 0).then(|| self.batch_of(Vec::new(), now_ms))
    }

    /// Called after the outbox has put its groups in flight: the report describes the state once the
    /// hub has them.
    fn batch_of(&self, events: Vec<Event>, now_ms: u64) -> Batch {
        Batch {
            events,
            report: Report {
                link: self.link(),
                gateway: self.gateway_report(now_ms),
            },
        }
    }

    fn link(&self) -> Link {
        let to = self.checkpoint();
        let session = self.stream.session();
        // With a later checkpoint the hub has no use for it.
        let lost = Some(self.stream.lost()).filter(|lost| self.acked.session <= *lost);
        Link {
            resumes: self.stream.resumes(),
            lost: lost.unwrap_or(0),
            shard: self.setting.shard,
            generation: self.generation,
            from: self.acked,
            taken: self.taken,
            to,
            session: session
                .filter(|session| session.number == to.session)
                .cloned(),
            fingerprint: self.setting.fingerprint.clone(),
            absent: self
                .guilds
                .iter()
                .filter_map(|(guild, tracked)| match tracked.presence {
                    Presence::Present => None,
                    Presence::Absent(why) => Some((*guild, why)),
                })
                .collect(),
        }
    }

    /// The point up to which the hub has everything once it has what is in flight.
    fn checkpoint(&self) -> Reached {
        let open = |tracked: &TrackedGuild| tracked.is_replaying() || !tracked.gaps.is_empty();
        if self.guilds.values().any(open) {
            return self.acked;
        }
        let contiguous = self.stream.contiguous();
        let to = self
            .outbox
            .checkpoint(self.acked, contiguous)
            .min(contiguous)
            .max(self.acked);
        // A session that was lost is not worth a checkpoint.
        if to.session == contiguous.session {
            to
        } else {
            self.acked
        }
    }

    /// Whether the report of a batch that was not taken yet still describes the state.
    pub fn is_current(&self, batch: &Batch, now_ms: u64) -> bool {
        batch.report.gateway == self.gateway_report(now_ms)
            && batch.report.link.generation == self.generation
    }

    /// Whether the hub has everything that can be delivered now.
    pub fn is_drained(&self, now_ms: u64) -> bool {
        self.outbox.is_empty()
            && self.acked_report.as_ref() == Some(&self.gateway_report(now_ms))
            && self.acked_resumes == resumes_of(&self.link())
            && self.checkpoint() == self.acked
    }
}

/// What a link says of RESUMEs: how many had no answer, and up to which number sessions are lost.
pub(super) fn resumes_of(link: &Link) -> (u32, u64) {
    (link.resumes, link.lost)
}
