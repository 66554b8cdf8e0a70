//! The worker's feed and the hub's truth, in every order that the bounds allow; and the rules of the
//! chain, each taken out once: its absence must be found.

#![expect(
    clippy::print_stdout,
    clippy::panic,
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
fn each_rule_that_is_disabled_is_missed() {
    for (rule, bounds) in [
        // A transition is published twice.
        ("no-watermark", Bounds { losses: 1, ..CALM }),
        // A checkpoint that passes a debt loses it.
        (
            "ckpt-past-debt",
            Bounds {
                events: 3,
                cap: 2,
                ..CALM
            },
        ),
        // An older snapshot pays a debt.
        ("undated-debt", Bounds { cap: 2, ..CALM }),
        // An older worker still publishes.
        ("no-generation", Bounds { crashes: 1, ..CALM }),
        // An older copy of the store goes unnoticed.
        (
            "no-chain",
            Bounds {
                restores: 1,
                ..CALM
            },
        ),
        // The checkpoint moves past what a snapshot overtook.
        ("snapshot-overtakes", Bounds { events: 3, ..CALM }),
        // A worker that was overtaken publishes what is older.
        (
            "overtaken-goes-on",
            Bounds {
                events: 1,
                crashes: 1,
                wipes: 1,
                fights: true,
                ..CALM
            },
        ),
        // A late delivery brings a lost session back, which is resumed again.
        (
            "lost-returns",
            Bounds {
                crashes: 1,
                stalls: 1,
                losses: 1,
                ..CALM
            },
        ),
    ] {
        mutation::set(Rule::named(rule).expect(rule));
        let violation = explore(&bounds).expect_err(rule);
        println!("{rule}: {violation}");
        assert!(!violation.trace.is_empty());
    }
}
