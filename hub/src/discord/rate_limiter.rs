//! When a call to Discord is admitted: Discord's rate limits (its API documentation, "Rate Limits"),
//! and bounds of our own.
//!
//! Pure: the time is given. Nothing here waits. A call that is not admitted gets the time to wait, so
//! that a person sees an answer at once.

use std::collections::{HashMap, VecDeque};

use launch::rate::{RateBucket, RateLimit};

use super::call::Call;

/// The window in which Discord counts invalid responses, in milliseconds ("Invalid Request Limit").
const INVALID_WINDOW_MS: u64 = 10 * 60 * 1000;
/// How many calls may be paused at a time, each by its own route. Beyond it all calls are paused.
const PAUSES_MAX: usize = 1_000;
/// The longest pause, in milliseconds, whatever a response asks for.
pub(super) const PAUSE_MAX_MS: u64 = 60 * 60 * 1000;

/// What a response says about further calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct ResponseLimits {
    /// The HTTP status.
    pub(super) status: u16,
    /// Of a 429: how long to wait, in milliseconds.
    pub(super) retry_after_ms: Option<u64>,
    /// Of a 429: it applies to every call of this bot.
    pub(super) global: bool,
    /// Of a 429: others exhausted the resource, so it does not count as invalid.
    pub(super) shared: bool,
    /// The route's bucket is empty, and for how long, in milliseconds.
    pub(super) exhausted_ms: Option<u64>,
}

/// Which calls are admitted.
pub(super) struct RateLimiter {
    limit: RateLimit,
    bucket: RateBucket,
    invalid_max: usize,
    /// Until when all globally limited calls are paused.
    all_until_ms: u64,
    /// Until when each call is paused.
    until_ms: HashMap<Call, u64>,
    invalid_at_ms: VecDeque<u64>,
}

impl RateLimiter {
    /// Admits at most `per_second_max` calls a second (Discord allows a bot 50), and none after
    /// `invalid_max` invalid responses in 10 minutes (Discord bans an address at 10,000).
    pub(super) fn new(per_second_max: u32, invalid_max: usize) -> Self {
        Self {
            limit: RateLimit::per_second(per_second_max, per_second_max),
            bucket: RateBucket::default(),
            invalid_max,
            all_until_ms: 0,
            until_ms: HashMap::new(),
            invalid_at_ms: VecDeque::new(),
        }
    }

    /// Admits a call that may be made now.
    ///
    /// # Errors
    /// How long to wait, in milliseconds.
    pub(super) fn admit(&mut self, call: Call, now_ms: u64) -> Result<(), u64> {
        let own = self.until_ms.get(&call).copied().unwrap_or(0);
        let mut until_ms = own;
        if call.is_globally_limited() {
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
        if call.is_globally_limited() {
            self.bucket.take(self.limit, now_ms)?;
        }
        Ok(())
    }

    /// Records how long a response asks to wait.
    pub(super) fn record(&mut self, call: Call, limits: ResponseLimits, now_ms: u64) {
        let limited = limits.status == 429;
        let wait_ms = if limited {
            limits.retry_after_ms
        } else {
            limits.exhausted_ms
        };
        if let Some(wait_ms) = wait_ms {
            let until_ms = now_ms + wait_ms.min(PAUSE_MAX_MS);
            if limited && limits.global {
                self.all_until_ms = self.all_until_ms.max(until_ms);
            } else {
                self.pause(call, until_ms, now_ms);
            }
        }
    }

    /// Counts a response that Discord calls invalid, whatever its body is. True if this one reaches
    /// the bound of invalid responses.
    pub(super) fn count_invalid(&mut self, limits: ResponseLimits, now_ms: u64) -> bool {
        let limited = limits.status == 429;
        let invalid = matches!(limits.status, 401 | 403) || limited && !limits.shared;
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

    fn limited(retry_after_ms: u64) -> ResponseLimits {
        ResponseLimits {
            status: 429,
            retry_after_ms: Some(retry_after_ms),
            ..ResponseLimits::default()
        }
    }

    #[test]
    fn a_limited_route_is_paused_and_others_are_not() {
        let mut limiter = RateLimiter::new(50, 100);
        assert_eq!(limiter.admit(create(1), 0), Ok(()));
        limiter.record(create(1), limited(2_500), 100);
        assert_eq!(limiter.admit(create(1), 100), Err(2_500));
        assert_eq!(limiter.admit(create(1), 2_599), Err(1));
        assert_eq!(limiter.admit(create(2), 100), Ok(()));
        assert_eq!(limiter.admit(create(1), 2_600), Ok(()));
    }

    #[test]
    fn a_global_limit_pauses_every_call_but_responses_to_interactions() {
        let mut limiter = RateLimiter::new(50, 100);
        let global = ResponseLimits {
            global: true,
            ..limited(1_000)
        };
        limiter.record(create(1), global, 0);
        assert_eq!(limiter.admit(delete(1), 400), Err(600));
        assert_eq!(limiter.admit(Call::EditOriginal, 400), Ok(()));
    }

    #[test]
    fn an_exhausted_route_is_paused_and_an_older_response_does_not_shorten_the_pause() {
        let mut limiter = RateLimiter::new(50, 100);
        let left = |exhausted_ms| ResponseLimits {
            status: 201,
            exhausted_ms,
            ..ResponseLimits::default()
        };
        limiter.record(create(1), left(Some(900)), 0);
        limiter.record(create(1), left(None), 1);
        assert_eq!(limiter.admit(create(1), 1), Err(899));
    }

    #[test]
    fn calls_are_admitted_at_the_rate_of_the_bot() {
        let mut limiter = RateLimiter::new(2, 100);
        assert_eq!(limiter.admit(create(1), 10_000), Ok(()));
        assert_eq!(limiter.admit(delete(2), 10_000), Ok(()));
        assert_eq!(limiter.admit(delete(3), 10_250), Err(250));
        assert_eq!(limiter.admit(Call::EditOriginal, 10_250), Ok(()));
        assert_eq!(limiter.admit(delete(3), 10_500), Ok(()));
    }

    #[test]
    fn too_many_invalid_responses_pause_every_call_until_the_oldest_is_ten_minutes_old() {
        let mut limiter = RateLimiter::new(50, 3);
        let answer = |status| ResponseLimits {
            status,
            ..ResponseLimits::default()
        };
        for (n, status) in [401, 403].into_iter().enumerate() {
            assert!(!limiter.count_invalid(answer(status), n as u64 * 1_000));
        }
        let shared = ResponseLimits {
            shared: true,
            ..limited(0)
        };
        assert!(!limiter.count_invalid(shared, 2_000), "not ours");
        assert!(!limiter.count_invalid(answer(404), 2_000), "not invalid");
        assert!(limiter.count_invalid(answer(403), 2_000));
        assert_eq!(limiter.admit(create(1), 2_000), Err(598_000));
        assert_eq!(limiter.admit(Call::EditOriginal, 2_000), Err(598_000));
        assert_eq!(limiter.admit(create(1), 600_000), Ok(()));
        assert!(limiter.count_invalid(answer(403), 600_000));
    }

    #[test]
    fn the_memory_is_bounded_for_any_number_of_limited_routes() {
        let mut limiter = RateLimiter::new(50, usize::MAX);
        for channel in 1..=2_000 {
            limiter.record(delete(channel), limited(1_000), 0);
        }
        assert_eq!(limiter.until_ms.len(), PAUSES_MAX);
        assert_eq!(
            limiter.admit(delete(5_000), 500),
            Err(500),
            "then all are paused"
        );
        limiter.record(delete(3_000), limited(1_000), 1_000);
        assert_eq!(
            limiter.until_ms.len(),
            1,
            "and pauses that have ended are dropped"
        );
    }
}
