//! Connections: greeting, heartbeats, intents, shards, and every close code.

use serde_json::{Value, json};

use crate::client::*;

#[tokio::test]
async fn a_bot_is_greeted_with_its_session_and_its_guild() {
    let discord = Discord::start().await;
    discord.voice(ADA, Some(STAFF_ROOM)).await;
    let mut bot = discord.connect().await;
    assert_eq!(bot.hello().await, 41_250);
    bot.identify(json!({"shard": [0, 1]})).await;
    let ready = bot.until("READY").await;
    assert_eq!(ready["v"], 10);
    assert_eq!(ready["user"]["id"], BOT);
    assert_eq!(ready["application"]["id"], BOT);
    assert_eq!(ready["shard"], json!([0, 1]));
    assert_eq!(ready["guilds"], json!([{"id": GUILD, "unavailable": true}]));
    assert_eq!(bot.resume_url, format!("ws://{}", discord.address));
    let guild = bot.until("GUILD_CREATE").await;
    assert_eq!(guild["channels"].as_array().unwrap().len(), 5);
    assert_eq!(guild["roles"].as_array().unwrap().len(), 3);
    assert_eq!(guild["voice_states"][0]["channel_id"], STAFF_ROOM);
    assert!(guild["voice_states"][0].get("guild_id").is_none());
    let members: Vec<&Value> = guild["members"]
        .as_array()
        .unwrap()
        .iter()
        .map(|m| &m["user"]["id"])
        .collect();
    assert_eq!(members, [ADA, BOT], "only the bot and who sits in voice");
}

#[tokio::test]
async fn a_heartbeat_is_acknowledged_before_and_after_identify() {
    let discord = Discord::start().await;
    let mut bot = discord.connect().await;
    bot.hello().await;
    bot.send(json!({"op": 1, "d": null})).await;
    assert_eq!(bot.next().await["op"], 11);
    bot.identify(json!({})).await;
    bot.until("GUILD_CREATE").await;
    bot.send(json!({"op": 1, "d": bot.seq})).await;
    assert_eq!(bot.next().await["op"], 11);
    discord.gateway(json!({"action": "heartbeat"})).await;
    assert_eq!(bot.next().await["op"], 1);
    assert_eq!(discord.counter("heartbeats").await, 2);
}

#[tokio::test]
async fn what_a_client_does_wrong_is_closed_with_the_documented_code() {
    let discord = Discord::start().await;
    let long = format!(r#"{{"op":1,"d":null,"x":"{}"}}"#, "x".repeat(4_096));
    let nested = format!(r#"{{"op":1,"d":{}1{}}}"#, "[".repeat(500), "]".repeat(500));
    let table: [(&str, u64); 11] = [
        (r#"{"op":99,"d":null}"#, 4001),
        (r#"{"op":0,"d":null}"#, 4001),
        ("not json", 4002),
        (r#"{"d":1}"#, 4002),
        (&long, 4002),
        (&nested, 4002),
        (r#"{"op":1,"d":"x"}"#, 4002),
        (r#"{"op":2,"d":{"token":"sim-token"}}"#, 4002),
        (r#"{"op":6,"d":{}}"#, 4002),
        (r#"{"op":3,"d":{}}"#, 4003),
        (r#"{"op":4,"d":{}}"#, 4003),
    ];
    for (text, code) in table {
        let mut bot = discord.connect().await;
        bot.hello().await;
        bot.send_raw(text).await;
        assert_eq!(
            bot.closed().await,
            Some(code),
            "{}",
            &text[..text.len().min(60)]
        );
    }
    assert_eq!(discord.state().await["sessions"], json!([]));
}

#[tokio::test]
async fn an_identify_that_cannot_be_is_closed_with_the_documented_code() {
    let mut settings = settings();
    settings.sim_guilds = 5;
    settings.sim_guilds_per_shard = 4;
    let discord = Discord::start_with(settings).await;
    for (changes, code) in [
        (json!({"token": "wrong"}), 4004),
        (json!({"shard": [1, 1]}), 4010),
        (json!({"shard": [0]}), 4010),
        (json!({"shard": "0"}), 4010),
        (json!({"shard": [0, 1]}), 4011),
        (json!({"shard": [0, 2], "intents": -1}), 4013),
        (json!({"shard": [0, 2], "intents": 1 << 30}), 4013),
        (json!({"shard": [0, 2], "intents": 1 << 1}), 4014),
        (json!({"shard": [0, 2], "intents": 1 << 15}), 4014),
    ] {
        let mut bot = discord.connect().await;
        bot.hello().await;
        bot.identify(changes.clone()).await;
        assert_eq!(bot.closed().await, Some(code), "{changes}");
    }
}

#[tokio::test]
async fn a_second_identify_is_closed_with_4005_and_the_session_lives_on() {
    let discord = Discord::start().await;
    let mut bot = discord.ready().await;
    bot.identify(json!({})).await;
    assert_eq!(bot.closed().await, Some(4005));
    let mut again = discord.connect().await;
    again.hello().await;
    again.resume(&bot.session, bot.seq).await;
    again.until("RESUMED").await;
}

#[tokio::test]
async fn another_version_is_closed_with_4012_and_other_encodings_are_refused() {
    let discord = Discord::start().await;
    for query in ["?v=9&encoding=json", "?v=6", ""] {
        assert_eq!(
            discord.connect_by(query).await.closed().await,
            Some(4012),
            "{query}"
        );
    }
    for query in ["?v=10&encoding=etf", "?v=10&compress=zstd-stream"] {
        let url = format!("ws://{}/{query}", discord.address);
        assert!(
            tokio_tungstenite::connect_async(url).await.is_err(),
            "{query}"
        );
    }
}

#[tokio::test]
async fn too_many_payloads_are_closed_with_4008() {
    let mut settings = settings();
    settings.sim_sends_per_minute = 10;
    let discord = Discord::start_with(settings).await;
    let mut bot = discord.ready().await;
    for _ in 0..10 {
        bot.send(json!({"op": 1, "d": null})).await;
    }
    assert_eq!(bot.closed().await, Some(4008));
    assert_eq!(
        discord.state().await["counters"]["closed"],
        json!({"4008": 1})
    );
}

#[tokio::test]
async fn a_client_without_heartbeats_is_closed_with_4009_and_its_session_is_over() {
    let mut settings = settings();
    settings.sim_heartbeat_ms = 50;
    let discord = Discord::start_with(settings).await;
    let mut bot = discord.ready().await;
    assert_eq!(bot.closed().await, Some(4009));
    let mut again = discord.connect().await;
    again.hello().await;
    again.resume(&bot.session, bot.seq).await;
    assert_eq!(
        again.next().await,
        json!({"t": null, "s": null, "op": 9, "d": false})
    );
}

#[tokio::test]
async fn an_identify_waits_for_its_bucket_and_is_refused_with_op_9_until_then() {
    let mut settings = settings();
    settings.sim_identify_every_ms = 60_000;
    settings.sim_max_concurrency = 2;
    let discord = Discord::start_with(settings).await;
    let mut bots = Vec::new();
    for (shard, expected) in [(0, "READY"), (2, "op 9"), (1, "READY")] {
        let mut bot = discord.connect().await;
        bot.hello().await;
        bot.identify(json!({"shard": [shard, 3]})).await;
        let answer = bot.next().await;
        match expected {
            "READY" => assert_eq!(answer["t"], "READY", "shard {shard}"),
            _ => assert_eq!(
                (&answer["op"], &answer["d"]),
                (&json!(9), &json!(false)),
                "shard {shard}"
            ),
        }
        bots.push(bot);
    }
    let (_, gateway) = discord.rest("GET", "/gateway/bot", None).await;
    assert_eq!(gateway["session_start_limit"]["remaining"], 997);
    assert_eq!(gateway["session_start_limit"]["max_concurrency"], 2);
}

#[tokio::test]
async fn overspending_the_identify_budget_ends_every_session_and_resets_the_token() {
    let mut settings = settings();
    settings.sim_identify_total = 1;
    let discord = Discord::start_with(settings).await;
    let mut first = discord.ready().await;
    let (_, gateway) = discord.rest("GET", "/gateway/bot", None).await;
    assert_eq!(gateway["session_start_limit"]["remaining"], 0);
    let mut second = discord.connect().await;
    second.hello().await;
    second.identify(json!({})).await;
    assert_eq!(second.closed().await, Some(4004));
    assert_eq!(first.closed().await, Some(4004));
    assert_eq!(discord.rest("GET", "/users/@me", None).await.0, 401);
    assert_eq!(discord.state().await["tokenReset"], true);
}

#[tokio::test]
async fn joins_moves_marks_and_leaves_are_dispatched_as_whole_states() {
    let discord = Discord::start().await;
    let mut bot = discord.ready().await;
    discord.voice(GRACE, Some(LOUNGE)).await;
    let joined = bot.until("VOICE_STATE_UPDATE").await;
    assert_eq!(joined["channel_id"], LOUNGE);
    assert_eq!(joined["guild_id"], GUILD);
    assert_eq!(joined["member"]["user"]["global_name"], "Grace");
    discord
        .post_control(
            "voice",
            json!({"guildId": GUILD, "userId": GRACE, "selfMute": true}),
        )
        .await;
    let muted = bot.until("VOICE_STATE_UPDATE").await;
    assert_eq!(
        (&muted["self_mute"], &muted["channel_id"]),
        (&json!(true), &json!(LOUNGE))
    );
    discord.voice(GRACE, Some(STUDY_HALL)).await;
    let moved = bot.until("VOICE_STATE_UPDATE").await;
    assert_eq!(moved["channel_id"], STUDY_HALL);
    assert_eq!(moved["session_id"], joined["session_id"]);
    assert_eq!(moved["self_mute"], true);
    discord.voice(GRACE, None).await;
    assert_eq!(
        bot.until("VOICE_STATE_UPDATE").await["channel_id"],
        Value::Null
    );
    discord.voice(GRACE, Some(LOUNGE)).await;
    assert_eq!(
        bot.until("VOICE_STATE_UPDATE").await["self_mute"],
        false,
        "a new join clears the marks"
    );
}

#[tokio::test]
async fn only_requested_intents_are_dispatched() {
    let discord = Discord::start().await;
    let mut none = discord.connect().await;
    none.hello().await;
    none.identify(json!({"intents": 0})).await;
    none.until("READY").await;
    let mut guilds = discord.connect().await;
    guilds.hello().await;
    guilds.identify(json!({"intents": 1})).await;
    discord.voice(ADA, Some(LOUNGE)).await;
    assert_eq!(
        guilds.until("GUILD_CREATE").await["voice_states"],
        json!([])
    );
    discord
        .post_control("channels", json!({"guildId": GUILD, "name": "New"}))
        .await;
    assert_eq!(none.rest_of().await, Vec::<String>::new());
    let events = guilds.rest_of().await;
    assert!(events.contains(&"CHANNEL_CREATE".to_owned()), "{events:?}");
    assert!(
        !events.contains(&"VOICE_STATE_UPDATE".to_owned()),
        "{events:?}"
    );
}

#[tokio::test]
async fn shards_get_their_guilds_and_one_shard_may_have_two_sessions() {
    let mut settings = settings();
    settings.sim_guilds = 3;
    let discord = Discord::start_with(settings).await;
    let mut seen = Vec::new();
    for shard in [0, 1, 1] {
        let mut bot = discord.connect().await;
        bot.hello().await;
        bot.identify(json!({"shard": [shard, 2]})).await;
        let ready = bot.until("READY").await;
        let guilds: Vec<String> = ready["guilds"]
            .as_array()
            .unwrap()
            .iter()
            .map(|guild| guild["id"].as_str().unwrap().to_owned())
            .collect();
        for guild in &guilds {
            let id: u64 = guild.parse().unwrap();
            assert_eq!((id >> 22) % 2, shard);
        }
        for _ in &guilds {
            bot.until("GUILD_CREATE").await;
        }
        seen.push((bot, guilds));
    }
    assert_eq!(seen[0].1.len() + seen[1].1.len(), 3);
    assert_eq!(seen[1].1, seen[2].1);
    let guild = seen[1].1[0].clone();
    let channel = (guild.parse::<u64>().unwrap() + 10).to_string();
    discord
        .post_control(
            "voice",
            json!({"guildId": guild, "userId": ADA, "channelId": channel}),
        )
        .await;
    for (bot, _) in &mut seen[1..] {
        assert_eq!(
            bot.until("VOICE_STATE_UPDATE").await["guild_id"],
            guild.as_str()
        );
    }
    let events = seen[0].0.rest_of().await;
    assert_eq!(
        events.contains(&"VOICE_STATE_UPDATE".to_owned()),
        seen[0].1.contains(&guild)
    );
}

#[tokio::test]
async fn zlib_stream_is_one_stream_whose_payloads_each_end_in_a_flush() {
    let discord = Discord::start().await;
    let mut bot = discord
        .connect_by("?v=10&encoding=json&compress=zlib-stream")
        .await;
    bot.hello().await;
    bot.identify(json!({})).await;
    assert_eq!(bot.until("GUILD_CREATE").await["id"], GUILD);
    for n in 0..50 {
        discord
            .voice(ADA, if n % 2 == 0 { Some(LOUNGE) } else { None })
            .await;
    }
    for n in 0..50 {
        let expected = if n % 2 == 0 {
            json!(LOUNGE)
        } else {
            Value::Null
        };
        assert_eq!(
            bot.until("VOICE_STATE_UPDATE").await["channel_id"],
            expected
        );
    }
}

#[tokio::test]
async fn an_outage_takes_the_guild_away_and_brings_it_back_as_it_is_by_then() {
    let discord = Discord::start().await;
    let mut bot = discord.ready().await;
    discord.voice(ADA, Some(LOUNGE)).await;
    bot.until("VOICE_STATE_UPDATE").await;
    discord
        .gateway(json!({"action": "outage", "guildId": GUILD, "seconds": 0.3}))
        .await;
    assert_eq!(
        bot.until("GUILD_DELETE").await,
        json!({"id": GUILD, "unavailable": true})
    );
    discord.voice(ADA, None).await;
    discord.voice(GRACE, Some(LOUNGE)).await;
    let mut late = discord.connect().await;
    late.hello().await;
    late.identify(json!({})).await;
    late.until("READY").await;
    assert_eq!(late.until("GUILD_DELETE").await["unavailable"], true);
    let next = bot.next().await;
    assert_eq!(
        next["t"], "GUILD_CREATE",
        "nothing is dispatched during an outage"
    );
    assert_eq!(next["d"]["voice_states"].as_array().unwrap().len(), 1);
    assert_eq!(next["d"]["voice_states"][0]["user_id"], GRACE);
    late.until("GUILD_CREATE").await;
}

#[tokio::test]
async fn a_deleted_channel_empties_and_a_deleted_category_frees_its_channels() {
    let discord = Discord::start().await;
    let mut bot = discord.ready().await;
    discord.voice(ADA, Some(LOUNGE)).await;
    bot.until("VOICE_STATE_UPDATE").await;
    let (status, _) = discord
        .control("DELETE", &format!("channels/{LOUNGE}"), None)
        .await;
    assert_eq!(status, 200);
    assert_eq!(bot.until("CHANNEL_DELETE").await["id"], LOUNGE);
    assert_eq!(
        bot.until("VOICE_STATE_UPDATE").await["channel_id"],
        Value::Null
    );
    discord
        .control("DELETE", &format!("channels/{CATEGORY}"), None)
        .await;
    bot.until("CHANNEL_DELETE").await;
    for _ in 0..2 {
        assert_eq!(bot.until("CHANNEL_UPDATE").await["parent_id"], Value::Null);
    }
}

#[tokio::test]
async fn roles_channels_and_status_lines_are_dispatched() {
    let discord = Discord::start().await;
    let mut bot = discord.ready().await;
    discord
        .post_control(
            "roles",
            json!({"guildId": GUILD, "roleId": GUILD, "permissions": "0"}),
        )
        .await;
    assert_eq!(
        bot.until("GUILD_ROLE_UPDATE").await["role"]["permissions"],
        "0"
    );
    discord
        .post_control(
            "roles",
            json!({"guildId": GUILD, "roleId": "77", "permissions": "1024"}),
        )
        .await;
    assert_eq!(bot.until("GUILD_ROLE_CREATE").await["role"]["id"], "77");
    discord
        .post_control(
            "roles",
            json!({"guildId": GUILD, "roleId": "77", "delete": true}),
        )
        .await;
    assert_eq!(bot.until("GUILD_ROLE_DELETE").await["role_id"], "77");
    let change = json!({"name": "Quiet room", "userLimit": 3, "parentId": null, "status": "shh",
        "overwrites": [{"id": GUILD, "type": "role", "deny": "2048"}]});
    let (status, _) = discord
        .control("PATCH", &format!("channels/{LOUNGE}"), Some(change))
        .await;
    assert_eq!(status, 200);
    let updated = bot.until("CHANNEL_UPDATE").await;
    assert_eq!(
        (&updated["name"], &updated["user_limit"]),
        (&json!("Quiet room"), &json!(3))
    );
    assert_eq!(updated["permission_overwrites"][0]["deny"], "2048");
    assert_eq!(
        bot.until("VOICE_CHANNEL_STATUS_UPDATE").await["status"],
        "shh"
    );
}

#[tokio::test]
async fn channels_out_of_view_are_obfuscated_until_the_bot_may_view_them() {
    let discord = Discord::start().await;
    let mut bot = discord.connect().await;
    bot.hello().await;
    bot.identify(json!({})).await;
    let guild = bot.until("GUILD_CREATE").await;
    let staff = guild["channels"]
        .as_array()
        .unwrap()
        .iter()
        .find(|channel| channel["id"] == STAFF_ROOM)
        .unwrap();
    assert_eq!(staff["name"], "___hidden___");
    assert_eq!(staff["flags"], 1 << 17);
    assert_eq!(
        staff["permission_overwrites"],
        json!([{"id": GUILD, "type": 0, "allow": "0", "deny": "1024"}])
    );
    let (_, listed) = discord
        .rest("GET", &format!("/guilds/{GUILD}/channels"), None)
        .await;
    assert!(
        listed
            .as_array()
            .unwrap()
            .iter()
            .all(|channel| channel["id"] != STAFF_ROOM)
    );
    // Administrators view everything.
    discord
        .post_control(
            "roles",
            json!({"guildId": GUILD, "roleId": BOT_ROLE, "permissions": "8"}),
        )
        .await;
    let unveiled = bot.until("CHANNEL_UPDATE").await;
    assert_eq!(
        (&unveiled["id"], &unveiled["name"]),
        (&json!(STAFF_ROOM), &json!("staff-room"))
    );
    // Only the role shows that they are none any more, and the channel's next change.
    discord
        .post_control(
            "roles",
            json!({"guildId": GUILD, "roleId": BOT_ROLE, "permissions": "16"}),
        )
        .await;
    bot.until("GUILD_ROLE_UPDATE").await;
    assert_eq!(bot.rest_of().await, Vec::<String>::new());
    let (status, _) = discord
        .control(
            "PATCH",
            &format!("channels/{STAFF_ROOM}"),
            Some(json!({"name": "vault"})),
        )
        .await;
    assert_eq!(status, 200);
    assert_eq!(bot.until("CHANNEL_UPDATE").await["name"], "___hidden___");
}

#[tokio::test]
async fn without_obfuscation_a_bot_sees_every_channel_unless_it_opts_in() {
    let mut settings = settings();
    settings.sim_obfuscate = false;
    let discord = Discord::start_with(settings).await;
    for (capabilities, name) in [(0, "staff-room"), (1 << 15, "___hidden___")] {
        let mut bot = discord.connect().await;
        bot.hello().await;
        bot.identify(json!({"capabilities": capabilities})).await;
        let guild = bot.until("GUILD_CREATE").await;
        let channels = guild["channels"].as_array().unwrap();
        let staff = channels.iter().find(|channel| channel["id"] == STAFF_ROOM);
        assert_eq!(staff.unwrap()["name"], name);
    }
    let (_, listed) = discord
        .rest("GET", &format!("/guilds/{GUILD}/channels"), None)
        .await;
    assert!(listed.to_string().contains(STAFF_ROOM));
}

#[tokio::test]
async fn requests_over_the_gateway_are_answered() {
    let discord = Discord::start().await;
    let mut bot = discord.ready().await;
    discord.voice(ADA, Some(LOUNGE)).await;
    bot.send(json!({"op": 8, "d": {"guild_id": GUILD, "query": "a", "limit": 10, "nonce": "n1"}}))
        .await;
    let chunk = bot.until("GUILD_MEMBERS_CHUNK").await;
    assert_eq!(
        (&chunk["nonce"], &chunk["chunk_count"]),
        (&json!("n1"), &json!(1))
    );
    assert!(
        chunk["members"]
            .as_array()
            .unwrap()
            .iter()
            .any(|member| member["user"]["id"] == ADA)
    );
    bot.send(json!({"op": 8, "d": {"guild_id": GUILD, "user_ids": [GRACE, "99"], "limit": 0}}))
        .await;
    let chunk = bot.until("GUILD_MEMBERS_CHUNK").await;
    assert_eq!(chunk["members"][0]["user"]["id"], GRACE);
    assert_eq!(chunk["not_found"], json!(["99"]));
    bot.send(json!({"op": 43, "d": {"guild_id": GUILD, "fields": ["status", "voice_start_time"]}}))
        .await;
    let info = bot.until("CHANNEL_INFO").await;
    assert_eq!(info["channels"][0]["id"], LOUNGE);
    assert!(info["channels"][0]["voice_start_time"].is_u64());
    bot.send(json!({"op": 31, "d": {"guild_ids": [GUILD]}}))
        .await;
    assert_eq!(bot.until("SOUNDBOARD_SOUNDS").await["guild_id"], GUILD);
    bot.send(
        json!({"op": 3, "d": {"status": "idle", "activities": [], "since": null, "afk": false}}),
    )
    .await;
    bot.send(json!({"op": 4, "d": {"guild_id": GUILD, "channel_id": LOUNGE, "self_mute": true, "self_deaf": false}}))
        .await;
    bot.until("VOICE_SERVER_UPDATE").await;
    let own = bot.until("VOICE_STATE_UPDATE").await;
    assert_eq!(
        (&own["user_id"], &own["self_mute"]),
        (&json!(BOT), &json!(true))
    );
    let (status, state) = discord
        .rest("GET", &format!("/guilds/{GUILD}/voice-states/@me"), None)
        .await;
    assert_eq!((status, &state["channel_id"]), (200, &json!(LOUNGE)));
}

#[tokio::test]
async fn at_the_end_connections_close_with_going_away() {
    let discord = Discord::start().await;
    let mut bot = discord.ready().await;
    discord.stop();
    assert_eq!(bot.closed().await, Some(1001));
}

#[tokio::test]
async fn odd_things_come_without_changing_the_truth() {
    let discord = Discord::start().await;
    let mut bot = discord.ready().await;
    discord.voice(ADA, Some(LOUNGE)).await;
    let made = discord
        .post_control("channels", json!({"guildId": GUILD, "name": "Gone"}))
        .await;
    let gone = made["channelId"].as_str().unwrap().to_owned();
    discord
        .control("DELETE", &format!("channels/{gone}"), None)
        .await;
    bot.until("CHANNEL_DELETE").await;
    let before = discord.state().await["guilds"].clone();
    discord.gateway(json!({"action": "odd"})).await;
    let events = bot.rest_of().await;
    for name in [
        "SOMETHING_NEW_FROM_DISCORD",
        "VOICE_STATE_UPDATE",
        "CHANNEL_UPDATE",
        "GUILD_CREATE",
    ] {
        assert!(
            events.contains(&name.to_owned()),
            "{name} is not in {events:?}"
        );
    }
    assert_eq!(discord.state().await["guilds"], before);
}
