//! What one guild's log has published, and what it may publish next.
//!
//! Every transition of a guild has a number, which stands in the member's name; so it is seen which
//! transition an entry is. None is published twice or out of order, and none is left out but behind a
//! snapshot or the GUILD_CREATE of a later session. From a transition on that could not be read,
//! Discord's REST may be ahead of the stream and answer what the stream then repeats: from
//! there on it counts where the guild ends, not how it got there.

use proto::chain::Mark;
use proto::event::{Fact, Voice};
use roomlog::GuildState;

use crate::discord::{Discord, Sent, guild_id, room_of, user_of};

/// What a log has published.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Published {
    /// The newest transition.
    pub last: u8,
    /// The first half of a move stands there, and the second does not.
    half: bool,
}

/// A new entry of the log.
pub struct Entry<'a> {
    /// The transition that it is.
    pub fact: &'a Fact,
    /// Where the worker had it from.
    pub at: Mark,
    /// The guild before it.
    pub before: &'a GuildState,
    /// The guild with it.
    pub after: &'a GuildState,
}

impl Published {
    /// Hears an entry.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn hear(&mut self, guild: u8, entry: &Entry<'_>, discord: &Discord) -> Result<(), String> {
        let at = entry.at.reached;
        let Some(session) = discord.numbers.get(&at.session).copied() else {
            return Err(format!("of an unknown session {}", at.session));
        };
        let source = discord.at(session, at.sequence);
        let read = discord.sent_transitions(session, at.sequence, guild);
        let covered = discord.created(session, guild).filter(|_| read.is_some());
        let unread = |number| discord.moved(guild, number).is_some_and(|one| !one.legible);
        let known = read.unwrap_or_else(|| discord.transitions(guild, discord.now()));
        let legible = !(1..=known).any(unread);
        if let Fact::Snapshot(roster) = entry.fact {
            let same = |number: &u8| {
                let truth = discord.roster(guild, discord.moves_with(guild, *number));
                roster.voices == truth.voices && roster.rooms == truth.rooms
            };
            let now = discord.transitions(guild, discord.now());
            // Before the session's GUILD_CREATE it is what was known before.
            let read = read.or_else(|| (self.last..=now).find(same)).unwrap_or(0);
            if legible && read < self.last {
                return Err(format!("a snapshot of {read}, after {}", self.last));
            }
            if legible && !same(&read) {
                return Err(format!("a snapshot that is not the guild after {read}"));
            }
            *self = Self {
                last: read,
                half: false,
            };
            return Ok(());
        }
        if entry.before == entry.after {
            return Err(format!("changes nothing, after {}", self.last));
        }
        if !legible {
            self.last = self.last.max(read.unwrap_or(0));
            self.half = false;
            return Ok(());
        }
        let (number, joins) = match entry.fact {
            Fact::VoiceJoined(voice) | Fact::VoiceStateChanged(voice) => (name(voice)?, true),
            Fact::VoiceLeft(voice) => (left_by(guild, voice, discord)?, false),
            other => return Err(format!("nothing like that ever happened: {other:?}")),
        };
        match source {
            Some(Sent::Moved(of)) if is_transition(discord, guild, of, number) => {
                let second = self.half && joins && number == self.last;
                if number <= self.last && !second {
                    return Err(format!(
                        "transition {number} again or out of order, after {}",
                        self.last
                    ));
                }
                let last = self.last.max(covered.unwrap_or(0));
                if number > last + 1 {
                    return Err(format!("lost before {number}, after {last}"));
                }
                self.half =
                    matches!(entry.fact, Fact::VoiceLeft(voice) if voice.moved_to.is_some());
                self.last = number;
            }
            Some(Sent::Created { moves, .. }) => {
                let covered = discord.transitions(guild, moves);
                if covered < self.last || number > covered {
                    return Err(format!(
                        "transition {number} of a GUILD_CREATE that covers {covered}, after {}",
                        self.last
                    ));
                }
                self.last = covered;
                self.half = false;
            }
            _ => return Err(format!("transition {number}, at {source:?}")),
        }
        Ok(())
    }
}

/// Whether a move is this transition of the guild.
fn is_transition(discord: &Discord, guild: u8, of: u8, number: u8) -> bool {
    let one = discord.moves[usize::from(of)];
    one.guild == guild && one.legible && discord.transition(of) == number
}

fn name(voice: &Voice) -> Result<u8, String> {
    let name = voice
        .member
        .as_ref()
        .map(|member| member.display_name.as_str());
    name.and_then(|name| name.parse().ok())
        .ok_or_else(|| format!("nobody's name: {voice:?}"))
}

/// The transition by which somebody left a seat.
fn left_by(guild: u8, voice: &Voice, discord: &Discord) -> Result<u8, String> {
    let (user, since) = (user_of(voice.user_id), name(voice)?);
    let to = voice.moved_to.map(room_of);
    debug_assert_eq!(voice.guild_id, guild_id(guild));
    (since + 1..=discord.transitions(guild, discord.now()))
        .find(|number| {
            let one = discord.moved(guild, *number);
            one.is_some_and(|one| one.user == user && one.room == to)
        })
        .ok_or_else(|| format!("never left: {voice:?}"))
}
