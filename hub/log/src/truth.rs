//! Everything that the log knows, as one value: the workers and the guilds.
//!
//! Pure and persistent: a clone costs nothing, so that a group of deliveries is tried on a copy,
//! which becomes the truth once it is durable, and is dropped if it can not be made so.

use std::sync::Arc;

use imbl::OrdMap;
use proto::GuildId;
use proto::chain::{Claim, Claimed, Conflict, IdentifyNotice, KnownGuild, Link, Mark};
use proto::delivery::RefusedEvent;
use proto::event::{Event, Fact};
use proto::problem::Code;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::chain::{Chain, Holder};
use super::{Appended, Applied, Change, Entry, GuildState, Place, Teller};
use launch::mutation::{Rule, disabled};

/// The workers and the guilds.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Truth {
    /// Who may tell, and from where they go on.
    pub chain: Chain,
    guilds: OrdMap<GuildId, History>,
}

/// Where one guild's log stands.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct History {
    /// Where.
    pub place: Place,
    /// The newest event that a worker told: what is not above it is a repeat.
    pub mark: Mark,
    /// The guild.
    pub state: GuildState,
}

/// What a delivery adds.
#[derive(Debug, Default)]
pub struct Told {
    /// What became of its events.
    pub appended: Appended,
    /// New entries, in order, each with the state after it.
    pub written: Vec<Written>,
}

/// A new entry of one guild's log.
#[derive(Debug)]
pub struct Written {
    /// Whose log.
    pub guild: GuildId,
    /// The entry, and the guild on both sides of it.
    pub applied: Arc<Applied>,
    /// The entry's change, as it is kept.
    pub json: Vec<u8>,
}

impl Truth {
    /// A guild's log that begins here.
    pub fn put(&mut self, guild: GuildId, history: History) {
        self.guilds.insert(guild, history);
    }

    /// One guild.
    pub fn guild(&self, guild: GuildId) -> Option<&History> {
        self.guilds.get(&guild)
    }

    /// Every guild.
    pub fn guilds(&self) -> impl Iterator<Item = (GuildId, &History)> {
        self.guilds.iter().map(|(guild, history)| (*guild, history))
    }

    /// Takes a claim that is named by an id, once: repeated, it is answered again as long as it
    /// holds, and takes nothing back from who claimed since.
    ///
    /// # Errors
    /// Another worker has claimed since.
    pub fn claim_once(
        &mut self,
        id: &str,
        claim: &Claim,
        now_ms: u64,
    ) -> Result<Claimed, Conflict> {
        if self.chain.spend(id, now_ms) {
            let claimed = self.claim(claim, now_ms);
            self.chain.hold_by(claim.shard.0, id);
            return Ok(claimed);
        }
        match self.chain.holder(claim.shard.0) {
            Some(holder) if holder.claim_id == id => {
                let holder = holder.clone();
                Ok(self.remind(claim, holder, now_ms))
            }
            _ => Err(Conflict::Fenced),
        }
    }

    /// A worker takes a shard, and gets its memory back if it asks for it.
    pub fn claim(&mut self, claim: &Claim, now_ms: u64) -> Claimed {
        let holder = self.chain.claim(claim, now_ms);
        self.remind(claim, holder, now_ms)
    }

    fn remind(&self, claim: &Claim, holder: Holder, now_ms: u64) -> Claimed {
        let remembered = claim.guilds.iter().filter(|_| claim.memory);
        let known = remembered.filter_map(|guild| {
            let history = self.guilds.get(guild).filter(|known| known.state.known)?;
            Some(KnownGuild {
                mark: history.mark,
                absent: holder.absent.get(guild).copied(),
                roster: history.state.roster(*guild, "claimed"),
            })
        });
        let unserved = claim.guilds.iter();
        let unserved = unserved.filter(|guild| !self.guilds.contains_key(*guild));
        Claimed {
            generation: holder.generation,
            guilds: known.collect(),
            unserved: unserved.copied().collect(),
            last_session: self.last_session(),
            identifies: self.chain.identifies(now_ms),
            checkpoint: holder.checkpoint.filter(|_| claim.memory),
        }
    }

    fn last_session(&self) -> u64 {
        let marks = self.guilds.values().map(|history| history.mark);
        self.chain.last_session(marks)
    }

    /// The highest number of a gateway session or of a generation that is known.
    pub fn newest_number(&self) -> u64 {
        self.last_session().max(self.chain.last_generation())
    }

    /// Notes that a worker's bot identifies, once for an id; how often it did in the last 24 h.
    ///
    /// # Errors
    /// It is not this shard's worker.
    pub fn identify(
        &mut self,
        id: &str,
        notice: &IdentifyNotice,
        now_ms: u64,
    ) -> Result<u32, Conflict> {
        self.chain.recognise(notice.shard, notice.generation)?;
        if self.chain.spend(id, now_ms) {
            Ok(self.chain.identify(now_ms))
        } else {
            Ok(self.chain.identifies(now_ms))
        }
    }

    /// Guilds that a shard's worker follows, and that are not known whole.
    pub fn wanted(&self, shard: u32) -> Vec<GuildId> {
        let followed = self
            .chain
            .holder(shard)
            .map(|holder| holder.guilds.as_slice());
        let unknown = |guild: &&GuildId| {
            self.guilds
                .get(*guild)
                .is_some_and(|history| !history.state.known)
        };
        followed
            .unwrap_or_default()
            .iter()
            .filter(unknown)
            .copied()
            .collect()
    }

    /// Takes a worker's delivery, as a whole or not at all.
    ///
    /// # Errors
    /// The delivery does not fit, and nothing has changed.
    pub fn deliver(
        &mut self,
        link: &Link,
        events: Vec<Event>,
        now_ms: u64,
    ) -> Result<Told, Conflict> {
        self.chain.judge(link)?;
        let some = !events.is_empty();
        let told = self.tell(events, Teller::Worker, |_| true, now_ms);
        self.chain.advance(link, some);
        Ok(told)
    }

    /// Takes events in order. `is_new` judges the ids of those that carry no mark; an event that
    /// does is new if it is above its guild's. `now_ms` (since the Unix epoch) goes into new epochs.
    pub fn tell(
        &mut self,
        events: Vec<Event>,
        teller: Teller,
        mut is_new: impl FnMut(&str) -> bool,
        now_ms: u64,
    ) -> Told {
        let mut told = Told::default();
        for event in events {
            let guild = event.fact.guild_id();
            let Some(history) = self.guilds.get_mut(&guild) else {
                told.appended.refused.push(RefusedEvent {
                    id: event.id,
                    code: Code::Forbidden,
                });
                continue;
            };
            let new = match event.at {
                Some(at) if teller == Teller::Worker => {
                    let new = at > history.mark || disabled(Rule::Watermark);
                    history.mark = history.mark.max(at);
                    new
                }
                _ => is_new(&event.id),
            };
            if !new {
                told.appended.duplicates += 1;
                continue;
            }
            told.appended.accepted += 1;
            for change in history.state.admit(event.fact, teller) {
                told.written
                    .push(history.write(guild, change, event.ts, now_ms));
            }
        }
        told
    }

    /// Adds a change that no event told.
    pub fn change(
        &mut self,
        guild: GuildId,
        change: Change,
        ts: u64,
        now_ms: u64,
    ) -> Option<Written> {
        let history = self.guilds.get_mut(&guild)?;
        Some(history.write(guild, change, ts, now_ms))
    }
}

impl History {
    /// A guild of which nothing is known.
    pub fn begin(epoch: u64) -> Self {
        Self {
            place: Place {
                epoch,
                offset: 0,
                check: 0,
            },
            mark: Mark::default(),
            state: GuildState::default(),
        }
    }

    fn write(&mut self, guild: GuildId, change: Change, ts: u64, now_ms: u64) -> Written {
        if let Change::Told(Fact::Snapshot(_)) = change {
            // What comes after a snapshot does not continue what came before it. The time keeps
            // an epoch from repeating after the store was replaced by an older copy.
            self.place = Place {
                epoch: now_ms.max(self.place.epoch + 1),
                offset: 0,
                check: 0,
            };
        } else {
            self.place.offset += 1;
        }
        let before = self.state.clone();
        self.state.apply(&change);
        // Strings, numbers and lists: nothing in a change can fail to be written.
        let json = serde_json::to_vec(&change).unwrap_or_default();
        self.place.check = chained(self.place, &json, ts);
        Written {
            guild,
            applied: Arc::new(Applied {
                entry: Arc::new(Entry {
                    place: self.place,
                    change,
                    ts,
                }),
                before,
                after: self.state.clone(),
            }),
            json,
        }
    }
}

/// Names an entry together with all before it, by `place`, which still carries the check before it.
/// `json` is the change as it is kept.
pub(super) fn chained(place: Place, json: &[u8], ts: u64) -> u32 {
    let mut digest = Sha256::new();
    digest.update(place.check.to_be_bytes());
    digest.update(place.epoch.to_be_bytes());
    digest.update(place.offset.to_be_bytes());
    digest.update(ts.to_be_bytes());
    digest.update(json);
    digest
        .finalize()
        .first_chunk()
        .map_or(0, |bytes| u32::from_be_bytes(*bytes))
}
