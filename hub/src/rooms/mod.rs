//! Rooms: create, end, list. Every wish comes here, over whichever door; who acts was proved
//! there, and what they may do is decided here.
//!
//! What Discord will tell by itself (a channel was made, a channel is gone) is published only when
//! it comes back through the worker. Until then a new room stands in the ledger alone, and lists
//! show it as `opening`.

pub mod api;
mod creators;
mod heed;
pub mod ledger;
mod list;
mod name;
mod refused;
mod wish;

pub use self::list::Listed;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use proto::problem::Code;
use proto::rest::{CreateRoom, CreatedRoom};
use proto::{ChannelId, GuildId};
use tokio::sync::watch;
use tokio_util::task::TaskTracker;

use self::creators::Creators;
use self::ledger::{Ledger, OwnedRoom, Pending, Standing};
use self::name::RoomName;
use self::wish::{Wanted, problem, read_wish};
use crate::access::Access;
use crate::auth::{Principal, Subject};
use crate::discord::{Discord, NewChannel};
use crate::error::ApiError;
use roomlog::{Change, Log, Unavailable};

/// When to come back to a full ledger, in ms: rooms end by and by.
const LEDGER_FULL_RETRY_MS: u64 = 60_000;

/// When to come back to a store that can not be written, in ms: it is tried every second.
const UNAVAILABLE_RETRY_MS: u64 = 1_000;

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
    /// The zero of the creators' time: a wall clock that is set would refuse or forget them.
    started: Instant,
    /// Ends that are under way, each with the place where its outcome will stand.
    ending: Mutex<HashMap<ChannelId, Outcome>>,
    /// What is done with Discord is done to its end, also when whoever asked went away.
    work: TaskTracker,
}

/// The place where the outcome of an end will stand.
type Outcome = watch::Receiver<Option<Result<(), ApiError>>>;

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
            started: Instant::now(),
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
    /// more channels fit). `UNAVAILABLE` too if nothing can be stored: then there is no room.
    pub async fn create(
        &self,
        actor: &Principal,
        wish: &CreateRoom,
    ) -> Result<CreatedRoom, ApiError> {
        let result = self.create_room(actor, wish).await;
        count("hub_rooms_creates_total", &result);
        result
    }

    async fn create_room(
        &self,
        actor: &Principal,
        wish: &CreateRoom,
    ) -> Result<CreatedRoom, ApiError> {
        if !actor.rights.create {
            return Err(ApiError::new(
                Code::Forbidden,
                "the token lacks rooms:create",
            ));
        }
        let guild = wish
            .guild_id
            .or_else(|| self.0.access.primary())
            .filter(|guild| self.0.access.guilds_of(actor).contains(guild))
            .ok_or_else(|| ApiError::new(Code::Forbidden, "not a guild of this token"))?;
        let wanted = self.check(guild, wish)?;
        lock(&self.0.creators)
            .take(&actor.subject, self.now_ms())
            .map_err(|wait_ms| {
                ApiError::new(Code::RateLimited, "too many rooms in a minute")
                    .retry_after_ms(wait_ms)
            })?;
        if !self.0.log.is_storing() {
            return Err(unavailable());
        }
        let pending = self.0.ledger.begin(guild).map_err(|ledger::LedgerFull| {
            tracing::warn!("the ledger is full; nobody can create a room");
            ApiError::new(Code::Unavailable, "Roomwire holds as many rooms as it may")
                .retry_after_ms(LEDGER_FULL_RETRY_MS)
        })?;
        let (rooms, creator) = (self.clone(), actor.subject.clone());
        let made = self
            .0
            .work
            .spawn(async move { rooms.make(pending, guild, creator, wanted).await });
        made.await
            .unwrap_or_else(|_| Err(ApiError::new(Code::Internal, "creating the room failed")))
    }

    /// Ledger first, then Discord, then done; or, if Discord refuses, as if it had not begun.
    async fn make(
        &self,
        pending: Pending,
        guild_id: GuildId,
        creator: Subject,
        wanted: Wanted,
    ) -> Result<CreatedRoom, ApiError> {
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
            epoch: self
                .0
                .log
                .read(guild_id, |_, place| place.epoch)
                .unwrap_or_default(),
            inherits_deny: made.denied_to_everyone,
        };
        // Whoever hears of a room can rely on it that it will be known after a restart.
        let owned = vec![(guild_id, room.owned())];
        if let Err(Unavailable) = self.0.log.keep(vec![room.row()], owned).await {
            self.0.ledger.abandon(pending);
            self.take_back(guild_id, channel_id).await;
            return Err(unavailable());
        }
        // With the log held: whatever is told after this finds the room in the ledger.
        self.0.log.read(guild_id, |told, _| {
            let there = told.rooms.contains_key(&channel_id);
            self.0.ledger.made(pending, room, there);
            if !told.inherits_deny(channel_id) {
                self.0.ledger.lost_inherited_deny(channel_id);
            }
        });
        if let Err(Unavailable) = self.align(guild_id, channel_id).await {
            // It is gone, and is disowned when that is heeded again.
            tracing::warn!(%guild_id, %channel_id, "a room that was deleted at once is still published as Roomwire's own");
        }
        tracing::info!(%guild_id, %channel_id, "room created");
        Ok(CreatedRoom {
            channel_id,
            name: channel.name,
            guild_id,
            parent_id: channel.parent_id,
            user_limit: channel.user_limit,
        })
    }

    /// Deletes a channel that Discord made and that can not be kept.
    async fn take_back(&self, guild_id: GuildId, channel_id: ChannelId) {
        let reason = "Roomwire: create-room, taken back";
        match self.0.discord.delete_channel(channel_id, reason).await {
            Ok(_) => {
                tracing::warn!(%guild_id, %channel_id, "a room could not be stored and is deleted again");
            }
            Err(error) => tracing::error!(
                %guild_id,
                %channel_id,
                ?error,
                "ALARM: a room could be neither stored nor deleted: delete this channel in Discord"
            ),
        }
    }

    /// Publishes whether a room is ours, as the ledger has it, and keeps what the ledger has
    /// changed. Whoever changed the ledger calls it: what two of them publish at once is looked at
    /// again by each.
    async fn align(&self, guild: GuildId, channel: ChannelId) -> Result<(), Unavailable> {
        loop {
            let room = self.0.ledger.room(channel);
            let change = self.0.log.read(guild, |told, _| {
                let owned = told.owned.contains(&channel);
                match room.map(|room| (room.standing, room.owned())) {
                    Some((Standing::Open, change)) => (!owned).then_some(change),
                    Some((Standing::Missing, _)) => owned.then_some(Change::Disowned(channel)),
                    // Until it is told to be gone it is shown as it was.
                    Some((Standing::Ended, _)) | None => (owned
                        && !told.rooms.contains_key(&channel))
                    .then_some(Change::Disowned(channel)),
                }
            });
            let changes: Vec<_> = change
                .flatten()
                .map(|change| (guild, change))
                .into_iter()
                .collect();
            let done = changes.is_empty();
            self.keep(changes).await?;
            if done {
                return Ok(());
            }
        }
    }

    /// Keeps what the ledger has changed, and publishes these changes with it.
    async fn keep(&self, changes: Vec<(GuildId, Change)>) -> Result<(), Unavailable> {
        let rows = self.0.ledger.unsaved();
        if rows.is_empty() && changes.is_empty() {
            return Ok(());
        }
        let channels: Vec<_> = rows.iter().map(|row| row.channel).collect();
        let kept = self.0.log.keep(rows, changes).await;
        if kept.is_err() {
            self.0.ledger.not_saved(channels);
        }
        kept
    }

    /// Ends a room. One that is gone already is a success, as is one that somebody else is ending.
    ///
    /// # Errors
    /// `FORBIDDEN`: neither the right to end nor to manage rooms. `NOT_FOUND`: not a room that
    /// Roomwire made, or not theirs. `DISCORD_FORBIDDEN`, `DISCORD_UNAVAILABLE`.
    pub async fn end(&self, actor: &Principal, channel: ChannelId) -> Result<(), ApiError> {
        let result = self.end_room(actor, channel).await;
        count("hub_rooms_ends_total", &result);
        result
    }

    async fn end_room(&self, actor: &Principal, channel: ChannelId) -> Result<(), ApiError> {
        if !actor.rights.end && !actor.rights.manage {
            return Err(ApiError::new(Code::Forbidden, "the token lacks rooms:end"));
        }
        let guilds = self.0.access.guilds_of(actor);
        let theirs = |room: &OwnedRoom| {
            guilds.contains(&room.guild_id)
                && (actor.rights.manage || room.creator == actor.subject)
        };
        let not_found = || ApiError::new(Code::NotFound, "no such room of yours");
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
                Err(ApiError::new(Code::Internal, "ending the room failed"))
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

    async fn unmake(&self, room: &OwnedRoom, by: &Subject) -> Result<(), ApiError> {
        let reason = format!("Roomwire: end-room by {by}");
        let deleted = self
            .0
            .discord
            .delete_channel(room.channel_id, &reason)
            .await
            .map_err(|error| refused::end(&error))?;
        self.0.ledger.ended(room.channel_id);
        if let Err(Unavailable) = self.keep(Vec::new()).await {
            // It is gone all the same. With the next change it is kept that it is.
            tracing::warn!(channel_id = %room.channel_id, "that a room ended could not be stored yet");
        }
        tracing::info!(guild_id = %room.guild_id, channel_id = %room.channel_id, ?deleted, "room ended");
        Ok(())
    }

    /// Waits until everything that was begun with Discord is done. Call it when no new wish can come.
    pub async fn settled(&self) {
        self.0.work.close();
        self.0.work.wait().await;
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.0.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn check(&self, guild: GuildId, wish: &CreateRoom) -> Result<Wanted, ApiError> {
        let mut wrong = match read_wish(wish) {
            Ok(mut wanted) if self.may_be_in(guild, wanted.parent_id) => {
                wanted.parent_id = wanted.parent_id.or_else(|| self.default_category(guild));
                return Ok(wanted);
            }
            Ok(_) => Vec::new(),
            Err(wrong) => wrong,
        };
        if !self.may_be_in(guild, wish.parent_id) {
            wrong.push(problem("parentId", refused::NOT_A_CATEGORY));
        }
        let mut refusal = ApiError::new(Code::BadRequest, "some fields are wrong");
        refusal.errors = wrong;
        Err(refusal)
    }

    /// Where a room stands for which nobody named a category.
    fn default_category(&self, guild: GuildId) -> Option<ChannelId> {
        let view = self.0.access.whole_view(guild, None);
        self.0
            .log
            .read(guild, |state, _| view.default_category(state))
            .flatten()
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

fn unavailable() -> ApiError {
    ApiError::new(Code::Unavailable, "nothing can be stored right now")
        .retry_after_ms(UNAVAILABLE_RETRY_MS)
}

fn count<T>(name: &'static str, result: &Result<T, ApiError>) {
    let outcome = result
        .as_ref()
        .map_or_else(|refusal| refusal.code.name(), |_| "ok");
    metrics::counter!(name, "outcome" => outcome).increment(1);
}

/// A panic in another holder leaves whole entries behind.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
