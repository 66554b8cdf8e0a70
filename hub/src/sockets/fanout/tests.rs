mod world;

use std::collections::BTreeSet;

use proptest::collection::vec;
use proptest::prelude::*;
use proto::event::Fact;
use proto::gateway::GatewayState;
use proto::position::PositionKey;

use self::world::{Reader, Received, World, everyone, last_pos, roster, run, subscribe, visits};
use super::super::limits::HistoryBounds;
use super::super::view_group::ViewGroup;
use super::*;
use crate::view::tests::{Browser, ROOMS, changes, guild, public, view};

#[derive(Debug, Clone)]
enum Step {
    Happens(Result<Fact, Change>),
    /// The fan-out publishes all entries of the log.
    Publishes,
    /// The browser loses its connection. It has received this part of its frames, in thousandths.
    Cut(usize),
    /// The hub restarts, and all browsers return, the one with this part of its frames.
    Restart(usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => changes().prop_map(Step::Happens),
        4 => Just(Step::Publishes),
        2 => (0..=1_000_usize).prop_map(Step::Cut),
        1 => (0..=1_000_usize).prop_map(Step::Restart),
    ]
}

fn step_or_snapshot() -> impl Strategy<Value = Step> {
    let snapshots =
        (0..ROOMS.len()).prop_map(|rooms| Ok(roster("worker_started", &ROOMS[..rooms])));
    prop_oneof![15 => step(), 1 => snapshots.prop_map(Step::Happens)]
}

fn part_of(mut received: Vec<Received>, thousandths: usize) -> Vec<Received> {
    received.truncate((received.len() * thousandths).div_ceil(1_000));
    received
}

/// Plays a script with a browser that loses its connection and returns, and one that stays.
async fn play(view: &View, script: Vec<Step>) -> (World, Reader, Reader) {
    let mut world = World::new(FanoutLimits::default()).await;
    let (mut stayed, mut cut) = (Reader::default(), Reader::default());
    let mut staying = world.open(view, None).await;
    let mut browser = world.open(view, None).await;
    cut.read(browser.receive());
    browser = world.open(view, cut.pos.as_deref()).await;
    for step in script {
        match step {
            Step::Happens(step) => world.happen(step).await,
            Step::Publishes => world.publish_all(),
            Step::Cut(thousandths) => {
                cut.read(part_of(browser.receive(), thousandths));
                world.fanout.unsubscribe(browser.id, guild());
                browser = world.open(view, cut.pos.as_deref()).await;
            }
            Step::Restart(thousandths) => {
                cut.read(part_of(browser.receive(), thousandths));
                stayed.read(staying.receive());
                world.restart();
                staying = world.open(view, stayed.pos.as_deref()).await;
                browser = world.open(view, cut.pos.as_deref()).await;
            }
        }
    }
    world.publish_all();
    cut.read(browser.receive());
    stayed.read(staying.receive());
    (world, stayed, cut)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    /// A browser that loses its connection at any frame and continues receives, all in all, the
    /// frames of one that stayed: the same bytes, but for positions and numbers.
    #[test]
    fn a_browser_that_returns_receives_what_one_that_stayed_received(view in view(), script in vec(step(), 0..150)) {
        run(async {
            let (_, stayed, cut) = play(&view, script).await;
            // The snapshots of the beginning differ in the moment that they were made.
            assert_eq!(cut.texts()[1..], stayed.texts()[1..]);
            assert_eq!((cut.snapshots(), stayed.snapshots()), (1, 1), "no second snapshot");
            assert_eq!(cut.rooms, stayed.rooms);
        });
    }

    /// The same with snapshots in between: a snapshot stands for the missed events, and the rooms
    /// are the same in the end.
    #[test]
    fn over_snapshots_the_rooms_are_the_same_in_the_end(view in view(), script in vec(step_or_snapshot(), 0..150)) {
        run(async {
            let (world, stayed, cut) = play(&view, script).await;
            let truth = world.log.read(guild(), |state, _| Browser::of(view.rooms(state)));
            assert_eq!(Some(&cut.rooms), truth.as_ref());
            assert_eq!(Some(&stayed.rooms), truth.as_ref());
        });
    }
}

#[test]
fn a_client_that_cannot_continue_gets_a_snapshot_with_the_reason() {
    run(async {
        let limits = FanoutLimits {
            recovery: HistoryBounds {
                frames_max: 10,
                bytes_max: 100_000,
            },
            ..FanoutLimits::default()
        };
        let mut world = World::new(limits).await;
        world.publish([roster("worker_started", &ROOMS[..2])]).await;
        let (view, other) = (everyone(None), everyone(Some(&ROOMS[..1])));
        let first = world.open(&view, None).await.receive();
        let (begun, here) = (first[0].pos().unwrap(), first[1].pos().unwrap());
        assert_eq!(first[1].reason(), "subscribed");
        let foreign = Positions::new(PositionKey::derive(b"another hub"));
        let fingerprint = view.fingerprint();
        let foreign = foreign.seal(world.following.position, 0, fingerprint);
        let seal = |world: &World, position| {
            let positions = &world.fanout.0.positions;
            positions.seal(position, 0, fingerprint)
        };
        let mut earlier = world.following.position;
        earlier.epoch -= 1;
        let known = [
            (&view, "", "bad_position"),
            (&view, "\u{e9}", "bad_position"),
            (&view, &foreign, "bad_position"),
            // A browser cannot continue from a position before its snapshot was complete.
            (&view, begun, "subscribed"),
            (&other, here, "view_changed"),
            // The reason of the new epoch is known.
            (&view, &seal(&world, earlier), "worker_started"),
        ];
        for (view, recover, reason) in known {
            let received = world.open(view, Some(recover)).await.receive();
            assert_eq!(received[0].json["recovered"], false, "{recover}");
            let snapshot = (received[1].reason(), received[1].n(), received.len());
            assert_eq!(snapshot, (reason, Some(0), 2), "{recover}");
        }
        world.restart();
        let stale = seal(&world, earlier);
        let received = world.open(&view, Some(&stale)).await.receive();
        assert_eq!(received[1].reason(), "store_changed");

        world.publish(visits(10)).await;
        let received = world.open(&view, Some(here)).await.receive();
        assert_eq!(received[0].json["recovered"], true);
        assert_eq!(received.len(), 12);
        world.publish(visits(1)).await;
        for is_history_kept in [true, true, false] {
            if !is_history_kept {
                world.restart();
            }
            let received = world.open(&view, Some(here)).await.receive();
            assert_eq!((received[1].reason(), received.len()), ("too_old", 2));
        }
    });
}

#[test]
fn a_client_that_is_ahead_of_a_restored_store_gets_one_snapshot() {
    run(async {
        // What ends the waiting, and the reason of the snapshot.
        for (ended_by, reason) in [
            ("snapshot", "worker_started"),
            ("live", "store_changed"),
            ("silence", "store_changed"),
            ("leaving", ""),
        ] {
            let mut world = World::new(FanoutLimits::default()).await;
            world.publish([roster("worker_started", &ROOMS[..2])]).await;
            let view = everyone(None);
            let kept = last_pos(&world.open(&view, None).await.receive());
            let mut position = world.following.position;
            position.epoch += 1_000;
            let lost = world
                .fanout
                .0
                .positions
                .seal(position, 0, view.fingerprint());
            world.restart_unconfirmed();

            let back = world.open(&view, Some(&lost)).await;
            let received = back.receive();
            assert_eq!(received.len(), 1, "{received:?}");
            assert_eq!(received[0].json["recovered"], false);
            // Other clients do not wait.
            let continued = world.open(&view, Some(&kept)).await.receive();
            assert_eq!(continued[0].json["recovered"], true);
            for recover in [None, Some("garbage")] {
                let received = world.open(&view, recover).await.receive();
                assert_eq!(received[1].name(), "guild.snapshot");
            }
            // The worker delivers events. The pending snapshot will contain them.
            world.report(GatewayState::Rebuilding);
            world.publish(visits(1)).await;
            assert!(back.receive().is_empty());
            match ended_by {
                "snapshot" => world.publish([roster(reason, &ROOMS[..1])]).await,
                "live" => world.report(GatewayState::Live),
                "silence" => world.slot().lock().set_authoritative(),
                _ => world.fanout.unsubscribe(back.id, guild()),
            }
            world.report(GatewayState::Live);
            world.publish(visits(1)).await;
            let mut received = back.receive();
            if ended_by == "leaving" {
                assert!(received.is_empty());
                continue;
            }
            assert_eq!(
                (received[0].name(), received[0].reason(), received[0].n()),
                ("guild.snapshot", reason, Some(0)),
                "{ended_by}"
            );
            received.retain(|frame| frame.n().is_some());
            assert!(
                !received[1..]
                    .iter()
                    .any(|frame| frame.name() == "guild.snapshot")
            );
            assert_eq!(
                received.last().unwrap().n(),
                Some(received.len() as u64 - 1)
            );
            // From then on no client waits.
            let late = world.open(&view, Some(&lost)).await.receive();
            assert_eq!(late[1].name(), "guild.snapshot");
        }
    });
}

#[test]
fn a_client_that_returns_just_before_a_new_epoch_is_published_gets_one_snapshot() {
    run(async {
        let mut world = World::new(FanoutLimits::default()).await;
        world.publish([roster("worker_started", &ROOMS[..2])]).await;
        let view = everyone(None);
        let kept = last_pos(&world.open(&view, None).await.receive());
        world.restart_unconfirmed();
        // The log has it already, and the fan-out is about to publish it.
        let snapshot = roster("store_changed", &ROOMS[..1]);
        world.happen(Ok(snapshot)).await;
        let back = world.open(&view, Some(&kept)).await;
        let received = back.receive();
        assert_eq!(received.len(), 1, "{received:?}");
        assert_eq!(received[0].json["recovered"], false);
        world.publish_all();
        let mut received = back.receive();
        received.retain(|frame| frame.name() == "guild.snapshot");
        assert_eq!(received.len(), 1, "{received:?}");
        assert_eq!(received[0].reason(), "store_changed");
    });
}

#[test]
fn missed_events_are_encoded_once_for_all_clients_of_a_view() {
    run(async {
        let mut world = World::new(FanoutLimits::default()).await;
        let view = everyone(None);
        world.publish([Fact::RoomCreated(public(ROOMS[0]))]).await;
        let pos = last_pos(&world.open(&view, None).await.receive());
        world.publish(visits(300)).await;
        world.restart();
        let mut positions: Vec<Vec<String>> = Vec::new();
        for _ in 0..20 {
            let received = world.open(&view, Some(&pos)).await.receive();
            assert_eq!(received.len(), 302);
            // Each encoding seals a position of its own.
            positions.push(
                received[2..]
                    .iter()
                    .map(|frame| frame.pos().unwrap().to_owned())
                    .collect(),
            );
        }
        assert!(positions.iter().all(|one| *one == positions[0]));
        // Snapshots are shared, too. Only the position of `subscribed` is of its own.
        let mut snapshots = BTreeSet::new();
        for _ in 0..20 {
            snapshots.insert(last_pos(&world.open(&view, None).await.receive()));
        }
        assert!(snapshots.len() < 10, "{} of 20", snapshots.len());
    });
}

#[test]
fn events_during_a_replay_follow_the_missed_ones() {
    run(async {
        let mut world = World::new(FanoutLimits::default()).await;
        let view = everyone(None);
        world.publish([Fact::RoomCreated(public(ROOMS[0]))]).await;
        let mut stayed = Reader::default();
        let staying = world.open(&view, None).await;
        stayed.read(staying.receive());
        let first = stayed.pos.clone();
        world.publish(visits(150)).await;
        let between = last_pos(&staying.receive());
        world.publish(visits(150)).await;
        // No history is kept any more. Two clients return, and more events happen meanwhile.
        world.restart();
        let fanout = world.fanout.clone();
        let returning = |id, recover: String| {
            let (fanout, view) = (&fanout, &view);
            async move { subscribe(fanout, id, view, Some(&recover)).await }
        };
        let live = async {
            for visit in visits(12) {
                world.publish([visit]).await;
                tokio::task::yield_now().await;
            }
        };
        let (late, early, ()) =
            tokio::join!(returning(70, between), returning(71, first.unwrap()), live);
        for (client, missed) in [(late, 162), (early, 312)] {
            let received = client.receive();
            assert_eq!(received[0].json["recovered"], true);
            let numbers: Vec<_> = received.iter().filter_map(Received::n).collect();
            assert!(numbers.iter().copied().eq(1..=numbers.len() as u64));
            let joined = received
                .iter()
                .filter(|frame| frame.name() == "voice.joined")
                .count();
            let left = received
                .iter()
                .filter(|frame| frame.name() == "voice.left")
                .count();
            assert_eq!((joined, left), (missed / 2, missed / 2));
        }
    });
}

#[test]
fn a_bounded_number_of_histories_is_kept_and_an_unused_one_is_dropped() {
    run(async {
        let limits = FanoutLimits {
            histories_per_guild_max: 3,
            views_per_guild_max: 6,
            history_idle_ms: 50,
            ..FanoutLimits::default()
        };
        let mut world = World::new(limits).await;
        world
            .publish(ROOMS.map(|id| Fact::RoomCreated(public(id))))
            .await;
        let views: Vec<_> = (0..4)
            .map(|index| everyone(Some(&ROOMS[index..=index])))
            .chain([everyone(None)])
            .collect();
        let mut positions = Vec::new();
        for view in &views {
            let client = world.open(view, None).await;
            positions.push(last_pos(&client.receive()));
            world.fanout.unsubscribe(client.id, guild());
        }
        world.publish(visits(70)).await;
        for _ in 0..3 {
            for (index, (view, pos)) in views.iter().zip(&positions).enumerate() {
                let client = world.open(view, Some(pos)).await;
                let received = client.receive();
                assert_eq!(received[0].json["recovered"], true);
                assert_eq!(
                    received.len(),
                    if index == 0 || index == 4 { 72 } else { 2 }
                );
                world.fanout.unsubscribe(client.id, guild());
                let mut fanout = world.slot().lock();
                let subscriptions = &mut fanout.subscriptions;
                let is_kept = |(_, group): &(_, &mut ViewGroup)| group.history.is_some();
                let (kept, all) = (
                    subscriptions.groups().filter(is_kept).count(),
                    subscriptions.groups().count(),
                );
                assert!(kept <= 3 && all <= 6, "{kept} of {all}");
            }
        }
        let mut fanout = world.slot().lock();
        let subscriptions = &mut fanout.subscriptions;
        subscriptions.sweep(1_000_000);
        assert_eq!(subscriptions.groups().count(), 0);
        assert!((0..=world.connections).all(|id| !subscriptions.contains(id)));
    });
}

#[test]
fn no_subscription_starts_in_the_middle_of_a_delivery() {
    run(async {
        let mut world = World::new(FanoutLimits::default()).await;
        let view = everyone(None);
        // More than a task publishes without a pause.
        let rooms = 1_000;
        world
            .deliver((1..=rooms).map(|id| Fact::RoomCreated(public(id))))
            .await;
        let end = CancellationToken::new();
        let World {
            fanout, following, ..
        } = world;
        let running = fanout.clone().run(guild(), following, end.clone());
        let subscribing = async {
            let mut seen = BTreeSet::new();
            for id in 1.. {
                let received = subscribe(&fanout, id, &view, None).await.receive();
                fanout.unsubscribe(id, guild());
                let parts = received.iter().filter(|one| one.name() == "guild.snapshot");
                let parts =
                    parts.map(|part| part.json["payload"]["rooms"].as_array().unwrap().len());
                let shown = parts.sum::<usize>();
                seen.insert(shown);
                if shown as u64 == rooms {
                    break;
                }
                tokio::task::yield_now().await;
            }
            end.cancel();
            seen
        };
        let ((), seen) = tokio::join!(running, subscribing);
        assert!(
            seen.iter().all(|shown| [0, 1_000].contains(shown)),
            "{seen:?}"
        );
    });
}

#[test]
fn a_replayed_history_is_kept_until_its_client_has_used_it() {
    run(async {
        let limits = FanoutLimits {
            histories_per_guild_max: 1,
            ..FanoutLimits::default()
        };
        let mut world = World::new(limits).await;
        let both = [public(ROOMS[0]), public(ROOMS[1])];
        world.publish(both.map(Fact::RoomCreated)).await;
        let views = [everyone(Some(&ROOMS[..1])), everyone(Some(&ROOMS[1..2]))];
        let mut positions = Vec::new();
        for view in &views {
            positions.push(last_pos(&world.open(view, None).await.receive()));
        }
        world.publish(visits(70)).await;
        world.restart();
        // The history of the first view is kept.
        world.open(&views[0], Some(&positions[0])).await;
        let fanout = world.fanout.clone();
        let slot = fanout.0.guilds.get(&guild()).unwrap();
        let returns = async |id: u64, which: usize| {
            let (view, pos) = (&views[which], positions[which].as_str());
            let client = subscribe(&fanout, id, view, Some(pos)).await;
            client.receive()[0].json["recovered"] == true
        };
        // During a delivery, one client needs the kept history, and another one needs a replay.
        let delivery = slot.delivery_lock.lock().await;
        let done = async {
            for _ in 0..1_000 {
                tokio::task::yield_now().await;
            }
            drop(delivery);
        };
        let (first, second, ()) = tokio::join!(returns(100, 0), returns(101, 1), done);
        assert!(first && second, "{first} {second}");
    });
}
