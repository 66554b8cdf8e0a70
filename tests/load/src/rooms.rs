//! Rooms over REST: creating and ending at the hub, beside the bare requests to Discord's API that
//! these lead to.

use std::time::Duration;

use proto::rest::{CreateRoom, CreatedRoom, EndedRoom};
use serde::Deserialize;
use serde::de::IgnoredAny;
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::system::System;

/// Rooms of one subject, below what the hub lets a person create in a minute.
const ROOMS_A_SUBJECT: usize = 8;
/// Between two rooms: the hub asks Discord at most 45 times a second, and a room costs two.
const ROOM_EVERY: Duration = Duration::from_millis(60);

/// How long each took, from just before the request is sent until its answer is read, in ms.
#[derive(Debug, Default)]
pub(crate) struct Took {
    /// `POST /api/create-room`.
    pub(crate) create_ms: Vec<f64>,
    /// `DELETE /api/end-room/{channel}`.
    pub(crate) end_ms: Vec<f64>,
    /// `POST /guilds/{guild}/channels` at Discord.
    pub(crate) bare_create_ms: Vec<f64>,
    /// `DELETE /channels/{channel}` at Discord.
    pub(crate) bare_end_ms: Vec<f64>,
}

#[derive(Deserialize)]
struct Channel {
    id: String,
}

/// Creates and ends rooms, one after the other, each followed by its bare counterpart. `prefix`
/// keeps the subjects of different measurements apart.
///
/// # Errors
/// Anything is refused; a refusal is no measurement.
pub(crate) async fn measure(system: &System, prefix: &str, rooms: usize) -> anyhow::Result<Took> {
    let mut tokens = Vec::new();
    for subject in 0..rooms.div_ceil(ROOMS_A_SUBJECT) {
        tokens.push(system.token(&format!("{prefix}-{subject}")).await);
    }
    let mut took = Took::default();
    let mut turn = interval(ROOM_EVERY);
    turn.set_missed_tick_behavior(MissedTickBehavior::Delay);
    for room in 0..rooms {
        turn.tick().await;
        let (token, name) = (&tokens[room / ROOMS_A_SUBJECT], format!("Room {room}"));
        let body = CreateRoom {
            name: Some(name.clone()),
            ..CreateRoom::default()
        };
        let (create, begun) = (system.create_room(token, &body), Instant::now());
        let created: CreatedRoom = create.answer().await?;
        took.create_ms.push(ms_since(begun));
        let (end, begun) = (
            system.end_room(token, &created.channel_id.to_string()),
            Instant::now(),
        );
        let _ended: EndedRoom = end.answer().await?;
        took.end_ms.push(ms_since(begun));

        let (create, begun) = (system.create_channel(&name), Instant::now());
        let channel: Channel = create.answer().await?;
        took.bare_create_ms.push(ms_since(begun));
        let (end, begun) = (system.delete_channel(&channel.id), Instant::now());
        let _deleted: IgnoredAny = end.answer().await?;
        took.bare_end_ms.push(ms_since(begun));
    }
    Ok(took)
}

fn ms_since(begun: Instant) -> f64 {
    begun.elapsed().as_secs_f64() * 1_000.0
}
