//! The log: the ordered events of each guild. Append is publish.
//!
//! A guild's log keeps the guild's whole truth, hidden rooms included; what a viewer may see of it
//! is decided where it is read ([`crate::view`]). In this version the log lives in memory: a hub
//! that restarts forgets it, names a new [`Log::store`], and the worker tells everything anew.

mod seen;
pub mod state;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use proto::delivery::RefusedEvent;
use proto::event::{Event, Fact};
use proto::problem::Code;
use proto::{ChannelId, GuildId};
use tokio::sync::broadcast;

use self::seen::Seen;
pub use self::state::{Change, GuildState};

/// The bounds of the log.
#[derive(Debug, Clone)]
pub struct LogSettings {
    /// How many entries a follower may be behind before it has to begin anew.
    pub follow_entries_max: usize,
    /// How many event ids are remembered at most, over all guilds.
    pub seen_events_max: usize,
}

/// All logs of this hub. A clone is a reference.
#[derive(Clone)]
pub struct Log(Arc<Shared>);

struct Shared {
    store: String,
    guilds: BTreeMap<GuildId, GuildLog>,
    seen: Mutex<Seen>,
}

struct GuildLog {
    written: Mutex<Written>,
    followers: broadcast::Sender<Arc<Entry>>,
}

struct Written {
    place: Place,
    state: GuildState,
}

/// A place in one guild's log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// Which continuous history.
    pub epoch: u64,
    /// How many entries it holds.
    pub offset: u64,
}

/// One entry of a guild's log.
#[derive(Debug)]
pub struct Entry {
    /// Where the log stands with it.
    pub place: Place,
    /// What changed.
    pub change: Change,
    /// When the worker read it, in ms since the Unix epoch.
    pub ts: u64,
}

/// A guild's state, and everything that comes after it.
pub struct Following {
    /// Where the state was taken.
    pub place: Place,
    /// The state.
    pub state: GuildState,
    /// What comes after it, in order and without a gap. A follower that lags loses its place and
    /// follows anew.
    pub entries: broadcast::Receiver<Arc<Entry>>,
}

/// What became of the events of one delivery.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Appended {
    /// How many are new.
    pub accepted: u64,
    /// How many were known.
    pub duplicates: u64,
    /// Which were refused.
    pub refused: Vec<RefusedEvent>,
}

/// Who tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Teller {
    /// A worker, who tells of a room before it tells who is in it: what it has not told of is
    /// not for everyone.
    Worker,
    /// Somebody who can sign, by hand or by program: an event makes its room known.
    Hand,
}

impl Log {
    /// Empty logs for these guilds. `store` names this memory; it must not repeat.
    pub fn new(guilds: &[GuildId], store: String, epoch: u64, settings: &LogSettings) -> Self {
        let guilds = guilds
            .iter()
            .map(|guild| {
                let (followers, _) = broadcast::channel(settings.follow_entries_max);
                let written = Written {
                    place: Place { epoch, offset: 0 },
                    state: GuildState::default(),
                };
                (
                    *guild,
                    GuildLog {
                        written: Mutex::new(written),
                        followers,
                    },
                )
            })
            .collect();
        Self(Arc::new(Shared {
            store,
            guilds,
            seen: Mutex::new(Seen::new(settings.seen_events_max)),
        }))
    }

    /// Names this memory: another name means that what was told before is forgotten.
    pub fn store(&self) -> &str {
        &self.0.store
    }

    /// Appends events in order, and with that publishes them. An event whose id is known is a
    /// repeat; one of a guild that this hub does not serve is refused. What stands together in
    /// one delivery stays together in the log: a move is not torn apart. `now_ms` is monotonic: how
    /// long an id is remembered does not depend on the time of day.
    pub fn append(&self, events: Vec<Event>, teller: Teller, now_ms: u64) -> Appended {
        let mut appended = Appended::default();
        let mut held: Option<(GuildId, &GuildLog, MutexGuard<'_, Written>)> = None;
        for event in events {
            let id = event.fact.guild_id();
            if held.as_ref().is_none_or(|(guild, ..)| *guild != id) {
                drop(held.take());
                let Some(guild) = self.0.guilds.get(&id) else {
                    appended.refused.push(RefusedEvent {
                        id: event.id,
                        code: Code::Forbidden,
                    });
                    continue;
                };
                held = Some((id, guild, lock(&guild.written)));
            }
            if !lock(&self.0.seen).insert(&event.id, now_ms) {
                appended.duplicates += 1;
                continue;
            }
            appended.accepted += 1;
            if let Some((_, guild, written)) = &mut held {
                let changes = written.state.admit(event.fact, teller);
                guild.publish(written, changes, event.ts);
            }
        }
        appended
    }

    /// Publishes that a room is Roomwire's own.
    pub fn own(&self, guild: GuildId, channel: ChannelId, now_ms: u64) {
        if let Some(guild) = self.0.guilds.get(&guild) {
            let written = &mut lock(&guild.written);
            guild.publish(written, vec![Change::Owned(channel)], now_ms);
        }
    }

    /// Publishes that a room is no longer Roomwire's own.
    pub fn disown(&self, guild: GuildId, channel: ChannelId, now_ms: u64) {
        if let Some(guild) = self.0.guilds.get(&guild) {
            let written = &mut lock(&guild.written);
            guild.publish(written, vec![Change::Disowned(channel)], now_ms);
        }
    }

    /// Reads a guild's state where it stands now; `None` if this hub does not serve the guild.
    pub fn read<T>(&self, guild: GuildId, read: impl FnOnce(&GuildState, Place) -> T) -> Option<T> {
        let written = lock(&self.0.guilds.get(&guild)?.written);
        Some(read(&written.state, written.place))
    }

    /// A guild's state and all that comes after it, with nothing between them.
    pub fn follow(&self, guild: GuildId) -> Option<Following> {
        let guild = self.0.guilds.get(&guild)?;
        let written = lock(&guild.written);
        Some(Following {
            place: written.place,
            state: written.state.clone(),
            entries: guild.followers.subscribe(),
        })
    }
}

impl GuildLog {
    /// Changes the state and tells followers, under the lock whose holder calls, so that they see
    /// the log's order.
    fn publish(&self, written: &mut Written, changes: Vec<Change>, ts: u64) {
        for change in changes {
            if let Change::Told(Fact::Snapshot(_)) = change {
                // What comes after a snapshot does not continue what came before it.
                written.place = Place {
                    epoch: written.place.epoch + 1,
                    offset: 0,
                };
            } else {
                written.place.offset += 1;
            }
            written.state.apply(&change);
            // Nobody following is fine.
            let _followed = self.followers.send(Arc::new(Entry {
                place: written.place,
                change,
                ts,
            }));
        }
    }
}

/// A panic in another holder leaves whole entries behind: a state is changed by `apply` alone.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
