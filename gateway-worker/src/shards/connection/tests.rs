use discord_sim::TOKEN;
use proto::chain::{Checkpoint, Claimed, GatewaySession, KnownGuild, Mark};
use proto::event::{Everyone, Roster};

use tokio::net::TcpListener;

use super::super::budget::Budget;
use super::super::identify_queue::IdentifyQueueSetting;
use super::super::rest::Rest;
use super::checks::PROBE_TIMEOUT;
use super::*;
use crate::config::Config;
use crate::feed::FeedSetting;
use crate::hub::Hub;
use crate::outbox::Limits;
use crate::roster::RosterSetting;

/// Nothing listens there.
const NOWHERE: &str = "127.0.0.1:1";
const DEADLINE: Duration = Duration::from_secs(10);

fn config(discord: &str) -> Config {
    launch::settings::example(&[
        ("DISCORD_BOT_TOKEN", TOKEN),
        (
            "HUB_ENDPOINT",
            &format!("http://{NOWHERE}/api/internal/events"),
        ),
        ("DISCORD_API_URL", &format!("http://{discord}")),
        ("REBUILD_MIN_MS", "1000"),
    ])
    .unwrap()
}

/// A feed that knows nothing.
fn unclaimed() -> Feed {
    Feed::new(FeedSetting {
        shard: (0, 1),
        guilds: vec!["1".parse().unwrap()],
        roster: RosterSetting {
            cdn: "https://cdn".into(),
            tombstones_max: 10,
        },
        outbox: Limits {
            events_max: 1_000,
            bytes_max: 1_000_000,
            batch_events_max: 100,
            batch_bytes_max: 100_000,
            group_events_max: 100,
            delivery_bytes_max: 500_000,
        },
        gaps_max: 10,
        behind_max_ms: 4_000,
        fingerprint: "f".to_owned(),
    })
}

/// A feed that resumes a session, and has a guild that only GUILD_CREATE can complete.
fn feed() -> Feed {
    let mut feed = unclaimed();
    let session = GatewaySession {
        number: 7,
        id: "s".to_owned(),
        resume_url: None,
    };
    let roster = Roster {
        guild_id: "1".parse().unwrap(),
        rooms: Vec::new(),
        voices: Vec::new(),
        reason: "claimed".to_owned(),
        everyone: Everyone::default(),
        tombstones: Vec::new(),
    };
    let claimed = Claimed {
        generation: 9,
        unserved: Vec::new(),
        checkpoint: Some(Checkpoint {
            session,
            sequence: 3,
            fingerprint: "f".to_owned(),
            resumes: 0,
        }),
        last_session: 7,
        identifies: 1,
        guilds: vec![KnownGuild {
            mark: Mark::from((7, 3, 0)),
            absent: None,
            roster,
        }],
    };
    feed.claim(claimed, 1);
    feed.on_unreadable(1);
    feed
}

/// The hub knows a later session of this shard.
fn overtake(feed: &mut Feed) {
    let roster = feed.roster("1".parse().unwrap()).unwrap();
    let claimed = Claimed {
        generation: 20,
        unserved: Vec::new(),
        checkpoint: None,
        last_session: 15,
        identifies: 1,
        guilds: vec![KnownGuild {
            mark: Mark::from((15, 3, 0)),
            absent: None,
            roster,
        }],
    };
    feed.claim(claimed, 1);
}

fn connection() -> Connection {
    connection_to(NOWHERE, feed())
}

fn connection_to(discord: &str, feed: Feed) -> Connection {
    let _installed = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let config = config(discord);
    let setting = IdentifyQueueSetting {
        budget: Budget {
            per_day_max: 500,
            free: 10,
            wait_max: Duration::from_secs(1),
        },
        every: Duration::from_secs(5),
        again: Duration::from_secs(5),
        alone: true,
        max_concurrency: 1,
    };
    let hub = Hub::new(&config).unwrap();
    let queue = IdentifyQueue::new(Rest::new(&config.discord), hub, setting);
    let feed = Arc::new(SharedFeed::new(feed));
    queue.serve(0, Arc::clone(&feed));
    let intents = twilight_gateway::Intents::GUILDS;
    let shard = ConfigBuilder::new(TOKEN.to_owned(), intents)
        .proxy_url(format!("ws://{discord}"))
        .queue(queue.clone())
        .build();
    Connection::new(
        (0, 1),
        shard,
        queue,
        feed,
        config.gateway,
        Duration::from_secs(1),
    )
}

/// Receives until the shard is live, or the test fails.
async fn until_live(connection: &mut Connection) {
    let live = async {
        while !connection.feed.read(Feed::is_live) {
            if let Received::Message(Some(Ok(Message::Text(text)))) =
                receive(&mut connection.shard).await
            {
                connection.on_text(&text);
            }
        }
    };
    timeout(DEADLINE, live).await.expect("it is not live");
}

#[tokio::test]
async fn a_stopped_process_probes_its_connection_before_the_next_heartbeat() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let mut settings = discord_sim::Settings::quiet();
    // Far beyond this test.
    settings.sim_heartbeat_ms = 36_000_000;
    let stop = CancellationToken::new();
    let discord = tokio::spawn(discord_sim::run(listener, settings, stop.clone()));
    let mut connection = connection_to(&address, unclaimed());
    until_live(&mut connection).await;
    // A connection that was checked in time gets no probe.
    assert!(connection.check().is_none() && connection.probed_at.is_none());
    connection.feed.age_last_check(Duration::from_secs(60));
    assert!(connection.check().is_none());
    assert!(!connection.feed.read(Feed::is_live));
    until_live(&mut connection).await;
    assert!(connection.probed_at.is_none());
    // An unanswered probe ends the connection.
    connection.feed.age_last_check(Duration::from_secs(60));
    connection.check();
    connection.probed_at = Instant::now().checked_sub(PROBE_TIMEOUT * 2);
    assert!(connection.check().is_some());
    assert!(connection.shard.session().is_some(), "it resumes");
    assert!(is_disconnected(&connection.shard) && connection.probed_at.is_none());
    stop.cancel();
    discord.await.unwrap().unwrap();
}

fn rebuilds(wait: Duration) -> Rebuilds {
    Rebuilds::new(wait, wait, Instant::now())
}

#[tokio::test]
async fn a_rebuild_that_falls_due_while_there_is_no_connection_gives_the_session_up() {
    let mut connection = connection();
    assert!(connection.shard.session().is_some() && is_disconnected(&connection.shard));
    connection.plan_rebuild();
    assert!(connection.rebuilds.is_planned());
    connection.rebuilds = rebuilds(Duration::ZERO);
    connection.plan_rebuild();
    connection.check();
    // Later attempts to connect do not resume.
    connection.renew(Resume::Yes);
    assert!(connection.shard.session().is_none());
    assert!(!connection.closing && !connection.rebuilds.is_planned());
}

#[tokio::test]
async fn an_overtaken_worker_waits_less_than_one_with_an_unreadable_guild() {
    let mut connection = connection();
    let long = Duration::from_secs(3_600);
    let second = Duration::from_secs(1);
    connection.rebuilds = Rebuilds::new(second, long, Instant::now());
    let in_a_minute = Instant::now() + Duration::from_secs(60);
    while {
        connection.plan_rebuild();
        connection.rebuilds.falls_due(in_a_minute)
    } {}
    assert!(connection.rebuilds.is_planned(), "far beyond");
    connection.feed.update(overtake);
    connection.check();
    assert!(connection.rebuilds.falls_due(in_a_minute));
}

#[tokio::test]
async fn a_close_that_was_not_sent_still_drops_the_session() {
    let mut connection = connection();
    // Asked for while connected; then the connection was cut.
    connection.closing = true;
    connection.renew(Resume::Yes);
    assert!(connection.shard.session().is_none() && !connection.closing);
}

#[tokio::test]
async fn a_needed_rebuild_is_planned_again_after_each_plan() {
    let mut connection = connection();
    assert!(!connection.rebuilds.is_planned());
    connection.check();
    assert!(connection.rebuilds.is_planned());
    // Only while it is needed: not when an IDENTIFY comes anyway.
    connection.rebuilds = rebuilds(Duration::from_secs(1));
    connection.renew(Resume::No);
    connection.check();
    assert!(!connection.rebuilds.is_planned());
}
