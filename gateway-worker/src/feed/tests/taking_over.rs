//! A worker that takes over from another one, or that another one has overtaken.

use super::*;

/// A worker that takes over from one that had this memory left at the hub.
fn successor(guilds: &[u64], claimed: Claimed) -> Shard {
    successor_with(LIMITS, guilds, claimed)
}

fn successor_with(limits: Limits, guilds: &[u64], claimed: Claimed) -> Shard {
    let mut shard = Shard::new(guilds, limits);
    shard.feed = Feed::new(shard.feed.setting.clone());
    shard.feed.claim(claimed, 1);
    shard
}

/// The hub knows everything of the worker up to `known`, and acknowledged up to `acked`.
fn remembered(shard: &Shard, known: (u64, u32), acked: u64) -> Claimed {
    let session = shard.feed.stream.session().unwrap().clone();
    let guilds = shard.feed.guilds.values().map(|tracked| KnownGuild {
        mark: Mark::from((session.number, known.0, known.1)),
        absent: None,
        roster: tracked.roster.snapshot("claimed"),
    });
    Claimed {
        unserved: Vec::new(),
        guilds: guilds.collect(),
        checkpoint: Some(Checkpoint {
            sequence: acked,
            session: session.clone(),
            fingerprint: "f".to_owned(),
            resumes: 0,
        }),
        last_session: session.number,
        ..memory(30)
    }
}

#[test]
fn a_replay_sends_no_events_up_to_the_mark_and_every_event_after_it() {
    let mut before = Shard::live(&[1]);
    before.join(1, 5);
    before.join(1, 6);
    let mut shard = successor(&[1], remembered(&before, (4, 0), 2));
    assert_eq!(shard.feed.resume().map(|(_, sequence)| sequence), Some(2));
    let beat = shard.feed.next_batch(true, 1).unwrap();
    let gateway = &beat.report.gateway;
    assert_eq!(
        (gateway.state, gateway.reason.as_deref()),
        (GatewayState::Resuming, Some("catching_up"))
    );
    assert_eq!(beat.report.link.to, (10, 2).into());
    shard.session = 1;
    shard.sequence = 2;
    assert_eq!(shard.join(1, 5).known, 0, "it is so already");
    shard.join(1, 6);
    assert!(shard.feed.next_batch(false, 1).unwrap().events.is_empty());
    shard.join(1, 7);
    shard.receive("RESUMED", &json!({}));
    let batch = shard.feed.next_batch(false, 1).unwrap();
    assert_eq!(
        batch.events.iter().map(name).collect::<Vec<_>>(),
        ["1 joined"]
    );
    assert_eq!(batch.events[0].at, Some(Mark::from((10, 5, 0))));
    assert_eq!(batch.report.link.to, (10, 6).into());
    assert_eq!(batch.report.gateway.state, GatewayState::Live);
}

#[test]
fn a_replay_ends_at_the_mark_and_not_at_an_earlier_resumed() {
    let mut before = Shard::live(&[1]);
    before.join(1, 5);
    before.receive("RESUMED", &json!({}));
    before.join(1, 6);
    let mut shard = successor(&[1], remembered(&before, (6, 0), 3));
    shard.session = 1;
    shard.sequence = 3;
    shard.join(1, 5);
    // From a connection of the worker before: a user who joined since has not left.
    shard.receive("RESUMED", &json!({}));
    assert!(shard.deliver(&[]).is_empty());
    shard.join(1, 6);
    shard.receive("RESUMED", &json!({}));
    assert!(shard.deliver(&[]).is_empty());
    assert_eq!(shard.state(1), None);
}

#[test]
fn a_replay_that_fills_the_outbox_again_and_again_costs_each_guild_one_snapshot() {
    let before = Shard::live(&[1, 2]);
    let tight = Limits {
        events_max: 6,
        batch_events_max: 2,
        ..LIMITS
    };
    let mut shard = successor_with(tight, &[1, 2], remembered(&before, (3, 0), 3));
    shard.session = 1;
    shard.sequence = 3;
    // The first attempt to connect has failed.
    shard.feed.set_gateway(GatewayState::Resuming, "connecting");
    let (mut sent, mut full) = (Vec::new(), 0);
    for user in 1..100 {
        full += shard.join(1 + user % 2, user).full;
        // The hub takes less than Discord sends.
        if user % 5 == 0
            && let Some(batch) = shard.feed.next_batch(true, 1)
        {
            sent.extend(batch.events.iter().map(name));
            shard.join(1, 1_000 + user);
            shard.feed.delivered(&batch, &taken(), 1);
        }
    }
    assert_eq!(full, 2);
    shard.receive("RESUMED", &json!({}));
    sent.extend(shard.deliver(&[]));
    sent.retain(|event| !event.ends_with("joined"));
    assert_eq!(sent, ["1 outbox_full 68", "2 outbox_full 50"]);
    let health = shard.feed.health(1);
    assert_eq!(health.acknowledged_to, health.read);
}

#[test]
fn an_event_that_the_hub_lost_is_sent_when_the_replay_passes_the_mark() {
    let mut before = Shard::live(&[1]);
    before.join(1, 5);
    before.join(1, 6);
    let mut claimed = remembered(&before, (5, 0), 3);
    // It refused one of them, and the worker died before the snapshot.
    claimed.guilds[0].roster.voices.remove(0);
    let mut shard = successor(&[1], claimed);
    shard.session = 1;
    shard.sequence = 3;
    assert_eq!(shard.join(1, 5).known, 1);
    shard.join(1, 6);
    shard.join(1, 7);
    let batch = shard.feed.next_batch(false, 1).unwrap();
    let marks: Vec<_> = batch.events.iter().map(|event| event.at).collect();
    assert_eq!(
        marks,
        [(10, 5, 1), (10, 6, 0)].map(|mark| Some(Mark::from(mark)))
    );
    assert_eq!(batch.report.link.to, (10, 6).into());
}

#[test]
fn an_open_question_is_asked_again_and_nothing_older_is_sent_meanwhile() {
    let mut before = Shard::live(&[1]);
    before.join(1, 5);
    let mut claimed = remembered(&before, (5, 1), 3);
    claimed.guilds[0].roster.voices.clear();
    let mut shard = successor(&[1], claimed);
    shard.session = 1;
    shard.sequence = 3;
    shard.join(1, 5);
    shard.receive(
        "VOICE_STATE_UPDATE",
        &json!({"guild_id": "1", "user_id": "5"}),
    );
    assert!(shard.feed.question().is_none(), "the answer may still come");
    shard.receive("RESUMED", &json!({}));
    // The hub knows a newer state of that user than the replay.
    let batch = shard.feed.next_batch(false, 1).unwrap();
    assert!(batch.events.is_empty());
    assert_eq!(
        batch.report.link.to,
        (10, 3).into(),
        "the question holds it"
    );
    shard.feed.delivered(&batch, &taken(), 1);
    let question = shard.feed.question().unwrap();
    shard.feed.answer(question, Finding::Voice(None), 1);
    let batch = shard.feed.next_batch(true, 1).unwrap();
    assert!(batch.events.is_empty());
    assert_eq!(batch.report.link.to, (10, 6).into());
}

#[test]
fn without_a_resumable_session_guild_create_gives_the_difference() {
    let mut before = Shard::live(&[1]);
    before.join(1, 5);
    let whole = remembered(&before, (4, 0), 4);
    let changed = |change: fn(&mut Claimed)| {
        let mut claimed = whole.clone();
        change(&mut claimed);
        successor(&[1], claimed).feed.resume().is_some()
    };
    assert!(changed(|_| {}));
    assert!(!changed(|claimed| claimed.checkpoint = None));
    assert!(!changed(|claimed| claimed.guilds.clear()));
    assert!(!changed(
        |claimed| claimed.guilds[0].mark = (11, 1, 0).into()
    ));
    assert!(!changed(|claimed| {
        claimed.checkpoint.as_mut().unwrap().fingerprint = "g".to_owned();
    }));
    // And one that Discord has forgotten.
    for (fingerprint, known) in [("g", (4, 0)), ("f", (4, 0)), ("f", (9, 0))] {
        let mut claimed = remembered(&before, known, 4);
        claimed.checkpoint.as_mut().unwrap().fingerprint = fingerprint.to_owned();
        let mut shard = successor(&[1], claimed);
        shard.session = 1;
        shard.identify(&[1]);
        assert_eq!(shard.state(1).unwrap().1, "guild_awaited");
        shard.guild_create(1);
        let batch = shard.feed.next_batch(false, 1).unwrap();
        assert_eq!(
            batch.events.iter().map(name).collect::<Vec<_>>(),
            ["1 left"]
        );
        assert_eq!(batch.events[0].at, Some(Mark::from((30, 2, 0))));
        assert_eq!(batch.report.link.to, (30, 2).into());
    }
}

#[test]
fn an_overtaken_worker_restarts_from_the_state_of_the_hub() {
    let mut shard = Shard::live(&[1, 2]);
    shard.join(1, 5);
    let question = {
        shard.receive(
            "VOICE_STATE_UPDATE",
            &json!({"guild_id": "1", "user_id": "7"}),
        );
        shard.feed.question().unwrap()
    };
    // The other one has read a later session, in which another user is in the room.
    let mut other = Shard::live(&[1]);
    other.join(1, 6);
    let mut claimed = remembered(&other, (7, 0), 7);
    claimed.guilds[0].mark = Mark::from((25, 7, 0));
    let checkpoint = claimed.checkpoint.as_mut().unwrap();
    checkpoint.session.number = 25;
    checkpoint.session.id = "other".to_owned();
    claimed.last_session = 25;
    shard.feed.claim(claimed, 1);
    assert!(shard.feed.wants_identify() && shard.feed.resume().is_none());
    assert!(shard.feed.is_overtaken());
    // Its own events, its old session and old answers lead to nothing any more.
    shard.feed.answer(question, Finding::Voice(None), 1);
    assert!(shard.join(1, 8).repeated);
    let batch = shard.feed.next_batch(true, 1).unwrap();
    assert!(batch.events.is_empty());
    let link = &batch.report.link;
    assert_eq!(
        (link.generation, link.from, link.to),
        (30, (25, 7).into(), (25, 7).into())
    );
    shard.feed.delivered(&batch, &taken(), 1);
    shard.identify(&[1, 2]);
    shard.guild_create(1);
    shard.guild_create(2);
    assert!(!shard.feed.wants_identify() && !shard.feed.is_overtaken());
    assert_eq!(shard.deliver(&[]), ["1 left", "2 worker_started 0"]);
    assert_eq!(shard.feed.health(1).acknowledged_to, (30, 3).into());
}

#[test]
fn an_absent_guild_is_absent_for_the_next_worker_too() {
    let before = Shard::live(&[1, 2]);
    let mut claimed = remembered(&before, (3, 0), 3);
    claimed.guilds[1].absent = Some(Absence::Outage);
    let mut shard = successor(&[1, 2], claimed);
    shard.session = 1;
    shard.sequence = 3;
    shard.receive("RESUMED", &json!({}));
    let batch = shard.feed.next_batch(false, 1).unwrap();
    assert_eq!(batch.report.link.absent[&guild(2)], Absence::Outage);
    assert_eq!(shard.state(2).unwrap().1, "outage");
    assert_eq!(shard.state(1), None);
}

#[test]
fn a_replay_that_an_unreadable_ready_cuts_off_sends_no_past_events() {
    let mut before = Shard::live(&[1]);
    before.join(1, 5); // 3
    let mut claimed = remembered(&before, (6, 0), 2);
    // By 6 the user had left again, and the hub has that.
    claimed.guilds[0].roster.voices.clear();
    let mut shard = successor(&[1], claimed);
    shard.session = 1;
    shard.sequence = 2;
    shard.join(1, 5); // replayed: 3
    // The session is invalid in the middle of the replay; the next READY cannot be read.
    shard.session = 2;
    shard.sequence = 0;
    shard.receive("READY", &json!({"guilds": null}));
    assert!(shard.feed.next_batch(true, 1).unwrap().events.is_empty());
}

#[test]
fn a_guild_that_is_not_served_blocks_no_resume_and_is_read_once_it_is_wanted() {
    let before = Shard::live(&[1]);
    let claimed = remembered(&before, (2, 0), 2);
    let shard = successor(&[1, 7], claimed.clone());
    assert!(shard.feed.resume().is_none(), "it may be anything");
    let claimed = Claimed {
        unserved: vec![guild(7)],
        ..claimed
    };
    let mut shard = successor(&[1, 7], claimed);
    assert!(shard.feed.resume().is_some());
    (shard.session, shard.sequence) = (1, 2);
    shard.receive("RESUMED", &json!(null));
    assert_eq!(shard.feed.not_served(), BTreeSet::from([guild(7)]));
    assert_eq!((shard.state(1), shard.state(7)), (None, None));
    assert!(!shard.feed.wants_identify());
    // The hub's settings have changed, and RESUME brought no GUILD_CREATE.
    let batch = shard.feed.next_batch(true, 1).unwrap();
    let receipt = Receipt {
        wanted: vec![guild(7)],
        ..taken()
    };
    shard.feed.delivered(&batch, &receipt, 1);
    assert!(shard.feed.wants_identify());
    assert_eq!(shard.state(7).unwrap().1, "guild_awaited");
    shard.identify(&[1, 7]);
    shard.guild_create(1);
    shard.guild_create(7);
    assert_eq!(shard.deliver(&[]), ["7 worker_started 0"]);
}

#[test]
fn a_skipped_guild_that_came_back_is_known_when_it_is_wanted() {
    let comes_back = |shard: &mut Shard| {
        shard.receive("GUILD_DELETE", &json!({"id": "7", "unavailable": true}));
        shard.guild_create(7);
    };
    let is_removed = |shard: &mut Shard| {
        shard.receive("GUILD_DELETE", &json!({"id": "7"}));
    };
    let ways: [(fn(&mut Shard), _); 2] = [(comes_back, true), (is_removed, false)];
    for (way, present) in ways {
        let before = Shard::live(&[1]);
        let mut claimed = remembered(&before, (2, 0), 2);
        claimed.unserved = vec![guild(7)];
        let mut shard = successor(&[1, 7], claimed);
        (shard.session, shard.sequence) = (1, 2);
        shard.receive("RESUMED", &json!(null));
        way(&mut shard);
        let batch = shard.feed.next_batch(true, 1).unwrap();
        let wanted = vec![guild(7)];
        let receipt = Receipt { wanted, ..taken() };
        shard.feed.delivered(&batch, &receipt, 1);
        assert!(!shard.feed.wants_identify(), "it is known");
        assert_eq!(shard.deliver(&[]), ["7 not_told 0"]);
        assert_eq!(shard.state(7).is_none(), present);
    }
}

#[test]
fn resumes_without_resumed_are_counted_over_workers_even_if_events_are_replayed() {
    let before = Shard::live(&[1]);
    let mut claimed = remembered(&before, (2, 0), 2);
    if let Some(checkpoint) = &mut claimed.checkpoint {
        checkpoint.resumes = 2;
    }
    let mut shard = successor(&[1], claimed);
    shard.feed.resume_sent();
    let beat = shard.feed.next_batch(false, 1).unwrap();
    assert_eq!((beat.report.link.resumes, beat.report.link.lost), (3, 0));
    (shard.session, shard.sequence) = (1, 2);
    shard.join(1, 5);
    assert_eq!(shard.feed.resumes(), 3);
    shard.feed.resume_answered();
    assert_eq!(shard.feed.resumes(), 0);
    shard.feed.resume_sent();
    shard.feed.lose_session();
    assert_eq!(shard.feed.resume(), None);
    let batch = shard.feed.next_batch(false, 1).unwrap();
    let own = shard.feed.stream.session().unwrap().number;
    assert_eq!(batch.report.link.lost, own);
    assert_eq!(batch.report.gateway.reason.as_deref(), Some("session_lost"));
}
