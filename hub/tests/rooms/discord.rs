//! Discord's client and the registration of commands.

use futures_util::future::join_all;
use hub::commands::definition;
use hub::commands::registration::register;
use hub::discord::{Deleted, DiscordError, DiscordSettings, Missing, NewChannel};
use proto::ChannelId;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::world::{GUILD, LOUNGE, Plan, World};

const APPLICATION: &str = "GET /applications/@me";
const LIST: &str = "GET /applications/*/guilds/*/commands";
const PUT: &str = "POST /applications/*/guilds/*/commands";

fn lounge() -> ChannelId {
    LOUNGE.parse().unwrap()
}

async fn registered(world: &World) {
    register(
        world.discord.clone(),
        vec![GUILD.parse().unwrap()],
        CancellationToken::new(),
    )
    .await;
}

async fn commands(world: &World) -> Vec<Value> {
    world.state().await["commands"][GUILD]
        .as_array()
        .cloned()
        .unwrap_or_default()
}

#[tokio::test]
async fn commands_are_registered_only_when_they_changed_and_others_stay() {
    let world = World::new().await;
    let other = json!({"name": "weather", "description": "not ours", "options": [
        {"type": 10, "name": "degrees", "description": "a number", "min_value": 0.5}
    ]});
    world
        .discord
        .put_guild_command(GUILD.parse().unwrap(), &other)
        .await
        .unwrap();
    registered(&world).await;
    assert_eq!(world.asked(PUT).await, 2);
    let names: Vec<_> = commands(&world)
        .await
        .iter()
        .map(|command| command["name"].clone())
        .collect();
    assert_eq!(names, ["weather", "room"]);
    registered(&world).await;
    assert_eq!(
        (world.asked(LIST).await, world.asked(PUT).await),
        (2, 2),
        "nothing changed"
    );
    let mut older = definition::room();
    older.description = "older".to_owned();
    world
        .discord
        .put_guild_command(GUILD.parse().unwrap(), &older)
        .await
        .unwrap();
    registered(&world).await;
    let there = commands(&world).await;
    assert_eq!(there.len(), 2);
    assert_eq!(there[1]["description"], definition::room().description);
    assert_eq!(
        world.asked(APPLICATION).await,
        1,
        "the application does not change"
    );
}

#[tokio::test]
async fn registration_tries_again_and_gives_up_where_waiting_does_not_help() {
    let world = World::new().await;
    world.script(LIST, json!({"status": 500})).await;
    registered(&world).await;
    assert_eq!((world.asked(LIST).await, world.asked(PUT).await), (2, 1));
    let world = World::new().await;
    world.script(LIST, json!({"status": 403, "times": 9})).await;
    registered(&world).await;
    assert_eq!((world.asked(LIST).await, world.asked(PUT).await), (1, 0));
}

#[tokio::test]
async fn after_too_many_invalid_answers_discord_is_left_alone() {
    let discord = |settings: &mut DiscordSettings| settings.invalid_answers_max = 3;
    let world = World::with(Plan {
        discord,
        ..Plan::default()
    })
    .await;
    world
        .script("DELETE /channels/*", json!({"status": 403, "times": 9}))
        .await;
    for _ in 0..3 {
        assert_eq!(
            world.discord.delete_channel(lounge(), "x").await,
            Err(DiscordError::Forbidden(Missing::Permissions))
        );
    }
    let stopped = world.discord.delete_channel(lounge(), "x").await;
    assert!(
        matches!(
            stopped,
            Err(DiscordError::RateLimited {
                retry_after_ms: 590_000..=600_000
            })
        ),
        "{stopped:?}"
    );
    assert_eq!(world.asked("DELETE /channels/*").await, 3);
}

#[tokio::test]
async fn a_second_holds_only_so_many_calls_of_every_kind() {
    let world = World::with(Plan {
        discord: |settings| settings.per_second_max = 1,
        ..Plan::default()
    })
    .await;
    world.discord.application_id().await.unwrap();
    let mut outcomes = Vec::new();
    for _ in 0..2 {
        outcomes.push(
            world
                .discord
                .delete_channel(ChannelId::new(5).unwrap(), "x")
                .await,
        );
    }
    // The second may have turned between two of them, not between all.
    assert!(
        outcomes
            .iter()
            .any(|outcome| matches!(outcome, Err(DiscordError::RateLimited { .. }))),
        "{outcomes:?}"
    );
}

#[tokio::test]
async fn more_calls_than_may_wait_are_refused() {
    let discord =
        |settings: &mut DiscordSettings| (settings.concurrent_max, settings.waiting_max) = (1, 1);
    let world = World::with(Plan {
        discord,
        ..Plan::default()
    })
    .await;
    world
        .script("DELETE /channels/*", json!({"delayMs": 200, "times": 9}))
        .await;
    let deletes = (1..=4).map(|id| {
        world
            .discord
            .delete_channel(ChannelId::new(id).unwrap(), "x")
    });
    let outcomes = join_all(deletes).await;
    let refused = outcomes
        .iter()
        .filter(|outcome| **outcome == Err(DiscordError::Unavailable))
        .count();
    let gone = outcomes
        .iter()
        .filter(|outcome| **outcome == Ok(Deleted::Before))
        .count();
    assert_eq!((refused, gone), (2, 2), "{outcomes:?}");
}

#[tokio::test]
async fn an_answer_that_is_too_large_or_too_late_is_none() {
    let discord = |settings: &mut DiscordSettings| {
        (settings.answer_bytes_max, settings.timeout_ms) = (64, 200);
    };
    let world = World::with(Plan {
        discord,
        ..Plan::default()
    })
    .await;
    let channel = NewChannel {
        name: "x".to_owned(),
        parent_id: None,
        user_limit: 4,
    };
    let made = world
        .discord
        .create_channel(GUILD.parse().unwrap(), channel, "x")
        .await;
    assert_eq!(made, Err(DiscordError::Unavailable));
    world
        .script("DELETE /channels/*", json!({"delayMs": 2000}))
        .await;
    assert_eq!(
        world.discord.delete_channel(lounge(), "x").await,
        Err(DiscordError::Unavailable)
    );
}

#[tokio::test]
async fn a_403_counts_toward_the_bound_of_invalid_answers_also_where_its_body_is_too_large() {
    let discord = |settings: &mut DiscordSettings| {
        (settings.invalid_answers_max, settings.answer_bytes_max) = (3, 64);
    };
    let world = World::with(Plan {
        discord,
        ..Plan::default()
    })
    .await;
    let page = "<html>".repeat(100);
    for body in ["", "<html>short</html>", page.as_str()] {
        world
            .script("DELETE /channels/*", json!({"status": 403, "body": body}))
            .await;
        let refused = world.discord.delete_channel(lounge(), "x").await;
        assert_eq!(refused, Err(DiscordError::Unavailable), "{body}");
    }
    let stopped = world.discord.delete_channel(lounge(), "x").await;
    assert!(
        matches!(stopped, Err(DiscordError::RateLimited { .. })),
        "{stopped:?}"
    );
}
