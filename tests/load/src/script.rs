//! The events in Discord during a measurement, and how a browser knows which event a frame is.
//!
//! Events go round a crowd of users. Each user lives through the same sixteen steps again and
//! again: join, get other marks, move to the second room, get other marks, leave. The four marks
//! that users set themselves spell the step's number, so that a frame says by itself which event
//! it is, without any help from the hub's own numbering.

use serde::{Deserialize, Serialize};

/// Users that events go round. More than the control requests in flight, so that no user has two.
pub(crate) const USERS: usize = 64;
/// Steps of a user's life.
const STEPS: usize = 16;
const MOVES: usize = 7;
const LEAVES: usize = 15;
/// A step that seems this far ahead is one that was seen before.
const AHEAD_MAX: usize = STEPS / 2;
/// Users of the measurement; the simulator makes users that it does not know.
const FIRST_USER: u64 = 210_000_000_000_000_000;

/// The body of `POST /_sim/voice`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct VoiceChange {
    guild_id: String,
    user_id: String,
    channel_id: Option<String>,
    #[serde(flatten)]
    marks: Marks,
}

impl VoiceChange {
    /// That a user is in this channel, or in none, with these marks.
    pub(crate) fn new(
        guild_id: String,
        user_id: String,
        channel_id: Option<String>,
        marks: Marks,
    ) -> Self {
        Self {
            guild_id,
            user_id,
            channel_id,
            marks,
        }
    }
}

/// The four marks that users set themselves: enough to spell a number below sixteen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Marks {
    self_mute: bool,
    self_deaf: bool,
    self_video: bool,
    self_stream: bool,
}

impl Marks {
    /// The marks that spell a number.
    pub(crate) fn spelling(number: usize) -> Self {
        Self {
            self_mute: number & 1 != 0,
            self_deaf: number & 2 != 0,
            self_video: number & 4 != 0,
            self_stream: number & 8 != 0,
        }
    }
}

/// Where it happens.
#[derive(Debug, Clone)]
pub(crate) struct TwoRooms {
    /// The guild.
    pub(crate) guild: String,
    /// The room that users join.
    pub(crate) first_room: String,
    /// The room that they move to.
    pub(crate) second_room: String,
}

impl TwoRooms {
    /// The change of event number `event`.
    pub(crate) fn change(&self, event: usize) -> VoiceChange {
        let (user, step) = (event % USERS, event / USERS % STEPS);
        let channel_id = match step {
            LEAVES => None,
            MOVES.. => Some(self.second_room.clone()),
            _ => Some(self.first_room.clone()),
        };
        let marks = match channel_id {
            Some(_) => Marks::spelling(step),
            None => Marks::default(),
        };
        let user = (FIRST_USER + user as u64).to_string();
        VoiceChange::new(self.guild.clone(), user, channel_id, marks)
    }
}

/// As much of a server frame as a measurement needs.
#[derive(Debug, Deserialize)]
pub(crate) struct Frame<'a> {
    /// `event`, `ack`, …
    pub(crate) r#type: &'a str,
    /// The event's name.
    pub(crate) event: Option<&'a str>,
    /// Its number in the subscription.
    pub(crate) n: Option<u64>,
    /// Its content.
    pub(crate) payload: Option<Payload<'a>>,
}

/// As much of a payload as a measurement needs.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Payload<'a> {
    user_id: Option<&'a str>,
    #[serde(default)]
    self_mute: bool,
    #[serde(default)]
    self_deaf: bool,
    #[serde(default)]
    self_video: bool,
    #[serde(default)]
    self_stream: bool,
    moved_to: Option<&'a str>,
    /// Of a snapshot in parts: which this is.
    pub(crate) part: Option<u32>,
    /// Of a snapshot in parts: how many there are.
    pub(crate) of: Option<u32>,
}

impl Payload<'_> {
    /// The user that it is about.
    pub(crate) fn user(&self) -> Option<u64> {
        self.user_id?.parse().ok()
    }

    /// The number that the marks spell.
    pub(crate) fn spelled(&self) -> usize {
        usize::from(self.self_mute)
            | usize::from(self.self_deaf) << 1
            | usize::from(self.self_video) << 2
            | usize::from(self.self_stream) << 3
    }
}

impl Frame<'_> {
    /// The user and the step of this frame; `None` if it is something else.
    fn step(&self) -> Option<(usize, usize)> {
        let payload = self.payload.as_ref()?;
        let user = usize::try_from(payload.user()?.checked_sub(FIRST_USER)?)
            .ok()
            .filter(|user| *user < USERS)?;
        let step = match self.event? {
            // The first frame of a move; the second is the one that counts.
            "voice.left" if payload.moved_to.is_some() => return None,
            "voice.left" => LEAVES,
            "voice.joined" | "voice.state_changed" => payload.spelled(),
            _ => return None,
        };
        Some((user, step))
    }
}

/// What a frame means to one receiver.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Meaning {
    /// This event.
    Event(usize),
    /// An event that it had before.
    Again,
    /// Nothing of the script.
    Nothing,
}

/// One receiver's place in the script.
#[derive(Debug, Clone)]
pub(crate) struct Follower {
    /// The next event of each user.
    next: [usize; USERS],
    /// The number of the last numbered frame.
    n: u64,
}

impl Follower {
    /// A receiver that has a snapshot of everything before event `from`.
    pub(crate) fn from(from: usize) -> Self {
        let round = from - from % USERS;
        let next = std::array::from_fn(|user| {
            if round + user < from {
                round + user + USERS
            } else {
                round + user
            }
        });
        Self { next, n: 0 }
    }

    /// The meaning of a frame; passed-over events stay unseen.
    pub(crate) fn read(&mut self, frame: &Frame<'_>) -> Meaning {
        let Some((user, step)) = frame.step() else {
            return Meaning::Nothing;
        };
        let expected = self.next[user];
        let ahead = (step + STEPS - expected / USERS % STEPS) % STEPS;
        if ahead >= AHEAD_MAX {
            return Meaning::Again;
        }
        let event = expected + ahead * USERS;
        self.next[user] = event + USERS;
        Meaning::Event(event)
    }

    /// Whether a frame's number follows the last one's; frames without a number always do.
    pub(crate) fn is_next(&mut self, frame: &Frame<'_>) -> bool {
        match frame.n {
            None => true,
            Some(n) => n == std::mem::replace(&mut self.n, n) + 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn two_rooms() -> TwoRooms {
        TwoRooms {
            guild: "1".into(),
            first_room: "2".into(),
            second_room: "3".into(),
        }
    }

    /// The frames that an event leads to.
    fn frames(event: usize) -> Vec<String> {
        let change = serde_json::to_value(two_rooms().change(event)).unwrap();
        let frame = |name: &str, extra: serde_json::Value| {
            let mut payload = change.clone();
            if let (Some(payload), Some(extra)) = (payload.as_object_mut(), extra.as_object()) {
                payload.extend(extra.clone());
            }
            serde_json::json!({"v": 1, "type": "event", "event": name, "payload": payload})
                .to_string()
        };
        let none = serde_json::json!({});
        match event / USERS % STEPS {
            0 => vec![frame("voice.joined", none)],
            MOVES => vec![
                frame(
                    "voice.left",
                    serde_json::json!({"movedTo": "3", "selfMute": false}),
                ),
                frame("voice.joined", serde_json::json!({"movedFrom": "2"})),
            ],
            LEAVES => vec![frame("voice.left", none)],
            _ => vec![frame("voice.state_changed", none)],
        }
    }

    fn read(follower: &mut Follower, text: &str) -> Meaning {
        follower.read(&serde_json::from_str(text).unwrap())
    }

    #[test]
    fn a_follower_recognises_every_event_from_wherever_it_begins() {
        for from in [0, 1, USERS - 1, USERS, 3 * USERS + 17] {
            let mut follower = Follower::from(from);
            for event in from..from + 3 * STEPS * USERS {
                let mut meanings: Vec<Meaning> = frames(event)
                    .iter()
                    .map(|frame| read(&mut follower, frame))
                    .collect();
                assert_eq!(meanings.pop(), Some(Meaning::Event(event)));
                assert!(meanings.iter().all(|meaning| *meaning == Meaning::Nothing));
            }
        }
    }

    #[test]
    fn a_step_always_differs_from_the_one_before_or_the_simulator_refuses_it() {
        for event in USERS..20 * USERS {
            assert_ne!(two_rooms().change(event - USERS), two_rooms().change(event));
        }
    }

    #[test]
    fn a_lost_event_stays_unseen_and_a_doubled_one_is_known_again() {
        let mut follower = Follower::from(0);
        for event in (0..6 * USERS).filter(|event| *event != 2 * USERS) {
            let frame = frames(event).pop().unwrap();
            assert_eq!(read(&mut follower, &frame), Meaning::Event(event));
            assert_eq!(read(&mut follower, &frame), Meaning::Again);
        }
    }

    #[test]
    fn numbers_follow_one_another() {
        let mut follower = Follower::from(0);
        let mut is_next = |n: &str| {
            let text = format!(r#"{{"type":"event","event":"room.created"{n}}}"#);
            follower.is_next(&serde_json::from_str(&text).unwrap())
        };
        assert!(is_next(r#","n":1"#));
        assert!(is_next(""));
        assert!(is_next(r#","n":2"#));
        assert!(!is_next(r#","n":4"#));
        assert!(is_next(r#","n":5"#));
        assert!(!is_next(r#","n":5"#));
    }
}
