//! What a client makes of its frames, by `docs/protocol.md` alone: frame by frame, over reconnects.

use std::collections::BTreeMap;

use serde_json::Value;

use super::story::{Id, Room, Scene, Seat, Step, Subject};

/// A frame, as far as it matters here.
#[derive(Debug, Clone, PartialEq)]
pub enum Frame {
    /// The answer to a subscription.
    Subscribed {
        /// The missed events follow, and no snapshot.
        recovered: bool,
        /// Where this client continues from.
        pos: Option<String>,
    },
    /// The whole guild, or a part of it.
    Snapshot {
        /// The rooms of this part, with who is in them.
        scene: Scene,
        /// Why.
        reason: String,
        /// Which part, from 1.
        part: u64,
        /// Of how many.
        of: u64,
        /// Whether the gateway was said to be live.
        live: bool,
        /// Its number in the subscription.
        n: Option<u64>,
        /// The place after it.
        pos: Option<String>,
    },
    /// A numbered event.
    Event {
        /// What it is about.
        subject: Subject,
        /// What happened.
        step: Step,
        /// Its number in the subscription.
        n: Option<u64>,
        /// The place after it.
        pos: Option<String>,
    },
    /// Anything else.
    Other,
}

impl Frame {
    /// Reads a frame of the hub. What is not JSON is `Other`, like what is not known.
    pub fn read(text: &str) -> Self {
        let Ok(frame) = serde_json::from_str::<Value>(text) else {
            return Self::Other;
        };
        let payload = &frame["payload"];
        let id = |name: &str| payload[name].as_str().map(str::to_owned);
        let pos = frame["pos"].as_str().map(str::to_owned);
        let n = frame["n"].as_u64();
        let channel = id("channelId").unwrap_or_default();
        let user = || Subject::User(id("userId").unwrap_or_default());
        let (subject, step) = match frame["event"].as_str().unwrap_or_default() {
            "subscribed" => {
                return Self::Subscribed {
                    recovered: frame["recovered"] == true,
                    pos,
                };
            }
            "guild.snapshot" => {
                return Self::Snapshot {
                    scene: scene_of(payload),
                    reason: id("reason").unwrap_or_default(),
                    part: payload["part"].as_u64().unwrap_or(1),
                    of: payload["of"].as_u64().unwrap_or(1),
                    live: payload["gateway"]["state"] == "live",
                    n,
                    pos,
                };
            }
            "room.created" => (Subject::Room(channel), Step::Created(Room::read(payload))),
            "room.updated" => (Subject::Room(channel), Step::Updated(Room::read(payload))),
            "room.deleted" => (Subject::Room(channel), Step::Deleted),
            "voice.joined" => (
                user(),
                Step::Joined {
                    seat: Seat::read(&channel, payload),
                    from: id("movedFrom"),
                },
            ),
            "voice.left" => (
                user(),
                Step::Left {
                    channel,
                    to: id("movedTo"),
                },
            ),
            "voice.state_changed" => (user(), Step::Changed(Seat::read(&channel, payload))),
            _ => return Self::Other,
        };
        Self::Event {
            subject,
            step,
            n,
            pos,
        }
    }
}

fn scene_of(payload: &Value) -> Scene {
    let mut scene = Scene::default();
    for room in payload["rooms"].as_array().into_iter().flatten() {
        let id = room["channelId"].as_str().unwrap_or_default();
        scene.rooms.insert(id.to_owned(), Room::read(room));
        for member in room["members"].as_array().into_iter().flatten() {
            let user = member["userId"].as_str().unwrap_or_default();
            scene.seats.insert(user.to_owned(), Seat::read(id, member));
        }
    }
    scene
}

/// What a frame did to a reduction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Taken {
    /// Nothing of interest.
    Nothing,
    /// Everything known was replaced.
    Replaced {
        /// Why.
        reason: String,
        /// Whether the gateway was said to be live.
        live: bool,
    },
    /// One step.
    Step(Subject, Step),
}

/// What no client should meet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Oddity {
    /// The frame's number is not the next one.
    Gap {
        /// What should have come.
        due: Option<u64>,
        /// What came.
        came: u64,
    },
    /// Somebody in a room that was not told of.
    UnknownRoom(Id),
    /// A `voice.left` with `movedTo` whose `voice.joined` did not come next.
    TornMove(Id),
}

/// The state of one client's subscription. It outlives connections.
#[derive(Debug, Clone, Default)]
pub struct Reduction {
    /// What the client believes.
    pub scene: Scene,
    /// The last position received: where it recovers from.
    pub pos: Option<String>,
    /// A snapshot was ever taken in whole.
    pub told: bool,
    /// The last position came before a snapshot was complete: recovering from it gives a snapshot.
    pub waiting: bool,
    next_n: Option<u64>,
    parts: BTreeMap<u64, Scene>,
    moving: Option<Id>,
}

impl Reduction {
    /// A new connection: numbers begin anew, half a snapshot is worth nothing.
    pub fn opened(&mut self) {
        self.next_n = None;
        self.parts.clear();
    }

    /// Takes in a frame; says what it did, and whatever was wrong with it.
    pub fn hear(&mut self, frame: &Frame) -> (Taken, Vec<Oddity>) {
        let mut odd = Vec::new();
        match frame {
            Frame::Other => (Taken::Nothing, odd),
            Frame::Subscribed { recovered, pos } => {
                self.parts.clear();
                self.next_n = Some(u64::from(*recovered));
                self.waiting = !recovered;
                self.remember(pos.as_ref());
                (Taken::Nothing, odd)
            }
            Frame::Snapshot {
                scene,
                reason,
                part,
                of,
                live,
                n,
                pos,
            } => {
                // A snapshot starts the numbers at 0, whenever it comes.
                if let Some(came) = n.filter(|n| *n != 0) {
                    odd.push(Oddity::Gap { due: Some(0), came });
                }
                self.next_n = Some(1);
                self.moving = None;
                if *part <= 1 {
                    self.parts.clear();
                }
                self.parts.insert(*part, scene.clone());
                // Storing the last position received is always safe, that of a part too.
                self.remember(pos.as_ref());
                self.waiting = (self.parts.len() as u64) < *of;
                if self.waiting {
                    return (Taken::Nothing, odd);
                }
                self.scene = Scene::default();
                for part in std::mem::take(&mut self.parts).into_values() {
                    self.scene.rooms.extend(part.rooms);
                    self.scene.seats.extend(part.seats);
                }
                self.told = true;
                let taken = Taken::Replaced {
                    reason: reason.clone(),
                    live: *live,
                };
                (taken, odd)
            }
            Frame::Event {
                subject,
                step,
                n,
                pos,
            } => {
                if let Some(came) = *n {
                    if self.next_n != Some(came) {
                        odd.push(Oddity::Gap {
                            due: self.next_n,
                            came,
                        });
                    }
                    self.next_n = Some(came + 1);
                }
                self.remember(pos.as_ref());
                self.take(subject, step, &mut odd);
                (Taken::Step(subject.clone(), step.clone()), odd)
            }
        }
    }

    fn remember(&mut self, pos: Option<&String>) {
        if let Some(pos) = pos {
            self.pos = Some(pos.clone());
        }
    }

    fn take(&mut self, subject: &Subject, step: &Step, odd: &mut Vec<Oddity>) {
        let expected = self.moving.take();
        let joins = matches!((subject, step), (Subject::User(user), Step::Joined { from: Some(_), .. }) if expected.as_ref() == Some(user));
        if let Some(user) = expected.filter(|_| !joins) {
            odd.push(Oddity::TornMove(user));
        }
        match (subject, step) {
            (Subject::Room(id), Step::Created(room) | Step::Updated(room)) => {
                self.scene.rooms.insert(id.clone(), room.clone());
            }
            (Subject::Room(id), _) => {
                self.scene.rooms.remove(id);
                self.scene.seats.retain(|_, seat| seat.channel != *id);
            }
            (Subject::User(user), Step::Joined { seat, .. } | Step::Changed(seat)) => {
                if !self.scene.rooms.contains_key(&seat.channel) {
                    odd.push(Oddity::UnknownRoom(seat.channel.clone()));
                }
                self.scene.seats.insert(user.clone(), seat.clone());
            }
            (Subject::User(user), Step::Left { channel, to }) => {
                if self
                    .scene
                    .seats
                    .get(user)
                    .is_some_and(|seat| seat.channel == *channel)
                {
                    self.scene.seats.remove(user);
                }
                self.moving = to.is_some().then(|| user.clone());
            }
            (Subject::User(_), _) => {}
        }
    }
}
