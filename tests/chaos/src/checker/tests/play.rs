//! A small Discord that writes transitions in the simulator's form, and a faithful hub.

use serde_json::{Value, json};

use super::super::story::{Story, difference};
use super::super::{History, Received, Record, Roster, Step, Subject, What};

pub(super) const GUILD: &str = "1";
pub(super) const LOUNGE: &str = "11";
pub(super) const STUDY: &str = "12";
pub(super) const STAFF: &str = "13";
pub(super) const ADA: &str = "21";
pub(super) const GRACE: &str = "22";
pub(super) const MOLE: &str = "29";
const VIEW: &str = "1024";
const MARKS: [&str; 7] = [
    "mute",
    "deaf",
    "selfMute",
    "selfDeaf",
    "selfVideo",
    "selfStream",
    "suppress",
];

/// A guild and what happened in it.
pub(super) struct Play {
    state: Value,
    channels: Value,
    transitions: Vec<Value>,
    next_id: u64,
}

fn channel(name: &str, hidden: bool) -> Value {
    let deny = if hidden { VIEW } else { "0" };
    json!({"name": name, "type": 2, "parentId": null, "userLimit": 0,
        "overwrites": [{"id": GUILD, "type": 0, "allow": "0", "deny": deny}]})
}

fn marks(bits: u8) -> Value {
    let mut object = json!({});
    for (place, name) in MARKS.iter().enumerate() {
        object[*name] = json!(bits & (1 << place) != 0);
    }
    object
}

impl Play {
    pub(super) fn new() -> Self {
        let channels = json!({LOUNGE: channel("Lounge", false), STUDY: channel("Study", false), STAFF: channel("Staff", true)});
        let state = json!({"seq": 0, "guilds": {GUILD: {"roles": {GUILD: {"permissions": VIEW}}, "channels": channels}}});
        Self {
            channels: state["guilds"][GUILD]["channels"].clone(),
            state,
            transitions: Vec::new(),
            next_id: 100,
        }
    }

    pub(super) fn truth(&self) -> History {
        History::new(GUILD, &self.state, &self.transitions)
    }

    fn push(&mut self, mut transition: Value) -> u64 {
        let seq = self.transitions.len() as u64 + 1;
        transition["seq"] = json!(seq);
        transition["ts"] = json!(seq * 10);
        transition["guildId"] = json!(GUILD);
        self.transitions.push(transition);
        seq
    }

    pub(super) fn seat(&mut self, user: &str, room: Option<&str>, bits: u8) -> u64 {
        let after = room.map_or(Value::Null, |room| {
            let mut after = marks(bits);
            after["channelId"] = json!(room);
            after
        });
        self.push(json!({"type": "voice", "userId": user, "after": after}))
    }

    pub(super) fn create(&mut self, hidden: bool) -> String {
        self.next_id += 1;
        let id = self.next_id.to_string();
        self.channels[&id] = channel(&format!("Room {id}"), hidden);
        self.push(
            json!({"type": "channel.created", "channelId": id, "channel": self.channels[&id]}),
        );
        id
    }

    pub(super) fn rename(&mut self, room: &str, name: &str) {
        self.channels[room]["name"] = json!(name);
        self.update(room);
    }

    pub(super) fn hide(&mut self, room: &str, hidden: bool) {
        let name = self.channels[room]["name"].as_str().unwrap().to_owned();
        self.channels[room] = channel(&name, hidden);
        self.update(room);
    }

    fn update(&mut self, room: &str) {
        self.push(
            json!({"type": "channel.updated", "channelId": room, "channel": self.channels[room]}),
        );
    }

    pub(super) fn delete(&mut self, room: &str) {
        self.push(json!({"type": "channel.deleted", "channelId": room}));
    }

    /// The guild goes away at Discord, or comes back.
    pub(super) fn outage(&mut self, begins: bool) -> u64 {
        let kind = if begins {
            "guild.unavailable"
        } else {
            "guild.available"
        };
        self.push(json!({"type": kind}))
    }

    pub(super) fn everyone(&mut self, views: bool) {
        let permissions = if views { VIEW } else { "0" };
        self.push(
            json!({"type": "role.updated", "roleId": GUILD, "role": {"permissions": permissions}}),
        );
    }
}

/// Sends a story to one subscriber, as a hub without a fault does.
pub(super) struct FaithfulHub<'a> {
    pub(super) record: Record,
    story: &'a Story,
    next_n: u64,
    clock_ms: u64,
}

pub(super) fn event(name: &str, user: &str, room: &str) -> Value {
    json!({"v": 1, "type": "event", "event": name, "payload": {"channelId": room, "userId": user}})
}

impl<'a> FaithfulHub<'a> {
    /// A hub whose subscriber has the first snapshot.
    pub(super) fn begun(story: &'a Story) -> Self {
        let mut hub = Self {
            record: Record::default(),
            story,
            next_n: 0,
            clock_ms: 0,
        };
        hub.open(false);
        hub.snapshot(0, "subscribed");
        hub
    }

    pub(super) fn now_ms(&self) -> u64 {
        self.clock_ms + 1
    }

    fn happens(&mut self, what: What) {
        self.clock_ms += 2;
        let at_ms = self.clock_ms;
        self.record.received.push(Received { at_ms, what });
    }

    pub(super) fn open(&mut self, recovering: bool) {
        self.happens(What::Opened {
            recovering,
            owed: !recovering,
        });
        self.subscribed(recovering);
    }

    pub(super) fn subscribed(&mut self, recovered: bool) {
        let frame = json!({"v": 1, "type": "ack", "event": "subscribed", "recovered": recovered, "pos": "p"});
        self.happens(What::Frame(frame.to_string()));
        self.next_n = u64::from(recovered);
    }

    pub(super) fn cut(&mut self) {
        self.happens(What::Ended(None));
    }

    pub(super) fn send(&mut self, mut frame: Value) {
        frame["n"] = json!(self.next_n);
        frame["pos"] = json!("p");
        self.next_n += 1;
        self.happens(What::Frame(frame.to_string()));
    }

    pub(super) fn snapshot(&mut self, moment: usize, reason: &str) {
        let frame = snapshot(&self.story.moments[moment].roster, reason);
        self.next_n = 0;
        self.send(frame);
    }

    /// In as many parts as there are rooms.
    pub(super) fn snapshot_in_parts(&mut self, moment: usize) {
        let whole = snapshot(&self.story.moments[moment].roster, "subscribed");
        let rooms = whole["payload"]["rooms"].as_array().unwrap().clone();
        for (at, room) in rooms.iter().enumerate() {
            let mut part = whole.clone();
            part["payload"]["rooms"] = json!([room]);
            part["payload"]["part"] = json!(at + 1);
            part["payload"]["of"] = json!(rooms.len());
            self.next_n = 0;
            self.send(part);
        }
        if rooms.is_empty() {
            self.snapshot(moment, "subscribed");
        }
    }

    /// The steps of the transition that made this moment.
    pub(super) fn send_moment(&mut self, moment: usize) {
        let seq = self.story.moments[moment].seq;
        let story = self.story;
        for due in story.steps.iter().filter(|due| due.seq == seq) {
            self.send(frame_of(&due.subject, &due.step));
        }
    }

    /// Only the difference between two moments.
    pub(super) fn collapse(&mut self, from: usize, to: usize) {
        let story = self.story;
        let rosters = (&story.moments[from].roster, &story.moments[to].roster);
        for (subject, step) in difference(rosters.0, rosters.1) {
            self.send(frame_of(&subject, &step));
        }
    }

    pub(super) fn quiet(&mut self) {
        let seq = self.story.moments.last().map_or(0, |moment| moment.seq);
        self.happens(What::Quiet { seq });
    }
}

fn snapshot(roster: &Roster, reason: &str) -> Value {
    let rooms: Vec<Value> = roster
        .rooms
        .iter()
        .map(|(id, room)| {
            let here = roster.seats.iter().filter(|(_, seat)| seat.channel == *id);
            let members: Vec<Value> = here
                .map(|(user, seat)| {
                    let mut voice = marks(seat.flags);
                    voice["userId"] = json!(user);
                    voice
                })
                .collect();
            json!({"channelId": id, "name": room.name, "userLimit": room.limit, "members": members})
        })
        .collect();
    json!({"v": 1, "type": "event", "event": "guild.snapshot",
        "payload": {"reason": reason, "rooms": rooms, "gateway": {"state": "live"}}})
}

fn frame_of(subject: &Subject, step: &Step) -> Value {
    let (name, payload) = match (subject, step) {
        (Subject::Room(id), Step::Created(room)) => (
            "room.created",
            json!({"channelId": id, "name": room.name, "userLimit": room.limit}),
        ),
        (Subject::Room(id), Step::Updated(room)) => (
            "room.updated",
            json!({"channelId": id, "name": room.name, "userLimit": room.limit}),
        ),
        (Subject::Room(id), _) => ("room.deleted", json!({"channelId": id})),
        (Subject::User(user), Step::Joined { seat, from }) => {
            let mut payload = marks(seat.flags);
            payload["channelId"] = json!(seat.channel);
            payload["userId"] = json!(user);
            payload["movedFrom"] = json!(from);
            ("voice.joined", payload)
        }
        (Subject::User(user), Step::Left { channel, to }) => (
            "voice.left",
            json!({"channelId": channel, "userId": user, "movedTo": to}),
        ),
        (Subject::User(user), Step::Changed(seat)) => {
            let mut payload = marks(seat.flags);
            payload["channelId"] = json!(seat.channel);
            payload["userId"] = json!(user);
            ("voice.state_changed", payload)
        }
        (Subject::User(_), _) => ("nothing", json!({})),
    };
    json!({"v": 1, "type": "event", "event": name, "payload": payload})
}
