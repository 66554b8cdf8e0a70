//! Inviting to a room: Discord makes the link. The hub keeps nothing of it.

use proto::ChannelId;
use proto::problem::{Code, FieldProblem};
use proto::rest::{CreateInvite, Invite};
use roomlog::ledger::RoomStatus;

use super::request::problem;
use super::{Rooms, count, discord_errors};
use crate::auth::Principal;
use crate::discord::NewInvite;
use crate::error::ApiError;

/// The longest life of an invite, in seconds (Discord's documentation, "Create Channel Invite").
const MAX_AGE_S_MAX: u32 = 604_800;
/// The most uses of an invite (same place).
const MAX_USES_MAX: u32 = 100;

impl Rooms {
    /// Makes an invite to a room that the principal sees, or that is theirs.
    ///
    /// # Errors
    /// `FORBIDDEN`: the right is missing. `NOT_FOUND`: no such room, or not one that they see.
    /// `BAD_REQUEST`, with every wrong field. By Discord's answer: `DISCORD_FORBIDDEN`,
    /// `DISCORD_UNAVAILABLE`, `UNPROCESSABLE` (no more invites fit).
    pub async fn invite(
        &self,
        actor: &Principal,
        channel: ChannelId,
        request: &CreateInvite,
    ) -> Result<Invite, ApiError> {
        let result = self.make_invite(actor, channel, request).await;
        count("hub_rooms_invites_total", &result);
        result
    }

    async fn make_invite(
        &self,
        actor: &Principal,
        channel: ChannelId,
        request: &CreateInvite,
    ) -> Result<Invite, ApiError> {
        let rights = &actor.rights;
        if !(rights.create || rights.end || rights.manage) {
            return Err(ApiError::new(
                Code::Forbidden,
                "the token lacks rooms:create",
            ));
        }
        self.may_invite(actor, channel)?;
        let wrong = wrong_fields(request);
        if !wrong.is_empty() {
            let mut error = ApiError::new(Code::BadRequest, "some fields are wrong");
            error.errors = wrong;
            return Err(error);
        }
        let new = NewInvite {
            max_age_s: request.max_age_seconds,
            max_uses: request.max_uses.unwrap_or_default(),
        };
        let reason = format!("Roomwire: invite by {}", actor.subject);
        let made = self.0.discord.create_invite(channel, &new, &reason).await;
        let made = made.map_err(|error| discord_errors::invite(&error))?;
        Ok(Invite {
            url: format!("https://discord.gg/{}", made.code),
            code: made.code,
            expires_at: made.expires_at_ms,
        })
    }

    /// Whether the room is one to which the principal may invite: their own with `rooms:end`, any
    /// that they see with `rooms:create`, any of their guilds with `rooms:manage`.
    fn may_invite(&self, actor: &Principal, channel: ChannelId) -> Result<(), ApiError> {
        let guilds = self.0.access.guilds_of(actor);
        let rights = &actor.rights;
        let is_theirs = self.0.log.room(channel).is_some_and(|room| {
            let is_owner = room.owner.as_str() == actor.subject.as_str();
            room.status == RoomStatus::Open
                && guilds.contains(&room.guild_id)
                && (rights.manage || (rights.end && is_owner))
        });
        if is_theirs {
            return Ok(());
        }
        let not_found = || ApiError::new(Code::NotFound, "no such room");
        if !(rights.create || rights.manage) {
            return Err(not_found());
        }
        self.get(actor, channel).map(drop)
    }
}

/// Every field of a request that is wrong by itself.
pub(super) fn wrong_fields(request: &CreateInvite) -> Vec<FieldProblem> {
    let mut wrong = Vec::new();
    if request
        .max_age_seconds
        .is_some_and(|age| age > MAX_AGE_S_MAX)
    {
        wrong.push(problem("maxAgeSeconds", AGE_FORM));
    }
    if request.max_uses.is_some_and(|uses| uses > MAX_USES_MAX) {
        wrong.push(problem("maxUses", USES_FORM));
    }
    wrong
}

/// What `maxAgeSeconds` must be.
pub(super) const AGE_FORM: &str = "a whole number from 0 (never ends) to 604800";
/// What `maxUses` must be.
pub(super) const USES_FORM: &str = "a whole number from 0 (no limit) to 100";
