//! Which worker holds which shard, and from where it continues.
//!
//! Pure. A worker claims its shard and gets a generation. Its deliveries are links of a chain that
//! may overlap and must not have a hole. The watermark of each guild, the newest event's [`Mark`],
//! stands with the guild: see [`GuildRecord`](crate::log_state::GuildRecord).

use std::cmp::max;

use std::sync::Arc;

use imbl::{OrdMap, Vector};
use proto::GuildId;
use proto::chain::{Absence, Checkpoint, Claim, Conflict, Link, Mark, Reached};
use serde::{Deserialize, Serialize};

use crate::dedup::{Admission, DedupWindow, StoredIds, WindowBounds};

use launch::mutation::{Rule, disabled};

/// How long an identify counts, in ms: Discord's window (its documentation, "Session Start Limit").
const IDENTIFIES_MS: u64 = 24 * 60 * 60 * 1000;
/// How many identifies are remembered: Discord allows no more in 24 h.
const IDENTIFIES_MAX: usize = 1_000;
/// The ids of claims and notices that are remembered: a signature is valid for a minute before and
/// after its time. Some are remembered for longer, so that a clock that is set forward and back
/// makes the hub forget none of the newest.
const REQUEST_IDS: WindowBounds = WindowBounds {
    age_ms: 10 * 60 * 1000,
    entries_min: 1_000,
    entries_max: 10_000,
};

/// The workers of this hub, as far as they must be remembered.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Workers {
    /// The newest generation of any shard.
    last_generation: u64,
    /// Who holds which shard, by the shard's number.
    holders: OrdMap<u32, Holder>,
    /// When the bot identified, oldest first, in ms since the Unix epoch.
    identifies: Vector<u64>,
    /// The ids of claims and notices that were executed.
    request_ids: DedupWindow<Arc<str>>,
}

/// The worker of one shard.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Holder {
    /// The number of shards.
    pub of: u32,
    /// Orders the holders.
    pub generation: u64,
    /// Names the process.
    pub worker: String,
    /// The id of the claim by which it has the shard.
    pub claim_id: String,
    /// The guilds that it follows, in order.
    pub guilds: Vec<GuildId>,
    /// How far it is.
    #[serde(skip)]
    pub progress: Progress,
}

/// How far the worker of one shard is: each of its deliveries moves it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Progress {
    /// How far its deliveries are stored.
    pub reached: Reached,
    /// How many deliveries with events of its generation are stored.
    pub taken: u64,
    /// Where another worker continues. None while nothing was read.
    pub checkpoint: Option<Checkpoint>,
    /// Sessions up to this number cannot be resumed, and have no checkpoint. 0: none is known.
    #[serde(default)]
    pub lost: u64,
    /// Followed guilds that are not available.
    pub absent: OrdMap<GuildId, Absence>,
}

impl Holder {
    /// Whether it follows a guild.
    pub fn follows(&self, guild: GuildId) -> bool {
        self.guilds.binary_search(&guild).is_ok()
    }
}

impl Default for Workers {
    fn default() -> Self {
        Self::restored(0, [], [], StoredIds::default())
    }
}

impl Workers {
    /// The workers as they were stored.
    pub(crate) fn restored(
        last_generation: u64,
        holders: impl IntoIterator<Item = (u32, Holder)>,
        identifies: impl IntoIterator<Item = u64>,
        request_ids: StoredIds<Arc<str>>,
    ) -> Self {
        Self {
            last_generation,
            holders: holders.into_iter().collect(),
            identifies: identifies.into_iter().collect(),
            request_ids: DedupWindow::restored(REQUEST_IDS, request_ids),
        }
    }

    /// Remembers the id of a claim or a notice. False if it was executed before: a request that is
    /// attempted again keeps its id, and so does one that somebody recorded.
    pub(crate) fn admit(&mut self, id: &Arc<str>, now_ms: u64) -> bool {
        self.request_ids.admit(Arc::clone(id), (), now_ms) != Admission::Repeat
    }

    /// The ids of claims and notices that were executed.
    pub(crate) fn request_ids(&self) -> &DedupWindow<Arc<str>> {
        &self.request_ids
    }

    /// Forgets the ids of claims and notices, so that states that differ in them alone are equal.
    pub(crate) fn forget_request_ids(&mut self) {
        self.request_ids = DedupWindow::new(REQUEST_IDS);
    }

    /// The newest generation of any shard.
    pub fn last_generation(&self) -> u64 {
        self.last_generation
    }

    /// When the bot identified, oldest first, in ms since the Unix epoch. The oldest may no longer count.
    pub(super) fn identified(&self) -> impl DoubleEndedIterator<Item = u64> {
        self.identifies.iter().copied()
    }

    /// A worker takes a shard. Its generation is above every earlier one, also above those of a
    /// store that was lost, as far as `now_ms` (since the Unix epoch) shows.
    pub(crate) fn claim(&mut self, id: &str, claim: &Claim, now_ms: u64) -> Holder {
        let (shard, of) = claim.shard;
        self.last_generation = max(self.last_generation + 1, now_ms);
        // Who counts the shards in another way follows the same guilds: it is fenced.
        let counted = self.holders.iter().filter(|(_, holder)| holder.of == of);
        self.holders = counted.map(|(id, holder)| (*id, holder.clone())).collect();
        let before = self.holders.get(&shard);
        let mut guilds = claim.guilds.clone();
        guilds.sort_unstable();
        guilds.dedup();
        let holder = Holder {
            of,
            generation: self.last_generation,
            worker: claim.worker.clone(),
            claim_id: id.to_owned(),
            guilds,
            progress: Progress {
                taken: 0,
                ..before.map_or_else(Progress::default, |before| before.progress.clone())
            },
        };
        self.holders.insert(shard, holder.clone());
        holder
    }

    /// Whether a delivery may be taken.
    ///
    /// # Errors
    /// What the worker gets instead.
    pub fn judge(&self, link: &Link) -> Result<(), Conflict> {
        let holder = self.recognise(link.shard, link.generation)?;
        let Progress { reached, taken, .. } = holder.progress;
        if (link.from > reached || link.taken > taken) && !disabled(Rule::Chain) {
            return Err(Conflict::Gap { reached, taken });
        }
        Ok(())
    }

    /// The holder of a shard, if it is of this generation.
    ///
    /// # Errors
    /// What the worker gets instead: `Fenced` if a newer worker has this shard, or counts the
    /// shards in another way. A newer worker of another shard fences nobody: after the store was
    /// lost, the shards of one process claim again one after the other.
    pub fn recognise(&self, (shard, of): (u32, u32), generation: u64) -> Result<&Holder, Conflict> {
        match self.holders.get(&shard) {
            Some(holder) if holder.generation == generation || disabled(Rule::Generation) => {
                Ok(holder)
            }
            _ => {
                let fenced = self.holders.iter().any(|(id, holder)| {
                    holder.generation > generation && (*id == shard || holder.of != of)
                });
                // If nobody newer is here, its generation was given by a newer store than this.
                Err(if fenced {
                    Conflict::Fenced
                } else {
                    Conflict::Unclaimed
                })
            }
        }
    }

    /// A delivery was taken, with events or without: the checkpoint moves, never back.
    pub fn advance(&mut self, link: &Link, events: bool) {
        let Some(Holder { progress, .. }) = self.holders.get_mut(&link.shard.0) else {
            return;
        };
        let taken = link.taken.saturating_add(u64::from(events));
        progress.taken = progress.taken.max(taken);
        // A delivery that comes late may be from before the loss: a lost session stays lost.
        progress.lost = progress.lost.max(link.lost);
        let lost = if disabled(Rule::LostSessions) {
            link.lost
        } else {
            progress.lost
        };
        let is_lost = |known: &Checkpoint| known.session.number <= lost;
        progress.checkpoint = progress.checkpoint.take().filter(|known| !is_lost(known));
        // An older delivery that comes late says what was so then.
        if link.to < progress.reached {
            return;
        }
        progress.absent = link.absent.iter().map(|(id, why)| (*id, *why)).collect();
        progress.reached = link.to;
        if let Some(session) = &link.session {
            let checkpoint = Checkpoint {
                session: session.clone(),
                sequence: link.to.sequence,
                fingerprint: link.fingerprint.clone(),
                resumes: link.resumes,
            };
            progress.checkpoint = Some(checkpoint).filter(|known| !is_lost(known));
        }
    }

    /// Replaces the holder of a shard; none: nobody holds it.
    pub(crate) fn put_holder(&mut self, shard: u32, holder: Option<Holder>) {
        match holder {
            Some(holder) => self.holders.insert(shard, holder),
            None => self.holders.remove(&shard),
        };
    }

    /// Replaces how far the worker of a shard is.
    pub(crate) fn put_progress(&mut self, shard: u32, progress: &Progress) {
        if let Some(holder) = self.holders.get_mut(&shard) {
            holder.progress.clone_from(progress);
        }
    }

    /// Replaces the newest generation of any shard.
    pub(crate) fn put_generation(&mut self, generation: u64) {
        self.last_generation = generation;
    }

    /// Who holds a shard.
    pub fn holder(&self, shard: u32) -> Option<&Holder> {
        self.holders.get(&shard)
    }

    /// Every holder, by shard.
    pub fn holders(&self) -> impl Iterator<Item = (u32, &Holder)> {
        self.holders.iter().map(|(shard, holder)| (*shard, holder))
    }

    /// Notes that the bot identifies; how often it did in the last 24 h, this time included.
    pub fn identify(&mut self, now_ms: u64) -> u32 {
        if self.identifies.len() >= IDENTIFIES_MAX {
            self.identifies.pop_front();
        }
        self.identifies.push_back(now_ms);
        self.identifies(now_ms)
    }

    /// How often the bot identified in the last 24 h. A clock that was set back counts too many,
    /// never too few.
    pub fn identifies(&self, now_ms: u64) -> u32 {
        let since = now_ms.saturating_sub(IDENTIFIES_MS);
        let recent = self.identifies.iter().filter(|at| **at >= since).count();
        u32::try_from(recent).unwrap_or(u32::MAX)
    }

    /// The highest number of a gateway session that is known, `marks` being the guilds' watermarks.
    pub fn last_session(&self, marks: impl Iterator<Item = Mark>) -> u64 {
        let holders = self.holders.values();
        // Above a lost one too: a later session must not count as lost.
        let reached = holders.map(|holder| {
            let Progress { reached, lost, .. } = &holder.progress;
            reached.session.max(*lost)
        });
        marks
            .map(|mark| mark.reached.session)
            .chain(reached)
            .max()
            .unwrap_or(0)
    }
}
