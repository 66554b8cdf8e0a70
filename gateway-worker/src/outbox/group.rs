//! Events that are delivered or dropped together.

use proto::GuildId;
use proto::chain::{Mark, Reached};
use proto::event::Event;

/// What led to a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Origin {
    /// A dispatch. Discord replays it to a worker that resumes before it.
    Dispatch,
    /// An answer of Discord's REST, or the end of a replay: it depends on earlier dispatches.
    Answer,
    /// A debt.
    Snapshot,
}

/// Events of one guild that are delivered or dropped together.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Group {
    /// The guild of all its events.
    guild: GuildId,
    /// At least one, in the order of their marks.
    events: Vec<Event>,
    /// Their JSON, in bytes.
    bytes: usize,
    /// The point up to which the stream was read when the group was made.
    read: Reached,
    origin: Origin,
}

impl Group {
    /// A group; none without events. All are of one guild.
    pub fn new(events: Vec<Event>, read: Reached, origin: Origin) -> Option<Self> {
        let guild = events.first()?.fact.guild_id();
        let bytes = events
            .iter()
            // An event that cannot be serialized cannot be delivered either, and counts 0.
            .map(|event| serde_json::to_vec(event).map_or(0, |json| json.len() + 1))
            .sum();
        Some(Self {
            guild,
            events,
            bytes,
            read,
            origin,
        })
    }

    /// The guild.
    pub fn guild(&self) -> GuildId {
        self.guild
    }

    /// What made it.
    pub fn origin(&self) -> Origin {
        self.origin
    }

    /// Its events.
    pub fn events(&self) -> &[Event] {
        &self.events
    }

    /// Their JSON, in bytes.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// The point up to which the stream was read when the group was made.
    pub(super) fn read(&self) -> Reached {
        self.read
    }

    /// The mark of its newest event.
    pub(super) fn mark(&self) -> Mark {
        let last = self.events.last();
        last.and_then(|event| event.at).unwrap_or_default()
    }
}
