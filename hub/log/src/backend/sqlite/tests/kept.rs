//! What outlives the process, what fails, what is forgotten.

use proto::chain::{Bucket, IdentifyNotice};

use super::*;
use crate::ledger::LedgerBounds;

#[tokio::test]
async fn what_cannot_be_written_is_not_acknowledged_not_seen_and_heals() {
    let place = Place::new("failing");
    let log = open(&place.settings());
    let tended = Tended::begin(&log);
    let mut worker = Worker::claim(&log).await;
    worker.deliver(&log, vec![snapshot(1, &[11])]).await;
    let before = state(&log);
    let other = Connection::open(place.file()).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let mut following = log.follow(guild(1)).unwrap();
    let delivered = worker.try_deliver(&log, vec![joined(1, 11, 5)]).await;
    assert_eq!(delivered, Err(NotTaken::Unavailable));
    assert_eq!(
        log.append(vec![by_hand("x", joined(2, 21, 5))]).await,
        Err(Unavailable)
    );
    assert!(!log.is_storing());
    assert_eq!(state(&log), before);
    assert!(following.entries.try_recv().is_err());
    other.execute_batch("ROLLBACK").unwrap();
    // Without a delivery, it is tried all the same.
    let mut health = log.health();
    let heals = health.wait_for(|health| *health == Health::Storing);
    soon(heals).await.unwrap();
    assert_eq!(state(&log), before);
    worker.deliver(&log, vec![joined(1, 11, 5)]).await;
    assert_eq!(
        log.append(vec![by_hand("x", joined(2, 21, 5))])
            .await
            .unwrap()
            .accepted,
        1
    );
    assert_eq!(
        following.entries.try_recv().unwrap().entry.position.offset,
        1
    );
    tended.end().await;
}

#[tokio::test]
async fn a_ledger_above_its_bounds_is_trimmed_once_the_store_can_be_written() {
    let place = Place::new("trimmed");
    let log = open(&place.settings());
    for channel in 1..=3 {
        create_room(&log, channel, 4).await.unwrap();
        log.end_room(channel_id(channel)).await.unwrap();
    }
    log.close().await;
    let lower = LogSettings {
        ledger: LedgerBounds {
            past_max: 1,
            ..LedgerBounds::default()
        },
        ..place.settings()
    };
    let other = Connection::open(place.file()).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let log = open(&lower);
    let tended = Tended::begin(&log);
    let mut health = log.health();
    let mut wait_for = async |wanted| {
        let reached = health.wait_for(|health| *health == wanted);
        let within = Duration::from_secs(10);
        tokio::time::timeout(within, reached)
            .await
            .unwrap()
            .unwrap();
    };
    wait_for(Health::Failing).await;
    assert_eq!(log.ledger().rooms().count(), 3);
    other.execute_batch("ROLLBACK").unwrap();
    wait_for(Health::Storing).await;
    let trimmed = async {
        while log.ledger().rooms().count() > 1 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    soon(trimmed).await;
    tended.end().await;
}

#[tokio::test]
async fn the_past_is_bounded_in_memory_and_in_the_file_and_its_space_is_used_again() {
    let place = Place::new("bounded");
    let settings = LogSettings {
        entries_max: 100,
        ..place.settings()
    };
    let log = open(&settings);
    let rows = |sql: &str| {
        let other = Connection::open(place.file()).unwrap();
        other
            .query_row(sql, [], |row| row.get::<_, i64>(0))
            .unwrap()
    };
    let mut worker = Worker::claim(&log).await;
    worker.deliver(&log, vec![snapshot(1, &[11, 12])]).await;
    let mut pages = Vec::new();
    for _ in 0..3 {
        for n in 0..20 {
            let facts = (0..50)
                .map(|user| joined(1, 11 + n % 2, user + 1))
                .collect();
            worker.deliver(&log, facts).await;
        }
        let kept = log.follow(guild(1)).unwrap().tail.len();
        assert!((100..300).contains(&kept), "{kept} in memory");
        let kept = rows("SELECT count(*) FROM entries");
        assert!((100..=300).contains(&kept), "{kept} in the file");
        assert!(rows("SELECT count(*) FROM bases WHERE guild = 1") <= 4);
        pages.push(rows("PRAGMA page_count"));
    }
    assert!(pages[2] <= pages[0] + 2, "{pages:?}");
    let before = state(&log);
    log.close().await;
    let log = open(&settings);
    assert_eq!(state(&log), before);
    let following = log.follow(guild(1)).unwrap();
    assert!(following.tail.len() >= 100);
    assert_eq!(
        following.tail.since(following.position).unwrap().state,
        following.state
    );
}

#[tokio::test]
async fn what_is_too_old_is_forgotten_although_nothing_is_delivered() {
    let place = Place::new("aged");
    let settings = LogSettings {
        age_max_ms: 200,
        ..place.settings()
    };
    let (log, mut worker) = begin(&settings, vec![snapshot(1, &[11])]).await;
    worker.deliver(&log, vec![joined(1, 11, 5)]).await;
    let tended = Tended::begin(&log);
    let forgotten = async {
        while !log.follow(guild(1)).unwrap().tail.is_empty() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    soon(forgotten).await;
    tended.end().await;
    let before = state(&log);
    log.close().await;
    let kept: i64 = Connection::open(place.file())
        .unwrap()
        .query_row("SELECT count(*) FROM entries", [], |row| row.get(0))
        .unwrap();
    assert_eq!(kept, 0);
    assert_eq!(state(&open(&settings)), before);
}

#[tokio::test]
async fn a_guild_that_is_not_served_any_more_is_unknown_when_it_comes_back() {
    let place = Place::new("unserved");
    let (log, mut worker) = begin(
        &place.settings(),
        vec![snapshot(1, &[11]), snapshot(2, &[21])],
    )
    .await;
    assert_eq!(log.wanted(0), []);
    log.close().await;
    let log = Log::open(&[guild(1)], "x", &place.settings()).unwrap();
    assert!(state(&log).guild(guild(1)).unwrap().state.known);
    assert!(state(&log).guild(guild(2)).is_none());
    log.close().await;
    let log = open(&place.settings());
    assert_eq!(log.wanted(0), [guild(2)]);
    let before = log.follow(guild(2)).unwrap().position;
    worker.deliver(&log, vec![snapshot(2, &[21])]).await;
    assert!(log.follow(guild(2)).unwrap().position.epoch > before.epoch);
}

#[tokio::test]
async fn a_store_of_an_older_form_opens_with_its_ledger_and_begins_its_log_again() {
    let place = Place::new("form-1");
    let older = Connection::open(place.file()).unwrap();
    older.execute_batch(include_str!("form-1.sql")).unwrap();
    older.close().unwrap();
    let mut before = None;
    for _ in 0..2 {
        let log = open(&place.settings());
        let (ledger, state) = (log.ledger(), state(&log));
        let open = ledger.open_rooms(guild(1));
        let rooms: Vec<_> = open
            .map(|room| {
                (
                    room.channel_id.get(),
                    room.owner.as_str(),
                    room.inherits_deny,
                )
            })
            .collect();
        assert_eq!(
            rooms,
            [(12, "ada", false), (13, "ada", false), (15, "bob", false)]
        );
        assert!(!state.guild(guild(1)).unwrap().state.known);
        assert_eq!(*before.get_or_insert(state.clone()), state);
        log.close().await;
    }
    // It goes on in the new form, and what is reported brings the ledger in line.
    let log = open(&place.settings());
    let mut worker = Worker::claim(&log).await;
    let rooms = vec![snapshot(1, &[11, 12, 13])];
    worker.deliver(&log, rooms).await;
    let before = state(&log);
    let owned = &before.guild(guild(1)).unwrap().state.owned;
    assert!(owned.iter().map(|id| id.get()).eq([12, 13]));
    log.close().await;
    assert_eq!(state(&open(&place.settings())), before);
}

#[tokio::test]
async fn a_store_whose_header_names_an_older_form_than_it_was_written_in_is_damaged() {
    let place = Place::new("fell-back");
    let (log, _worker) = begin(&place.settings(), vec![snapshot(1, &[11])]).await;
    log.close().await;
    let file = Connection::open(place.file()).unwrap();
    file.pragma_update(None, "user_version", 1).unwrap();
    file.close().unwrap();
    let log = Log::open(&guilds(), "set aside", &place.settings()).unwrap();
    assert_eq!(log.store(), "set aside");
}

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
