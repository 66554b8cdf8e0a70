//! Random evenings, random subscribers.

use proptest::prelude::*;

use super::super::*;
use super::play::{ADA, FaithfulHub, GRACE, LOUNGE, MOLE, Play, STAFF, STUDY};

/// One thing that happens in Discord: what, and two numbers that choose.
type Act = (u8, u8, u8);

fn play_of(acts: &[Act]) -> Play {
    let mut play = Play::new();
    let mut rooms: Vec<String> = [LOUNGE, STUDY].map(str::to_owned).to_vec();
    let users = [ADA, GRACE, "23", "24"];
    let mut seats: Vec<(Option<String>, u8)> = vec![(None, 0); users.len()];
    for (what, one, other) in acts {
        let user = usize::from(*one) % users.len();
        let room = rooms[usize::from(*other) % rooms.len()].clone();
        match what % 12 {
            0..=5 => {
                let goal = match other % 5 {
                    0 => None,
                    1 => Some(STAFF.to_owned()),
                    _ => Some(room),
                };
                let bits = one / 4 % 3;
                let now = (goal.clone(), if goal.is_some() { bits } else { 0 });
                if seats[user] != now {
                    play.seat(users[user], goal.as_deref(), bits);
                    seats[user] = now;
                }
            }
            6 => {
                play.seat(MOLE, (other % 2 == 0).then_some(STAFF), 0);
            }
            7 => rooms.push(play.create(other % 3 == 0)),
            8 => play.rename(&room, &format!("Name {one}")),
            9 => play.hide(&room, other % 2 == 0),
            10 => play.everyone(other % 2 == 0),
            _ if rooms.len() > 2 => {
                let gone = rooms.pop().unwrap();
                play.delete(&gone);
                for (at, seat) in seats.iter_mut().enumerate() {
                    if seat.0.as_ref() == Some(&gone) {
                        play.seat(users[at], None, 0);
                        *seat = (None, 0);
                    }
                }
            }
            _ => {}
        }
    }
    play
}

/// What a subscriber goes through before each moment.
fn faithful(story: &Story, turns: &[u8]) -> (Record, Vec<Gap>) {
    let mut hub = FaithfulHub::begun(story);
    let mut gaps = Vec::new();
    let last = story.moments.len() - 1;
    let mut sent = 0;
    // With one turn at least that goes on.
    let mut turns = turns.iter().chain(&[15]).cycle();
    while sent < last {
        match turns.next().copied().unwrap_or(0) % 16 {
            0 => {
                hub.cut();
                hub.open(true);
            }
            1 => {
                // Away for a while, too long to recover.
                hub.cut();
                sent = (sent + 3).min(last);
                hub.open(true);
                hub.subscribed(false);
                hub.snapshot_in_parts(sent);
            }
            2 => {
                sent = (sent + 2).min(last);
                hub.snapshot(sent, "outbox_full");
            }
            3 => {
                let to = (sent + 4).min(last);
                gaps.push(Gap {
                    after: 0,
                    until: story.moments[to].seq,
                    open_at_ms: hub.now_ms(),
                });
                hub.collapse(sent, to);
                sent = to;
            }
            4 => {
                // It reconnects without its position.
                hub.cut();
                hub.open(false);
                hub.snapshot(sent, "subscribed");
            }
            _ => {
                sent += 1;
                hub.send_moment(sent);
            }
        }
    }
    hub.quiet();
    (hub.record, gaps)
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    prop::collection::vec(any::<Act>(), 0..50)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn a_faithful_subscriber_is_never_accused(acts in acts(), turns in prop::collection::vec(any::<u8>(), 1..40)) {
        let truth = play_of(&acts).truth();
        let only = BTreeSet::from([LOUNGE.to_owned()]);
        for only in [None, Some(only)] {
            let (record, gaps) = faithful(&truth.story(only.as_ref()), &turns);
            let record = [Record { only, ..record }];
            let verdict = check(&truth, &record, &Terms { gaps, ..Terms::default() });
            prop_assert!(verdict.is_clean(), "{verdict} {:#?}", verdict.findings);
        }
    }

    #[test]
    fn without_an_identify_nothing_can_be_left_out_or_repeated(
        acts in acts(), turns in prop::collection::vec(5_u8..16, 1..4), at in any::<prop::sample::Index>(), double in any::<bool>(),
    ) {
        let truth = play_of(&acts).truth();
        let (mut record, _) = faithful(&truth.story(None), &turns);
        // The first two frames are `subscribed` and the snapshot.
        let events: Vec<usize> = (3..record.received.len() - 1).collect();
        prop_assume!(!events.is_empty());
        let at = events[at.index(events.len())];
        if double {
            let again = record.received[at].clone();
            record.received.insert(at, again);
        } else {
            record.received.remove(at);
        }
        let mut n = 0;
        for received in &mut record.received {
            if let What::Frame(text) = &mut received.what
                && let Ok(mut frame) = serde_json::from_str::<serde_json::Value>(text)
                && frame["type"] == "event"
            {
                frame["n"] = serde_json::json!(n);
                n += 1;
                *text = frame.to_string();
            }
        }
        let verdict = check(&truth, &[record], &Terms::default());
        let found = if double { verdict.doubled + verdict.ghosts + verdict.reordered } else { verdict.lost };
        prop_assert!(found > 0, "{verdict}");
    }
}
