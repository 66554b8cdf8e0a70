//! What is kept of workers, and what a claim writes.

use proto::chain::{Bucket, IdentifyNotice};

use super::*;
use crate::Command;
use crate::address::Durability;
use crate::group::Group;
use crate::log_state::StateBounds;

#[tokio::test]
async fn a_claim_without_memory_is_one_like_any_other_and_is_answered_without_it() {
    let (_place, log, worker) = begun("without-memory", vec![snapshot(1, &[11])]).await;
    let claim = |memory| Claim {
        memory,
        ..claim_by("next", (0, 1))
    };
    let without = log.claim("without".to_owned(), claim(false)).await.unwrap();
    assert!(without.generation > worker.generation && without.last_session > 0);
    assert!(without.guilds.is_empty() && without.checkpoint.is_none());
    // The guilds are followed, and nothing was forgotten.
    assert_eq!(log.wanted(0), [guild(2)]);
    let with = log.claim("with".to_owned(), claim(true)).await.unwrap();
    assert_eq!(with.guilds.len(), 1);
    assert!(with.checkpoint.is_some());
}

#[tokio::test]
async fn a_claim_that_is_repeated_is_answered_again_and_takes_nothing_back() {
    let place = Place::new("repeated");
    let log = open(&place.settings());
    let claim = |worker: &str| claim_by(worker, (0, 1));
    let claims = async |log: &Log, id: &str, worker: &str| {
        let claimed = log.claim(id.to_owned(), claim(worker)).await;
        claimed.map(|claimed| claimed.generation)
    };
    let first = claims(&log, "a", "one").await.unwrap();
    assert_eq!(claims(&log, "a", "one").await, Ok(first));
    let second = claims(&log, "b", "two").await.unwrap();
    assert!(second > first);
    log.close().await;
    drop(log);
    let log = open(&place.settings());
    let fenced = Err(NotTaken::Conflict(Conflict::Fenced));
    assert_eq!(claims(&log, "a", "one").await, fenced);
    assert_eq!(claims(&log, "b", "two").await, Ok(second));
    assert_eq!(log.holder(0).unwrap().generation, second);
}

#[tokio::test]
async fn identifies_keep_their_distance_although_one_of_them_is_stored_late() {
    let place = Place::new("slow-slot");
    let log = open(&place.settings());
    let identify = async |shard: u32| {
        let id = format!("claim {shard}");
        let claimed = log.claim(id, claim_by("w", (shard, 2))).await.unwrap();
        let notice = IdentifyNotice {
            r#type: "identify".to_owned(),
            shard: (shard, 2),
            generation: claimed.generation,
            bucket: Some(Bucket {
                number: 0,
                every_ms: 5_500,
            }),
        };
        let other = Connection::open(place.file()).unwrap();
        let release = (shard == 0).then(|| {
            other.execute_batch("BEGIN IMMEDIATE").unwrap();
            std::thread::spawn(move || {
                std::thread::sleep(Duration::from_millis(300));
                other.execute_batch("ROLLBACK").unwrap();
            })
        });
        let at_ms = loop {
            match log.identify(format!("{shard}"), notice.clone()).await {
                Ok(noted) => break launch::clock::now_ms() + noted.after_ms.unwrap(),
                Err(why) => assert_eq!(why, NotTaken::Unavailable),
            }
        };
        if let Some(release) = release {
            release.join().unwrap();
        }
        at_ms
    };
    let (late, next) = (identify(0).await, identify(1).await);
    assert!(next - late >= 5_250, "{} ms", next - late);
}

#[tokio::test]
async fn a_claim_writes_what_it_changes_and_nothing_else() {
    let place = Place::new("claims");
    let log = open(&place.settings());
    let claim = |shard, of| claim_by(&format!("w{shard}"), (shard, of));
    let other = Connection::open(place.file()).unwrap();
    let rows = |table: &str| -> i64 {
        let count = format!("SELECT count(*) FROM {table}");
        other.query_row(&count, [], |row| row.get(0)).unwrap()
    };
    for shard in 0..8 {
        let id = format!("first {shard}");
        log.claim(id, claim(shard, 8)).await.unwrap();
    }
    // A row that is not among those of shard 3 is refused.
    for table in ["holders", "reached"] {
        for (act, row) in [("DELETE", "OLD"), ("INSERT", "NEW")] {
            other
                .execute_batch(&format!(
                    "CREATE TRIGGER {table}_{act} BEFORE {act} ON {table} WHEN {row}.shard != 3
                     BEGIN SELECT RAISE(ABORT, 'not its own'); END"
                ))
                .unwrap();
        }
    }
    other
        .execute_batch(
            "CREATE TRIGGER spent_once BEFORE INSERT ON spent WHEN NEW.id LIKE 'first%'
             BEGIN SELECT RAISE(ABORT, 'again'); END",
        )
        .unwrap();
    for n in 0..3 {
        log.claim(format!("again {n}"), claim(3, 8)).await.unwrap();
    }
    assert_eq!(
        (rows("holders"), rows("reached"), rows("spent")),
        (8, 8, 11)
    );
    let before = state(&log);
    log.close().await;
    let log = open(&place.settings());
    assert_eq!(state(&log), before);
    for trigger in [
        "holders_DELETE",
        "holders_INSERT",
        "reached_DELETE",
        "reached_INSERT",
    ] {
        other
            .execute_batch(&format!("DROP TRIGGER {trigger}"))
            .unwrap();
    }
    // Who counts the shards otherwise replaces all of them.
    log.claim("otherwise".to_owned(), claim(0, 2))
        .await
        .unwrap();
    assert_eq!(
        (rows("holders"), rows("reached"), rows("spent")),
        (1, 1, 12)
    );
    let before = state(&log);
    log.close().await;
    assert_eq!(state(&open(&place.settings())), before);
}

#[test]
fn ids_of_claims_are_forgotten_from_the_file_as_from_memory() {
    let place = Place::new("request-ids");
    let open = |place: &Place| {
        let bounds = StoreBounds {
            durability: Durability::Process,
            bytes_max: 1 << 30,
            journal_bytes_max: 1 << 20,
            entries_max: 100,
            age_max_ms: 60_000,
            state: StateBounds {
                event_ids_max: 100,
                fencings_per_minute_max: 100,
            },
        };
        Store::open(&place.file(), &bounds, &guilds(), "x", 0).unwrap()
    };
    let (mut store, loaded) = open(&place);
    let mut before = loaded.state;
    let minutes = 60_000;
    for (n, now_ms) in [0, 4 * minutes, 8 * minutes, 12 * minutes, 60 * minutes, 0]
        .into_iter()
        .enumerate()
    {
        let mut group = Group::new(before.clone(), now_ms);
        for id in 0..10 {
            group.execute(&Command::Claim {
                id: format!("{n} {id}").into(),
                claim: claim_by("w", (0, 1)),
            });
        }
        store.commit(&group, &before).unwrap();
        before = group.after;
        let copy = Place::new("request-ids-copy");
        place.copy(&copy);
        assert_eq!(open(&copy).1.state, before, "step {n}");
    }
}
