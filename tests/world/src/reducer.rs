//! A client's state, reduced from its frames by `docs/protocol.md` alone, over reconnects.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::roster::{Guild, Id, Room, Roster, Seat};
use crate::{Browser, DEADLINE, GUILD, World};

/// What a step is about: each subject has an order of its own.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Subject {
    /// A room, by its id.
    Room(Id),
    /// A user, by their id.
    User(Id),
}

/// One change of a view.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Step {
    /// The room was created, or became visible.
    Created(Room),
    /// The room changed.
    Updated(Room),
    /// The room was deleted, or became hidden.
    Deleted,
    /// The user joined a room.
    Joined {
        /// The place in the new room.
        seat: Seat,
        /// The former room, if the view shows it.
        from: Option<Id>,
    },
    /// The user left a room.
    Left {
        /// The room.
        channel: Id,
        /// The next room, if the view shows it.
        to: Option<Id>,
    },
    /// The user's flags changed.
    Changed(Seat),
}

/// A frame, as far as the reducer reads it.
#[derive(Debug, Clone, PartialEq)]
pub enum Frame {
    /// The answer to a subscription.
    Subscribed {
        /// The missed events follow, and no snapshot.
        recovered: bool,
        /// The position from which the client continues.
        pos: Option<String>,
    },
    /// The guild, or a part of it.
    Snapshot {
        /// The rooms of this part with their members.
        roster: Roster,
        /// The reason.
        reason: String,
        /// The number of this part, from 1.
        part: u64,
        /// The number of parts.
        of: u64,
        /// The gateway's state is `live`.
        live: bool,
        /// Its number in the subscription.
        n: Option<u64>,
        /// The position after it.
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
        /// The position after it.
        pos: Option<String>,
    },
    /// Anything else.
    Other,
}

impl Frame {
    /// Reads a frame of the hub. Text that is not JSON is `Other`, as is an unknown event.
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
                    roster: Roster::read(payload),
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
            "voice.joined" => {
                let seat = Seat::read(&channel, payload);
                let from = id("movedFrom");
                (user(), Step::Joined { seat, from })
            }
            "voice.left" => {
                let to = id("movedTo");
                (user(), Step::Left { channel, to })
            }
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

/// What a frame did to a reducer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Nothing of interest.
    Nothing,
    /// The whole state was replaced.
    Replaced {
        /// The reason of the snapshot.
        reason: String,
        /// The gateway's state is `live`.
        live: bool,
    },
    /// One step.
    Step(Subject, Step),
}

/// A violation of the protocol that a client can see.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Oddity {
    /// The frame's number is not the next one.
    Gap {
        /// The next number.
        due: Option<u64>,
        /// The frame's number.
        came: u64,
    },
    /// An event in a room that the client does not know.
    UnknownRoom(Id),
    /// A `voice.left` with `movedTo` that no `voice.joined` followed.
    TornMove(Id),
}

/// The state of one client's subscription. It outlives connections.
#[derive(Debug, Clone, Default)]
pub struct Reducer {
    /// The guild as the client knows it.
    pub roster: Roster,
    /// The last position received, from which the client recovers.
    pub pos: Option<String>,
    /// A snapshot was received completely.
    pub complete: bool,
    /// The last position came before a snapshot was complete: recovering from it gives a snapshot.
    pub waiting: bool,
    next_n: Option<u64>,
    parts: BTreeMap<u64, Roster>,
    moving: Option<Id>,
}

impl Reducer {
    /// A new connection: numbers restart, and an incomplete snapshot is dropped.
    pub fn opened(&mut self) {
        self.next_n = None;
        self.parts.clear();
    }

    /// Applies a frame; its effect, and every violation of the protocol in it.
    pub fn apply(&mut self, frame: &Frame) -> (Effect, Vec<Oddity>) {
        let mut odd = Vec::new();
        let effect = match frame {
            Frame::Other => Effect::Nothing,
            Frame::Subscribed { recovered, pos } => {
                self.parts.clear();
                self.next_n = Some(u64::from(*recovered));
                self.waiting = !recovered;
                self.remember(pos.as_ref());
                Effect::Nothing
            }
            Frame::Snapshot {
                roster,
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
                // Storing the last position received is always safe, also that of a part.
                self.remember(pos.as_ref());
                if self.collect(*part, *of, roster) {
                    Effect::Replaced {
                        reason: reason.clone(),
                        live: *live,
                    }
                } else {
                    Effect::Nothing
                }
            }
            Frame::Event {
                subject,
                step,
                n,
                pos,
            } => {
                if let Some(came) = *n {
                    if self.next_n != Some(came) {
                        let due = self.next_n;
                        odd.push(Oddity::Gap { due, came });
                    }
                    self.next_n = Some(came + 1);
                }
                self.remember(pos.as_ref());
                self.apply_step(subject, step, &mut odd);
                Effect::Step(subject.clone(), step.clone())
            }
        };
        (effect, odd)
    }

    fn remember(&mut self, pos: Option<&String>) {
        if let Some(pos) = pos {
            self.pos = Some(pos.clone());
        }
    }

    /// Adds a part of a snapshot; true if it was the last one that was missing.
    fn collect(&mut self, part: u64, of: u64, roster: &Roster) -> bool {
        if part <= 1 {
            self.parts.clear();
        }
        self.parts.insert(part, roster.clone());
        self.waiting = (self.parts.len() as u64) < of;
        if self.waiting {
            return false;
        }
        self.roster = Roster::default();
        for part in std::mem::take(&mut self.parts).into_values() {
            self.roster.rooms.extend(part.rooms);
            self.roster.seats.extend(part.seats);
        }
        self.complete = true;
        true
    }

    fn apply_step(&mut self, subject: &Subject, step: &Step, odd: &mut Vec<Oddity>) {
        let expected = self.moving.take();
        let joins = matches!((subject, step), (Subject::User(user), Step::Joined { from: Some(_), .. }) if expected.as_ref() == Some(user));
        if let Some(user) = expected.filter(|_| !joins) {
            odd.push(Oddity::TornMove(user));
        }
        let Roster { rooms, seats } = &mut self.roster;
        match (subject, step) {
            (Subject::Room(id), Step::Created(room) | Step::Updated(room)) => {
                rooms.insert(id.clone(), room.clone());
            }
            (Subject::Room(id), _) => {
                rooms.remove(id);
                seats.retain(|_, seat| seat.channel != *id);
            }
            (Subject::User(user), Step::Joined { seat, .. } | Step::Changed(seat)) => {
                if !rooms.contains_key(&seat.channel) {
                    odd.push(Oddity::UnknownRoom(seat.channel.clone()));
                }
                seats.insert(user.clone(), seat.clone());
            }
            (Subject::User(user), Step::Left { channel, to }) => {
                if seats.get(user).is_some_and(|seat| seat.channel == *channel) {
                    seats.remove(user);
                }
                self.moving = to.is_some().then(|| user.clone());
            }
            (Subject::User(_), _) => {}
        }
    }
}

/// A reducer that follows a [`Browser`] and panics at every violation of the protocol.
#[derive(Debug, Default)]
pub struct Mirror {
    /// The state so far.
    pub reducer: Reducer,
    applied: usize,
}

impl Mirror {
    fn apply(&mut self, text: &str) {
        let frame = Frame::read(text);
        if let Frame::Event { subject, step, .. } = &frame {
            let ends = match (subject, step) {
                (Subject::Room(id), Step::Deleted) => Some(id),
                (_, Step::Left { channel, .. }) => Some(channel),
                _ => None,
            };
            let known = |id: &Id| self.reducer.roster.rooms.contains_key(id);
            assert!(ends.is_none_or(known), "an unknown room in {text}");
        }
        let (_, odd) = self.reducer.apply(&frame);
        assert!(odd.is_empty(), "{odd:?} in {text}");
    }

    /// Waits until the browser has exactly what @everyone may view in the world's guild.
    pub async fn converge(&mut self, world: &World, browser: &mut Browser) {
        let until = Instant::now() + DEADLINE;
        loop {
            browser.settle(Duration::from_millis(30)).await;
            for text in &browser.received[self.applied..] {
                self.apply(text);
            }
            self.applied = browser.received.len();
            let truth = Guild::read(GUILD, &world.truth().await).roster(None);
            let believed = &self.reducer.roster;
            if *believed == truth {
                return;
            }
            assert!(
                Instant::now() < until,
                "not in time: believed {believed:#?}, true {truth:#?}"
            );
        }
    }
}
