//! From one guild's log to the connections that watch it: an event is encoded once for each view
//! in which it is visible, and the same bytes go to every connection of that view.
//!
//! A guild's fan-out is one follower of its log, with its own copy of the state. Subscribing and
//! passing on an event take the same lock, so that a snapshot and what follows it have no gap
//! and no overlap.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use bytes::Bytes;
use proto::GuildId;
use proto::event::Fact;
use proto::frame::{EventFrame, FRAME_VERSION, SnapshotPayload, ViewEvent};
use proto::gateway::GatewayPayload;
use proto::position::{Position, PositionKey};
use tokio::sync::broadcast::error::RecvError;
use tokio_util::sync::CancellationToken;

use super::outbox::{Frame, Outbox, unnumbered};
use crate::freshness::Freshness;
use crate::log::{Change, Entry, Following, GuildState, Log, Place};
use crate::view::{Before, View};

/// Names one connection of this hub.
pub type ConnectionId = u64;

/// A guild has as many different views as it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooManyViews;

/// The fan-out of all guilds. A clone is a reference.
#[derive(Clone)]
pub struct Fanout(Arc<Shared>);

struct Shared {
    guilds: BTreeMap<GuildId, Mutex<GuildFanout>>,
    freshness: Freshness,
    positions: PositionKey,
    views_max: usize,
    started: Instant,
}

struct GuildFanout {
    place: Place,
    state: GuildState,
    views: HashMap<View, Watched>,
    /// What viewers were last told of the guild's freshness, and when.
    told: GatewayPayload,
    told_ms: u64,
    /// The freshness is another, and is told once the fan-out has come to this place: what made
    /// it so comes first.
    fresher_at: Option<Place>,
}

/// A view that somebody watches.
struct Watched {
    fingerprint: u32,
    watchers: HashMap<ConnectionId, Watcher>,
}

struct Watcher {
    outbox: Outbox,
    /// The number of its next numbered frame.
    n: u64,
}

impl Fanout {
    /// A fan-out that follows these logs from where they stand; [`Fanout::run`] passes on what comes.
    pub fn new(
        log: &Log,
        guilds: &[GuildId],
        freshness: Freshness,
        positions: PositionKey,
        views_max: usize,
    ) -> (Self, Vec<(GuildId, Following)>) {
        let mut followed = Vec::new();
        let mut fanouts = BTreeMap::new();
        for guild in guilds {
            if let Some(following) = log.follow(*guild) {
                let fanout = GuildFanout {
                    place: following.place,
                    state: following.state.clone(),
                    views: HashMap::new(),
                    told: freshness.of(*guild, 0),
                    told_ms: 0,
                    fresher_at: None,
                };
                fanouts.insert(*guild, Mutex::new(fanout));
                followed.push((*guild, following));
            }
        }
        let shared = Shared {
            guilds: fanouts,
            freshness,
            positions,
            views_max,
            started: Instant::now(),
        };
        (Self(Arc::new(shared)), followed)
    }

    /// Passes on one guild's events until `shutdown`.
    pub async fn run(
        self,
        guild: GuildId,
        mut following: Following,
        log: Log,
        shutdown: CancellationToken,
    ) {
        loop {
            let received = tokio::select! {
                received = following.entries.recv() => received,
                () = shutdown.cancelled() => return,
            };
            match received {
                Ok(entry) => self.pass_on(guild, &entry),
                Err(RecvError::Lagged(missed)) => {
                    tracing::warn!(%guild, missed, "fan-out fell behind the log; its viewers get a snapshot");
                    metrics::counter!("hub_fanout_lagged_total").increment(1);
                    let Some(anew) = log.follow(guild) else {
                        return;
                    };
                    self.begin_anew(guild, &anew);
                    following = anew;
                }
                Err(RecvError::Closed) => return,
            }
        }
    }

    /// Adds a connection to a view: pushes what `opening` makes of the position, then the snapshot.
    ///
    /// # Errors
    /// When the guild has as many different views as it may: each event costs each of them.
    /// What the connection watched there before goes on.
    pub fn subscribe(
        &self,
        connection: ConnectionId,
        view: &View,
        outbox: &Outbox,
        reason: &str,
        opening: impl FnOnce(String) -> Frame,
    ) -> Result<(), TooManyViews> {
        let Some(mut fanout) = self.lock(view.guild()) else {
            return Ok(());
        };
        if fanout.views.len() >= self.0.views_max && !fanout.views.contains_key(view) {
            metrics::counter!("hub_fanout_views_full_total").increment(1);
            return Err(TooManyViews);
        }
        fanout.forget(connection);
        let fingerprint = view.fingerprint();
        let place = fanout.place;
        outbox.push(opening(self.position(place, 0, fingerprint)));
        outbox.push(Frame::numbered(
            self.snapshot(&fanout, view, fingerprint, reason),
            0,
        ));
        let watched = fanout.views.entry(view.clone()).or_insert_with(|| Watched {
            fingerprint,
            watchers: HashMap::new(),
        });
        watched.watchers.insert(
            connection,
            Watcher {
                outbox: outbox.clone(),
                n: 1,
            },
        );
        Ok(())
    }

    /// Takes a connection from a guild, whatever it watched there.
    pub fn unsubscribe(&self, connection: ConnectionId, guild: GuildId) {
        if let Some(mut fanout) = self.lock(guild) {
            fanout.forget(connection);
        }
    }

    /// Tells viewers of guilds whose freshness changed, after what the log holds already. Not
    /// numbered: it is no event of the guild's log.
    pub fn tell_freshness(&self, log: &Log, changed: &[GuildId]) {
        for guild in changed {
            let Some(mut fanout) = self.lock(*guild) else {
                continue;
            };
            fanout.fresher_at = log.read(*guild, |_, place| place);
            self.tell_freshness_if_due(*guild, &mut fanout);
        }
    }

    fn tell_freshness_if_due(&self, guild: GuildId, fanout: &mut GuildFanout) {
        if fanout.fresher_at.is_none_or(|at| fanout.place < at) {
            return;
        }
        fanout.fresher_at = None;
        let payload = self.gateway(guild);
        if (payload.state, &payload.reason) == (fanout.told.state, &fanout.told.reason) {
            return;
        }
        (fanout.told, fanout.told_ms) = (payload.clone(), self.elapsed_ms());
        let body = Bytes::from(encode(&EventFrame {
            v: FRAME_VERSION,
            event: ViewEvent::GatewayState(payload),
            guild_id: guild,
            pos: None,
            ts: launch::clock::now_ms(),
            n: None,
        }));
        let views = fanout.views.values();
        for watcher in views.flat_map(|watched| watched.watchers.values()) {
            watcher.outbox.push(Frame::whole(body.clone()));
        }
    }

    /// How fresh what the fan-out has come to is: what viewers were told, with its age.
    fn told(&self, guild: GuildId, fanout: &GuildFanout) -> GatewayPayload {
        let now = self.gateway(guild);
        if now.state == fanout.told.state {
            return now;
        }
        let since_ms = self.elapsed_ms().saturating_sub(fanout.told_ms);
        GatewayPayload {
            age_ms: fanout.told.age_ms + since_ms,
            ..fanout.told.clone()
        }
    }

    /// How fresh a guild is.
    pub fn gateway(&self, guild: GuildId) -> GatewayPayload {
        self.0.freshness.of(guild, self.elapsed_ms())
    }

    /// Milliseconds since this hub started: the clock of its freshness.
    pub fn elapsed_ms(&self) -> u64 {
        u64::try_from(self.0.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// A position of a view, sealed.
    pub fn position(&self, place: Place, step: u32, view: u32) -> String {
        let position = Position {
            epoch: place.epoch,
            offset: place.offset,
            step,
            view,
        };
        self.0
            .positions
            .seal(position, rand::Rng::next_u64(&mut rand::rng()))
    }

    fn pass_on(&self, guild: GuildId, entry: &Entry) {
        let Some(mut fanout) = self.lock(guild) else {
            return;
        };
        let before = Before::of(&fanout.state, &entry.change);
        fanout.state.apply(&entry.change);
        fanout.place = entry.place;
        if let Change::Told(Fact::Snapshot(roster)) = &entry.change {
            self.snapshot_all(&mut fanout, &roster.reason);
        } else {
            self.pass_on_in_views(guild, &mut fanout, &before, entry);
        }
        self.tell_freshness_if_due(guild, &mut fanout);
    }

    fn pass_on_in_views(
        &self,
        guild: GuildId,
        fanout: &mut GuildFanout,
        before: &Before,
        entry: &Entry,
    ) {
        for (view, watched) in &mut fanout.views {
            let events = view.project(before, &fanout.state, &entry.change);
            let of = events.len();
            for (index, event) in events.into_iter().enumerate() {
                // Only with its last frame is an entry behind a viewer.
                let (offset, step) = if index + 1 == of {
                    (entry.place.offset, 0)
                } else {
                    (
                        entry.place.offset - 1,
                        u32::try_from(index + 1).unwrap_or(u32::MAX),
                    )
                };
                let place = Place {
                    offset,
                    ..entry.place
                };
                let frame = EventFrame {
                    v: FRAME_VERSION,
                    event,
                    guild_id: guild,
                    pos: Some(self.position(place, step, watched.fingerprint)),
                    ts: entry.ts,
                    n: None,
                };
                watched.tell(&unnumbered(encode(&frame)));
            }
        }
    }

    fn begin_anew(&self, guild: GuildId, following: &Following) {
        if let Some(mut fanout) = self.lock(guild) {
            fanout.place = following.place;
            fanout.state.clone_from(&following.state);
            self.snapshot_all(&mut fanout, "behind");
            self.tell_freshness_if_due(guild, &mut fanout);
        }
    }

    fn snapshot_all(&self, fanout: &mut GuildFanout, reason: &str) {
        let mut views = std::mem::take(&mut fanout.views);
        for (view, watched) in &mut views {
            let body = self.snapshot(fanout, view, watched.fingerprint, reason);
            for watcher in watched.watchers.values_mut() {
                watcher.n = 0;
            }
            watched.tell(&body);
        }
        fanout.views = views;
    }

    fn snapshot(&self, fanout: &GuildFanout, view: &View, fingerprint: u32, reason: &str) -> Bytes {
        let guild_id = view.guild();
        let payload = SnapshotPayload {
            guild_id,
            reason: reason.to_owned(),
            rooms: view.rooms(&fanout.state),
            gateway: self.told(guild_id, fanout),
            part: None,
            of: None,
        };
        metrics::counter!("hub_fanout_snapshots_total").increment(1);
        unnumbered(encode(&EventFrame {
            v: FRAME_VERSION,
            event: ViewEvent::Snapshot(payload),
            guild_id,
            pos: Some(self.position(fanout.place, 0, fingerprint)),
            ts: launch::clock::now_ms(),
            n: None,
        }))
    }

    fn lock(&self, guild: GuildId) -> Option<MutexGuard<'_, GuildFanout>> {
        let fanout = self.0.guilds.get(&guild)?;
        Some(fanout.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl GuildFanout {
    fn forget(&mut self, connection: ConnectionId) {
        self.views.retain(|_, watched| {
            watched.watchers.remove(&connection);
            !watched.watchers.is_empty()
        });
    }
}

impl Watched {
    fn tell(&mut self, body: &Bytes) {
        for watcher in self.watchers.values_mut() {
            watcher
                .outbox
                .push(Frame::numbered(body.clone(), watcher.n));
            watcher.n += 1;
        }
        metrics::counter!("hub_fanout_frames_total").increment(self.watchers.len() as u64);
    }
}

fn encode(frame: &EventFrame) -> Vec<u8> {
    #[derive(serde::Serialize)]
    struct Typed<'a> {
        r#type: &'static str,
        #[serde(flatten)]
        frame: &'a EventFrame,
    }
    // Strings, numbers and lists: nothing in a frame can fail to be written.
    serde_json::to_vec(&Typed {
        r#type: "event",
        frame,
    })
    .unwrap_or_default()
}
