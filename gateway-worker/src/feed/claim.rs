//! The claim: what the hub remembers becomes this worker's state, and which session is resumed.

use proto::GuildId;
use proto::chain::{Absence, Checkpoint, Claimed, GatewaySession, Reached};
use proto::gateway::GatewayState;

use super::tracked_guild::Presence;
use super::{Feed, report};
use launch::mutation::{Rule, disabled};

impl Feed {
    /// Takes the hub's answer to a claim. The first answer is this worker's memory. A later one means
    /// that the hub's store is older than the claim before, and every guild owes a snapshot. If the
    /// hub knows a later session of this shard, another worker has read on in that one, and this
    /// worker may know less: it starts as a new one.
    pub fn claim(&mut self, claimed: Claimed, now_ms: u64) {
        let first = self.generation == 0;
        self.generation = claimed.generation;
        self.taken = 0;
        self.acked = claimed
            .checkpoint
            .as_ref()
            .map_or_else(Reached::default, Checkpoint::reached);
        let marks = claimed.guilds.iter().map(|known| known.mark.reached);
        let newest = marks.chain([self.acked]).max().unwrap_or_default().session;
        // Also of other shards.
        let last_session = claimed.last_session.max(newest);
        self.stream.observe(claimed.generation.saturating_sub(1));
        self.stream.observe(last_session);
        if first {
            return self.restore(claimed);
        }
        let own = self.stream.session().map(|session| session.number);
        if own.is_some_and(|own| own < newest) && !disabled(Rule::Overtaken) {
            return self.restart(claimed);
        }
        self.claim_again(claimed, last_session);
        self.owe_everything("store_changed", now_ms);
    }

    /// The hub has lost the claim, and no other worker has overtaken this one.
    fn claim_again(&mut self, claimed: Claimed, last_session: u64) {
        let read = self.stream.reached();
        for known in claimed.guilds {
            let Some(tracked) = self.guilds.get_mut(&known.roster.guild_id) else {
                continue;
            };
            // Another worker may have published more meanwhile.
            let setting = self.setting.roster.clone();
            let published = known.mark.reached;
            let awaited = tracked.presence == Presence::Absent(Absence::Awaited);
            if published.session == read.session && published > read {
                tracked.restore(known, setting, Some(read));
            } else if awaited && known.mark > tracked.mark() {
                tracked.restore(known, setting, None);
            } else {
                tracked.raise(known.mark);
            }
        }
        let own = self.stream.session();
        let theirs = claimed.checkpoint.map(|checkpoint| checkpoint.session.id);
        if own.is_some_and(|own| own.number <= last_session && Some(&own.id) != theirs.as_ref()) {
            self.stream.renumber();
        }
        self.acked_report = None;
    }

    /// As after a first claim, but without a session. The connected one is of no use, and the other
    /// worker may still be reading its own.
    fn restart(&mut self, claimed: Claimed) {
        self.stream.abandon();
        *self = Self {
            stream: std::mem::take(&mut self.stream),
            generation: self.generation,
            acked: self.acked,
            last_ticket: self.last_ticket,
            identify_wanted: true,
            ..Self::new(self.setting.clone())
        };
        self.restore(Claimed {
            checkpoint: None,
            ..claimed
        });
    }

    fn restore(&mut self, claimed: Claimed) {
        let resumed = claimed.checkpoint.filter(|checkpoint| {
            let known = |guild: &GuildId| {
                let mut known = claimed.guilds.iter();
                known.any(|known| known.roster.guild_id == *guild)
                    || claimed.unserved.contains(guild)
            };
            checkpoint.fingerprint == self.setting.fingerprint
                // RESUME brings no GUILD_CREATE.
                && self.guilds.keys().all(known)
                // A later session was read since, so this one was lost.
                && claimed
                    .guilds
                    .iter()
                    .all(|known| known.mark.reached.session <= checkpoint.session.number)
        });
        let behind = resumed.as_ref().map(Checkpoint::reached);
        for known in claimed.guilds {
            if let Some(tracked) = self.guilds.get_mut(&known.roster.guild_id) {
                tracked.restore(known, self.setting.roster.clone(), behind);
            }
        }
        if let Some(checkpoint) = resumed {
            for guild in &claimed.unserved {
                if let Some(tracked) = self.guilds.get_mut(guild) {
                    tracked.skip();
                }
            }
            self.gateway = (GatewayState::Resuming, Some(report::CATCHING_UP));
            self.replaying = true;
            self.stream.resume(checkpoint.session, checkpoint.sequence);
            self.stream.set_resumes(checkpoint.resumes);
        }
    }

    /// Whether another worker has overtaken this one. Nothing is read until it has identified.
    pub fn is_overtaken(&self) -> bool {
        self.stream.is_abandoned()
    }

    /// The session to resume, and its last sequence; none: identify.
    pub fn resume(&self) -> Option<(&GatewaySession, u64)> {
        let session = self.stream.session()?;
        let lost = session.number <= self.stream.lost();
        (!lost).then(|| (session, self.stream.reached().sequence))
    }

    /// A RESUME is sent. It counts until [`Feed::resume_answered`], also over the workers of this
    /// session: the hub remembers the count.
    pub fn resume_sent(&mut self) {
        self.stream.resume_sent();
    }

    /// Discord has resumed the session.
    pub fn resume_answered(&mut self) {
        self.stream.set_resumes(0);
    }

    /// RESUMEs of the session that were sent since RESUMED last came.
    pub fn resumes(&self) -> u32 {
        self.stream.resumes()
    }

    /// Discord does not resume the session. This worker does not try again, nor does the next one
    /// once the hub knows it. What was read of the session stays until the next one begins.
    pub fn lose_session(&mut self) {
        self.stream.lose();
        self.gateway = (GatewayState::Rebuilding, Some(report::SESSION_LOST));
    }

    /// The shard, and the generation of its claim; 0 before it.
    pub fn claimed(&self) -> ((u32, u32), u64) {
        (self.setting.shard, self.generation)
    }

    /// The guilds that are followed on this shard.
    pub fn guild_ids(&self) -> impl Iterator<Item = GuildId> + '_ {
        self.guilds.keys().copied()
    }
}
