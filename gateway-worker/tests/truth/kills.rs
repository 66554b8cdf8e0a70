//! The chain: after any kill, loss, delay or repetition, and after any loss of the hub's store, the hub's
//! state equals the truth, and the hub applies no event twice.
//!
//! The hub here is the protocol as it is written down, in a few lines: generations, the checkpoint,
//! one mark for each guild.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test's own world may fall over"
)]

use std::collections::BTreeSet;

use gateway_worker::dispatch;
use gateway_worker::feed::{Batch, Feed, Finding, Question};
use gateway_worker::outbox::{FailureReason, Limits};
use proptest::prelude::*;
use proto::chain::{Absence, Checkpoint, Claimed, Conflict, KnownGuild, Mark, Reached};
use proto::delivery::{Receipt, RefusedEvent};
use proto::event::{Event, Fact, Roster};
use proto::problem::Code;

use super::discord::{self, Discord, Sent, Wish};
use super::{Reduced, limits, setting, taken};

#[derive(Debug, Clone, PartialEq)]
enum Step {
    Wish(Wish),
    /// The worker reads what Discord has sent it, one by one.
    Read(usize),
    /// It delivers, and this becomes of it.
    Deliver(Fate),
    /// What was on its way arrives at last; nobody hears the answer.
    Arrive,
    /// The worker dies; another one takes over.
    Kill,
    /// Its connection is cut.
    Cut,
    /// The hub forgets everything.
    Wipe,
    /// Its store is copied, and replaced by that copy.
    Copy,
    Restore,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Fate {
    Taken,
    AnswerLost,
    Lost,
    Late,
    /// All of it is refused as malformed.
    Malformed,
    /// One of its events cannot be read: the one of this number, counted round.
    Poisoned(usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let fate = prop_oneof![
        6 => Just(Fate::Taken),
        2 => Just(Fate::AnswerLost),
        1 => Just(Fate::Lost),
        1 => Just(Fate::Late),
        1 => Just(Fate::Malformed),
        1 => any::<usize>().prop_map(Fate::Poisoned),
    ];
    let step = prop_oneof![
        10 => discord::wishes().prop_map(Step::Wish),
        6 => (1..6_usize).prop_map(Step::Read),
        8 => fate.prop_map(Step::Deliver),
        1 => Just(Step::Arrive),
        2 => Just(Step::Kill),
        1 => Just(Step::Cut),
        1 => prop_oneof![Just(Step::Wipe), Just(Step::Copy), Just(Step::Restore)],
    ];
    proptest::collection::vec(step, 1..120)
}

/// What a store holds.
#[derive(Debug, Clone, Default)]
struct Hub {
    generation: u64,
    reached: Reached,
    taken: u64,
    checkpoint: Option<Checkpoint>,
    absent: Option<Absence>,
    known: bool,
    mark: Mark,
    state: Reduced,
    /// Ids of events that the hub cannot read.
    poison: BTreeSet<String>,
}

impl Hub {
    fn claim(&mut self, clock: u64) -> Claimed {
        self.generation = clock.max(self.generation + 1);
        self.taken = 0;
        let known = self.known.then(|| KnownGuild {
            mark: self.mark,
            absent: self.absent,
            roster: Roster {
                guild_id: discord::guild(),
                rooms: self.state.rooms.values().cloned().collect(),
                voices: self.state.voices.values().cloned().collect(),
                reason: "claimed".to_owned(),
                everyone: self.state.everyone,
                tombstones: self.state.tombstones.clone(),
            },
        });
        Claimed {
            generation: self.generation,
            checkpoint: self.checkpoint.clone(),
            last_session: self.reached.session.max(self.mark.reached.session),
            identifies: 0,
            guilds: known.into_iter().collect(),
            unserved: Vec::new(),
        }
    }

    fn take(&mut self, batch: &Batch) -> Result<Receipt, Conflict> {
        let link = &batch.report.link;
        if link.generation > self.generation {
            return Err(Conflict::Unclaimed);
        }
        if link.generation < self.generation {
            return Err(Conflict::Fenced);
        }
        if link.from > self.reached || link.taken > self.taken {
            let (reached, taken) = (self.reached, self.taken);
            return Err(Conflict::Gap { reached, taken });
        }
        // A guild's events are read together or not at all, and here is one guild.
        let is_poisoned = |event: &Event| self.poison.contains(&event.id);
        let (refused, read) = if batch.events.iter().any(is_poisoned) {
            (&batch.events[..], &[][..])
        } else {
            (&[][..], &batch.events[..])
        };
        for event in read {
            let mark = event.at.unwrap();
            if mark > self.mark {
                self.mark = mark;
                self.known |= matches!(event.fact, Fact::Snapshot(_));
                assert!(self.known, "facts about an unknown guild: {event:?}");
                self.state.take(event);
            }
        }
        if refused.len() < batch.events.len() {
            self.taken = self.taken.max(link.taken + 1);
        }
        // What could not be read must come again.
        if refused.is_empty() && link.to >= self.reached {
            self.reached = link.to;
            // A late delivery says nothing about the present.
            self.absent = link.absent.get(&discord::guild()).copied();
            if let Some(session) = &link.session {
                assert_eq!(session.number, link.to.session);
                self.checkpoint = Some(Checkpoint {
                    session: session.clone(),
                    sequence: link.to.sequence,
                    fingerprint: link.fingerprint.clone(),
                    resumes: link.resumes,
                });
            }
        }
        Ok(Receipt {
            wanted: (!self.known).then(discord::guild).into_iter().collect(),
            refused: refused
                .iter()
                .map(|event| RefusedEvent {
                    id: event.id.clone(),
                    code: Code::BadRequest,
                })
                .collect(),
            ..taken()
        })
    }
}

struct World {
    discord: Discord,
    limits: Limits,
    worker: Feed,
    /// Sent to the worker's connection, and not read yet.
    coming: Vec<Sent>,
    answer: Option<(Question, Finding)>,
    hub: Hub,
    copy: Option<Hub>,
    late: Vec<Batch>,
    clock: u64,
    identifies: u32,
}

impl World {
    fn new(limits: Limits) -> Self {
        let mut world = Self {
            discord: Discord::new(),
            limits,
            worker: Feed::new(setting(limits)),
            coming: Vec::new(),
            answer: None,
            hub: Hub::default(),
            copy: None,
            late: Vec::new(),
            clock: 1,
            identifies: 0,
        };
        world.take_over();
        world
    }

    /// A new worker claims, and resumes or identifies.
    fn take_over(&mut self) {
        self.worker = Feed::new(setting(self.limits));
        self.clock += 1_000;
        let claimed = self.hub.claim(self.clock);
        self.worker.claim(claimed, 7);
        self.answer = None;
        let resume = self
            .worker
            .resume()
            .map(|(session, sequence)| (session.id.clone(), sequence));
        self.connect(resume);
    }

    fn connect(&mut self, resume: Option<(String, u64)>) {
        let resumed = resume.and_then(|(id, behind)| self.discord.resume(&id, behind));
        self.coming = resumed.unwrap_or_else(|| {
            self.identifies += 1;
            self.discord.identify()
        });
    }

    fn read(&mut self, count: usize) {
        for _ in 0..count {
            if self.worker.wants_identify() {
                self.identifies += 1;
                self.coming = self.discord.identify();
            }
            if self.coming.is_empty() {
                return;
            }
            let sent = self.coming.remove(0);
            let read = dispatch::read(sent.name, &sent.data);
            self.worker.receive(&sent.session, sent.sequence, read, 7);
        }
    }

    fn deliver(&mut self, fate: Fate) {
        let Some(batch) = self.worker.next_batch(true, 7) else {
            return;
        };
        match fate {
            Fate::Taken => {
                let answer = self.hub.take(&batch);
                self.hear(&batch, answer);
            }
            Fate::AnswerLost => {
                let _lost = self.hub.take(&batch);
            }
            Fate::Poisoned(number) => {
                if let Some(index) = number.checked_rem(batch.events.len()) {
                    self.hub.poison.insert(batch.events[index].id.clone());
                }
                let answer = self.hub.take(&batch);
                self.hear(&batch, answer);
            }
            Fate::Lost => {}
            Fate::Late => self.late.push(batch),
            Fate::Malformed => {
                self.worker.reject(FailureReason::Refused, 7);
            }
        }
    }

    fn hear(&mut self, batch: &Batch, answer: Result<Receipt, Conflict>) {
        match answer {
            Ok(receipt) => {
                self.worker.delivered(batch, &receipt, 7);
            }
            Err(Conflict::Gap { reached, taken }) => self.worker.rewind(reached, taken, 7),
            Err(Conflict::Unclaimed) => {
                self.clock += 1_000;
                let claimed = self.hub.claim(self.clock);
                self.worker.claim(claimed, 7);
            }
            Err(Conflict::Fenced) => panic!("nobody else has claimed"),
        }
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Wish(Wish::Ask) => match self.answer.take() {
                Some((question, finding)) => {
                    self.worker.answer(question, finding, 7);
                }
                None => {
                    let question = self.worker.question();
                    self.answer = question.map(|asked| (asked, self.discord.answer(asked)));
                }
            },
            Step::Wish(Wish::CatchUp) => {}
            Step::Wish(wish) => {
                let identifies = wish == Wish::Identify;
                let session = self.discord.session();
                let sent = self.discord.grant(&wish);
                // A new session has a connection of its own.
                if identifies || session != self.discord.session() {
                    self.coming.clear();
                }
                self.coming.extend(sent);
            }
            Step::Read(count) => self.read(count),
            Step::Deliver(fate) => self.deliver(fate),
            Step::Arrive => {
                if !self.late.is_empty() {
                    let batch = self.late.remove(0);
                    let _unheard = self.hub.take(&batch);
                }
            }
            Step::Kill => self.take_over(),
            Step::Cut => {
                // What was sent and not read is sent again; what was read is not. What comes late
                // still comes.
                let mut late: Vec<Sent> = self.discord.take_held().into_iter().collect();
                late.append(&mut self.coming);
                let resume = self.worker.resume();
                let resume = resume.map(|(session, sequence)| (session.id.clone(), sequence));
                let session = self.discord.session();
                self.connect(resume);
                if session == self.discord.session() {
                    // The worker recognises duplicates.
                    self.coming.splice(0..0, late);
                }
            }
            Step::Wipe => {
                self.hub = Hub {
                    poison: std::mem::take(&mut self.hub.poison),
                    ..Hub::default()
                }
            }
            Step::Copy => self.copy = Some(self.hub.clone()),
            Step::Restore => {
                if let Some(copy) = self.copy.take() {
                    self.hub = Hub {
                        poison: std::mem::take(&mut self.hub.poison),
                        ..copy
                    };
                }
            }
        }
    }

    /// Nothing goes wrong any more, until there is nothing left to do.
    fn come_to_rest(&mut self) {
        let ended = self.discord.end_outage();
        self.coming.extend(ended);
        // What comes late keeps its order here.
        let mut now = 7;
        for _ in 0..400 {
            self.read(1_000);
            while let Some(question) = self.worker.question() {
                let finding = self.discord.answer(question);
                self.worker.answer(question, finding, now);
            }
            self.read(1_000);
            now += 61_000;
            if let Some(batch) = self.worker.next_batch(true, now) {
                let answer = self.hub.take(&batch);
                self.hear(&batch, answer);
            }
            if self.worker.question().is_none()
                && !self.worker.wants_identify()
                && self.coming.is_empty()
                && self.worker.is_drained(now)
                // A refused snapshot that waits for its next attempt cannot be delivered now.
                && self.worker.health(now).debts == 0
            {
                return;
            }
        }
        panic!("it never comes to rest: {:?}", self.worker.health(now));
    }
}

fn small() -> Limits {
    Limits {
        events_max: 12,
        bytes_max: 40_000,
        batch_events_max: 3,
        ..limits()
    }
}

/// Takes these steps, comes to rest, and compares the hub with the truth.
fn ends_as_the_truth(steps: Vec<Step>, tight: bool) -> Result<(), TestCaseError> {
    let mut world = World::new(if tight { small() } else { limits() });
    for step in steps {
        let before = world.hub.reached;
        let kept = !matches!(step, Step::Wipe | Step::Restore);
        world.step(step);
        prop_assert!(
            !kept || world.hub.reached >= before,
            "the checkpoint went back"
        );
    }
    world.come_to_rest();
    prop_assert_eq!(
        world.hub.state.rooms.values().cloned().collect::<Vec<_>>(),
        world.discord.rooms()
    );
    prop_assert_eq!(
        world.hub.state.voices.values().cloned().collect::<Vec<_>>(),
        world.discord.voices()
    );
    let health = world.worker.health(7);
    prop_assert_eq!(health.acknowledged_to, health.read);
    prop_assert_eq!(world.hub.reached, health.read);
    // A worker that takes over now delivers nothing that the hub knows already.
    let known = world.hub.mark;
    let identifies = world.identifies;
    world.take_over();
    world.come_to_rest();
    prop_assert_eq!(world.hub.mark, known);
    prop_assert_eq!(world.identifies, identifies);
    Ok(())
}

/// A change of a role is several events of one guild. If the hub stored only those that it could
/// read, the next worker restored rooms that contradict the role: hidden for good, or public.
#[test]
fn a_change_of_which_one_event_cannot_be_read_is_read_again_by_the_next_worker() {
    let everyone = |permissions| Step::Wish(Wish::Everyone { permissions });
    for poisoned in 0..4 {
        for later in [Some(1024), None] {
            let mut steps = vec![
                Step::Read(2),
                Step::Deliver(Fate::Taken),
                everyone(0),
                Step::Kill,
            ];
            steps.extend(later.map(everyone));
            steps.extend([
                Step::Read(1),
                Step::Deliver(Fate::Poisoned(poisoned)),
                Step::Kill,
            ]);
            let ended = ends_as_the_truth(steps, false);
            assert!(ended.is_ok(), "{poisoned} {later:?}: {ended:?}");
        }
    }
}

proptest! {
    #[test]
    fn after_any_kill_or_loss_the_hub_equals_the_truth(
        steps in steps(), tight in any::<bool>(),
    ) {
        ends_as_the_truth(steps, tight)?;
    }
}
