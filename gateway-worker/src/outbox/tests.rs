use proptest::prelude::*;
use proto::ChannelId;
use proto::event::{Event, Everyone, Fact, RoomGone, Roster};

use super::*;

const LIMITS: Limits = Limits {
    events_max: 10,
    bytes_max: 3_000,
    batch_events_max: 3,
    batch_bytes_max: 900,
    group_events_max: 5,
    delivery_bytes_max: 1_000_000,
};

fn guild(id: u64) -> GuildId {
    GuildId::new(id).unwrap()
}

fn at(sequence: u64) -> Reached {
    Reached::from((1, sequence))
}

fn event(fact: Fact, sequence: u64, n: u32) -> Event {
    Event {
        id: format!("{sequence}.{n}"),
        fact,
        ts: 0,
        at: Some(Mark {
            reached: at(sequence),
            n,
        }),
    }
}

fn gone(of: u64) -> Fact {
    Fact::RoomDeleted(RoomGone {
        guild_id: guild(of),
        channel_id: ChannelId::new(1).unwrap(),
    })
}

/// So many events of one dispatch.
fn group_of(of: u64, sequence: u64, count: u32) -> Group {
    let events = (0..count).map(|n| event(gone(of), sequence, n)).collect();
    Group::new(events, at(sequence), Origin::Dispatch).unwrap()
}

fn group(of: u64, sequence: u64) -> Group {
    group_of(of, sequence, 1)
}

fn snapshot(of: u64, sequence: u64) -> Group {
    let roster = Roster {
        guild_id: guild(of),
        rooms: Vec::new(),
        voices: Vec::new(),
        reason: "test".to_owned(),
        everyone: Everyone::View,
        tombstones: Vec::new(),
    };
    let events = vec![event(Fact::Snapshot(roster), sequence, 9)];
    Group::new(events, at(sequence), Origin::Snapshot).unwrap()
}

fn mark(sequence: u64) -> Mark {
    Mark {
        reached: at(sequence),
        n: 0,
    }
}

fn batch(outbox: &mut Outbox) -> Vec<u64> {
    outbox.batch().map(|group| group.read().sequence).collect()
}

fn pushed(groups: impl IntoIterator<Item = Group>) -> Outbox {
    let mut outbox = Outbox::new(LIMITS);
    for group in groups {
        assert_eq!(outbox.push(group), Pushed::Queued);
    }
    outbox
}

#[test]
fn a_batch_is_the_same_until_it_is_answered() {
    let mut outbox = pushed((1..=5).map(|sequence| group(1, sequence)));
    assert_eq!(batch(&mut outbox), [1, 2, 3]);
    outbox.push(group(1, 6));
    outbox.owe(guild(1), "test", mark(6));
    assert_eq!(batch(&mut outbox), [1, 2, 3]);
    outbox.delivered();
    assert!(outbox.is_empty() && outbox.bytes() == 0);
}

#[test]
fn a_group_is_never_split_and_a_large_one_goes_alone() {
    let mut outbox = pushed([
        group(1, 1),
        group_of(2, 2, 5),
        group_of(1, 3, 2),
        group(1, 4),
    ]);
    let mut batches = Vec::new();
    while !outbox.is_empty() {
        batches.push(batch(&mut outbox));
        outbox.delivered();
    }
    assert_eq!(batches, [vec![1], vec![2], vec![3, 4]]);
    // One that the hub would not take becomes a snapshot.
    assert_eq!(outbox.push(group_of(1, 5, 6)), Pushed::Full);
    assert_eq!(outbox.debt(guild(1)).unwrap().reason, "outbox_full");
}

#[test]
fn a_full_outbox_drops_only_the_guild_that_filled_it() {
    let mut outbox = pushed([group(2, 1)]);
    let fates: Vec<_> = (2..13)
        .map(|sequence| outbox.push(group(1, sequence)))
        .collect();
    assert_eq!(fates[9..], [Pushed::Full, Pushed::Covered]);
    assert_eq!(batch(&mut outbox), [1]);
    assert_eq!(outbox.payable(0), [(guild(1), "outbox_full")]);
    assert_eq!(outbox.pay(snapshot(1, 12), 0), None);
    assert!(outbox.payable(0).is_empty() && outbox.lacking().contains(&guild(1)));
    assert_eq!(outbox.push(group(1, 13)), Pushed::Queued);
    outbox.delivered();
    assert_eq!(batch(&mut outbox), [12, 13]);
    outbox.delivered();
    assert!(outbox.debts().next().is_none());
}

#[test]
fn a_renewed_debt_needs_another_snapshot() {
    let mut outbox = pushed([]);
    outbox.owe(guild(1), "first", mark(1));
    outbox.pay(snapshot(1, 1), 0);
    // While it is being delivered something is lost again.
    assert_eq!(batch(&mut outbox), [1]);
    outbox.owe(guild(1), "second", mark(2));
    outbox.delivered();
    let debt = outbox.debt(guild(1)).unwrap();
    assert_eq!((debt.reason, debt.since), ("first", mark(2)));
    // One that was made before does not pay it; and one that waits is replaced.
    assert_eq!(outbox.pay(snapshot(1, 1), 0), None);
    assert!(outbox.is_empty());
    outbox.pay(snapshot(1, 2), 0);
    outbox.owe(guild(1), "third", mark(3));
    assert!(outbox.is_empty());
    outbox.pay(snapshot(1, 3), 0);
    assert_eq!(batch(&mut outbox), [3]);
    outbox.delivered();
    assert!(outbox.debts().next().is_none());
}

#[test]
fn the_checkpoint_passes_nothing_that_is_missing() {
    let acked = Reached::default();
    let mut outbox = pushed([
        group(1, 1),
        group(2, 2),
        group(1, 3),
        group(2, 3),
        group(1, 5),
    ]);
    assert_eq!(batch(&mut outbox), [1, 2, 3]);
    // The other guild's events of dispatch 3 wait behind it.
    assert_eq!(outbox.checkpoint(acked, at(7)), at(2));
    outbox.delivered();
    assert_eq!(batch(&mut outbox), [3, 5]);
    assert_eq!(outbox.checkpoint(at(2), at(7)), at(7));
    // A debt holds it, and so does its payment until it flies.
    outbox.owe(guild(2), "test", mark(7));
    assert_eq!(outbox.checkpoint(at(2), at(7)), at(2));
    outbox.pay(snapshot(2, 7), 0);
    assert_eq!(outbox.checkpoint(at(2), at(8)), at(2));
    outbox.delivered();
    assert_eq!(batch(&mut outbox), [7]);
    assert_eq!(outbox.checkpoint(at(2), at(8)), at(8));
    outbox.delivered();
    // And so does an answer that waits behind others.
    let events = vec![event(gone(1), 12, 0)];
    let answer = Group::new(events, at(12), Origin::Answer).unwrap();
    let mut outbox = pushed([group(1, 9), group(1, 10), group(1, 11), answer]);
    batch(&mut outbox);
    assert_eq!(outbox.checkpoint(at(8), at(12)), at(8));
    outbox.delivered();
    batch(&mut outbox);
    assert_eq!(outbox.checkpoint(at(8), at(12)), at(12));
}

#[test]
fn the_refused_group_is_found_by_halves_and_dropped_alone() {
    for refused in 1..=9 {
        let mut outbox = Outbox::new(Limits {
            batch_events_max: 100,
            batch_bytes_max: 100_000,
            ..LIMITS
        });
        for sequence in 1..=9 {
            outbox.push(group(sequence, sequence));
        }
        let (mut delivered, mut attempts, mut aside) = (Vec::new(), 0, Vec::new());
        while !outbox.is_empty() {
            attempts += 1;
            let sent = batch(&mut outbox);
            if !sent.contains(&refused) {
                delivered.extend(sent);
                outbox.delivered();
            } else if let Rejected::SetAside(group) = outbox.reject(FailureReason::Refused, 0) {
                aside.push(group.read().sequence);
            }
        }
        assert_eq!((delivered.len(), &aside[..]), (8, &[refused][..]));
        assert!(delivered.is_sorted() && attempts < 12, "{attempts}");
        let debts: Vec<_> = outbox.debts().map(|(owing, _)| owing).collect();
        assert_eq!(debts, [guild(refused)]);
    }
}

#[test]
fn a_refused_snapshot_is_retried_with_growing_waits() {
    let mut outbox = Outbox::new(LIMITS);
    outbox.owe(guild(1), "test", mark(1));
    let mut now = 0;
    for wait in [1_000, 2_000, 4_000] {
        assert_eq!(outbox.payable(now).len(), 1);
        outbox.pay(snapshot(1, 2 + now), now);
        batch(&mut outbox);
        assert!(matches!(
            outbox.reject(FailureReason::Refused, now),
            Rejected::SetAside(_)
        ));
        assert_eq!(
            outbox.debt(guild(1)).unwrap().failure,
            Some(FailureReason::Refused)
        );
        assert!(outbox.payable(now + wait - 1).is_empty());
        now += wait;
    }
    // One that is too large is not even tried.
    let mut outbox = Outbox::new(Limits {
        delivery_bytes_max: ENVELOPE_BYTES,
        ..LIMITS
    });
    outbox.owe(guild(1), "test", mark(1));
    assert_eq!(outbox.pay(snapshot(1, 2), 0), Some(FailureReason::TooLarge));
    assert!(outbox.is_empty() && outbox.payable(999).is_empty());
}

#[derive(Debug, Clone)]
enum Step {
    Push(u64),
    Owe(u64),
    Pay,
    Batch,
    Delivered,
    GiveUp,
    Reject,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let guild = 1..4_u64;
    let step = prop_oneof![
        8 => guild.clone().prop_map(Step::Push),
        1 => guild.prop_map(Step::Owe),
        2 => Just(Step::Pay),
        2 => Just(Step::Batch),
        2 => Just(Step::Delivered),
        1 => Just(Step::GiveUp),
        1 => Just(Step::Reject),
    ];
    proptest::collection::vec(step, 0..200)
}

/// When each guild had events or snapshots, and the last of them that the hub has.
#[derive(Default)]
struct World {
    now: u64,
    acked: Reached,
    expected: BTreeMap<GuildId, BTreeSet<u64>>,
    hub: BTreeMap<GuildId, u64>,
}

impl World {
    fn pay(&mut self, outbox: &mut Outbox) {
        for (owing, _) in outbox.payable(u64::MAX) {
            if outbox.has_room() {
                self.now += 1;
                // It contains everything until now.
                self.expected.entry(owing).or_default().insert(self.now);
                outbox.pay(snapshot(owing.get(), self.now), 0);
            }
        }
    }

    /// Delivers what is in flight; the checkpoint covers nothing that the hub lacks.
    fn deliver(&mut self, outbox: &mut Outbox) {
        let flying: Vec<_> = outbox
            .batch()
            .map(|group| (group.guild(), group.read().sequence))
            .collect();
        let to = outbox.checkpoint(self.acked, at(self.now));
        for (guild, sequence) in flying {
            let before = self.hub.insert(guild, sequence);
            assert!(before < Some(sequence));
        }
        outbox.delivered();
        assert!(to >= self.acked);
        self.acked = to;
        for (guild, all) in &self.expected {
            let known = self.hub.get(guild).copied();
            assert!(known >= all.range(..=to.sequence).next_back().copied());
        }
    }
}

proptest! {
    #[test]
    fn it_is_bounded_in_order_and_the_hub_ends_with_everything(steps in steps()) {
        let mut outbox = Outbox::new(LIMITS);
        let mut world = World::default();
        for step in steps {
            world.now += 1;
            match step {
                Step::Push(of) => {
                    let now = world.now;
                    world.expected.entry(guild(of)).or_default().insert(now);
                    outbox.push(group(of, world.now));
                }
                Step::Owe(of) => outbox.owe(guild(of), "test", mark(world.now)),
                Step::Pay => world.pay(&mut outbox),
                Step::Batch => {
                    let events: usize = outbox.batch().map(|group| group.events().len()).sum();
                    prop_assert!(events <= LIMITS.batch_events_max);
                }
                Step::Delivered => world.deliver(&mut outbox),
                Step::GiveUp => {
                    for owing in outbox.give_up() {
                        outbox.owe(owing, "test", mark(world.now));
                    }
                }
                Step::Reject => { outbox.reject(FailureReason::Refused, 0); }
            }
            prop_assert!(outbox.len() <= LIMITS.events_max && outbox.bytes() <= LIMITS.bytes_max);
        }
        for _ in 0..100 {
            world.pay(&mut outbox);
            world.deliver(&mut outbox);
        }
        prop_assert!(outbox.is_empty() && outbox.debts().next().is_none());
        prop_assert_eq!(outbox.bytes(), 0);
        prop_assert_eq!(world.acked, at(world.now));
        for (guild, all) in world.expected {
            prop_assert_eq!(world.hub.get(&guild), all.last());
        }
    }
}
