//! What one shard knows and has still to tell: its guilds' rosters, its outbox, its state.
//!
//! Pure: time and tickets come from outside, and a clone is another worker of the same past. The
//! connection puts dispatches in, the delivery takes parcels out, and whoever asks over REST puts
//! the answers in; [`Desk`] is the lock around it that they share. Snapshots have one way only: a
//! guild owes one, and it is written when the outbox has room.
//!
//! | in | out |
//! |---|---|
//! | [`Feed::claim`]: the hub's memory, first; and again when the hub forgot the claim | [`Feed::resume`]: the session to go on with |
//! | [`Feed::read`], [`Feed::lose`], [`Feed::set_gateway`], [`Feed::resume_sent`], [`Feed::lose_session`]: the connection | [`Feed::wants_identify`] |
//! | [`Feed::answer`]: Discord's REST | [`Feed::question`] |
//! | [`Feed::delivered`], [`Feed::rewind`], [`Feed::reject`]: the hub's answer to a parcel | [`Feed::parcel`]: the next delivery, the same events until they are answered |
//!
//! # The chain
//! The hub's acknowledgement is the checkpoint: `acked` is how far the hub has it all, and with each
//! parcel `to` may move it. It does not move past a dispatch whose events are not all delivered by
//! that parcel: not past an unpaid debt, an open question, an answer or a snapshot that waits behind,
//! nor while a replay is silent.
//!
//! # Taking over
//! A restored guild contains everything up to its mark. Dispatches up to there are replayed silently;
//! when the replay has passed the mark, the difference between the roster as the hub has it and the
//! replayed one is told as one group. With a session that can not be resumed, GUILD_CREATE tells
//! the difference instead. No debt is paid before that replay is over,
//! however often the connection fails until then.
//!
//! A worker can be overtaken without hearing of it, when the hub's store has lost its claim: it finds
//! a later session than its own at its next claim. Then it is a new worker, and identifies.

mod chain;
mod desk;
mod followed;
mod gaps;
mod report;
mod stream;

use std::collections::BTreeMap;

use proto::GuildId;
use proto::chain::{Absence, Reached};
use proto::delivery::GatewayReport;
use proto::event::{Fact, Roster as RosterState};
use proto::gateway::GatewayState;

pub use chain::Parcel;
pub use desk::Desk;
pub(crate) use desk::count;
use followed::{Followed, Presence};
pub use gaps::{ChannelFinding, Finding, Question};
pub use report::FeedHealth;
use stream::{Arrival, Stream};

use crate::dispatch::{Dispatch, Read};
use crate::outbox::{Group, Limits, Origin, Outbox, Pushed};
use crate::roster::{Change, RosterSetting};

/// What a feed is told at its beginning.
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
    /// How many questions of one guild may be open; more mean that the guild is read anew.
    pub gaps_max: usize,
    /// How old, in ms, an event may be that a delivery leaves behind; an older one means that the
    /// hub is not shown what is so now.
    pub behind_max_ms: u64,
    /// What the rosters depend on besides Discord's dispatches: a checkpoint with another one is not
    /// resumed.
    pub fingerprint: String,
}

/// One shard's knowledge, and what of it is still to be told.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Feed {
    setting: FeedSetting,
    guilds: BTreeMap<GuildId, Followed>,
    outbox: Outbox,
    stream: Stream,
    /// Of the claim; 0 before it.
    generation: u64,
    /// How far the hub has it all.
    acked: Reached,
    /// How many parcels with events of this generation it has taken.
    taken: u64,
    gateway: (GatewayState, Option<&'static str>),
    /// What the hub was last told of the gateway, and has taken.
    told: Option<GatewayReport>,
    /// What it was last told of RESUMEs, and has taken: how many had no answer, and which sessions
    /// are lost.
    told_resumes: (u32, u64),
    last_ticket: u64,
    identify_wanted: bool,
    /// This worker goes on with another one's session, and its replay is not over, whatever becomes
    /// of the connection meanwhile.
    replaying: bool,
}

/// What reading a dispatch led to, for the counters.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// Events that were queued.
    pub queued: u64,
    /// Events that a snapshot will contain.
    pub covered: u64,
    /// Events of a replay that the hub knows already.
    pub known: u64,
    /// Events of a guild that the hub does not serve.
    pub unserved: u64,
    /// Times that the outbox was full.
    pub full: u64,
    /// The dispatch was about a guild that is not followed.
    pub foreign: bool,
    /// It had been read before.
    pub repeated: bool,
    /// It, or a part of it, has to be asked for.
    pub illegible: bool,
}

impl Feed {
    /// A feed that knows nothing yet. It says nothing before its claim.
    pub fn new(setting: FeedSetting) -> Self {
        let guilds = setting
            .guilds
            .iter()
            .filter(|guild| guild.shard(setting.shard.1) == setting.shard.0)
            .map(|guild| (*guild, Followed::new(*guild, setting.roster.clone())))
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
            told: None,
            told_resumes: (0, 0),
            last_ticket: 0,
            identify_wanted: false,
            replaying: false,
        }
    }

    /// Takes a dispatch: where it stands in which gateway session, what it says, and when it came.
    pub fn read(&mut self, session: &str, sequence: u64, read: Read, now_ms: u64) -> Tally {
        let mut tally = Tally::default();
        let before = self.stream.reached();
        let arrival = self.stream.arrive(session, sequence);
        if arrival == Arrival::Repeat {
            tally.repeated = true;
            return tally;
        }
        self.speak(&read, before, now_ms, &mut tally);
        let late = arrival == Arrival::Late;
        match read {
            Read::PassedOver => {}
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
                    // Something newer was already read, perhaps about the same thing.
                    tally.illegible = true;
                    self.open_gap(guild, dispatch.subject());
                } else {
                    self.apply(guild, dispatch, now_ms, &mut tally);
                }
            }
            Read::Illegible {
                guild,
                subject,
                hides,
            } => {
                if guild.is_some_and(|guild| !self.guilds.contains_key(&guild)) {
                    tally.foreign = true;
                    return tally;
                }
                tally.illegible = true;
                self.hide(guild, hides, now_ms, &mut tally);
                self.reopen(guild, subject);
            }
        }
        self.settle(now_ms);
        tally
    }

    /// The connection's state has changed.
    pub fn set_gateway(&mut self, state: GatewayState, reason: &'static str) {
        self.gateway = (state, Some(reason));
    }

    /// The connection is heard again: a state that was only doubted for this reason is live.
    pub fn settle_doubt(&mut self, reason: &'static str) {
        if self.gateway == (GatewayState::Resuming, Some(reason)) {
            self.gateway = (GatewayState::Live, None);
        }
    }

    /// Whether the gateway session is live.
    pub fn is_live(&self) -> bool {
        self.gateway.0 == GatewayState::Live
    }

    /// A guild's roster as a snapshot would tell it; none if it was never told whole.
    pub fn roster(&self, guild: GuildId) -> Option<RosterState> {
        let followed = self.guilds.get(&guild)?;
        followed
            .roster
            .is_known()
            .then(|| followed.roster.snapshot("asked"))
    }

    /// Ends the silence of the guilds whose mark is passed by what is read now.
    fn speak(&mut self, read: &Read, before: Reached, now_ms: u64, tally: &mut Tally) {
        let reached = self.stream.reached();
        // A new session may begin with a READY that can not be read.
        let cut_off =
            matches!(read, Read::Known(Dispatch::Ready(_))) || reached.session != before.session;
        if cut_off || matches!(read, Read::Known(Dispatch::Resumed)) {
            self.replaying = false;
        }
        for guild in self.followed().collect::<Vec<_>>() {
            let Some(followed) = self.guilds.get_mut(&guild).filter(|one| one.is_silent()) else {
                continue;
            };
            if cut_off {
                followed.break_off();
            } else if reached > followed.mark().reached {
                // At the latest with this connection's RESUMED, which stands behind everything. That
                // of an earlier connection may be replayed in the middle.
                let facts = followed.speak();
                self.tell(guild, facts, before, Origin::Answer, now_ms, tally);
            }
        }
    }

    fn begin_session(&mut self, listed: &[GuildId], now_ms: u64, tally: &mut Tally) {
        self.gateway = (GatewayState::Live, None);
        self.identify_wanted = false;
        let ids: Vec<GuildId> = self.guilds.keys().copied().collect();
        for id in ids {
            if listed.contains(&id) {
                if let Some(followed) = self.guilds.get_mut(&id) {
                    followed.presence = Presence::Absent(Absence::Awaited);
                    followed.passed_over = false;
                }
            } else {
                self.apply(id, Dispatch::GuildRemoved(id), now_ms, tally);
            }
        }
    }

    fn apply(&mut self, guild: GuildId, dispatch: Dispatch, now_ms: u64, tally: &mut Tally) {
        let Some(followed) = self.guilds.get_mut(&guild) else {
            return;
        };
        let mut asked = false;
        let subject = dispatch.subject();
        match &dispatch {
            Dispatch::GuildCreated(_) => {
                followed.presence = Presence::Present;
                followed.passed_over = false;
                followed.gaps.clear();
            }
            Dispatch::GuildRemoved(_) => {
                followed.presence = Presence::Absent(Absence::Removed);
                followed.passed_over = false;
                followed.gaps.clear();
            }
            Dispatch::GuildUnavailable(_) => {
                followed.presence = Presence::Absent(Absence::Outage);
                // Its GUILD_CREATE will tell all of it.
                followed.gaps.clear();
            }
            Dispatch::EveryoneChanged(..) | Dispatch::Ready(_) | Dispatch::Resumed => {}
            Dispatch::ChannelCreated(..)
            | Dispatch::ChannelUpdated(..)
            | Dispatch::ChannelDeleted(..)
            | Dispatch::VoiceChanged(..) => {
                // A newer word on it than whatever is being asked for.
                asked = followed.gaps.remove(&dispatch.subject()).is_some();
            }
        }
        // An update may be of the past (it can come after the deletion), so it does not answer
        // whether the channel is there.
        let unanswered = asked
            && matches!(
                dispatch,
                Dispatch::ChannelCreated(..) | Dispatch::ChannelUpdated(..)
            );
        let mut change = followed.roster.apply(dispatch);
        if unanswered {
            change.gaps.push(subject);
        }
        tally.illegible |= !change.gaps.is_empty();
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
        self.tell(guild, change.facts, read, origin, now_ms, tally);
        if change.began
            && let Some(followed) = self.guilds.get(&guild)
            && !followed.unserved
        {
            let reason = if followed.presence == Presence::Absent(Absence::Removed) {
                "guild_removed"
            } else {
                "worker_started"
            };
            self.outbox.owe(guild, reason, followed.mark());
        }
        for subject in change.gaps {
            self.open_gap(guild, subject);
        }
    }

    /// Queues facts of one guild as one group, unless the hub knows them already.
    fn tell(
        &mut self,
        guild: GuildId,
        facts: Vec<Fact>,
        read: Reached,
        origin: Origin,
        now_ms: u64,
        tally: &mut Tally,
    ) {
        let Some(followed) = self.guilds.get_mut(&guild) else {
            return;
        };
        let count = facts.len() as u64;
        if followed.is_silent() {
            tally.known += count;
            return;
        }
        if followed.unserved {
            tally.unserved += count;
            return;
        }
        let events = facts
            .into_iter()
            .map(|fact| followed.event(fact, read, now_ms))
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
