//! The floor of a recovery: a bare accept loop that upgrades to WebSocket and writes the same
//! frames to the same browsers. No tokens, no log, no views: it makes each frame from its number.

use std::sync::Arc;

use futures_util::{SinkExt as _, StreamExt as _};
use proto::frame::ClientFrame;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::io::AsyncReadExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_tungstenite::accept_async;
use tokio_tungstenite::tungstenite::Message;

use super::script::{Play, Step, user};

/// What to serve.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Plan {
    /// Where browsers come in.
    pub(crate) listen: String,
    /// Where it receives the number of events so far, as eight bytes (little-endian).
    pub(crate) control: String,
    /// The guild.
    pub(crate) guild: proto::GuildId,
    /// The rooms.
    pub(crate) rooms: Vec<String>,
    /// The least size of an event's frame.
    pub(crate) frame_bytes: usize,
}

/// Serves until the process is killed.
///
/// # Errors
/// An address is taken.
pub(crate) async fn serve(plan: Plan) -> anyhow::Result<()> {
    let (browsers, control) = (
        TcpListener::bind(&plan.listen).await?,
        TcpListener::bind(&plan.control).await?,
    );
    let rooms: Vec<_> = plan.rooms.iter().map(|_| watch::Sender::new(0)).collect();
    let (plan, rooms) = (Arc::new(plan), Arc::new(rooms));
    let (mut counts, _) = control.accept().await?;
    tokio::spawn({
        let (plan, rooms) = (Arc::clone(&plan), Arc::clone(&rooms));
        async move {
            let play = Play {
                guild: plan.guild,
                rooms: plan.rooms.clone(),
            };
            while let Ok(events) = counts.read_u64_le().await {
                for (room, sent) in rooms.iter().enumerate() {
                    sent.send_if_modified(|sent| {
                        let now = play.events_of(room, events);
                        let more = now > *sent;
                        *sent = now.max(*sent);
                        more
                    });
                }
            }
        }
    });
    loop {
        // One that is gone before it is accepted comes back by itself.
        let Ok((stream, _)) = browsers.accept().await else {
            continue;
        };
        stream.set_nodelay(true)?;
        let (plan, rooms) = (Arc::clone(&plan), Arc::clone(&rooms));
        tokio::spawn(async move { attend(stream, &plan, &rooms).await });
    }
}

/// One browser, from its upgrade to its end.
async fn attend(
    stream: TcpStream,
    plan: &Plan,
    rooms: &[watch::Sender<u64>],
) -> anyhow::Result<()> {
    let mut socket = accept_async(stream).await?;
    let Some(Message::Text(text)) = socket.next().await.transpose()? else {
        return Ok(());
    };
    let ClientFrame::Auth {
        rooms: chosen,
        recover,
        ..
    } = serde_json::from_str(&text)?
    else {
        return Ok(());
    };
    let chosen = chosen.and_then(|rooms| rooms.first().map(ToString::to_string));
    let place = plan
        .rooms
        .iter()
        .position(|room| Some(room) == chosen.as_ref());
    let Some((room, sent)) = place.and_then(|place| Some((place, rooms.get(place)?))) else {
        return Ok(());
    };
    let mut sent = sent.subscribe();
    let pos = recover.and_then(|recover| recover.into_values().next());
    let mut next: u64 = *sent.borrow_and_update();
    let begin = match &pos {
        None => snapshot(room, next),
        Some(pos) => {
            next = pos.parse()?;
            subscribed(true)
        }
    };
    if pos.is_none() {
        socket.send(Message::text(subscribed(false))).await?;
    }
    socket.send(Message::text(begin)).await?;
    let mut n = 0;
    loop {
        let until = *sent.borrow_and_update();
        while next < until {
            n += 1;
            socket
                .send(Message::text(event(plan, room, next, n)))
                .await?;
            next += 1;
        }
        tokio::select! {
            changed = sent.changed() => changed?,
            received = socket.next() => if received.is_none_or(|received| received.is_err()) {
                return Ok(());
            }
        }
    }
}

fn subscribed(recovered: bool) -> String {
    json!({"v": 1, "type": "ack", "event": "subscribed", "recovered": recovered}).to_string()
}

/// Before the first event, everybody who will join the room is in it already.
fn snapshot(room: usize, next: u64) -> String {
    let members: Vec<_> = (next.saturating_sub(super::script::PEOPLE)..next)
        .map(|nth| voice(room, nth))
        .collect();
    let rooms = json!([{"members": members}]);
    json!({"v": 1, "type": "event", "event": "guild.snapshot", "payload": {"rooms": rooms}, "pos": next.to_string(), "n": 0})
        .to_string()
}

fn voice(room: usize, nth: u64) -> serde_json::Value {
    let step = Step::of(nth);
    let mut voice = json!(step.marks());
    voice["userId"] = json!(user(room, step.person).to_string());
    voice
}

fn event(plan: &Plan, room: usize, nth: u64, n: u64) -> String {
    let frame = json!({
        "v": 1, "type": "event", "event": "voice.state_changed",
        "payload": voice(room, nth), "pos": (nth + 1).to_string(), "n": n,
    });
    let mut text = frame.to_string();
    // JSON may be followed by spaces.
    while text.len() < plan.frame_bytes {
        text.push(' ');
    }
    text
}
