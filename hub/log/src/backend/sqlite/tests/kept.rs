//! What outlives the process, what fails, what is forgotten.

use super::*;
use crate::rooms::LedgerBounds;

#[tokio::test]
async fn what_was_acknowledged_is_kept_after_a_restart_and_after_a_kill() {
    let (place, killed) = (Place::new("restart"), Place::new("killed"));
    let log = open(&place.settings());
    let mut worker = Worker::claim(&log).await;
    worker
        .deliver(&log, vec![snapshot(1, &[11, 12]), snapshot(2, &[21])])
        .await
        .unwrap();
    for user in 1..=200 {
        worker
            .deliver(
                &log,
                vec![joined(1, 11 + user % 2, user), joined(2, 21, user)],
            )
            .await
            .unwrap();
    }
    create_room(&log, 11, 4).await.unwrap();
    let before = state(&log);
    place.copy(&killed);
    let tail = log.follow(guild(1)).unwrap().tail;
    log.close().await;
    assert!(
        !place.names().contains(&"hub.db-wal".to_owned()),
        "one file after a clean end"
    );
    for place in [&place, &killed] {
        let log = open(&place.settings());
        assert_eq!(state(&log), before);
        let again = log.follow(guild(1)).unwrap();
        assert_eq!(again.tail.len(), tail.len());
        let past = again.tail.since(tail.entries()[50].position).unwrap();
        assert_eq!(past.entries.len(), tail.len() - 51);
        assert_eq!(log.store(), "named");
        // It goes on where it stood.
        let mut worker = Worker::claim(&log).await;
        assert_eq!(worker.sequence, 402);
        worker
            .deliver(&log, vec![joined(1, 11, 999)])
            .await
            .unwrap();
        let place = log.read(guild(1), |_, place| place).unwrap();
        assert_eq!(
            (place.epoch, place.offset),
            (again.position.epoch, again.position.offset + 1)
        );
    }
}

#[tokio::test]
async fn what_cannot_be_written_is_not_acknowledged_not_seen_and_heals() {
    let place = Place::new("failing");
    let log = open(&place.settings());
    let tended = Tended::begin(&log);
    let mut worker = Worker::claim(&log).await;
    worker
        .deliver(&log, vec![snapshot(1, &[11])])
        .await
        .unwrap();
    let before = state(&log);
    let other = Connection::open(place.file()).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let mut following = log.follow(guild(1)).unwrap();
    let delivered = worker.deliver(&log, vec![joined(1, 11, 5)]).await;
    assert_eq!(delivered, Err(NotTaken::Unavailable));
    assert_eq!(log.append(vec![by_hand("x")]).await, Err(Unavailable));
    assert!(!log.is_storing());
    assert_eq!(state(&log), before);
    assert!(following.entries.try_recv().is_err());
    other.execute_batch("ROLLBACK").unwrap();
    // Without a delivery, it is tried all the same.
    let mut health = log.health();
    let heals = health.wait_for(|health| *health == Health::Storing);
    tokio::time::timeout(Duration::from_secs(10), heals)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(state(&log), before);
    worker.deliver(&log, vec![joined(1, 11, 5)]).await.unwrap();
    assert_eq!(log.append(vec![by_hand("x")]).await.unwrap().accepted, 1);
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
    tokio::time::timeout(Duration::from_secs(10), trimmed)
        .await
        .unwrap();
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
    worker
        .deliver(&log, vec![snapshot(1, &[11, 12])])
        .await
        .unwrap();
    let mut pages = Vec::new();
    for _ in 0..3 {
        for n in 0..20 {
            let facts = (0..50)
                .map(|user| joined(1, 11 + n % 2, user + 1))
                .collect();
            worker.deliver(&log, facts).await.unwrap();
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
    let log = open(&settings);
    let mut worker = Worker::claim(&log).await;
    worker
        .deliver(&log, vec![snapshot(1, &[11])])
        .await
        .unwrap();
    worker.deliver(&log, vec![joined(1, 11, 5)]).await.unwrap();
    let tended = Tended::begin(&log);
    let forgotten = async {
        while !log.follow(guild(1)).unwrap().tail.is_empty() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), forgotten)
        .await
        .unwrap();
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
async fn a_young_past_is_kept_over_a_restart_however_short_it_is() {
    let place = Place::new("young");
    let settings = place.settings();
    let log = open(&settings);
    let mut worker = Worker::claim(&log).await;
    let facts = vec![snapshot(1, &[2]), joined(1, 2, 3), joined(1, 2, 4)];
    worker.deliver(&log, facts).await.unwrap();
    log.close().await;
    drop(log);
    let log = open(&settings);
    let now_ms = launch::clock::now_ms();
    assert!(log.0.published.expired(now_ms).is_empty());
    let old = now_ms + settings.age_max_ms + 1_000;
    assert!(log.0.published.expired(old).contains(&guild(1)));
}

#[tokio::test]
async fn a_guild_that_is_not_served_any_more_is_unknown_when_it_comes_back() {
    let (place, log, mut worker) =
        begun("unserved", vec![snapshot(1, &[11]), snapshot(2, &[21])]).await;
    assert_eq!(log.wanted(0), []);
    log.close().await;
    let log = Log::open(&[guild(1)], "x", &place.settings()).unwrap();
    assert!(state(&log).guild(guild(1)).unwrap().state.known);
    assert!(state(&log).guild(guild(2)).is_none());
    log.close().await;
    let log = open(&place.settings());
    assert_eq!(log.wanted(0), [guild(2)]);
    let before = log.follow(guild(2)).unwrap().position;
    worker
        .deliver(&log, vec![snapshot(2, &[21])])
        .await
        .unwrap();
    assert!(log.follow(guild(2)).unwrap().position.epoch > before.epoch);
}

#[tokio::test]
async fn ids_of_manual_events_identifies_and_the_ledger_outlive_the_process() {
    let place = Place::new("outlive");
    let log = open(&place.settings());
    let worker = Worker::claim(&log).await;
    let notice = proto::chain::IdentifyNotice {
        r#type: "identify".to_owned(),
        shard: (0, 1),
        generation: worker.generation,
        bucket: None,
    };
    let noted = async |log: &Log, id: &str| {
        let noted = log.identify(id.to_owned(), notice.clone()).await;
        noted.map(|noted| noted.identifies)
    };
    assert_eq!(noted(&log, "first").await, Ok(1));
    assert_eq!(
        log.append(vec![by_hand("a"), by_hand("b")])
            .await
            .unwrap()
            .accepted,
        2
    );
    for channel in [1, 2, 3] {
        create_room(&log, channel, 4).await.unwrap();
    }
    log.end_room(channel_id(2)).await.unwrap();
    assert_eq!(log.note_interaction(5).await, Ok(true));
    let before = state(&log);
    log.close().await;
    let log = open(&place.settings());
    assert_eq!(state(&log), before);
    assert_eq!(log.ledger().open_count(), 2);
    assert_eq!(log.note_interaction(5).await, Ok(false), "a repeat");
    assert_eq!(log.note_interaction(6).await, Ok(true));
    let (ticket, owner) = (CreateTicket(9), Owner::new("9"));
    let begun = log.begin_create(ticket, guild(1), owner).await;
    assert_eq!(begun, Ok(Ok(())));
    log.close().await;
    let log = open(&place.settings());
    assert_eq!(log.ledger().pending().count(), 0, "it is dropped");
    log.close().await;
    let log = open(&place.settings());
    assert_eq!(log.ledger().open_count(), 2);
    assert_eq!(noted(&log, "first").await, Ok(1), "a repeat");
    assert_eq!(noted(&log, "second").await, Ok(2));
    let again = log.append(vec![by_hand("a"), by_hand("c")]).await.unwrap();
    assert_eq!((again.accepted, again.duplicates), (1, 1));
}

#[tokio::test]
async fn a_lost_session_has_no_checkpoint_again_not_even_by_a_late_delivery_or_a_restart() {
    let place = Place::new("lost");
    let log = open(&place.settings());
    let mut worker = Worker::claim(&log).await;
    let delivered = vec![snapshot(1, &[11])];
    worker.deliver(&log, delivered).await.unwrap();
    let unanswered = Link {
        resumes: 2,
        ..worker.link()
    };
    log.deliver(unanswered.clone(), Vec::new()).await.unwrap();
    let claim = |id: &str| log.claim(id.to_owned(), claim_by("next", (0, 1)));
    let checkpoint = claim("a").await.unwrap().checkpoint.unwrap();
    assert_eq!(checkpoint.resumes, 2, "its successor knows");
    let generation = claim("b").await.unwrap().generation;
    let known = Link {
        generation,
        ..unanswered
    };
    let lost = Link {
        lost: 1,
        ..known.clone()
    };
    log.deliver(lost, Vec::new()).await.unwrap();
    log.deliver(known, Vec::new()).await.unwrap();
    assert_eq!(claim("c").await.unwrap().checkpoint, None);
    let before = state(&log);
    log.close().await;
    let log = open(&place.settings());
    assert_eq!(state(&log), before);
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
    worker.deliver(&log, rooms).await.unwrap();
    let before = state(&log);
    let owned = &before.guild(guild(1)).unwrap().state.owned;
    assert!(owned.iter().map(|id| id.get()).eq([12, 13]));
    log.close().await;
    assert_eq!(state(&open(&place.settings())), before);
}

#[tokio::test]
async fn a_store_whose_header_names_an_older_form_than_it_was_written_in_is_damaged() {
    let (place, log, _worker) = begun("fell-back", vec![snapshot(1, &[11])]).await;
    log.close().await;
    let file = Connection::open(place.file()).unwrap();
    file.pragma_update(None, "user_version", 1).unwrap();
    file.close().unwrap();
    let log = Log::open(&guilds(), "set aside", &place.settings()).unwrap();
    assert_eq!(log.store(), "set aside");
}
