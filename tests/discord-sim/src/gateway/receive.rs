//! What a client sends, opcode by opcode (`gateway-events.mdx`, "Send Events").

use serde_json::{Value, json};

use super::history::{Fate, Why};
use super::identify::Verdict;
use super::payload::{self, Received};
use super::session::{Session, Unresumable};
use super::{Gateway, Order, Which, intents};
use crate::render;
use crate::snowflake::{Id, hash_of};
use crate::state::{APPLICATION_ID, DiscordState, VoiceChange};

/// What a payload asks of the state; everything else is answered here.
pub(crate) enum Asked {
    /// Nothing.
    Nothing,
    /// The bot wants to join, move or leave.
    Voice(Id, VoiceChange),
}

impl Gateway {
    /// Takes one payload of a connection.
    pub(crate) fn receive(
        &mut self,
        state: &DiscordState,
        connection: u64,
        received: &Received,
        now_ms: u64,
    ) -> Asked {
        let data = &received.d;
        let known = self.session_of(connection).is_some();
        match received.op {
            1 => {
                self.counts.heartbeats += 1;
                if data.is_null() || data.is_u64() {
                    self.say(connection, payload::heartbeat_ack());
                } else {
                    self.refuse(connection, 4002, now_ms);
                }
            }
            2 if known => self.refuse(connection, 4005, now_ms),
            2 => {
                let begun = self.identify(state, connection, data, now_ms);
                let fate = if begun.is_some() {
                    Fate::Identified(state.seq())
                } else {
                    Fate::IdentifyRefused
                };
                self.history.note(&begun.unwrap_or_default(), fate, now_ms);
            }
            6 if known => self.refuse(connection, 4005, now_ms),
            6 => self.resume(connection, data, now_ms),
            3 | 4 | 8 | 31 | 43 if !known => self.refuse(connection, 4003, now_ms),
            3 if !data.is_object() => self.refuse(connection, 4002, now_ms),
            3 => {}
            4 => return self.bot_voice(state, connection, data, now_ms),
            8 => self.request_members(state, connection, data, now_ms),
            31 => self.request_sounds(state, connection, data, now_ms),
            43 => self.request_channel_info(state, connection, data, now_ms),
            _ => self.refuse(connection, 4001, now_ms),
        }
        Asked::Nothing
    }

    /// Closes a connection for what its client did; a session that it had may be resumed.
    pub(crate) fn refuse(&mut self, connection: u64, code: u16, now_ms: u64) {
        self.close(connection, code);
        let ends = match code {
            4009 => Some(Why::Heartbeat),
            4004 | 4007 | 4010..=4014 => Some(Why::Client),
            _ => None,
        };
        self.detach(connection, ends, now_ms);
    }

    /// Begins a session, and returns its id; `None`: refused.
    fn identify(
        &mut self,
        state: &DiscordState,
        connection: u64,
        data: &Value,
        now_ms: u64,
    ) -> Option<String> {
        self.counts.identify += 1;
        let (Some(token), Some(_), Some(intents)) = (
            data["token"].as_str(),
            data["properties"].as_object(),
            data["intents"].as_i64(),
        ) else {
            self.refuse(connection, 4002, now_ms);
            return None;
        };
        if !self.accepts(token) {
            self.refuse(connection, 4004, now_ms);
            return None;
        }
        let Some(shard) = shard_of(&data["shard"]) else {
            self.refuse(connection, 4010, now_ms);
            return None;
        };
        let served = state
            .guilds
            .keys()
            .filter(|guild| guild.shard(shard.1) == u64::from(shard.0));
        if served.count()
            > usize::try_from(self.settings.sim_guilds_per_shard).unwrap_or(usize::MAX)
        {
            self.refuse(connection, 4011, now_ms);
            return None;
        }
        let Some(intents) = u64::try_from(intents)
            .ok()
            .filter(|bits| bits & !intents::KNOWN == 0)
        else {
            self.refuse(connection, 4013, now_ms);
            return None;
        };
        if intents & intents::PRIVILEGED & !self.settings.sim_intents_granted != 0 {
            self.refuse(connection, 4014, now_ms);
            return None;
        }
        match self.budget.spend(shard.0, now_ms) {
            Verdict::Go => {}
            Verdict::Busy => {
                self.say(connection, payload::invalid_session(false));
                return None;
            }
            Verdict::Spent => {
                tracing::warn!(
                    "the identify budget is overspent: every session ends, the token is reset"
                );
                self.token_reset = true;
                self.close_all(&Which::default(), 4004, now_ms);
                self.refuse(connection, 4004, now_ms);
                return None;
            }
        }
        self.remove_ended(now_ms);
        if !self.make_room() {
            self.say(connection, payload::invalid_session(false));
            return None;
        }
        let id = hash_of(&[self.settings.sim_seed, self.counts.identify, now_ms]);
        let replay_max = usize::try_from(self.settings.sim_replay_max).unwrap_or(usize::MAX);
        let mut session = Session::new(id.clone(), shard, intents, connection, replay_max);
        session.obfuscated = data["capabilities"]
            .as_u64()
            .is_some_and(|bits| bits & (1 << 15) != 0);
        self.sessions.insert(id.clone(), session);
        self.greet(state, &id, shard, data["shard"].is_array());
        Some(id)
    }

    /// READY, and then the guilds.
    fn greet(&mut self, state: &DiscordState, id: &str, shard: (u32, u32), sharded: bool) {
        let guilds: Vec<_> = state
            .guilds
            .values()
            .filter(|guild| guild.id.shard(shard.1) == u64::from(shard.0))
            .collect();
        let mut ready = json!({
            "v": 10,
            "user": state.users.get(&APPLICATION_ID).map(render::own_user),
            "guilds": guilds.iter().map(|guild| json!({"id": guild.id, "unavailable": true})).collect::<Vec<_>>(),
            "session_id": id,
            "resume_gateway_url": self.url(),
            "application": {"id": APPLICATION_ID, "flags": application_flags(self.settings.sim_intents_granted),
                "flags_new": application_flags(self.settings.sim_intents_granted).to_string()},
        });
        if sharded {
            ready["shard"] = json!([shard.0, shard.1]);
        }
        self.dispatch(id, "READY", &ready);
        for guild in guilds {
            let Some(session) = self
                .sessions
                .get(id)
                .filter(|session| session.intents & intents::GUILDS != 0)
            else {
                return;
            };
            if guild.unavailable {
                self.dispatch(
                    id,
                    "GUILD_DELETE",
                    &json!({"id": guild.id, "unavailable": true}),
                );
            } else {
                let hidden = session.hidden(self.settings.sim_obfuscate);
                let data = session.guild_create(state, guild, hidden);
                self.dispatch(id, "GUILD_CREATE", &data);
            }
        }
    }

    /// Whether one more session fits; the one that waits longest makes room.
    fn make_room(&mut self) -> bool {
        if self.sessions.len()
            < usize::try_from(self.settings.sim_sessions_max).unwrap_or(usize::MAX)
        {
            return true;
        }
        let oldest = self
            .sessions
            .values()
            .filter(|session| session.connection.is_none())
            .min_by_key(|session| session.detached_ms)
            .map(|session| session.id.clone());
        oldest.is_some_and(|id| self.sessions.remove(&id).is_some())
    }

    fn resume(&mut self, connection: u64, data: &Value, now_ms: u64) {
        self.counts.resume += 1;
        let (Some(token), Some(id), Some(seen)) = (
            data["token"].as_str(),
            data["session_id"].as_str(),
            data["seq"].as_u64(),
        ) else {
            return self.refuse(connection, 4002, now_ms);
        };
        if !self.accepts(token) {
            return self.refuse(connection, 4004, now_ms);
        }
        self.remove_ended(now_ms);
        let missed = match self.sessions.get(id).map(|session| session.replay(seen)) {
            Some(Ok(missed)) => missed,
            Some(Err(Unresumable::FromTheFuture)) => {
                self.refuse_resume(id, Why::Client, now_ms);
                return self.refuse(connection, 4007, now_ms);
            }
            Some(Err(Unresumable::Forgotten)) | None => {
                self.refuse_resume(id, Why::Forgotten, now_ms);
                return self.say(connection, payload::invalid_session(false));
            }
        };
        if let Some(fault) = self.meet_resume_fault() {
            self.history.note(id, Fate::ResumeUnanswered, now_ms);
            return self.fail_resume(connection, fault, missed);
        }
        let Some(session) = self.sessions.get_mut(id) else {
            return;
        };
        // A session has one connection: the one that resumed it last.
        if let Some(link) = session
            .connection
            .replace(connection)
            .and_then(|former| self.links.remove(&former))
        {
            link.cut.cancel();
        }
        self.counts.resumed += 1;
        self.history.note(id, Fate::Resumed, now_ms);
        self.order(connection, Order::Replay(missed));
        self.dispatch(id, "RESUMED", &json!({"_trace": ["discord-sim"]}));
    }

    /// A session that cannot be resumed is gone.
    fn refuse_resume(&mut self, id: &str, why: Why, now_ms: u64) {
        if self.sessions.remove(id).is_some_and(|known| !known.expired) {
            self.history.note(id, Fate::Ended(why), now_ms);
        }
        self.history.note(id, Fate::ResumeRefused, now_ms);
    }

    /// Whether the token is the bot's, and still worth something.
    pub(crate) fn accepts(&self, token: &str) -> bool {
        let token = token.strip_prefix("Bot ").unwrap_or(token);
        !self.token_reset && token == crate::TOKEN
    }
}

/// `GATEWAY_*_LIMITED` flags of an application that was granted these intents.
pub(crate) fn application_flags(granted: u64) -> u64 {
    let flag = |intent, flag| if granted & intent != 0 { flag } else { 0 };
    flag(intents::GUILD_PRESENCES, 1 << 13)
        | flag(intents::GUILD_MEMBERS, 1 << 15)
        | flag(intents::MESSAGE_CONTENT, 1 << 19)
}

/// `[id, count]` with the id below the count; without it, `[0, 1]`.
fn shard_of(value: &Value) -> Option<(u32, u32)> {
    if value.is_null() {
        return Some((0, 1));
    }
    let numbers: Vec<u32> = value
        .as_array()?
        .iter()
        .map(|number| {
            number
                .as_u64()
                .and_then(|number| u32::try_from(number).ok())
        })
        .collect::<Option<_>>()?;
    match numbers.as_slice() {
        [id, count] if id < count => Some((*id, *count)),
        _ => None,
    }
}
