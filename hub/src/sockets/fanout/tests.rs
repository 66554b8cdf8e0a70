mod bench;

use std::collections::BTreeSet;

use proptest::collection::vec;
use proptest::prelude::*;
use proto::position::PositionKey;

use self::bench::{Bench, Client, Heard, Reader, everyone, last_pos, roster, run, visits};
use super::super::watched::Watched;
use super::*;
use crate::view::tests::{Browser, ROOMS, guild, public, told, view};

#[derive(Debug, Clone)]
enum Step {
    Happens(Result<Fact, Change>),
    /// The fan-out catches up with the log.
    Passes,
    /// The browser is cut off, having got this part of what was sent to it, in thousandths.
    Cut(usize),
    /// The hub starts again, and all browsers return, the one having got this part.
    Restart(usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => told().prop_map(Step::Happens),
        4 => Just(Step::Passes),
        2 => (0..=1_000_usize).prop_map(Step::Cut),
        1 => (0..=1_000_usize).prop_map(Step::Restart),
    ]
}

fn step_or_snapshot() -> impl Strategy<Value = Step> {
    let anew = (0..ROOMS.len()).prop_map(|rooms| Ok(roster("worker_started", &ROOMS[..rooms])));
    prop_oneof![15 => step(), 1 => anew.prop_map(Step::Happens)]
}

fn part_of(mut heard: Vec<Heard>, thousandths: usize) -> Vec<Heard> {
    heard.truncate((heard.len() * thousandths).div_ceil(1_000));
    heard
}

/// Plays a script with a browser that is cut off and returns, and one that stays.
async fn play(view: &View, script: Vec<Step>) -> (Bench, Reader, Reader) {
    let mut bench = Bench::new(FanoutLimits::default()).await;
    let (mut stayed, mut cut) = (Reader::default(), Reader::default());
    let mut staying = bench.open(view, None).await;
    let mut browser = bench.open(view, None).await;
    cut.read(browser.hear());
    browser = bench.open(view, cut.pos.as_deref()).await;
    for step in script {
        match step {
            Step::Happens(step) => bench.happen(step).await,
            Step::Passes => bench.pass_on(),
            Step::Cut(thousandths) => {
                cut.read(part_of(browser.hear(), thousandths));
                bench.fanout.unsubscribe(browser.id, guild());
                browser = bench.open(view, cut.pos.as_deref()).await;
            }
            Step::Restart(thousandths) => {
                cut.read(part_of(browser.hear(), thousandths));
                stayed.read(staying.hear());
                bench.restart();
                staying = bench.open(view, stayed.pos.as_deref()).await;
                browser = bench.open(view, cut.pos.as_deref()).await;
            }
        }
    }
    bench.pass_on();
    cut.read(browser.hear());
    stayed.read(staying.hear());
    (bench, stayed, cut)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    /// Whoever is cut off at any frame and continues hears, all in all, what somebody hears who
    /// stayed: the same bytes, but for positions and numbers. So they also hear nothing more.
    #[test]
    fn a_browser_that_returns_hears_what_one_that_stayed_heard(view in view(), script in vec(step(), 0..150)) {
        run(async {
            let (_, stayed, cut) = play(&view, script).await;
            // The snapshots of the beginning differ in the moment that they were made.
            assert_eq!(cut.told()[1..], stayed.told()[1..]);
            assert_eq!((cut.snapshots(), stayed.snapshots()), (1, 1), "nobody needs a second snapshot");
            assert_eq!(cut.rooms, stayed.rooms);
        });
    }

    /// The same where the guild is told anew in between: then a snapshot tells what was missed, and
    /// the rooms are the same in the end.
    #[test]
    fn over_snapshots_the_rooms_are_the_same_in_the_end(view in view(), script in vec(step_or_snapshot(), 0..150)) {
        run(async {
            let (bench, stayed, cut) = play(&view, script).await;
            let truth = bench.log.read(guild(), |state, _| Browser::of(view.rooms(state)));
            assert_eq!(Some(&cut.rooms), truth.as_ref());
            assert_eq!(Some(&stayed.rooms), truth.as_ref());
        });
    }
}

#[test]
fn whoever_can_not_continue_is_told_why_and_gets_a_snapshot() {
    run(async {
        let limits = FanoutLimits {
            recovery: HistoryBounds {
                frames_max: 10,
                bytes_max: 100_000,
            },
            ..FanoutLimits::default()
        };
        let mut bench = Bench::new(limits).await;
        bench.tell([roster("worker_started", &ROOMS[..2])]).await;
        let (view, other) = (everyone(None), everyone(Some(&ROOMS[..1])));
        let first = bench.open(&view, None).await.hear();
        let (begun, here) = (first[0].pos().unwrap(), first[1].pos().unwrap());
        assert_eq!(first[1].reason(), "subscribed");
        let foreign = Positions::new(PositionKey::derive(b"another hub"));
        let foreign = foreign.seal(bench.following.place, 0, view.fingerprint());
        let forged = |change: fn(&mut Place), step| {
            let mut place = bench.fanout.lock(guild()).unwrap().place;
            change(&mut place);
            bench
                .fanout
                .0
                .positions
                .seal(place, step, view.fingerprint())
        };
        let known = [
            (&view, "", "bad_position"),
            (&view, "garbage", "bad_position"),
            (&view, &"A".repeat(72), "bad_position"),
            // As sealed by an earlier version.
            (&view, &"A".repeat(43), "bad_position"),
            (&view, &"\u{e9}".repeat(60), "bad_position"),
            (&view, &foreign, "bad_position"),
            // Before its snapshot came whole, a browser has seen nothing to continue from.
            (&view, begun, "subscribed"),
            (&other, here, "view_changed"),
            // Why the epoch is another is known.
            (
                &view,
                &forged(|place| place.epoch -= 1, 0),
                "worker_started",
            ),
            (
                &view,
                &forged(|place| place.epoch += 1, 0),
                "worker_started",
            ),
            (
                &view,
                &forged(|place| place.offset += 1, 0),
                "worker_started",
            ),
            (
                &view,
                &forged(|place| place.check ^= 1, 0),
                "worker_started",
            ),
            (&view, &forged(|_| (), 1), "too_old"),
        ];
        for (view, recover, reason) in known {
            let heard = bench.open(view, Some(recover)).await.hear();
            assert_eq!(heard[0].json["recovered"], false, "{recover}");
            assert_eq!(
                (heard[1].reason(), heard[1].n()),
                (reason, Some(0)),
                "{recover}"
            );
            assert_eq!(heard.len(), 2);
        }
        bench.restart();
        let stale = bench.fanout.0.positions.seal(
            Place {
                epoch: 3,
                offset: 0,
                check: 0,
            },
            0,
            view.fingerprint(),
        );
        let heard = bench.open(&view, Some(&stale)).await.hear();
        assert_eq!(heard[1].reason(), "store_changed");

        bench.tell(visits(10)).await;
        let heard = bench.open(&view, Some(here)).await.hear();
        assert_eq!(
            (heard[0].json["recovered"].as_bool(), heard.len()),
            (Some(true), 12)
        );
        bench.tell(visits(1)).await;
        for attempt in 0..2 {
            let heard = bench.open(&view, Some(here)).await.hear();
            assert_eq!(
                (heard[1].reason(), heard.len()),
                ("too_old", 2),
                "{attempt}"
            );
        }
        bench.restart();
        let heard = bench.open(&view, Some(here)).await.hear();
        assert_eq!(
            (heard[1].reason(), heard.len()),
            ("too_old", 2),
            "as well when nothing is encoded yet"
        );
    });
}

#[test]
fn whoever_has_seen_what_a_new_hubs_store_does_not_know_is_shown_the_guild_once() {
    run(async {
        // What ends the waiting, and for which reason the snapshot comes.
        for (ended_by, reason) in [
            ("snapshot", "worker_started"),
            ("live", "store_changed"),
            ("silence", "store_changed"),
            ("leaving", ""),
        ] {
            let mut bench = Bench::new(FanoutLimits::default()).await;
            bench.tell([roster("worker_started", &ROOMS[..2])]).await;
            let view = everyone(None);
            let kept = last_pos(&bench.open(&view, None).await.hear());
            let mut place = bench.following.place;
            place.epoch += 1_000;
            let lost = bench.fanout.0.positions.seal(place, 0, view.fingerprint());
            bench.restart_unheard();

            let back = bench.open(&view, Some(&lost)).await;
            let heard = back.hear();
            assert_eq!(heard.len(), 1, "{heard:?}");
            assert_eq!(heard[0].json["recovered"], false);
            // Nobody else waits.
            let continued = bench.open(&view, Some(&kept)).await.hear();
            assert_eq!(continued[0].json["recovered"], true);
            for recover in [None, Some("garbage")] {
                let heard = bench.open(&view, recover).await.hear();
                assert_eq!(heard[1].name(), "guild.snapshot");
            }
            // The worker speaks, and what it tells is in the snapshot that is still to come.
            bench.report(GatewayState::Rebuilding);
            bench.tell(visits(1)).await;
            assert!(back.hear().is_empty());
            match ended_by {
                "snapshot" => bench.tell([roster(reason, &ROOMS[..1])]).await,
                "live" => bench.report(GatewayState::Live),
                "silence" => {
                    let mut fanout = bench.fanout.lock(guild()).unwrap();
                    bench.fanout.settle(guild(), &mut fanout);
                }
                _ => bench.fanout.unsubscribe(back.id, guild()),
            }
            bench.report(GatewayState::Live);
            bench.tell(visits(1)).await;
            let mut heard = back.hear();
            if ended_by == "leaving" {
                assert!(heard.is_empty());
                continue;
            }
            assert_eq!(
                (heard[0].name(), heard[0].reason(), heard[0].n()),
                ("guild.snapshot", reason, Some(0)),
                "{ended_by}"
            );
            heard.retain(|frame| frame.n().is_some());
            assert!(
                !heard[1..]
                    .iter()
                    .any(|frame| frame.name() == "guild.snapshot")
            );
            assert_eq!(heard.last().unwrap().n(), Some(heard.len() as u64 - 1));
            // From then on nobody waits.
            let late = bench.open(&view, Some(&lost)).await.hear();
            assert_eq!(late[1].name(), "guild.snapshot");
        }
    });
}

#[test]
fn whoever_comes_between_a_new_history_and_its_telling_is_shown_the_guild_once() {
    run(async {
        let mut bench = Bench::new(FanoutLimits::default()).await;
        bench.tell([roster("worker_started", &ROOMS[..2])]).await;
        let view = everyone(None);
        let kept = last_pos(&bench.open(&view, None).await.hear());
        bench.restart_unheard();
        // The log has it already, and the fan-out is about to pass it on.
        let anew = roster("store_changed", &ROOMS[..1]);
        bench.happen(Ok(anew)).await;
        let back = bench.open(&view, Some(&kept)).await;
        let heard = back.hear();
        assert_eq!(heard.len(), 1, "{heard:?}");
        assert_eq!(heard[0].json["recovered"], false);
        bench.pass_on();
        let mut heard = back.hear();
        heard.retain(|frame| frame.name() == "guild.snapshot");
        assert_eq!(heard.len(), 1, "{heard:?}");
        assert_eq!(heard[0].reason(), "store_changed");
    });
}

#[test]
fn what_is_missed_is_encoded_once_for_all_who_return_to_a_view() {
    run(async {
        let mut bench = Bench::new(FanoutLimits::default()).await;
        let view = everyone(None);
        bench.tell([Fact::RoomCreated(public(ROOMS[0]))]).await;
        let pos = last_pos(&bench.open(&view, None).await.hear());
        bench.tell(visits(300)).await;
        bench.restart();
        let mut told: Vec<Vec<String>> = Vec::new();
        for _ in 0..20 {
            let heard = bench.open(&view, Some(&pos)).await.hear();
            assert_eq!(heard.len(), 302);
            // Each encoding seals a position of its own.
            told.push(
                heard[2..]
                    .iter()
                    .map(|frame| frame.pos().unwrap().to_owned())
                    .collect(),
            );
        }
        assert!(told.iter().all(|one| *one == told[0]));
        // Likewise whoever has to begin anew; each subscription has a position of its own as well.
        let mut snapshots = BTreeSet::new();
        for _ in 0..20 {
            snapshots.insert(last_pos(&bench.open(&view, None).await.hear()));
        }
        assert!(snapshots.len() < 10, "{} of 20", snapshots.len());
    });
}

#[test]
fn what_happens_while_the_past_is_replayed_follows_it() {
    run(async {
        let mut bench = Bench::new(FanoutLimits::default()).await;
        let view = everyone(None);
        bench.tell([Fact::RoomCreated(public(ROOMS[0]))]).await;
        let mut stayed = Reader::default();
        let staying = bench.open(&view, None).await;
        stayed.read(staying.hear());
        let first = stayed.pos.clone();
        bench.tell(visits(150)).await;
        let between = last_pos(&staying.hear());
        bench.tell(visits(150)).await;
        // Nothing is encoded any more; two return, and more happens meanwhile.
        bench.restart();
        let fanout = bench.fanout.clone();
        let returning = |id, recover: String| {
            let (fanout, view) = (&fanout, &view);
            async move {
                let outbox = Outbox::new(1_000_000);
                let opening = |recovered, _| {
                    Frame::whole(format!(
                        r#"{{"event":"subscribed","recovered":{recovered}}}"#
                    ))
                };
                fanout
                    .subscribe(id, view, Some(&recover), &outbox, opening)
                    .await
                    .unwrap();
                outbox
            }
        };
        let live = async {
            for visit in visits(12) {
                bench.tell([visit]).await;
                tokio::task::yield_now().await;
            }
        };
        let (late, early, ()) =
            tokio::join!(returning(70, between), returning(71, first.unwrap()), live);
        for (outbox, missed) in [(late, 162), (early, 312)] {
            let client = Client { id: 7, outbox };
            let heard = client.hear();
            assert_eq!(heard[0].json["recovered"], true);
            let numbers: Vec<_> = heard.iter().filter_map(Heard::n).collect();
            assert!(numbers.iter().copied().eq(1..=numbers.len() as u64));
            let joined = heard
                .iter()
                .filter(|frame| frame.name() == "voice.joined")
                .count();
            let left = heard
                .iter()
                .filter(|frame| frame.name() == "voice.left")
                .count();
            assert_eq!((joined, left), (missed / 2, missed / 2));
        }
    });
}

#[test]
fn the_past_of_few_views_is_kept_and_of_none_that_nobody_uses() {
    run(async {
        let limits = FanoutLimits {
            histories_per_guild_max: 3,
            views_per_guild_max: 6,
            history_idle_ms: 50,
            ..FanoutLimits::default()
        };
        let mut bench = Bench::new(limits).await;
        bench
            .tell(ROOMS.map(|id| Fact::RoomCreated(public(id))))
            .await;
        let views: Vec<_> = (0..4)
            .map(|index| everyone(Some(&ROOMS[index..=index])))
            .chain([everyone(None)])
            .collect();
        let mut positions = Vec::new();
        for view in &views {
            let client = bench.open(view, None).await;
            positions.push(last_pos(&client.hear()));
            bench.fanout.unsubscribe(client.id, guild());
        }
        bench.tell(visits(70)).await;
        for _ in 0..3 {
            for (index, (view, pos)) in views.iter().zip(&positions).enumerate() {
                let client = bench.open(view, Some(pos)).await;
                let heard = client.hear();
                assert_eq!(heard[0].json["recovered"], true);
                assert_eq!(heard.len(), if index == 0 || index == 4 { 72 } else { 2 });
                bench.fanout.unsubscribe(client.id, guild());
                let mut fanout = bench.fanout.lock(guild()).unwrap();
                let audience = &mut fanout.audience;
                let is_kept = |(_, watched): &(_, &mut Watched)| watched.history.is_some();
                let (kept, all) = (
                    audience.views().filter(is_kept).count(),
                    audience.views().count(),
                );
                assert!(kept <= 3 && all <= 6, "{kept} of {all}");
            }
        }
        let mut fanout = bench.fanout.lock(guild()).unwrap();
        let audience = &mut fanout.audience;
        audience.sweep(&bench.fanout.0.limits, 1_000_000);
        assert_eq!(audience.views().count(), 0);
        assert!((0..=bench.connections).all(|id| !audience.watches(id)));
    });
}

#[test]
fn a_large_guild_comes_in_parts_and_what_happens_meanwhile_behind_them() {
    run(async {
        let limits = FanoutLimits {
            snapshot_part_bytes: 1_000,
            ..FanoutLimits::default()
        };
        let mut bench = Bench::new(limits).await;
        let view = everyone(None);
        bench
            .tell((1..=60).map(|id| Fact::RoomCreated(public(id))))
            .await;
        bench.tell([Fact::RoomCreated(public(ROOMS[0]))]).await;
        let client = bench.open(&view, None).await;
        bench.tell(visits(3)).await;
        let heard = client.hear();
        let parts = heard.len() - 4;
        assert!(parts > 3, "{parts}");
        let numbers: Vec<_> = heard[1..].iter().map(|frame| frame.n().unwrap()).collect();
        assert!(numbers[..parts].iter().all(|n| *n == 0));
        assert_eq!(numbers[parts..], [1, 2, 3]);
        let rooms = heard[1..=parts]
            .iter()
            .map(|part| part.json["payload"]["rooms"].as_array().unwrap().len());
        assert_eq!(rooms.sum::<usize>(), 61);
        // Whoever got a part only begins anew; whoever got all of them continues.
        for (got, recovered) in [
            (1, false),
            (parts - 1, false),
            (parts, true),
            (parts + 2, true),
        ] {
            let pos = heard[got].pos();
            let again = bench.open(&view, pos).await.hear();
            assert_eq!(again[0].json["recovered"], recovered, "{got} of {parts}");
        }
    });
}

#[test]
fn a_viewer_who_returns_is_told_at_once_how_fresh_it_all_is() {
    run(async {
        let mut bench = Bench::new(FanoutLimits::default()).await;
        let view = everyone(None);
        let pos = last_pos(&bench.open(&view, None).await.hear());
        let heard = bench.open(&view, Some(&pos)).await.hear();
        let [subscribed, gateway] = &heard[..] else {
            panic!("{heard:?}")
        };
        assert_eq!(subscribed.json["recovered"], true);
        assert_eq!(gateway.name(), "gateway.state");
        assert_eq!(gateway.json["payload"]["state"], "down");
        assert_eq!((gateway.n(), gateway.pos()), (None, None));
        // Where it continues from is where it was, whatever happens next.
        bench.tell([Fact::RoomCreated(public(ROOMS[0]))]).await;
        let heard = bench.open(&view, subscribed.pos()).await.hear();
        assert_eq!(heard.last().unwrap().name(), "room.created");
    });
}

#[test]
fn nobody_comes_into_the_middle_of_what_was_told_at_once() {
    run(async {
        let mut bench = Bench::new(FanoutLimits::default()).await;
        let view = everyone(None);
        // More than a task passes on without a pause.
        let rooms = 1_000;
        bench
            .deliver((1..=rooms).map(|id| Fact::RoomCreated(public(id))))
            .await;
        let end = CancellationToken::new();
        let Bench {
            log,
            fanout,
            following,
            ..
        } = bench;
        let running = fanout.clone().run(guild(), following, log, end.clone());
        let coming = async {
            let mut seen = BTreeSet::new();
            for id in 1.. {
                let outbox = Outbox::new(10_000_000);
                let opening = |_, _| Frame::whole(r#"{"event":"subscribed"}"#);
                let subscribed = fanout.subscribe(id, &view, None, &outbox, opening);
                subscribed.await.unwrap();
                fanout.unsubscribe(id, guild());
                let heard = Client { id, outbox }.hear();
                let parts = heard.iter().filter(|one| one.name() == "guild.snapshot");
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
        let ((), seen) = tokio::join!(running, coming);
        assert!(
            seen.iter().all(|shown| [0, 1_000].contains(shown)),
            "{seen:?}"
        );
    });
}

#[test]
fn what_was_replayed_for_somebody_is_there_until_it_is_used() {
    run(async {
        let limits = FanoutLimits {
            histories_per_guild_max: 1,
            ..FanoutLimits::default()
        };
        let mut bench = Bench::new(limits).await;
        let both = [public(ROOMS[0]), public(ROOMS[1])];
        bench.tell(both.map(Fact::RoomCreated)).await;
        let views = [everyone(Some(&ROOMS[..1])), everyone(Some(&ROOMS[1..2]))];
        let mut positions = Vec::new();
        for view in &views {
            positions.push(last_pos(&bench.open(view, None).await.hear()));
        }
        bench.tell(visits(70)).await;
        bench.restart();
        // The past of the first view is known.
        bench.open(&views[0], Some(&positions[0])).await;
        let fanout = bench.fanout.clone();
        let door = fanout.0.guilds.get(&guild()).unwrap();
        let returns = async |id: u64, which: usize| {
            let outbox = Outbox::new(10_000_000);
            let opening = |recovered, _| {
                Frame::whole(format!(
                    r#"{{"event":"subscribed","recovered":{recovered}}}"#
                ))
            };
            let (view, pos) = (&views[which], positions[which].as_str());
            let subscribed = fanout.subscribe(id, view, Some(pos), &outbox, opening);
            subscribed.await.unwrap();
            Client { id, outbox }.hear()[0].json["recovered"] == true
        };
        // A delivery is being passed on, while one comes for what is known, and another for what is not.
        let passing_on = door.turn.lock().await;
        let done = async {
            for _ in 0..1_000 {
                tokio::task::yield_now().await;
            }
            drop(passing_on);
        };
        let (first, second, ()) = tokio::join!(returns(100, 0), returns(101, 1), done);
        assert!(first && second, "{first} {second}");
    });
}

#[test]
fn an_event_of_a_clock_that_is_ahead_has_no_age() {
    assert_eq!(age_of(1_000, 1_250), Duration::from_millis(250));
    assert_eq!(age_of(1_250, 1_000), Duration::ZERO);
}
