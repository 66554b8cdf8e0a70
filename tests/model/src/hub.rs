//! The hub: the real [`LogState`], and what its logs have published so far.

use proto::chain::{Claimed, Conflict};
use proto::delivery::Receipt;
use proto::event::{Event, Fact};
use roomlog::{
    Change, Command, GuildRecord, GuildState, LogState, NewEntry, Position, Record, Reply,
};

use crate::discord::{Discord, GUILDS, guild_id, guild_of};
use crate::judge::{Entry, Published};
use crate::over_the_wire;
use crate::worker::{Delivery, Worker};

/// Generations, sessions and epochs of different claims are so far apart.
const TICK_MS: u64 = 100;
/// When deliveries arrive: nothing but an epoch depends on it.
const NOW_MS: u64 = 1_000;
/// Where every guild's log stands before a delivery: what came before does not change what follows,
/// and would make different worlds of the same.
const NOWHERE: Position = Position {
    epoch: NOW_MS,
    offset: 0,
    check: 0,
};

/// A hub's store.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Hub {
    /// The workers and the guilds.
    pub state: LogState,
    /// What each guild's log has published.
    pub published: [Published; GUILDS as usize],
    /// Sessions up to this number are lost, as a worker has reported.
    pub lost: u64,
}

impl Hub {
    /// An empty store.
    pub fn empty() -> Self {
        let mut state = LogState::default();
        for guild in 0..GUILDS {
            state.put(guild_id(guild), GuildRecord::begin(NOWHERE.epoch));
        }
        Self {
            state,
            published: Default::default(),
            lost: 0,
        }
    }

    /// A worker claims, at this tick of the clock.
    ///
    /// # Errors
    /// What must never happen.
    pub fn claim(&mut self, tick: u8) -> Result<Claimed, String> {
        let command = Command::Claim {
            id: "claim".into(),
            claim: over_the_wire(&Worker::claim()),
        };
        let (reply, _) = self.execute(&command, NOW_MS + u64::from(tick) * TICK_MS)?;
        match reply {
            Reply::Claimed(Ok(claimed)) => Ok(over_the_wire(&claimed)),
            reply => Err(format!("a claim is answered {reply:?}")),
        }
    }

    /// Executes a command, and sees that its record holds all that it changes.
    fn execute(&mut self, command: &Command, now_ms: u64) -> Result<(Reply, Record), String> {
        let mut absorbed = self.state.clone();
        let (reply, record) = self.state.execute(command, now_ms);
        absorbed.absorb(&record);
        if absorbed == self.state {
            // Every request has an id of its own, and is far from any limit.
            self.state.forget_requests();
            Ok((reply, record))
        } else {
            Err(format!("a record lacks something: {record:?}"))
        }
    }

    /// A delivery arrives.
    ///
    /// # Errors
    /// What a log must never say.
    pub fn deliver(
        &mut self,
        delivery: &Delivery,
        discord: &Discord,
    ) -> Result<Result<Receipt, Conflict>, String> {
        let now = NOW_MS;
        let before: Vec<(GuildState, proto::chain::Mark)> = (0..GUILDS)
            .filter_map(|guild| self.state.guild(guild_id(guild)))
            .map(|history| (history.state.clone(), history.mark))
            .collect();
        let command = Command::Deliver {
            link: delivery.link.clone(),
            events: delivery.events.clone(),
        };
        let (reply, record) = self.execute(&command, now)?;
        let appended = match reply {
            Reply::Delivered(Ok(appended)) => appended,
            Reply::Delivered(Err(refused)) => return Ok(Err(over_the_wire(&refused.conflict))),
            reply => return Err(format!("a delivery is answered {reply:?}")),
        };
        self.lost = self.lost.max(delivery.link.lost);
        let mut states: Vec<GuildState> = before.iter().map(|(state, _)| state.clone()).collect();
        let mut events = delivery.events.iter();
        for new in &record.entries {
            self.judge(new, &mut states, &mut events, discord)?;
        }
        for (guild, (_, mark)) in before.iter().enumerate() {
            let guild = u8::try_from(guild).unwrap_or(u8::MAX);
            let Some(history) = self.state.guild(guild_id(guild)).cloned() else {
                continue;
            };
            if history.mark < *mark {
                return Err(format!("guild {guild}: its mark went back"));
            }
            let position = NOWHERE;
            self.state.put(
                guild_id(guild),
                GuildRecord {
                    position,
                    ..history
                },
            );
        }
        Ok(Ok(over_the_wire(&Receipt {
            accepted: appended.accepted,
            duplicates: appended.duplicates,
            refused: appended.refused,
            duplicate: false,
            wanted: self.state.wanted(delivery.link.shard.0),
        })))
    }

    fn judge<'a>(
        &mut self,
        new: &NewEntry,
        states: &mut [GuildState],
        events: &mut impl Iterator<Item = &'a Event>,
        discord: &Discord,
    ) -> Result<(), String> {
        let guild = guild_of(new.guild);
        let fact = match &new.applied.entry.change {
            Change::Fact(fact) => fact,
            change => return Err(format!("guild {guild}: nobody sent {change:?}")),
        };
        // In order, and as they were sent: an addition of the hub would be found here.
        let Some(event) = events.find(|event| event.fact == *fact) else {
            return Err(format!("guild {guild}: the hub had to add {fact:?}"));
        };
        if matches!(fact, Fact::Snapshot(_)) && new.applied.entry.position.epoch <= NOWHERE.epoch {
            return Err(format!("guild {guild}: an epoch that may have been before"));
        }
        let state = &mut states[usize::from(guild)];
        let entry = Entry {
            fact,
            at: event.at.unwrap_or_default(),
            before: state,
            after: &new.applied.after,
        };
        let published = &mut self.published[usize::from(guild)];
        published
            .hear(guild, &entry, discord)
            .map_err(|wrong| format!("guild {guild}: {wrong}\n     in {event:?}"))?;
        *state = new.applied.after.clone();
        Ok(())
    }

    /// Whether a worker that resumes from the checkpoint would miss nothing.
    ///
    /// # Errors
    /// What it would miss.
    pub fn check_checkpoint(&self, discord: &Discord) -> Result<(), String> {
        let holder = self.state.workers.holder(0);
        let Some(checkpoint) = holder.and_then(|holder| holder.progress.checkpoint.as_ref()) else {
            return Ok(());
        };
        let number = checkpoint.session.number;
        let Some(session) = discord.numbers.get(&number) else {
            return Err(format!("a checkpoint in an unknown session {number}"));
        };
        // RESUME brings no GUILD_CREATE: without all guilds a worker identifies.
        if self.state.guilds().any(|(_, history)| !history.state.known) {
            return Ok(());
        }
        for guild in 0..GUILDS {
            let Some(covered) = discord.sent_transitions(*session, checkpoint.sequence, guild)
            else {
                continue;
            };
            let Some(history) = self.state.guild(guild_id(guild)) else {
                continue;
            };
            let published = &self.published[usize::from(guild)];
            let up_to = |moves: u8| {
                history.state.roster(guild_id(guild), "") == discord.roster(guild, moves)
            };
            // What could not be read is known by a later dispatch, which is replayed, or by REST, which
            // may be ahead of the stream: that is seen when a worker dies here.
            let unread = |number| discord.moved(guild, number).is_some_and(|one| !one.legible);
            if (1..=covered).any(unread) {
                continue;
            }
            let same = || up_to(discord.moves_with(guild, covered));
            if published.last < covered && !same() {
                return Err(format!(
                    "guild {guild}: the checkpoint {number}:{} passes what is not in the log: {} of {covered} transitions",
                    checkpoint.sequence, published.last
                ));
            }
        }
        Ok(())
    }

    /// Whether everything is published, and nothing else.
    ///
    /// # Errors
    /// What is not.
    pub fn check_rest(&self, worker: &Worker, discord: &Discord) -> Result<(), String> {
        for guild in 0..GUILDS {
            let id = guild_id(guild);
            let truth = discord.roster(guild, discord.now());
            let here = self
                .state
                .guild(id)
                .map(|history| history.state.roster(id, ""));
            if here.as_ref() != Some(&truth) {
                return Err(format!(
                    "guild {guild}: at rest, the hub has {here:?}\n     and Discord has {truth:?}"
                ));
            }
        }
        let holder = self.state.workers.holder(0);
        let Some((session, read)) = worker.session else {
            return Err("at rest without a session".to_owned());
        };
        let reached = holder
            .map(|holder| holder.progress.reached)
            .unwrap_or_default();
        if reached.sequence != u64::from(read)
            || discord.numbers.get(&reached.session) != Some(&session)
        {
            return Err(format!(
                "at rest, the checkpoint stands at {reached:?} of {session}:{read}"
            ));
        }
        let absent = holder.map(|holder| holder.progress.absent.len());
        if absent != Some(0) {
            return Err(format!("at rest, {absent:?} guilds count as absent"));
        }
        Ok(())
    }
}
