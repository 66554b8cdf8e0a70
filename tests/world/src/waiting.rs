//! Waiting for a fact, with a deadline.

use std::time::{Duration, Instant};

use tokio::time::sleep;

/// How long a fact may take to become true on a busy machine.
pub const DEADLINE: Duration = Duration::from_secs(20);
/// How often a fact is looked for.
pub const LOOK: Duration = Duration::from_millis(5);
/// How often a request asks for a fact.
const ASK: Duration = Duration::from_millis(20);

/// Asks until there is an answer, or panics after [`DEADLINE`].
pub async fn eventually<T, F: Future<Output = Option<T>>>(
    what: &str,
    mut ask: impl FnMut() -> F,
) -> T {
    let until = Instant::now() + DEADLINE;
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(Instant::now() < until, "not in time: {what}");
        sleep(ASK).await;
    }
}

/// Waits until a fact is true; false if it is not true in time.
pub async fn within(most: Duration, mut is_true: impl FnMut() -> bool) -> bool {
    let until = Instant::now() + most;
    while !is_true() {
        if Instant::now() > until {
            return false;
        }
        sleep(LOOK).await;
    }
    true
}

/// As [`within`], for a fact that a request has to ask for.
pub async fn within_async<F: Future<Output = bool>>(
    most: Duration,
    mut is_true: impl FnMut() -> F,
) -> bool {
    let until = Instant::now() + most;
    while !is_true().await {
        if Instant::now() > until {
            return false;
        }
        sleep(LOOK).await;
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_wait_ends_with_the_fact_or_at_the_deadline() {
        assert!(!within(LOOK, || false).await);
        let mut looks = 0;
        let third = || {
            looks += 1;
            looks == 3
        };
        assert!(within(DEADLINE, third).await);
        assert!(!within_async(LOOK, || async { false }).await);
    }
}
