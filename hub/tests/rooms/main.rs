//! Rooms over both of their endpoints: the answers of REST and of the slash commands, and the state of
//! Discord afterwards.
#![expect(
    clippy::unwrap_used,
    reason = "the steps that tests share may fail like tests"
)]

mod commands;
mod invites;
mod keys;
mod rest;
mod store;

use ::world::{Plan, World, eventually};
use reqwest::Method;
use serde_json::{Value, json};

const CREATE: &str = "POST /guilds/*/channels";
const DELETE: &str = "DELETE /channels/*";
/// Lists contain Roomwire's own rooms alone.
const OWNED: (&str, &str) = ("ROOMS_SHOWN", "owned");

/// A world with these settings of the hub. Neither the hub nor Discord limits a rate by itself.
async fn world(hub: &[(&str, &str)]) -> World {
    World::of(Plan {
        hub: &[&[("CREATE_ROOMS_PER_MINUTE", "1000")], hub].concat(),
        sim: &[("SIM_ROUTE_REQUESTS", "1000"), ("SIM_GLOBAL_PER_S", "1000")],
        ..Plan::default()
    })
    .await
}

/// A status and a body.
type Answer = (u16, Value);

fn code((status, body): &Answer) -> (u16, &str) {
    (*status, body["code"].as_str().unwrap_or_default())
}

/// The names of the wrong fields, in order.
fn fields((_, body): &Answer) -> Vec<&str> {
    let errors = body["errors"].as_array().unwrap().iter();
    errors
        .map(|error| error["field"].as_str().unwrap())
        .collect()
}

/// All of an answer that may not differ between what is hidden and what is absent.
fn without_request_id(mut answer: Answer) -> Answer {
    assert!(answer.1["requestId"].take().is_string());
    answer
}

async fn create(world: &World, sub: &str, room: Value) -> Answer {
    let claims = json!({ "sub": sub });
    let made = world.rest(Method::POST, "/api/create-room", claims, Some(room));
    let (status, body) = made.await;
    (status.as_u16(), body)
}

/// Creates a room that must be created, and returns its channel.
async fn room(world: &World, sub: &str) -> String {
    let (status, created) = create(world, sub, json!({})).await;
    assert_eq!(status, 201, "{created}");
    created["channelId"].as_str().unwrap().to_owned()
}

async fn end(world: &World, claims: Value, channel: &str) -> Answer {
    let path = format!("/api/end-room/{channel}");
    let (status, body) = world.rest(Method::DELETE, &path, claims, None).await;
    (status.as_u16(), body)
}

/// The channels of a list, and which of them are opening.
async fn listed(world: &World) -> Vec<(String, bool)> {
    let claims = json!({ "sub": "reader" });
    let (status, list) = world.rest(Method::GET, "/api/rooms", claims, None).await;
    assert_eq!(status, 200, "{list}");
    let rooms = list["rooms"].as_array().unwrap().iter();
    let room = |room: &Value| (text(&room["channelId"]), room["opening"] == true);
    rooms.map(room).collect()
}

/// Waits until the list is this one.
async fn until_listed(world: &World, rooms: &[(&String, bool)]) {
    eventually("the list is another", || async {
        let listed = listed(world).await;
        let expected = rooms
            .iter()
            .map(|(room, opening)| ((*room).clone(), *opening));
        expected.eq(listed).then_some(())
    })
    .await;
}

fn text(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}

async fn exists(world: &World, channel: &str) -> bool {
    world.channels().await.get(channel).is_some()
}

/// How often Discord was asked for a route.
async fn asked(world: &World, route: &str) -> u64 {
    let count = world.truth().await["counters"]["rest"][route].as_u64();
    count.unwrap_or(0)
}

async fn until_asked(world: &World, route: &str) {
    eventually("Discord is asked", || async {
        (asked(world, route).await > 0).then_some(())
    })
    .await;
}

/// What Discord's REST does to the next request of a route.
async fn script(world: &World, route: &str, mut fault: Value) {
    fault["match"] = json!(route);
    world.control("rest", fault).await;
}
