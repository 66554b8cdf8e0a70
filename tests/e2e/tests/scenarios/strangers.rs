//! Strangers: connections that have not said who they are.

use world::{Browser, Plan, World, eventually};

#[tokio::test]
async fn an_address_that_holds_all_its_places_keeps_no_other_address_out() {
    let world = World::with(&[
        ("TRUSTED_PROXIES", "127.0.0.0/8, ::1"),
        ("UNAUTHENTICATED_PER_ADDRESS_MAX", "2"),
        ("AUTH_TIMEOUT_MS", "60000"),
    ])
    .await;
    let open = async |forwarded: &str| {
        let headers = [("x-forwarded-for", forwarded)];
        Browser::open_with(&world.hub_url, &headers).await
    };
    let here = "2001:db8:1:2::1";
    let mut held = vec![open(here).await.unwrap(), open(here).await.unwrap()];
    // The whole /64 is one address; what the client itself wrote on the left is not believed.
    for same in [here, "2001:db8:1:2:ffff::9", "203.0.113.9, 2001:db8:1:2::7"] {
        assert_eq!(open(same).await.err(), Some(503), "{same}");
    }
    for other in [
        "2001:db8:1:3::1",
        "203.0.113.9",
        "2001:db8:1:2::1, 203.0.113.10",
    ] {
        held.push(open(other).await.unwrap());
    }
    // Who says who it is leaves its place to the next.
    let token = world.token(serde_json::json!({ "sub": "ada" })).await;
    let auth = serde_json::json!({ "type": "auth", "token": token });
    held[0].send(&auth).await;
    held[0].event("guild.snapshot").await;
    held.push(open(here).await.unwrap());
    assert_eq!(open(here).await.err(), Some(503));
    drop(held);
    eventually("the places are free again", || async {
        open(here).await.ok()
    })
    .await;
    assert!(!world.hub.log().contains("Set TRUSTED_PROXIES"));
}

#[tokio::test]
async fn without_trusted_proxies_a_private_peer_has_no_limit_and_the_hub_says_so_once() {
    let world = World::of(Plan {
        hub: &[("UNAUTHENTICATED_PER_ADDRESS_MAX", "1")],
        ..Plan::default()
    })
    .await;
    let forwarded = [("x-forwarded-for", "203.0.113.9")];
    let mut held = Vec::new();
    for _ in 0..5 {
        held.push(
            Browser::open_with(&world.hub_url, &forwarded)
                .await
                .unwrap(),
        );
    }
    let said = world.hub.log().matches("Set TRUSTED_PROXIES").count();
    assert_eq!(said, 1);
}
