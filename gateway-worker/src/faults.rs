//! Fail points: places at which a test has this process killed, as by SIGKILL.
//!
//! Only in a build with the feature `faults`, and only if its environment asks: `FAIL_POINT=name:n`
//! ends the process at the n-th passage of that point. Without the feature this is nothing.
//!
//! | point | what is so when it is passed |
//! |---|---|
//! | `received` | a dispatch is read, and is not in the feed |
//! | `queued` | its events are in the outbox |
//! | `posted` | a delivery is answered, and the answer is not read |
//! | `acknowledged` | the answer is read, and not noted |

/// Passes a fail point.
#[cfg(not(feature = "faults"))]
#[inline]
pub(crate) fn pass(_point: &str) {}

/// Passes a fail point.
#[cfg(feature = "faults")]
pub(crate) fn pass(point: &str) {
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU64, Ordering};

    // A process is killed once: what is counted for that is the process's.
    static ASKED: OnceLock<Option<(String, u64)>> = OnceLock::new();
    static PASSED: AtomicU64 = AtomicU64::new(0);
    #[expect(
        clippy::disallowed_methods,
        reason = "no setting of the program: its settings know nothing of faults"
    )]
    let asked = ASKED.get_or_init(|| {
        let asked = std::env::var("FAIL_POINT").ok()?;
        let (name, nth) = asked.split_once(':')?;
        Some((name.to_owned(), nth.parse().ok()?))
    });
    if let Some((name, nth)) = asked
        && name == point
        && PASSED.fetch_add(1, Ordering::Relaxed) + 1 == *nth
    {
        // Nothing is flushed, closed or told on the way: this is the end.
        let _killed =
            rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
    }
}
