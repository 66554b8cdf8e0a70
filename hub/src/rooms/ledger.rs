//! The ledger: which rooms Roomwire made, and for whom. Only what stands here is ever deleted.
//!
//! In this version it lives in memory: a hub that restarts does not own the rooms it made before,
//! and so leaves them alone.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use proto::{ChannelId, GuildId};

use crate::auth::Subject;

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

/// Where a room is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Discord made it, and nothing says that it is gone.
    Open,
    /// The worker told that it is gone, or told of the whole guild, and it was not there. It may
    /// come: what was told may be older than the room.
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
    pending: HashMap<u64, Making>,
    rooms: BTreeMap<ChannelId, OwnedRoom>,
    /// The channels among `rooms` that are not open, oldest first.
    past: VecDeque<ChannelId>,
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
        })))
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

    /// Writes down that Discord made it, and says where the room is in its life by now. `there`:
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

    /// The worker told of a whole guild: which rooms are missing in it now, and which are not any more.
    pub fn compare(&self, guild: GuildId, there: &BTreeSet<ChannelId>) -> Compared {
        let mut book = self.lock();
        for making in book.pending.values_mut() {
            making.doubtful |= making.guild == guild;
        }
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

    fn room(id: u64) -> OwnedRoom {
        OwnedRoom {
            guild_id: guild(),
            channel_id: channel(id),
            creator: Subject::new("ada").unwrap(),
            name: "a".to_owned(),
            parent_id: None,
            user_limit: 4,
            standing: Standing::Open,
        }
    }

    fn add(ledger: &Ledger, id: u64) {
        let pending = ledger.begin(guild()).unwrap();
        assert_eq!(ledger.made(pending, room(id), false), Standing::Open);
    }

    fn standing(ledger: &Ledger, id: u64) -> Option<Standing> {
        ledger.room(channel(id)).map(|room| room.standing)
    }

    #[test]
    fn rooms_that_discord_is_making_count_and_a_refusal_gives_the_place_back() {
        let ledger = ledger(2, 10);
        add(&ledger, 1);
        let pending = ledger.begin(guild()).unwrap();
        assert_eq!(ledger.begin(guild()), Err(LedgerFull));
        ledger.abandon(pending);
        let pending = ledger.begin(guild()).unwrap();
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
        assert!(ledger.begin(guild()).is_ok());
    }

    #[test]
    fn a_room_that_was_told_to_be_gone_before_discord_answered_is_missing_and_keeps_no_place() {
        let other = GuildId::new(2).unwrap();
        let gone_before = |ledger: &Ledger| ledger.missing(channel(1));
        let another_gone = |ledger: &Ledger| ledger.missing(channel(2));
        let whole = |ledger: &Ledger| drop(ledger.compare(guild(), &BTreeSet::new()));
        let other_whole = |ledger: &Ledger| drop(ledger.compare(other, &BTreeSet::new()));
        let many_gone = |ledger: &Ledger| {
            (2..=GONE_MAX as u64 + 2).for_each(|id| ledger.missing(channel(id)));
        };
        type Tell<'a> = &'a dyn Fn(&Ledger);
        let cases: [(&str, Tell<'_>, bool, Standing); 8] = [
            ("nothing", &|_| {}, false, Standing::Open),
            ("it is gone", &gone_before, false, Standing::Missing),
            ("it is gone and back", &gone_before, true, Standing::Open),
            ("another is gone", &another_gone, false, Standing::Open),
            ("the guild", &whole, false, Standing::Missing),
            ("the guild, with it", &whole, true, Standing::Open),
            ("another guild", &other_whole, false, Standing::Open),
            ("too many are gone", &many_gone, false, Standing::Missing),
        ];
        for (told, tell, there, standing) in cases {
            let ledger = ledger(1, 10);
            ledger.missing(channel(1));
            let pending = ledger.begin(guild()).unwrap();
            tell(&ledger);
            assert_eq!(ledger.made(pending, room(1), there), standing, "{told}");
            let open = standing == Standing::Open;
            assert_eq!(
                ledger.open_rooms(guild()).len(),
                usize::from(open),
                "{told}"
            );
            assert_eq!(ledger.begin(guild()).is_err(), open, "{told}");
            assert_eq!(ledger.found(channel(1)), !open, "{told}: it may come");
        }
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
