//! Fail points, at which a test has this process killed, and planted faults, which a test must find.
//!
//! Only in a build with the feature `faults`, and only if its environment asks:
//!
//! - `FAIL_POINT=name:n` ends the process, as by SIGKILL, at the n-th passage of that point:
//!   `verified` (a delivery is truly signed, nothing is done), `stored` (its events are durable,
//!   nobody was told), `published` (browsers were told, the worker was not answered).
//! - `PLANTED_FAULT=drop|double|reorder|leak` with `PLANTED_ONE_IN=n` spoils one in n of what views
//!   are told: it is left out, said twice, said after the next event of the same user, or said
//!   although the view does not show it.
//!
//! Without the feature this is nothing.

#[cfg(not(feature = "faults"))]
pub(crate) use absent::{pass, planted};
#[cfg(feature = "faults")]
pub(crate) use present::{pass, planted};

#[cfg(not(feature = "faults"))]
mod absent {
    use proto::frame::ViewEvent;

    use crate::log::Change;
    use crate::view::View;

    /// Passes a fail point.
    #[inline]
    pub(crate) fn pass(_point: &str) {}

    /// What a view is told of a change.
    #[inline]
    pub(crate) fn planted(_view: &View, _change: &Change, told: Vec<ViewEvent>) -> Vec<ViewEvent> {
        told
    }
}

#[cfg(feature = "faults")]
mod present {
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::sync::{Mutex, OnceLock, PoisonError};

    use proto::UserId;
    use proto::event::Fact;
    use proto::frame::{ViewEvent, VoicePayload};

    use crate::log::Change;
    use crate::view::View;

    /// What the environment asks for.
    struct Asked {
        point: Option<(String, u64)>,
        planted: Option<(Planted, u64)>,
    }

    #[derive(Clone, Copy, PartialEq, Eq)]
    enum Planted {
        Drop,
        Double,
        Reorder,
        Leak,
    }

    // Of the process, as its environment is: a test plants a fault once, at the start.
    static ASKED: OnceLock<Asked> = OnceLock::new();
    static PASSED: AtomicU64 = AtomicU64::new(0);
    static TOLD: AtomicU64 = AtomicU64::new(0);
    /// What waits to be told too late, and to which view; a leak that waits for its occasion.
    static HELD: Mutex<Option<(u32, ViewEvent)>> = Mutex::new(None);
    static LEAKING: AtomicU64 = AtomicU64::new(0);

    fn asked() -> &'static Asked {
        #[expect(
            clippy::disallowed_methods,
            reason = "no setting of the program: its settings know nothing of faults"
        )]
        let variable = |name: &str| std::env::var(name).ok();
        ASKED.get_or_init(|| {
            let point = variable("FAIL_POINT").and_then(|asked| {
                let (name, nth) = asked.split_once(':')?;
                Some((name.to_owned(), nth.parse().ok()?))
            });
            let planted = variable("PLANTED_FAULT").and_then(|planted| {
                Some(match planted.as_str() {
                    "drop" => Planted::Drop,
                    "double" => Planted::Double,
                    "reorder" => Planted::Reorder,
                    "leak" => Planted::Leak,
                    _ => return None,
                })
            });
            let one_in = variable("PLANTED_ONE_IN").and_then(|one_in| one_in.parse().ok());
            Asked {
                point,
                planted: planted.zip(one_in),
            }
        })
    }

    /// Passes a fail point.
    pub(crate) fn pass(point: &str) {
        if let Some((name, nth)) = &asked().point
            && name == point
            && PASSED.fetch_add(1, Ordering::Relaxed) + 1 == *nth
        {
            // Nothing is flushed, closed or told on the way: this is the end.
            let _killed = rustix::process::kill_process(
                rustix::process::getpid(),
                rustix::process::Signal::KILL,
            );
        }
    }

    /// What a view is told of a change, once in a while spoilt.
    pub(crate) fn planted(view: &View, change: &Change, told: Vec<ViewEvent>) -> Vec<ViewEvent> {
        let Some((planted, one_in)) = asked().planted else {
            return told;
        };
        let nth = TOLD.fetch_add(told.len() as u64, Ordering::Relaxed);
        let turn = (nth + told.len() as u64) / one_in > nth / one_in;
        match planted {
            Planted::Drop if turn => told.into_iter().skip(1).collect(),
            Planted::Double if turn => told
                .first()
                .cloned()
                .into_iter()
                .chain(told.clone())
                .collect(),
            Planted::Reorder => hold(view.fingerprint(), told, turn),
            Planted::Leak => leak(change, told, turn),
            Planted::Drop | Planted::Double => told,
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
}
