//! Rooms: create, end, list. Every wish comes here, over whichever door; who acts was proved
//! there, and what they may do is decided here.
//!
//! What Discord will tell by itself (a channel was made, a channel is gone) is published only when
//! it comes back through the worker. Until then a new room stands in the ledger alone, and lists
//! show it as `opening`.

pub mod api;
mod creators;
pub mod ledger;
mod name;
mod refused;

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::future::join_all;
use proto::event::{Audience, Fact, Room, RoomKind};
use proto::frame::SnapshotRoom;
use proto::problem::{Code, FieldProblem};
use proto::rest::{CreateRoom, CreatedRoom};
use proto::{ChannelId, GuildId};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::creators::Creators;
use self::ledger::{Ledger, OwnedRoom, Pending, Standing};
use self::name::RoomName;
use crate::access::Access;
use crate::auth::{Principal, Subject};
use crate::discord::{Discord, NewChannel};
use crate::log::{Change, GuildState, Log, Place};
use crate::refusal::Refusal;
use crate::view::View;

/// How many may be in a room when nobody says.
const USER_LIMIT_DEFAULT: u32 = 4;
/// The most that can be said (Discord's documentation, "Create Guild Channel"); 0 is no limit.
const USER_LIMIT_MAX: u32 = 99;
/// When to come back to a full ledger, in ms: rooms end by and by.
const LEDGER_FULL_RETRY_MS: u64 = 60_000;

/// The bounds of creating.
#[derive(Debug, Clone)]
pub struct RoomsSettings {
    /// How many rooms one subject may create in a minute.
    pub creates_per_minute: u32,
    /// How many subjects are remembered for it.
    pub creators_max: usize,
}

impl RoomsSettings {
    /// [`RoomsSettings::creates_per_minute`]: more than a person needs, and it takes a person
    /// nearly an hour to fill a guild.
    pub const CREATES_PER_MINUTE: u32 = 10;
    /// [`RoomsSettings::creators_max`]: those that create rooms within one minute.
    pub const CREATORS_MAX: usize = 10_000;
}

impl Default for RoomsSettings {
    fn default() -> Self {
        Self {
            creates_per_minute: Self::CREATES_PER_MINUTE,
            creators_max: Self::CREATORS_MAX,
        }
    }
}

/// The rooms of this hub. A clone is a reference.
#[derive(Clone)]
pub struct Rooms(Arc<Shared>);

struct Shared {
    log: Log,
    access: Access,
    ledger: Ledger,
    discord: Discord,
    creators: Mutex<Creators>,
    /// Ends that are under way, each with the place where its outcome will stand.
    ending: Mutex<HashMap<ChannelId, Outcome>>,
    /// What is done with Discord is done to its end, also when whoever asked went away.
    work: TaskTracker,
}

/// The place where the outcome of an end will stand.
type Outcome = watch::Receiver<Option<Result<(), Refusal>>>;

/// Rooms of one guild as one principal sees them.
#[derive(Debug)]
pub struct Listed {
    /// How the principal sees the guild.
    pub view: View,
    /// The rooms, by channel.
    pub rooms: Vec<SnapshotRoom>,
    /// Where the guild's log stood.
    pub place: Place,
}

/// A wish for a room, checked as far as one can without asking anybody.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Wanted {
    name: Option<RoomName>,
    user_limit: u32,
    parent_id: Option<ChannelId>,
}

/// Which fields of a wish are wrong by themselves, all of them.
pub(crate) fn wrong_fields(wish: &CreateRoom) -> Vec<FieldProblem> {
    read_wish(wish).err().unwrap_or_default()
}

fn read_wish(wish: &CreateRoom) -> Result<Wanted, Vec<FieldProblem>> {
    let mut wrong = Vec::new();
    let name = wish
        .name
        .as_deref()
        .map(RoomName::new)
        .transpose()
        .unwrap_or_else(|why| {
            wrong.push(problem("name", why.to_string()));
            None
        });
    let user_limit = wish.user_limit.unwrap_or(USER_LIMIT_DEFAULT);
    if user_limit > USER_LIMIT_MAX {
        wrong.push(problem(
            "userLimit",
            format!("0 (no limit) to {USER_LIMIT_MAX}"),
        ));
    }
    if wrong.is_empty() {
        Ok(Wanted {
            name,
            user_limit,
            parent_id: wish.parent_id,
        })
    } else {
        Err(wrong)
    }
}

fn problem(field: &str, detail: impl Into<String>) -> FieldProblem {
    FieldProblem {
        field: field.to_owned(),
        detail: detail.into(),
    }
}

impl Rooms {
    /// The rooms of these guilds; [`Rooms::heed_log`] keeps the ledger in line with what is told.
    pub fn new(
        log: Log,
        access: Access,
        ledger: Ledger,
        discord: Discord,
        settings: &RoomsSettings,
    ) -> Self {
        Self(Arc::new(Shared {
            log,
            access,
            ledger,
            discord,
            creators: Mutex::new(Creators::new(
                settings.creates_per_minute,
                settings.creators_max,
            )),
            ending: Mutex::new(HashMap::new()),
            work: TaskTracker::new(),
        }))
    }

    /// Whether this hub serves a guild.
    pub fn serves(&self, guild: GuildId) -> bool {
        self.0.access.guilds().contains(&guild)
    }

    /// Creates a room.
    ///
    /// # Errors
    /// `FORBIDDEN`: the right is missing, or the guild is none of theirs. `BAD_REQUEST`, with every
    /// wrong field. `RATE_LIMITED`: too many by the same subject. `UNAVAILABLE`: the ledger is
    /// full. What Discord says: `DISCORD_FORBIDDEN`, `DISCORD_UNAVAILABLE`, `UNPROCESSABLE` (no
    /// more channels fit).
    pub async fn create(
        &self,
        actor: &Principal,
        wish: &CreateRoom,
    ) -> Result<CreatedRoom, Refusal> {
        let result = self.create_room(actor, wish).await;
        count("hub_rooms_creates_total", &result);
        result
    }

    async fn create_room(
        &self,
        actor: &Principal,
        wish: &CreateRoom,
    ) -> Result<CreatedRoom, Refusal> {
        if !actor.rights.create {
            return Err(Refusal::new(
                Code::Forbidden,
                "the token lacks rooms:create",
            ));
        }
        let guild = wish
            .guild_id
            .or_else(|| self.0.access.primary())
            .filter(|guild| self.0.access.guilds_of(actor).contains(guild))
            .ok_or_else(|| Refusal::new(Code::Forbidden, "not a guild of this token"))?;
        let wanted = self.check(guild, wish)?;
        lock(&self.0.creators)
            .take(&actor.subject, launch::clock::now_ms())
            .map_err(|wait_ms| {
                Refusal::new(Code::RateLimited, "too many rooms in a minute")
                    .retry_after_ms(wait_ms)
            })?;
        let pending = self.0.ledger.begin().map_err(|ledger::LedgerFull| {
            tracing::warn!("the ledger is full; nobody can create a room");
            Refusal::new(Code::Unavailable, "Roomwire holds as many rooms as it may")
                .retry_after_ms(LEDGER_FULL_RETRY_MS)
        })?;
        let (rooms, creator) = (self.clone(), actor.subject.clone());
        let made = self
            .0
            .work
            .spawn(async move { rooms.make(pending, guild, creator, wanted).await });
        made.await
            .unwrap_or_else(|_| Err(Refusal::new(Code::Internal, "creating the room failed")))
    }

    /// Ledger first, then Discord, then done; or, if Discord refuses, as if it had not begun.
    async fn make(
        &self,
        pending: Pending,
        guild_id: GuildId,
        creator: Subject,
        wanted: Wanted,
    ) -> Result<CreatedRoom, Refusal> {
        let luck = || RoomName::chosen(rand::Rng::next_u32(&mut rand::rng()));
        let channel = NewChannel {
            name: wanted.name.unwrap_or_else(luck).into_string(),
            parent_id: wanted.parent_id,
            user_limit: wanted.user_limit,
        };
        let reason = format!("Roomwire: create-room by {creator}");
        let made = match self
            .0
            .discord
            .create_channel(guild_id, channel, &reason)
            .await
        {
            Ok(made) => made,
            Err(error) => {
                // What Discord did not make, or may have made without saying so, is not ours.
                self.0.ledger.abandon(pending);
                return Err(refused::create(&error));
            }
        };
        let (channel_id, channel) = (made.channel_id, made.channel);
        let room = OwnedRoom {
            guild_id,
            channel_id,
            creator,
            name: channel.name.clone(),
            parent_id: channel.parent_id,
            user_limit: channel.user_limit,
            standing: Standing::Open,
        };
        self.0.ledger.made(pending, room);
        self.0
            .log
            .own(guild_id, channel_id, launch::clock::now_ms());
        tracing::info!(%guild_id, %channel_id, "room created");
        Ok(CreatedRoom {
            channel_id,
            name: channel.name,
            guild_id,
            parent_id: channel.parent_id,
            user_limit: channel.user_limit,
        })
    }

    /// Ends a room. One that is gone already is a success, as is one that somebody else is ending.
    ///
    /// # Errors
    /// `FORBIDDEN`: neither the right to end nor to manage rooms. `NOT_FOUND`: not a room that
    /// Roomwire made, or not theirs. `DISCORD_FORBIDDEN`, `DISCORD_UNAVAILABLE`.
    pub async fn end(&self, actor: &Principal, channel: ChannelId) -> Result<(), Refusal> {
        let result = self.end_room(actor, channel).await;
        count("hub_rooms_ends_total", &result);
        result
    }

    async fn end_room(&self, actor: &Principal, channel: ChannelId) -> Result<(), Refusal> {
        if !actor.rights.end && !actor.rights.manage {
            return Err(Refusal::new(Code::Forbidden, "the token lacks rooms:end"));
        }
        let guilds = self.0.access.guilds_of(actor);
        let theirs = |room: &OwnedRoom| {
            guilds.contains(&room.guild_id)
                && (actor.rights.manage || room.creator == actor.subject)
        };
        let not_found = || Refusal::new(Code::NotFound, "no such room of yours");
        self.0
            .ledger
            .room(channel)
            .filter(theirs)
            .ok_or_else(not_found)?;
        let Some(mut outcome) = self.begin_end(channel, actor.subject.clone()) else {
            return Ok(());
        };
        match outcome
            .wait_for(Option::is_some)
            .await
            .ok()
            .and_then(|outcome| outcome.clone())
        {
            Some(outcome) => outcome,
            None => {
                // Its task is gone without an outcome; the next one may try.
                lock(&self.0.ending).remove(&channel);
                Err(Refusal::new(Code::Internal, "ending the room failed"))
            }
        }
    }

    /// The outcome of ending a room, by us or by whoever came first; `None` if it has ended.
    fn begin_end(&self, channel: ChannelId, by: Subject) -> Option<Outcome> {
        let mut ending = lock(&self.0.ending);
        if let Some(outcome) = ending.get(&channel) {
            return Some(outcome.clone());
        }
        // Read under the lock: whoever ends a room writes that down before leaving `ending`.
        let room = self
            .0
            .ledger
            .room(channel)
            .filter(|room| room.standing != Standing::Ended)?;
        let (told, outcome) = watch::channel(None);
        ending.insert(channel, outcome.clone());
        let rooms = self.clone();
        self.0.work.spawn(async move {
            let result = rooms.unmake(&room, &by).await;
            lock(&rooms.0.ending).remove(&channel);
            // Nobody may be waiting any more.
            told.send_replace(Some(result));
        });
        Some(outcome)
    }

    async fn unmake(&self, room: &OwnedRoom, by: &Subject) -> Result<(), Refusal> {
        let reason = format!("Roomwire: end-room by {by}");
        let deleted = self
            .0
            .discord
            .delete_channel(room.channel_id, &reason)
            .await
            .map_err(|error| refused::end(&error))?;
        self.0.ledger.ended(room.channel_id);
        tracing::info!(guild_id = %room.guild_id, channel_id = %room.channel_id, ?deleted, "room ended");
        Ok(())
    }

    /// The rooms of a guild that a principal sees: what was told, and Roomwire's own that were not
    /// told of yet (`opening`). `only` narrows it to one room.
    ///
    /// # Errors
    /// `FORBIDDEN`: the right to read is missing, or the guild is none of theirs.
    pub fn list(
        &self,
        actor: &Principal,
        guild: GuildId,
        only: Option<ChannelId>,
    ) -> Result<Listed, Refusal> {
        let view =
            self.0
                .access
                .view(actor, guild, only.map(|channel| BTreeSet::from([channel])))?;
        let read = self.0.log.read(guild, |state, place| {
            let mut rooms = view.rooms(state);
            rooms.extend(opening(&view, state, self.0.ledger.open_rooms(guild)));
            rooms.sort_by_key(|room| room.room.channel_id);
            (rooms, place)
        });
        let (rooms, place) =
            read.ok_or_else(|| Refusal::new(Code::Forbidden, "not a guild of this token"))?;
        Ok(Listed { view, rooms, place })
    }

    /// One room that a principal sees, in whichever of their guilds it is.
    ///
    /// # Errors
    /// `FORBIDDEN`: the right to read is missing. `NOT_FOUND`: there is no such room, or not for them.
    pub fn get(&self, actor: &Principal, channel: ChannelId) -> Result<Listed, Refusal> {
        for guild in self.0.access.guilds_of(actor) {
            let listed = self.list(actor, guild, Some(channel))?;
            if !listed.rooms.is_empty() {
                return Ok(listed);
            }
        }
        Err(Refusal::new(Code::NotFound, "no such room"))
    }

    /// Keeps the ledger in line with the log, until `shutdown`: a room that somebody deletes in
    /// Discord is not open any more.
    pub async fn heed_log(&self, shutdown: CancellationToken) {
        let guilds = self
            .0
            .access
            .guilds()
            .iter()
            .map(|guild| self.heed_guild(*guild));
        shutdown.run_until_cancelled(join_all(guilds)).await;
    }

    /// Waits until everything that was begun with Discord is done. Call it when no new wish can come.
    pub async fn settled(&self) {
        self.0.work.close();
        self.0.work.wait().await;
    }

    async fn heed_guild(&self, guild: GuildId) {
        while let Some(mut following) = self.0.log.follow(guild) {
            if following.state.known {
                let there = following.state.rooms.keys().copied().collect();
                self.heed_whole(guild, &there, &following.state.owned);
            }
            loop {
                match following.entries.recv().await {
                    Ok(entry) => self.heed(guild, &entry.change),
                    // What was missed is in the state of the next follower.
                    Err(RecvError::Lagged(_)) => break,
                    Err(RecvError::Closed) => return,
                }
            }
        }
    }

    fn heed(&self, guild: GuildId, change: &Change) {
        let now_ms = launch::clock::now_ms();
        let owned = |channel: ChannelId| {
            self.0
                .log
                .read(guild, |state, _| state.owned.contains(&channel))
                == Some(true)
        };
        match change {
            Change::Told(Fact::RoomDeleted(gone)) => {
                self.0.ledger.ended(gone.channel_id);
                if owned(gone.channel_id) {
                    self.0.log.disown(guild, gone.channel_id, now_ms);
                }
            }
            Change::Told(Fact::RoomCreated(room) | Fact::RoomUpdated(room)) => {
                if self.0.ledger.found(room.channel_id) {
                    self.0.log.own(guild, room.channel_id, now_ms);
                }
            }
            Change::Told(Fact::Snapshot(roster)) => {
                let there = roster.rooms.iter().map(|room| room.channel_id).collect();
                let owned = self
                    .0
                    .log
                    .read(guild, |state, _| state.owned.clone())
                    .unwrap_or_default();
                self.heed_whole(guild, &there, &owned);
            }
            Change::Told(
                Fact::VoiceJoined(_) | Fact::VoiceLeft(_) | Fact::VoiceStateChanged(_),
            )
            | Change::Owned(_)
            | Change::Disowned(_) => {}
        }
    }

    /// The whole guild was told: what of ours is not there is not shown as ours any more.
    fn heed_whole(&self, guild: GuildId, there: &BTreeSet<ChannelId>, owned: &BTreeSet<ChannelId>) {
        let now_ms = launch::clock::now_ms();
        let compared = self.0.ledger.compare(guild, there);
        for channel in &compared.found {
            self.0.log.own(guild, *channel, now_ms);
        }
        for channel in owned.difference(there) {
            self.0.log.disown(guild, *channel, now_ms);
        }
    }

    fn check(&self, guild: GuildId, wish: &CreateRoom) -> Result<Wanted, Refusal> {
        let mut wrong = match read_wish(wish) {
            Ok(wanted) if self.may_be_in(guild, wanted.parent_id) => return Ok(wanted),
            Ok(_) => Vec::new(),
            Err(wrong) => wrong,
        };
        if !self.may_be_in(guild, wish.parent_id) {
            wrong.push(problem("parentId", refused::NOT_A_CATEGORY));
        }
        let mut refusal = Refusal::new(Code::BadRequest, "some fields are wrong");
        refusal.errors = wrong;
        Err(refusal)
    }

    /// Whether a room may be put into a category: one that viewers may know of. Of a guild that no
    /// worker has told of yet, Discord is the judge.
    fn may_be_in(&self, guild: GuildId, parent: Option<ChannelId>) -> bool {
        let Some(parent) = parent else {
            return true;
        };
        let view = self.0.access.whole_view(guild, None);
        self.0.log.read(guild, |state, _| {
            !state.known || view.sees_category(state, parent)
        }) == Some(true)
    }
}

/// The rooms of the ledger that were not told of yet, as this view shows them.
fn opening(view: &View, told: &GuildState, ledger: Vec<OwnedRoom>) -> Vec<SnapshotRoom> {
    // A guild of just these rooms, so that the view judges them as it judges all others.
    let mut state = GuildState::default();
    for room in ledger {
        if told.rooms.contains_key(&room.channel_id) {
            continue;
        }
        state.apply(&Change::Owned(room.channel_id));
        state.apply(&Change::Told(Fact::RoomCreated(Room {
            guild_id: room.guild_id,
            channel_id: room.channel_id,
            name: room.name,
            parent_id: room.parent_id,
            user_limit: room.user_limit,
            kind: RoomKind::Voice,
            audience: Audience::Restricted,
        })));
    }
    let mut rooms = view.rooms(&state);
    for room in &mut rooms {
        room.opening = true;
    }
    rooms
}

fn count<T>(name: &'static str, result: &Result<T, Refusal>) {
    let outcome = result
        .as_ref()
        .map_or_else(|refusal| refusal.code.name(), |_| "ok");
    metrics::counter!(name, "outcome" => outcome).increment(1);
}

/// A panic in another holder leaves whole entries behind.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
