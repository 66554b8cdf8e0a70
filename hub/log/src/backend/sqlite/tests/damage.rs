//! Stores that are cut, flipped, foreign, or no stores at all.

use super::super::rows::checksum;
use super::*;

/// A place with a store, closed in peace or as a kill leaves it, and the truth after each commit.
async fn stored(closed: bool) -> (Place, Vec<LogState>) {
    let (place, killed) = (Place::new("stored"), Place::new("killed"));
    let log = open(&place.settings());
    let mut states = vec![state(&log)];
    let mut worker = Worker::claim(&log).await;
    states.push(state(&log));
    let rooms: Vec<_> = (100..160).collect();
    for (guild, user) in (1..=120).map(|user| (1 + user % 2, user)) {
        if user < 3 {
            worker.deliver(&log, vec![snapshot(guild, &rooms)]).await;
        } else {
            worker
                .deliver(&log, vec![joined(guild, 100 + user % 60, user)])
                .await;
        }
        states.push(state(&log));
    }
    log.append(vec![by_hand("a", joined(2, 21, 5))])
        .await
        .unwrap();
    states.push(state(&log));
    place.copy(&killed);
    log.close().await;
    (if closed { place } else { killed }, states)
}

/// Opens what was tampered with: a truth that was, or one that begins.
fn opens_as_it_was_or_empty(place: &Place, states: &[LogState], what: &str) -> bool {
    let log = Log::open(&guilds(), "another", &place.settings())
        .unwrap_or_else(|error| panic!("{what}: {error}"));
    let aside = log.store() == "another";
    if aside {
        assert!(!state(&log).guild(guild(1)).unwrap().state.known, "{what}");
        assert!(state(&log).workers.holder(0).is_none(), "{what}");
    } else {
        assert!(
            states.contains(&state(&log)),
            "{what}: a state that never was"
        );
    }
    aside
}

#[tokio::test]
async fn whatever_is_cut_off_a_store_opens_as_it_was_or_set_aside() {
    for (closed, suffix) in [(false, "-wal"), (false, ""), (true, "")] {
        let (place, states) = stored(closed).await;
        let name = format!("hub.db{suffix}");
        let pages = fs::metadata(place.0.join(&name)).unwrap().len() / 4096;
        // A journal has many, and all of them are alike.
        for page in (0..pages).step_by(1 + usize::try_from(pages / 20).unwrap()) {
            // The frames of a journal are a page and a header.
            for length in [page * 4096, page * 4120 + 32 + 100] {
                let cut = Place::new("cut");
                place.copy(&cut);
                let file = fs::File::options().write(true).open(cut.0.join(&name));
                file.unwrap().set_len(length).unwrap();
                opens_as_it_was_or_empty(&cut, &states, &format!("{length} bytes of {name}"));
            }
        }
    }
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig { cases: 3, ..Default::default() })]

    #[test]
    fn whatever_bit_flips_a_store_opens_as_it_was_or_set_aside(
        flips in proptest::collection::vec((0_usize..1 << 40, 0_u8..8), 30), closed: bool,
    ) {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let (place, states) = runtime.block_on(stored(closed));
        let mut aside = 0;
        for (at, bit) in flips {
            let name = if closed || at % 4 == 0 { "hub.db" } else { "hub.db-wal" };
            let flipped = Place::new("flipped");
            place.copy(&flipped);
            let path = flipped.0.join(name);
            let mut bytes = fs::read(&path).unwrap();
            // Headers are where it matters most.
            let at = if at % 5 == 0 { at / 5 % 100 } else { at } % bytes.len().max(1);
            if let Some(byte) = bytes.get_mut(at) {
                *byte ^= 1_u8 << bit;
            }
            fs::write(&path, bytes).unwrap();
            let what = format!("bit {bit} of byte {at} of {name}");
            aside += u32::from(opens_as_it_was_or_empty(&flipped, &states, &what));
        }
        proptest::prop_assert!(aside > 0 || !closed, "a flipped bit is found");
    }
}

#[tokio::test]
async fn a_place_that_cannot_hold_a_store_is_refused_and_left_alone() {
    let refused = |place: &Place| {
        let error = Log::open(&guilds(), "x", &place.settings()).err().unwrap();
        (error.is_wrong_setting, error.to_string())
    };
    let place = Place::new("refused");
    let log = open(&place.settings());
    let (wrong, line) = refused(&place);
    assert!(
        !wrong && line.contains("hub.db: another hub has it open"),
        "{line}"
    );
    log.close().await;

    let later = Connection::open(place.file()).unwrap();
    later
        .pragma_update(None, "user_version", schema::VERSION + 1)
        .unwrap();
    let version = checksum("meta", &[b"version", b"5"]);
    later
        .execute(
            "UPDATE meta SET body = x'35', sum = ?1 WHERE key = 'version'",
            [&version[..]],
        )
        .unwrap();
    later.close().unwrap();
    let bytes = fs::read(place.file()).unwrap();
    let (wrong, line) = refused(&place);
    assert!(
        wrong && line.contains("a later version of Roomwire"),
        "{line}"
    );
    assert_eq!(fs::read(place.file()).unwrap(), bytes);

    let place = Place::new("foreign");
    Connection::open(place.file())
        .unwrap()
        .execute_batch("CREATE TABLE t (a); PRAGMA user_version = 1")
        .unwrap();
    let (wrong, line) = refused(&place);
    assert!(wrong && line.contains("not a store of Roomwire"), "{line}");

    let place = Place::new("directory");
    fs::create_dir(place.file()).unwrap();
    let (wrong, line) = refused(&place);
    assert!(wrong && line.contains("it is not a file"), "{line}");

    let place = Place::new("under-a-file");
    fs::write(place.file(), "x").unwrap();
    let under = LogSettings {
        store: StoreAddress::File(place.file().join("hub.db")),
        ..LogSettings::default()
    };
    let error = Log::open(&guilds(), "x", &under).err().unwrap();
    assert!(
        error.is_wrong_setting && !error.to_string().contains('\n'),
        "{error}"
    );
}

#[tokio::test]
async fn a_store_behind_a_link_is_one_store() {
    let place = Place::new("behind-a-link");
    let log = open(&place.settings());
    let link = place.0.join("elsewhere.db");
    std::os::unix::fs::symlink(place.file(), &link).unwrap();
    let settings = LogSettings {
        store: StoreAddress::File(link),
        ..LogSettings::default()
    };
    let error = Log::open(&guilds(), "x", &settings).err().unwrap();
    assert!(
        error.to_string().contains("another hub has it open"),
        "{error}"
    );
    log.close().await;
    open(&settings).close().await;
    assert_eq!(place.names(), ["elsewhere.db", "hub.db", "hub.db.lock"]);
}

#[tokio::test]
async fn an_empty_file_begins_and_missing_directories_are_made() {
    let place = Place::new("begins");
    fs::write(place.file(), "").unwrap();
    open(&place.settings()).close().await;
    let deep = LogSettings {
        store: StoreAddress::File(place.0.join("a/b/hub.db")),
        ..LogSettings::default()
    };
    open(&deep).close().await;
    assert_eq!(place.names(), ["a", "hub.db", "hub.db.lock"]);
}

#[tokio::test]
async fn what_is_no_store_is_set_aside_and_the_oldest_of_many_are_removed() {
    let place = Place::new("aside");
    for n in 0..5 {
        fs::write(place.file(), format!("not a store {n}").repeat(100)).unwrap();
        let log = open(&place.settings());
        assert!(log.is_storing());
        Worker::claim(&log).await;
        log.close().await;
    }
    let damaged: Vec<_> = place
        .names()
        .into_iter()
        .filter(|name| name.contains("damaged"))
        .collect();
    assert_eq!(damaged.len(), 3, "{damaged:?}");
    assert!(
        fs::read_to_string(place.0.join(&damaged[2]))
            .unwrap()
            .starts_with("not a store 4")
    );
}

#[tokio::test]
async fn damage_that_is_found_in_use_ends_the_log_and_sets_the_store_aside() {
    let place = Place::new("ruined");
    let (log, mut worker) = begin(&place.settings(), vec![snapshot(1, &[11])]).await;
    let before = state(&log);
    let other = Connection::open(place.file()).unwrap();
    other
        .execute_batch(
            "PRAGMA writable_schema = ON; UPDATE sqlite_schema SET sql = 'CREATE TABLE (' WHERE name = 'guilds'; PRAGMA schema_version = 1000;",
        )
        .unwrap();
    drop(other);
    let delivered = worker.try_deliver(&log, vec![joined(1, 11, 5)]).await;
    assert_eq!(delivered, Err(NotTaken::Unavailable));
    assert_eq!(*log.health().borrow(), Health::Ruined);
    assert_eq!(state(&log), before, "nothing is seen that is not kept");
    assert_eq!(
        worker.try_deliver(&log, vec![joined(1, 11, 5)]).await,
        Err(NotTaken::Unavailable)
    );
    log.close().await;
    drop(log);
    let deadline = Instant::now() + Duration::from_secs(10);
    let log = loop {
        match Log::open(&guilds(), "another", &place.settings()) {
            Ok(opened) => break opened,
            // The writer lets go of the file a moment later.
            Err(error) => assert!(Instant::now() < deadline, "{error}"),
        }
        tokio::task::yield_now().await;
    };
    assert_eq!(log.store(), "another");
    assert!(place.names().iter().any(|name| name.contains("damaged")));
    assert!(!place.names().iter().any(|name| name.contains("suspect")));
}
