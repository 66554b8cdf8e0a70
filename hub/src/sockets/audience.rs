//! Who watches one guild, and through which views; and which views' past is kept, and for how long.
//!
//! Pure but for the outboxes of those who watch.

use std::collections::HashMap;
use std::sync::Arc;

use super::fanout::{ConnectionId, FanoutLimits};
use super::history::History;
use super::pen::Pen;
use super::watched::{Kept, Watched, Watcher};
use crate::positions::Positions;
use crate::view::View;

/// How often what is not used any more is looked for, in ms.
const SWEEP_EVERY_MS: u64 = 1_000;

/// The views of one guild.
#[derive(Default)]
pub(super) struct Audience {
    views: HashMap<Arc<View>, Watched>,
    /// What each connection watches.
    watching: HashMap<ConnectionId, Arc<View>>,
    swept_ms: u64,
}

impl Audience {
    /// Every view that somebody watches, or whose past is kept.
    pub(super) fn views(&mut self) -> impl Iterator<Item = (&View, &mut Watched)> {
        self.views
            .iter_mut()
            .map(|(view, watched)| (&**view, watched))
    }

    /// Whether a connection watches a view of the guild.
    pub(super) fn watches(&self, connection: ConnectionId) -> bool {
        self.watching.contains_key(&connection)
    }

    /// Whether this view may be among the guild's. One that is only remembered makes place.
    pub(super) fn make_way(&mut self, view: &View, limits: &FanoutLimits) -> bool {
        if self.views.len() < limits.views_per_guild_max || self.views.contains_key(view) {
            return true;
        }
        self.views.retain(|_, watched| !watched.watchers.is_empty());
        self.views.len() < limits.views_per_guild_max
    }

    /// A view, which is among the guild's from now on.
    pub(super) fn view(&mut self, view: &View, positions: &Positions) -> &mut Watched {
        self.shared(view, positions).1
    }

    /// A connection watches this view from now on, and none else.
    pub(super) fn enter(
        &mut self,
        connection: ConnectionId,
        watcher: Watcher,
        view: &View,
        positions: &Positions,
    ) {
        self.leave(connection);
        let (shared, watched) = self.shared(view, positions);
        watched.watchers.insert(connection, watcher);
        self.watching.insert(connection, shared);
    }

    /// A connection watches nothing of the guild any more.
    pub(super) fn leave(&mut self, connection: ConnectionId) {
        let Some(view) = self.watching.remove(&connection) else {
            return;
        };
        if let Some(watched) = self.views.get_mut(&view) {
            watched.watchers.remove(&connection);
            if !watched.is_of_use() {
                self.views.remove(&view);
            }
        }
    }

    /// The past of a view, as far as it is kept, for use now.
    pub(super) fn history(&mut self, view: &View, now_ms: u64) -> Option<&History> {
        let kept = self.views.get_mut(view)?.history.as_mut()?;
        kept.used_ms = now_ms;
        Some(&kept.history)
    }

    /// Keeps the past of a view, which ends where the fan-out is.
    pub(super) fn keep(
        &mut self,
        view: &View,
        history: History,
        limits: &FanoutLimits,
        positions: &Positions,
        now_ms: u64,
    ) {
        if !self.make_way(view, limits) {
            return;
        }
        self.view(view, positions).history = Some(Kept::new(history, now_ms));
        let kept = |watched: &&mut Watched| watched.history.is_some();
        if self.views.values_mut().filter(kept).count() <= limits.histories_per_guild_max {
            return;
        }
        let others = self.views.iter_mut().filter(|(other, _)| ***other != *view);
        let oldest = others
            .filter_map(|(_, watched)| Some((watched.history.as_ref()?.used_ms, watched)))
            .min_by_key(|(used_ms, _)| *used_ms);
        if let Some((_, watched)) = oldest {
            watched.history = None;
        }
    }

    /// Drops what nobody used for a while.
    pub(super) fn sweep(&mut self, limits: &FanoutLimits, now_ms: u64) {
        if now_ms.saturating_sub(self.swept_ms) < SWEEP_EVERY_MS {
            return;
        }
        self.swept_ms = now_ms;
        for watched in self.views.values_mut() {
            watched.sweep(limits.history_idle_ms, now_ms);
        }
        self.views.retain(|_, watched| watched.is_of_use());
    }

    fn shared(&mut self, view: &View, positions: &Positions) -> (Arc<View>, &mut Watched) {
        let shared = match self.views.get_key_value(view) {
            Some((shared, _)) => Arc::clone(shared),
            None => Arc::new(view.clone()),
        };
        let watched = self
            .views
            .entry(Arc::clone(&shared))
            .or_insert_with(|| Watched::new(Pen::new(positions, view)));
        (shared, watched)
    }
}
