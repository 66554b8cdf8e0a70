//! Discord, as far as a bot sees it: two guilds, who is in which room, and gateway sessions whose
//! streams are replayed to a worker that resumes them.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::str::FromStr;

use gateway_worker::dispatch::{
    Channel, Dispatch, GuildState, Profile, Read, Redaction, SessionStart, Subject, VoiceState,
};
use gateway_worker::roster::{Roster, RosterSetting};
use proto::event::{Everyone, Overwrite, RoomKind, Roster as RosterState, VoiceFlags};
use proto::{ChannelId, GuildId, UserId};

/// How many guilds there are. The first has two rooms, so that a move is two events; the second one.
pub const GUILDS: u8 = 2;

/// A member goes into a room, or out of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Move {
    /// In which guild.
    pub guild: u8,
    /// Who.
    pub user: u8,
    /// Where to; none: out.
    pub room: Option<u8>,
    /// Whether its dispatch can be read.
    pub legible: bool,
}

/// What stands at one sequence of a session's stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Sent {
    /// READY.
    Ready,
    /// GUILD_CREATE, as things stood after so many moves.
    Created {
        /// Which guild.
        guild: u8,
        /// How many moves had been made.
        moves: u8,
    },
    /// VOICE_STATE_UPDATE, by the number of the move.
    Moved(u8),
    /// RESUMED.
    Resumed,
}

/// Everything that ever happened at Discord.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Discord {
    /// Who went where, in order.
    pub moves: Vec<Move>,
    /// Every session's stream.
    pub sessions: Vec<Vec<Sent>>,
    /// Whether the newest session can still be resumed.
    pub live: bool,
    /// RESUMEs of the newest session are not answered, although it exists.
    pub stalled: bool,
    /// Which numbers the workers gave to which sessions.
    pub numbers: BTreeMap<u64, u8>,
}

/// Where somebody is, and by which of the guild's transitions (from 1) they came there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Seat {
    /// The room.
    pub room: u8,
    /// The transition.
    pub since: u8,
}

impl Discord {
    /// A member goes where they go next: into the first room, the second, out.
    pub fn go(&mut self, guild: u8, user: u8, legible: bool) {
        let rooms = GUILDS - guild;
        let room = match self.seat(guild, user, self.now()) {
            None => Some(0),
            Some(seat) => Some(seat.room + 1).filter(|room| *room < rooms),
        };
        let number = self.now();
        self.moves.push(Move {
            guild,
            user,
            room,
            legible,
        });
        if let Some(stream) = self.sessions.last_mut().filter(|_| self.live) {
            stream.push(Sent::Moved(number));
        }
    }

    /// A new session; its number here.
    pub fn identify(&mut self) -> u8 {
        let moves = self.now();
        let mut stream = vec![Sent::Ready];
        stream.extend((0..GUILDS).map(|guild| Sent::Created { guild, moves }));
        self.sessions.push(stream);
        (self.live, self.stalled) = (true, false);
        narrow(self.sessions.len()) - 1
    }

    /// Answers a RESUME: whether the session can be resumed, which stands at the end of its stream
    /// then. None: there is no answer.
    pub fn resume(&mut self, session: u8) -> Option<bool> {
        let live = self.is_live(session);
        if live && self.stalled {
            return None;
        }
        if let Some(stream) = self.sessions.last_mut().filter(|_| live) {
            stream.push(Sent::Resumed);
        }
        Some(live)
    }

    /// Whether a session can be resumed.
    pub fn is_live(&self, session: u8) -> bool {
        self.live && usize::from(session) + 1 == self.sessions.len()
    }

    /// How long a session's stream is.
    pub fn sent(&self, session: u8) -> u8 {
        self.sessions
            .get(usize::from(session))
            .map_or(0, |stream| narrow(stream.len()))
    }

    /// How many moves were made.
    pub fn now(&self) -> u8 {
        narrow(self.moves.len())
    }

    /// The id of a session.
    pub fn session_id(session: u8) -> String {
        format!("s{session}")
    }

    /// The session of an id.
    pub fn session_of(id: &str) -> Option<u8> {
        id.strip_prefix('s')?.parse().ok()
    }

    /// What stands at a sequence (from 1).
    pub fn at(&self, session: u8, sequence: u64) -> Option<Sent> {
        let index = usize::try_from(sequence.checked_sub(1)?).ok()?;
        self.sessions.get(usize::from(session))?.get(index).copied()
    }

    /// Which transition of its guild (from 1) a move was.
    pub fn transition(&self, number: u8) -> u8 {
        let guild = self.moves[usize::from(number)].guild;
        self.transitions(guild, number + 1)
    }

    /// How many transitions of a guild there are among the first `moves`.
    pub fn transitions(&self, guild: u8, moves: u8) -> u8 {
        let moves = self.moves.iter().take(usize::from(moves));
        narrow(moves.filter(|one| one.guild == guild).count())
    }

    /// A guild's transition (from 1).
    pub fn moved(&self, guild: u8, transition: u8) -> Option<Move> {
        let mut moves = self.moves.iter().filter(|one| one.guild == guild);
        moves.nth(usize::from(transition.checked_sub(1)?)).copied()
    }

    /// How many moves had been made with a guild's transition.
    pub fn moves_with(&self, guild: u8, transition: u8) -> u8 {
        (0..=self.now())
            .find(|moves| self.transitions(guild, *moves) >= transition)
            .unwrap_or_else(|| self.now())
    }

    /// How many of a guild's transitions a session's stream has sent with this sequence; none
    /// before its GUILD_CREATE.
    pub fn sent_transitions(&self, session: u8, sequence: u64, guild: u8) -> Option<u8> {
        let stream = self.sessions.get(usize::from(session))?;
        let read = usize::try_from(sequence).unwrap_or(usize::MAX);
        stream
            .iter()
            .take(read)
            .fold(None, |sent_transitions, sent| match sent {
                Sent::Created { guild: of, moves } if *of == guild => {
                    Some(self.transitions(guild, *moves))
                }
                Sent::Moved(number) if self.moves[usize::from(*number)].guild == guild => {
                    Some(self.transition(*number))
                }
                _ => sent_transitions,
            })
    }

    /// How many of a guild's transitions a session's GUILD_CREATE covers.
    pub fn created(&self, session: u8, guild: u8) -> Option<u8> {
        let stream = self.sessions.get(usize::from(session))?;
        stream.iter().find_map(|sent| match sent {
            Sent::Created { guild: of, moves } if *of == guild => {
                Some(self.transitions(guild, *moves))
            }
            _ => None,
        })
    }

    /// Where somebody was after so many moves.
    pub fn seat(&self, guild: u8, user: u8, moves: u8) -> Option<Seat> {
        let last = (0..moves).rev().find(|number| {
            let one = self.moves[usize::from(*number)];
            one.guild == guild && one.user == user
        })?;
        Some(Seat {
            room: self.moves[usize::from(last)].room?,
            since: self.transition(last),
        })
    }

    /// A dispatch, as it is read.
    pub fn read(&self, sent: Sent) -> Read {
        Read::Known(match sent {
            Sent::Ready => Dispatch::Ready(SessionStart {
                guilds: (0..GUILDS).map(guild_id).collect(),
                resume_url: None,
            }),
            Sent::Resumed => Dispatch::Resumed,
            Sent::Created { guild, moves } => Dispatch::GuildCreated(self.state(guild, moves)),
            Sent::Moved(number) => {
                let one = self.moves[usize::from(number)];
                let (guild, subject) = (guild_id(one.guild), Subject::Voice(user_id(one.user)));
                if !one.legible {
                    return Read::Unreadable {
                        guild: Some(guild),
                        subject,
                        redaction: Redaction::Nothing,
                    };
                }
                let seat = self.seat(one.guild, one.user, number + 1);
                Dispatch::VoiceChanged(guild, voice(one.guild, one.user, seat))
            }
        })
    }

    /// A guild as it was after so many moves.
    pub fn state(&self, guild: u8, moves: u8) -> GuildState {
        let users: std::collections::BTreeSet<u8> = self
            .moves
            .iter()
            .filter(|one| one.guild == guild)
            .map(|one| one.user)
            .collect();
        GuildState {
            guild_id: guild_id(guild),
            everyone: Everyone::View,
            channels: (0..GUILDS - guild)
                .map(|room| channel(guild, room))
                .collect(),
            voices: users
                .into_iter()
                .filter_map(|user| {
                    let seat = self.seat(guild, user, moves)?;
                    Some(voice(guild, user, Some(seat)))
                })
                .collect(),
            unreadable: Vec::new(),
        }
    }

    /// The same, as a snapshot has it.
    pub fn roster(&self, guild: u8, moves: u8) -> RosterState {
        let mut roster = Roster::new(guild_id(guild), roster_setting());
        let state = self.state(guild, moves);
        // A roster that knew nothing says so, and that is all it says.
        let _begun = roster.apply(Dispatch::GuildCreated(state));
        roster.snapshot("")
    }
}

/// One user's voice state. The name says by which transition they came there.
pub fn voice(guild: u8, user: u8, seat: Option<Seat>) -> VoiceState {
    VoiceState {
        user_id: user_id(user),
        channel_id: seat.map(|seat| channel_id(guild, seat.room)),
        flags: VoiceFlags::default(),
        profile: seat.map(|seat| Profile {
            display_name: seat.since.to_string(),
            guild_avatar: None,
            user_avatar: None,
            discriminator: 0,
        }),
    }
}

/// For every roster.
pub fn roster_setting() -> RosterSetting {
    RosterSetting {
        cdn: "".into(),
        tombstones_max: 2,
    }
}

/// A guild's id.
pub fn guild_id(guild: u8) -> GuildId {
    id(u64::from(guild) + 1)
}

/// Which guild it is.
pub fn guild_of(id: GuildId) -> u8 {
    u8::try_from(id.get() - 1).unwrap_or(u8::MAX)
}

/// A user's id.
pub fn user_id(user: u8) -> UserId {
    id(u64::from(user) + 101)
}

/// Which user it is.
pub fn user_of(id: UserId) -> u8 {
    u8::try_from(id.get() - 101).unwrap_or(u8::MAX)
}

/// A room's id.
pub fn channel_id(guild: u8, room: u8) -> ChannelId {
    id(u64::from(guild) * 10 + u64::from(room) + 11)
}

/// Which room it is.
pub fn room_of(id: ChannelId) -> u8 {
    u8::try_from((id.get() - 11) % 10).unwrap_or(u8::MAX)
}

fn channel(guild: u8, room: u8) -> Channel {
    Channel {
        id: channel_id(guild, room),
        kind: Some(RoomKind::Voice),
        name: String::new(),
        parent_id: None,
        user_limit: 0,
        overwrite: Overwrite::None,
        obfuscated: false,
    }
}

#[expect(
    clippy::expect_used,
    reason = "the numbers above are between 1 and 1,000"
)]
fn id<T: FromStr<Err: Debug>>(number: u64) -> T {
    number.to_string().parse().expect("an id")
}

fn narrow(count: usize) -> u8 {
    u8::try_from(count).unwrap_or(u8::MAX)
}
