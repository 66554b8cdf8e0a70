//! The search: breadth first, so that the first violation that is found is a shortest one.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::time::{Duration, Instant};

use crate::bounds::Bounds;
use crate::world::{State, Step, World, Wrong};

/// So many steps bring any world here to rest.
const REST_STEPS_MAX: usize = 500;

/// What was seen.
#[derive(Debug, Clone, Copy)]
pub struct Figures {
    /// Different states.
    pub states: usize,
    /// Steps between them.
    pub steps: u64,
    /// States in which nothing is left to do.
    pub at_rest: usize,
    /// Whether there were no more.
    pub exhausted: bool,
    /// Different Discords, workers, hubs and deliveries.
    pub parts: [usize; 4],
    /// How long it took.
    pub took: Duration,
}

/// A way to a violation.
#[derive(Debug)]
pub struct Violation {
    /// What is wrong.
    pub what: String,
    /// What happened, in order, each with the state after it.
    pub trace: Vec<String>,
    /// How much was seen before.
    pub figures: Figures,
}

/// Looks at every state within the bounds.
///
/// # Errors
/// The first violation, by a shortest way.
pub fn explore(bounds: &Bounds) -> Result<Figures, Box<Violation>> {
    let begun = Instant::now();
    let (mut world, first) = World::new(bounds);
    let mut seen = Seen::default();
    seen.note(first, 0, None);
    let mut rests: HashSet<State> = HashSet::new();
    let (mut steps, mut at_rest, mut next) = (0, 0, 0);
    let figures = |seen: &Seen, world: &World, steps, at_rest, next: usize| Figures {
        states: seen.states.len(),
        steps,
        at_rest,
        exhausted: next >= seen.states.len(),
        parts: world.parts(),
        took: begun.elapsed(),
    };
    while next < seen.states.len() && seen.states.len() < bounds.states {
        let state = seen.states[next];
        let outcome = check_rest(&mut world, state, &mut rests).and_then(|rested| {
            at_rest += usize::from(rested);
            world.steps(&state).map_err(|wrong| (Vec::new(), wrong))
        });
        match outcome {
            Ok(found) => {
                steps += found.len() as u64;
                for (step, after) in found {
                    seen.note(after, next, Some(step));
                }
            }
            Err((on, wrong)) => {
                return Err(Box::new(Violation {
                    trace: seen.trace(&world, next, &on, &wrong),
                    what: wrong.what,
                    figures: figures(&seen, &world, steps, at_rest, next),
                }));
            }
        }
        next += 1;
    }
    Ok(figures(&seen, &world, steps, at_rest, next))
}

type Way = Vec<(Step, State)>;

/// Lets the world come to rest. Returns whether it came to a rest that was not known.
fn check_rest(
    world: &mut World,
    from: State,
    rests: &mut HashSet<State>,
) -> Result<bool, (Way, Wrong)> {
    let mut way: Way = Vec::new();
    let mut state = from;
    while rests.insert(state) {
        match world.fair_step(&state) {
            Ok(None) => return Ok(true),
            Ok(Some((step, after))) => {
                way.push((step, after));
                state = after;
            }
            Err(wrong) => return Err((way, wrong)),
        }
        if way.len() > REST_STEPS_MAX {
            let wrong = Wrong {
                step: None,
                what: "it never comes to rest".to_owned(),
            };
            return Err((way, wrong));
        }
    }
    // It came to where another way has been; but not in a circle of its own.
    if way.iter().rev().skip(1).any(|(_, past)| *past == state)
        || (!way.is_empty() && state == from)
    {
        let wrong = Wrong {
            step: None,
            what: "it goes in circles, and never comes to rest".to_owned(),
        };
        return Err((way, wrong));
    }
    Ok(false)
}

#[derive(Default)]
struct Seen {
    numbers: HashMap<State, u32>,
    states: Vec<State>,
    /// How each was come to.
    ways: Vec<(u32, Option<Step>)>,
}

impl Seen {
    fn note(&mut self, state: State, from: usize, step: Option<Step>) {
        let number = u32::try_from(self.states.len()).unwrap_or(u32::MAX);
        if let std::collections::hash_map::Entry::Vacant(vacant) = self.numbers.entry(state) {
            vacant.insert(number);
            self.states.push(state);
            self.ways
                .push((u32::try_from(from).unwrap_or(u32::MAX), step));
        }
    }

    fn trace(&self, world: &World, at: usize, on: &Way, wrong: &Wrong) -> Vec<String> {
        let line = |step, state: Option<&State>| {
            let after = state.map_or_else(String::new, |state| world.show(state));
            format!("{}\n           ({after})", world.name(step))
        };
        let mut lines = Vec::new();
        let mut number = at;
        while let (from, Some(step)) = self.ways[number] {
            lines.push(line(step, Some(&self.states[number])));
            number = from as usize;
        }
        lines.reverse();
        if !on.is_empty() {
            lines.push("-- and then, with nothing more going wrong:".to_owned());
            lines.extend(on.iter().map(|(step, state)| line(*step, Some(state))));
        }
        lines.extend(wrong.step.map(|step| line(step, None)));
        lines
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [discords, workers, hubs, deliveries] = self.parts;
        write!(
            f,
            "{} states, {} steps, {} at rest, {}; parts: {discords} Discords, {workers} workers, {hubs} hubs, {deliveries} deliveries; {:.1} s",
            self.states,
            self.steps,
            self.at_rest,
            if self.exhausted {
                "exhausted"
            } else {
                "stopped there"
            },
            self.took.as_secs_f64(),
        )
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "VIOLATION: {}", self.what)?;
        for (number, line) in self.trace.iter().enumerate() {
            writeln!(f, "{:>4} {line}", number + 1)?;
        }
        write!(f, "after {}", self.figures)
    }
}
