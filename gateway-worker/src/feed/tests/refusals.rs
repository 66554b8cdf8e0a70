//! What the hub lacks, wants, does not want or can not take.

use super::*;

#[test]
fn a_hub_that_lacks_something_is_told_every_guild_anew() {
    let mut shard = Shard::live(&[1, 2]);
    shard.join(1, 5);
    // What was in flight is in the snapshot, and what follows it follows it.
    assert_eq!(shard.feed.parcel(false, 1).unwrap().events.len(), 1);
    shard.feed.rewind((10, 2).into(), 0, 1);
    shard.join(1, 6);
    let parcel = shard.feed.parcel(false, 1).unwrap();
    let link = &parcel.report.link;
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
    let parcel = shard.feed.parcel(false, 1).unwrap();
    let link = &parcel.report.link;
    assert_eq!((link.generation, link.from), (20, Reached::default()));
    assert_eq!(link.to.session, 20);
    assert_eq!(
        shard.deliver(&[]),
        ["1 store_changed 3", "2 store_changed 0"]
    );
}

#[test]
fn a_hub_that_wants_a_guild_is_told_it_once() {
    let mut shard = Shard::live(&[1, 2]);
    shard.join(1, 5);
    let parcel = shard.feed.parcel(false, 1).unwrap();
    let receipt = Receipt {
        wanted: vec![guild(2), guild(7)],
        ..taken()
    };
    shard.feed.delivered(&parcel, &receipt, 1);
    let parcel = shard.feed.parcel(false, 1).unwrap();
    // It still wants it, since it was asked before it was told.
    shard.feed.delivered(&parcel, &taken(), 1);
    let told: Vec<_> = parcel.events.iter().map(name).collect();
    assert_eq!(told, ["2 not_told 0"]);
    assert!(shard.feed.parcel(false, 1).is_none());
}

#[test]
fn a_guild_that_the_hub_refuses_owes_one_snapshot_and_no_more() {
    let mut shard = Shard::live(&[1, 2]);
    shard.join(1, 5);
    shard.join(2, 5);
    shard.join(1, 6);
    let parcel = shard.feed.parcel(false, 1).unwrap();
    assert_eq!(parcel.events.len(), 3);
    let illegible = RefusedEvent {
        id: parcel.events[0].id.clone(),
        code: Code::BadRequest,
    };
    let refused = vec![illegible];
    shard
        .feed
        .delivered(&parcel, &Receipt { refused, ..taken() }, 1);
    assert_eq!(shard.deliver(&[]), ["1 refused 2"]);
    shard.join(1, 7);
    assert_eq!(shard.deliver(&[]), ["1 joined"]);
    assert!(shard.feed.not_served().is_empty());
}

#[test]
fn nothing_is_told_of_a_guild_that_the_hub_does_not_serve_until_it_does() {
    let mut shard = Shard::live(&[1, 2]);
    for user in 5..8 {
        shard.join(1, user);
        shard.join(2, user);
    }
    let first = shard.feed.parcel(false, 1).unwrap();
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
    // It keeps nobody's checkpoint.
    let health = shard.feed.health(1);
    assert_eq!(health.acknowledged_to, health.read);

    // The hub serves it from now on, and asks for it.
    shard.join(2, 10);
    let parcel = shard.feed.parcel(false, 1).unwrap();
    let wanted = vec![guild(1)];
    shard
        .feed
        .delivered(&parcel, &Receipt { wanted, ..taken() }, 1);
    shard.join(1, 10);
    assert_eq!(shard.deliver(&[]), ["1 not_told 0", "1 joined"]);
    assert!(shard.feed.not_served().is_empty());

    // So may a hub whose store was changed, or that has forgotten the claim.
    for claims in [false, true] {
        shard.join(1, 11 + u64::from(claims));
        shard.deliver(&[1]);
        assert_eq!(shard.feed.not_served().len(), 1);
        if claims {
            shard.feed.claim(memory(30), 1);
        } else {
            shard.feed.rewind((10, 1).into(), 0, 1);
        }
        let told = shard.deliver(&[]);
        assert!(
            told.iter()
                .any(|event| event.starts_with("1 store_changed")),
            "{told:?}"
        );
        assert!(shard.feed.not_served().is_empty());
    }
}

#[test]
fn a_guild_too_large_for_any_delivery_is_told_as_that_and_nobody_waits_for_it() {
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
    let beat = shard.feed.parcel(true, 1).unwrap();
    assert_eq!(beat.report.link.to, (10, 1).into(), "it is still owed");
    // Once it is small enough it is told.
    for user in 1..=30 {
        let mut gone = json!({"guild_id": "1", "channel_id": null, "user_id": user.to_string()});
        gone["deaf"] = json!(false);
        shard.hear("VOICE_STATE_UPDATE", &gone);
    }
    assert!(shard.feed.parcel(false, 1_000).is_none());
    let parcel = shard.feed.parcel(false, 1_001).unwrap();
    assert_eq!(
        parcel.events.iter().map(name).collect::<Vec<_>>(),
        ["1 store_changed 10"]
    );
    assert_eq!(parcel.report.link.to, shard.feed.stream.reached());
}
