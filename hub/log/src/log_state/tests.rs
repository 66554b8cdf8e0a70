//! The law of records: `absorb(before, record) == after`, over random commands.

use std::collections::BTreeMap;

use proptest::prelude::*;
use proptest::sample::select;
use proto::UserId;
use proto::chain::{Absence, Bucket, CLAIM_TYPE, GatewaySession, Reached};
use serde_json::json;

use super::*;
use crate::fixture::{by_hand, channel_id as channel, create, guild, joined};
use crate::ledger::{CreatedChannel, LedgerBounds};

/// So many runs of at least 40 commands: at least 12,000 commands.
const RUNS: u32 = 300;
const COMMANDS_MAX: usize = 60;

/// A command, or one that depends on the state.
#[derive(Debug, Clone)]
pub(crate) enum Step {
    Command(Command),
    Identify(u8, u32, Newest),
    Deliver {
        shard: u32,
        newest: Newest,
        from: u64,
        to: u64,
        lost: u64,
        facts: Vec<Fact>,
    },
    /// The outcome of one of the pending creates.
    Finish(usize, CreateOutcome),
}

/// Whether a worker is the newest of its shard.
pub(crate) type Newest = bool;

fn fact() -> impl Strategy<Value = Fact> {
    let fact = |event: &str, payload: serde_json::Value| {
        serde_json::from_value(json!({"event": event, "payload": payload})).unwrap()
    };
    // The last guild is not one of this hub.
    (1_u64..4, 11_u64..15, 1_u64..6, 0_usize..7).prop_map(move |(guild, channel, user, kind)| {
        let id = |id: u64| id.to_string();
        let overwrite = ["none", "deny"][usize::try_from(user % 2).unwrap()];
        let room = json!({"guildId": id(guild), "channelId": id(channel), "name": "r",
            "overwrite": overwrite});
        let voice = json!({"guildId": id(guild), "channelId": id(channel), "userId": id(user),
            "member": {"displayName": "Zoë", "avatarUrl": "https://cdn/x"}});
        match kind {
            0 => fact("room.created", room),
            1 => fact("room.updated", room),
            2 => fact("room.deleted", json!({"guildId": id(guild), "channelId": id(channel)})),
            3 => fact("voice.left", voice),
            4 => fact(
                "guild.snapshot",
                json!({"guildId": id(guild), "rooms": [room], "voices": [voice], "reason": "worker_started"}),
            ),
            _ => fact("voice.joined", voice),
        }
    })
}

fn claim(id: u8, shard: (u32, u32)) -> Command {
    Command::Claim {
        id: id.to_string().into(),
        claim: Claim {
            r#type: CLAIM_TYPE.to_owned(),
            shard,
            worker: "w".to_owned(),
            guilds: vec![guild(1), guild(2), guild(9)],
            memory: true,
        },
    }
}

fn begin(id: u64, ticket: u64, request: Option<(u8, u8)>) -> Command {
    let keyed = request.map(|(key, body)| (key.to_string(), body));
    let request = keyed.as_ref().map(|(key, body)| (key.as_str(), *body));
    Command::BeginCreate {
        ticket: CreateTicket(ticket),
        create: create(id, &(ticket % 8).to_string(), request),
    }
}

/// Discord created this channel, or none.
fn outcome(created: Option<(u64, bool)>) -> CreateOutcome {
    let created = created.map(|(id, denies_everyone)| CreatedChannel {
        channel_id: channel(id),
        name: "r".to_owned(),
        parent_id: None,
        user_limit: 0,
        denies_everyone,
    });
    created.map_or(CreateOutcome::Withdrawn, CreateOutcome::Created)
}

fn command() -> impl Strategy<Value = Command> {
    let shard = select(vec![(0, 2), (1, 2), (0, 2), (0, 1)]);
    let by_hand = (any::<u8>(), fact()).prop_map(|(id, fact)| by_hand(&id.to_string(), fact));
    prop_oneof![
        2 => (0_u8..32, shard).prop_map(|(id, shard)| claim(id, shard)),
        2 => prop::collection::vec(by_hand, 0..4).prop_map(|events| Command::Append { events }),
        2 => (1_u64..4, 0_u64..64, prop::option::of((0_u8..3, 0_u8..2)))
            .prop_map(|(guild, ticket, request)| begin(guild, ticket, request)),
        1 => (11_u64..15).prop_map(|id| Command::EndRoom { channel: channel(id) }),
        1 => (0_u8..16).prop_map(|id| Command::NoteInteraction { id: id.to_string().into() }),
        1 => Just(Command::ReconcileRooms),
    ]
}

pub(crate) fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        9 => command().prop_map(Step::Command),
        1 => (0_u8..32, 0_u32..2, any::<bool>())
            .prop_map(|(id, shard, newest)| Step::Identify(id, shard, newest)),
        8 => (
            (0_u32..2, prop::bool::weighted(0.9)),
            (0_u64..9, 0_u64..40, 0_u64..3),
            prop::collection::vec(fact(), 0..6),
        )
            .prop_map(|((shard, newest), (from, to, lost), facts)| Step::Deliver {
                shard,
                newest,
                from,
                to,
                lost: lost / 2,
                facts,
            }),
        2 => (0_usize..4, prop::option::weighted(0.8, (11_u64..15, any::<bool>())))
            .prop_map(|(pending, created)| Step::Finish(pending, outcome(created))),
    ]
}

impl Step {
    pub(crate) fn command(self, state: &LogState, n: u64) -> Command {
        let generation = |shard, newest: Newest| {
            let holder = state.workers.holder(shard);
            holder.map_or(0, |holder| holder.generation) - u64::from(!newest && holder.is_some())
        };
        match self {
            Self::Command(command) => command,
            Self::Identify(id, shard, newest) => Command::Identify {
                id: id.to_string().into(),
                notice: IdentifyNotice {
                    r#type: "identify".to_owned(),
                    shard: (shard, 2),
                    generation: generation(shard, newest),
                    bucket: Some(Bucket {
                        number: 0,
                        every_ms: 5_500,
                    }),
                },
            },
            Self::Deliver {
                shard,
                newest,
                from,
                to,
                lost,
                facts,
            } => {
                let at = |sequence| Reached {
                    session: 1,
                    sequence,
                };
                let mark = |n: usize| Mark {
                    reached: at(to),
                    n: u32::try_from(n).unwrap(),
                };
                let events = facts.into_iter().enumerate().map(|(index, fact)| Event {
                    id: format!("1:{to}:{index}"),
                    fact,
                    ts: n,
                    at: Some(mark(index)),
                });
                Command::Deliver {
                    link: Link {
                        shard: (shard, 2),
                        generation: generation(shard, newest),
                        from: at(from),
                        taken: 0,
                        to: at(to),
                        session: Some(GatewaySession {
                            number: 1,
                            id: "s".to_owned(),
                            resume_url: None,
                        }),
                        fingerprint: "f".to_owned(),
                        resumes: 0,
                        lost,
                        absent: BTreeMap::from([(guild(2), Absence::Outage)]),
                    },
                    events: events.collect(),
                }
            }
            Self::Finish(pending, outcome) => {
                let ticket = state
                    .ledger
                    .pending()
                    .map(|(ticket, _)| ticket)
                    .nth(pending);
                Command::FinishCreate {
                    ticket: ticket.unwrap_or(CreateTicket(64)),
                    outcome,
                }
            }
        }
    }
}

/// Settings whose bounds are reached by a few commands.
pub(crate) fn small() -> LogSettings {
    LogSettings {
        seen_events_max: 20,
        fencings_per_minute_max: 2,
        ledger: LedgerBounds {
            rooms_max: 5,
            past_max: 2,
            creates_per_minute: 2,
            creators_max: 4,
            interactions_max: 8,
            answers_max: 3,
        },
        ..LogSettings::default()
    }
}

fn begun() -> LogState {
    let settings = small();
    let ledger = Ledger::new(settings.ledger.clone());
    let (workers, event_ids) = (Workers::default(), StoredIds::default());
    let mut state = LogState::restored(&settings, workers, ledger, event_ids, 0);
    for id in 1..3 {
        state.put(guild(id), GuildRecord::begin(1));
    }
    state
}

proptest! {
    #![proptest_config(ProptestConfig { cases: RUNS, ..ProptestConfig::default() })]

    #[test]
    fn absorbing_a_record_has_the_effect_of_its_command(
        // The clock may be set back, and may jump.
        steps in prop::collection::vec((step(), 0_u64..200_000), 40..COMMANDS_MAX),
    ) {
        let mut state = begun();
        let (first, mut sum) = (state.clone(), Record::default());
        for (n, (step, now_ms)) in steps.into_iter().enumerate() {
            let command = step.command(&state, n as u64);
            let before = state.clone();
            let (reply, record) = state.execute(&command, now_ms);
            let mut again = before.clone();
            let (same_reply, _) = again.execute(&command, now_ms);
            prop_assert_eq!((&same_reply, &again), (&reply, &state), "pure");
            let mut absorbed = before.clone();
            absorbed.absorb(&record);
            prop_assert_eq!(&absorbed, &state, "{:?}", command);
            if let Reply::Claimed(Err(_))
                | Reply::Identified(Err(_))
                | Reply::Delivered(Err(_))
                | Reply::CreateFinished(Err(_)) = reply
            {
                let is_fenced = !record.fencings.is_empty();
                prop_assert!(!record.is_stored() && (is_fenced || before == state), "refused");
            }
            for entry in &record.entries {
                let mut after = entry.applied.before.clone();
                after.apply(&entry.applied.entry.change);
                prop_assert_eq!(&after, &entry.applied.after);
            }
            sum.append(record);
        }
        let mut absorbed = first;
        absorbed.absorb(&sum);
        prop_assert_eq!(absorbed, state, "as a group");
    }
}

#[test]
fn a_voice_that_moves_leaves_the_room_before_it_joins_the_next() {
    let mut state = begun();
    let voice = |id: &str, channel| by_hand(id, joined(1, channel, 5));
    let events = vec![voice("a", 11), voice("b", 12)];
    let (_, record) = state.execute(&Command::Append { events }, 1);
    let user = UserId::new(5).unwrap();
    let seen: Vec<_> = record
        .entries
        .iter()
        .map(|entry| entry.applied.after.whereabouts(user))
        .collect();
    let (first, next) = (Some(channel(11)), Some(channel(12)));
    // Each room is created before it is joined.
    assert_eq!(seen, [None, first, first, None, next]);
}
