//! What is kept of workers, and what a claim writes.

use proto::chain::{Bucket, IdentifyNotice};

use super::*;

#[tokio::test]
async fn a_claim_without_memory_is_one_like_any_other_and_is_answered_without_it() {
    let place = Place::new("without-memory");
    let (log, worker) = begin(&place.settings(), vec![snapshot(1, &[11])]).await;
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
