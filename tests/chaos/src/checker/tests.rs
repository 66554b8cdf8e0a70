//! The checker finds every class of fault in the record of an otherwise faithful subscription, and
//! never accuses a faithful one.

mod play;
mod properties;

use std::collections::BTreeSet;

use serde_json::json;

use super::*;
use play::{ADA, FaithfulHub, GRACE, LOUNGE, MOLE, Play, STAFF, STUDY};

/// Ada and Grace come, talk, move and leave; the mole only ever sits with the staff.
fn evening() -> Play {
    let mut play = Play::new();
    play.seat(ADA, Some(LOUNGE), 0);
    play.seat(MOLE, Some(STAFF), 0);
    play.seat(ADA, Some(LOUNGE), 1);
    play.seat(GRACE, Some(LOUNGE), 0);
    play.seat(ADA, Some(STUDY), 1);
    play.seat(GRACE, Some(STAFF), 0);
    play.seat(ADA, Some(STUDY), 0);
    play.rename(STUDY, "Library");
    play.seat(ADA, None, 0);
    play
}

fn full_record(play: &Play) -> Record {
    let story = play.truth().story(None);
    let mut hub = FaithfulHub::begun(&story);
    for moment in 1..story.moments.len() {
        hub.send_moment(moment);
    }
    hub.quiet();
    hub.record
}

fn verdict_of(play: &Play, record: Record) -> Verdict {
    check(&play.truth(), &[record], &Terms::default())
}

/// Changes the frames of a record and numbers them again, as a hub with that fault would.
fn tampered(record: &Record, change: impl FnOnce(&mut Vec<serde_json::Value>)) -> Record {
    let mut frames = record
        .received
        .iter()
        .filter_map(|received| match &received.what {
            What::Frame(text) => serde_json::from_str(text).ok(),
            _ => None,
        })
        .collect();
    change(&mut frames);
    let mut n = 0;
    let mut received = vec![record.received[0].clone()];
    for mut frame in frames {
        if frame["type"] == "event" {
            frame["n"] = json!(n);
            n += 1;
        }
        received.push(Received {
            at_ms: 1,
            what: What::Frame(frame.to_string()),
        });
    }
    received.push(record.received[record.received.len() - 1].clone());
    Record {
        received,
        ..record.clone()
    }
}

#[test]
fn the_story_has_what_everyone_may_see_and_nothing_else() {
    let play = evening();
    let story = play.truth().story(None);
    let words: Vec<String> = story
        .steps
        .iter()
        .map(|due| match (&due.subject, &due.step) {
            (Subject::User(user), Step::Joined { seat, from }) => {
                format!("{user} joins {} from {from:?}", seat.channel)
            }
            (Subject::User(user), Step::Left { channel, to }) => {
                format!("{user} leaves {channel} to {to:?}")
            }
            (Subject::User(user), Step::Changed(seat)) => {
                format!("{user} changes in {} to {}", seat.channel, seat.flags)
            }
            (Subject::Room(id), Step::Updated(room)) => format!("{id} is {}", room.name),
            other => format!("{other:?}"),
        })
        .collect();
    let expected = [
        format!("{ADA} joins {LOUNGE} from None"),
        format!("{ADA} changes in {LOUNGE} to 1"),
        format!("{GRACE} joins {LOUNGE} from None"),
        format!("{ADA} leaves {LOUNGE} to Some({STUDY:?})"),
        format!("{ADA} joins {STUDY} from Some({LOUNGE:?})"),
        format!("{GRACE} leaves {LOUNGE} to None"),
        format!("{ADA} changes in {STUDY} to 0"),
        format!("{STUDY} is Library"),
        format!("{ADA} leaves {STUDY} to None"),
    ];
    assert_eq!(words, expected);
    assert_eq!(
        story.forbidden,
        BTreeSet::from([STAFF.to_owned(), MOLE.to_owned()])
    );
    assert_eq!(story.hidden_seats.len(), 2);
}

#[test]
fn a_room_that_goes_out_of_sight_takes_its_people_along_and_brings_them_back() {
    let mut play = Play::new();
    play.seat(ADA, Some(LOUNGE), 0);
    play.hide(LOUNGE, true);
    play.seat(GRACE, Some(LOUNGE), 0);
    play.everyone(false);
    play.everyone(true);
    play.hide(LOUNGE, false);
    play.delete(LOUNGE);
    let story = play.truth().story(None);
    let of = |id: &str| -> Vec<&Step> {
        let subject = [Subject::User(id.to_owned()), Subject::Room(id.to_owned())];
        let steps = story
            .steps
            .iter()
            .filter(|due| subject.contains(&due.subject));
        steps.map(|due| &due.step).collect()
    };
    assert!(matches!(
        of(ADA)[..],
        [
            Step::Joined { .. },
            Step::Left { to: None, .. },
            Step::Joined { .. },
            Step::Left { to: None, .. }
        ]
    ));
    assert!(matches!(
        of(GRACE)[..],
        [Step::Joined { .. }, Step::Left { .. }]
    ));
    assert!(matches!(
        of(LOUNGE)[..],
        [Step::Deleted, Step::Created(_), Step::Deleted]
    ));
    assert!(matches!(of(STUDY)[..], [Step::Deleted, Step::Created(_)]));
}

#[test]
fn a_full_record_is_clean_and_counted() {
    let play = evening();
    let verdict = verdict_of(&play, full_record(&play));
    assert!(verdict.is_clean(), "{:#?}", verdict.findings);
    assert_eq!((verdict.delivered, verdict.collapsed), (9, 0));
    assert_eq!(verdict.snapshots["subscribed"], 1);
}

#[test]
fn each_frame_that_is_dropped_doubled_or_torn_from_its_order_is_found() {
    let play = evening();
    let whole = full_record(&play);
    // 0 is `subscribed`, 1 the snapshot.
    for at in 2..11 {
        let dropped = tampered(&whole, |frames| {
            frames.remove(at);
        });
        let verdict = verdict_of(&play, dropped);
        assert!(verdict.lost >= 1, "dropped {at}: {verdict}");
        let doubled = tampered(&whole, |frames| {
            let again = frames[at].clone();
            frames.insert(at, again);
        });
        let verdict = verdict_of(&play, doubled);
        assert_eq!((verdict.doubled, verdict.lost), (1, 0), "doubled {at}");
        let later = tampered(&whole, |frames| {
            let torn = frames.remove(at);
            frames.push(torn);
        });
        let verdict = verdict_of(&play, later);
        // The last step about somebody or something may come later than others'.
        let last_of_its_subject = [7, 9, 10].contains(&at);
        assert_eq!(
            verdict.reordered >= 1,
            !last_of_its_subject,
            "moved {at}: {verdict}"
        );
    }
}

#[test]
fn a_gap_in_the_numbers_is_found_even_if_nothing_else_is_wrong() {
    let play = evening();
    let mut record = full_record(&play);
    for received in &mut record.received {
        if let What::Frame(text) = &mut received.what
            && text.contains("\"n\":3")
        {
            *text = text.replace("\"n\":3", "\"n\":4");
        }
    }
    let verdict = verdict_of(&play, record);
    assert_eq!((verdict.number_gaps, verdict.lost), (2, 0), "{verdict}");
}

#[test]
fn a_leak_is_found_wherever_it_stands() {
    let play = evening();
    let whole = full_record(&play);
    let named = tampered(&whole, |frames| frames[0]["note"] = json!(MOLE));
    assert_eq!(verdict_of(&play, named).leaks, 1);
    let from = tampered(&whole, |frames| {
        frames[5]["payload"]["movedTo"] = json!(STAFF);
    });
    assert!(verdict_of(&play, from).leaks >= 1);
    let event = tampered(&whole, |frames| {
        let mut leak = frames[2].clone();
        leak["payload"]["channelId"] = json!(STAFF);
        leak["payload"]["userId"] = json!(GRACE);
        frames.insert(8, leak);
    });
    assert!(verdict_of(&play, event).leaks >= 1);
}

#[test]
fn a_user_named_in_a_room_while_it_was_hidden_is_a_leak() {
    let mut play = Play::new();
    play.seat(GRACE, Some(STUDY), 0);
    play.hide(LOUNGE, true);
    play.seat(GRACE, Some(LOUNGE), 0);
    play.seat(GRACE, None, 0);
    play.hide(LOUNGE, false);
    let leaky = tampered(&full_record(&play), |frames| {
        frames.push(play::event("voice.joined", GRACE, LOUNGE));
        frames.push(play::event("voice.left", GRACE, LOUNGE));
    });
    let verdict = verdict_of(&play, leaky);
    assert_eq!(verdict.leaks, 1, "{verdict} {:#?}", verdict.findings);
}

#[test]
fn a_user_believed_in_a_room_at_a_quiet_point_who_is_not_there_is_a_ghost() {
    let play = evening();
    let ghost = tampered(&full_record(&play), |frames| {
        frames.pop();
    });
    let verdict = verdict_of(&play, ghost);
    assert_eq!((verdict.ghosts, verdict.lost), (1, 1));
}

#[test]
fn a_snapshot_of_what_was_never_true_is_false() {
    let play = evening();
    let lie = tampered(&full_record(&play), |frames| {
        frames[1]["payload"]["rooms"][0]["name"] = json!("Somewhere else");
    });
    let verdict = verdict_of(&play, lie);
    assert_eq!(verdict.false_snapshots, 1);
}

#[test]
fn a_subscriber_that_received_nothing_is_noticed() {
    let play = evening();
    let mut record = full_record(&play);
    record
        .received
        .retain(|received| !matches!(received.what, What::Frame(_)));
    assert_eq!(verdict_of(&play, record).lost, 1);
}

#[test]
fn a_step_that_a_snapshot_covers_is_not_lost_and_one_before_a_later_step_is() {
    let play = evening();
    let truth = play.truth();
    let story = truth.story(None);
    let mut hub = FaithfulHub::begun(&story);
    hub.send_moment(1);
    hub.send_moment(2);
    hub.snapshot(5, "behind");
    for moment in 6..story.moments.len() {
        hub.send_moment(moment);
    }
    hub.quiet();
    let verdict = check(&truth, &[hub.record], &Terms::default());
    assert!(verdict.is_clean(), "{:#?}", verdict.findings);

    let mut hub = FaithfulHub::begun(&story);
    hub.send_moment(1);
    // Ada's flags are left out, and Grace's join is sent.
    hub.send_moment(3);
    hub.snapshot(5, "behind");
    let record = hub.record;
    let verdict = check(&truth, std::slice::from_ref(&record), &Terms::default());
    assert_eq!(verdict.lost, 1, "{verdict}");
    let asked = Terms {
        ordered: false,
        ..Terms::default()
    };
    assert!(check(&truth, &[record], &asked).is_clean());
}

#[test]
fn an_identify_may_collapse_what_was_not_heard_yet_and_nothing_else() {
    let mut play = Play::new();
    play.seat(ADA, Some(LOUNGE), 0);
    play.seat(ADA, Some(STUDY), 0);
    play.seat(GRACE, Some(LOUNGE), 0);
    play.seat(ADA, Some(LOUNGE), 4);
    let end = play.seat(GRACE, None, 0);
    play.seat(ADA, None, 0);
    let truth = play.truth();
    let story = truth.story(None);
    let gap = |open_at_ms| Terms {
        gaps: vec![Gap {
            after: 0,
            until: end,
            open_at_ms,
        }],
        ..Terms::default()
    };
    let mut hub = FaithfulHub::begun(&story);
    hub.send_moment(1);
    let before = hub.now_ms();
    hub.collapse(1, 5);
    hub.send_moment(6);
    hub.quiet();
    let record = [hub.record];
    let verdict = check(&truth, &record, &gap(before));
    assert!(verdict.is_clean(), "{:#?}", verdict.findings);
    assert!(verdict.collapsed >= 4, "{verdict}");
    assert!(!check(&truth, &record, &Terms::default()).is_clean());

    // The same, but Grace's join was received before: what came before that was due.
    let mut hub = FaithfulHub::begun(&story);
    hub.send_moment(1);
    hub.send_moment(3);
    let before = hub.now_ms();
    hub.collapse(3, 5);
    hub.send_moment(6);
    hub.quiet();
    let verdict = check(&truth, &[hub.record], &gap(before));
    assert!(verdict.lost >= 1, "{verdict} {:#?}", verdict.findings);
}

#[test]
fn an_identify_during_an_outage_collapses_until_the_outage_ends() {
    let mut play = Play::new();
    play.seat(ADA, Some(LOUNGE), 0);
    // The session is lost here; the identify falls into the outage.
    play.seat(ADA, Some(LOUNGE), 1);
    play.seat(GRACE, Some(LOUNGE), 0);
    let began = play.outage(true);
    play.seat(GRACE, None, 0);
    play.seat(ADA, Some(STUDY), 1);
    let ended = play.outage(false);
    let truth = play.truth();
    let story = truth.story(None);
    let mut hub = FaithfulHub::begun(&story);
    hub.send_moment(1);
    hub.collapse(1, story.moments.len() - 1);
    hub.quiet();
    let judged = |identified: u64| {
        let gap = Gap {
            after: 1,
            until: identified,
            open_at_ms: 0,
        };
        let terms = Terms {
            gaps: vec![gap],
            ..Terms::default()
        };
        check(&truth, std::slice::from_ref(&hub.record), &terms)
    };
    for identified in [began, ended - 1] {
        let verdict = judged(identified);
        assert!(verdict.is_clean(), "{:#?}", verdict.findings);
    }
    // Before the outage the guild was sent, and its state then must have been received.
    assert!(!judged(began - 1).is_clean());
}

#[test]
fn within_a_gap_every_state_must_have_been_true_meanwhile() {
    let mut play = Play::new();
    play.seat(ADA, Some(LOUNGE), 0);
    let end = play.seat(ADA, None, 0);
    play.seat(GRACE, Some(STUDY), 0);
    let truth = play.truth();
    let story = truth.story(None);
    let terms = Terms {
        gaps: vec![Gap {
            after: 0,
            until: end,
            open_at_ms: 0,
        }],
        ..Terms::default()
    };
    let mut hub = FaithfulHub::begun(&story);
    hub.send(play::event("voice.joined", ADA, STUDY));
    hub.send(play::event("voice.left", ADA, STUDY));
    hub.send_moment(3);
    hub.quiet();
    let verdict = check(&truth, &[hub.record], &terms);
    assert_eq!(verdict.ghosts, 2, "{verdict}");
}

#[test]
fn the_halves_of_a_move_are_neighbours() {
    let play = evening();
    let torn = tampered(&full_record(&play), |frames| {
        let alien = frames.remove(7);
        frames.insert(6, alien);
    });
    let verdict = verdict_of(&play, torn);
    assert_eq!(
        (verdict.reordered, verdict.lost),
        (1, 0),
        "{:#?}",
        verdict.findings
    );
}

#[test]
fn convergence_counts_from_the_transition_the_end_of_a_fault_or_the_return() {
    let mut play = Play::new();
    play.seat(ADA, Some(LOUNGE), 0);
    let truth = play.truth();
    let story = truth.story(None);
    let at_ms = story.moments[1].at_ms;
    let record = |opened_ms: u64, had_ms: u64| {
        let mut hub = FaithfulHub::begun(&story);
        hub.open(true);
        hub.send_moment(1);
        let mut record = hub.record;
        let last = record.received.len() - 1;
        record.received[last].at_ms = had_ms;
        for received in &mut record.received[..last] {
            received.at_ms = opened_ms;
        }
        record
    };
    let lag = |opened_ms, faults: Vec<(u64, u64)>| {
        let terms = Terms {
            faults,
            ..Terms::default()
        };
        check(&truth, &[record(opened_ms, at_ms + 100)], &terms).lags_ms
    };
    assert_eq!(lag(0, vec![]), [100]);
    assert_eq!(lag(at_ms + 70, vec![]), [30]);
    assert_eq!(lag(0, vec![(at_ms - 5, at_ms + 90)]), [10]);
    assert_eq!(lag(0, vec![(at_ms + 101, at_ms + 300)]), [100]);
}
