//! Planted faults, which a test must find: see [`mutation::planted_fault`].

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use launch::mutation::{self, PlantedFault};
use proto::UserId;
use proto::event::Fact;
use proto::frame::{ViewEvent, VoicePayload};
use roomlog::Change;

use crate::view::View;

/// How many events were sent.
static SENT: AtomicU64 = AtomicU64::new(0);
/// An event that is held back, and for which view.
static HELD: Mutex<Option<(u32, ViewEvent)>> = Mutex::new(None);
/// How many leaks wait for an occasion.
static LEAKING: AtomicU64 = AtomicU64::new(0);

/// The events that a view is sent of a change, with a planted fault now and then.
pub(crate) fn planted(view: &View, change: &Change, events: Vec<ViewEvent>) -> Vec<ViewEvent> {
    let Some((planted, one_in)) = mutation::planted_fault() else {
        return events;
    };
    let nth = SENT.fetch_add(events.len() as u64, Ordering::Relaxed);
    let turn = (nth + events.len() as u64) / one_in > nth / one_in;
    match planted {
        PlantedFault::Drop if turn => events.into_iter().skip(1).collect(),
        PlantedFault::Double if turn => events
            .first()
            .cloned()
            .into_iter()
            .chain(events.clone())
            .collect(),
        PlantedFault::Reorder => hold(view.fingerprint(), events, turn),
        PlantedFault::Leak => leak(change, events, turn),
        PlantedFault::Drop | PlantedFault::Double => events,
    }
}

/// Holds an event back until the view is sent the next event of the same user.
fn hold(view: u32, mut events: Vec<ViewEvent>, turn: bool) -> Vec<ViewEvent> {
    let mut held = HELD.lock().unwrap_or_else(PoisonError::into_inner);
    let due = held.as_ref().is_some_and(|(of, late)| {
        *of == view && events.iter().any(|event| user(event) == user(late))
    });
    if due {
        events.extend(held.take().map(|(_, late)| late));
    } else if turn && held.is_none() && events.len() == 1 && user(&events[0]).is_some() {
        *held = events.pop().map(|event| (view, event));
    }
    events
}

fn user(event: &ViewEvent) -> Option<UserId> {
    match event {
        ViewEvent::VoiceJoined(voice)
        | ViewEvent::VoiceLeft(voice)
        | ViewEvent::VoiceStateChanged(voice) => Some(voice.user_id),
        _ => None,
    }
}

/// Sends the join of a member in a room that the view does not show.
fn leak(change: &Change, mut events: Vec<ViewEvent>, turn: bool) -> Vec<ViewEvent> {
    LEAKING.fetch_add(u64::from(turn), Ordering::Relaxed);
    if events.is_empty()
        && LEAKING.load(Ordering::Relaxed) > 0
        && let Change::Fact(Fact::VoiceJoined(voice)) = change
    {
        LEAKING.fetch_sub(1, Ordering::Relaxed);
        events.push(ViewEvent::VoiceJoined(VoicePayload {
            guild_id: voice.guild_id,
            channel_id: voice.channel_id,
            user_id: voice.user_id,
            member: voice.member.clone(),
            flags: voice.flags,
            moved_to: None,
            moved_from: None,
        }));
    }
    events
}
