//! What one shard knows and has still to tell: its guilds' rosters, its outbox, its state.
//!
//! Pure. The connection puts dispatches in, the delivery takes batches out, and whoever asks over
//! REST puts the answers in; [`Desk`] is the lock around it that they share. Snapshots have one
//! way only: a guild owes one, and it is written when the outbox has room.

mod desk;
mod sequence;

use std::collections::BTreeMap;

use proto::delivery::{GatewayReport, GuildReport};
use proto::delivery::{Receipt, Report};
use proto::event::{Event, Fact, Roster as RosterState};
use proto::gateway::GatewayState;
use proto::{ChannelId, GuildId, UserId};

pub use desk::Desk;
pub(crate) use desk::count;
use sequence::{Arrival, Sequences};

use crate::dispatch::{Channel, Dispatch, Read, Subject, VoiceState};
use crate::outbox::{Limits, Outbox, Pushed};
use crate::roster::{Change, Roster, RosterSetting};

/// How often an answer may lead to the next question before the guild is read anew instead.
const UNSETTLED_MAX: u32 = 10;
/// What a snapshot takes besides its rooms and people, in bytes, generously.
const ENVELOPE_BYTES: usize = 1_024;

/// The reason of a guild, or a shard, whose news the hub is still to hear.
const CATCHING_UP: &str = "catching_up";

/// What a feed is told at its beginning.
#[derive(Debug, Clone)]
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
}

/// One shard's knowledge, and what of it is still to be told.
#[derive(Debug, Clone)]
pub struct Feed {
    setting: FeedSetting,
    guilds: BTreeMap<GuildId, Followed>,
    outbox: Outbox,
    sequences: Sequences,
    gateway: (GatewayState, Option<&'static str>),
    /// What the hub was last told of the gateway, and has taken.
    told: Option<GatewayReport>,
    store: Option<String>,
    last_ticket: u64,
    identify_wanted: bool,
}

#[derive(Debug, Clone)]
struct Followed {
    roster: Roster,
    presence: Presence,
    /// What has to be asked for, each with the ticket of the last time it became illegible.
    gaps: BTreeMap<Subject, u64>,
    /// The hub refused an event of this guild, and no snapshot has been taken since.
    refused: bool,
    /// How many answers in a row led to new questions.
    unsettled: u32,
}

/// Whether a guild is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Presence {
    /// Its GUILD_CREATE is still to come.
    Awaited,
    /// It is there.
    Present,
    /// Discord has an outage that concerns it.
    Outage,
    /// The bot is not a member of it.
    Removed,
}

/// A question that has to be put to Discord's REST.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Question {
    /// In which guild.
    pub guild: GuildId,
    /// About what.
    pub subject: Subject,
    /// Which time it was asked; an answer to an older one is no longer wanted.
    pub ticket: u64,
}

/// What Discord's REST answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finding {
    /// The channel.
    Channel(ChannelFinding),
    /// The user's voice state. `None`: not in voice.
    Voice(Option<VoiceState>),
    /// Nothing that could be used, repeatedly: only GUILD_CREATE can help.
    Unknown,
}

/// What is known of a channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChannelFinding {
    /// It is this.
    There(Channel),
    /// It is gone.
    Gone(ChannelId),
    /// The bot may not view it.
    Hidden(ChannelId),
}

/// One delivery's content.
#[derive(Debug, Clone)]
pub struct Parcel {
    /// In order; empty for a beat.
    pub events: Vec<Event>,
    /// The worker's state.
    pub report: Report,
}

/// What reading a dispatch led to, for the counters.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// Events that were queued.
    pub queued: u64,
    /// Events that a snapshot will contain.
    pub covered: u64,
    /// Times that the outbox was full.
    pub full: u64,
    /// The dispatch was about a guild that is not followed.
    pub foreign: bool,
    /// It had been read before.
    pub repeated: bool,
    /// It, or a part of it, has to be asked for.
    pub illegible: bool,
}

/// A shard as its health page shows it.
#[derive(Debug, Clone, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct FeedHealth {
    /// The shard and the number of shards.
    pub shard: (u32, u32),
    /// The state, as the hub is told it.
    pub gateway: GatewayReport,
    /// Guilds that are followed here.
    pub guilds: usize,
    /// Guilds that owe a snapshot.
    pub debts: usize,
    /// Questions to Discord that are open.
    pub gaps: usize,
    /// Events that wait for the hub.
    pub outbox_events: usize,
    /// Their JSON, in bytes.
    pub outbox_bytes: usize,
}

impl Feed {
    /// A feed that knows nothing yet.
    pub fn new(setting: FeedSetting) -> Self {
        let guilds = setting
            .guilds
            .iter()
            .filter(|guild| guild.shard(setting.shard.1) == setting.shard.0)
            .map(|guild| {
                let followed = Followed {
                    roster: Roster::new(*guild, setting.roster.clone()),
                    presence: Presence::Awaited,
                    gaps: BTreeMap::new(),
                    refused: false,
                    unsettled: 0,
                };
                (*guild, followed)
            })
            .collect();
        Self {
            outbox: Outbox::new(setting.outbox),
            setting,
            guilds,
            sequences: Sequences::default(),
            gateway: (GatewayState::Rebuilding, Some("starting")),
            told: None,
            store: None,
            last_ticket: 0,
            identify_wanted: false,
        }
    }

    /// Takes a dispatch: where it stands in which gateway session, what it says, and when it came.
    pub fn read(&mut self, session: &str, sequence: u64, read: Read, now_ms: u64) -> Tally {
        let mut tally = Tally::default();
        let arrival = self.sequences.arrive(session, sequence);
        if arrival == Arrival::Repeat {
            tally.repeated = true;
            return tally;
        }
        let late = arrival == Arrival::Late;
        match read {
            Read::PassedOver => {}
            Read::Known(Dispatch::Ready(guilds)) => self.begin_session(&guilds, now_ms, &mut tally),
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
            Read::Illegible { guild, subject } => {
                if guild.is_some_and(|guild| !self.guilds.contains_key(&guild)) {
                    tally.foreign = true;
                    return tally;
                }
                tally.illegible = true;
                self.reopen(guild, subject);
            }
        }
        self.settle(now_ms);
        tally
    }

    /// Something was lost that can not even be named: every guild of the shard is read anew.
    pub fn lose(&mut self) {
        self.reopen(None, Subject::Guild);
    }

    /// The connection's state has changed.
    pub fn set_gateway(&mut self, state: GatewayState, reason: &'static str) {
        self.gateway = (state, Some(reason));
    }

    /// Whether the shard has to identify anew because a guild can not be known otherwise.
    pub fn wants_identify(&self) -> bool {
        self.identify_wanted
    }

    /// The next question for Discord's REST.
    pub fn question(&self) -> Option<Question> {
        self.guilds.iter().find_map(|(guild, followed)| {
            let (subject, ticket) = followed
                .gaps
                .iter()
                .find(|(subject, _)| **subject != Subject::Guild)?;
            Some(Question {
                guild: *guild,
                subject: *subject,
                ticket: *ticket,
            })
        })
    }

    /// Whether this is still the question, and nothing newer was read meanwhile.
    pub fn is_open(&self, question: Question) -> bool {
        self.guilds
            .get(&question.guild)
            .and_then(|followed| followed.gaps.get(&question.subject))
            == Some(&question.ticket)
    }

    /// Takes the answer to a question, unless something newer was read meanwhile.
    pub fn answer(&mut self, question: Question, finding: Finding, now_ms: u64) -> Tally {
        let mut tally = Tally::default();
        if !self.is_open(question) {
            return tally;
        }
        let Some(followed) = self.guilds.get_mut(&question.guild) else {
            return tally;
        };
        followed.gaps.remove(&question.subject);
        let mut change = Change::default();
        match (question.subject, finding) {
            (_, Finding::Channel(channel)) => {
                let awaited = followed
                    .gaps
                    .keys()
                    .any(|gap| matches!(gap, Subject::Voice(_)));
                change.facts = take_channel(&mut followed.roster, channel, awaited);
            }
            (Subject::Voice(user), Finding::Voice(state)) => {
                let state = state.unwrap_or_else(|| nowhere(user));
                let channel = state.channel_id;
                change = followed
                    .roster
                    .apply(Dispatch::VoiceChanged(question.guild, state));
                if !change.gaps.is_empty() {
                    // In a room that is not known: first that, then the user again.
                    change.gaps.extend(channel.map(Subject::Channel));
                    followed.unsettled += 1;
                }
            }
            (_, Finding::Voice(_) | Finding::Unknown) => change.gaps.push(Subject::Guild),
        }
        if change.gaps.is_empty() && followed.gaps.is_empty() {
            followed.unsettled = 0;
        } else if followed.unsettled > UNSETTLED_MAX {
            // Discord's answers go on contradicting each other.
            followed.unsettled = 0;
            change.gaps = vec![Subject::Guild];
        }
        self.publish(question.guild, change, now_ms, &mut tally);
        self.settle(now_ms);
        tally
    }

    /// What goes to the hub next; nothing if there are no events, the hub knows the state and no
    /// beat is due.
    pub fn parcel(&mut self, beat_due: bool, now_ms: u64) -> Option<Parcel> {
        let events = self.outbox.batch();
        // After the batch is taken: it says what is so once the hub has it.
        let gateway = self.gateway_report(now_ms);
        if events.is_empty() && !beat_due && self.told.as_ref() == Some(&gateway) {
            return None;
        }
        Some(Parcel {
            events,
            report: Report {
                shard: self.setting.shard,
                store: self.store.clone(),
                gateway,
            },
        })
    }

    /// Whether what a parcel, not taken yet, says of the state is still so.
    pub fn is_current(&self, parcel: &Parcel, now_ms: u64) -> bool {
        parcel.report.gateway == self.gateway_report(now_ms)
    }

    /// The hub has taken a parcel. Returns how many of its events were refused.
    pub fn delivered(&mut self, parcel: &Parcel, receipt: Receipt, now_ms: u64) -> usize {
        self.outbox.delivered();
        self.told = Some(parcel.report.gateway.clone());
        let refused: BTreeMap<&str, ()> = receipt
            .refused
            .iter()
            .map(|event| (event.id.as_str(), ()))
            .collect();
        for event in &parcel.events {
            let guild = event.fact.guild_id();
            let Some(followed) = self.guilds.get_mut(&guild) else {
                continue;
            };
            if refused.contains_key(event.id.as_str()) {
                // Once: if the snapshot is refused as well, this hub does not want the guild.
                if !followed.refused {
                    followed.refused = true;
                    self.outbox.owe(guild, "refused");
                }
            } else if matches!(event.fact, Fact::Snapshot(_)) {
                followed.refused = false;
            }
        }
        let refused = refused.len();
        if self
            .store
            .as_ref()
            .is_some_and(|known| *known != receipt.store)
        {
            self.owe_all("store_changed");
        }
        self.store = Some(receipt.store);
        self.settle(now_ms);
        refused
    }

    /// The hub has another store than the one that was built on: it lacks what came before.
    pub fn change_store(&mut self, store: String, now_ms: u64) {
        self.store = Some(store);
        self.outbox.give_up("store_changed");
        self.owe_all("store_changed");
        self.settle(now_ms);
    }

    /// The hub will never take the events in flight.
    pub fn give_up(&mut self, now_ms: u64) {
        self.outbox.give_up("delivery_rejected");
        self.settle(now_ms);
    }

    /// Whether everything was told that can be told.
    pub fn is_drained(&self, now_ms: u64) -> bool {
        self.outbox.is_empty() && self.told.as_ref() == Some(&self.gateway_report(now_ms))
    }

    /// Whether the gateway session is live.
    pub fn is_live(&self) -> bool {
        self.gateway.0 == GatewayState::Live
    }

    /// How it is.
    pub fn health(&self, now_ms: u64) -> FeedHealth {
        FeedHealth {
            shard: self.setting.shard,
            gateway: self.gateway_report(now_ms),
            guilds: self.guilds.len(),
            debts: self.outbox.debts().count(),
            gaps: self
                .guilds
                .values()
                .map(|followed| followed.gaps.len())
                .sum(),
            outbox_events: self.outbox.len(),
            outbox_bytes: self.outbox.bytes(),
        }
    }

    /// A guild's roster as a snapshot would tell it; none if it was never told whole.
    pub fn roster(&self, guild: GuildId) -> Option<RosterState> {
        let followed = self.guilds.get(&guild)?;
        followed
            .roster
            .is_known()
            .then(|| followed.roster.snapshot("asked"))
    }

    fn begin_session(&mut self, listed: &[GuildId], now_ms: u64, tally: &mut Tally) {
        self.gateway = (GatewayState::Live, None);
        self.identify_wanted = false;
        let ids: Vec<GuildId> = self.guilds.keys().copied().collect();
        for id in ids {
            if listed.contains(&id) {
                if let Some(followed) = self.guilds.get_mut(&id) {
                    followed.presence = Presence::Awaited;
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
                followed.gaps.clear();
            }
            Dispatch::GuildRemoved(_) => {
                followed.presence = Presence::Removed;
                followed.gaps.clear();
            }
            Dispatch::GuildUnavailable(_) => {
                followed.presence = Presence::Outage;
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
        self.publish(guild, change, now_ms, tally);
    }

    fn publish(&mut self, guild: GuildId, change: Change, now_ms: u64, tally: &mut Tally) {
        for fact in change.facts {
            let event = self.sequences.event(fact, now_ms);
            match self.outbox.push(event) {
                Pushed::Queued => tally.queued += 1,
                Pushed::Covered => tally.covered += 1,
                Pushed::Full => tally.full += 1,
            }
        }
        if change.began {
            let removed = self
                .guilds
                .get(&guild)
                .is_some_and(|followed| followed.presence == Presence::Removed);
            let reason = if removed {
                "guild_removed"
            } else {
                "worker_started"
            };
            self.outbox.owe(guild, reason);
        }
        for subject in change.gaps {
            self.open_gap(guild, subject);
        }
    }

    /// As [`Feed::open_gap`], for every guild if none is named.
    fn reopen(&mut self, guild: Option<GuildId>, subject: Subject) {
        let guilds: Vec<GuildId> = match guild {
            Some(guild) => vec![guild],
            None => self.guilds.keys().copied().collect(),
        };
        for guild in guilds {
            self.open_gap(guild, subject);
        }
    }

    fn open_gap(&mut self, guild: GuildId, subject: Subject) {
        let Some(followed) = self.guilds.get_mut(&guild) else {
            return;
        };
        // A guild that is awaited will be told whole anyway; but not if that is what was illegible.
        if followed.presence != Presence::Present && subject != Subject::Guild {
            return;
        }
        self.last_ticket += 1;
        followed.gaps.insert(subject, self.last_ticket);
        if followed.gaps.len() > self.setting.gaps_max {
            followed.gaps.clear();
            followed.gaps.insert(Subject::Guild, self.last_ticket);
        }
        if followed.gaps.contains_key(&Subject::Guild) {
            self.identify_wanted = true;
        }
    }

    fn owe_all(&mut self, reason: &'static str) {
        for (guild, followed) in &self.guilds {
            if followed.roster.is_known() {
                self.outbox.owe(*guild, reason);
            }
        }
    }

    /// Pays what debts there is room for.
    fn settle(&mut self, now_ms: u64) {
        let debts: Vec<_> = self.outbox.debts().collect();
        for (guild, reason) in debts {
            if !self.outbox.has_room() || !self.sequences.began() {
                return;
            }
            let Some(followed) = self
                .guilds
                .get(&guild)
                .filter(|followed| followed.roster.is_known())
            else {
                continue;
            };
            let state = followed.roster.snapshot(reason);
            let events = divide(state, self.setting.outbox.batch_bytes_max)
                .into_iter()
                .map(|fact| self.sequences.event(fact, now_ms))
                .collect();
            self.outbox.pay(guild, events);
        }
    }

    /// How the shard is, and its guilds that differ, once the hub has what is in flight.
    fn gateway_report(&self, now_ms: u64) -> GatewayReport {
        let (mut state, mut reason) = self.gateway;
        let late = self
            .outbox
            .behind_since_ms()
            .is_some_and(|since| now_ms.saturating_sub(since) > self.setting.behind_max_ms);
        if state == GatewayState::Live && late {
            (state, reason) = (GatewayState::Rebuilding, Some(CATCHING_UP));
        }
        let lacking = self.outbox.lacking();
        let guilds = self
            .guilds
            .iter()
            .filter_map(|(id, followed)| {
                let (own, why) = match followed.presence {
                    Presence::Removed => (GatewayState::Down, "removed"),
                    Presence::Outage => (GatewayState::Down, "outage"),
                    // What is worse for the whole shard need not be said of each guild.
                    _ if state != GatewayState::Live => return None,
                    Presence::Awaited => (GatewayState::Rebuilding, "guild_awaited"),
                    Presence::Present if !followed.gaps.is_empty() => {
                        (GatewayState::Rebuilding, "illegible")
                    }
                    Presence::Present if lacking.contains(id) => {
                        (GatewayState::Rebuilding, CATCHING_UP)
                    }
                    Presence::Present => return None,
                };
                let report = GuildReport {
                    state: own,
                    reason: Some(why.to_owned()),
                };
                Some((*id, report))
            })
            .collect();
        GatewayReport {
            state,
            reason: reason.map(str::to_owned),
            guilds,
        }
    }
}

/// `awaited`: somebody is in a room that is not known, which may be this.
fn take_channel(roster: &mut Roster, finding: ChannelFinding, awaited: bool) -> Vec<Fact> {
    match finding {
        ChannelFinding::There(channel) => roster.put_channel(channel),
        ChannelFinding::Gone(id) => roster.delete_channel(id),
        ChannelFinding::Hidden(id) if awaited && !roster.is_channel(id) => {
            roster.put_channel(Channel::hidden(id))
        }
        ChannelFinding::Hidden(id) => roster.hide_channel(id),
    }
}

fn nowhere(user_id: UserId) -> VoiceState {
    VoiceState {
        user_id,
        channel_id: None,
        flags: proto::event::VoiceFlags::default(),
        profile: None,
    }
}

/// A snapshot that is too large for one delivery holds as many people as fit; the others join.
fn divide(mut state: RosterState, bytes_max: usize) -> Vec<Fact> {
    let mut left = bytes_max.saturating_sub(json_bytes(&state.rooms) + ENVELOPE_BYTES);
    let mut fit = 0;
    for voice in &state.voices {
        let bytes = json_bytes(voice) + 1;
        if bytes > left {
            break;
        }
        left -= bytes;
        fit += 1;
    }
    let rest = state.voices.split_off(fit);
    let mut facts = vec![Fact::Snapshot(state)];
    facts.extend(rest.into_iter().map(Fact::VoiceJoined));
    facts
}

fn json_bytes(value: &impl serde::Serialize) -> usize {
    serde_json::to_vec(value).map_or(0, |json| json.len())
}

#[cfg(test)]
mod tests;
