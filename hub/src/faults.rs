//! Planted faults, which a test must find: see [`mutation::planted_fault`].

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use launch::mutation::{self, PlantedFault};
use proto::UserId;
use proto::event::Fact;
use proto::frame::{ViewEvent, VoicePayload};
use roomlog::Change;

use crate::view::View;

static TOLD: AtomicU64 = AtomicU64::new(0);
/// An event that is held back, and for which view.
static HELD: Mutex<Option<(u32, ViewEvent)>> = Mutex::new(None);
/// How many leaks wait for an occasion.
static LEAKING: AtomicU64 = AtomicU64::new(0);

/// What a view is told of a change, once in a while spoilt.
pub(crate) fn planted(view: &View, change: &Change, told: Vec<ViewEvent>) -> Vec<ViewEvent> {
    let Some((planted, one_in)) = mutation::planted_fault() else {
        return told;
    };
    let nth = TOLD.fetch_add(told.len() as u64, Ordering::Relaxed);
    let turn = (nth + told.len() as u64) / one_in > nth / one_in;
    match planted {
        PlantedFault::Drop if turn => told.into_iter().skip(1).collect(),
        PlantedFault::Double if turn => told
            .first()
            .cloned()
            .into_iter()
            .chain(told.clone())
            .collect(),
        PlantedFault::Reorder => hold(view.fingerprint(), told, turn),
        PlantedFault::Leak => leak(change, told, turn),
        PlantedFault::Drop | PlantedFault::Double => told,
    }
}

/// Holds an event of a user back until the view was told of that user again.
fn hold(view: u32, mut told: Vec<ViewEvent>, turn: bool) -> Vec<ViewEvent> {
    let mut held = HELD.lock().unwrap_or_else(PoisonError::into_inner);
    let due = held.as_ref().is_some_and(|(of, late)| {
        *of == view && told.iter().any(|event| user(event) == user(late))
    });
    if due {
        told.extend(held.take().map(|(_, late)| late));
    } else if turn && held.is_none() && told.len() == 1 && user(&told[0]).is_some() {
        *held = told.pop().map(|event| (view, event));
    }
    told
}

fn user(event: &ViewEvent) -> Option<UserId> {
    match event {
        ViewEvent::VoiceJoined(voice)
        | ViewEvent::VoiceLeft(voice)
        | ViewEvent::VoiceStateChanged(voice) => Some(voice.user_id),
        _ => None,
    }
}

/// Tells of somebody in a room that the view does not show.
fn leak(change: &Change, mut told: Vec<ViewEvent>, turn: bool) -> Vec<ViewEvent> {
    LEAKING.fetch_add(u64::from(turn), Ordering::Relaxed);
    if told.is_empty()
        && LEAKING.load(Ordering::Relaxed) > 0
        && let Change::Told(Fact::VoiceJoined(voice)) = change
    {
        LEAKING.fetch_sub(1, Ordering::Relaxed);
        told.push(ViewEvent::VoiceJoined(VoicePayload {
            guild_id: voice.guild_id,
            channel_id: voice.channel_id,
            user_id: voice.user_id,
            member: voice.member.clone(),
            flags: voice.flags,
            moved_to: None,
            moved_from: None,
        }));
    }
    told
}
