//! The ledger: which rooms Roomwire made, and for whom. Only what stands here is ever deleted.
//!
//! The book is in memory, and its rows are kept beside the log, by the log's writer: a new room
//! before anybody hears of it ([`OwnedRoom::row`]), any other change soon after
//! ([`Ledger::unsaved`]). What is only being made is not kept: a hub that dies while Discord makes
//! a room does not know it afterwards.

mod room;

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use imbl::OrdSet;
use proto::{ChannelId, GuildId};

pub use self::room::{OwnedRoom, Standing};
use roomlog::LedgerRow;

/// How many channels that were told to be gone are remembered for a room that is being made: as
/// many as Discord allows a guild, which no guild loses while one call is under way.
const GONE_MAX: usize = 500;

/// The bounds of the ledger.
#[derive(Debug, Clone)]
pub struct LedgerSettings {
    /// How many rooms stand open at most, those that Discord is making included. At the bound
    /// nobody can create one.
    pub rooms_max: usize,
    /// How many past rooms are remembered at most, so that ending one twice is a success twice.
    /// At the bound the oldest is forgotten.
    pub past_max: usize,
}

impl LedgerSettings {
    /// [`LedgerSettings::rooms_max`]: twenty guilds full of rooms (Discord allows a guild 500
    /// channels), in a few megabytes.
    pub const ROOMS_MAX: usize = 10_000;
    /// [`LedgerSettings::past_max`]: a day of busy guilds, in a few megabytes.
    pub const PAST_MAX: usize = 10_000;
}

impl Default for LedgerSettings {
    fn default() -> Self {
        Self {
            rooms_max: Self::ROOMS_MAX,
            past_max: Self::PAST_MAX,
        }
    }
}

/// The ledger. A clone is a reference.
#[derive(Clone)]
pub struct Ledger(Arc<Mutex<Book>>);

/// A place in the ledger for a room that Discord is asked to make. It ends as [`Ledger::made`] or
/// [`Ledger::abandon`].
#[derive(Debug, PartialEq, Eq)]
#[must_use = "a place that is neither filled nor given back is lost"]
pub struct Pending(u64);

/// No more rooms fit into the ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LedgerFull;

struct Book {
    settings: LedgerSettings,
    next: u64,
    pending: HashMap<u64, Making>,
    rooms: BTreeMap<ChannelId, OwnedRoom>,
    /// The channels among `rooms` that are not open, oldest first.
    past: VecDeque<ChannelId>,
    /// The channels whose row is not kept as it stands here.
    unsaved: BTreeSet<ChannelId>,
}

/// A room that Discord is asked to make, and what was told meanwhile. Its channel is not known
/// before Discord answers, and by then all that is ever told of it may have been told.
struct Making {
    guild: GuildId,
    /// Which channels were told to be gone.
    gone: BTreeSet<ChannelId>,
    /// The guild was told as a whole, or more was told to be gone than is remembered: a room that
    /// is not there may have been made and deleted.
    doubtful: bool,
}

impl Ledger {
    /// An empty ledger.
    pub fn new(settings: LedgerSettings) -> Self {
        Self(Arc::new(Mutex::new(Book {
            settings,
            next: 0,
            pending: HashMap::new(),
            rooms: BTreeMap::new(),
            past: VecDeque::new(),
            unsaved: BTreeSet::new(),
        })))
    }

    /// The ledger as it was kept.
    pub fn restored(settings: LedgerSettings, rows: &[LedgerRow]) -> Self {
        let ledger = Self::new(settings);
        let mut book = ledger.lock();
        for row in rows {
            let Some(room) = OwnedRoom::read(row) else {
                tracing::error!(channel_id = %row.channel, "ALARM: a room of the ledger can not be read");
                continue;
            };
            if room.standing != Standing::Open {
                book.past.push_back(room.channel_id);
            }
            book.rooms.insert(room.channel_id, room);
        }
        book.forget_past();
        book.measure();
        drop(book);
        ledger
    }

    /// Rows that are not kept as they stand here; from now on they count as kept.
    pub fn unsaved(&self) -> Vec<LedgerRow> {
        let mut book = self.lock();
        let channels = std::mem::take(&mut book.unsaved);
        let row = |channel: &ChannelId| {
            let forgotten = LedgerRow {
                channel: *channel,
                room: None,
            };
            book.rooms.get(channel).map_or(forgotten, OwnedRoom::row)
        };
        channels.iter().map(row).collect()
    }

    /// Rows of [`Ledger::unsaved`] that could not be kept.
    pub fn not_saved(&self, channels: impl IntoIterator<Item = ChannelId>) {
        self.lock().unsaved.extend(channels);
    }

    /// Writes down that Discord will be asked for a room in a guild.
    ///
    /// # Errors
    /// [`LedgerFull`]: it must not be asked.
    pub fn begin(&self, guild: GuildId) -> Result<Pending, LedgerFull> {
        let mut book = self.lock();
        if book.open() + book.pending.len() >= book.settings.rooms_max {
            return Err(LedgerFull);
        }
        book.next += 1;
        let pending = book.next;
        let making = Making {
            guild,
            gone: BTreeSet::new(),
            doubtful: false,
        };
        book.pending.insert(pending, making);
        Ok(Pending(pending))
    }

    /// Writes down that Discord made it, which is kept already, and says where the room is in its life by now. `there`:
    /// whether it is among what was told, at this moment (with the log held, so that what is told
    /// later is told of a room that stands here). One that is not, and that may have been told to
    /// be gone already, is missing.
    #[expect(clippy::needless_pass_by_value, reason = "a place is filled once")]
    pub fn made(&self, pending: Pending, room: OwnedRoom, there: bool) -> Standing {
        let channel = room.channel_id;
        let mut book = self.lock();
        let making = book.pending.remove(&pending.0);
        let gone = making.is_some_and(|making| making.doubtful || making.gone.contains(&channel));
        book.rooms.insert(channel, room);
        let standing = if gone && !there {
            Standing::Missing
        } else {
            Standing::Open
        };
        book.turn(channel, standing);
        if standing == Standing::Open {
            book.unsaved.remove(&channel);
        }
        standing
    }

    /// Strikes out what [`Ledger::begin`] wrote: Discord did not make it.
    #[expect(clippy::needless_pass_by_value, reason = "a place is given back once")]
    pub fn abandon(&self, pending: Pending) {
        self.lock().pending.remove(&pending.0);
    }

    /// The room of this channel, past ones included.
    pub fn room(&self, channel: ChannelId) -> Option<OwnedRoom> {
        self.lock().rooms.get(&channel).cloned()
    }

    /// The open rooms of a guild, by channel.
    pub fn open_rooms(&self, guild: GuildId) -> Vec<OwnedRoom> {
        let book = self.lock();
        book.rooms
            .values()
            .filter(|room| room.guild_id == guild && room.standing == Standing::Open)
            .cloned()
            .collect()
    }

    /// The worker told that the room is gone.
    pub fn missing(&self, channel: ChannelId) {
        let mut book = self.lock();
        match book.rooms.get(&channel).map(|room| room.standing) {
            Some(Standing::Open) => book.turn(channel, Standing::Missing),
            Some(Standing::Missing | Standing::Ended) => {}
            None => {
                for making in book.pending.values_mut() {
                    making.remember_gone(channel);
                }
            }
        }
    }

    /// The room is gone for good.
    pub fn ended(&self, channel: ChannelId) {
        self.lock().turn(channel, Standing::Ended);
    }

    /// The worker told of a channel: a room that was missing is not. True if it was.
    pub fn found(&self, channel: ChannelId) -> bool {
        let mut book = self.lock();
        let missing = book
            .rooms
            .get(&channel)
            .is_some_and(|room| room.standing == Standing::Missing);
        if missing {
            book.turn(channel, Standing::Open);
        }
        missing
    }

    /// The channel was reported without a deny of @everyone viewing it: one that it has later was added
    /// to hide the room. True if that is news.
    pub fn lost_inherited_deny(&self, channel: ChannelId) -> bool {
        let mut book = self.lock();
        let Some(room) = book.rooms.get_mut(&channel) else {
            return false;
        };
        let news = std::mem::take(&mut room.inherits_deny);
        if news {
            book.unsaved.insert(channel);
        }
        news
    }

    /// The worker told of a whole guild: which rooms are missing in it now, and which are not any more.
    pub fn compare(&self, guild: GuildId, there: &OrdSet<ChannelId>) -> Compared {
        self.catch_up(guild, |channel| there.contains(&channel), |_, _| true)
    }

    /// What was told of a guild while nobody heeded it: which rooms turn out to be missing, and
    /// which not any more. `there` says whether a channel is among what is told now, `gone`
    /// whether one that is not may have been there, by the epoch in which it was made.
    pub fn catch_up(
        &self,
        guild: GuildId,
        there: impl Fn(ChannelId) -> bool,
        gone: impl Fn(ChannelId, u64) -> bool,
    ) -> Compared {
        let mut book = self.lock();
        for making in book.pending.values_mut() {
            making.doubtful |= making.guild == guild;
        }
        let mut compared = Compared::default();
        for room in book.rooms.values().filter(|room| room.guild_id == guild) {
            let channel = room.channel_id;
            match (room.standing, there(channel)) {
                (Standing::Open, false) if gone(channel, room.epoch) => {
                    compared.missing.push(channel);
                }
                (Standing::Missing, true) => compared.found.push(channel),
                _ => {}
            }
        }
        book.turn_all(&compared);
        compared
    }

    fn lock(&self) -> MutexGuard<'_, Book> {
        // A panic while it was held leaves whole entries: each change is one insert or remove.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What [`Ledger::compare`] or [`Ledger::catch_up`] changed.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Compared {
    /// Were open, and were not told of.
    pub missing: Vec<ChannelId>,
    /// Were missing, and were told of.
    pub found: Vec<ChannelId>,
}

impl Making {
    fn remember_gone(&mut self, channel: ChannelId) {
        if self.gone.len() < GONE_MAX {
            self.gone.insert(channel);
        } else {
            self.doubtful = true;
        }
    }
}

impl Book {
    fn open(&self) -> usize {
        self.rooms.len() - self.past.len()
    }

    fn turn(&mut self, channel: ChannelId, standing: Standing) {
        let Some(room) = self.rooms.get_mut(&channel) else {
            return;
        };
        let before = std::mem::replace(&mut room.standing, standing);
        match (before == Standing::Open, standing == Standing::Open) {
            (true, false) => self.past.push_back(channel),
            (false, true) => self.past.retain(|past| *past != channel),
            _ => {}
        }
        if before != standing {
            self.unsaved.insert(channel);
        }
        self.forget_past();
        self.measure();
    }

    fn turn_all(&mut self, compared: &Compared) {
        for channel in &compared.missing {
            self.turn(*channel, Standing::Missing);
        }
        for channel in &compared.found {
            self.turn(*channel, Standing::Open);
        }
    }

    fn forget_past(&mut self) {
        while self.past.len() > self.settings.past_max {
            if let Some(oldest) = self.past.pop_front() {
                self.rooms.remove(&oldest);
                self.unsaved.insert(oldest);
            }
        }
    }

    #[expect(
        clippy::cast_precision_loss,
        reason = "a ledger of 2^52 rooms does not fit into memory"
    )]
    fn measure(&self) {
        metrics::gauge!("hub_rooms_open").set(self.open() as f64);
    }
}

#[cfg(test)]
mod tests;
