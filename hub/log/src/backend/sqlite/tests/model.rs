//! Whatever is executed, and however the process ends, a store gives back what it was given.

use proptest::prelude::*;

use super::*;
use crate::log_state::tests::{Step, small, step};

/// What a store gives back of a state.
fn stored(state: &LogState) -> LogState {
    let mut stored = state.clone();
    stored.forget_unstored();
    stored
}

fn execute(step: Step, n: u64, now_ms: u64, store: &mut Store, before: &LogState) -> LogState {
    let mut group = Group::new(before.clone(), now_ms);
    assert!(group.execute(&step.command(before, n)).is_some());
    if group.is_stored() {
        store.commit(&group, before).unwrap();
    }
    group.after
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]

    #[test]
    fn whatever_is_executed_a_store_gives_back_all_of_it(
        steps in prop::collection::vec((step(), 0_u64..200_000, prop::bool::weighted(0.2)), 1..40),
    ) {
        let mut place = Place::new("given");
        let open = |place: &Place| {
            let settings = LogSettings { entries_max: 20, ..small() };
            Store::open(&place.file(), &settings, &guilds(), "named", 0).unwrap()
        };
        let (mut store, loaded) = open(&place);
        let mut state = loaded.state;
        for (n, (step, now_ms, is_killed)) in steps.into_iter().enumerate() {
            state = execute(step, n as u64, now_ms, &mut store, &state);
            if !is_killed {
                continue;
            }
            let killed = Place::new("killed");
            place.copy(&killed);
            let (again, loaded) = open(&killed);
            let mut given = loaded.state;
            given.forget_unstored();
            prop_assert_eq!(&given, &stored(&state));
            for (guild, known) in given.guilds() {
                let tail = &loaded.tails[&guild];
                for entry in tail.entries() {
                    let past = tail.since(entry.position).unwrap();
                    let mut state = past.state;
                    past.entries.iter().for_each(|entry| state.apply(&entry.change));
                    prop_assert_eq!(&state, &known.state);
                }
            }
            (store, state, place) = (again, given, killed);
        }
        drop(store);
        let mut given = open(&place).1.state;
        given.forget_unstored();
        prop_assert_eq!(given, stored(&state));
    }
}
