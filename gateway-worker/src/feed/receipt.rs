//! What the hub's answers to a batch mean, and the debts that follow from them.

use std::collections::{BTreeMap, BTreeSet};

use proto::GuildId;
use proto::chain::Reached;
use proto::delivery::Receipt;
use proto::event::Fact;
use proto::problem::Code;

use super::Feed;
use super::batch::{Batch, resumes_of};
use super::tracked_guild::Service;
use crate::dispatch::Subject;
use crate::outbox::{FailureReason, Group, Origin, Rejected};

impl Feed {
    /// The hub has taken a batch.
    pub fn delivered(&mut self, batch: &Batch, receipt: &Receipt, now_ms: u64) {
        let groups = self.outbox.delivered();
        self.acked_report = Some(batch.report.gateway.clone());
        self.acked_resumes = resumes_of(&batch.report.link);
        let refused: BTreeMap<&str, Code> = receipt
            .refused
            .iter()
            .map(|event| (event.id.as_str(), event.code))
            .collect();
        // The hub does not move its checkpoint past an event that it cannot read. Events of a guild
        // that it does not serve hold nothing back.
        if refused.values().all(|why| *why == Code::Forbidden) {
            self.acked = self.acked.max(batch.report.link.to);
        }
        // The hub counts a delivery of which it can read anything, served or not.
        let unread = refused.values().filter(|why| **why != Code::Forbidden);
        self.taken += u64::from(unread.count() < batch.events.len());
        for group in groups {
            let ids = group.events().iter().map(|event| event.id.as_str());
            if let Some(why) = ids.filter_map(|id| refused.get(id).copied()).next() {
                self.refused(&group, why, now_ms);
            }
        }
        for guild in &receipt.wanted {
            let Some(tracked) = self.guilds.get_mut(guild) else {
                continue;
            };
            tracked.service = Service::Served;
            if tracked.end_skip() {
                // This session does not send its state any more.
                self.open_gap(*guild, Subject::Guild);
            } else if tracked.roster.is_known() && self.outbox.debt(*guild).is_none() {
                self.outbox.owe(*guild, "not_told", tracked.mark());
            }
        }
        self.pay_debts(now_ms);
    }

    fn refused(&mut self, group: &Group, why: Code, now_ms: u64) {
        let guild = group.guild();
        let Some(tracked) = self.guilds.get_mut(&guild) else {
            return;
        };
        if why == Code::Forbidden {
            // This hub does not serve the guild.
            tracked.service = Service::NotServed;
            self.outbox.forgive(guild);
            return;
        }
        self.outbox.owe(guild, "refused", tracked.mark());
        if group.origin() == Origin::Snapshot {
            self.outbox.fail(guild, FailureReason::Refused, now_ms);
        }
    }

    /// The hub lacks the events that the batch builds on. It has the stream up to `reached`, and has
    /// taken so many batches with events. Every guild owes a snapshot.
    pub fn rewind(&mut self, reached: Reached, taken: u64, now_ms: u64) {
        (self.acked, self.taken) = (reached, taken);
        self.owe_everything("store_changed", now_ms);
    }

    /// The hub calls what is in flight malformed, or too large. The batch is halved until the refused
    /// group stands alone; that group is set aside.
    pub fn reject(&mut self, failure: FailureReason, now_ms: u64) -> Rejected {
        let rejected = self.outbox.reject(failure, now_ms);
        if let Rejected::SetAside(group) = &rejected
            && let Some(tracked) = self.guilds.get(&group.guild())
        {
            self.outbox
                .owe(group.guild(), "delivery_rejected", tracked.mark());
        }
        self.pay_debts(now_ms);
        rejected
    }

    /// Guilds whose snapshot is larger than any delivery may be.
    pub fn too_large(&self) -> BTreeSet<GuildId> {
        self.outbox
            .debts()
            .filter(|(_, debt)| debt.failure == Some(FailureReason::TooLarge))
            .map(|(guild, _)| guild)
            .collect()
    }

    /// Guilds that this hub does not serve. A claim, `wanted`, or a changed store may change that.
    pub fn not_served(&self) -> BTreeSet<GuildId> {
        let not_served = self.guilds.iter();
        let not_served = not_served.filter(|(_, one)| one.service == Service::NotServed);
        not_served.map(|(guild, _)| *guild).collect()
    }

    /// Drops what waits and what is in flight: every guild owes a snapshot instead.
    pub(super) fn owe_everything(&mut self, reason: &'static str, now_ms: u64) {
        self.outbox.give_up();
        for (guild, tracked) in &mut self.guilds {
            // The new store may be another hub's, or contain guilds that this one once served.
            tracked.service = Service::Served;
            if tracked.roster.is_known() {
                self.outbox.owe(*guild, reason, tracked.mark());
            }
        }
        self.pay_debts(now_ms);
    }

    /// Pays the debts for which the outbox has room, but none during the replay with which this
    /// worker begins. A snapshot would show the past then, and later dispatches of the replay may
    /// overflow the outbox again, which would cost another snapshot.
    pub(super) fn pay_debts(&mut self, now_ms: u64) {
        if self.replaying {
            return;
        }
        let read = self.stream.reached();
        for (guild, reason) in self.outbox.payable(now_ms) {
            if !self.outbox.has_room() || read == Reached::default() {
                return;
            }
            let Some(tracked) = self
                .guilds
                .get_mut(&guild)
                .filter(|tracked| tracked.roster.is_known())
            else {
                continue;
            };
            let state = Fact::Snapshot(tracked.published_roster().snapshot(reason));
            let event = tracked.event(state, read, now_ms);
            if let Some(group) = Group::new(vec![event], read, Origin::Snapshot) {
                self.outbox.pay(group, now_ms);
            }
        }
    }
}
