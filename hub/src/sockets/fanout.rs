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
use crate::freshness::{Changed, Freshness};
use crate::log::{Change, Entry, Following, GuildState, Log, Place};
use crate::view::{Before, View};

/// Names one connection of this hub.
pub type ConnectionId = u64;

/// The fan-out of all guilds. A clone is a reference.
#[derive(Clone)]
pub struct Fanout(Arc<Shared>);

struct Shared {
    guilds: BTreeMap<GuildId, Mutex<GuildFanout>>,
    freshness: Freshness,
    positions: PositionKey,
    started: Instant,
}

struct GuildFanout {
    place: Place,
    state: GuildState,
    views: HashMap<View, Watched>,
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
    ) -> (Self, Vec<(GuildId, Following)>) {
        let mut followed = Vec::new();
        let mut fanouts = BTreeMap::new();
        for guild in guilds {
            if let Some(following) = log.follow(*guild) {
                let fanout = GuildFanout {
                    place: following.place,
                    state: following.state.clone(),
                    views: HashMap::new(),
                };
                fanouts.insert(*guild, Mutex::new(fanout));
                followed.push((*guild, following));
            }
        }
        let shared = Shared {
            guilds: fanouts,
            freshness,
            positions,
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
    /// False if this hub does not serve the guild.
    pub fn subscribe(
        &self,
        connection: ConnectionId,
        view: &View,
        outbox: &Outbox,
        reason: &str,
        opening: impl FnOnce(String) -> Frame,
    ) -> bool {
        let Some(mut fanout) = self.lock(view.guild()) else {
            return false;
        };
        fanout.forget(connection);
        let fingerprint = view.fingerprint();
        let place = fanout.place;
        outbox.push(opening(self.position(place, 0, fingerprint)));
        outbox.push(Frame::numbered(
            self.snapshot(&fanout.state, place, view, fingerprint, reason),
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
        true
    }

    /// Takes a connection from a guild, whatever it watched there.
    pub fn unsubscribe(&self, connection: ConnectionId, guild: GuildId) {
        if let Some(mut fanout) = self.lock(guild) {
            fanout.forget(connection);
        }
    }

    /// Tells of guilds whose freshness changed. Not numbered: it is no event of the guild's log.
    pub fn tell_freshness(&self, changed: Changed, now_ms: u64) {
        for (guild, payload) in changed {
            let Some(fanout) = self.lock(guild) else {
                continue;
            };
            let frame = EventFrame {
                v: FRAME_VERSION,
                event: ViewEvent::GatewayState(payload),
                guild_id: guild,
                pos: None,
                ts: now_ms,
                n: None,
            };
            let body = Bytes::from(encode(&frame));
            for watcher in fanout
                .views
                .values()
                .flat_map(|watched| watched.watchers.values())
            {
                watcher.outbox.push(Frame::whole(body.clone()));
            }
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
        let fanout = &mut *fanout;
        let before = Before::of(&fanout.state, &entry.change);
        fanout.state.apply(&entry.change);
        fanout.place = entry.place;
        if let Change::Told(Fact::Snapshot(roster)) = &entry.change {
            return self.snapshot_all(fanout, &roster.reason);
        }
        for (view, watched) in &mut fanout.views {
            let events = view.project(&before, &fanout.state, &entry.change);
            let of = events.len();
            for (index, event) in events.into_iter().enumerate() {
                // Only with its last frame is an entry behind a viewer.
                let last = index + 1 == of;
                let place = if last {
                    entry.place
                } else {
                    Place {
                        offset: entry.place.offset - 1,
                        ..entry.place
                    }
                };
                let step = if last {
                    0
                } else {
                    u32::try_from(index + 1).unwrap_or(u32::MAX)
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
        }
    }

    fn snapshot_all(&self, fanout: &mut GuildFanout, reason: &str) {
        for (view, watched) in &mut fanout.views {
            let body = self.snapshot(
                &fanout.state,
                fanout.place,
                view,
                watched.fingerprint,
                reason,
            );
            for watcher in watched.watchers.values_mut() {
                watcher.n = 0;
            }
            watched.tell(&body);
        }
    }

    fn snapshot(
        &self,
        state: &GuildState,
        place: Place,
        view: &View,
        fingerprint: u32,
        reason: &str,
    ) -> Bytes {
        let guild_id = view.guild();
        let payload = SnapshotPayload {
            guild_id,
            reason: reason.to_owned(),
            rooms: view.rooms(state),
            gateway: self.gateway(guild_id),
            part: None,
            of: None,
        };
        metrics::counter!("hub_fanout_snapshots_total").increment(1);
        unnumbered(encode(&EventFrame {
            v: FRAME_VERSION,
            event: ViewEvent::Snapshot(payload),
            guild_id,
            pos: Some(self.position(place, 0, fingerprint)),
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
