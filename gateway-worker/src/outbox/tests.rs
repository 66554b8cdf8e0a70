use proptest::prelude::*;
use proto::ChannelId;
use proto::event::{Fact, RoomGone, Roster};

use super::*;

const LIMITS: Limits = Limits {
    events_max: 10,
    bytes_max: 2_000,
    batch_events_max: 3,
    batch_bytes_max: 500,
};

fn guild(id: u64) -> GuildId {
    GuildId::new(id).unwrap()
}

fn event(of: u64, id: u32) -> Event {
    let gone = RoomGone {
        guild_id: guild(of),
        channel_id: ChannelId::new(1).unwrap(),
    };
    Event {
        id: id.to_string(),
        fact: Fact::RoomDeleted(gone),
        ts: 0,
    }
}

fn snapshot(of: u64, id: u32) -> Event {
    let roster = Roster {
        guild_id: guild(of),
        rooms: Vec::new(),
        voices: Vec::new(),
        reason: "test".to_owned(),
    };
    Event {
        id: id.to_string(),
        fact: Fact::Snapshot(roster),
        ts: 0,
    }
}

fn ids(events: &[Event]) -> Vec<&str> {
    events.iter().map(|event| event.id.as_str()).collect()
}

#[test]
fn a_batch_is_the_same_until_it_is_answered() {
    let mut outbox = Outbox::new(LIMITS);
    for id in 0..5 {
        outbox.push(event(1, id));
    }
    assert_eq!(ids(&outbox.batch()), ["0", "1", "2"]);
    outbox.push(event(1, 5));
    outbox.owe(guild(1), "test");
    assert_eq!(ids(&outbox.batch()), ["0", "1", "2"]);
    outbox.delivered();
    assert!(outbox.is_empty() && outbox.bytes() == 0);
}

#[test]
fn a_full_outbox_forgets_only_the_guild_that_filled_it() {
    let mut outbox = Outbox::new(LIMITS);
    outbox.push(event(2, 100));
    let fates: Vec<_> = (0..11).map(|id| outbox.push(event(1, id))).collect();
    assert_eq!(fates[9..], [Pushed::Full, Pushed::Covered]);
    assert_eq!(ids(&outbox.batch()), ["100"]);
    assert_eq!(
        outbox.debts().collect::<Vec<_>>(),
        [(guild(1), "outbox_full")]
    );
    assert!(outbox.pay(guild(1), vec![snapshot(1, 50)]));
    assert_eq!(outbox.push(event(1, 51)), Pushed::Queued);
    outbox.delivered();
    assert_eq!(ids(&outbox.batch()), ["50", "51"]);
}

#[test]
fn a_batch_is_bounded_in_bytes_and_never_empty() {
    let limits = Limits {
        batch_bytes_max: 1,
        ..LIMITS
    };
    let mut outbox = Outbox::new(limits);
    outbox.push(event(1, 0));
    outbox.push(event(1, 1));
    assert_eq!(ids(&outbox.batch()), ["0"]);
}

#[test]
fn what_is_given_up_is_owed() {
    let mut outbox = Outbox::new(LIMITS);
    for id in 0..4 {
        outbox.push(event(1, id));
    }
    outbox.push(event(2, 4));
    outbox.batch();
    outbox.give_up("test");
    assert_eq!(ids(&outbox.batch()), ["4"]);
    assert_eq!(outbox.debts().count(), 1);
}

#[derive(Debug, Clone)]
enum Step {
    Push(u64),
    Owe(u64),
    Pay(u64),
    Batch,
    Delivered,
    GiveUp,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let guild = 1..4_u64;
    let step = prop_oneof![
        8 => guild.clone().prop_map(Step::Push),
        1 => guild.clone().prop_map(Step::Owe),
        2 => guild.prop_map(Step::Pay),
        2 => Just(Step::Batch),
        2 => Just(Step::Delivered),
        1 => Just(Step::GiveUp),
    ];
    proptest::collection::vec(step, 0..200)
}

proptest! {
    #[test]
    fn it_is_bounded_in_order_and_every_hole_is_followed_by_a_snapshot(steps in steps()) {
        let mut outbox = Outbox::new(LIMITS);
        let mut next = 0;
        let mut out: Vec<Event> = Vec::new();
        for step in steps {
            next += 1;
            match step {
                Step::Push(of) => { outbox.push(event(of, next)); }
                Step::Owe(of) => outbox.owe(guild(of), "test"),
                Step::Pay(of) => {
                    if outbox.debts().any(|(owing, _)| owing == guild(of)) {
                        outbox.pay(guild(of), vec![snapshot(of, next)]);
                    }
                }
                Step::Batch => prop_assert!(outbox.batch().len() <= LIMITS.batch_events_max),
                Step::Delivered => {
                    out.extend(outbox.batch());
                    outbox.delivered();
                }
                Step::GiveUp => outbox.give_up("test"),
            }
            prop_assert!(outbox.len() <= LIMITS.events_max && outbox.bytes() <= LIMITS.bytes_max);
        }
        while !outbox.is_empty() {
            out.extend(outbox.batch());
            outbox.delivered();
        }
        // In order; and of each guild either everything, or a snapshot after the hole.
        prop_assert!(out.windows(2).all(|pair| number(&pair[0]) < number(&pair[1])));
        prop_assert_eq!(outbox.bytes(), 0);
    }

    #[test]
    fn what_a_guild_pushes_comes_out_or_a_later_snapshot_does(steps in steps()) {
        let mut outbox = Outbox::new(LIMITS);
        let mut next = 0;
        // Of each guild: what its roster would be (the last number), and what the hub knows.
        let mut truth: BTreeMap<GuildId, u32> = BTreeMap::new();
        let mut hub: BTreeMap<GuildId, u32> = BTreeMap::new();
        let take = |events: Vec<Event>, hub: &mut BTreeMap<GuildId, u32>| {
            for event in events {
                hub.insert(event.fact.guild_id(), number(&event));
            }
        };
        for step in steps {
            next += 1;
            match step {
                Step::Push(of) => {
                    truth.insert(guild(of), next);
                    outbox.push(event(of, next));
                }
                Step::Owe(of) => outbox.owe(guild(of), "test"),
                Step::Pay(_) | Step::Batch => {}
                Step::Delivered => {
                    take(outbox.batch(), &mut hub);
                    outbox.delivered();
                }
                Step::GiveUp => outbox.give_up("test"),
            }
        }
        loop {
            take(outbox.batch(), &mut hub);
            outbox.delivered();
            let Some((owing, _)) = outbox.debts().next() else { break };
            next += 1;
            truth.insert(owing, next);
            prop_assert!(outbox.pay(owing, vec![snapshot(owing.get(), next)]));
        }
        while !outbox.is_empty() {
            take(outbox.batch(), &mut hub);
            outbox.delivered();
        }
        for (guild, last) in truth {
            prop_assert_eq!(hub.get(&guild), Some(&last));
        }
    }
}

fn number(event: &Event) -> u32 {
    event.id.parse().unwrap()
}
