use std::ffi::OsString;

use discord_sim::TOKEN;
use proto::chain::{Checkpoint, Claimed, GatewaySession, KnownGuild, Mark};
use proto::event::{Everyone, Roster};

use tokio::net::TcpListener;

use super::super::budget::Budget;
use super::super::gate::GateSetting;
use super::super::rest::Rest;
use super::*;
use crate::config::Config;
use crate::feed::FeedSetting;
use crate::hub::Hub;
use crate::outbox::Limits;
use crate::roster::RosterSetting;

/// Nobody listens there.
const NOWHERE: &str = "127.0.0.1:1";
const DEADLINE: Duration = Duration::from_secs(10);

fn config(discord: &str) -> Config {
    launch::settings::parse_from(["worker".into()], |name| {
        let value = match name {
            "HUB_SECRET" => "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=",
            "PRIMARY_GUILD_ID" => "1",
            "DISCORD_BOT_TOKEN" => TOKEN,
            "HUB_ENDPOINT" => return Some(format!("http://{NOWHERE}/api/internal/events").into()),
            "DISCORD_API_URL" => return Some(format!("http://{discord}").into()),
            "REBUILD_MIN_MS" => "1000",
            _ => return None,
        };
        Some(OsString::from(value))
    })
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

/// A feed that goes on with a session, and has a guild that only GUILD_CREATE can tell.
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
    feed.lose(1);
    feed
}

/// The hub has heard of a later session of this shard.
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
    let setting = GateSetting {
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
    let gate = Gate::new(Rest::new(&config.discord), hub, setting);
    let desk = Arc::new(Desk::new(feed));
    gate.serve(0, Arc::clone(&desk));
    let intents = twilight_gateway::Intents::GUILDS;
    let shard = ConfigBuilder::new(TOKEN.to_owned(), intents)
        .proxy_url(format!("ws://{discord}"))
        .queue(gate.clone())
        .build();
    Connection::new(
        (0, 1),
        shard,
        gate,
        desk,
        config.gateway,
        Duration::from_secs(1),
    )
}

/// Hears the gateway until it is live, or the test fails.
async fn until_live(connection: &mut Connection) {
    let live = async {
        while !connection.desk.look(Feed::is_live) {
            if let Heard::Said(Some(Ok(Message::Text(text)))) = listen(&mut connection.shard).await
            {
                connection.hear(&text);
            }
        }
    };
    timeout(DEADLINE, live).await.expect("it is not live");
}

#[tokio::test]
async fn whoever_was_stopped_asks_for_a_sign_of_life_and_does_not_wait_for_the_next_heartbeat() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let mut settings = discord_sim::Settings::quiet();
    // Far beyond this test.
    settings.sim_heartbeat_ms = 36_000_000;
    let stop = CancellationToken::new();
    let discord = tokio::spawn(discord_sim::run(listener, settings, stop.clone()));
    let mut connection = connection_to(&address, unclaimed());
    until_live(&mut connection).await;
    // Nothing is asked of a connection that was looked after.
    assert!(connection.look_after().is_none() && connection.sounded.is_none());
    connection.desk.neglect(Duration::from_secs(60));
    assert!(connection.look_after().is_none());
    assert!(!connection.desk.look(Feed::is_live));
    until_live(&mut connection).await;
    assert!(connection.sounded.is_none());
    // Nor is silence believed.
    connection.desk.neglect(Duration::from_secs(60));
    connection.look_after();
    connection.sounded = Instant::now().checked_sub(SIGN_OF_LIFE * 2);
    assert!(connection.look_after().is_some());
    assert!(connection.shard.session().is_some(), "it resumes");
    assert!(is_disconnected(&connection.shard) && connection.sounded.is_none());
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
    connection.look_after();
    // However the next attempts to connect fare, they do not resume.
    connection.renew(Resume::Yes);
    assert!(connection.shard.session().is_none());
    assert!(!connection.closing && !connection.rebuilds.is_planned());
}

#[tokio::test]
async fn a_worker_that_was_overtaken_does_not_wait_as_long_as_the_illegible_does() {
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
    connection.desk.with(overtake);
    connection.look_after();
    assert!(connection.rebuilds.falls_due(in_a_minute));
}

#[tokio::test]
async fn a_close_that_did_not_get_out_is_not_forgotten_by_the_next_connection() {
    let mut connection = connection();
    // Asked for while connected; then the connection was cut.
    connection.closing = true;
    connection.renew(Resume::Yes);
    assert!(connection.shard.session().is_none() && !connection.closing);
}

#[tokio::test]
async fn what_can_not_be_known_otherwise_is_planned_again_whatever_became_of_the_plan_before() {
    let mut connection = connection();
    assert!(!connection.rebuilds.is_planned());
    connection.look_after();
    assert!(connection.rebuilds.is_planned());
    // As long as it is so, and not when an IDENTIFY comes anyway.
    connection.rebuilds = rebuilds(Duration::from_secs(1));
    connection.renew(Resume::No);
    connection.look_after();
    assert!(!connection.rebuilds.is_planned());
}
