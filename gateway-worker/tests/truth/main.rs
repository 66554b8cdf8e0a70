//! For any sequence of dispatches that Discord may send, the roster ends as the truth, and the
//! events reduce to the same state.

mod discord;
mod kills;

use std::collections::{BTreeMap, BTreeSet};

use discord::{Discord, Wish};
use gateway_worker::dispatch;
use gateway_worker::feed::{Feed, FeedSetting, Finding, Question};
use gateway_worker::outbox::Limits;
use gateway_worker::roster::RosterSetting;
use proptest::prelude::*;
use proto::chain::Claimed;
use proto::delivery::Receipt;
use proto::event::{Event, Everyone, Fact, Room, Voice};
use proto::{ChannelId, UserId};

/// What somebody knows who has only the events.
#[derive(Debug, Default, Clone, PartialEq)]
struct Reduced {
    rooms: BTreeMap<ChannelId, Room>,
    voices: BTreeMap<UserId, Voice>,
    everyone: Everyone,
    tombstones: Vec<ChannelId>,
}

impl Reduced {
    /// Strictly: an event that contradicts those before it fails the test.
    fn take(&mut self, event: &Event) {
        match &event.fact {
            Fact::Snapshot(state) => {
                self.everyone = state.everyone;
                self.tombstones.clone_from(&state.tombstones);
                self.rooms = state
                    .rooms
                    .iter()
                    .map(|room| (room.channel_id, room.clone()))
                    .collect();
                self.voices = state
                    .voices
                    .iter()
                    .map(|voice| (voice.user_id, voice.clone()))
                    .collect();
            }
            Fact::GuildUpdated(access) => self.everyone = access.everyone,
            Fact::RoomCreated(room) => {
                self.tombstones.retain(|gone| *gone != room.channel_id);
                assert!(
                    self.rooms.insert(room.channel_id, room.clone()).is_none(),
                    "{event:?}"
                );
            }
            Fact::RoomUpdated(room) => {
                let before = self.rooms.insert(room.channel_id, room.clone());
                assert!(before.is_some_and(|before| before != *room), "{event:?}");
            }
            Fact::RoomDeleted(gone) => {
                self.tombstones.push(gone.channel_id);
                assert!(self.rooms.remove(&gone.channel_id).is_some(), "{event:?}");
                assert!(
                    self.voices
                        .values()
                        .all(|voice| voice.channel_id != gone.channel_id),
                    "{event:?}"
                );
            }
            Fact::VoiceJoined(voice) => {
                assert!(self.rooms.contains_key(&voice.channel_id), "{event:?}");
                let stays = Voice {
                    moved_from: None,
                    ..voice.clone()
                };
                assert!(
                    self.voices.insert(voice.user_id, stays).is_none(),
                    "{event:?}"
                );
            }
            Fact::VoiceLeft(voice) => {
                let before = self.voices.remove(&voice.user_id);
                assert_eq!(
                    before.map(|before| before.channel_id),
                    Some(voice.channel_id),
                    "{event:?}"
                );
            }
            Fact::VoiceStateChanged(voice) => {
                let before = self.voices.insert(voice.user_id, voice.clone());
                assert!(
                    before.is_some_and(|before| {
                        before.channel_id == voice.channel_id && before != *voice
                    }),
                    "{event:?}"
                );
            }
        }
    }
}

fn taken() -> Receipt {
    Receipt {
        accepted: 0,
        duplicates: 0,
        refused: Vec::new(),
        duplicate: false,
        wanted: Vec::new(),
    }
}

/// What a hub that knows nothing answers to a claim.
fn nothing(generation: u64) -> Claimed {
    Claimed {
        generation,
        checkpoint: None,
        last_session: 0,
        identifies: 0,
        guilds: Vec::new(),
        unserved: Vec::new(),
    }
}

/// What a feed was given, to give it again.
#[derive(Debug, Clone)]
enum Given {
    Dispatch(discord::Sent),
    Answer(Question, Finding),
}

struct Worker {
    feed: Feed,
    events: Vec<Event>,
    given: Vec<Given>,
}

impl Worker {
    fn new(limits: Limits) -> Self {
        let mut feed = Feed::new(setting(limits));
        feed.claim(nothing(1), 7);
        Self {
            feed,
            events: Vec::new(),
            given: Vec::new(),
        }
    }

    fn give(&mut self, given: Given) {
        match &given {
            Given::Dispatch(sent) => {
                let read = dispatch::read(sent.name, &sent.data);
                self.feed.receive(&sent.session, sent.sequence, read, 7);
            }
            Given::Answer(question, finding) => {
                self.feed.answer(*question, finding.clone(), 7);
            }
        }
        self.given.push(given);
        while let Some(batch) = self.feed.next_batch(false, 7) {
            self.events.extend(batch.events.iter().cloned());
            self.feed.delivered(&batch, &taken(), 7);
        }
    }

    fn hear(&mut self, sent: Vec<discord::Sent>) {
        for sent in sent {
            self.give(Given::Dispatch(sent));
        }
    }

    /// Asks until nothing is open, identifying again where only that helps.
    fn catch_up(&mut self, discord: &mut Discord) {
        for _ in 0..1_000 {
            if let Some(question) = self.feed.question() {
                let finding = discord.answer(question);
                self.give(Given::Answer(question, finding));
            } else if self.feed.wants_identify() {
                self.hear(discord.identify());
            } else {
                return;
            }
        }
        let health = self.feed.health(7);
        assert!(health.gaps == 0, "it never comes to rest: {health:?}");
    }
}

fn setting(limits: Limits) -> FeedSetting {
    FeedSetting {
        shard: (0, 1),
        guilds: vec![discord::guild()],
        roster: RosterSetting {
            cdn: "https://cdn".into(),
            tombstones_max: 2,
        },
        outbox: limits,
        gaps_max: 20,
        behind_max_ms: 4_000,
        fingerprint: "f".to_owned(),
    }
}

fn limits() -> Limits {
    Limits {
        events_max: 10_000,
        bytes_max: 10_000_000,
        batch_events_max: 100,
        batch_bytes_max: 500_000,
        group_events_max: 5_000,
        delivery_bytes_max: 1_000_000,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn any_history_ends_as_the_truth_and_its_events_reduce_to_the_same(
        wishes in proptest::collection::vec(discord::wishes(), 1..60),
        point in any::<prop::sample::Index>(),
    ) {
        let mut discord = Discord::new();
        let mut worker = Worker::new(limits());
        worker.hear(discord.identify());
        let mut answer = None;
        let mut checkpoints = vec![(worker.feed.clone(), 0, 0)];
        checkpoints.push((worker.feed.clone(), worker.given.len(), worker.events.len()));
        for wish in wishes {
            match wish {
                Wish::CatchUp => worker.catch_up(&mut discord),
                Wish::Ask => {
                    if let Some((question, finding)) = answer.take() {
                        worker.give(Given::Answer(question, finding));
                    } else if let Some(question) = worker.feed.question() {
                        answer = Some((question, discord.answer(question)));
                    }
                }
                wish => worker.hear(discord.grant(&wish)),
            }
            checkpoints.push((worker.feed.clone(), worker.given.len(), worker.events.len()));
        }
        worker.hear(discord.end_outage());
        worker.catch_up(&mut discord);

        let roster = worker.feed.roster(discord::guild()).unwrap();
        prop_assert_eq!(&roster.rooms, &discord.rooms());
        prop_assert_eq!(&roster.voices, &discord.voices());

        let mut reduced = Reduced::default();
        let mut ids = BTreeSet::new();
        for event in &worker.events {
            prop_assert!(ids.insert(event.id.clone()), "twice: {}", event.id);
            reduced.take(event);
        }
        prop_assert_eq!(reduced.rooms.into_values().collect::<Vec<_>>(), roster.rooms);
        prop_assert_eq!(reduced.voices.into_values().collect::<Vec<_>>(), roster.voices);

        // From any point of the past, the worker makes the same events with the same ids.
        let (feed, given, events) = checkpoints.swap_remove(point.index(checkpoints.len()));
        // The first point is before the worker began.
        let mut again = if given == 0 { Worker::new(limits()) } else {
            Worker { feed, events: Vec::new(), given: Vec::new() }
        };
        for given in &worker.given[given..] {
            again.give(given.clone());
        }
        prop_assert_eq!(&again.events[..], &worker.events[events..]);

        // Repeated dispatches make no further event.
        let known = worker.events.len();
        let session = discord.session();
        let repeats: Vec<Given> = worker
            .given
            .iter()
            .filter(|given| matches!(given, Given::Dispatch(sent) if sent.session == session))
            .cloned()
            .collect();
        for given in repeats {
            worker.give(given);
        }
        prop_assert_eq!(worker.events.len(), known);
    }

    #[test]
    fn a_full_outbox_owes_a_snapshot_and_is_never_above_its_bound(
        wishes in proptest::collection::vec((discord::wishes(), any::<bool>()), 1..60),
    ) {
        let small = Limits { events_max: 6, bytes_max: 40_000, batch_events_max: 2, batch_bytes_max: 16_384, group_events_max: 100, delivery_bytes_max: 1_000_000 };
        let mut discord = Discord::new();
        let mut worker = Worker::new(small);
        let mut reduced = Reduced::default();
        let mut sent = discord.identify();
        for (wish, hub_takes) in wishes {
            for sent in sent.drain(..) {
                let read = dispatch::read(sent.name, &sent.data);
                worker.feed.receive(&sent.session, sent.sequence, read, 7);
                let health = worker.feed.health(7);
                prop_assert!(health.outbox_events <= 6 && health.outbox_bytes <= 40_000, "{health:?}");
            }
            if hub_takes {
                deliver(&mut worker.feed, &mut reduced);
            }
            if wish == Wish::CatchUp {
                while let Some(question) = worker.feed.question() {
                    worker.feed.answer(question, discord.answer(question), 7);
                }
            } else {
                sent = discord.grant(&wish);
            }
        }
        sent.extend(discord.end_outage());
        for sent in sent {
            let read = dispatch::read(sent.name, &sent.data);
            worker.feed.receive(&sent.session, sent.sequence, read, 7);
        }
        worker.catch_up(&mut discord);
        for event in std::mem::take(&mut worker.events) {
            reduced.take(&event);
        }
        while worker.feed.next_batch(false, 7).is_some() {
            deliver(&mut worker.feed, &mut reduced);
        }
        prop_assert_eq!(reduced.rooms.into_values().collect::<Vec<_>>(), discord.rooms());
        prop_assert_eq!(reduced.voices.into_values().collect::<Vec<_>>(), discord.voices());
    }
}

fn deliver(feed: &mut Feed, reduced: &mut Reduced) {
    let Some(batch) = feed.next_batch(true, 7) else {
        return;
    };
    for event in &batch.events {
        reduced.take(event);
    }
    feed.delivered(&batch, &taken(), 7);
}
