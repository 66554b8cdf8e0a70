//! Rooms over a kill of the hub, and over a store that cannot be written.

use ::world::{Side, World, eventually};
use rusqlite::Connection;
use serde_json::json;

use super::{
    CREATE, DELETE, OWNED, asked, code, create, end, exists, listed, room, script, until_asked,
    until_listed, world,
};

/// Another program that can lock the hub's store.
fn other_program(world: &World) -> Connection {
    Connection::open(world.folder.file("hub.db")).unwrap()
}

#[tokio::test]
async fn rooms_are_known_after_a_kill_and_can_be_ended() {
    let mut world = world(&[OWNED]).await;
    let ada = || json!({"sub": "ada"});
    let reported = room(&world, "ada").await;
    until_listed(&world, &[(&reported, false)]).await;
    world.kill(Side::Worker).await;
    let (opening, ended) = (room(&world, "ada").await, room(&world, "ada").await);
    assert_eq!(end(&world, ada(), &ended).await.0, 200);
    world.restart_hub().await;
    until_listed(&world, &[(&reported, false), (&opening, true)]).await;
    for channel in [&ended, &reported, &opening] {
        assert_eq!(end(&world, ada(), channel).await.0, 200);
        assert!(!exists(&world, channel).await);
    }
    assert_eq!(asked(&world, DELETE).await, 3, "the ended one is known too");
    // A room is listed until its deletion is reported. One that was never reported is not listed.
    assert_eq!(listed(&world).await, [(reported, false)]);
}

#[tokio::test]
async fn a_room_that_cannot_be_stored_is_not_created_or_is_deleted_again() {
    let world = world(&[OWNED, ("LEDGER_ROOMS_MAX", "1")]).await;
    let other = other_program(&world);
    let before = world.channels().await;
    // The pending create cannot be stored: Discord is not asked. Then the hub knows that nothing can be.
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    for _ in 0..2 {
        let refused = create(&world, "ada", json!({})).await;
        assert_eq!(code(&refused), (503, "UNAVAILABLE"));
    }
    assert_eq!(asked(&world, CREATE).await, 0);
    other.execute_batch("ROLLBACK").unwrap();
    // The room cannot be stored when Discord answers: its channel is deleted again.
    eventually("the store can be written", || async {
        let storing = world.hub_metric("hub_store_failing").await == 0.0;
        storing.then_some(())
    })
    .await;
    script(&world, CREATE, json!({"delayMs": 500})).await;
    let block = async {
        until_asked(&world, CREATE).await;
        other.execute_batch("BEGIN IMMEDIATE").unwrap();
    };
    let (refused, ()) = tokio::join!(create(&world, "ada", json!({})), block);
    assert_eq!(code(&refused), (503, "UNAVAILABLE"));
    assert_eq!(world.channels().await, before, "deleted again");
    other.execute_batch("ROLLBACK").unwrap();
    eventually("the failed create gives its place back", || async {
        (create(&world, "ada", json!({})).await.0 == 201).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_room_that_ended_while_nothing_can_be_stored_is_gone_and_discord_is_asked_once() {
    let mut world = world(&[OWNED]).await;
    world.kill(Side::Worker).await;
    let created = room(&world, "ada").await;
    let other = other_program(&world);
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    for _ in 0..3 {
        assert_eq!(end(&world, json!({"sub": "ada"}), &created).await.0, 200);
        assert_eq!(listed(&world).await, []);
    }
    other.execute_batch("ROLLBACK").unwrap();
    eventually("the end is stored", || async {
        let open = world.hub_metric("hub_rooms_open").await;
        (open == 0.0).then_some(())
    })
    .await;
    assert_eq!(asked(&world, DELETE).await, 1);
}
