//! The store on a disk: what outlives the process, what fails, what is forgotten.

mod bound;
mod damage;
mod model;
mod taken_away;

use std::fs;
use std::path::PathBuf;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use proto::chain::{CLAIM_TYPE, Claim, Conflict, GatewaySession, Link, Mark, Reached};
use proto::event::{Event, Fact};
use serde_json::{Value, json};

use super::*;
use crate::log::address::StoreAddress;
use crate::log::truth::Truth;
use crate::log::{Health, Log, LogSettings, NotTaken};

/// A directory of one test, gone with it.
struct Place(PathBuf);

impl Place {
    fn new(name: &str) -> Self {
        static PLACES: AtomicU64 = AtomicU64::new(0);
        let number = PLACES.fetch_add(1, Relaxed);
        let name = format!("roomwire-{name}-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        let _absent = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn file(&self) -> PathBuf {
        self.0.join("hub.db")
    }

    fn settings(&self) -> LogSettings {
        LogSettings {
            store: StoreAddress::File(self.file()),
            ..LogSettings::default()
        }
    }

    /// What a power switch or a kill leaves: the files as they are now.
    fn copy(&self, to: &Self) {
        for suffix in ["", "-wal"] {
            let name = format!("hub.db{suffix}");
            let _gone = fs::remove_file(to.0.join(&name));
            if self.0.join(&name).exists() {
                fs::copy(self.0.join(&name), to.0.join(&name)).unwrap();
            }
        }
    }

    fn names(&self) -> Vec<String> {
        let names = fs::read_dir(&self.0).unwrap();
        let mut names: Vec<_> = names
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _gone = fs::remove_dir_all(&self.0);
    }
}

fn guild(id: u64) -> GuildId {
    GuildId::new(id).unwrap()
}

fn guilds() -> Vec<GuildId> {
    vec![guild(1), guild(2)]
}

fn open(settings: &LogSettings) -> Log {
    Log::open(&guilds(), "named", settings).unwrap().0
}

fn truth(log: &Log) -> Truth {
    log.0.published.truth.lock().unwrap().clone()
}

/// A worker that numbers its dispatches.
struct Worker {
    generation: u64,
    sequence: u64,
}

impl Worker {
    async fn claim(log: &Log) -> Self {
        let claim = Claim {
            r#type: CLAIM_TYPE.to_owned(),
            shard: (0, 1),
            worker: "w".to_owned(),
            guilds: guilds(),
            memory: true,
        };
        static CLAIMS: AtomicU64 = AtomicU64::new(0);
        let id = format!("claim {}", CLAIMS.fetch_add(1, Relaxed));
        let claimed = log.claim(id, claim).await.unwrap();
        Self {
            generation: claimed.generation,
            sequence: claimed
                .checkpoint
                .map_or(0, |checkpoint| checkpoint.sequence),
        }
    }

    fn link(&self) -> Link {
        let at = |sequence| Reached {
            session: 1,
            sequence,
        };
        Link {
            shard: (0, 1),
            generation: self.generation,
            from: Reached::default(),
            taken: 0,
            to: at(self.sequence),
            session: Some(GatewaySession {
                number: 1,
                id: "s".to_owned(),
                resume_url: None,
            }),
            fingerprint: "f".to_owned(),
            absent: BTreeMap::new(),
        }
    }

    fn event(&mut self, fact: Fact) -> Event {
        self.sequence += 1;
        Event {
            id: format!("1:{}:0", self.sequence),
            fact,
            ts: 1,
            at: Some(Mark {
                reached: Reached {
                    session: 1,
                    sequence: self.sequence,
                },
                n: 0,
            }),
        }
    }

    async fn deliver(&mut self, log: &Log, facts: Vec<Fact>) -> Result<(), NotTaken> {
        let before = self.sequence;
        let events = facts.into_iter().map(|fact| self.event(fact)).collect();
        let delivered = log.deliver(self.link(), events).await.map(drop);
        if delivered.is_err() {
            self.sequence = before;
        }
        delivered
    }
}

fn fact(json: Value) -> Fact {
    serde_json::from_value(json).unwrap()
}

fn joined(guild: u64, channel: u64, user: u64) -> Fact {
    fact(
        json!({"event": "voice.joined", "payload": {"guildId": guild.to_string(),
        "channelId": channel.to_string(), "userId": user.to_string(),
        "member": {"displayName": "Zoë", "avatarUrl": "https://cdn/x"}}}),
    )
}

fn snapshot(guild: u64, rooms: &[u64]) -> Fact {
    let rooms: Vec<_> = rooms
        .iter()
        .map(|id| json!({"guildId": guild.to_string(), "channelId": id.to_string(), "name": "r"}))
        .collect();
    fact(
        json!({"event": "guild.snapshot", "payload": {"guildId": guild.to_string(),
        "rooms": rooms, "voices": [], "reason": "worker_started"}}),
    )
}

#[tokio::test]
async fn what_was_acknowledged_is_there_after_a_restart_and_after_a_kill() {
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
    log.own(guild(1), "11".parse().unwrap()).await.unwrap();
    let before = truth(&log);
    place.copy(&killed);
    let tail = log.follow(guild(1)).unwrap().tail;
    log.close().await;
    assert!(
        !place.names().contains(&"hub.db-wal".to_owned()),
        "one file after a clean end"
    );
    for place in [&place, &killed] {
        let log = open(&place.settings());
        assert_eq!(truth(&log), before);
        let again = log.follow(guild(1)).unwrap();
        assert_eq!(again.tail.len(), tail.len());
        let past = again.tail.since(tail.entries()[50].place).unwrap();
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
            (again.place.epoch, again.place.offset + 1)
        );
    }
}

fn by_hand(id: &str) -> Event {
    Event {
        id: id.to_owned(),
        fact: joined(2, 21, 5),
        ts: 1,
        at: None,
    }
}

#[tokio::test]
async fn what_can_not_be_written_is_not_acknowledged_not_seen_and_heals() {
    let place = Place::new("failing");
    let log = open(&place.settings());
    let stop = tokio_util::sync::CancellationToken::new();
    let (tended, stopped) = (log.clone(), stop.clone());
    let tending = tokio::spawn(async move { tended.tend(stopped).await });
    let mut worker = Worker::claim(&log).await;
    worker
        .deliver(&log, vec![snapshot(1, &[11])])
        .await
        .unwrap();
    let before = truth(&log);
    let other = Connection::open(place.file()).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let mut following = log.follow(guild(1)).unwrap();
    let told = worker.deliver(&log, vec![joined(1, 11, 5)]).await;
    assert_eq!(told, Err(NotTaken::Unavailable));
    assert_eq!(
        log.append(vec![by_hand("x")], 0).await,
        Err(crate::log::Unavailable)
    );
    assert!(!log.is_storing());
    assert_eq!(truth(&log), before);
    assert!(following.entries.try_recv().is_err());
    other.execute_batch("ROLLBACK").unwrap();
    // Nobody tells anything: it is tried all the same.
    let mut health = log.health();
    let heals = health.wait_for(|health| *health == Health::Storing);
    tokio::time::timeout(Duration::from_secs(10), heals)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(truth(&log), before);
    worker.deliver(&log, vec![joined(1, 11, 5)]).await.unwrap();
    assert_eq!(log.append(vec![by_hand("x")], 0).await.unwrap().accepted, 1);
    assert_eq!(following.entries.try_recv().unwrap().place.offset, 1);
    stop.cancel();
    tending.await.unwrap();
}

#[tokio::test]
async fn a_store_at_its_bound_takes_what_still_fits() {
    let place = Place::new("full");
    let settings = LogSettings {
        store_bytes_max: 1024 * 1024,
        ..place.settings()
    };
    let log = open(&settings);
    let mut worker = Worker::claim(&log).await;
    let huge: Vec<_> = (100..10_000).collect();
    worker
        .deliver(&log, vec![snapshot(1, &[11])])
        .await
        .unwrap();
    let told = worker.deliver(&log, vec![snapshot(1, &huge)]).await;
    assert_eq!(told, Err(NotTaken::Unavailable));
    assert!(!log.is_storing());
    worker.deliver(&log, vec![joined(1, 11, 5)]).await.unwrap();
    assert!(log.is_storing());
    let before = truth(&log);
    log.close().await;
    assert_eq!(truth(&open(&settings)), before);
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
    let before = truth(&log);
    log.close().await;
    let log = open(&settings);
    assert_eq!(truth(&log), before);
    let following = log.follow(guild(1)).unwrap();
    assert!(following.tail.len() >= 100);
    assert_eq!(
        following.tail.since(following.place).unwrap().state,
        following.state
    );
}

#[tokio::test]
async fn what_is_too_old_is_forgotten_although_nothing_is_told() {
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
    let stop = tokio_util::sync::CancellationToken::new();
    let (tended, stopped) = (log.clone(), stop.clone());
    let tending = tokio::spawn(async move { tended.tend(stopped).await });
    let forgotten = async {
        while !log.follow(guild(1)).unwrap().tail.is_empty() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), forgotten)
        .await
        .unwrap();
    stop.cancel();
    tending.await.unwrap();
    let before = truth(&log);
    log.close().await;
    let kept: i64 = Connection::open(place.file())
        .unwrap()
        .query_row("SELECT count(*) FROM entries", [], |row| row.get(0))
        .unwrap();
    assert_eq!(kept, 0);
    assert_eq!(truth(&open(&settings)), before);
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
    assert!(log.0.published.aged(now_ms).is_empty());
    let old = now_ms + settings.age_max_ms + 1_000;
    assert!(log.0.published.aged(old).contains(&guild(1)));
}

#[tokio::test]
async fn a_claim_without_memory_is_one_like_any_other_and_is_answered_without_it() {
    let place = Place::new("without-memory");
    let log = open(&place.settings());
    let mut worker = Worker::claim(&log).await;
    worker
        .deliver(&log, vec![snapshot(1, &[11])])
        .await
        .unwrap();
    let claim = |memory| Claim {
        r#type: CLAIM_TYPE.to_owned(),
        shard: (0, 1),
        worker: "next".to_owned(),
        guilds: guilds(),
        memory,
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
async fn a_guild_that_is_not_served_any_more_is_unknown_when_it_comes_back() {
    let place = Place::new("unserved");
    let log = open(&place.settings());
    let mut worker = Worker::claim(&log).await;
    worker
        .deliver(&log, vec![snapshot(1, &[11]), snapshot(2, &[21])])
        .await
        .unwrap();
    assert_eq!(log.wanted(0), []);
    log.close().await;
    let (log, _) = Log::open(&[guild(1)], "x", &place.settings()).unwrap();
    assert!(truth(&log).guild(guild(1)).unwrap().state.known);
    assert!(truth(&log).guild(guild(2)).is_none());
    log.close().await;
    let log = open(&place.settings());
    assert_eq!(log.wanted(0), [guild(2)]);
    let before = log.follow(guild(2)).unwrap().place;
    worker
        .deliver(&log, vec![snapshot(2, &[21])])
        .await
        .unwrap();
    assert!(log.follow(guild(2)).unwrap().place.epoch > before.epoch);
}

#[tokio::test]
async fn a_claim_that_is_repeated_is_answered_again_and_takes_nothing_back() {
    let place = Place::new("repeated");
    let log = open(&place.settings());
    let claim = |worker: &str| Claim {
        r#type: CLAIM_TYPE.to_owned(),
        shard: (0, 1),
        worker: worker.to_owned(),
        guilds: guilds(),
        memory: true,
    };
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
async fn ids_told_by_hand_identifies_and_the_ledger_outlive_the_process() {
    let place = Place::new("outlive");
    let log = open(&place.settings());
    let worker = Worker::claim(&log).await;
    let notice = proto::chain::IdentifyNotice {
        r#type: "identify".to_owned(),
        shard: (0, 1),
        generation: worker.generation,
    };
    let noted = async |log: &Log, id: &str| log.identify(id.to_owned(), notice.clone()).await;
    assert_eq!(noted(&log, "first").await, Ok(1));
    assert_eq!(
        log.append(vec![by_hand("a"), by_hand("b")], 0)
            .await
            .unwrap()
            .accepted,
        2
    );
    let row = |channel: &str, room: Option<&str>| super::super::LedgerRow {
        channel: channel.parse().unwrap(),
        room: room.map(|room| room.as_bytes().to_vec()),
    };
    log.keep(
        vec![row("1", Some("one")), row("2", Some("two"))],
        Vec::new(),
    )
    .await
    .unwrap();
    log.keep(vec![row("1", Some("uno")), row("2", None)], Vec::new())
        .await
        .unwrap();
    log.close().await;
    let (log, rooms) = Log::open(&guilds(), "x", &place.settings()).unwrap();
    assert_eq!(rooms, [row("1", Some("uno"))]);
    assert_eq!(noted(&log, "first").await, Ok(1), "a repeat");
    assert_eq!(noted(&log, "second").await, Ok(2));
    let again = log
        .append(vec![by_hand("a"), by_hand("c")], 0)
        .await
        .unwrap();
    assert_eq!((again.accepted, again.duplicates), (1, 1));
}

#[tokio::test]
async fn a_change_that_panics_leaves_nothing_behind() {
    let place = Place::new("panic");
    let log = open(&place.settings());
    let mut worker = Worker::claim(&log).await;
    worker
        .deliver(&log, vec![snapshot(1, &[11])])
        .await
        .unwrap();
    let before = truth(&log);
    let faulty = log.submit(|draft| {
        draft.memory.truth.chain = super::super::chain::Chain::default();
        assert!(draft.claimed, "a fault");
    });
    assert_eq!(faulty.await, Err(crate::log::Unavailable));
    assert_eq!(truth(&log), before);
    worker.deliver(&log, vec![joined(1, 11, 5)]).await.unwrap();
}

#[tokio::test]
async fn a_claim_writes_what_it_changes_and_nothing_else() {
    let place = Place::new("claims");
    let log = open(&place.settings());
    let claim = |shard, of| Claim {
        r#type: CLAIM_TYPE.to_owned(),
        shard: (shard, of),
        worker: format!("w{shard}"),
        guilds: guilds(),
        memory: true,
    };
    let other = Connection::open(place.file()).unwrap();
    let rows = |table: &str| -> i64 {
        let count = format!("SELECT count(*) FROM {table}");
        other.query_row(&count, [], |row| row.get(0)).unwrap()
    };
    for shard in 0..8 {
        let id = format!("first {shard}");
        log.claim(id, claim(shard, 8)).await.unwrap();
    }
    // Whoever writes a row that is not among those of shard 3 is refused.
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
    let before = truth(&log);
    log.close().await;
    let log = open(&place.settings());
    assert_eq!(truth(&log), before);
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
    let before = truth(&log);
    log.close().await;
    assert_eq!(truth(&open(&place.settings())), before);
}

#[tokio::test]
async fn ids_of_claims_are_forgotten_from_the_file_as_from_memory() {
    let place = Place::new("spent");
    let log = open(&place.settings());
    let spend = async |log: &Log, ids: std::ops::Range<u64>, now_ms: u64| {
        log.submit(move |draft| {
            draft.claimed = true;
            for id in ids {
                draft.memory.truth.chain.spend(&id.to_string(), now_ms);
            }
        })
        .await
        .unwrap();
    };
    let minutes = 60_000;
    for (n, now_ms) in [0, 4 * minutes, 8 * minutes, 12 * minutes, 60 * minutes, 0]
        .into_iter()
        .enumerate()
    {
        let first = 10 * n as u64;
        spend(&log, first..first + 10, now_ms).await;
        let copy = Place::new("spent-copy");
        place.copy(&copy);
        assert_eq!(truth(&open(&copy.settings())), truth(&log), "step {n}");
    }
}

#[tokio::test]
async fn a_store_of_the_first_days_is_opened_and_goes_on() {
    let place = Place::new("first-days");
    let log = open(&place.settings());
    let mut worker = Worker::claim(&log).await;
    worker
        .deliver(&log, vec![snapshot(1, &[11])])
        .await
        .unwrap();
    let known = truth(&log).guild(guild(1)).cloned();
    log.close().await;
    Connection::open(place.file())
        .unwrap()
        .execute_batch("DROP TABLE spent")
        .unwrap();
    for _ in 0..2 {
        let log = open(&place.settings());
        assert_eq!(truth(&log).guild(guild(1)).cloned(), known);
        Worker::claim(&log).await;
        log.close().await;
    }
}
