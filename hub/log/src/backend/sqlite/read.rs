//! Reading a store back whole: all of it is what was written, or none of it is used.

use std::collections::BTreeMap;
use std::sync::Arc;

use launch::rate::RateBucket;
use proto::{ChannelId, GuildId};
use rusqlite::Connection;
use serde::de::DeserializeOwned;

use super::BaseIndex;
use super::group::GuildRow;
use super::{rows, schema};
use crate::backend::Failure;
use crate::dedup::StoredIds;
use crate::ledger::{Answer, CreateTicket, LedgerChange, OwnedRoom, PendingCreate, RequestKey};
use crate::log_state::GuildRecord;
use crate::tail::Tail;
use crate::workers::{Holder, Progress, Workers};

/// All that stands in a store.
#[derive(Default)]
pub(super) struct StoreContents {
    /// Names the store. None: it begins, or is of an older form.
    pub(super) store: Option<String>,
    pub(super) workers: Workers,
    pub(super) guilds: BTreeMap<GuildId, StoredGuild>,
    /// Ids of events that were appended by hand.
    pub(super) event_ids: StoredIds<Arc<str>>,
    /// The ledger's rooms, pending creates, answers and budgets, as changes of an empty ledger.
    pub(super) ledger: Vec<LedgerChange>,
    /// Interactions that were answered.
    pub(super) interactions: StoredIds<Arc<str>>,
}

pub(super) struct StoredGuild {
    pub(super) record: GuildRecord,
    pub(super) tail: Tail,
    pub(super) index: BaseIndex,
}

/// Reads, and checks whatever is read.
pub(super) struct Reader<'a>(pub(super) &'a Connection);

impl Reader<'_> {
    /// All of a store of this form.
    pub(super) fn contents(&self) -> Result<StoreContents, Failure> {
        let store = self.meta("store")?;
        let mut guilds = BTreeMap::new();
        for (guild, row) in schema::GUILDS.read::<i64, GuildRow>(self.0)? {
            let id = id(guild, GuildId::new)?;
            guilds.insert(id, self.guild(id, &row)?);
        }
        let mut ledger = self.rooms()?;
        for (owner, full_at_us) in schema::BUDGETS.read::<String, u64>(self.0)? {
            let bucket = RateBucket::full_at(full_at_us);
            ledger.push(LedgerChange::Budget(owner.into(), Some(bucket)));
        }
        for (ticket, pending) in schema::PENDING.read::<i64, Arc<PendingCreate>>(self.0)? {
            let ticket = CreateTicket(ticket.cast_unsigned());
            ledger.push(LedgerChange::Began(ticket, pending));
        }
        for (key, answer) in schema::ANSWERS.read::<String, Arc<Answer>>(self.0)? {
            let key = RequestKey::try_from(key).map_err(Failure::damaged)?;
            ledger.push(LedgerChange::Answer(key, Some(answer)));
        }
        Ok(StoreContents {
            store: Some(store.ok_or_else(|| Failure::damaged("it has no name"))?),
            workers: self.workers()?,
            guilds,
            event_ids: rows::read_ids(self.0, schema::EVENT_IDS)?,
            ledger,
            interactions: rows::read_ids(self.0, schema::INTERACTIONS)?,
        })
    }

    /// The rooms of the ledger, as changes of an empty one.
    pub(super) fn rooms(&self) -> Result<Vec<LedgerChange>, Failure> {
        let mut rooms = Vec::new();
        for (channel, body) in schema::ROOMS.rows::<i64>(self.0)? {
            let channel_id = id(channel, ChannelId::new)?;
            match OwnedRoom::read(channel_id, &body) {
                Some(room) => rooms.push(LedgerChange::Room(Arc::new(room))),
                None => {
                    tracing::error!(%channel_id, "ALARM: a room of the ledger cannot be read");
                }
            }
        }
        Ok(rooms)
    }

    fn workers(&self) -> Result<Workers, Failure> {
        let mut holders = Vec::new();
        let progress = schema::REACHED.read::<i64, Progress>(self.0)?;
        let mut progress: BTreeMap<i64, Progress> = progress.into_iter().collect();
        for (shard, holder) in schema::HOLDERS.read::<i64, Holder>(self.0)? {
            let progress = progress
                .remove(&shard)
                .ok_or_else(|| Failure::damaged(format!("shard {shard} reached nothing")))?;
            let shard = u32::try_from(shard).map_err(|_| Failure::damaged("a shard's number"))?;
            holders.push((shard, Holder { progress, ..holder }));
        }
        let generation = self.meta("generation")?.unwrap_or_default();
        let identifies: Vec<u64> = self.meta("identifies")?.unwrap_or_default();
        let request_ids = rows::read_ids(self.0, schema::REQUEST_IDS)?;
        Ok(Workers::restored(
            generation,
            holders,
            identifies,
            request_ids,
        ))
    }

    /// A guild: its oldest base, and every entry since, up to where its row says that it stands.
    fn guild(&self, guild: GuildId, row: &GuildRow) -> Result<StoredGuild, Failure> {
        let damaged = |why: &str| Failure::damaged(format!("guild {guild}: {why}"));
        let mut bases = rows::read_bases(self.0, guild)?.into_iter();
        let (known, kept_ms) = bases.next().ok_or_else(|| damaged("it has no base"))?;
        let mut index = BaseIndex::default();
        index.bases.push_back((known.position.offset, kept_ms));
        let (mut position, mut state) = (known.position, known.state.clone());
        let mut tail = Tail::begin(known.position, known.state);
        let mut later = bases.peekable();
        rows::read_entries(self.0, guild, position, |entry, kept_ms| {
            position = entry.position;
            state.apply(&entry.change);
            tail.push(Arc::new(entry), &state, kept_ms);
            if let Some((base, kept_ms)) = later.next_if(|(base, _)| base.position == position) {
                if base.state != state {
                    return Err(damaged("a base is another state than its entries make"));
                }
                index.bases.push_back((position.offset, kept_ms));
            }
            Ok(())
        })?;
        if position != row.position || later.peek().is_some() {
            return Err(damaged("it does not stand where its row says"));
        }
        Ok(StoredGuild {
            record: GuildRecord {
                position,
                mark: row.mark,
                state,
            },
            tail,
            index,
        })
    }

    /// The body of a row of `meta`.
    pub(super) fn meta<T: DeserializeOwned>(&self, key: &str) -> Result<Option<T>, Failure> {
        let rows = schema::META.rows::<String>(self.0)?;
        let row = rows.iter().find(|(name, _)| name == key);
        row.map(|(_, body)| serde_json::from_slice(body))
            .transpose()
            .map_err(|_| Failure::damaged(format!("{key} cannot be read")))
    }
}

fn id<T, E>(number: i64, new: impl Fn(u64) -> Result<T, E>) -> Result<T, Failure> {
    new(number.cast_unsigned()).map_err(|_| Failure::damaged("an id"))
}
