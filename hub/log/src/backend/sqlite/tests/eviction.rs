//! Stores at their bounds.

use super::*;
use crate::ledger::LedgerBounds;
use crate::writer::Job;

fn small(place: &Place) -> LogSettings {
    LogSettings {
        store_bytes_max: 1024 * 1024,
        ledger: LedgerBounds {
            past_max: 0,
            ..LedgerBounds::default()
        },
        ..place.settings()
    }
}

async fn probe(log: &Log) -> Result<(), Unavailable> {
    log.submit(Job::Probe).await.map(drop)
}

#[tokio::test]
async fn a_store_at_its_bound_takes_what_still_fits() {
    let place = Place::new("full");
    let settings = small(&place);
    let log = open(&settings);
    let mut worker = Worker::claim(&log).await;
    let huge: Vec<_> = (100..10_000).collect();
    worker.deliver(&log, vec![snapshot(1, &[11])]).await;
    let delivered = worker.try_deliver(&log, vec![snapshot(1, &huge)]).await;
    assert_eq!(delivered, Err(NotTaken::Unavailable));
    assert!(!log.is_storing());
    worker.deliver(&log, vec![joined(1, 11, 5)]).await;
    assert!(log.is_storing());
    assert_kept(&log, &settings).await;
}

#[tokio::test]
async fn the_oldest_entries_of_any_guild_give_way_before_a_store_refuses_anything() {
    let place = Place::new("gives-way");
    let settings = small(&place);
    let log = open(&settings);
    let mut worker = Worker::claim(&log).await;
    let first = vec![snapshot(1, &[11, 12]), snapshot(2, &[21, 22])];
    worker.deliver(&log, first).await;
    // Several times as much as the file may hold, within the bounds of each guild.
    for n in 0..200 {
        let facts =
            (0..50).map(|user| joined(1 + n % 2, 11 + 10 * (n % 2) + (n / 2) % 2, user + 1));
        let delivered = worker.try_deliver(&log, facts.collect()).await;
        assert_eq!(delivered, Ok(()), "delivery {n}");
    }
    assert!(fs::metadata(place.file()).unwrap().len() <= settings.store_bytes_max);
    let before = state(&log);
    let in_memory = log.follow(guild(1)).unwrap().tail.len();
    log.close().await;
    let log = open(&settings);
    assert_eq!(state(&log), before);
    for id in [1, 2] {
        let kept = log.follow(guild(id)).unwrap().tail.len();
        assert!((1..in_memory).contains(&kept), "{kept} of {in_memory}");
    }
    worker = Worker::claim(&log).await;
    worker.deliver(&log, vec![joined(1, 11, 5)]).await;
}

#[tokio::test]
async fn many_short_pasts_give_way_as_well() {
    let place = Place::new("short-pasts");
    let settings = LogSettings {
        entries_max: 100_000,
        ..small(&place)
    };
    let many: Vec<_> = (1..=40).map(guild).collect();
    let log = Log::open(&many, "named", &settings).unwrap();
    let mut worker = Worker::claim(&log).await;
    for id in 1..=40 {
        worker.deliver(&log, vec![snapshot(id, &[11, 12])]).await;
    }
    // Less than what a second state of a guild is kept after.
    for n in 0..150 {
        let facts = (1..=40).map(|id| joined(id, 11 + n % 2, 5)).collect();
        assert_eq!(
            worker.try_deliver(&log, facts).await,
            Ok(()),
            "delivery {n}"
        );
    }
    let before = state(&log);
    log.close().await;
    let log = Log::open(&many, "named", &settings).unwrap();
    assert_eq!(state(&log), before);
}

#[tokio::test]
async fn a_full_store_is_not_well_again_before_what_was_refused_would_fit() {
    let place = Place::new("full-of-rooms");
    let log = open(&small(&place));
    let mut worker = Worker::claim(&log).await;
    let mut rooms = 0;
    // Rooms of the ledger do not give way.
    while create_room(&log, rooms + 1, 200_000).await.is_ok() {
        rooms += 1;
    }
    assert!(!log.is_storing() && rooms > 2);
    for _ in 0..3 {
        assert_eq!(probe(&log).await, Err(Unavailable));
        assert!(!log.is_storing());
    }
    // A past room is not kept here.
    log.end_room(channel_id(1)).await.unwrap();
    assert!(log.is_storing(), "something real was stored");
    create_room(&log, 98, 200_000).await.unwrap();
    assert!(create_room(&log, 99, 200_000).await.is_err());
    worker.deliver(&log, vec![snapshot(1, &[11])]).await;
    assert!(log.is_storing(), "what fits is stored");
    for ticket in [rooms + 1, 99] {
        let withdrawn = log.finish_create(CreateTicket(ticket), CreateOutcome::Withdrawn);
        assert_eq!(withdrawn.await, Ok(Ok(())));
    }
    assert_kept(&log, &small(&place)).await;
}

#[tokio::test]
async fn however_often_it_was_tried_a_store_is_well_again_once_what_was_refused_fits() {
    let place = Place::new("tried-often");
    let log = open(&small(&place));
    let other = Connection::open(place.file()).unwrap();
    let ballast = "INSERT INTO probe (only_one, body) VALUES (2, zeroblob(800000))";
    other.execute(ballast, []).unwrap();
    assert!(create_room(&log, 1, 300_000).await.is_err());
    for _ in 0..12 {
        assert_eq!(probe(&log).await, Err(Unavailable));
    }
    other.execute("DELETE FROM probe", []).unwrap();
    assert_eq!(probe(&log).await, Ok(()));
    assert!(log.is_storing());
    let left = other.query_row("SELECT count(*) FROM probe", [], |row| row.get::<_, i64>(0));
    assert_eq!(left, Ok(0));
}

#[tokio::test]
async fn the_journal_stays_within_its_bound_under_small_deliveries_without_a_pause() {
    let place = Place::new("journal");
    let settings = LogSettings {
        journal_bytes_max: 1024 * 1024,
        ..place.settings()
    };
    let (log, mut worker) = begin(&settings, vec![snapshot(1, &[11, 12])]).await;
    let journal = place.0.join("hub.db-wal");
    let (mut longest, mut written, mut before) = (0, 0, in_journal(&place));
    for n in 0..2_000 {
        worker
            .deliver(&log, vec![joined(1, 11 + n % 2, n % 50 + 1)])
            .await;
        longest = longest.max(fs::metadata(&journal).unwrap().len());
        let now = in_journal(&place);
        // With less in it, it was restarted.
        written += now.checked_sub(before).unwrap_or(now);
        before = now;
    }
    assert!(
        written > 10 * settings.journal_bytes_max,
        "only {written} bytes"
    );
    // And by one group more.
    assert!(
        longest <= settings.journal_bytes_max + 128 * 1024,
        "{longest} bytes"
    );
}

/// How many bytes of the journal are in use; its file may be longer. Its index says so (SQLite's
/// "WAL-mode File Format", section 2.1): the size of a page, which has a head of 24 bytes in the
/// journal, and the number of the last one. Reading it ends this process's locks on it, which guard
/// against other processes only.
fn in_journal(place: &Place) -> u64 {
    let index = fs::read(place.0.join("hub.db-shm")).unwrap();
    let page = u16::from_ne_bytes(index[14..16].try_into().unwrap());
    let last = u32::from_ne_bytes(index[16..20].try_into().unwrap());
    u64::from(last) * (24 + u64::from(page))
}
