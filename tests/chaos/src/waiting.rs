//! Waiting for a fact, and no longer than it may take.

use std::time::Duration;

use tokio::time::{Instant, sleep};

/// How often it is looked.
pub(crate) const LOOK: Duration = Duration::from_millis(5);

/// Waits until it is so; false if it is not in time.
pub(crate) async fn within(most: Duration, mut is_so: impl FnMut() -> bool) -> bool {
    let until = Instant::now() + most;
    while !is_so() {
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
    async fn what_does_not_come_is_given_up_and_what_comes_is_waited_for() {
        assert!(!within(LOOK, || false).await);
        let mut looks = 0;
        let comes = || {
            looks += 1;
            looks == 3
        };
        assert!(within(Duration::from_secs(10), comes).await);
    }
}
