//! Channels that the bot may not view, or not connect to.

use serde_json::{Value, json};
use world::reducer::Mirror;
use world::{ADA, BOT_ROLE, GRACE, GUILD, LOUNGE, STAFF, STUDY, World, eventually};

/// Permission bits (Discord's documentation, "Permissions").
const ADMINISTRATOR: &str = "8";
const CONNECT: &str = "1048576";
/// What Discord's REST answers about a user's voice state.
const ASKED: &str = "GET /guilds/*/voice-states/*";
/// A user who is never anywhere but with the staff.
const BOSS: &str = "299999999999999999";

/// A voice state of which the channel cannot be read, so that the worker asks for it.
async fn illegible(world: &World, user: &str) {
    let data = json!({"guild_id": GUILD, "user_id": user, "channel_id": 5});
    let request = json!({"action": "dispatch", "event": "VOICE_STATE_UPDATE", "data": data});
    world.control("gateway", request).await;
}

/// Waits until the worker has asked so often about voice states, and nothing is open any more.
async fn answered(world: &World, times: u64) {
    eventually("the questions are answered", || async {
        let asked = world.truth().await["counters"]["rest"][ASKED].as_u64()? >= times;
        let page = world.http.get(format!("{}/health", world.worker_url));
        let health: Value = page.send().await.ok()?.json().await.ok()?;
        (asked && health["shards"][0]["gaps"] == 0).then_some(())
    })
    .await;
    let counters = world.truth().await["counters"].clone();
    assert_eq!(counters["rest"][ASKED], times, "a 403 is not asked again");
    assert_eq!(counters["identify"], 1, "and causes no identify");
}

#[tokio::test]
async fn a_user_where_the_bot_may_not_connect_is_not_shown_and_causes_no_identify() {
    let world = World::start().await;
    let mut browser = world.browser("ada").await;
    let deny = json!([{"id": GUILD, "type": 0, "allow": "0", "deny": CONNECT}]);
    world
        .change_channel(STUDY, json!({"overwrites": deny}))
        .await;
    world.voice(GRACE, Some(STUDY)).await;
    browser.event("voice.joined").await;
    illegible(&world, GRACE).await;
    let left = browser.event("voice.left").await;
    assert_eq!(left["payload"]["userId"], GRACE);
    answered(&world, 1).await;
    // Discord's next word on her is believed again.
    world.voice(GRACE, Some(LOUNGE)).await;
    let joined = browser.event("voice.joined").await;
    assert_eq!(joined["payload"]["channelId"], LOUNGE);
    assert_eq!(browser.snapshots(), 1, "no second snapshot");
}

#[tokio::test]
async fn a_channel_that_the_bot_loses_sight_of_by_a_role_alone_stays_hidden_without_an_identify() {
    let world = World::start().await;
    let mut browser = world.browser("ada").await;
    let before = world.truth().await["guilds"][GUILD]["roles"][BOT_ROLE]["permissions"].clone();
    let may = async |permissions: &Value| {
        let request = json!({"guildId": GUILD, "roleId": BOT_ROLE, "permissions": permissions});
        world.control("roles", request).await;
    };
    may(&json!(ADMINISTRATOR)).await;
    world.voice(BOSS, Some(STAFF)).await;
    world.voice(ADA, Some(STAFF)).await;
    // Discord sends nothing but the change of the role.
    may(&before).await;
    world.voice(ADA, Some(LOUNGE)).await;
    browser.event("voice.joined").await;
    world.voice(ADA, Some(STAFF)).await;
    browser.event("voice.left").await;
    for (times, user) in [(1, BOSS), (2, ADA)] {
        illegible(&world, user).await;
        answered(&world, times).await;
    }
    let update = json!({"id": STAFF, "guild_id": GUILD});
    let request = json!({"action": "dispatch", "event": "CHANNEL_UPDATE", "data": update});
    world.control("gateway", request).await;
    eventually("the channel is asked for", || async {
        let asked = world.truth().await["counters"]["rest"]["GET /channels/*"].as_u64()?;
        (asked > 0).then_some(())
    })
    .await;
    answered(&world, 2).await;
    world.voice(ADA, Some(LOUNGE)).await;
    world.voice(GRACE, Some(LOUNGE)).await;
    let mut mirror = Mirror::default();
    mirror.converge(&world, &mut browser).await;
    let received = browser.received.concat();
    for secret in [STAFF, BOSS, "staff-room", "___hidden___"] {
        assert!(!received.contains(secret), "{secret} was sent");
    }
    assert_eq!(browser.snapshots(), 1, "no second snapshot");
}
