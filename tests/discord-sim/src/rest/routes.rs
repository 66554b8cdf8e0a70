//! The table of routes, and how a path means one of them.

use http::Method;

use super::errors::{Problem, Served};
use super::{Call, audit, callbacks, channels, commands, guilds, invites, itself};
use crate::Sim;
use crate::snowflake::Id;

/// Who may call a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Caller {
    /// The bot, by its token.
    Bot,
    /// Anybody.
    Open,
    /// Every client with the interaction's token; not bound to the bot's global limit.
    Interaction,
}

/// A route: `{name}` stands for a snowflake, `*` for any segment.
pub(super) struct Route {
    pub(super) method: Method,
    path: &'static str,
    pub(super) caller: Caller,
    pub(super) serve: fn(&Sim, &Call) -> Served,
}

macro_rules! routes {
    ($($method:ident $path:literal $caller:ident $serve:path;)*) => {
        pub(super) static ROUTES: &[Route] = &[$(Route {
            method: Method::$method, path: $path, caller: Caller::$caller, serve: $serve,
        }),*];
    };
}

routes! {
    GET "/gateway" Open itself::gateway;
    GET "/gateway/bot" Bot itself::gateway_bot;
    GET "/users/@me" Bot itself::me;
    GET "/users/{user_id}" Bot itself::user;
    GET "/applications/@me" Bot itself::application;
    GET "/oauth2/applications/@me" Bot itself::application;
    GET "/guilds/{guild_id}" Bot guilds::guild;
    GET "/guilds/{guild_id}/roles" Bot guilds::roles;
    GET "/guilds/{guild_id}/members/{user_id}" Bot guilds::member;
    PATCH "/guilds/{guild_id}/members/{user_id}" Bot guilds::change_member;
    GET "/guilds/{guild_id}/audit-logs" Bot audit::read;
    GET "/guilds/{guild_id}/voice-states/@me" Bot guilds::own_voice_state;
    GET "/guilds/{guild_id}/voice-states/{user_id}" Bot guilds::voice_state;
    GET "/guilds/{guild_id}/channels" Bot channels::list;
    POST "/guilds/{guild_id}/channels" Bot channels::create;
    GET "/channels/{channel_id}" Bot channels::read_route;
    PATCH "/channels/{channel_id}" Bot channels::change;
    DELETE "/channels/{channel_id}" Bot channels::delete;
    POST "/channels/{channel_id}/invites" Bot invites::create;
    PUT "/channels/{channel_id}/voice-status" Bot channels::set_status;
    GET "/applications/{application_id}/commands" Bot commands::list;
    POST "/applications/{application_id}/commands" Bot commands::upsert;
    PUT "/applications/{application_id}/commands" Bot commands::overwrite;
    GET "/applications/{application_id}/commands/{command_id}" Bot commands::read;
    PATCH "/applications/{application_id}/commands/{command_id}" Bot commands::change;
    DELETE "/applications/{application_id}/commands/{command_id}" Bot commands::delete;
    GET "/applications/{application_id}/guilds/{guild_id}/commands" Bot commands::list;
    POST "/applications/{application_id}/guilds/{guild_id}/commands" Bot commands::upsert;
    PUT "/applications/{application_id}/guilds/{guild_id}/commands" Bot commands::overwrite;
    GET "/applications/{application_id}/guilds/{guild_id}/commands/{command_id}" Bot commands::read;
    PATCH "/applications/{application_id}/guilds/{guild_id}/commands/{command_id}" Bot commands::change;
    DELETE "/applications/{application_id}/guilds/{guild_id}/commands/{command_id}" Bot commands::delete;
    POST "/interactions/{interaction_id}/*/callback" Interaction callbacks::callback;
    POST "/webhooks/{application_id}/*" Interaction callbacks::follow_up;
    GET "/webhooks/{application_id}/*/messages/@original" Interaction callbacks::original;
    PATCH "/webhooks/{application_id}/*/messages/@original" Interaction callbacks::edit_original;
    DELETE "/webhooks/{application_id}/*/messages/@original" Interaction callbacks::delete_original;
}

/// Every route that is served, as counters and faults name it: `POST /guilds/*/channels`.
pub(crate) fn routes() -> impl Iterator<Item = String> {
    ROUTES.iter().map(Route::name)
}

impl Route {
    /// The route as counters and faults name it: `POST /guilds/*/channels`.
    pub(super) fn name(&self) -> String {
        let path: Vec<&str> = self
            .path
            .split('/')
            .map(|segment| {
                if segment.starts_with('{') {
                    "*"
                } else {
                    segment
                }
            })
            .collect();
        format!("{} {}", self.method, path.join("/"))
    }

    pub(super) fn matches(&self, path: &str) -> bool {
        self.path.split('/').count() == path.split('/').count()
            && self
                .path
                .split('/')
                .zip(path.split('/'))
                .all(|(pattern, segment)| {
                    pattern == "*" || pattern.starts_with('{') || pattern == segment
                })
    }

    /// Whether some request of this route is meant by a fault's method and path, in which `*` is any
    /// segment.
    pub(super) fn may_match(&self, method: &str, path: &str) -> bool {
        self.method.as_str().eq_ignore_ascii_case(method)
            && self.path.split('/').count() == path.split('/').count()
            && self
                .path
                .split('/')
                .zip(path.split('/'))
                .all(|(own, segment)| match own {
                    _ if segment == "*" => true,
                    "*" => !segment.is_empty(),
                    id if id.starts_with('{') => segment.parse::<Id>().is_ok(),
                    literal => literal == segment,
                })
    }

    /// The ids and free segments of a path, in order.
    pub(super) fn values(&self, path: &str) -> Result<(Vec<Id>, Vec<String>), Problem> {
        let mut ids = Vec::new();
        let mut words = Vec::new();
        for (pattern, segment) in self.path.split('/').zip(path.split('/')) {
            if pattern == "*" {
                words.push(segment.to_owned());
            } else if let Some(name) = pattern.strip_prefix('{') {
                let field = name.trim_end_matches('}');
                ids.push(
                    segment
                        .parse()
                        .map_err(|_| Problem::not_a_snowflake(field, segment))?,
                );
            }
        }
        Ok((ids, words))
    }
}
