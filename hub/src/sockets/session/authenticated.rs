//! A connection whose principal is known: its guilds, and until when its token is valid.

use std::collections::{BTreeMap, BTreeSet};

use proto::close::CloseCode;
use proto::frame::{Ack, Correlation};
use proto::problem::Code;
use proto::{ChannelId, GuildId};

use super::action::{Action, Subscribe};
use crate::access::Access;
use crate::auth::Principal;
use crate::error::ApiError;

/// An `auth` frame without its token.
pub(super) struct AuthRequest {
    pub(super) guilds: Option<Vec<GuildId>>,
    pub(super) rooms: Option<BTreeSet<ChannelId>>,
    pub(super) recover: BTreeMap<GuildId, String>,
    pub(super) re: Option<Correlation>,
}

/// The state of an authenticated connection.
pub(super) struct Authenticated {
    principal: Principal,
    subscribed: BTreeSet<GuildId>,
    pub(super) expires_ms: u64,
}

/// An error that ends the connection, and the code of its close.
pub(super) type FatalError = (Box<ApiError>, CloseCode);

impl Authenticated {
    /// Answers an `auth` frame whose token is that of `principal`, and subscribes to its guilds.
    ///
    /// # Errors
    /// The token does not allow what the frame asks for, or it asks for too much.
    pub(super) fn begin(
        principal: Principal,
        request: AuthRequest,
        expires_ms: u64,
        connection_id: &str,
        access: &Access,
        subscriptions_max: usize,
    ) -> Result<(Self, Vec<Action>), FatalError> {
        let AuthRequest {
            guilds,
            rooms,
            mut recover,
            re,
        } = request;
        let forbidden = |error| (Box::new(error), CloseCode::Forbidden);
        let readable = access.readable_guilds(&principal).map_err(forbidden)?;
        let guilds: Vec<GuildId> = match guilds {
            Some(guilds) => without_repeats(guilds),
            // A token without a guild is accepted: a newer one may bring guilds.
            None => readable.into_iter().take(subscriptions_max).collect(),
        };
        if guilds.len() > subscriptions_max {
            // Waiting does not help: the same list would be as long.
            let detail = too_many_guilds(subscriptions_max).detail;
            let error = ApiError::new(Code::BadRequest, detail);
            return Err((Box::new(error), CloseCode::BadMessage));
        }
        let views: Result<Vec<_>, _> = guilds
            .iter()
            .map(|guild| access.view(&principal, *guild, rooms.clone()))
            .collect();
        let views = views.map_err(forbidden)?;
        let ok = Ack::AuthOk {
            guild_id: guilds.first().copied(),
            guilds: guilds.clone(),
            sub: principal.subject.to_string(),
            connection_id: connection_id.to_owned(),
            expires_at: principal.expires_at_ms,
        };
        let mut actions = vec![
            Action::Authenticated(principal.clone()),
            Action::Ack(ok, re),
        ];
        actions.extend(views.into_iter().map(|view| {
            Action::Subscribe(Subscribe {
                recover: recover.remove(&view.guild()),
                view,
                re: None,
            })
        }));
        let authenticated = Self {
            principal,
            subscribed: guilds.into_iter().collect(),
            expires_ms,
        };
        Ok((authenticated, actions))
    }

    /// Replaces the token by a newer one of `principal`. Subscriptions that it does not allow end.
    ///
    /// # Errors
    /// The newer token is of another subject.
    pub(super) fn refresh(
        &mut self,
        principal: Principal,
        re: Option<Correlation>,
        expires_ms: u64,
        access: &Access,
    ) -> Result<Vec<Action>, FatalError> {
        if principal.subject != self.principal.subject {
            let error = ApiError::new(Code::Unauthorized, "a refresh keeps the same subject");
            return Err((Box::new(error), CloseCode::Unauthorized));
        }
        let lost: Vec<_> = self
            .subscribed
            .iter()
            .copied()
            .filter(|guild| access.view(&principal, *guild, None).is_err())
            .collect();
        let refreshed = Ack::AuthRefreshed {
            expires_at: principal.expires_at_ms,
            guilds: access.readable_guilds(&principal).unwrap_or_default(),
        };
        let mut actions = vec![Action::Ack(refreshed, re)];
        for guild_id in lost {
            self.subscribed.remove(&guild_id);
            let detail = "the newer token does not allow a guild";
            let forbidden = ApiError::new(Code::Forbidden, detail);
            actions.push(Action::Unsubscribe(guild_id));
            actions.push(Action::Error(forbidden, None));
            actions.push(Action::Ack(Ack::Unsubscribed { guild_id }, None));
        }
        self.principal = principal;
        self.expires_ms = expires_ms;
        Ok(actions)
    }

    /// Answers a `subscribe` frame.
    pub(super) fn subscribe(
        &mut self,
        guild: GuildId,
        (rooms, recover): (Option<Vec<ChannelId>>, Option<String>),
        re: Option<Correlation>,
        access: &Access,
        subscriptions_max: usize,
    ) -> Vec<Action> {
        let rooms = rooms.map(|rooms| rooms.into_iter().collect());
        let view = match access.view(&self.principal, guild, rooms) {
            Ok(view) => view,
            Err(error) => return vec![Action::Error(error, re)],
        };
        if !self.subscribed.contains(&guild) && self.subscribed.len() >= subscriptions_max {
            return vec![Action::Error(too_many_guilds(subscriptions_max), re)];
        }
        self.subscribed.insert(guild);
        vec![Action::Subscribe(Subscribe { view, recover, re })]
    }

    /// Answers an `unsubscribe` frame.
    pub(super) fn unsubscribe(
        &mut self,
        guild_id: GuildId,
        re: Option<Correlation>,
    ) -> Vec<Action> {
        if self.subscribed.remove(&guild_id) {
            vec![
                Action::Unsubscribe(guild_id),
                Action::Ack(Ack::Unsubscribed { guild_id }, re),
            ]
        } else {
            let error = ApiError::new(Code::NotFound, "not subscribed to this guild");
            vec![Action::Error(error, re)]
        }
    }

    /// A subscription failed: the guild does not count.
    pub(super) fn forget(&mut self, guild: GuildId) {
        self.subscribed.remove(&guild);
    }
}

fn without_repeats(guilds: Vec<GuildId>) -> Vec<GuildId> {
    let mut unique = Vec::new();
    for guild in guilds {
        if !unique.contains(&guild) {
            unique.push(guild);
        }
    }
    unique
}

fn too_many_guilds(max: usize) -> ApiError {
    ApiError::new(
        Code::RateLimited,
        format!("at most {max} guilds a connection"),
    )
}
