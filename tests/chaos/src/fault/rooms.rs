//! The hub is killed at a step of creating or of ending a room. Then its ledger and Discord must
//! agree, but for one channel: the one that Discord created before the room was stored.

use rand::RngExt as _;
use rand::rngs::StdRng;
use reqwest::Method;
use serde_json::{Value, json};
use world::{GUILD, Side};

use super::seen::{PASSED, pause, ready};
use crate::environment::{Environment, has_fault_programs};

/// The steps of creating a room.
pub(super) const CREATE: &[&str] = &["create_begun", "create_answered", "create_stored"];
/// The steps of ending a room.
pub(super) const END: &[&str] = &["end_begun", "end_answered", "end_stored"];

/// A room of a test, and its owner.
struct Room {
    name: String,
    token: String,
}

/// Kills the hub at one of these steps. Where no fail point is built in, the hub is killed at random.
pub(super) async fn killed_at(environment: &mut Environment, steps: &[&str], rng: &mut StdRng) {
    let step = steps[rng.random_range(0..steps.len())];
    let name = format!("killed-{:08x}", rng.random::<u32>());
    let claims = json!({"sub": name, "guilds": [GUILD]});
    let token = environment.world.token(claims).await;
    let room = Room { name, token };
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
    if let Err(wrong) = judge(environment, &room, channel, exact).await {
        environment.complain(format!("killed at {step}: {wrong}"));
    }
}

fn pause_of(rng: &mut StdRng) -> std::time::Duration {
    std::time::Duration::from_millis(rng.random_range(0..30))
}

/// Judges what is left, and ends it.
async fn judge(
    environment: &Environment,
    room: &Room,
    ended: Option<String>,
    step: Option<&str>,
) -> Result<(), String> {
    let left = room.channel(environment).await;
    let is_left = match step {
        Some("create_begun" | "end_answered" | "end_stored") => Some(false),
        Some("create_answered" | "create_stored" | "end_begun") => Some(true),
        _ => None,
    };
    if is_left.is_some_and(|is_left| is_left != left.is_some()) {
        return Err(format!("the channel at Discord is {left:?}"));
    }
    let Some(channel) = left.clone().or(ended.clone()) else {
        return Ok(());
    };
    let status = end(environment, room, &channel).await;
    match (status, step) {
        (Some(200), step) if step != Some("create_answered") => {}
        // The one orphan: it is not Roomwire's own, and staff deletes it.
        (Some(404), None | Some("create_answered")) if ended.is_none() => {
            environment.world.discord.delete_channel(&channel).await;
        }
        (status, _) => return Err(format!("ending the room is answered {status:?}")),
    }
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
    let request = request.bearer_auth(&room.token).json(&body);
    Some(request.send().await.ok()?.status().as_u16())
}
