//! The view groups of one guild, and the group of each connection.
//!
//! Pure but for the outboxes of the subscribers.

use std::collections::HashMap;
use std::sync::Arc;

use super::frame_encoder::FrameEncoder;
use super::history::History;
use super::limits::FanoutLimits;
use super::registry::ConnectionId;
use super::view_group::{KeptHistory, Subscriber, ViewGroup};
use crate::positions::Positions;
use crate::view::View;

/// The time between two searches for unused groups, in ms.
const SWEEP_EVERY_MS: u64 = 1_000;

/// The subscriptions of one guild.
pub(super) struct Subscriptions {
    groups: HashMap<Arc<View>, ViewGroup>,
    /// The view that each connection subscribes to.
    views: HashMap<ConnectionId, Arc<View>>,
    swept_ms: u64,
    positions: Positions,
    limits: FanoutLimits,
}

impl Subscriptions {
    /// No subscriptions.
    pub(super) fn new(positions: Positions, limits: FanoutLimits) -> Self {
        Self {
            groups: HashMap::new(),
            views: HashMap::new(),
            swept_ms: 0,
            positions,
            limits,
        }
    }

    /// Every view that has subscribers or a history.
    pub(super) fn groups(&mut self) -> impl Iterator<Item = (&View, &mut ViewGroup)> {
        self.groups.iter_mut().map(|(view, group)| (&**view, group))
    }

    /// Whether a connection has a subscription to the guild.
    pub(super) fn contains(&self, connection: ConnectionId) -> bool {
        self.views.contains_key(&connection)
    }

    /// Whether the guild's bound of views allows this one. Views without subscribers are evicted
    /// for it.
    pub(super) fn make_room(&mut self, view: &View) -> bool {
        let views_max = self.limits.views_per_guild_max;
        if self.groups.len() < views_max || self.groups.contains_key(view) {
            return true;
        }
        self.groups.retain(|_, group| !group.subscribers.is_empty());
        self.groups.len() < views_max
    }

    /// The group of a view, which exists from now on.
    pub(super) fn group(&mut self, view: &View) -> &mut ViewGroup {
        self.entry(view).1
    }

    /// Subscribes a connection to this view, and to no other one of the guild.
    pub(super) fn add(&mut self, connection: ConnectionId, subscriber: Subscriber, view: &View) {
        self.remove(connection);
        let (view, group) = self.entry(view);
        group.subscribers.insert(connection, subscriber);
        self.views.insert(connection, view);
    }

    /// Ends the subscription of a connection.
    pub(super) fn remove(&mut self, connection: ConnectionId) {
        let Some(view) = self.views.remove(&connection) else {
            return;
        };
        if let Some(group) = self.groups.get_mut(&view) {
            group.subscribers.remove(&connection);
            if !group.is_used() {
                self.groups.remove(&view);
            }
        }
    }

    /// The kept history of a view, for use now.
    pub(super) fn history(&mut self, view: &View, now_ms: u64) -> Option<&History> {
        let kept = self.groups.get_mut(view)?.history.as_mut()?;
        kept.used_ms = now_ms;
        Some(&kept.history)
    }

    /// Keeps the history of a view, which ends where the fan-out stands. The least recently used
    /// history beyond the bound is dropped.
    pub(super) fn keep_history(&mut self, view: &View, history: History, now_ms: u64) {
        if !self.make_room(view) {
            return;
        }
        self.group(view).history = Some(KeptHistory::new(history, now_ms));
        let histories = self.groups.values().filter(|group| group.history.is_some());
        if histories.count() <= self.limits.histories_per_guild_max {
            return;
        }
        let others = self
            .groups
            .iter_mut()
            .filter(|(other, _)| ***other != *view);
        let oldest = others
            .filter_map(|(_, group)| Some((group.history.as_ref()?.used_ms, group)))
            .min_by_key(|(used_ms, _)| *used_ms);
        if let Some((_, group)) = oldest {
            group.history = None;
        }
    }

    /// Drops the histories, snapshots and groups that were not used for a while.
    pub(super) fn sweep(&mut self, now_ms: u64) {
        if now_ms.saturating_sub(self.swept_ms) < SWEEP_EVERY_MS {
            return;
        }
        self.swept_ms = now_ms;
        for group in self.groups.values_mut() {
            group.sweep(self.limits.history_idle_ms, now_ms);
        }
        self.groups.retain(|_, group| group.is_used());
    }

    fn entry(&mut self, view: &View) -> (Arc<View>, &mut ViewGroup) {
        let shared = match self.groups.get_key_value(view) {
            Some((shared, _)) => Arc::clone(shared),
            None => Arc::new(view.clone()),
        };
        let group = self
            .groups
            .entry(Arc::clone(&shared))
            .or_insert_with(|| ViewGroup::new(FrameEncoder::new(&self.positions, view)));
        (shared, group)
    }
}
