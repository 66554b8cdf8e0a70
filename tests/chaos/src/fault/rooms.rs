//! The hub is killed at a step of creating or of ending a room. Then its ledger and Discord must
//! agree: a create whose request can be repeated has its room, any other one has left no channel that
//! is not a room.

use std::time::Duration;

use rand::RngExt as _;
use rand::rngs::StdRng;
use reqwest::Method;
use serde_json::{Value, json};
use world::{GUILD, Side, within_async};

use super::seen::{PASSED, pause, ready};
use crate::environment::{Environment, has_fault_programs};

/// The steps of creating a room.
pub(super) const CREATE: &[&str] = &["create_begun", "create_answered", "create_stored"];
/// The steps of ending a room.
pub(super) const END: &[&str] = &["end_begun", "end_answered", "end_stored"];

/// Within this time a create of unknown outcome is found out. The hub of these tests waits 2 s for a
/// channel that may still come (`DISCORD_SETTLE_MS`), and looks again after some seconds at most.
const FOUND_OUT: Duration = Duration::from_secs(20);

/// A room of a test, and its owner.
struct Room {
    name: String,
    token: String,
    /// The request's key.
    key: Option<String>,
}

/// Kills the hub at one of these steps. Where no fail point is built in, the hub is killed at random.
pub(super) async fn killed_at(environment: &mut Environment, steps: &[&str], rng: &mut StdRng) {
    let step = steps[rng.random_range(0..steps.len())];
    let name = format!("killed-{:08x}", rng.random::<u32>());
    let claims = json!({"sub": name, "guilds": [GUILD]});
    let token = environment.world.token(claims).await;
    let key = rng.random::<bool>().then(|| format!("key-{name}"));
    let room = Room { name, token, key };
    let mut channel = None;
    if steps == END {
        ready(environment, true).await;
        let status = create(environment, &room).await;
        channel = room.channel(environment).await;
        if status != Some(201) || channel.is_none() {
            return environment.complain(format!(
                "no room was created that could be ended: {status:?} {channel:?}"
            ));
        }
    }
    if has_fault_programs() {
        environment.kill(Side::Hub).await;
        let point = format!("{step}:1");
        environment.restart(Side::Hub, &[("FAIL_POINT", &point)]);
        ready(environment, true).await;
    }
    let asked = async {
        match &channel {
            None => create(environment, &room).await,
            Some(channel) => end(environment, &room, channel).await,
        }
    };
    if has_fault_programs() {
        let status = asked.await;
        if !environment.ended(Side::Hub, PASSED).await {
            environment.complain(format!(
                "the hub never passed its fail point {step}, and answered {status:?}"
            ));
        }
    } else {
        let _asked = tokio::time::timeout(pause_of(rng), asked).await;
    }
    environment.kill(Side::Hub).await;
    pause(rng.random_range(0..600)).await;
    environment.disarm(Side::Hub);
    ready(environment, true).await;
    let exact = has_fault_programs().then_some(step);
    let judged = match channel {
        Some(channel) => judge_end(environment, &room, &channel, exact).await,
        None => judge_create(environment, &room, exact).await,
    };
    if let Err(wrong) = judged {
        let key = &room.key;
        environment.complain(format!("killed at {step}, key {key:?}: {wrong}"));
    }
}

fn pause_of(rng: &mut StdRng) -> Duration {
    Duration::from_millis(rng.random_range(0..30))
}

/// Judges what is left of a room that was to end, and ends it.
async fn judge_end(
    environment: &Environment,
    room: &Room,
    channel: &str,
    step: Option<&str>,
) -> Result<(), String> {
    let left = room.channel(environment).await;
    let is_left = step.map(|step| step == "end_begun");
    if is_left.is_some_and(|is_left| is_left != left.is_some()) {
        return Err(format!("the channel at Discord is {left:?}"));
    }
    expect_ended(environment, room, channel).await
}

/// Judges what is left of a room that was being created, and ends it.
async fn judge_create(
    environment: &Environment,
    room: &Room,
    step: Option<&str>,
) -> Result<(), String> {
    if room.key.is_some() {
        let answered = within_async(FOUND_OUT, || async {
            create(environment, room).await == Some(201)
        });
        if !answered.await {
            return Err("the request, repeated, gets no room".to_owned());
        }
    }
    let known = within_async(FOUND_OUT, || async {
        environment.world.hub_metric("hub_creates_pending").await == 0.0
    });
    if !known.await {
        return Err("the outcome of the create is not found out".to_owned());
    }
    let left = room.channel(environment).await;
    let is_left = match step {
        _ if room.key.is_some() => Some(true),
        Some("create_begun" | "create_answered") => Some(false),
        Some(_) => Some(true),
        None => None,
    };
    if is_left.is_some_and(|is_left| is_left != left.is_some()) {
        return Err(format!("the channel at Discord is {left:?}"));
    }
    match left {
        Some(channel) => expect_ended(environment, room, &channel).await,
        None => Ok(()),
    }
}

async fn expect_ended(environment: &Environment, room: &Room, channel: &str) -> Result<(), String> {
    let status = end(environment, room, channel).await;
    if status != Some(200) {
        return Err(format!("ending the room is answered {status:?}"));
    }
    // One request never makes two rooms.
    match room.channel(environment).await {
        None => Ok(()),
        Some(channel) => Err(format!("the channel {channel} is still there")),
    }
}

impl Room {
    /// Its channel at Discord.
    async fn channel(&self, environment: &Environment) -> Option<String> {
        let channels = environment.world.discord.channels().await;
        let mut channels = channels.as_object()?.iter();
        let (id, _) = channels.find(|(_, channel)| channel["name"] == self.name.as_str())?;
        Some(id.clone())
    }
}

async fn create(environment: &Environment, room: &Room) -> Option<u16> {
    let body = json!({"name": room.name});
    ask(environment, room, Method::POST, "create-room", body).await
}

async fn end(environment: &Environment, room: &Room, channel: &str) -> Option<u16> {
    let path = format!("end-room/{channel}");
    ask(environment, room, Method::DELETE, &path, json!({})).await
}

/// The status of the answer. None: the hub is killed before it answers.
async fn ask(
    environment: &Environment,
    room: &Room,
    method: Method,
    path: &str,
    body: Value,
) -> Option<u16> {
    let url = format!("{}/api/{path}", environment.world.hub_url);
    let request = environment.world.http.request(method, url);
    let mut request = request.bearer_auth(&room.token).json(&body);
    if let Some(key) = room.key.as_ref().filter(|_| path == "create-room") {
        request = request.header("Idempotency-Key", key);
    }
    Some(request.send().await.ok()?.status().as_u16())
}
