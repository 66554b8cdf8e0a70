//! Stores whose files are taken away while they are open.

use super::*;
use crate::backend::sqlite::files::{OLDER_REWRITE, REWRITE};

/// What somebody does to the files of a store.
type Act = fn(&Place);

fn remove(place: &Place, suffix: &str) {
    fs::remove_file(place.0.join(format!("hub.db{suffix}"))).unwrap();
}

#[tokio::test]
async fn a_store_that_is_taken_away_in_use_is_rewritten_and_loses_nothing() {
    let acts: [(&str, Act); 8] = [
        ("the file", |place| remove(place, "")),
        ("the journal", |place| remove(place, "-wal")),
        ("the memory", |place| remove(place, "-shm")),
        ("the lock", |place| remove(place, ".lock")),
        ("all files", |place| {
            for suffix in ["", "-wal", "-shm", ".lock"] {
                remove(place, suffix);
            }
        }),
        ("the directory", |place| {
            fs::remove_dir_all(&place.0).unwrap();
        }),
        ("moved", |place| {
            fs::rename(place.file(), place.0.join("elsewhere")).unwrap();
        }),
        ("replaced", |place| {
            remove(place, "");
            fs::write(place.file(), "an older copy").unwrap();
        }),
    ];
    for (what, act) in acts {
        let (place, killed) = (Place::new("taken-away"), Place::new("killed"));
        let facts = vec![snapshot(1, &[11]), snapshot(2, &[21])];
        let (log, mut worker) = begin(&place.settings(), facts).await;
        for user in 1..=100 {
            worker.deliver(&log, vec![joined(1, 11, user)]).await;
        }
        create_room(&log, 7, 4).await.unwrap();
        let known = log.follow(guild(1)).unwrap().position;
        act(&place);
        worker.deliver(&log, vec![joined(1, 11, 999)]).await;
        let before = state(&log);
        place.copy(&killed);
        // It is written once, and the files that were open do not get in its way.
        worker.deliver(&log, vec![joined(1, 11, 1_000)]).await;
        let names = place.names();
        let after = state(&log);
        log.close().await;
        let aside = place.names().into_iter();
        let aside = aside.filter(|name| name.contains("damaged"));
        let aside: Vec<_> = aside
            .map(|name| fs::read(place.0.join(name)).unwrap())
            .collect();
        assert!(aside.len() <= 3, "{what}: {names:?}");
        let is_replaced = aside.contains(&b"an older copy".to_vec());
        assert_eq!(is_replaced, what == "replaced", "{names:?}");
        for (place, before) in [(&place, after), (&killed, before)] {
            let log = Log::open(&guilds(), "another", &place.settings()).unwrap();
            assert_eq!(state(&log), before, "{what}");
            let following = log.follow(guild(1)).unwrap();
            assert!(following.tail.since(known).is_some(), "{what}: continued");
            assert_eq!(log.store(), "named", "{what}");
        }
    }
}

#[tokio::test]
async fn a_store_that_is_taken_away_is_noticed_although_nothing_is_delivered() {
    let place = Place::new("unheard");
    let log = open(&place.settings());
    let tended = Tended::begin(&log);
    let before = state(&log);
    remove(&place, "");
    let back = async {
        while !place.file().exists() {
            tokio::task::yield_now().await;
        }
    };
    soon(back).await;
    tended.end().await;
    log.close().await;
    let log = Log::open(&guilds(), "another", &place.settings()).unwrap();
    assert_eq!((state(&log), log.store()), (before, "named"));
}

#[tokio::test]
async fn a_place_that_cannot_be_written_to_is_tried_again_and_nothing_is_acknowledged() {
    let place = Place::new("no-place");
    let log = open(&place.settings());
    let mut worker = Worker::claim(&log).await;
    let before = state(&log);
    fs::remove_dir_all(&place.0).unwrap();
    fs::write(&place.0, "a file").unwrap();
    let delivered = worker.try_deliver(&log, vec![snapshot(1, &[11])]).await;
    assert_eq!(delivered, Err(NotTaken::Unavailable));
    assert_eq!(*log.health().borrow(), Health::Failing);
    assert_eq!(state(&log), before);
    fs::remove_file(&place.0).unwrap();
    worker.deliver(&log, vec![snapshot(1, &[11])]).await;
    assert!(log.is_storing());
    assert_kept(&log, &place.settings()).await;
}

#[tokio::test]
async fn a_hub_that_died_while_it_put_its_store_in_place_leaves_it_to_the_next() {
    for (name, left) in [
        (REWRITE, "nothing"),
        (REWRITE, "what stood there"),
        (REWRITE, "another part"),
        (OLDER_REWRITE, "nothing"),
        (OLDER_REWRITE, "what stood there"),
    ] {
        let place = Place::new("half-put");
        let (log, _worker) = begin(&place.settings(), vec![snapshot(1, &[11])]).await;
        let before = state(&log);
        log.close().await;
        let beside = |suffix: &str| place.0.join(format!("hub.db{suffix}"));
        fs::rename(place.file(), beside(name)).unwrap();
        match left {
            "nothing" => {}
            "what stood there" => fs::write(place.file(), "an older copy").unwrap(),
            _ => fs::write(beside(".rewrite-unfinished"), "a part").unwrap(),
        }
        let log = Log::open(&guilds(), "another", &place.settings()).unwrap();
        assert_eq!(
            (state(&log), log.store()),
            (before, "named"),
            "{name} {left}"
        );
        log.close().await;
        let names = place.names();
        assert!(
            !names
                .iter()
                .any(|left| left.contains(REWRITE) || left.contains(OLDER_REWRITE)),
            "{names:?}"
        );
    }
}

#[tokio::test]
async fn a_hub_whose_place_another_has_taken_ends_and_leaves_that_store_alone() {
    let place = Place::new("two-hubs");
    let log = open(&place.settings());
    let mut worker = Worker::claim(&log).await;
    fs::remove_dir_all(&place.0).unwrap();
    let other = Log::open(&guilds(), "other", &place.settings()).unwrap();
    let delivered = worker.try_deliver(&log, vec![snapshot(1, &[11])]).await;
    assert_eq!(delivered, Err(NotTaken::Unavailable));
    assert_eq!(*log.health().borrow(), Health::Ruined);
    Worker::claim(&other).await;
    let before = state(&other);
    other.close().await;
    let again = Log::open(&guilds(), "another", &place.settings()).unwrap();
    assert_eq!((state(&again), again.store()), (before, "other"));
}
