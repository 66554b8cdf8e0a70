//! What must be seen while a fault lasts: waits for a fact, and complaints where it does not come.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::stage::{Side, Stage};
use crate::subscriber::Subscriber;
use crate::waiting::{LOOK, within};

/// How soon what is promised at once must be seen (F8, F19: 5 s).
pub(super) const SOON: Duration = Duration::from_secs(5);

/// Waits until the witness is told this of the gateway, or complains.
pub(super) async fn told(
    stage: &mut Stage,
    witness: &Subscriber,
    state: &str,
    reason: &str,
    most: Duration,
) {
    if !within(most, || witness.is_told(state, reason)).await {
        stage.complain(format!(
            "pages are not told {state} {reason} within {most:?}"
        ));
    }
}

/// Waits until this side has sounded an alarm with these words, or complains.
pub(super) async fn alarmed(stage: &mut Stage, side: Side, words: &str) {
    let is_told = |line: &str| line.contains("ALARM") && line.contains(words);
    if !within(SOON, || stage.log(side).lines().any(is_told)).await {
        stage.complain(format!("{side:?} sounds no alarm: {words}"));
    }
}

/// Waits until the hub says that it is ready, or that it is not.
pub(super) async fn ready(stage: &mut Stage, is: bool) {
    let url = format!("{}/readyz", stage.world.internal_url);
    let until = Instant::now() + SOON;
    loop {
        let answer = stage.world.http.get(&url).send().await;
        let status = answer
            .map(|answer| answer.status().as_u16())
            .unwrap_or_default();
        if status == if is { 200 } else { 503 } {
            return;
        }
        if Instant::now() > until {
            stage.complain(format!("the hub's readiness is {status} after {SOON:?}"));
            return;
        }
        sleep(LOOK).await;
    }
}
