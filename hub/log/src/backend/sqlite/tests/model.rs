//! Whatever happens to a store, what is in it is as if it had stayed in memory.

use super::*;
use crate::{Command, GuildRecord, Reply};

/// What happens to a log and to a pure truth alike.
#[derive(Debug, Clone)]
enum Step {
    /// So many dispatches are read, each with a join in one of the guilds.
    Deliver(u8),
    Snapshot(u64),
    /// What was delivered before is delivered again, from some dispatch on.
    Again(u8),
    Hand(u8),
    /// A room is created, with a deny or without.
    Create(u64),
    /// A room ends.
    End(u64),
    Claim,
    Restart,
    Kill,
}

fn step() -> impl proptest::strategy::Strategy<Value = Step> {
    use proptest::prelude::*;
    prop_oneof![
        4 => (1_u8..20).prop_map(Step::Deliver),
        1 => (1_u64..3).prop_map(Step::Snapshot),
        2 => any::<u8>().prop_map(Step::Again),
        1 => (0_u8..4).prop_map(Step::Hand),
        1 => (11_u64..15).prop_map(Step::Create),
        1 => (11_u64..15).prop_map(Step::End),
        1 => Just(Step::Claim),
        1 => Just(Step::Restart),
        2 => Just(Step::Kill),
    ]
}

/// A room is reported, with or without a deny of @everyone viewing it.
fn overwritten(guild: u64, channel: u64, turn: u64) -> Fact {
    let overwrite = ["none", "deny", "deny", "allow"][usize::try_from(turn / 5 % 4).unwrap()];
    fact(
        json!({"event": "room.updated", "payload": {"guildId": guild.to_string(),
        "channelId": channel.to_string(), "name": "r", "overwrite": overwrite}}),
    )
}

/// A log beside a truth that was never written anywhere.
struct Both {
    place: Place,
    log: Log,
    pure: LogState,
    delivered: Vec<Event>,
    worker: Worker,
    pure_generation: u64,
    settings: LogSettings,
}

impl Both {
    async fn new(name: &str) -> Self {
        let place = Place::new(name);
        let settings = LogSettings {
            entries_max: 20,
            ..place.settings()
        };
        let log = open(&settings);
        let mut pure = LogState::default();
        for guild in guilds() {
            pure.put(guild, GuildRecord::begin(1));
        }
        let worker = Worker::claim(&log).await;
        let mut both = Self {
            place,
            log,
            pure,
            delivered: Vec::new(),
            worker,
            pure_generation: 0,
            settings,
        };
        both.claim_pure();
        both
    }

    fn claim_pure(&mut self) {
        let claim = Command::Claim {
            id: format!("pure {}", self.pure_generation).into(),
            claim: claim_by("w", (0, 1)),
        };
        let (Reply::Claimed(Ok(claimed)), _) = self.pure.execute(&claim, 1) else {
            panic!("a claim is refused");
        };
        self.pure_generation = claimed.generation;
    }

    async fn deliver(&mut self, events: Vec<Event>) {
        let link = self.worker.link();
        let delivered = self
            .log
            .deliver(link.clone(), events.clone())
            .await
            .unwrap();
        let pure = Link {
            generation: self.pure_generation,
            ..link
        };
        let deliver = Command::Deliver { link: pure, events };
        let (reply, _) = self.pure.execute(&deliver, 1);
        assert_eq!(Reply::Delivered(Ok(delivered)), reply);
    }

    async fn take(&mut self, step: Step, n: usize) {
        match step {
            Step::Deliver(count) => {
                let events: Vec<_> = (0..u64::from(count))
                    .map(|user| {
                        let turn = user + n as u64;
                        let guild = 1 + user % 2;
                        self.worker.event(match turn % 5 {
                            0 => overwritten(guild, 11 + turn % 3, turn),
                            _ => joined(guild, 11 + turn % 3, user + 1),
                        })
                    })
                    .collect();
                self.delivered.extend(events.clone());
                self.deliver(events).await;
            }
            Step::Snapshot(guild) => {
                let event = self.worker.event(snapshot(guild, &[11, 12]));
                self.delivered.push(event.clone());
                self.deliver(vec![event]).await;
            }
            Step::Again(from) => {
                let from = usize::from(from).min(self.delivered.len());
                self.deliver(self.delivered[from..].to_vec()).await;
            }
            Step::Hand(id) => {
                let event = by_hand(&id.to_string());
                let appended = self.log.append(vec![event.clone()]).await.unwrap();
                let append = Command::Append {
                    events: vec![event],
                };
                let (pure, _) = self.pure.execute(&append, 1);
                let real = Reply::Appended {
                    appended,
                    forgotten_early: 0,
                };
                assert_eq!(real, pure);
            }
            Step::Create(channel) => {
                if self.pure.ledger.room(channel_id(channel)).is_none() {
                    create_room(&self.log, channel, 4).await.unwrap();
                    let ticket = CreateTicket(channel);
                    let begin = Command::BeginCreate {
                        ticket,
                        guild: guild(1),
                        owner: Owner::new(&channel.to_string()),
                    };
                    let outcome = created(channel, 4);
                    self.pure.execute(&begin, 1);
                    self.pure
                        .execute(&Command::FinishCreate { ticket, outcome }, 1);
                }
            }
            Step::End(channel) => {
                let channel = channel_id(channel);
                self.log.end_room(channel).await.unwrap();
                self.pure.execute(&Command::EndRoom { channel }, 1);
            }
            Step::Claim => {
                let claimed = Worker::claim(&self.log).await;
                self.worker.generation = claimed.generation;
                self.claim_pure();
            }
            Step::Restart => {
                let before = state(&self.log);
                self.log.close().await;
                self.log = open(&self.settings);
                assert_eq!(state(&self.log), before);
            }
            Step::Kill => {
                let copy = Place::new(&format!("killed-{n}"));
                self.place.copy(&copy);
                let settings = LogSettings {
                    entries_max: 20,
                    ..copy.settings()
                };
                let after = open(&settings);
                assert_eq!(state(&after), state(&self.log));
                self.log = after;
                (self.place, self.settings) = (copy, settings);
            }
        }
        let now = state(&self.log);
        for id in guilds() {
            let (real, pure) = (now.guild(id).unwrap(), self.pure.guild(id).unwrap());
            assert_eq!((&real.state, real.mark), (&pure.state, pure.mark));
            let following = self.log.follow(id).unwrap();
            assert_eq!(following.state, real.state);
            for entry in following.tail.entries() {
                let past = following.tail.since(entry.position).unwrap();
                let mut state = past.state;
                past.entries
                    .iter()
                    .for_each(|entry| state.apply(&entry.change));
                assert_eq!(state, real.state);
            }
        }
        let rooms = |state: &LogState| -> Vec<_> {
            let rooms = state.ledger.rooms();
            rooms
                .map(|room| (room.channel_id, room.status, room.inherits_deny))
                .collect()
        };
        assert_eq!(rooms(&now), rooms(&self.pure));
        let (real, pure) = (
            now.workers.holder(0).unwrap(),
            self.pure.workers.holder(0).unwrap(),
        );
        assert_eq!(
            (real.progress.reached, &real.progress.checkpoint),
            (pure.progress.reached, &pure.progress.checkpoint)
        );
    }
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig { cases: 8, ..Default::default() })]

    #[test]
    fn whatever_is_delivered_repeated_restarted_and_killed_it_is_as_if_it_had_stayed_in_memory(
        steps in proptest::collection::vec(step(), 1..30),
    ) {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(async {
            let mut both = Both::new("both").await;
            for (n, step) in steps.into_iter().enumerate() {
                both.take(step, n).await;
            }
        });
    }
}
