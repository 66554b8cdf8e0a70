//! Those who watch a run: subscribers of different tempers, and a client under test.

use std::collections::BTreeSet;
use std::time::Duration;

use e2e::mirror::seen_by_everyone;
use e2e::{GUILD, LOUNGE};
use rand::RngExt as _;
use rand::rngs::StdRng;
use serde_json::Value;
use tokio::time::{Instant, sleep};

use crate::checker::{Record, Scene, Truth};
use crate::client::Client;
use crate::discord::Discord;
use crate::subscriber::{Door, Subscriber, Temper};

/// How often the truth is asked for.
const ASK: Duration = Duration::from_millis(30);
/// How long nothing may come before it is quiet.
const STILL: Duration = Duration::from_millis(250);

/// Those who watch.
pub struct Audience {
    all: Vec<Subscriber>,
    client: Option<Client>,
}

impl Audience {
    /// Lets them in, calm; `client`: the command of a client program under test.
    pub fn start(client: Option<&str>, door: &Door, luck: &mut StdRng) -> Self {
        let temper = |name: &str, restless: bool| Temper {
            name: name.to_owned(),
            restless,
            ..Temper::default()
        };
        let narrow = Temper {
            only: Some(BTreeSet::from([LOUNGE.to_owned()])),
            ..temper("narrow", true)
        };
        let forgetful = Temper {
            forgetful: true,
            ..temper("forgetful", true)
        };
        let tempers = [
            temper("steady", false),
            temper("restless", true),
            temper("roaming", true),
            narrow,
            forgetful,
        ];
        let all = tempers
            .into_iter()
            .map(|temper| Subscriber::start(door.clone(), temper, luck.random()))
            .collect();
        let client = client.map(|command| Client::start(command, door));
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

    /// Waits until everybody believes the truth and nothing moves, and notes it in every record.
    /// At the deadline it is noted all the same, and the error names who is wrong.
    ///
    /// # Errors
    /// The names of those who are wrong.
    pub async fn quiet(&mut self, discord: &Discord, most_s: u64) -> Result<(), Vec<String>> {
        let until = Instant::now() + Duration::from_secs(most_s);
        let mut still: Option<(Instant, usize, u64)> = None;
        loop {
            let state = discord.state().await;
            let seq = state["seq"].as_u64().unwrap_or(0);
            let wrong = self.wrong(&state);
            let heard = self.all.iter().map(Subscriber::heard).sum();
            if wrong.is_empty() {
                match still {
                    Some((since, before, at)) if before == heard && at == seq => {
                        if since.elapsed() > STILL {
                            self.mark(seq);
                            return Ok(());
                        }
                    }
                    _ => still = Some((Instant::now(), heard, seq)),
                }
            } else {
                still = None;
                if Instant::now() > until {
                    self.mark(seq);
                    return Err(wrong);
                }
            }
            sleep(ASK).await;
        }
    }

    /// Somebody who never goes, and sees all that there is to see.
    pub fn witness(&self) -> &Subscriber {
        &self.all[0]
    }

    /// What everybody heard.
    pub fn records(&self) -> Vec<Record> {
        self.all.iter().map(Subscriber::record).collect()
    }

    fn mark(&self, seq: u64) {
        for subscriber in &self.all {
            subscriber.mark_quiet(seq);
        }
    }

    /// Who does not believe the truth.
    fn wrong(&mut self, state: &Value) -> Vec<String> {
        let truth = Truth::new(GUILD, state, &[]);
        let scene = |subscriber: &Subscriber| -> Scene {
            let mut story = truth.story(subscriber.only());
            story.moments.swap_remove(0).scene
        };
        let mut wrong: Vec<String> = self
            .all
            .iter()
            .filter(|subscriber| !subscriber.agrees(&scene(subscriber)))
            .map(|subscriber| subscriber.name().to_owned())
            .collect();
        if let Some(client) = &mut self.client
            && !client.agrees(&seen_by_everyone(GUILD, &state["guilds"][GUILD]))
        {
            wrong.push(format!("the client ({})", client.last()));
        }
        wrong
    }
}
