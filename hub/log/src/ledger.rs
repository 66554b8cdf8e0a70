//! The ledger: which rooms Roomwire created, and their owners. A request can end only a room of the
//! ledger.
//!
//! Pure and persistent: a part of the log's state. The functions that decide return what they change
//! as [`LedgerChange`]s, and [`Ledger::apply`] is the only function that changes a ledger. So a store,
//! or another hub, that applies the same changes has the same ledger.
//!
//! What the worker reports of a guild decides whether a room is open or missing: [`Ledger::observe`]
//! runs in the same step that appends the fact. It never ends a room: only Discord's answer to its
//! deletion does. The owner of a room that is missing by mistake can still end it.

mod budgets;
mod creates;
mod owned;

use std::collections::BTreeMap;
use std::sync::Arc;

use imbl::{OrdMap, OrdSet};
use launch::rate::RateBucket;
use proto::event::{Fact, Room};
use proto::{ChannelId, GuildId};

use self::budgets::CreateBudgets;
use self::creates::Answers;
pub use self::creates::{
    ANSWER_AGE_MS, Answer, AskedChannel, BodyDigest, CreateTicket, CreatedChannel, KeyedRequest,
    NewCreate, PendingCreate, RequestKey,
};
pub use self::owned::{OwnedRoom, Owner, RoomStatus};
use crate::dedup::{Admission, DedupWindow, StoredIds, WindowBounds};
use crate::state::{Change, GuildState, may_deny_everyone};

/// The bounds of the ledger.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct LedgerBounds {
    /// How many rooms are open at most, pending creates included. At the bound every create is
    /// refused.
    pub rooms_max: usize,
    /// How many past rooms are kept, so that ending one twice succeeds twice. At the bound the oldest
    /// is forgotten.
    pub past_max: usize,
    /// How many rooms one owner may create in a minute.
    pub creates_per_minute: u32,
    /// How many owners' budgets are kept.
    pub creators_max: usize,
    /// How many answered interactions are known at most, for 15 minutes each. At the bound the oldest
    /// is forgotten.
    pub interactions_max: usize,
    /// How many answers to requests with a key are kept for their repeats, for 24 h each. At the bound
    /// the oldest is forgotten.
    pub answers_max: usize,
}

impl LedgerBounds {
    /// [`LedgerBounds::rooms_max`]: twenty guilds full of rooms (Discord allows a guild 500 channels),
    /// in a few megabytes.
    pub const ROOMS_MAX: usize = 10_000;
    /// [`LedgerBounds::past_max`]: a day of busy guilds, in a few megabytes.
    pub const PAST_MAX: usize = 10_000;
    /// [`LedgerBounds::creates_per_minute`]: more than a person needs. At this rate a person fills a
    /// guild in nearly an hour.
    pub const CREATES_PER_MINUTE: u32 = 10;
    /// [`LedgerBounds::creators_max`]: the owners who create rooms within one minute.
    pub const CREATORS_MAX: usize = 10_000;
    /// [`LedgerBounds::interactions_max`]: ten a second, for as long as they are known.
    pub const INTERACTIONS_MAX: usize = 10_000;
    /// [`LedgerBounds::answers_max`]: a room every five seconds for a day, in a few megabytes.
    pub const ANSWERS_MAX: usize = 20_000;
}

/// How long an answered interaction is known, in ms: its token lives as long, and no signature is
/// valid that long.
const INTERACTIONS_AGE_MS: u64 = 15 * 60 * 1000;
/// How many answered interactions are known for longer: a clock that is set forward and back must
/// not make a hub forget the newest.
const INTERACTIONS_MIN: usize = 1_000;

impl Default for LedgerBounds {
    fn default() -> Self {
        Self {
            rooms_max: Self::ROOMS_MAX,
            past_max: Self::PAST_MAX,
            creates_per_minute: Self::CREATES_PER_MINUTE,
            creators_max: Self::CREATORS_MAX,
            interactions_max: Self::INTERACTIONS_MAX,
            answers_max: Self::ANSWERS_MAX,
        }
    }
}

/// The ledger.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Ledger {
    bounds: LedgerBounds,
    rooms: OrdMap<ChannelId, Arc<OwnedRoom>>,
    /// The channels of `rooms`, by guild.
    by_guild: OrdMap<GuildId, OrdSet<ChannelId>>,
    /// The channels among `rooms` that are not open, by since when.
    past: OrdSet<(u64, ChannelId)>,
    pending: OrdMap<CreateTicket, Arc<PendingCreate>>,
    /// Those of `pending` whose request has a key.
    pending_keys: OrdMap<RequestKey, CreateTicket>,
    answers: Answers,
    budgets: CreateBudgets,
    /// Ids of interactions that were answered, so that a repeat has no second effect.
    interactions: DedupWindow<Arc<str>>,
}

impl Default for Ledger {
    fn default() -> Self {
        Self::new(LedgerBounds::default())
    }
}

/// One change of the ledger, as an effect: it holds what is so afterwards.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LedgerChange {
    /// Discord is about to be asked for a room.
    Began(CreateTicket, Arc<PendingCreate>),
    /// A create is no longer pending.
    Finished(CreateTicket),
    /// A room is new, or is now like this.
    Room(Arc<OwnedRoom>),
    /// A past room is no longer kept.
    Forgotten(ChannelId),
    /// The answer to a request with this key. None: it is forgotten.
    Answer(RequestKey, Option<Arc<Answer>>),
    /// An owner's budget. None: it is full.
    Budget(Owner, Option<RateBucket>),
    /// An interaction is being answered since then, in ms since the Unix epoch.
    Interaction(u64, Arc<str>),
}

/// What a [`LedgerChange`] is about.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum LedgerKey<'a> {
    Ticket(CreateTicket),
    Room(ChannelId),
    Answer(&'a RequestKey),
    Budget(&'a Owner),
    Interaction(&'a str),
}

impl LedgerChange {
    fn key(&self) -> LedgerKey<'_> {
        match self {
            Self::Began(ticket, _) | Self::Finished(ticket) => LedgerKey::Ticket(*ticket),
            Self::Room(room) => LedgerKey::Room(room.channel_id),
            Self::Forgotten(channel) => LedgerKey::Room(*channel),
            Self::Answer(key, _) => LedgerKey::Answer(key),
            Self::Budget(owner, _) => LedgerKey::Budget(owner),
            Self::Interaction(_, id) => LedgerKey::Interaction(id),
        }
    }

    /// The last change of everything that changes: a full store has no room for a room that is
    /// forgotten in the same step.
    pub(crate) fn last_of_each(changes: &[Self]) -> impl Iterator<Item = &Self> {
        let last: BTreeMap<_, _> = changes.iter().map(|one| (one.key(), one)).collect();
        last.into_values()
    }
}

/// How a create begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Begun {
    /// Discord may be asked.
    Now,
    /// The request was answered before: with this.
    Before(Arc<Answer>),
}

/// Why a create may not begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CreateRefused {
    /// The owner created too many rooms within a minute.
    TooMany {
        /// When the next one is allowed, in ms from now.
        wait_ms: u64,
    },
    /// The ledger holds as many open rooms as it may.
    Full,
    /// A request with this key is in progress, or its outcome is not known yet.
    InProgress,
    /// The key belongs to a request that asks for something else.
    OtherBody,
}

/// How a create ended at Discord.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CreateOutcome {
    /// Discord created this channel.
    Created(CreatedChannel),
    /// Discord created no channel, or it was deleted again.
    Withdrawn,
}

/// No create of this ticket is pending.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotPending;

/// What one step changes: in the ledger, and in the guild's log because of it.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct LedgerStep {
    /// Changes of the ledger, already applied.
    pub ledger: Vec<LedgerChange>,
    /// Changes to append to the guild's log.
    pub guild: Vec<Change>,
    /// How many answers were forgotten before their time.
    pub forgotten_early: u64,
}

impl Ledger {
    /// An empty ledger.
    pub fn new(bounds: LedgerBounds) -> Self {
        Self::restored(bounds, StoredIds::default())
    }

    /// A ledger without rooms that knows these interactions.
    pub(crate) fn restored(bounds: LedgerBounds, interactions: StoredIds<Arc<str>>) -> Self {
        let window = WindowBounds {
            age_ms: INTERACTIONS_AGE_MS,
            entries_min: INTERACTIONS_MIN,
            entries_max: bounds.interactions_max,
        };
        Self {
            bounds,
            rooms: OrdMap::new(),
            by_guild: OrdMap::new(),
            past: OrdSet::new(),
            pending: OrdMap::new(),
            pending_keys: OrdMap::new(),
            answers: Answers::default(),
            budgets: CreateBudgets::default(),
            interactions: DedupWindow::restored(window, interactions),
        }
    }

    /// The interactions that were noted.
    pub(crate) fn interactions(&self) -> &DedupWindow<Arc<str>> {
        &self.interactions
    }

    /// Notes that an interaction is being answered. A repeat must not be executed again.
    pub fn note_interaction(
        &mut self,
        id: &Arc<str>,
        now_ms: u64,
        changes: &mut Vec<LedgerChange>,
    ) -> Admission {
        let admission = self.interactions.admit(Arc::clone(id), (), now_ms);
        if admission != Admission::Repeat {
            changes.push(LedgerChange::Interaction(now_ms, Arc::clone(id)));
        }
        admission
    }

    /// The room of this channel, past ones included.
    pub fn room(&self, channel: ChannelId) -> Option<&Arc<OwnedRoom>> {
        self.rooms.get(&channel)
    }

    /// Every room, by channel, past ones included.
    pub fn rooms(&self) -> impl Iterator<Item = &Arc<OwnedRoom>> {
        self.rooms.values()
    }

    /// The open rooms of a guild, by channel.
    pub fn open_rooms(&self, guild: GuildId) -> impl Iterator<Item = &Arc<OwnedRoom>> {
        self.of_guild(guild)
            .filter(|room| room.status == RoomStatus::Open)
    }

    /// How many rooms are open.
    pub fn open_count(&self) -> usize {
        self.rooms.len() - self.past.len()
    }

    /// Creates that are pending.
    pub fn pending(&self) -> impl Iterator<Item = (CreateTicket, &Arc<PendingCreate>)> {
        self.pending
            .iter()
            .map(|(ticket, pending)| (*ticket, pending))
    }

    /// How many creates are pending.
    pub fn pending_count(&self) -> usize {
        self.pending.len()
    }

    /// How many answers are kept.
    pub fn answer_count(&self) -> usize {
        self.answers.len()
    }

    /// How a request with a key begins, if it is a repeat.
    ///
    /// # Errors
    /// [`CreateRefused::InProgress`], [`CreateRefused::OtherBody`].
    pub fn repeat(
        &self,
        request: &KeyedRequest,
        now_ms: u64,
    ) -> Result<Option<Arc<Answer>>, CreateRefused> {
        let pending = self.pending_keys.get(&request.key);
        let pending = pending.and_then(|ticket| self.pending.get(ticket));
        if let Some(known) = pending.and_then(|pending| pending.create.request.as_ref()) {
            return Err(if known.body == request.body {
                CreateRefused::InProgress
            } else {
                CreateRefused::OtherBody
            });
        }
        match self.answers.get(&request.key, now_ms) {
            Some(answer) if answer.body != request.body => Err(CreateRefused::OtherBody),
            answer => Ok(answer.cloned()),
        }
    }

    fn of_guild(&self, guild: GuildId) -> impl Iterator<Item = &Arc<OwnedRoom>> {
        let channels = self.by_guild.get(&guild).into_iter().flatten();
        channels.filter_map(|channel| self.rooms.get(channel))
    }

    /// Begins a create: only then may Discord be asked for the channel. A ticket that is pending is
    /// accepted again. A repeat of a request with a key begins nothing, and costs nothing.
    ///
    /// # Errors
    /// A request with the same key is in progress or asks for something else, the owner's budget is
    /// empty, or the ledger is full. A full ledger costs the budget as well.
    pub fn begin_create(
        &mut self,
        ticket: CreateTicket,
        pending: PendingCreate,
        now_ms: u64,
        changes: &mut Vec<LedgerChange>,
    ) -> Result<Begun, CreateRefused> {
        if self.pending.contains_key(&ticket) {
            return Ok(Begun::Now);
        }
        if let Some(request) = &pending.create.request
            && let Some(answer) = self.repeat(request, now_ms)?
        {
            return Ok(Begun::Before(answer));
        }
        let owner = &pending.create.owner;
        let taken = self.budgets.take(owner, now_ms, &self.bounds);
        let budgets = taken.map_err(|wait_ms| CreateRefused::TooMany { wait_ms })?;
        for (owner, bucket) in budgets {
            self.change(LedgerChange::Budget(owner, bucket), changes);
        }
        if self.open_count() + self.pending.len() >= self.bounds.rooms_max {
            return Err(CreateRefused::Full);
        }
        self.change(LedgerChange::Began(ticket, Arc::new(pending)), changes);
        Ok(Begun::Now)
    }

    /// The guild in which a pending create stands.
    pub fn guild_of(&self, ticket: CreateTicket) -> Option<GuildId> {
        self.pending
            .get(&ticket)
            .map(|pending| pending.create.guild_id)
    }

    /// Ends a create. A channel that Discord created becomes a room of the ledger: open, or missing if
    /// it may have been deleted before Discord answered. `state` and `epoch` are those of its guild.
    ///
    /// # Errors
    /// [`NotPending`]: the channel is not one of the ledger.
    pub fn finish_create(
        &mut self,
        ticket: CreateTicket,
        outcome: &CreateOutcome,
        state: &GuildState,
        epoch: u64,
        now_ms: u64,
    ) -> Result<LedgerStep, NotPending> {
        let pending = self.pending.get(&ticket).cloned().ok_or(NotPending)?;
        let mut step = LedgerStep::default();
        self.change(LedgerChange::Finished(ticket), &mut step.ledger);
        let CreateOutcome::Created(created) = outcome else {
            return Ok(step);
        };
        let channel = created.channel_id;
        let is_reported = state.rooms.contains_key(&channel);
        let may_be_gone = state.was_deleted(channel) || epoch != pending.epoch;
        let guild_id = pending.create.guild_id;
        let room = OwnedRoom {
            guild_id,
            channel_id: channel,
            owner: pending.create.owner.clone(),
            name: created.name.clone(),
            parent_id: created.parent_id,
            user_limit: created.user_limit,
            status: if may_be_gone && !is_reported {
                RoomStatus::Missing
            } else {
                RoomStatus::Open
            },
            since_ms: now_ms,
            epoch,
            inherits_deny: created.denies_everyone
                && (!is_reported || state.inherits_deny(channel)),
        };
        self.put(room, &mut step.ledger);
        step.guild.extend(self.ownership_change(channel, state));
        if let Some(request) = &pending.create.request {
            let answer = Arc::new(Answer {
                body: request.body,
                guild_id,
                channel: created.clone(),
                at_ms: now_ms,
            });
            let key = request.key.clone();
            self.change(LedgerChange::Answer(key, Some(answer)), &mut step.ledger);
            step.forgotten_early = self.trim_answers(now_ms, &mut step.ledger);
        }
        Ok(step)
    }

    /// Forgets the answers that are too old or too many. Returns how many were not too old.
    fn trim_answers(&mut self, now_ms: u64, changes: &mut Vec<LedgerChange>) -> u64 {
        let mut early = 0;
        while let Some((key, is_early)) =
            self.answers.next_to_forget(self.bounds.answers_max, now_ms)
        {
            early += u64::from(is_early);
            self.change(LedgerChange::Answer(key, None), changes);
        }
        early
    }

    /// Ends a room: Discord deleted its channel, or knows of none. `state` is that of its guild.
    pub fn end(&mut self, channel: ChannelId, state: &GuildState, now_ms: u64) -> LedgerStep {
        let mut step = LedgerStep::default();
        let room = self.rooms.get(&channel);
        if let Some(room) = room.filter(|room| room.status != RoomStatus::Ended) {
            self.put(room.turned(RoomStatus::Ended, now_ms), &mut step.ledger);
            step.guild.extend(self.ownership_change(channel, state));
        }
        step
    }

    /// Brings the ledger in line with a change that was just appended to a guild's log. `state` is the
    /// guild's state with it.
    pub fn observe(
        &mut self,
        guild: GuildId,
        change: &Change,
        state: &GuildState,
        now_ms: u64,
    ) -> LedgerStep {
        let mut step = LedgerStep::default();
        let not_of_another_guild = |channel: ChannelId| {
            let room = self.rooms.get(&channel);
            room.is_none_or(|room| room.guild_id == guild)
        };
        match change {
            Change::Fact(Fact::RoomCreated(room) | Fact::RoomUpdated(room))
                if not_of_another_guild(room.channel_id) =>
            {
                self.observe_room(room, now_ms, &mut step.ledger);
                step.guild
                    .extend(self.ownership_change(room.channel_id, state));
            }
            Change::Fact(Fact::RoomDeleted(gone)) if not_of_another_guild(gone.channel_id) => {
                let room = self.rooms.get(&gone.channel_id);
                if let Some(room) = room.filter(|room| room.status == RoomStatus::Open) {
                    self.put(room.turned(RoomStatus::Missing, now_ms), &mut step.ledger);
                }
                step.guild
                    .extend(self.ownership_change(gone.channel_id, state));
            }
            Change::Fact(Fact::Snapshot(_)) => {
                self.compare(guild, state, |_| true, now_ms, &mut step);
            }
            // An event by hand may name a channel of another guild.
            Change::Fact(Fact::RoomCreated(_) | Fact::RoomUpdated(_) | Fact::RoomDeleted(_)) => {}
            Change::Fact(
                Fact::VoiceJoined(_)
                | Fact::VoiceLeft(_)
                | Fact::VoiceStateChanged(_)
                | Fact::GuildUpdated(_),
            )
            | Change::Owned(_)
            | Change::OwnedUnderDeny(_)
            | Change::Disowned(_) => {}
        }
        step
    }

    /// Brings the ledger in line with a guild's state, as far as that was reported. An older version
    /// stored the two one after the other, so that a kill could come between them. An open room that is
    /// not in the state is missing only if it may have been deleted: any other was not reported yet.
    pub fn reconcile(
        &mut self,
        guild: GuildId,
        state: &GuildState,
        epoch: u64,
        now_ms: u64,
    ) -> LedgerStep {
        let mut step = LedgerStep::default();
        if state.known {
            let is_gone =
                |room: &OwnedRoom| room.epoch != epoch || state.was_deleted(room.channel_id);
            self.compare(guild, state, is_gone, now_ms, &mut step);
        }
        step
    }

    /// Forgets what is above the bounds, which may be lower than those of the hub that stored it.
    pub fn trim(&mut self, now_ms: u64, changes: &mut Vec<LedgerChange>) {
        self.trim_past(changes);
        self.trim_answers(now_ms, changes);
    }

    fn trim_past(&mut self, changes: &mut Vec<LedgerChange>) {
        while self.past.len() > self.bounds.past_max
            && let Some((_, oldest)) = self.past.get_min().copied()
        {
            self.change(LedgerChange::Forgotten(oldest), changes);
        }
    }

    /// Applies a change: the only function that changes a ledger.
    pub fn apply(&mut self, change: &LedgerChange) {
        match change {
            LedgerChange::Began(ticket, pending) => {
                self.pending.insert(*ticket, Arc::clone(pending));
                if let Some(request) = &pending.create.request {
                    self.pending_keys.insert(request.key.clone(), *ticket);
                }
            }
            LedgerChange::Finished(ticket) => {
                let pending = self.pending.remove(ticket);
                if let Some(request) = pending.and_then(|pending| pending.create.request.clone()) {
                    self.pending_keys.remove(&request.key);
                }
            }
            LedgerChange::Answer(key, answer) => self.answers.set(key, answer.as_ref()),
            LedgerChange::Room(room) => {
                self.remove(room.channel_id);
                self.rooms.insert(room.channel_id, Arc::clone(room));
                let of_guild = self.by_guild.entry(room.guild_id).or_default();
                of_guild.insert(room.channel_id);
                self.past.extend(room.past_key());
            }
            LedgerChange::Forgotten(channel) => self.remove(*channel),
            LedgerChange::Budget(owner, bucket) => self.budgets.set(owner, *bucket),
            LedgerChange::Interaction(at_ms, id) => {
                self.interactions.admit(Arc::clone(id), (), *at_ms);
            }
        }
    }

    fn remove(&mut self, channel: ChannelId) {
        let Some(room) = self.rooms.remove(&channel) else {
            return;
        };
        if let Some(of_guild) = self.by_guild.get_mut(&room.guild_id) {
            of_guild.remove(&channel);
            if of_guild.is_empty() {
                self.by_guild.remove(&room.guild_id);
            }
        }
        if let Some(key) = room.past_key() {
            self.past.remove(&key);
        }
    }

    fn change(&mut self, change: LedgerChange, changes: &mut Vec<LedgerChange>) {
        self.apply(&change);
        changes.push(change);
    }

    fn put(&mut self, room: OwnedRoom, changes: &mut Vec<LedgerChange>) {
        self.change(LedgerChange::Room(Arc::new(room)), changes);
        self.trim_past(changes);
    }

    /// A reported room is not missing. Without a deny of @everyone it does not inherit one any more:
    /// one that it has later was added to hide the room.
    fn observe_room(&mut self, reported: &Room, now_ms: u64, changes: &mut Vec<LedgerChange>) {
        let Some(room) = self.rooms.get(&reported.channel_id) else {
            return;
        };
        let mut now = OwnedRoom::clone(room);
        now.inherits_deny &= may_deny_everyone(reported);
        if now.status == RoomStatus::Missing {
            now = now.turned(RoomStatus::Open, now_ms);
        }
        if now != **room {
            self.put(now, changes);
        }
    }

    /// Compares every room of a guild with the guild's state. `is_gone`: whether an open room that is
    /// not there is missing.
    fn compare(
        &mut self,
        guild: GuildId,
        state: &GuildState,
        is_gone: impl Fn(&OwnedRoom) -> bool,
        now_ms: u64,
        step: &mut LedgerStep,
    ) {
        let ours: Vec<_> = self.of_guild(guild).cloned().collect();
        for room in &ours {
            match state.rooms.get(&room.channel_id) {
                Some(reported) => self.observe_room(&reported.room, now_ms, &mut step.ledger),
                None if room.status == RoomStatus::Open && is_gone(room) => {
                    self.put(room.turned(RoomStatus::Missing, now_ms), &mut step.ledger);
                }
                None => {}
            }
        }
        // A room that was forgotten may still be published as Roomwire's own.
        let forgotten = state
            .owned
            .iter()
            .filter(|channel| !self.rooms.contains_key(*channel));
        let channels: Vec<_> = ours
            .iter()
            .map(|room| room.channel_id)
            .chain(forgotten.copied())
            .collect();
        for channel in channels {
            step.guild.extend(self.ownership_change(channel, state));
        }
    }

    /// What must be published so that the guild's log says of a channel what the ledger says.
    fn ownership_change(&self, channel: ChannelId, state: &GuildState) -> Option<Change> {
        let is_owned = state.owned.contains(&channel);
        match self.rooms.get(&channel).map(|room| (room.status, room)) {
            Some((RoomStatus::Open, room)) => (!is_owned).then(|| room.owned()),
            Some((RoomStatus::Missing, _)) => is_owned.then_some(Change::Disowned(channel)),
            // Until it is reported as deleted it is shown as before.
            Some((RoomStatus::Ended, _)) | None => (is_owned
                && !state.rooms.contains_key(&channel))
            .then_some(Change::Disowned(channel)),
        }
    }
}

#[cfg(test)]
mod tests;
