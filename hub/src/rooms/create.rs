//! Creating a room: a pending create is stored, then Discord is asked, then the room is stored.

use proto::problem::Code;
use proto::rest::{CreateRoom, CreatedRoom};
use proto::{ChannelId, GuildId};
use roomlog::ledger::{CreateOutcome, CreateRefused, CreateTicket, CreatedChannel, Owner};

use super::discord_errors::{self, NOT_A_CATEGORY};
use super::name::RoomName;
use super::request::{RoomSpec, problem, read_request};
use super::{Rooms, count, unavailable};
use crate::auth::Principal;
use crate::discord::NewChannel;
use crate::error::ApiError;

/// When to retry while the ledger is full, in ms: rooms end from time to time.
const LEDGER_FULL_RETRY_MS: u64 = 60_000;

impl Rooms {
    /// Creates a room.
    ///
    /// # Errors
    /// `FORBIDDEN`: the right is missing, or the token does not allow the guild. `BAD_REQUEST`, with
    /// every wrong field. `RATE_LIMITED`: the subject created too many rooms. `UNAVAILABLE`: the ledger
    /// is full, or nothing can be stored; then the channel is deleted again. By Discord's answer:
    /// `DISCORD_FORBIDDEN`, `DISCORD_UNAVAILABLE`, `UNPROCESSABLE` (no more channels fit).
    pub async fn create(
        &self,
        actor: &Principal,
        request: &CreateRoom,
    ) -> Result<CreatedRoom, ApiError> {
        let result = self.create_room(actor, request).await;
        count("hub_rooms_creates_total", &result);
        result
    }

    async fn create_room(
        &self,
        actor: &Principal,
        request: &CreateRoom,
    ) -> Result<CreatedRoom, ApiError> {
        if !actor.rights.create {
            return Err(ApiError::new(
                Code::Forbidden,
                "the token lacks rooms:create",
            ));
        }
        let guild = request
            .guild_id
            .or_else(|| self.0.access.primary())
            .filter(|guild| self.0.access.guilds_of(actor).contains(guild))
            .ok_or_else(|| ApiError::new(Code::Forbidden, "not a guild of this token"))?;
        let spec = self.check(guild, request)?;
        if !self.0.log.is_storing() {
            return Err(unavailable());
        }
        let (rooms, owner) = (self.clone(), Owner::new(actor.subject.as_str()));
        let created = self
            .0
            .work
            .spawn(async move { rooms.create_channel(guild, owner, spec).await });
        created
            .await
            .unwrap_or_else(|_| Err(ApiError::new(Code::Internal, "creating the room failed")))
    }

    async fn create_channel(
        &self,
        guild_id: GuildId,
        owner: Owner,
        spec: RoomSpec,
    ) -> Result<CreatedRoom, ApiError> {
        let ticket = CreateTicket(rand::Rng::next_u64(&mut rand::rng()));
        let reason = format!("Roomwire: create-room by {}", owner.as_str());
        let begun = self.0.log.begin_create(ticket, guild_id, owner).await;
        begun.map_err(|_| unavailable())?.map_err(refused)?;
        launch::mutation::pass("create_begun");
        let random = || RoomName::chosen(rand::Rng::next_u32(&mut rand::rng()));
        let channel = NewChannel {
            name: spec.name.unwrap_or_else(random).into_string(),
            parent_id: spec.parent_id,
            user_limit: spec.user_limit,
        };
        let asked = self.0.discord.create_channel(guild_id, channel, &reason);
        let made = match asked.await {
            Ok(made) => made,
            Err(error) => {
                // A channel that Discord created without saying so is not ours.
                self.withdraw(ticket).await;
                return Err(discord_errors::create(&error));
            }
        };
        launch::mutation::pass("create_answered");
        let (channel_id, channel) = (made.channel_id, made.channel);
        let outcome = CreateOutcome::Created(CreatedChannel {
            channel_id,
            name: channel.name.clone(),
            parent_id: channel.parent_id,
            user_limit: channel.user_limit,
            denies_everyone: made.denied_to_everyone,
        });
        // A room that a client hears of is known after a restart.
        let stored = self.0.log.finish_create(ticket, outcome).await;
        if !matches!(stored, Ok(Ok(()))) {
            self.take_back(guild_id, channel_id).await;
            self.withdraw(ticket).await;
            return Err(unavailable());
        }
        launch::mutation::pass("create_stored");
        tracing::info!(%guild_id, %channel_id, "room created");
        Ok(CreatedRoom {
            channel_id,
            name: channel.name,
            guild_id,
            parent_id: channel.parent_id,
            user_limit: channel.user_limit,
        })
    }

    /// Ends a create that has no room: it no longer counts as one.
    async fn withdraw(&self, ticket: CreateTicket) {
        self.store_at_last(move |log| async move {
            let withdrawn = log.finish_create(ticket, CreateOutcome::Withdrawn);
            withdrawn.await.is_ok()
        })
        .await;
    }

    /// Deletes a channel that Discord created and that cannot be stored.
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
    }
}
