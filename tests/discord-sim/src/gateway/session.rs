//! One gateway session: what it asked for, its sequence, and what it can still replay.
//!
//! Pure: a dispatch goes in and comes out as the text to send; a RESUME is answered with the texts
//! that were missed, or with the reason why not.

use std::collections::VecDeque;
use std::sync::Arc;

use serde_json::Value;

use crate::snowflake::Id;

/// A session of one shard.
#[derive(Debug)]
pub(crate) struct Session {
    /// Its id, as in READY.
    pub(crate) id: String,
    /// Which shard of how many.
    pub(crate) shard: (u32, u32),
    /// The dispatches that it asked for.
    pub(crate) intents: u64,
    /// Whether it opted into obfuscated channels.
    pub(crate) obfuscated: bool,
    /// The connection it is attached to; none: it waits for RESUME.
    pub(crate) connection: Option<u64>,
    /// Since when it waits, Unix milliseconds.
    pub(crate) detached_ms: u64,
    /// It cannot be resumed any more, though its connection may live on.
    pub(crate) expired: bool,
    seq: u64,
    replay: VecDeque<(u64, Arc<str>)>,
    replay_max: usize,
}

/// Why a RESUME is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unresumable {
    /// The client claims to have seen what was never sent: close 4007.
    FromTheFuture,
    /// What it missed is not kept any more, or the session has expired: op 9.
    Forgotten,
}

impl Session {
    /// A new session, attached to `connection`.
    pub(crate) fn new(
        id: String,
        shard: (u32, u32),
        intents: u64,
        connection: u64,
        replay_max: usize,
    ) -> Self {
        Self {
            id,
            shard,
            intents,
            obfuscated: false,
            connection: Some(connection),
            detached_ms: 0,
            expired: false,
            seq: 0,
            replay: VecDeque::new(),
            replay_max,
        }
    }

    /// Whether this session's shard serves the guild.
    pub(crate) fn serves(&self, guild: Id) -> bool {
        guild.shard(self.shard.1) == u64::from(self.shard.0)
    }

    /// The sequence of its last dispatch; 0: none yet.
    pub(crate) fn seq(&self) -> u64 {
        self.seq
    }

    /// Numbers a dispatch, keeps it for replay, and returns the text to send.
    pub(crate) fn dispatch(&mut self, event: &str, data: &Value) -> Arc<str> {
        self.seq += 1;
        let text: Arc<str> = super::payload::dispatch(event, self.seq, data).into();
        if self.replay.len() >= self.replay_max {
            self.replay.pop_front();
        }
        self.replay.push_back((self.seq, Arc::clone(&text)));
        text
    }

    /// What was dispatched after `seen`, in order.
    pub(crate) fn replay(&self, seen: u64) -> Result<Vec<Arc<str>>, Unresumable> {
        if seen > self.seq {
            return Err(Unresumable::FromTheFuture);
        }
        let oldest = self.replay.front().map_or(self.seq + 1, |(seq, _)| *seq);
        if self.expired || seen.saturating_add(1) < oldest {
            return Err(Unresumable::Forgotten);
        }
        Ok(self
            .replay
            .iter()
            .filter(|(seq, _)| *seq > seen)
            .map(|(_, text)| Arc::clone(text))
            .collect())
    }

    /// Whether it has waited for RESUME longer than it lives.
    pub(crate) fn is_over(&self, now_ms: u64, ttl_ms: u64) -> bool {
        self.connection.is_none()
            && (self.expired || now_ms.saturating_sub(self.detached_ms) >= ttl_ms)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]

        #[test]
        fn a_resume_replays_exactly_what_was_missed_or_says_that_it_cannot(
            sent in 0_u64..60, seen in 0_u64..70, kept in 1_usize..40,
        ) {
            let mut session = Session::new("s".to_owned(), (0, 1), 0, 1, kept);
            let all: Vec<_> = (0..sent).map(|n| session.dispatch("X", &json!({"n": n}))).collect();
            let kept = u64::try_from(kept).unwrap();
            match session.replay(seen) {
                Ok(missed) => prop_assert_eq!(missed, all[usize::try_from(seen).unwrap()..].to_vec()),
                Err(Unresumable::FromTheFuture) => prop_assert!(seen > sent),
                Err(Unresumable::Forgotten) => prop_assert!(seen + kept < sent),
            }
        }
    }
}
