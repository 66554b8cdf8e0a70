use std::ffi::OsString;

use proto::chain::{Checkpoint, Claimed, GatewaySession, KnownGuild, Mark};
use proto::event::{Everyone, Roster};

use super::super::budget::Budget;
use super::super::gate::GateSetting;
use super::super::rest::Rest;
use super::*;
use crate::config::Config;
use crate::feed::FeedSetting;
use crate::hub::Hub;
use crate::outbox::Limits;
use crate::roster::RosterSetting;

fn config() -> Config {
    launch::settings::parse_from(["worker".into()], |name| {
        let value = match name {
            "HUB_SECRET" => "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=",
            "PRIMARY_GUILD_ID" => "1",
            "DISCORD_BOT_TOKEN" => "t",
            // Nobody listens there.
            "HUB_ENDPOINT" => "http://127.0.0.1:1/api/internal/events",
            "DISCORD_API_URL" => "http://127.0.0.1:1",
            "REBUILD_MIN_MS" => "1000",
            _ => return None,
        };
        Some(OsString::from(value))
    })
    .unwrap()
}

/// A feed that goes on with a session, and has a guild that only GUILD_CREATE can tell.
fn feed() -> Feed {
    let guild = "1".parse().unwrap();
    let mut feed = Feed::new(FeedSetting {
        shard: (0, 1),
        guilds: vec![guild],
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
    });
    let session = GatewaySession {
        number: 7,
        id: "s".to_owned(),
        resume_url: None,
    };
    let roster = Roster {
        guild_id: guild,
        rooms: Vec::new(),
        voices: Vec::new(),
        reason: "claimed".to_owned(),
        everyone: Everyone::default(),
        tombstones: Vec::new(),
    };
    let claimed = Claimed {
        generation: 9,
        checkpoint: Some(Checkpoint {
            session,
            sequence: 3,
            fingerprint: "f".to_owned(),
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
    feed.lose();
    feed
}

fn connection() -> Connection {
    let _installed = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let config = config();
    let setting = GateSetting {
        budget: Budget {
            per_day_max: 500,
            free: 10,
            wait_max: Duration::from_secs(1),
        },
        every: Duration::from_secs(5),
        again: Duration::from_secs(5),
        max_concurrency: 1,
    };
    let hub = Hub::new(&config).unwrap();
    let gate = Gate::new(Rest::new(&config.discord), hub, setting);
    let desk = Arc::new(Desk::new(feed()));
    gate.serve(0, Arc::clone(&desk));
    let intents = twilight_gateway::Intents::GUILDS;
    let shard = ConfigBuilder::new("t".to_owned(), intents)
        .proxy_url("ws://127.0.0.1:1".to_owned())
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
