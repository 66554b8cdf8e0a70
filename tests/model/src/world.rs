//! The whole: Discord, the network, the hub, and the workers. [`World::steps`] says what may happen
//! next; a [`State`] holds only numbers of parts, and what follows from the same parts is worked
//! out once.

use std::collections::HashMap;

use proto::chain::Conflict;
use proto::delivery::Receipt;

use crate::bounds::Bounds;
use crate::discord::{Discord, GUILDS};
use crate::hub::Hub;
use crate::interned::Interned;
use crate::worker::{Delivery, Worker};

mod parts;
mod show;
mod state;
mod step;

pub use state::State;
use state::{Left, UNDER_WAY_MAX};
pub use step::{Step, Whose};

/// There is no such part.
const NONE: u32 = u32::MAX;
/// The copy of the store was used.
const USED: u32 = u32::MAX - 1;

/// What went wrong, and with which step.
#[derive(Debug)]
pub struct Wrong {
    /// The step; none: the state itself.
    pub step: Option<Step>,
    /// What.
    pub what: String,
}

type Answer = Result<Receipt, Conflict>;

/// What a question about parts comes to; which parts, the question says.
type Outcome = Result<[u32; 3], String>;

/// Everything that is known of the parts.
pub struct World {
    bounds: Bounds,
    discords: Interned<Discord>,
    workers: Interned<Worker>,
    hubs: Interned<Hub>,
    deliveries: Interned<Delivery>,
    answers: Interned<Answer>,
    known: HashMap<(Question, [u32; 3]), Outcome>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Question {
    Claim,
    Read,
    Resume,
    Send,
    TimeOut,
    Ask,
    Hear,
    Identify,
    Deliver,
    Answer,
    Checkpoint,
    Rest,
}

impl World {
    /// A world in which nothing has happened.
    pub fn new(bounds: &Bounds) -> (Self, State) {
        let mut world = Self {
            bounds: bounds.clone(),
            discords: Interned::new(),
            workers: Interned::new(),
            hubs: Interned::new(),
            deliveries: Interned::new(),
            answers: Interned::new(),
            known: HashMap::new(),
        };
        let state = State {
            discord: world.discords.number(Discord::default()),
            worker: NONE,
            older: NONE,
            hub: world.hubs.number(Hub::empty()),
            copy: NONE,
            net: [NONE; UNDER_WAY_MAX],
            left: Left {
                crashes: bounds.crashes,
                expiries: bounds.expiries,
                stalls: bounds.stalls,
                losses: bounds.losses,
                wipes: bounds.wipes,
                restores: bounds.restores,
            },
            tick: 0,
        };
        (world, state)
    }

    /// How many different Discords, workers, hubs and deliveries there were.
    pub fn parts(&self) -> [usize; 4] {
        [
            self.discords.len(),
            self.workers.len(),
            self.hubs.len(),
            self.deliveries.len(),
        ]
    }

    /// Everything that may happen next.
    ///
    /// # Errors
    /// What must never happen, and does.
    pub fn steps(&mut self, state: &State) -> Result<Vec<(Step, State)>, Wrong> {
        let mut next = Vec::with_capacity(16);
        self.fair(state, &mut next)?;
        self.unfair(state, &mut next)?;
        for (step, after) in &next {
            let parts = [after.hub, after.discord, NONE];
            self.ask(Question::Checkpoint, parts)
                .map_err(|what| wrong(*step, what))?;
        }
        Ok(next)
    }

    /// What happens next if nothing more goes wrong and nobody moves; none: the world is at rest.
    ///
    /// # Errors
    /// What must never happen, and does; or the world is at rest, and it is not right.
    pub fn fair_step(&mut self, state: &State) -> Result<Option<(Step, State)>, Wrong> {
        let mut next = Vec::new();
        self.fair(state, &mut next)?;
        if let Some(first) = next.first() {
            return Ok(Some(*first));
        }
        let parts = [state.hub, state.worker, state.discord];
        self.ask(Question::Rest, parts)
            .map_err(|what| Wrong { step: None, what })?;
        Ok(None)
    }

    fn fair(&mut self, state: &State, next: &mut Vec<(Step, State)>) -> Result<(), Wrong> {
        for delivery in state.under_way() {
            self.arrive(state, delivery, next)?;
        }
        if state.worker == NONE {
            let after = self
                .claim(state)
                .map_err(|what| wrong(Step::Claims, what))?;
            next.push((Step::Claims, after));
        }
        for whose in [Whose::Older, Whose::Newer] {
            if state.worker_of(whose) != NONE {
                self.deliveries(state, whose, next)?;
            }
        }
        if state.worker != NONE {
            self.reader(state, next)?;
        }
        Ok(())
    }

    /// A delivery arrives, with everything that may come of it.
    fn arrive(
        &mut self,
        state: &State,
        delivery: u32,
        next: &mut Vec<(Step, State)>,
    ) -> Result<(), Wrong> {
        let [hub, answer, _] = self
            .ask(Question::Deliver, [state.hub, delivery, state.discord])
            .map_err(|what| wrong(Step::Arrives(delivery, NONE), what))?;
        let arrived = State {
            hub,
            ..state.without(delivery)
        };
        let heard = self
            .hear(&arrived, delivery, answer)
            .map_err(|what| wrong(Step::Arrives(delivery, answer), what))?;
        next.push((Step::Arrives(delivery, answer), heard));
        if let Some(left) = state.left.with_loss() {
            let lost = State { left, ..arrived };
            next.push((Step::AnswerLost(delivery, answer), lost));
            let again = State {
                left,
                net: state.net,
                ..heard
            };
            next.push((Step::ArrivesTwice(delivery, answer), again));
            let gone = State {
                left,
                ..state.without(delivery)
            };
            next.push((Step::Lost(delivery), gone));
        }
        Ok(())
    }

    /// The worker that waits for the answer gets it.
    fn hear(&mut self, state: &State, delivery: u32, answer: u32) -> Result<State, String> {
        let mut after = *state;
        for whose in [Whose::Older, Whose::Newer] {
            let worker = state.worker_of(whose);
            if worker != NONE {
                let [heard, _, _] = self.ask(Question::Answer, [worker, delivery, answer])?;
                after.set_worker(whose, heard);
            }
        }
        Ok(after)
    }

    fn deliveries(
        &mut self,
        state: &State,
        whose: Whose,
        next: &mut Vec<(Step, State)>,
    ) -> Result<(), Wrong> {
        let number = state.worker_of(whose);
        let worker = self.workers.get(number);
        if worker.unclaimed && whose == Whose::Older && !self.bounds.fights {
            let older = NONE;
            next.push((Step::Ends, State { older, ..*state }));
            return Ok(());
        }
        if worker.unclaimed {
            let step = Step::ClaimsAgain(whose);
            let after = self
                .claim_again(state, whose)
                .map_err(|what| wrong(step, what))?;
            next.push((step, after));
            return Ok(());
        }
        let [after, delivery, kind] = self
            .ask(
                if worker.flight.is_some() {
                    Question::TimeOut
                } else {
                    Question::Send
                },
                [number, NONE, NONE],
            )
            .map_err(|what| wrong(Step::Sends(whose, NONE), what))?;
        if after == NONE {
            return Ok(());
        }
        if worker.flight.is_some() {
            let mut waited = *state;
            waited.set_worker(whose, after);
            let again = kind == 1;
            match (state.is_under_way(delivery), again) {
                // The answer may still come.
                (true, false) => {
                    if let Some(left) = state.left.with_loss() {
                        next.push((Step::TimesOut(whose), State { left, ..waited }));
                    }
                }
                (true, true) => {}
                (false, true) => {
                    next.push((Step::SendsAgain(whose, delivery), waited.with(delivery)));
                }
                (false, false) => next.push((Step::GivesUp(whose), waited)),
            }
            return Ok(());
        }
        let mut sent = *state;
        sent.set_worker(whose, after);
        if kind == 1 {
            next.push((Step::Sends(whose, delivery), sent.with(delivery)));
            return Ok(());
        }
        // A beat is sent at once: it matters only if it changes something.
        let step = Step::Beats(whose);
        let [hub, answer, plain] = self
            .ask(Question::Deliver, [state.hub, delivery, state.discord])
            .map_err(|what| wrong(step, what))?;
        if hub != state.hub || plain != 1 {
            let beaten = self
                .hear(&State { hub, ..sent }, delivery, answer)
                .map_err(|what| wrong(step, what))?;
            if beaten != *state {
                next.push((step, beaten));
            }
        }
        Ok(())
    }

    fn reader(&mut self, state: &State, next: &mut Vec<(Step, State)>) -> Result<(), Wrong> {
        for (question, step) in [
            (Question::Hear, Step::Hears),
            (Question::Read, Step::Reads),
            (Question::Resume, Step::Resumes),
            (Question::Ask, Step::Asks),
            (Question::Identify, Step::Identifies),
        ] {
            let [worker, discord, _] = self
                .ask(question, [state.worker, state.discord, NONE])
                .map_err(|what| wrong(step, what))?;
            if worker != NONE {
                let after = State {
                    worker,
                    discord,
                    ..*state
                };
                next.push((step, after));
            }
        }
        Ok(())
    }

    fn unfair(&mut self, state: &State, next: &mut Vec<(Step, State)>) -> Result<(), Wrong> {
        let discord = self.discords.get(state.discord);
        let left = state.left;
        if discord.now() < self.bounds.events {
            let unread = discord.moves.iter().filter(|one| !one.legible).count();
            for guild in 0..GUILDS {
                for user in 0..self.bounds.members {
                    for legible in [true, false] {
                        if !legible && unread >= usize::from(self.bounds.illegible) {
                            continue;
                        }
                        let mut moved = Discord::clone(&discord);
                        moved.go(guild, user, legible);
                        let discord = self.discords.number(moved);
                        let step = Step::Moves {
                            guild,
                            user,
                            legible,
                        };
                        next.push((step, State { discord, ..*state }));
                    }
                }
            }
        }
        if let Some(crashes) = left.crashes.checked_sub(1).filter(|_| state.worker != NONE) {
            let left = Left { crashes, ..left };
            let died = State {
                worker: NONE,
                left,
                ..*state
            };
            next.push((Step::Dies, died));
            let claimed = self
                .claim(state)
                .map_err(|what| wrong(Step::Second, what))?;
            let second = State {
                older: state.worker,
                left,
                ..claimed
            };
            next.push((Step::Second, second));
        }
        if let Some(expiries) = left.expiries.checked_sub(1).filter(|_| discord.live) {
            let mut expired = Discord::clone(&discord);
            expired.live = false;
            let after = State {
                discord: self.discords.number(expired),
                left: Left { expiries, ..left },
                ..*state
            };
            next.push((Step::Expires, after));
        }
        let reads = state.worker != NONE && !self.workers.get(state.worker).cut;
        if let Some(stalls) = left
            .stalls
            .checked_sub(1)
            .filter(|_| reads && discord.live && !discord.stalled)
        {
            let mut stalled = Discord::clone(&discord);
            stalled.stalled = true;
            let mut cut = Worker::clone(&self.workers.get(state.worker));
            cut.cut = cut
                .session
                .is_some_and(|(session, _)| discord.is_live(session));
            let after = State {
                discord: self.discords.number(stalled),
                worker: self.workers.number(cut),
                left: Left { stalls, ..left },
                ..*state
            };
            next.push((Step::Stalls, after));
        }
        if let Some(wipes) = left.wipes.checked_sub(1) {
            let after = State {
                hub: self.hubs.number(Hub::empty()),
                left: Left { wipes, ..left },
                ..*state
            };
            next.push((Step::Wiped, after));
        }
        if left.restores > 0 && state.copy == NONE {
            let copy = state.hub;
            next.push((Step::Copied, State { copy, ..*state }));
        }
        if state.copy != NONE && state.copy != USED {
            let restored = State {
                hub: state.copy,
                copy: USED,
                left: Left {
                    restores: 0,
                    ..left
                },
                ..*state
            };
            next.push((Step::Restored, restored));
        }
        Ok(())
    }

    fn claim(&mut self, state: &State) -> Result<State, String> {
        let tick = u32::from(state.tick) + 1;
        let [hub, worker, discord] = self.ask(Question::Claim, [state.hub, tick, state.discord])?;
        Ok(State {
            hub,
            worker,
            discord,
            tick: state.tick + 1,
            ..*state
        })
    }

    /// It takes the shard back, and with it the session.
    fn claim_again(&mut self, state: &State, whose: Whose) -> Result<State, String> {
        let tick = u32::from(state.tick) + 1;
        let mut hub = Hub::clone(&self.hubs.get(state.hub));
        let mut discord = Discord::clone(&self.discords.get(state.discord));
        let mut worker = Worker::clone(&self.workers.get(state.worker_of(whose)));
        worker.claimed_again(hub.claim(narrow(tick))?, &mut discord);
        if whose == Whose::Older && !worker.must_identify(&discord) {
            worker.connect(&mut discord);
        }
        let older = match whose {
            Whose::Newer => state.older,
            Whose::Older => state.worker,
        };
        Ok(State {
            hub: self.hubs.number(hub),
            worker: self.workers.number(worker),
            discord: self.discords.number(discord),
            older,
            tick: state.tick + 1,
            ..*state
        })
    }

    /// What comes of these parts, worked out once.
    fn ask(&mut self, question: Question, parts: [u32; 3]) -> Outcome {
        if let Some(known) = self.known.get(&(question, parts)) {
            return known.clone();
        }
        let outcome = self.work_out(question, parts);
        self.known.insert((question, parts), outcome.clone());
        outcome
    }
}

fn wrong(step: Step, what: String) -> Wrong {
    Wrong {
        step: Some(step),
        what,
    }
}

fn narrow(number: u32) -> u8 {
    u8::try_from(number).unwrap_or(u8::MAX)
}
