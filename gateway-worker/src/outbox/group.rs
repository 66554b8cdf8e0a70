//! What stands and falls together.

use proto::GuildId;
use proto::chain::{Mark, Reached};
use proto::event::Event;

/// What made a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Origin {
    /// The dispatch at which it was read: it is replayed to whoever resumes before it.
    Dispatch,
    /// An answer of Discord's REST, or the end of a silent replay: what it tells goes back to
    /// dispatches before it.
    Answer,
    /// A debt.
    Snapshot,
}

/// Events of one guild that stand and fall together.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Group {
    /// Whose.
    guild: GuildId,
    /// At least one, in the order of their marks.
    events: Vec<Event>,
    /// Their JSON, in bytes.
    bytes: usize,
    /// How far the stream was read when it was made.
    read: Reached,
    origin: Origin,
}

impl Group {
    /// A group; none without events. All are of one guild.
    pub fn new(events: Vec<Event>, read: Reached, origin: Origin) -> Option<Self> {
        let guild = events.first()?.fact.guild_id();
        let bytes = events
            .iter()
            // What can not be written can not be delivered either, and counts as nothing.
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

    /// Whose events these are.
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

    /// How far the stream was read when it was made.
    pub(super) fn read(&self) -> Reached {
        self.read
    }

    /// That of its newest event.
    pub(super) fn mark(&self) -> Mark {
        let last = self.events.last();
        last.and_then(|event| event.at).unwrap_or_default()
    }
}
