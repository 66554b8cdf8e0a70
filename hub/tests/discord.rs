//! Discord's client and the registration of commands.
#![expect(
    clippy::unwrap_used,
    reason = "the steps that tests share may fail like tests"
)]

use ::world::{GUILD, LOUNGE, Simulator, pooled};
use futures_util::future::join_all;
use hub::commands::definition;
use hub::commands::registration::register;
use hub::discord::{Deleted, Discord, DiscordError, DiscordSettings, NewChannel};
use proto::{ChannelId, GuildId};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_util::sync::{CancellationToken, DropGuard};

const APPLICATION: &str = "GET /applications/@me";
const LIST: &str = "GET /applications/*/guilds/*/commands";
const PUT: &str = "POST /applications/*/guilds/*/commands";
const DELETE: &str = "DELETE /channels/*";

/// A client and the simulated Discord that it calls.
struct Client {
    discord: Discord,
    simulator: Simulator,
    _stop: DropGuard,
}

impl Client {
    async fn new() -> Self {
        Self::with(|_| {}).await
    }

    async fn with(change: impl FnOnce(&mut DiscordSettings)) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let stop = CancellationToken::new();
        let quiet = discord_sim::Settings::quiet();
        tokio::spawn(discord_sim::run(listener, quiet, stop.clone()));
        let token = format!("--discord-bot-token={}", discord_sim::TOKEN);
        let mut settings: DiscordSettings =
            launch::settings::part(&[&token, "--discord-api-url", &url]).unwrap();
        change(&mut settings);
        Self {
            discord: Discord::new(settings).unwrap(),
            simulator: Simulator::new(pooled(), url),
            _stop: stop.drop_guard(),
        }
    }

    /// How often Discord was asked for a route.
    async fn asked(&self, route: &str) -> u64 {
        let state = self.simulator.state().await;
        state["counters"]["rest"][route].as_u64().unwrap_or(0)
    }

    /// What Discord does to the next request of a route.
    async fn script(&self, route: &str, mut fault: Value) {
        fault["match"] = json!(route);
        self.simulator.control("rest", fault).await;
    }

    async fn delete(&self, channel: &str) -> Result<Deleted, DiscordError> {
        let channel: ChannelId = channel.parse().unwrap();
        self.discord.delete_channel(channel, "x").await
    }

    async fn register(&self) {
        let never = CancellationToken::new();
        register(self.discord.clone(), vec![guild()], never).await;
    }

    async fn put(&self, command: &impl serde::Serialize) {
        let put = self.discord.put_guild_command(guild(), command);
        put.await.unwrap();
    }

    async fn commands(&self) -> Vec<Value> {
        let commands = self.simulator.state().await["commands"][GUILD].take();
        commands.as_array().cloned().unwrap_or_default()
    }
}

fn guild() -> GuildId {
    GUILD.parse().unwrap()
}

#[tokio::test]
async fn commands_are_registered_only_when_they_changed_and_others_stay() {
    let client = Client::new().await;
    let other = json!({"name": "weather", "description": "not ours", "options": [
        {"type": 10, "name": "degrees", "description": "a number", "min_value": 0.5}
    ]});
    client.put(&other).await;
    client.register().await;
    assert_eq!(client.asked(PUT).await, 2);
    let commands = client.commands().await;
    let names: Vec<_> = commands.iter().map(|command| &command["name"]).collect();
    assert_eq!(names, ["weather", "room"]);
    client.register().await;
    assert_eq!(
        (client.asked(LIST).await, client.asked(PUT).await),
        (2, 2),
        "nothing changed"
    );
    let mut older = definition::room();
    older.description = "older".to_owned();
    client.put(&older).await;
    client.register().await;
    let commands = client.commands().await;
    assert_eq!(commands.len(), 2);
    assert_eq!(commands[1]["description"], definition::room().description);
    assert_eq!(
        client.asked(APPLICATION).await,
        1,
        "the application does not change"
    );
}

#[tokio::test]
async fn registration_tries_again_and_gives_up_where_waiting_does_not_help() {
    let client = Client::new().await;
    client.script(LIST, json!({"status": 500})).await;
    client.register().await;
    assert_eq!((client.asked(LIST).await, client.asked(PUT).await), (2, 1));
    let client = Client::new().await;
    client
        .script(LIST, json!({"status": 403, "times": 9}))
        .await;
    client.register().await;
    assert_eq!((client.asked(LIST).await, client.asked(PUT).await), (1, 0));
}

#[tokio::test]
async fn more_calls_than_may_wait_are_refused() {
    let client = Client::with(|settings| {
        (
            settings.discord_concurrent_max,
            settings.discord_waiting_max,
        ) = (1, 1);
    })
    .await;
    client
        .script(DELETE, json!({"delayMs": 200, "times": 9}))
        .await;
    let outcomes = join_all(["1", "2", "3", "4"].map(|id| client.delete(id))).await;
    let count = |outcome| outcomes.iter().filter(|one| **one == outcome).count();
    let (refused, gone) = (Err(DiscordError::Unreached), Ok(Deleted::Before));
    assert_eq!((count(refused), count(gone)), (2, 2), "{outcomes:?}");
}

#[tokio::test]
async fn a_response_that_is_too_large_or_too_late_is_none() {
    let client = Client::with(|settings| {
        (
            settings.discord_answer_bytes_max,
            settings.discord_timeout_ms,
        ) = (64, 200);
    })
    .await;
    let channel = NewChannel {
        name: "x".to_owned(),
        parent_id: None,
        user_limit: 4,
    };
    let made = client.discord.create_channel(guild(), channel, "x").await;
    assert_eq!(made, Err(DiscordError::Unavailable));
    client.script(DELETE, json!({"delayMs": 2000})).await;
    assert_eq!(client.delete(LOUNGE).await, Err(DiscordError::Unavailable));
}

#[tokio::test]
async fn after_too_many_invalid_responses_no_call_is_made_whatever_their_bodies_are() {
    let client = Client::with(|settings| {
        (
            settings.discord_invalid_answers_max,
            settings.discord_answer_bytes_max,
        ) = (3, 64);
    })
    .await;
    let page = "<html>".repeat(100);
    for body in ["", "<html>short</html>", page.as_str()] {
        client
            .script(DELETE, json!({"status": 403, "body": body}))
            .await;
        let refused = client.delete(LOUNGE).await;
        assert_eq!(refused, Err(DiscordError::Unavailable), "{body}");
    }
    let stopped = client.delete(LOUNGE).await;
    assert!(
        matches!(
            stopped,
            Err(DiscordError::RateLimited {
                retry_after_ms: 590_000..=600_000
            })
        ),
        "{stopped:?}"
    );
    assert_eq!(client.asked(DELETE).await, 3);
}
