//! The chain: the claim, the parcels, and what the hub's answers to them mean.

use std::collections::{BTreeMap, BTreeSet};

use proto::GuildId;
use proto::chain::{Absence, Checkpoint, Claimed, GatewaySession, Link, Reached};
use proto::delivery::{Receipt, Report};
use proto::event::{Event, Fact};
use proto::gateway::GatewayState;
use proto::problem::Code;

use super::followed::{Followed, Presence};
use super::{Feed, report};
use crate::dispatch::Subject;
use crate::outbox::{Group, Origin, Rejected, Trouble};
use launch::mutation::{Rule, disabled};

/// One delivery's content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parcel {
    /// In order; empty for a beat.
    pub events: Vec<Event>,
    /// The worker's state.
    pub report: Report,
}

impl Feed {
    /// Takes the hub's answer to a claim. The first time it is this worker's memory; later it means
    /// that the hub's store is older than the claim before, and every guild owes a snapshot. But if
    /// the hub has heard of a later session of this shard, another worker has read on in that one:
    /// what this one knows may be older, and it begins anew.
    pub fn claim(&mut self, claimed: Claimed, now_ms: u64) {
        let first = self.generation == 0;
        self.generation = claimed.generation;
        self.taken = 0;
        self.acked = claimed
            .checkpoint
            .as_ref()
            .map_or_else(Reached::default, Checkpoint::reached);
        let marks = claimed.guilds.iter().map(|known| known.mark.reached);
        let newest = marks.chain([self.acked]).max().unwrap_or_default().session;
        // Also of other shards.
        let last_session = claimed.last_session.max(newest);
        self.stream.know(claimed.generation.saturating_sub(1));
        self.stream.know(last_session);
        if first {
            self.restore(claimed);
            return;
        }
        let own = self.stream.session().map(|session| session.number);
        if own.is_some_and(|own| own < newest) && !disabled(Rule::Overtaken) {
            self.begin_anew(claimed);
            return;
        }
        let read = self.stream.reached();
        for known in claimed.guilds {
            let Some(followed) = self.guilds.get_mut(&known.roster.guild_id) else {
                continue;
            };
            // Another worker may have told more meanwhile.
            let setting = self.setting.roster.clone();
            let told = known.mark.reached;
            let awaited = followed.presence == Presence::Absent(Absence::Awaited);
            if told.session == read.session && told > read {
                followed.restore(known, setting, Some(read));
            } else if awaited && known.mark > followed.mark() {
                followed.restore(known, setting, None);
            } else {
                followed.raise(known.mark);
            }
        }
        let own = self.stream.session();
        let theirs = claimed.checkpoint.map(|checkpoint| checkpoint.session.id);
        if own.is_some_and(|own| own.number <= last_session && Some(&own.id) != theirs.as_ref()) {
            self.stream.renumber();
        }
        self.told = None;
        self.owe_everything("store_changed", now_ms);
    }

    /// As after a first claim, but for the session: the one that is connected is of no use any more,
    /// and the other worker's is not this one's to resume while it may be reading it.
    fn begin_anew(&mut self, claimed: Claimed) {
        self.stream.forsake();
        *self = Self {
            stream: std::mem::take(&mut self.stream),
            generation: self.generation,
            acked: self.acked,
            last_ticket: self.last_ticket,
            identify_wanted: true,
            ..Self::new(self.setting.clone())
        };
        self.restore(Claimed {
            checkpoint: None,
            ..claimed
        });
    }

    fn restore(&mut self, claimed: Claimed) {
        let resumed = claimed.checkpoint.filter(|checkpoint| {
            let known = |guild: &GuildId| {
                let mut known = claimed.guilds.iter();
                known.any(|known| known.roster.guild_id == *guild)
                    || claimed.unserved.contains(guild)
            };
            checkpoint.fingerprint == self.setting.fingerprint
                // RESUME brings no GUILD_CREATE.
                && self.guilds.keys().all(known)
                // A later session was read since, so that this one was lost.
                && claimed
                    .guilds
                    .iter()
                    .all(|known| known.mark.reached.session <= checkpoint.session.number)
        });
        let behind = resumed.as_ref().map(Checkpoint::reached);
        for known in claimed.guilds {
            if let Some(followed) = self.guilds.get_mut(&known.roster.guild_id) {
                followed.restore(known, self.setting.roster.clone(), behind);
            }
        }
        if let Some(checkpoint) = resumed {
            for guild in &claimed.unserved {
                if let Some(followed) = self.guilds.get_mut(guild) {
                    (followed.unserved, followed.passed_over) = (true, true);
                }
            }
            self.gateway = (GatewayState::Resuming, Some(report::CATCHING_UP));
            self.replaying = true;
            self.stream.resume(checkpoint.session, checkpoint.sequence);
            self.stream.set_resumes(checkpoint.resumes);
        }
    }

    /// Whether another worker has overtaken this one, so that nothing is read before it identifies.
    pub fn is_overtaken(&self) -> bool {
        self.stream.is_forsaken()
    }

    /// The session to go on with, and how far it was read; none: identify.
    pub fn resume(&self) -> Option<(&GatewaySession, u64)> {
        let session = self.stream.session()?;
        let lost = session.number <= self.stream.lost();
        (!lost).then(|| (session, self.stream.reached().sequence))
    }

    /// A RESUME is sent. It counts until [`Feed::resume_answered`], also over the workers of this
    /// session: the hub remembers the count.
    pub fn resume_sent(&mut self) {
        self.stream.resume_sent();
    }

    /// Discord has resumed the session.
    pub fn resume_answered(&mut self) {
        self.stream.set_resumes(0);
    }

    /// RESUMEs of the session that were sent since RESUMED last came.
    pub fn resumes(&self) -> u32 {
        self.stream.resumes()
    }

    /// Discord does not resume the session: neither this worker nor, once the hub knows it, the
    /// next one tries again. What was read of it stays until the next session begins.
    pub fn lose_session(&mut self) {
        self.stream.lose();
        self.gateway = (GatewayState::Rebuilding, Some(report::SESSION_LOST));
    }

    /// The shard, and the generation of its claim; 0 before it.
    pub fn claimed(&self) -> ((u32, u32), u64) {
        (self.setting.shard, self.generation)
    }

    /// The guilds that are followed on this shard.
    pub fn followed(&self) -> impl Iterator<Item = GuildId> + '_ {
        self.guilds.keys().copied()
    }

    /// What goes to the hub next; nothing before the claim, nor if there are no events, the hub
    /// knows the state and none is due all the same.
    pub fn parcel(&mut self, due: bool, now_ms: u64) -> Option<Parcel> {
        if self.generation == 0 {
            return None;
        }
        self.settle(now_ms);
        let events: Vec<Event> = self
            .outbox
            .batch()
            .flat_map(|group| group.events().iter().cloned())
            .collect();
        let parcel = self.parcel_of(events, now_ms);
        let news = !parcel.events.is_empty()
            || self.told.as_ref() != Some(&parcel.report.gateway)
            || self.told_resumes != resumes_of(&parcel.report.link);
        (due || news).then_some(parcel)
    }

    /// A delivery without events, whatever waits: what the hub makes of it does not depend on any.
    /// It is for when nothing is in flight, such as after [`Feed::reject`].
    pub fn beat(&mut self, now_ms: u64) -> Option<Parcel> {
        (self.generation > 0).then(|| self.parcel_of(Vec::new(), now_ms))
    }

    /// After the batch is taken: the report says what is so once the hub has it.
    fn parcel_of(&self, events: Vec<Event>, now_ms: u64) -> Parcel {
        Parcel {
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
                .filter_map(|(guild, followed)| match followed.presence {
                    Presence::Present => None,
                    Presence::Absent(why) => Some((*guild, why)),
                })
                .collect(),
        }
    }

    /// How far the hub has it all once it has what is in flight.
    fn checkpoint(&self) -> Reached {
        let open = |followed: &Followed| followed.is_silent() || !followed.gaps.is_empty();
        if self.guilds.values().any(open) {
            return self.acked;
        }
        let settled = self.stream.settled();
        let to = self
            .outbox
            .checkpoint(self.acked, settled)
            .min(settled)
            .max(self.acked);
        // A session that was lost is not worth a checkpoint.
        if to.session == settled.session {
            to
        } else {
            self.acked
        }
    }

    /// Whether what a parcel, not taken yet, says of the state is still so.
    pub fn is_current(&self, parcel: &Parcel, now_ms: u64) -> bool {
        parcel.report.gateway == self.gateway_report(now_ms)
            && parcel.report.link.generation == self.generation
    }

    /// The hub has taken a parcel.
    pub fn delivered(&mut self, parcel: &Parcel, receipt: &Receipt, now_ms: u64) {
        let groups = self.outbox.delivered();
        self.told = Some(parcel.report.gateway.clone());
        self.told_resumes = resumes_of(&parcel.report.link);
        let refused: BTreeMap<&str, Code> = receipt
            .refused
            .iter()
            .map(|event| (event.id.as_str(), event.code))
            .collect();
        // The hub does not move its checkpoint past what it can not read, either. What it does not
        // want it does not need.
        if refused.values().all(|why| *why == Code::Forbidden) {
            self.acked = self.acked.max(parcel.report.link.to);
        }
        // It counts a delivery of which it can read anything, wanted or not.
        let unread = refused.values().filter(|why| **why != Code::Forbidden);
        self.taken += u64::from(unread.count() < parcel.events.len());
        for group in groups {
            let ids = group.events().iter().map(|event| event.id.as_str());
            let why = ids.filter_map(|id| refused.get(id).copied()).next();
            self.note_refusal(&group, why, now_ms);
        }
        for guild in &receipt.wanted {
            let Some(followed) = self.guilds.get_mut(guild) else {
                continue;
            };
            followed.unserved = false;
            if std::mem::take(&mut followed.passed_over) {
                // This session tells it no more.
                self.open_gap(*guild, Subject::Guild);
            } else if followed.roster.is_known() && self.outbox.debt(*guild).is_none() {
                self.outbox.owe(*guild, "not_told", followed.mark());
            }
        }
        self.settle(now_ms);
    }

    fn note_refusal(&mut self, group: &Group, why: Option<Code>, now_ms: u64) {
        let guild = group.guild();
        let Some(followed) = self.guilds.get_mut(&guild) else {
            return;
        };
        let snapshot = group.origin() == Origin::Snapshot;
        match why {
            None if snapshot => followed.refused = false,
            None => {}
            // This hub does not serve the guild.
            Some(Code::Forbidden) => {
                followed.unserved = true;
                self.outbox.forgive(guild);
            }
            Some(_) if snapshot => {
                self.outbox.owe(guild, "refused", followed.mark());
                self.outbox.fail(guild, Trouble::Refused, now_ms);
            }
            Some(_) => {
                followed.refused = true;
                self.outbox.owe(guild, "refused", followed.mark());
            }
        }
    }

    /// The hub lacks what the parcel builds on: it has the stream up to here, and has taken so many
    /// parcels with events. Every guild owes a snapshot.
    pub fn rewind(&mut self, reached: Reached, taken: u64, now_ms: u64) {
        (self.acked, self.taken) = (reached, taken);
        self.owe_everything("store_changed", now_ms);
    }

    /// The hub calls what is in flight malformed, or too large: it is halved, until the guilty
    /// group stands alone and is set aside.
    pub fn reject(&mut self, trouble: Trouble, now_ms: u64) -> Rejected {
        let rejected = self.outbox.reject(trouble, now_ms);
        if let Rejected::SetAside(group) = &rejected
            && let Some(followed) = self.guilds.get(&group.guild())
        {
            self.outbox
                .owe(group.guild(), "delivery_rejected", followed.mark());
        }
        self.settle(now_ms);
        rejected
    }

    /// Whether everything was told that can be told.
    pub fn is_drained(&self, now_ms: u64) -> bool {
        self.outbox.is_empty()
            && self.told.as_ref() == Some(&self.gateway_report(now_ms))
            && self.told_resumes == resumes_of(&self.link())
            && self.checkpoint() == self.acked
    }

    /// Guilds whose snapshot is larger than any delivery may be.
    pub fn too_large(&self) -> BTreeSet<GuildId> {
        self.outbox
            .debts()
            .filter(|(_, debt)| debt.trouble == Some(Trouble::TooLarge))
            .map(|(guild, _)| guild)
            .collect()
    }

    /// Guilds that this hub said it does not serve. A claim, `wanted`, or a changed store opens the
    /// question again.
    pub fn not_served(&self) -> BTreeSet<GuildId> {
        let unserved = self.guilds.iter().filter(|(_, one)| one.unserved);
        unserved.map(|(guild, _)| *guild).collect()
    }

    /// Nothing that waits, or is in flight, is worth sending any more.
    fn owe_everything(&mut self, reason: &'static str, now_ms: u64) {
        self.outbox.give_up();
        for (guild, followed) in &mut self.guilds {
            // Another store may be another hub's, or hold what this one served once.
            followed.unserved = false;
            if followed.roster.is_known() {
                self.outbox.owe(*guild, reason, followed.mark());
            }
        }
        self.settle(now_ms);
    }

    /// Pays what debts there is room for; but not in the middle of the replay with which this worker
    /// begins: a snapshot would tell of the past, and the rest of what did not fit the outbox is
    /// still to come, which would cost another one.
    pub(super) fn settle(&mut self, now_ms: u64) {
        if self.replaying {
            return;
        }
        let read = self.stream.reached();
        for (guild, reason) in self.outbox.payable(now_ms) {
            if !self.outbox.has_room() || read == Reached::default() {
                return;
            }
            let Some(followed) = self
                .guilds
                .get_mut(&guild)
                .filter(|followed| followed.roster.is_known())
            else {
                continue;
            };
            let state = Fact::Snapshot(followed.told().snapshot(reason));
            let event = followed.event(state, read, now_ms);
            if let Some(group) = Group::new(vec![event], read, Origin::Snapshot) {
                self.outbox.pay(group, now_ms);
            }
        }
    }
}

/// What a link says of RESUMEs: how many had no answer, and which sessions are lost.
fn resumes_of(link: &Link) -> (u32, u64) {
    (link.resumes, link.lost)
}
