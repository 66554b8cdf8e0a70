//! The subscribers of a run, each with a temper of its own, and a client under test.

use std::collections::BTreeSet;
use std::time::Duration;

use rand::RngExt as _;
use rand::rngs::StdRng;
use serde_json::Value;
use tokio::time::{Instant, sleep};
use world::{GUILD, LOUNGE};

use crate::access::HubAccess;
use crate::checker::{History, Record};
use crate::client::Client;
use crate::discord::Discord;
use crate::subscriber::{Answer, Pace, Subscriber, Temper};

/// How often the truth is asked for.
const ASK: Duration = Duration::from_millis(30);
/// How long nothing may come before it is quiet.
const STILL: Duration = Duration::from_millis(250);
/// How much later than everybody is to be right it is to be quiet.
const STILL_MAX: Duration = Duration::from_secs(10);

/// Those who watch.
pub struct Audience {
    all: Vec<Subscriber>,
    client: Option<Client>,
}

impl Audience {
    /// Lets them in, calm; `client`: the command of a client program under test.
    pub fn start(client: Option<&str>, access: &HubAccess, rng: &mut StdRng) -> Self {
        let temper = |name: &str, pace: Pace| Temper {
            name: name.to_owned(),
            pace,
            ..Temper::default()
        };
        let narrow = Temper {
            only: Some(BTreeSet::from([LOUNGE.to_owned()])),
            ..temper("narrow", Pace::Restless)
        };
        let forgetful = Temper {
            forgetful: true,
            ..temper("forgetful", Pace::Restless)
        };
        let tempers = [
            temper("steady", Pace::Steady),
            temper("restless", Pace::Restless),
            temper("roaming", Pace::Restless),
            narrow,
            forgetful,
        ];
        let all = tempers
            .into_iter()
            .map(|temper| Subscriber::start(access.clone(), temper, rng.random()))
            .collect();
        let client = client.map(|command| Client::start(command, access));
        let audience = Self { all, client };
        audience.calm(true);
        audience
    }

    /// Makes everybody stay, or lets them go again.
    pub fn calm(&self, calm: bool) {
        for subscriber in &self.all {
            subscriber.calm(calm);
        }
    }

    /// Waits until every subscriber believes the truth and nothing moves, and notes the quiet point in
    /// every record. At the deadline it is noted as well, and the error names those that are wrong.
    ///
    /// # Errors
    /// The names of those who are wrong; in words, that something still moves.
    pub async fn quiet(&mut self, discord: &Discord, most_s: u64) -> Result<(), Vec<String>> {
        let right_by = Instant::now() + Duration::from_secs(most_s);
        let mut quiet = Quiet::by(right_by, right_by + STILL_MAX);
        loop {
            let state = discord.state().await;
            let seq = state["seq"].as_u64().unwrap_or(0);
            let wrong = self.wrong(&state);
            let received = self.all.iter().map(Subscriber::received).sum();
            match quiet.look(Instant::now(), wrong.is_empty(), (received, seq)) {
                Look::Quiet => {
                    self.mark(seq);
                    return Ok(());
                }
                Look::Late if wrong.is_empty() => {
                    self.mark(seq);
                    return Err(vec!["nobody, but it does not become quiet".to_owned()]);
                }
                Look::Late => {
                    self.mark(seq);
                    return Err(wrong);
                }
                Look::NotYet => {}
            }
            sleep(ASK).await;
        }
    }

    /// The subscriber that never leaves and sees the whole guild.
    pub fn witness(&self) -> &Subscriber {
        &self.all[0]
    }

    /// The records of all subscribers.
    pub fn records(&self) -> Vec<Record> {
        self.all.iter().map(Subscriber::record).collect()
    }

    /// The number of snapshots since the first quiet point that each subscriber did not need itself,
    /// by its name.
    pub fn uncalled_snapshots(&self) -> Vec<(String, u64)> {
        let is_snapshot = |answer: &Answer| matches!(answer, Answer::Snapshot(_));
        let count = |one: &Subscriber| one.answers().into_iter().filter(is_snapshot).count() as u64;
        let all = self.all.iter();
        all.map(|one| (one.name().to_owned(), count(one))).collect()
    }

    fn mark(&self, seq: u64) {
        for subscriber in &self.all {
            subscriber.mark_quiet(seq);
        }
    }

    /// The names of those that do not believe the truth.
    fn wrong(&mut self, state: &Value) -> Vec<String> {
        let truth = History::new(GUILD, state, &[]);
        let mut wrong: Vec<String> = self
            .all
            .iter()
            .filter(|subscriber| !subscriber.agrees(&truth.at_first(subscriber.only())))
            .map(|subscriber| subscriber.name().to_owned())
            .collect();
        if let Some(client) = &mut self.client
            && !client.agrees(&truth.at_first(None).seating())
        {
            wrong.push(format!("the client ({})", client.last()));
        }
        wrong
    }
}

/// Whether it is quiet, or too late for that.
struct Quiet {
    right_by: Instant,
    still_by: Instant,
    /// The time since which all are right and these have not changed: frames received, transitions.
    since: Option<(Instant, (usize, u64))>,
}

#[derive(Debug, PartialEq, Eq)]
enum Look {
    Quiet,
    NotYet,
    Late,
}

impl Quiet {
    fn by(right_by: Instant, still_by: Instant) -> Self {
        Self {
            right_by,
            still_by,
            since: None,
        }
    }

    fn look(&mut self, now: Instant, is_right: bool, moved: (usize, u64)) -> Look {
        let same = self
            .since
            .filter(|(_, before)| is_right && *before == moved);
        let by = if is_right {
            self.still_by
        } else {
            self.right_by
        };
        match same {
            Some((since, _)) if now - since > STILL => return Look::Quiet,
            Some(_) => {}
            None => self.since = is_right.then_some((now, moved)),
        }
        if now > by { Look::Late } else { Look::NotYet }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_point_is_quiet_when_all_are_right_and_nothing_moves_and_late_after_the_deadline() {
        let begin = Instant::now();
        let at = |ms| begin + Duration::from_millis(ms);
        let quiet = || Quiet::by(at(5_000), at(9_000));

        let mut wrong = quiet();
        assert_eq!(wrong.look(at(4_900), false, (1, 1)), Look::NotYet);
        assert_eq!(wrong.look(at(5_100), false, (1, 1)), Look::Late);

        let mut still = quiet();
        assert_eq!(still.look(at(4_900), true, (1, 1)), Look::NotYet);
        assert_eq!(still.look(at(5_100), true, (1, 1)), Look::NotYet);
        assert_eq!(still.look(at(5_200), true, (1, 1)), Look::Quiet);

        let mut restless = quiet();
        for seq in 0..45 {
            let look = restless.look(at(200 * seq), true, (1, seq));
            assert_eq!(look, Look::NotYet);
        }
        assert_eq!(restless.look(at(9_100), true, (1, 45)), Look::Late);
    }
}
