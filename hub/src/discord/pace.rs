//! When Discord may be asked: what it said about waiting, and what we do not want to provoke.
//!
//! Pure: the time is given. Nothing here waits; a call that may not be made now is refused with
//! how long to wait, so that a person is told at once instead of hanging in a queue
//! (Discord's API documentation, "Rate Limits").

use std::collections::{HashMap, VecDeque};

use super::call::Call;

/// The window in which Discord counts invalid answers, in milliseconds ("Invalid Request Limit").
const INVALID_WINDOW_MS: u64 = 10 * 60 * 1000;
/// How many calls may be paused at a time, each by its own route. Past it, everything is paused:
/// too careful rather than too many.
const PAUSES_MAX: usize = 1_000;
/// No answer makes us wait longer than this, in milliseconds: beyond it somebody has to look.
pub(super) const PAUSE_MAX_MS: u64 = 60 * 60 * 1000;

/// What an answer says about further calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Said {
    /// The HTTP status.
    pub(super) status: u16,
    /// Of a 429: how long to wait, in milliseconds.
    pub(super) retry_after_ms: Option<u64>,
    /// Of a 429: it holds for every call of this bot.
    pub(super) global: bool,
    /// Of a 429: others used the resource up; it does not count as our fault.
    pub(super) shared: bool,
    /// The route's bucket is empty, and for how long, in milliseconds.
    pub(super) exhausted_ms: Option<u64>,
}

/// The state behind [`Pace::admit`].
pub(super) struct Pace {
    per_second_max: u32,
    invalid_max: usize,
    second: (u64, u32),
    all_until_ms: u64,
    until_ms: HashMap<Call, u64>,
    invalid_at_ms: VecDeque<u64>,
}

impl Pace {
    /// At most `per_second_max` calls a second (Discord allows a bot 50), and none any more after
    /// `invalid_max` invalid answers in 10 minutes (Discord bans an address at 10,000).
    pub(super) fn new(per_second_max: u32, invalid_max: usize) -> Self {
        Self {
            per_second_max,
            invalid_max,
            second: (0, 0),
            all_until_ms: 0,
            until_ms: HashMap::new(),
            invalid_at_ms: VecDeque::new(),
        }
    }

    /// Whether a call may be made now.
    ///
    /// # Errors
    /// How long to wait, in milliseconds.
    pub(super) fn admit(&mut self, call: Call, now_ms: u64) -> Result<(), u64> {
        let own = self.until_ms.get(&call).copied().unwrap_or(0);
        let mut until_ms = own;
        if call.counts_for_the_bot() {
            until_ms = until_ms.max(self.all_until_ms);
        }
        while let Some(at) = self.invalid_at_ms.front() {
            if now_ms.saturating_sub(*at) < INVALID_WINDOW_MS {
                break;
            }
            self.invalid_at_ms.pop_front();
        }
        if self.invalid_at_ms.len() >= self.invalid_max {
            let oldest = self.invalid_at_ms.front().copied().unwrap_or(now_ms);
            until_ms = until_ms.max(oldest + INVALID_WINDOW_MS);
        }
        if until_ms > now_ms {
            return Err(until_ms - now_ms);
        }
        if call.counts_for_the_bot() {
            let second = now_ms / 1000;
            if self.second.0 != second {
                self.second = (second, 0);
            }
            if self.second.1 >= self.per_second_max {
                return Err(1000 - now_ms % 1000);
            }
            self.second.1 += 1;
        }
        Ok(())
    }

    /// Remembers how long an answer asks to wait.
    pub(super) fn wait(&mut self, call: Call, said: Said, now_ms: u64) {
        let limited = said.status == 429;
        let wait_ms = if limited {
            said.retry_after_ms
        } else {
            said.exhausted_ms
        };
        if let Some(wait_ms) = wait_ms {
            let until_ms = now_ms + wait_ms.min(PAUSE_MAX_MS);
            if limited && said.global {
                self.all_until_ms = self.all_until_ms.max(until_ms);
            } else {
                self.pause(call, until_ms, now_ms);
            }
        }
    }

    /// Counts an answer that Discord calls invalid, whatever its body is. True if with it invalid
    /// answers reached their bound.
    pub(super) fn count(&mut self, said: Said, now_ms: u64) -> bool {
        let limited = said.status == 429;
        let invalid = matches!(said.status, 401 | 403) || limited && !said.shared;
        if !invalid || self.invalid_at_ms.len() >= self.invalid_max {
            return false;
        }
        self.invalid_at_ms.push_back(now_ms);
        self.invalid_at_ms.len() == self.invalid_max
    }

    fn pause(&mut self, call: Call, until_ms: u64, now_ms: u64) {
        if self.until_ms.len() >= PAUSES_MAX {
            self.until_ms.retain(|_, until| *until > now_ms);
        }
        if self.until_ms.len() >= PAUSES_MAX && !self.until_ms.contains_key(&call) {
            self.all_until_ms = self.all_until_ms.max(until_ms);
            return;
        }
        let until = self.until_ms.entry(call).or_insert(0);
        *until = until_ms.max(*until);
    }
}

#[cfg(test)]
mod tests {
    use proto::{ChannelId, GuildId};

    use super::*;

    fn create(guild: u64) -> Call {
        Call::CreateChannel(GuildId::new(guild).unwrap())
    }

    fn delete(channel: u64) -> Call {
        Call::DeleteChannel(ChannelId::new(channel).unwrap())
    }

    fn limited(retry_after_ms: u64) -> Said {
        Said {
            status: 429,
            retry_after_ms: Some(retry_after_ms),
            ..Said::default()
        }
    }

    #[test]
    fn a_limited_route_is_not_called_before_its_time_and_others_are() {
        let mut pace = Pace::new(50, 100);
        assert_eq!(pace.admit(create(1), 0), Ok(()));
        pace.wait(create(1), limited(2_500), 100);
        assert_eq!(pace.admit(create(1), 100), Err(2_500));
        assert_eq!(pace.admit(create(1), 2_599), Err(1));
        assert_eq!(pace.admit(create(2), 100), Ok(()));
        assert_eq!(pace.admit(create(1), 2_600), Ok(()));
    }

    #[test]
    fn a_global_limit_stops_every_call_but_answers_to_interactions() {
        let mut pace = Pace::new(50, 100);
        let global = Said {
            global: true,
            ..limited(1_000)
        };
        pace.wait(create(1), global, 0);
        assert_eq!(pace.admit(delete(1), 400), Err(600));
        assert_eq!(pace.admit(Call::EditOriginal, 400), Ok(()));
    }

    #[test]
    fn an_empty_bucket_pauses_its_route_and_an_older_answer_does_not_shorten_it() {
        let mut pace = Pace::new(50, 100);
        let left = |exhausted_ms| Said {
            status: 201,
            exhausted_ms,
            ..Said::default()
        };
        pace.wait(create(1), left(Some(900)), 0);
        pace.wait(create(1), left(None), 1);
        assert_eq!(pace.admit(create(1), 1), Err(899));
    }

    #[test]
    fn a_second_holds_so_many_calls() {
        let mut pace = Pace::new(2, 100);
        assert_eq!(pace.admit(create(1), 10_000), Ok(()));
        assert_eq!(pace.admit(delete(2), 10_000), Ok(()));
        assert_eq!(pace.admit(delete(3), 10_250), Err(750));
        assert_eq!(pace.admit(Call::EditOriginal, 10_250), Ok(()));
        assert_eq!(pace.admit(delete(3), 11_000), Ok(()));
    }

    #[test]
    fn too_many_invalid_answers_stop_everything_until_the_oldest_is_ten_minutes_old() {
        let mut pace = Pace::new(50, 3);
        let answer = |status| Said {
            status,
            ..Said::default()
        };
        for (n, status) in [401, 403].into_iter().enumerate() {
            assert!(!pace.count(answer(status), n as u64 * 1_000));
        }
        let shared = Said {
            shared: true,
            ..limited(0)
        };
        assert!(!pace.count(shared, 2_000), "not our fault");
        assert!(!pace.count(answer(404), 2_000), "not invalid");
        assert!(pace.count(answer(403), 2_000));
        assert_eq!(pace.admit(create(1), 2_000), Err(598_000));
        assert_eq!(pace.admit(Call::EditOriginal, 2_000), Err(598_000));
        assert_eq!(pace.admit(create(1), 600_000), Ok(()));
        assert!(pace.count(answer(403), 600_000));
    }

    #[test]
    fn however_many_routes_are_limited_the_memory_is_bounded() {
        let mut pace = Pace::new(50, usize::MAX);
        for channel in 1..=2_000 {
            pace.wait(delete(channel), limited(1_000), 0);
        }
        assert_eq!(pace.until_ms.len(), PAUSES_MAX);
        assert_eq!(
            pace.admit(delete(5_000), 500),
            Err(500),
            "then all are paused"
        );
        pace.wait(delete(3_000), limited(1_000), 1_000);
        assert_eq!(pace.until_ms.len(), 1, "and what is over is forgotten");
    }
}
