//! What every backend promises, as one suite over all of them. A third backend joins [`backends`].

use crate::command::Command;
use crate::fixture::{Place, by_hand, guild, joined, state};
use crate::log::{Log, Unavailable};
use crate::settings::LogSettings;

/// A backend under test.
struct Backend {
    settings: LogSettings,
    /// Whether it gives back what it stored.
    is_durable: bool,
    /// Where it may store it.
    _place: Place,
}

/// Every backend, with nothing stored.
fn backends() -> [Backend; 2] {
    let (memory, file) = (Place::new("memory"), Place::new("file"));
    [
        Backend {
            settings: LogSettings::default(),
            is_durable: false,
            _place: memory,
        },
        Backend {
            settings: file.settings(),
            is_durable: true,
            _place: file,
        },
    ]
}

impl Backend {
    fn open(&self) -> Log {
        Log::open(&[guild(1)], "contract", &self.settings).unwrap()
    }
}

#[tokio::test]
async fn an_appended_entry_is_read_and_followed_once_and_in_its_order() {
    for backend in backends() {
        let log = backend.open();
        let mut following = log.follow(guild(1)).unwrap();
        let events = vec![
            by_hand("a", joined(1, 11, 5)),
            by_hand("b", joined(1, 12, 5)),
        ];
        assert_eq!(log.append(events).await.unwrap().accepted, 2);
        let (mut state, mut offset) = (following.state.clone(), following.position.offset);
        while let Ok(applied) = following.entries.try_recv() {
            offset += 1;
            assert_eq!(applied.entry.position.offset, offset);
            assert_eq!(applied.before, state);
            state.apply(&applied.entry.change);
            assert_eq!(applied.after, state);
        }
        let read = log.read(guild(1), |state, position| (state.clone(), position.offset));
        assert_eq!(read, Some((state, offset)));
        log.close().await;
    }
}

#[tokio::test]
async fn a_repeated_event_and_a_command_that_panics_add_nothing() {
    for backend in backends() {
        let log = backend.open();
        log.append(vec![by_hand("a", joined(1, 11, 5))])
            .await
            .unwrap();
        let before = state(&log);
        let repeated = log
            .append(vec![by_hand("a", joined(1, 12, 5))])
            .await
            .unwrap();
        assert_eq!((repeated.accepted, repeated.duplicates), (0, 1));
        assert_eq!(log.execute(Command::Panic).await, Err(Unavailable));
        assert_eq!(state(&log), before);
        log.append(vec![by_hand("b", joined(1, 12, 5))])
            .await
            .unwrap();
        log.close().await;
    }
}

#[tokio::test]
async fn a_closed_log_takes_nothing_and_a_durable_one_gives_all_of_it_back() {
    for backend in backends() {
        let log = backend.open();
        log.append(vec![
            by_hand("a", joined(1, 11, 5)),
            by_hand("b", joined(1, 12, 5)),
        ])
        .await
        .unwrap();
        let before = state(&log);
        let tail = log.follow(guild(1)).unwrap().tail.len();
        log.close().await;
        assert_eq!(
            log.append(vec![by_hand("c", joined(1, 11, 5))]).await,
            Err(Unavailable)
        );
        let again = backend.open();
        assert_eq!(state(&again) == before, backend.is_durable);
        let kept = again.follow(guild(1)).unwrap().tail.len();
        assert_eq!(kept, if backend.is_durable { tail } else { 0 });
        let (now_ms, age_max_ms) = (launch::clock::now_ms(), backend.settings.age_max_ms);
        assert!(again.0.published.expired(now_ms).is_empty());
        let expired = again.0.published.expired(now_ms + age_max_ms + 1_000);
        assert_eq!(expired.contains(&guild(1)), backend.is_durable);
        again.close().await;
    }
}
