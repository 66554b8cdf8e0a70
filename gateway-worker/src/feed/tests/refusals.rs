//! Events that the hub lacks, wants, does not serve or cannot take.

use super::*;

#[test]
fn a_hub_that_lacks_something_gets_a_snapshot_of_every_guild() {
    let mut shard = Shard::live(&[1, 2]);
    shard.join(1, 5);
    // What was in flight is in the snapshot, and what follows it follows it.
    assert_eq!(shard.feed.next_batch(false, 1).unwrap().events.len(), 1);
    shard.feed.rewind((10, 2).into(), 0, 1);
    shard.join(1, 6);
    let batch = shard.feed.next_batch(false, 1).unwrap();
    let link = &batch.report.link;
    assert_eq!((link.from, link.to), ((10, 2).into(), (10, 5).into()));
    assert_eq!(
        shard.deliver(&[]),
        ["1 store_changed 1", "2 store_changed 0", "1 joined"]
    );
    // One that has forgotten the claim: the session gets a number above those that it knows.
    let mut newer = memory(20);
    newer.last_session = 15;
    shard.join(1, 7);
    shard.feed.claim(newer, 1);
    let batch = shard.feed.next_batch(false, 1).unwrap();
    let link = &batch.report.link;
    assert_eq!((link.generation, link.from), (20, Reached::default()));
    assert_eq!(link.to.session, 20);
    assert_eq!(
        shard.deliver(&[]),
        ["1 store_changed 3", "2 store_changed 0"]
    );
}

#[test]
fn a_hub_that_wants_a_guild_gets_it_once() {
    let mut shard = Shard::live(&[1, 2]);
    shard.join(1, 5);
    let batch = shard.feed.next_batch(false, 1).unwrap();
    let receipt = Receipt {
        wanted: vec![guild(2), guild(7)],
        ..taken()
    };
    shard.feed.delivered(&batch, &receipt, 1);
    let batch = shard.feed.next_batch(false, 1).unwrap();
    // The next receipt may still name it, from before the snapshot.
    shard.feed.delivered(&batch, &taken(), 1);
    let sent: Vec<_> = batch.events.iter().map(name).collect();
    assert_eq!(sent, ["2 not_told 0"]);
    assert!(shard.feed.next_batch(false, 1).is_none());
}

#[test]
fn a_guild_that_the_hub_refuses_owes_one_snapshot_and_no_more() {
    let mut shard = Shard::live(&[1, 2]);
    shard.join(1, 5);
    shard.join(2, 5);
    shard.join(1, 6);
    let batch = shard.feed.next_batch(false, 1).unwrap();
    assert_eq!(batch.events.len(), 3);
    let unreadable = RefusedEvent {
        id: batch.events[0].id.clone(),
        code: Code::BadRequest,
    };
    let refused = vec![unreadable];
    shard
        .feed
        .delivered(&batch, &Receipt { refused, ..taken() }, 1);
    assert_eq!(shard.deliver(&[]), ["1 refused 2"]);
    shard.join(1, 7);
    assert_eq!(shard.deliver(&[]), ["1 joined"]);
    assert!(shard.feed.not_served().is_empty());
}

#[test]
fn nothing_is_sent_of_a_guild_that_the_hub_does_not_serve_until_it_does() {
    let mut shard = Shard::live(&[1, 2]);
    for user in 5..8 {
        shard.join(1, user);
        shard.join(2, user);
    }
    let first = shard.feed.next_batch(false, 1).unwrap();
    // What waits behind it is not sent either.
    shard.join(1, 8);
    shard.deliver(&[1]);
    let read = shard.feed.health(1);
    assert_eq!(first.events.len(), 6);
    assert_eq!(read.not_served, BTreeSet::from([guild(1)]));
    assert_eq!((read.outbox_events, read.debts), (0, 0));
    assert_eq!(shard.join(1, 9).unserved, 1);
    shard.guild_create(1);
    shard.join(2, 9);
    assert_eq!(shard.deliver(&[]), ["2 joined"]);
    // It does not hold the checkpoint.
    let health = shard.feed.health(1);
    assert_eq!(health.acknowledged_to, health.read);

    // The hub serves it from now on, and asks for it.
    shard.join(2, 10);
    let batch = shard.feed.next_batch(false, 1).unwrap();
    let wanted = vec![guild(1)];
    shard
        .feed
        .delivered(&batch, &Receipt { wanted, ..taken() }, 1);
    shard.join(1, 10);
    assert_eq!(shard.deliver(&[]), ["1 not_told 0", "1 joined"]);
    assert!(shard.feed.not_served().is_empty());

    // A changed store, or a forgotten claim, has the same effect.
    for claims in [false, true] {
        shard.join(1, 11 + u64::from(claims));
        shard.deliver(&[1]);
        assert_eq!(shard.feed.not_served().len(), 1);
        if claims {
            shard.feed.claim(memory(30), 1);
        } else {
            shard.feed.rewind((10, 1).into(), 0, 1);
        }
        let sent = shard.deliver(&[]);
        assert!(
            sent.iter()
                .any(|event| event.starts_with("1 store_changed")),
            "{sent:?}"
        );
        assert!(shard.feed.not_served().is_empty());
    }
}

#[test]
fn a_guild_too_large_for_any_delivery_is_reported_and_blocks_no_other() {
    let small = Limits {
        delivery_bytes_max: 65_536 + 4_000,
        ..LIMITS
    };
    let mut shard = Shard::new(&[1, 2], small);
    shard.identify(&[1, 2]);
    shard.guild_create(1);
    shard.guild_create(2);
    for user in 1..=40 {
        shard.join(1, user);
    }
    assert_eq!(shard.deliver(&[]).len(), 42, "one by one they fit");
    shard.feed.rewind((10, 1).into(), 0, 1);
    shard.join(2, 1);
    assert_eq!(shard.deliver(&[]), ["2 store_changed 0", "2 joined"]);
    let too_large = Some((GatewayState::Down, "too_large".to_owned()));
    assert_eq!((shard.state(1), shard.state(2)), (too_large, None));
    let beat = shard.feed.next_batch(true, 1).unwrap();
    assert_eq!(beat.report.link.to, (10, 1).into(), "it is still owed");
    // Once it is small enough its snapshot is sent.
    for user in 1..=30 {
        let mut gone = json!({"guild_id": "1", "channel_id": null, "user_id": user.to_string()});
        gone["deaf"] = json!(false);
        shard.receive("VOICE_STATE_UPDATE", &gone);
    }
    assert!(shard.feed.next_batch(false, 1_000).is_none());
    let batch = shard.feed.next_batch(false, 1_001).unwrap();
    assert_eq!(
        batch.events.iter().map(name).collect::<Vec<_>>(),
        ["1 store_changed 10"]
    );
    assert_eq!(batch.report.link.to, shard.feed.stream.reached());
}
