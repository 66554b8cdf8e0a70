//! The ledger: which rooms Roomwire made, and for whom. Only what stands here is ever deleted.
//!
//! In this version it lives in memory: a hub that restarts does not own the rooms it made before,
//! and so leaves them alone.

use std::collections::{BTreeMap, BTreeSet, HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use proto::{ChannelId, GuildId};

use crate::auth::Subject;

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

/// Where a room is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Discord made it, and nothing says that it is gone.
    Open,
    /// The worker told of the whole guild, and it was not there. It may come: what was told may be
    /// older than the room.
    Missing,
    /// It is gone for good.
    Ended,
}

/// A room that Roomwire made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnedRoom {
    /// Its guild.
    pub guild_id: GuildId,
    /// Its channel.
    pub channel_id: ChannelId,
    /// Who wished for it.
    pub creator: Subject,
    /// Its name, as Discord took it.
    pub name: String,
    /// Its category.
    pub parent_id: Option<ChannelId>,
    /// How many may be in it; 0: no limit.
    pub user_limit: u32,
    /// Where it is in its life.
    pub standing: Standing,
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
    pending: HashSet<u64>,
    rooms: BTreeMap<ChannelId, OwnedRoom>,
    /// The channels among `rooms` that are not open, oldest first.
    past: VecDeque<ChannelId>,
}

impl Ledger {
    /// An empty ledger.
    pub fn new(settings: LedgerSettings) -> Self {
        Self(Arc::new(Mutex::new(Book {
            settings,
            next: 0,
            pending: HashSet::new(),
            rooms: BTreeMap::new(),
            past: VecDeque::new(),
        })))
    }

    /// Writes down that Discord will be asked for a room.
    ///
    /// # Errors
    /// [`LedgerFull`]: it must not be asked.
    pub fn begin(&self) -> Result<Pending, LedgerFull> {
        let mut book = self.lock();
        if book.open() + book.pending.len() >= book.settings.rooms_max {
            return Err(LedgerFull);
        }
        book.next += 1;
        let pending = book.next;
        book.pending.insert(pending);
        Ok(Pending(pending))
    }

    /// Writes down that Discord made it.
    #[expect(clippy::needless_pass_by_value, reason = "a place is filled once")]
    pub fn made(&self, pending: Pending, room: OwnedRoom) {
        let mut book = self.lock();
        book.pending.remove(&pending.0);
        book.rooms.insert(room.channel_id, room);
        book.measure();
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
        if book
            .rooms
            .get(&channel)
            .is_some_and(|room| room.standing == Standing::Open)
        {
            book.turn(channel, Standing::Missing);
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

    /// The worker told of a whole guild: which rooms are missing in it now, and which are not any more.
    pub fn compare(&self, guild: GuildId, there: &BTreeSet<ChannelId>) -> Compared {
        let mut book = self.lock();
        let mut compared = Compared::default();
        for room in book.rooms.values().filter(|room| room.guild_id == guild) {
            match (room.standing, there.contains(&room.channel_id)) {
                (Standing::Open, false) => compared.missing.push(room.channel_id),
                (Standing::Missing, true) => compared.found.push(room.channel_id),
                _ => {}
            }
        }
        for channel in &compared.missing {
            book.turn(*channel, Standing::Missing);
        }
        for channel in &compared.found {
            book.turn(*channel, Standing::Open);
        }
        compared
    }

    fn lock(&self) -> MutexGuard<'_, Book> {
        // A panic while it was held leaves whole entries: each change is one insert or remove.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What [`Ledger::compare`] changed.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Compared {
    /// Were open, and were not told of.
    pub missing: Vec<ChannelId>,
    /// Were missing, and were told of.
    pub found: Vec<ChannelId>,
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
        while self.past.len() > self.settings.past_max {
            if let Some(oldest) = self.past.pop_front() {
                self.rooms.remove(&oldest);
            }
        }
        self.measure();
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
mod tests {
    use super::*;

    fn ledger(rooms_max: usize, past_max: usize) -> Ledger {
        Ledger::new(LedgerSettings {
            rooms_max,
            past_max,
        })
    }

    fn channel(id: u64) -> ChannelId {
        ChannelId::new(id).unwrap()
    }

    fn guild() -> GuildId {
        GuildId::new(1).unwrap()
    }

    fn add(ledger: &Ledger, id: u64) {
        let room = OwnedRoom {
            guild_id: guild(),
            channel_id: channel(id),
            creator: Subject::new("ada").unwrap(),
            name: "a".to_owned(),
            parent_id: None,
            user_limit: 4,
            standing: Standing::Open,
        };
        ledger.made(ledger.begin().unwrap(), room);
    }

    fn standing(ledger: &Ledger, id: u64) -> Option<Standing> {
        ledger.room(channel(id)).map(|room| room.standing)
    }

    #[test]
    fn rooms_that_discord_is_making_count_and_a_refusal_gives_the_place_back() {
        let ledger = ledger(2, 10);
        add(&ledger, 1);
        let pending = ledger.begin().unwrap();
        assert_eq!(ledger.begin(), Err(LedgerFull));
        ledger.abandon(pending);
        let pending = ledger.begin().unwrap();
        ledger.abandon(pending);
        assert_eq!(ledger.open_rooms(guild()).len(), 1);
    }

    #[test]
    fn a_past_room_frees_its_place_and_is_remembered_up_to_the_bound() {
        let ledger = ledger(1, 2);
        for id in 1..=3 {
            add(&ledger, id);
            ledger.ended(channel(id));
            ledger.ended(channel(id));
        }
        assert_eq!(standing(&ledger, 1), None, "forgotten");
        assert_eq!(standing(&ledger, 2), Some(Standing::Ended));
        assert_eq!(standing(&ledger, 3), Some(Standing::Ended));
        assert!(ledger.open_rooms(guild()).is_empty());
        assert!(ledger.begin().is_ok());
    }

    #[test]
    fn a_room_that_a_whole_telling_lacks_is_missing_until_it_is_told_of() {
        let ledger = ledger(10, 10);
        add(&ledger, 1);
        add(&ledger, 2);
        add(&ledger, 3);
        ledger.ended(channel(3));
        let compared = ledger.compare(guild(), &BTreeSet::from([channel(2)]));
        assert_eq!(
            compared,
            Compared {
                missing: vec![channel(1)],
                found: vec![]
            }
        );
        assert_eq!(standing(&ledger, 1), Some(Standing::Missing));
        assert!(ledger.found(channel(1)) && !ledger.found(channel(1)) && !ledger.found(channel(2)));
        assert_eq!(standing(&ledger, 1), Some(Standing::Open));
        for id in 1..=3 {
            ledger.missing(channel(id));
        }
        assert_eq!(standing(&ledger, 3), Some(Standing::Ended));
        let compared = ledger.compare(guild(), &BTreeSet::from([channel(1), channel(3)]));
        assert_eq!(
            compared,
            Compared {
                missing: vec![],
                found: vec![channel(1)]
            }
        );
        assert!(
            !ledger.found(channel(3)),
            "what ended stays so: channel ids are not used twice"
        );
        let other = GuildId::new(2).unwrap();
        assert_eq!(ledger.compare(other, &BTreeSet::new()), Compared::default());
    }
}
