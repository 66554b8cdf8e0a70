//! What one shard knows and has still to deliver: its guilds' rosters, its outbox, its state.
//!
//! Pure: time and tickets are arguments, and a clone is another worker with the same past. The
//! connection puts dispatches in, the delivery task takes batches out, and the REST questions put
//! answers in. They share it through the lock of [`SharedFeed`]. Snapshots have one way only: a guild
//! owes one, and it is queued when the outbox has room.
//!
//! | in | out |
//! |---|---|
//! | [`Feed::claim`]: the hub's memory, first; and again when the hub forgot the claim | [`Feed::resume`]: the session to resume |
//! | [`Feed::receive`], [`Feed::on_unreadable`], [`Feed::set_gateway`], [`Feed::resume_sent`], [`Feed::lose_session`]: the connection | [`Feed::wants_identify`] |
//! | [`Feed::answer`]: Discord's REST | [`Feed::question`] |
//! | [`Feed::delivered`], [`Feed::rewind`], [`Feed::reject`]: the hub's answer to a batch | [`Feed::next_batch`]: the next delivery, the same events until they are answered |
//!
//! # The chain
//! The hub's acknowledgement is the checkpoint: `acked` is the point up to which the hub has
//! everything, and each batch may move it to `to`. It does not pass a dispatch whose events that
//! batch does not complete: an unpaid debt, an open question, an answer or a snapshot that waits
//! behind the batch, or a guild that still replays.
//!
//! # Taking over
//! A restored guild contains everything up to its mark. Dispatches up to there are replayed without
//! events. When the replay has passed the mark, the difference between the hub's roster and the
//! replayed one is published as one group. If the session cannot be resumed, GUILD_CREATE gives that
//! difference instead. No debt is paid before that replay is over, however often the connection
//! fails until then.
//!
//! When the hub's store has lost the claim, another worker may have overtaken this one unnoticed. The
//! next claim then names a later session, and this worker starts as a new one and identifies.

mod batch;
mod claim;
mod gaps;
mod receipt;
mod report;
#[cfg(feature = "program")]
mod shared_feed;
mod stream;
mod tally;
mod tracked_guild;

use std::collections::BTreeMap;

use proto::GuildId;
use proto::chain::{Absence, Reached};
use proto::delivery::GatewayReport;
use proto::event::{Fact, Roster as RosterState};
use proto::gateway::GatewayState;

pub use batch::Batch;
pub use gaps::{ChannelFinding, Finding, Question};
pub use report::FeedHealth;
#[cfg(feature = "program")]
pub use shared_feed::SharedFeed;
use stream::{Arrival, Stream};
pub use tally::Tally;
use tracked_guild::{Presence, Service, TrackedGuild};

use crate::dispatch::{Dispatch, Read};
use crate::outbox::{Group, Limits, Origin, Outbox, Pushed};
use crate::roster::{Change, RosterSetting};

/// How a feed is configured.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct FeedSetting {
    /// The shard and the number of shards.
    pub shard: (u32, u32),
    /// The guilds that are followed; those of other shards are left out.
    pub guilds: Vec<GuildId>,
    /// For every roster.
    pub roster: RosterSetting,
    /// For the outbox.
    pub outbox: Limits,
    /// How many questions of one guild may be open. With more, the shard identifies to read the guild again.
    pub gaps_max: usize,
    /// The age, in ms, up to which an event may wait behind a delivery. With an older one, the report
    /// says that the hub is behind.
    pub behind_max_ms: u64,
    /// What the rosters depend on besides Discord's dispatches. A checkpoint with another fingerprint
    /// is not resumed.
    pub fingerprint: String,
}

/// One shard's knowledge, and the part of it that the hub does not have yet.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Feed {
    setting: FeedSetting,
    guilds: BTreeMap<GuildId, TrackedGuild>,
    outbox: Outbox,
    stream: Stream,
    /// Of the claim; 0 before it.
    generation: u64,
    /// The point up to which the hub has everything.
    acked: Reached,
    /// How many batches with events of this generation the hub has taken.
    taken: u64,
    gateway: (GatewayState, Option<&'static str>),
    /// The newest report of the gateway that the hub has taken.
    acked_report: Option<GatewayReport>,
    /// What the newest link that the hub has taken says of RESUMEs, see [`batch::resumes_of`].
    acked_resumes: (u32, u64),
    last_ticket: u64,
    identify_wanted: bool,
    /// This worker resumed another one's session, and that replay is not over, however often the
    /// connection failed meanwhile.
    replaying: bool,
}

impl Feed {
    /// A feed that knows nothing yet. It has no batch before its claim.
    pub fn new(setting: FeedSetting) -> Self {
        let guilds = setting
            .guilds
            .iter()
            .filter(|guild| guild.shard(setting.shard.1) == setting.shard.0)
            .map(|guild| (*guild, TrackedGuild::new(*guild, setting.roster.clone())))
            .collect();
        Self {
            outbox: Outbox::new(setting.outbox),
            setting,
            guilds,
            stream: Stream::default(),
            generation: 0,
            acked: Reached::default(),
            taken: 0,
            gateway: (GatewayState::Rebuilding, Some("starting")),
            acked_report: None,
            acked_resumes: (0, 0),
            last_ticket: 0,
            identify_wanted: false,
            replaying: false,
        }
    }

    /// Applies a dispatch: its gateway session and sequence, its content, and the time of its arrival.
    pub fn receive(&mut self, session: &str, sequence: u64, read: Read, now_ms: u64) -> Tally {
        let mut tally = Tally::default();
        let before = self.stream.reached();
        let arrival = self.stream.arrive(session, sequence);
        if arrival == Arrival::Repeat {
            tally.repeated = true;
            return tally;
        }
        self.finish_replays(&read, before, now_ms, &mut tally);
        let late = arrival == Arrival::Late;
        match read {
            Read::Ignored => {}
            Read::Known(Dispatch::Ready(start)) => {
                self.stream.set_resume_url(start.resume_url);
                self.begin_session(&start.guilds, now_ms, &mut tally);
            }
            Read::Known(Dispatch::Resumed) => self.gateway = (GatewayState::Live, None),
            Read::Known(dispatch) => {
                let Some(guild) = dispatch
                    .guild_id()
                    .filter(|id| self.guilds.contains_key(id))
                else {
                    tally.foreign = true;
                    return tally;
                };
                if late {
                    // A newer dispatch, perhaps about the same subject, was already applied.
                    tally.unreadable = true;
                    self.open_gap(guild, dispatch.subject());
                } else {
                    self.apply(guild, dispatch, now_ms, &mut tally);
                }
            }
            Read::Unreadable {
                guild,
                subject,
                redaction,
            } => {
                if guild.is_some_and(|guild| !self.guilds.contains_key(&guild)) {
                    tally.foreign = true;
                    return tally;
                }
                tally.unreadable = true;
                self.redact(guild, redaction, now_ms, &mut tally);
                self.reopen(guild, subject);
            }
        }
        self.pay_debts(now_ms);
        tally
    }

    /// The connection's state has changed.
    pub fn set_gateway(&mut self, state: GatewayState, reason: &'static str) {
        self.gateway = (state, Some(reason));
    }

    /// The connection works again: a state that was in doubt for this reason becomes live.
    pub fn end_doubt(&mut self, reason: &'static str) {
        if self.gateway == (GatewayState::Resuming, Some(reason)) {
            self.gateway = (GatewayState::Live, None);
        }
    }

    /// Whether the gateway session is live.
    pub fn is_live(&self) -> bool {
        self.gateway.0 == GatewayState::Live
    }

    /// A guild's roster as a snapshot contains it; none if its whole state never came.
    pub fn roster(&self, guild: GuildId) -> Option<RosterState> {
        let tracked = self.guilds.get(&guild)?;
        tracked
            .roster
            .is_known()
            .then(|| tracked.roster.snapshot("asked"))
    }

    /// Finishes the replay of the guilds whose mark this dispatch passes. A new session aborts it.
    fn finish_replays(&mut self, read: &Read, before: Reached, now_ms: u64, tally: &mut Tally) {
        let reached = self.stream.reached();
        // The READY of a new session may be unreadable.
        let cut_off =
            matches!(read, Read::Known(Dispatch::Ready(_))) || reached.session != before.session;
        if cut_off || matches!(read, Read::Known(Dispatch::Resumed)) {
            self.replaying = false;
        }
        for guild in self.guild_ids().collect::<Vec<_>>() {
            let Some(tracked) = self.guilds.get_mut(&guild).filter(|one| one.is_replaying()) else {
                continue;
            };
            if cut_off {
                tracked.abort_replay();
            } else if reached > tracked.mark().reached {
                // At the latest this connection's RESUMED passes the mark: it comes last. The RESUMED
                // of an earlier connection may stand in the middle of the replay.
                let facts = tracked.finish_replay();
                self.queue_facts(guild, facts, before, Origin::Answer, now_ms, tally);
            }
        }
    }

    fn begin_session(&mut self, listed: &[GuildId], now_ms: u64, tally: &mut Tally) {
        self.gateway = (GatewayState::Live, None);
        self.identify_wanted = false;
        let ids: Vec<GuildId> = self.guilds.keys().copied().collect();
        for id in ids {
            if listed.contains(&id) {
                if let Some(tracked) = self.guilds.get_mut(&id) {
                    tracked.presence = Presence::Absent(Absence::Awaited);
                    tracked.end_skip();
                }
            } else {
                self.apply(id, Dispatch::GuildRemoved(id), now_ms, tally);
            }
        }
    }

    fn apply(&mut self, guild: GuildId, dispatch: Dispatch, now_ms: u64, tally: &mut Tally) {
        let Some(tracked) = self.guilds.get_mut(&guild) else {
            return;
        };
        let mut asked = false;
        let subject = dispatch.subject();
        match &dispatch {
            Dispatch::GuildCreated(_) => {
                tracked.presence = Presence::Present;
                tracked.end_skip();
                tracked.gaps.clear();
            }
            Dispatch::GuildRemoved(_) => {
                tracked.presence = Presence::Absent(Absence::Removed);
                tracked.end_skip();
                tracked.gaps.clear();
            }
            Dispatch::GuildUnavailable(_) => {
                tracked.presence = Presence::Absent(Absence::Outage);
                // The GUILD_CREATE after the outage contains all of it.
                tracked.gaps.clear();
            }
            Dispatch::EveryoneChanged(..) | Dispatch::Ready(_) | Dispatch::Resumed => {}
            Dispatch::ChannelCreated(..)
            | Dispatch::ChannelUpdated(..)
            | Dispatch::ChannelDeleted(..)
            | Dispatch::VoiceChanged(..) => {
                // It is newer than any answer to the open question.
                asked = tracked.gaps.remove(&dispatch.subject()).is_some();
            }
        }
        // An update may come after the deletion, so it does not answer whether the channel exists.
        let unanswered = asked
            && matches!(
                dispatch,
                Dispatch::ChannelCreated(..) | Dispatch::ChannelUpdated(..)
            );
        let mut change = tracked.roster.apply(dispatch);
        if unanswered {
            change.gaps.push(subject);
        }
        tally.unreadable |= !change.gaps.is_empty();
        self.publish(guild, change, Origin::Dispatch, now_ms, tally);
    }

    fn publish(
        &mut self,
        guild: GuildId,
        change: Change,
        origin: Origin,
        now_ms: u64,
        tally: &mut Tally,
    ) {
        let read = self.stream.reached();
        self.queue_facts(guild, change.facts, read, origin, now_ms, tally);
        if change.began
            && let Some(tracked) = self.guilds.get(&guild)
            && tracked.service == Service::Served
        {
            let reason = if tracked.presence == Presence::Absent(Absence::Removed) {
                "guild_removed"
            } else {
                "worker_started"
            };
            self.outbox.owe(guild, reason, tracked.mark());
        }
        for subject in change.gaps {
            self.open_gap(guild, subject);
        }
    }

    /// Queues facts of one guild as one group, unless the hub has them already.
    fn queue_facts(
        &mut self,
        guild: GuildId,
        facts: Vec<Fact>,
        read: Reached,
        origin: Origin,
        now_ms: u64,
        tally: &mut Tally,
    ) {
        let Some(tracked) = self.guilds.get_mut(&guild) else {
            return;
        };
        let count = facts.len() as u64;
        if tracked.is_replaying() {
            tally.known += count;
            return;
        }
        if tracked.service == Service::NotServed {
            tally.unserved += count;
            return;
        }
        let events = facts
            .into_iter()
            .map(|fact| tracked.event(fact, read, now_ms))
            .collect();
        let Some(group) = Group::new(events, read, origin) else {
            return;
        };
        match self.outbox.push(group) {
            Pushed::Queued => tally.queued += count,
            Pushed::Covered => tally.covered += count,
            Pushed::Full => {
                tally.covered += count;
                tally.full += 1;
            }
        }
    }
}

#[cfg(test)]
mod tests;
