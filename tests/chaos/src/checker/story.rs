//! The truth as a story: a view of the guild after each of its visible changes.
//!
//! Read from the simulator's `GET /_sim/state` and `GET /_sim/transitions?since=`, without a line of the
//! hub's or the worker's.

use std::collections::BTreeSet;

use serde_json::Value;

use world::reducer::{Step, Subject};
use world::roster::{Guild, Id, Roster};

/// A step of the truth.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DueStep {
    /// The transition that it belongs to.
    pub seq: u64,
    /// What it is about.
    pub subject: Subject,
    /// What happened.
    pub step: Step,
}

/// The view after a visible change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Moment {
    /// The number of the transition that made it so.
    pub seq: u64,
    /// When, in Unix milliseconds.
    pub at_ms: u64,
    /// The view since then.
    pub roster: Roster,
}

/// Everything that a view should receive, in order.
#[derive(Debug, Clone, Default)]
pub struct Story {
    /// The visible changes; the first is how it was at the beginning.
    pub moments: Vec<Moment>,
    /// The steps from moment to moment.
    pub steps: Vec<DueStep>,
    /// Ids that must never stand in a frame: rooms that the view never showed, and users who only
    /// ever sat in such rooms.
    pub forbidden: BTreeSet<Id>,
    /// Users with a room in which they sat while the view did not show it, and never while it did.
    pub hidden_seats: BTreeSet<(Id, Id)>,
}

/// The truth of one guild: its state when the run began, and every transition since.
#[derive(Debug, Clone)]
pub struct History {
    began: Guild,
    began_seq: u64,
    transitions: Vec<Value>,
}

impl History {
    /// The truth from the simulator's state and the transitions after it, oldest first and without
    /// a hole. Transitions of other guilds, and those that the state already holds, are passed over.
    pub fn new(guild_id: &str, state: &Value, transitions: &[Value]) -> Self {
        let began_seq = state["seq"].as_u64().unwrap_or(0);
        Self {
            began: Guild::read(guild_id, state),
            began_seq,
            transitions: transitions
                .iter()
                .filter(|one| one["guildId"] == guild_id)
                .filter(|one| one["seq"].as_u64().is_some_and(|seq| seq > began_seq))
                .cloned()
                .collect(),
        }
    }

    /// The outages of the guild at Discord: after which transition each began, and with which it
    /// ended (`u64::MAX`: not yet).
    pub fn outages(&self) -> Vec<(u64, u64)> {
        let mut outages: Vec<(u64, u64)> = Vec::new();
        for one in &self.transitions {
            let seq = one["seq"].as_u64().unwrap_or(0);
            match (one["type"].as_str(), outages.last_mut()) {
                (Some("guild.unavailable"), _) => outages.push((seq, u64::MAX)),
                (Some("guild.available"), Some(last)) => last.1 = seq,
                _ => {}
            }
        }
        outages
    }

    /// The view when the run began: of @everyone, or only these rooms of it.
    pub fn at_first(&self, only: Option<&BTreeSet<Id>>) -> Roster {
        self.began.roster(only)
    }

    /// The story of a view: of @everyone, or only these rooms of it.
    pub fn story(&self, only: Option<&BTreeSet<Id>>) -> Story {
        let mut guild = self.began.clone();
        let mut story = Story {
            moments: vec![Moment {
                seq: self.began_seq,
                at_ms: 0,
                roster: guild.roster(only),
            }],
            ..Story::default()
        };
        let mut met = Met::default();
        met.look(&guild, &story.moments[0].roster);
        for one in &self.transitions {
            guild.apply(one);
            let roster = guild.roster(only);
            met.look(&guild, &roster);
            let Some(last) = story.moments.last().filter(|last| last.roster != roster) else {
                continue;
            };
            let seq = one["seq"].as_u64().unwrap_or(0);
            story.steps.extend(
                difference(&last.roster, &roster).map(|(subject, step)| DueStep {
                    seq,
                    subject,
                    step,
                }),
            );
            story.moments.push(Moment {
                seq,
                at_ms: one["ts"].as_u64().unwrap_or(0),
                roster,
            });
        }
        story.hidden_seats = met.hidden.difference(&met.shown).cloned().collect();
        story.forbidden = met.forbidden();
        story
    }
}

impl Story {
    /// The index of the moment that holds after transition `seq`.
    pub fn moment_at(&self, seq: u64) -> usize {
        self.moments
            .partition_point(|moment| moment.seq <= seq)
            .saturating_sub(1)
    }
}

/// The rooms and users of the story, shown or hidden.
#[derive(Default)]
struct Met {
    rooms: BTreeSet<Id>,
    users: BTreeSet<Id>,
    rooms_shown: BTreeSet<Id>,
    users_shown: BTreeSet<Id>,
    hidden: BTreeSet<(Id, Id)>,
    shown: BTreeSet<(Id, Id)>,
}

impl Met {
    fn look(&mut self, guild: &Guild, roster: &Roster) {
        let rooms = guild
            .channels
            .iter()
            .filter(|(_, channel)| channel.is_room());
        self.rooms.extend(rooms.map(|(id, _)| id.clone()));
        self.rooms_shown.extend(roster.rooms.keys().cloned());
        for (user, seat) in &guild.seats {
            self.users.insert(user.clone());
            let pair = (user.clone(), seat.channel.clone());
            if roster.seats.contains_key(user) {
                self.users_shown.insert(user.clone());
                self.shown.insert(pair);
            } else {
                self.hidden.insert(pair);
            }
        }
    }

    fn forbidden(&self) -> BTreeSet<Id> {
        let rooms = self.rooms.difference(&self.rooms_shown);
        rooms
            .chain(self.users.difference(&self.users_shown))
            .cloned()
            .collect()
    }
}

/// The steps between two rosters.
pub(super) fn difference<'a>(
    before: &'a Roster,
    after: &'a Roster,
) -> impl Iterator<Item = (Subject, Step)> + 'a {
    let users: BTreeSet<&Id> = before.seats.keys().chain(after.seats.keys()).collect();
    let voices = users.into_iter().flat_map(|user| {
        let steps = match (before.seats.get(user), after.seats.get(user)) {
            (Some(was), Some(is)) if was == is => Vec::new(),
            (Some(was), Some(is)) if was.channel == is.channel => vec![Step::Changed(is.clone())],
            (Some(was), Some(is)) => vec![
                Step::Left {
                    channel: was.channel.clone(),
                    to: Some(is.channel.clone()),
                },
                Step::Joined {
                    seat: is.clone(),
                    from: Some(was.channel.clone()),
                },
            ],
            (Some(was), None) => vec![Step::Left {
                channel: was.channel.clone(),
                to: None,
            }],
            (None, Some(is)) => vec![Step::Joined {
                seat: is.clone(),
                from: None,
            }],
            (None, None) => Vec::new(),
        };
        steps
            .into_iter()
            .map(|step| (Subject::User(user.clone()), step))
    });
    let ids: BTreeSet<&Id> = before.rooms.keys().chain(after.rooms.keys()).collect();
    let rooms = ids.into_iter().filter_map(|id| {
        let step = match (before.rooms.get(id), after.rooms.get(id)) {
            (Some(was), Some(is)) if was == is => return None,
            (Some(_), Some(is)) => Step::Updated(is.clone()),
            (None, Some(is)) => Step::Created(is.clone()),
            (_, None) => Step::Deleted,
        };
        Some((Subject::Room(id.clone()), step))
    });
    rooms.chain(voices)
}
