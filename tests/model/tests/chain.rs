//! The worker's feed and the hub's truth, in every order that the bounds allow; and the rules of the
//! chain, each taken out once: its absence must be found.

#![expect(
    clippy::print_stdout,
    clippy::panic,
    clippy::expect_used,
    reason = "a test: what it saw is printed, what goes wrong ends it"
)]

use launch::mutation::{self, Rule};
use model::bounds::Bounds;
use model::search::explore;

/// Members who move, and nothing that goes wrong.
const CALM: Bounds = Bounds {
    events: 2,
    members: 1,
    crashes: 0,
    expiries: 0,
    stalls: 0,
    losses: 0,
    wipes: 0,
    restores: 0,
    illegible: 0,
    cap: 4,
    batch: 2,
    fights: false,
    states: 60_000,
};

#[track_caller]
fn holds(bounds: &Bounds) {
    match explore(bounds) {
        Ok(figures) => println!("{figures}: no violation"),
        Err(violation) => panic!("{violation}"),
    }
}

#[track_caller]
fn is_missed(rule: &str, bounds: &Bounds) {
    mutation::set(Rule::named(rule).expect(rule));
    let violation = explore(bounds).expect_err("nobody missed the rule");
    println!("{rule}: {violation}");
    assert!(!violation.trace.is_empty());
}

#[test]
fn a_worker_dies_or_a_second_one_takes_over() {
    holds(&Bounds {
        events: 3,
        crashes: 1,
        cap: 2,
        ..CALM
    });
}

#[test]
fn sessions_expire_and_deliveries_are_lost_late_and_repeated() {
    holds(&Bounds {
        expiries: 1,
        losses: 1,
        ..CALM
    });
}

#[test]
fn all_of_that_at_once() {
    holds(&Bounds {
        crashes: 1,
        expiries: 1,
        losses: 1,
        ..CALM
    });
}

#[test]
fn a_store_is_lost_or_replaced_by_an_older_copy() {
    holds(&Bounds {
        crashes: 1,
        wipes: 1,
        restores: 1,
        ..CALM
    });
}

#[test]
fn two_workers_take_the_shard_from_one_another_because_the_store_forgot_one_of_them() {
    for (wipes, restores) in [(1, 0), (0, 1)] {
        holds(&Bounds {
            events: 1,
            crashes: 1,
            wipes,
            restores,
            fights: true,
            ..CALM
        });
    }
}

#[test]
fn a_session_that_discord_never_resumes_is_given_up_by_every_worker() {
    holds(&Bounds {
        crashes: 1,
        stalls: 1,
        losses: 1,
        ..CALM
    });
}

#[test]
fn a_session_that_is_never_resumed_is_given_up_although_the_store_is_lost_or_older() {
    holds(&Bounds {
        events: 1,
        crashes: 1,
        stalls: 1,
        wipes: 1,
        restores: 1,
        ..CALM
    });
}

#[test]
fn an_older_copy_lacks_what_did_not_move_the_checkpoint() {
    holds(&Bounds {
        events: 3,
        restores: 1,
        cap: 2,
        ..CALM
    });
}

#[test]
fn what_cannot_be_read_is_asked_for() {
    holds(&Bounds {
        crashes: 1,
        expiries: 1,
        illegible: 1,
        ..CALM
    });
}

#[test]
fn without_the_watermark_a_transition_is_published_twice() {
    let losses = 1;
    is_missed("no-watermark", &Bounds { losses, ..CALM });
}

#[test]
fn a_checkpoint_that_passes_a_debt_loses_it() {
    let (events, cap) = (3, 2);
    is_missed(
        "ckpt-past-debt",
        &Bounds {
            events,
            cap,
            ..CALM
        },
    );
}

#[test]
fn a_debt_without_a_date_is_paid_by_an_older_snapshot() {
    let cap = 2;
    is_missed("undated-debt", &Bounds { cap, ..CALM });
}

#[test]
fn without_generations_an_older_worker_still_publishes() {
    let crashes = 1;
    is_missed("no-generation", &Bounds { crashes, ..CALM });
}

#[test]
fn without_the_chain_an_older_copy_goes_unnoticed() {
    let restores = 1;
    is_missed("no-chain", &Bounds { restores, ..CALM });
}

#[test]
fn a_snapshot_that_overtakes_moves_the_checkpoint_past_what_it_overtook() {
    let events = 3;
    is_missed("snapshot-overtakes", &Bounds { events, ..CALM });
}

#[test]
fn a_worker_that_was_overtaken_and_goes_on_publishes_what_is_older() {
    is_missed(
        "overtaken-goes-on",
        &Bounds {
            events: 1,
            crashes: 1,
            wipes: 1,
            fights: true,
            ..CALM
        },
    );
}

#[test]
fn a_lost_session_that_a_late_delivery_brings_back_is_resumed_again() {
    is_missed(
        "lost-returns",
        &Bounds {
            crashes: 1,
            stalls: 1,
            losses: 1,
            ..CALM
        },
    );
}
