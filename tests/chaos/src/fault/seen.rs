//! What must be seen while a fault lasts: waits for a fact, and complaints where it does not come.

use std::time::Duration;

use tokio::time::sleep;
use world::{Side, within, within_async};

use crate::environment::Environment;
use crate::subscriber::Subscriber;

/// The time within which a fact must be seen that is promised at once (F8, F19: 5 s).
pub(super) const SOON: Duration = Duration::from_secs(5);

/// How long a process may take to pass its fail point: events come at some ten a second.
pub(super) const PASSED: Duration = Duration::from_secs(20);

pub(super) async fn pause(ms: u64) {
    sleep(Duration::from_millis(ms)).await;
}

/// Waits until this is the gateway's state for the witness, or complains.
pub(super) async fn shown(
    environment: &mut Environment,
    witness: &Subscriber,
    state: &str,
    reason: &str,
    most: Duration,
) {
    if !within(most, || witness.shows_gateway(state, reason)).await {
        environment.complain(format!("pages do not get {state} {reason} within {most:?}"));
    }
}

/// Waits until this side has logged an alarm with these words, or complains.
pub(super) async fn alarmed(environment: &mut Environment, side: Side, words: &str) {
    let is_alarm = |line: &str| line.contains("ALARM") && line.contains(words);
    if !within(SOON, || environment.world.log(side).lines().any(is_alarm)).await {
        environment.complain(format!("{side:?} logs no alarm: {words}"));
    }
}

/// Waits until the hub says that it is ready, or that it is not.
pub(super) async fn ready(environment: &mut Environment, is: bool) {
    let url = format!("{}/readyz", environment.world.internal_url);
    let http = environment.world.http.clone();
    let expected = if is { 200 } else { 503 };
    let answers = || async {
        let answer = http.get(&url).send().await;
        answer.is_ok_and(|answer| answer.status().as_u16() == expected)
    };
    if !within_async(SOON, answers).await {
        environment.complain(format!(
            "/readyz does not answer {expected} within {SOON:?}"
        ));
    }
}
