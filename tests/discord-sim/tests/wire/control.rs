//! The control side: good wishes are numbered, bad ones change nothing; and the program itself.

use serde_json::{Value, json};

use crate::client::*;

#[tokio::test]
async fn bad_wishes_are_400_and_change_nothing() {
    let discord = Discord::start().await;
    discord.voice(ADA, Some(LOUNGE)).await;
    let before = discord.state().await;
    for (path, body) in [
        ("voice", json!({})),
        ("voice", json!({"guildId": GUILD})),
        ("voice", json!({"guildId": 1, "userId": ADA})),
        (
            "voice",
            json!({"guildId": "0", "userId": ADA, "channelId": LOUNGE}),
        ),
        (
            "voice",
            json!({"guildId": "9", "userId": ADA, "channelId": LOUNGE}),
        ),
        (
            "voice",
            json!({"guildId": GUILD, "userId": ADA, "channelId": "9"}),
        ),
        (
            "voice",
            json!({"guildId": GUILD, "userId": ADA, "channelId": TEXT}),
        ),
        (
            "voice",
            json!({"guildId": GUILD, "userId": GRACE, "selfMute": true}),
        ),
        (
            "voice",
            json!({"guildId": GUILD, "userId": GRACE, "channelId": LOUNGE, "selfmute": true}),
        ),
        ("channels", json!({"guildId": GUILD, "name": ""})),
        (
            "channels",
            json!({"guildId": GUILD, "name": "x", "type": 99}),
        ),
        (
            "channels",
            json!({"guildId": GUILD, "name": "x", "parentId": LOUNGE}),
        ),
        (
            "channels",
            json!({"guildId": GUILD, "name": "x", "overwrites": [{"id": "1", "allow": "z"}]}),
        ),
        ("roles", json!({"guildId": GUILD, "roleId": "5"})),
        (
            "members",
            json!({"guildId": GUILD, "userId": ADA, "roles": ["5"]}),
        ),
        ("gateway", json!({"action": "sing"})),
        ("gateway", json!({"action": "close"})),
        ("gateway", json!({"action": "close", "code": 1006})),
        ("gateway", json!({"action": "silence"})),
        (
            "gateway",
            json!({"action": "outage", "guildId": "9", "seconds": 1}),
        ),
        ("rest", json!({"match": "x"})),
        (
            "rest",
            json!({"match": "GET /guilds/*/voicestates/*", "status": 500}),
        ),
        ("rest", json!({"match": "GET /gateway", "status": 200})),
        ("gateway", json!({"action": "drop", "session": "nobody"})),
        ("gateway", json!({"action": "resumes"})),
        ("gateway", json!({"action": "resumes", "answer": "close"})),
        ("gateway", json!({"action": "resumes", "answer": "sing"})),
        (
            "channels",
            json!({"guildId": GUILD, "name": "x", "overwrites": [{"id": "9", "type": 0}]}),
        ),
        ("interactions", json!({"interaction": {}})),
        ("webhook-events", json!({"event": {"type": "X"}})),
    ] {
        let (status, answer) = discord.control("POST", path, Some(body.clone())).await;
        assert_eq!(status, 400, "{path} {body}: {answer}");
        assert!(answer["error"].as_str().is_some_and(|why| !why.is_empty()));
    }
    assert_eq!(discord.control("POST", "voice", None).await.0, 400);
    assert_eq!(discord.control("DELETE", "channels/9", None).await.0, 404);
    assert_eq!(discord.control("DELETE", "channels/x", None).await.0, 400);
    assert_eq!(
        discord.control("GET", "transitions?since=x", None).await.0,
        400
    );
    assert_eq!(discord.control("GET", "nothing", None).await.0, 404);
    assert_eq!(discord.state().await, before);
}

#[tokio::test]
async fn every_change_is_a_numbered_transition_and_the_answer_names_the_last() {
    let discord = Discord::start().await;
    let first = discord.voice(ADA, Some(LOUNGE)).await;
    let same = discord.voice(ADA, Some(LOUNGE)).await;
    assert_eq!(first, same, "nothing changed");
    let stranger = discord.voice("424242", Some(LOUNGE)).await;
    let (_, all) = discord.control("GET", "transitions?since=0", None).await;
    let seqs: Vec<u64> = all["transitions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|t| t["seq"].as_u64().unwrap())
        .collect();
    let last = stranger["seq"].as_u64().unwrap();
    assert_eq!(seqs, (1..=last).collect::<Vec<_>>());
    assert_eq!(all["complete"], true);
    let since = first["seq"].as_u64().unwrap();
    let (_, later) = discord
        .control("GET", &format!("transitions?since={since}"), None)
        .await;
    let kinds: Vec<&Value> = later["transitions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|t| &t["type"])
        .collect();
    assert_eq!(kinds, ["member.added", "voice"]);
    assert_eq!(later["transitions"][1]["after"]["channelId"], LOUNGE);
    assert_eq!(later["transitions"][1]["before"], Value::Null);
}

#[tokio::test]
async fn forgotten_transitions_are_admitted() {
    let mut settings = settings();
    settings.sim_transitions_max = 2;
    let discord = Discord::start_with(settings).await;
    for channel in [Some(LOUNGE), Some(STUDY_HALL), None] {
        discord.voice(ADA, channel).await;
    }
    let (_, answer) = discord.control("GET", "transitions?since=0", None).await;
    assert_eq!(answer["complete"], false);
    assert_eq!(answer["transitions"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn an_outage_within_an_outage_and_a_role_too_many_are_refused() {
    let discord = Discord::start().await;
    let outage = json!({"action": "outage", "guildId": GUILD, "seconds": 60});
    discord.gateway(outage.clone()).await;
    assert_eq!(
        discord.control("POST", "gateway", Some(outage)).await.0,
        400
    );
    let role = |n: u32| json!({"guildId": GUILD, "roleId": n.to_string(), "permissions": 0});
    for n in 1..=247 {
        discord.post_control("roles", role(n)).await;
    }
    assert_eq!(
        discord.control("POST", "roles", Some(role(248))).await.0,
        400
    );
}

#[tokio::test]
async fn the_state_shows_who_sits_where() {
    let discord = Discord::start().await;
    assert_eq!(
        discord.state().await["guilds"][GUILD]["channels"][LOUNGE]["members"],
        json!({}),
        "nobody when quiet"
    );
    discord
        .post_control(
            "voice",
            json!({"guildId": GUILD, "userId": ADA, "channelId": STAFF_ROOM, "selfDeaf": true}),
        )
        .await;
    let state = discord.state().await;
    let staff = &state["guilds"][GUILD]["channels"][STAFF_ROOM];
    assert_eq!(
        (&staff["name"], &staff["type"], &staff["parentId"]),
        (&json!("staff-room"), &json!(2), &json!(CATEGORY))
    );
    assert_eq!(staff["members"][ADA]["selfDeaf"], true);
    assert_eq!(staff["overwrites"].as_array().unwrap().len(), 2);
    assert_eq!(state["publicKey"].as_str().unwrap().len(), 64);
}

#[tokio::test]
async fn the_crowd_moves_unless_it_is_configured_to_be_quiet() {
    let mut settings = settings();
    settings.sim_quiet = false;
    let discord = Discord::start_with(settings).await;
    let mut bot = discord.ready().await;
    bot.until("VOICE_STATE_UPDATE").await;
}
