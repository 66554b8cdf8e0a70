//! Creating a room: a pending create is stored, then Discord is asked, then the room is stored.
//!
//! A create whose outcome is not known stays pending; [`super::reconcile`] finds it out.

use proto::frame::join_url;
use proto::problem::Code;
use proto::rest::{CreateRoom, CreatedRoom};
use proto::{ChannelId, GuildId};
use roomlog::Unavailable;
use roomlog::ledger::{
    Answer, AskedChannel, Begun, CreateOutcome, CreateRefused, CreateTicket, CreatedChannel,
    KeyedRequest, NewCreate, NotPending, Owner,
};

use super::discord_errors::{self, NOT_A_CATEGORY};
use super::name::RoomName;
use super::request::{RoomSpec, problem, read_request};
use super::{Rooms, count, lock, unavailable};
use crate::auth::Principal;
use crate::discord::{self, DiscordError, NewChannel};
use crate::error::ApiError;

/// When to retry while the ledger is full, in ms: rooms end from time to time.
const LEDGER_FULL_RETRY_MS: u64 = 60_000;
/// When to repeat a request that is in progress, in ms.
const IN_PROGRESS_RETRY_MS: u64 = 1_000;

/// A create that this process works on. Dropped while it is pending, it is reconciled.
pub(super) struct Working {
    rooms: Rooms,
    ticket: CreateTicket,
}

impl Drop for Working {
    fn drop(&mut self) {
        lock(&self.rooms.0.creating).remove(&self.ticket);
        if self.rooms.0.log.ledger().guild_of(self.ticket).is_some() {
            self.rooms.0.create_left.notify_one();
        }
    }
}

impl Rooms {
    /// Creates a room. A request with a key that is a repeat gets the answer of the first one, and
    /// makes no room.
    ///
    /// # Errors
    /// `FORBIDDEN`: the right is missing, or the token does not allow the guild. `BAD_REQUEST`, with
    /// every wrong field. `IN_PROGRESS`: the outcome of a request with this key is not known yet.
    /// `RATE_LIMITED`: the subject created too many rooms. `UNAVAILABLE`: the ledger is full, or
    /// nothing can be stored; then the channel is deleted again. `UNPROCESSABLE`: the key belongs to
    /// another request. By Discord's answer: `DISCORD_FORBIDDEN`, `DISCORD_UNAVAILABLE`,
    /// `UNPROCESSABLE` (no more channels fit).
    pub async fn create(
        &self,
        actor: &Principal,
        request: &CreateRoom,
        keyed: Option<KeyedRequest>,
    ) -> Result<CreatedRoom, ApiError> {
        let result = self.create_room(actor, request, keyed).await;
        count("hub_rooms_creates_total", &result);
        result
    }

    async fn create_room(
        &self,
        actor: &Principal,
        request: &CreateRoom,
        keyed: Option<KeyedRequest>,
    ) -> Result<CreatedRoom, ApiError> {
        if !actor.rights.create {
            return Err(ApiError::new(
                Code::Forbidden,
                "the token lacks rooms:create",
            ));
        }
        let guild_id = request
            .guild_id
            .or_else(|| self.0.access.primary())
            .filter(|guild| self.0.access.guilds_of(actor).contains(guild))
            .ok_or_else(|| ApiError::new(Code::Forbidden, "not a guild of this token"))?;
        // A repeat is answered although its category, say, has gone since.
        if let Some(keyed) = &keyed {
            let repeat = self.0.log.ledger().repeat(keyed, launch::clock::now_ms());
            if let Some(answer) = repeat.map_err(refused)? {
                return Ok(created_room(&answer));
            }
        }
        let spec = self.check(guild_id, request)?;
        if !self.0.log.is_storing() {
            return Err(unavailable());
        }
        let create = new_create(guild_id, Owner::new(actor.subject.as_str()), spec, keyed);
        let rooms = self.clone();
        let created = self
            .0
            .work
            .spawn(async move { rooms.create_channel(create).await });
        created
            .await
            .unwrap_or_else(|_| Err(ApiError::new(Code::Internal, "creating the room failed")))
    }

    async fn create_channel(&self, create: NewCreate) -> Result<CreatedRoom, ApiError> {
        let ticket = CreateTicket(rand::Rng::next_u64(&mut rand::rng()));
        let (guild_id, asked) = (create.guild_id, create.asked.clone());
        let reason = format!("{}create-room by {}", marker(ticket), create.owner.as_str());
        lock(&self.0.creating).insert(ticket);
        let _working = Working {
            rooms: self.clone(),
            ticket,
        };
        let begun = self.0.log.begin_create(ticket, create).await;
        match begun.map_err(|_| unavailable())?.map_err(refused)? {
            Begun::Now => {}
            Begun::Before(answer) => return Ok(created_room(&answer)),
        }
        launch::mutation::pass("create_begun");
        let channel = NewChannel {
            name: asked.name,
            parent_id: asked.parent_id,
            user_limit: asked.user_limit,
        };
        let asked = self.0.discord.create_channel(guild_id, channel, &reason);
        let made = match asked.await {
            Ok(made) => made,
            Err(error) => {
                // Without an answer, Discord may have created it all the same.
                if error != DiscordError::Unavailable {
                    self.withdraw(ticket).await;
                }
                return Err(discord_errors::create(&error));
            }
        };
        launch::mutation::pass("create_answered");
        let made = created_channel(made);
        // A room that a client hears of is known after a restart.
        let outcome = CreateOutcome::Created(made.clone());
        let is_stored = match self.0.log.finish_create(ticket, outcome).await {
            Ok(Ok(())) => true,
            // It was finished already: with this channel, or without one.
            Ok(Err(NotPending)) => self.0.log.room(made.channel_id).is_some(),
            Err(Unavailable) => false,
        };
        if !is_stored {
            if self.take_back(guild_id, made.channel_id).await {
                self.withdraw(ticket).await;
            }
            return Err(unavailable());
        }
        launch::mutation::pass("create_stored");
        tracing::info!(%guild_id, channel_id = %made.channel_id, "room created");
        Ok(room_of(guild_id, &made))
    }

    /// Ends a create that has no room: it no longer counts as one.
    pub(super) async fn withdraw(&self, ticket: CreateTicket) {
        self.store_at_last(move |log| async move {
            let withdrawn = log.finish_create(ticket, CreateOutcome::Withdrawn);
            withdrawn.await.is_ok()
        })
        .await;
    }

    /// Deletes a channel that Discord created and that cannot be stored. False: it may stand there yet.
    async fn take_back(&self, guild_id: GuildId, channel_id: ChannelId) -> bool {
        let reason = "Roomwire: create-room, taken back";
        match self.0.discord.delete_channel(channel_id, reason).await {
            Ok(_) => {
                tracing::warn!(%guild_id, %channel_id, "a room could not be stored and is deleted again");
                true
            }
            Err(error) => {
                tracing::error!(
                    %guild_id,
                    %channel_id,
                    ?error,
                    "a room could be neither stored nor deleted: it is looked for again once the store can be written"
                );
                false
            }
        }
    }

    fn check(&self, guild: GuildId, request: &CreateRoom) -> Result<RoomSpec, ApiError> {
        let mut wrong = match read_request(request) {
            Ok(mut spec) if self.may_be_in(guild, spec.parent_id) => {
                spec.parent_id = spec.parent_id.or_else(|| self.default_category(guild));
                return Ok(spec);
            }
            Ok(_) => Vec::new(),
            Err(wrong) => wrong,
        };
        if !self.may_be_in(guild, request.parent_id) {
            wrong.push(problem("parentId", NOT_A_CATEGORY));
        }
        let mut error = ApiError::new(Code::BadRequest, "some fields are wrong");
        error.errors = wrong;
        Err(error)
    }

    /// The category of a room whose request names none.
    fn default_category(&self, guild: GuildId) -> Option<ChannelId> {
        let view = self.0.access.whole_view(guild, None);
        self.0
            .log
            .read(guild, |state, _| view.default_category(state))
            .flatten()
    }

    /// Whether a room may be put into a category: one that viewers may know of. In a guild that no
    /// worker has reported yet, Discord decides.
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

/// What begins the reason of a create in the guild's audit log. Nothing that a subject contains can
/// stand there.
pub(super) fn marker(ticket: CreateTicket) -> String {
    format!("Roomwire {ticket}: ")
}

/// A channel as the ledger has it.
pub(super) fn created_channel(made: discord::CreatedChannel) -> CreatedChannel {
    CreatedChannel {
        channel_id: made.channel_id,
        name: made.channel.name,
        parent_id: made.channel.parent_id,
        user_limit: made.channel.user_limit,
        denies_everyone: made.denied_to_everyone,
    }
}

fn new_create(
    guild_id: GuildId,
    owner: Owner,
    spec: RoomSpec,
    request: Option<KeyedRequest>,
) -> NewCreate {
    let random = || RoomName::chosen(rand::Rng::next_u32(&mut rand::rng()));
    NewCreate {
        guild_id,
        owner,
        asked: AskedChannel {
            name: spec.name.unwrap_or_else(random).into_string(),
            parent_id: spec.parent_id,
            user_limit: spec.user_limit,
        },
        request,
    }
}

fn created_room(answer: &Answer) -> CreatedRoom {
    room_of(answer.guild_id, &answer.channel)
}

fn room_of(guild_id: GuildId, channel: &CreatedChannel) -> CreatedRoom {
    CreatedRoom {
        channel_id: channel.channel_id,
        name: channel.name.clone(),
        guild_id,
        parent_id: channel.parent_id,
        user_limit: channel.user_limit,
        join_url: join_url(guild_id, channel.channel_id),
    }
}

fn refused(why: CreateRefused) -> ApiError {
    match why {
        CreateRefused::TooMany { wait_ms } => {
            ApiError::new(Code::RateLimited, "too many rooms in a minute").retry_after_ms(wait_ms)
        }
        CreateRefused::Full => {
            tracing::warn!("the ledger is full: every create is refused");
            ApiError::new(Code::Unavailable, "Roomwire holds as many rooms as it may")
                .retry_after_ms(LEDGER_FULL_RETRY_MS)
        }
        CreateRefused::InProgress => ApiError::new(
            Code::InProgress,
            "a request with this Idempotency-Key is in progress",
        )
        .retry_after_ms(IN_PROGRESS_RETRY_MS),
        CreateRefused::OtherBody => ApiError::new(
            Code::Unprocessable,
            "this Idempotency-Key belongs to a request with another body",
        ),
    }
}
