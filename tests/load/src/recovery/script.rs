//! The events while the hub is killed, and how a browser knows whether it has all of them.
//!
//! Events go round the rooms; in each room, round its people, who all live through sixteen steps
//! again and again: the four marks that users set themselves spell the step. A browser watches one
//! room, so the events of that room must come to it one after the other, each exactly once. The
//! script says which step is next; a snapshot says how far the room is.
//!
//! Pure.

use proto::GuildId;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::script::{Marks, Payload, VoiceChange};

/// People of a room.
pub(crate) const PEOPLE: u64 = 8;
/// Steps of a person's life.
const STEPS: u64 = 16;
/// After so many events, a room is as it was.
const CYCLE: u64 = PEOPLE * STEPS;
/// Users of the measurement; the simulator makes users that it does not know.
const FIRST_USER: u64 = 220_000_000_000_000_000;

/// Where it happens.
#[derive(Debug, Clone)]
pub(crate) struct Play {
    /// The guild.
    pub(crate) guild: GuildId,
    /// The rooms. Event `e` is in room `e % rooms`, as event `e / rooms` of it; the first ones
    /// are joins.
    pub(crate) rooms: Vec<String>,
}

/// A person and what they do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Step {
    /// Which of the room's people.
    pub(crate) person: u64,
    /// Which step.
    pub(crate) step: u64,
}

impl Step {
    /// Event number `nth` of any room.
    pub(crate) fn of(nth: u64) -> Self {
        Self {
            person: nth % PEOPLE,
            step: nth / PEOPLE % STEPS,
        }
    }

    fn place(self) -> u64 {
        self.step * PEOPLE + self.person
    }

    /// The marks that spell it.
    pub(crate) fn marks(self) -> Marks {
        Marks::spelling(usize::try_from(self.step).unwrap_or_default())
    }
}

/// The user who is this person of this room.
pub(crate) fn user(room: usize, person: u64) -> u64 {
    FIRST_USER + room as u64 * PEOPLE + person
}

impl Play {
    /// How many events let everybody join.
    pub(crate) fn joins(&self) -> u64 {
        self.rooms.len() as u64 * PEOPLE
    }

    /// The room of an event.
    pub(crate) fn room_of(&self, event: u64) -> usize {
        usize::try_from(event % self.rooms.len() as u64).unwrap_or_default()
    }

    /// How many of the first `events` events are in a room.
    pub(crate) fn events_of(&self, room: usize, events: u64) -> u64 {
        let rooms = self.rooms.len() as u64;
        events / rooms + u64::from(events % rooms > room as u64)
    }

    /// The change of event number `event`.
    pub(crate) fn change(&self, event: u64) -> VoiceChange {
        let room = self.room_of(event);
        let step = Step::of(event / self.rooms.len() as u64);
        VoiceChange::new(
            self.guild.to_string(),
            user(room, step.person).to_string(),
            self.rooms.get(room).cloned(),
            step.marks(),
        )
    }
}

/// As much of a server frame as this measurement needs.
#[derive(Debug, Deserialize)]
pub(crate) struct Frame<'a> {
    r#type: &'a str,
    event: Option<&'a str>,
    n: Option<u64>,
    pos: Option<&'a str>,
    recovered: Option<bool>,
    #[serde(borrow)]
    payload: Option<&'a RawValue>,
}

#[derive(Debug, Deserialize)]
struct Snapshot<'a> {
    #[serde(borrow)]
    rooms: Vec<Room<'a>>,
    part: Option<u32>,
    of: Option<u32>,
}

#[derive(Debug, Deserialize)]
struct Room<'a> {
    #[serde(borrow)]
    members: Vec<Payload<'a>>,
}

/// What a frame means to a browser.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Meaning {
    /// The subscription goes on from the position that was given: no snapshot comes.
    Recovered,
    /// A snapshot will come.
    NotRecovered,
    /// The event of this number in its room.
    Event(u64),
    /// The room as a whole.
    Snapshot,
    /// What must not happen.
    Fault(Fault),
    /// Nothing that matters here.
    Nothing,
    /// An error frame.
    Refused,
}

/// What must not happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// So many events of the room were passed over.
    Lost(u64),
    /// An event came again.
    Doubled,
    /// The number of a frame did not follow the one before.
    Gap,
    /// A snapshot that no moment of the room looked like, or an earlier one than was known already.
    Untrue,
}

/// One browser's place in its room.
#[derive(Debug, Clone)]
pub(crate) struct Follower {
    room: usize,
    /// The next event of the room.
    next: u64,
    /// The number of the last numbered frame.
    n: u64,
    /// The last position.
    pos: Option<String>,
    /// Of a snapshot in parts: the people so far.
    parts: Vec<Step>,
}

impl Follower {
    /// A browser that knows nothing yet.
    pub(crate) fn new(room: usize) -> Self {
        Self {
            room,
            next: 0,
            n: 0,
            pos: None,
            parts: Vec::new(),
        }
    }

    /// Events of the room that it has.
    pub(crate) fn next(&self) -> u64 {
        self.next
    }

    /// From where it goes on.
    pub(crate) fn pos(&self) -> Option<&str> {
        self.pos.as_deref()
    }

    /// Reads a frame; `sent` events of the room were sent until now.
    ///
    /// # Errors
    /// It is not of the documented form.
    pub(crate) fn read(&mut self, text: &str, sent: u64) -> serde_json::Result<Meaning> {
        let frame: Frame<'_> = serde_json::from_str(text)?;
        let meaning = match (frame.r#type, frame.event, frame.payload) {
            ("error", ..) => Meaning::Refused,
            ("ack", Some("subscribed"), _) => {
                self.n = 0;
                if frame.recovered == Some(true) {
                    Meaning::Recovered
                } else {
                    Meaning::NotRecovered
                }
            }
            ("event", Some("guild.snapshot"), Some(payload)) => {
                self.n = frame.n.unwrap_or_default();
                self.take_snapshot(&serde_json::from_str(payload.get())?, sent)
            }
            ("event", ..) if !self.follows(frame.n) => Meaning::Fault(Fault::Gap),
            ("event", Some("voice.state_changed" | "voice.joined"), Some(payload)) => {
                self.take(&serde_json::from_str(payload.get())?)
            }
            _ => Meaning::Nothing,
        };
        if let Some(pos) = frame.pos {
            let kept = self.pos.get_or_insert_default();
            kept.clear();
            kept.push_str(pos);
        }
        Ok(meaning)
    }

    /// Whether a frame's number follows the last one's; frames without a number always do.
    fn follows(&mut self, n: Option<u64>) -> bool {
        n.is_none_or(|n| n == std::mem::replace(&mut self.n, n) + 1)
    }

    fn step(&self, voice: &Payload<'_>) -> Option<Step> {
        let person = voice.user()?.checked_sub(user(self.room, 0))?;
        (person < PEOPLE).then_some(Step {
            person,
            step: voice.spelled() as u64,
        })
    }

    fn take(&mut self, voice: &Payload<'_>) -> Meaning {
        let Some(step) = self.step(voice) else {
            return Meaning::Fault(Fault::Untrue);
        };
        let ahead = (step.place() + CYCLE - Step::of(self.next).place()) % CYCLE;
        if ahead == 0 {
            self.next += 1;
            return Meaning::Event(self.next - 1);
        }
        if ahead >= CYCLE / 2 {
            return Meaning::Fault(Fault::Doubled);
        }
        self.next += ahead + 1;
        Meaning::Fault(Fault::Lost(ahead))
    }

    fn take_snapshot(&mut self, snapshot: &Snapshot<'_>, sent: u64) -> Meaning {
        if snapshot.part.unwrap_or(1) == 1 {
            self.parts.clear();
        }
        for voice in snapshot.rooms.iter().flat_map(|room| &room.members) {
            let Some(step) = self.step(voice) else {
                return Meaning::Fault(Fault::Untrue);
            };
            self.parts.push(step);
        }
        if snapshot.part != snapshot.of {
            return Meaning::Nothing;
        }
        match held(&self.parts, sent) {
            Some(next) if next >= self.next => {
                self.next = next;
                Meaning::Snapshot
            }
            _ => Meaning::Fault(Fault::Untrue),
        }
    }
}

/// How many events of a room lead to these people, the latest that is possible once `sent` were
/// sent. At first people come in, one with each event.
fn held(people: &[Step], sent: u64) -> Option<u64> {
    let leads = |next: &u64| {
        people.len() as u64 == PEOPLE.min(*next)
            && (next.saturating_sub(PEOPLE)..*next).all(|nth| people.contains(&Step::of(nth)))
    };
    (sent.saturating_sub(CYCLE)..=sent).rev().find(leads)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn play() -> Play {
        Play {
            guild: GuildId::new(1).unwrap(),
            rooms: vec!["2".into(), "3".into(), "4".into()],
        }
    }

    fn voice(room: usize, nth: u64) -> serde_json::Value {
        let step = Step::of(nth);
        let mut voice = serde_json::to_value(step.marks()).unwrap();
        voice["userId"] = json!(user(room, step.person).to_string());
        voice
    }

    fn event(room: usize, nth: u64, n: u64) -> String {
        json!({"v": 1, "type": "event", "event": "voice.state_changed", "payload": voice(room, nth), "pos": format!("p{nth}"), "n": n})
            .to_string()
    }

    fn snapshot(room: usize, next: u64) -> String {
        let members: Vec<_> = (next.saturating_sub(PEOPLE)..next)
            .map(|nth| voice(room, nth))
            .collect();
        json!({"type": "event", "event": "guild.snapshot", "payload": {"rooms": [{"members": members}]}, "pos": "s", "n": 0})
            .to_string()
    }

    fn subscribed(recovered: bool) -> String {
        json!({"type": "ack", "event": "subscribed", "recovered": recovered, "pos": "s"})
            .to_string()
    }

    fn at(room: usize, next: u64) -> Follower {
        let mut follower = Follower::new(room);
        assert_eq!(
            follower.read(&snapshot(room, next), next).unwrap(),
            Meaning::Snapshot
        );
        follower
    }

    #[test]
    fn events_go_round_the_rooms_and_everyone_changes_something() {
        let play = play();
        assert_eq!(play.joins(), 24);
        assert_eq!([0, 1, 2].map(|room| play.events_of(room, 7)), [3, 2, 2]);
        for event in play.joins()..20 * play.joins() {
            assert_ne!(play.change(event), play.change(event - play.joins()));
        }
    }

    #[test]
    fn a_snapshot_says_how_far_the_room_is() {
        for next in [0, 1, 7, 8, 9, 15, 16, 17, 127, 128, 129, 1_000] {
            assert_eq!(at(1, next).next(), next);
            let mut early = Follower::new(1);
            let meaning = early.read(&snapshot(1, next), next + 60).unwrap();
            assert_eq!((meaning, early.next()), (Meaning::Snapshot, next));
        }
    }

    #[test]
    fn every_event_in_its_turn_is_an_event_over_reconnects_too() {
        let mut follower = at(2, 8);
        for nth in 8..300 {
            assert_eq!(
                follower.read(&event(2, nth, nth - 7), nth + 1).unwrap(),
                Meaning::Event(nth)
            );
        }
        assert_eq!(follower.pos(), Some("p299"));
        assert_eq!(
            follower.read(&subscribed(true), 310).unwrap(),
            Meaning::Recovered
        );
        assert_eq!(
            follower.read(&event(2, 300, 1), 310).unwrap(),
            Meaning::Event(300)
        );
        assert_eq!(
            follower.read(&subscribed(false), 310).unwrap(),
            Meaning::NotRecovered
        );
        assert_eq!(
            follower.read(&snapshot(2, 305), 310).unwrap(),
            Meaning::Snapshot
        );
        assert_eq!(
            follower.read(&event(2, 305, 1), 310).unwrap(),
            Meaning::Event(305)
        );
    }

    #[test]
    fn lost_doubled_and_misnumbered_events_are_found() {
        let mut follower = at(0, 20);
        assert_eq!(
            follower.read(&event(0, 22, 1), 30).unwrap(),
            Meaning::Fault(Fault::Lost(2))
        );
        assert_eq!(
            follower.read(&event(0, 22, 2), 30).unwrap(),
            Meaning::Fault(Fault::Doubled)
        );
        assert_eq!(
            follower.read(&event(0, 23, 4), 30).unwrap(),
            Meaning::Fault(Fault::Gap)
        );
        let mut follower = at(0, 20);
        assert_eq!(
            follower.read(&snapshot(0, 19), 30).unwrap(),
            Meaning::Fault(Fault::Untrue)
        );
        assert_eq!(
            follower.read(&event(1, 20, 1), 30).unwrap(),
            Meaning::Fault(Fault::Untrue)
        );
        let mut torn: serde_json::Value = serde_json::from_str(&snapshot(0, 40)).unwrap();
        torn["payload"]["rooms"][0]["members"][3] = voice(0, 30);
        assert_eq!(
            follower.read(&torn.to_string(), 50).unwrap(),
            Meaning::Fault(Fault::Untrue)
        );
    }
}
