//! REST: what it answers, what it refuses and with which code, limits and scripted faults.

use reqwest::Method;
use serde_json::{Value, json};

use crate::client::*;

fn channels() -> String {
    format!("/guilds/{GUILD}/channels")
}

#[tokio::test]
async fn a_created_channel_exists_everywhere_and_keeps_its_reason() {
    let discord = Discord::start().await;
    let mut bot = discord.ready().await;
    let response = discord
        .api(Method::POST, &channels())
        .header("x-audit-log-reason", "f%C3%BCr%20Ada")
        .json(&json!({"name": " Ada's room ", "type": 2, "parent_id": CATEGORY, "user_limit": 4}))
        .send()
        .await
        .unwrap();
    assert_eq!(response.status(), 201);
    let made: Value = response.json().await.unwrap();
    assert_eq!(
        (&made["name"], &made["user_limit"]),
        (&json!("Ada's room"), &json!(4))
    );
    assert_eq!(bot.until("CHANNEL_CREATE").await, made);
    let id = made["id"].as_str().unwrap();
    assert_eq!(
        discord.rest("GET", &format!("/channels/{id}"), None).await,
        (200, made.clone())
    );
    let state = discord.state().await;
    assert_eq!(state["guilds"][GUILD]["channels"][id]["name"], "Ada's room");
    assert_eq!(state["auditLog"][0]["reason"], "für Ada");
    let (status, changed) = discord
        .rest(
            "PATCH",
            &format!("/channels/{id}"),
            Some(json!({"user_limit": 0})),
        )
        .await;
    assert_eq!((status, &changed["user_limit"]), (200, &json!(0)));
    assert_eq!(bot.until("CHANNEL_UPDATE").await, changed);
    assert_eq!(
        discord
            .rest("DELETE", &format!("/channels/{id}"), None)
            .await,
        (200, changed)
    );
    bot.until("CHANNEL_DELETE").await;
    let (status, gone) = discord
        .rest("DELETE", &format!("/channels/{id}"), None)
        .await;
    assert_eq!((status, &gone["code"]), (404, &json!(10003)));
}

#[tokio::test]
async fn refusals_carry_discords_codes() {
    let discord = Discord::start().await;
    let table = [
        ("GET", "/nothing".to_owned(), 404, 0),
        ("PUT", "/users/@me".to_owned(), 405, 0),
        ("GET", "/channels/999".to_owned(), 404, 10003),
        ("GET", format!("/channels/{STAFF_ROOM}"), 403, 50001),
        ("DELETE", format!("/channels/{STAFF_ROOM}"), 403, 50001),
        ("GET", "/channels/abc".to_owned(), 400, 50035),
        ("GET", "/channels/0".to_owned(), 400, 50035),
        ("GET", "/guilds/999".to_owned(), 404, 10004),
        ("GET", "/guilds/999/channels".to_owned(), 404, 10004),
        ("GET", "/guilds/abc/audit-logs".to_owned(), 400, 50035),
        (
            "GET",
            format!("/guilds/{GUILD}/voice-states/{ADA}"),
            404,
            10065,
        ),
        (
            "GET",
            format!("/guilds/{GUILD}/voice-states/@me"),
            404,
            10065,
        ),
        ("GET", format!("/guilds/{GUILD}/members/999"), 404, 10013),
        ("GET", "/applications/1/commands".to_owned(), 403, 50001),
        ("GET", format!("/applications/{BOT}/commands/1"), 404, 10063),
        (
            "GET",
            format!("/applications/{BOT}/guilds/9/commands"),
            403,
            50001,
        ),
        (
            "GET",
            format!("/webhooks/{BOT}/nobody/messages/@original"),
            401,
            50027,
        ),
    ];
    for (method, path, status, code) in table {
        let (got, body) = discord.rest(method, &path, None).await;
        assert_eq!(
            (got, &body["code"]),
            (status, &json!(code)),
            "{method} {path}: {body}"
        );
        assert!(body["message"].is_string());
    }
}

#[tokio::test]
async fn without_the_bots_token_everything_but_the_open_routes_is_401() {
    let discord = Discord::start().await;
    let base = format!("http://{}/api", discord.address);
    for (path, token, status) in [
        ("/v10/gateway", None, 200),
        ("/gateway", None, 200),
        ("/v10/gateway/bot", None, 401),
        ("/v10/gateway/bot", Some("sim-token"), 401),
        ("/v10/gateway/bot", Some("Bearer sim-token"), 401),
        ("/v10/gateway/bot", Some("Bot sim-tokem"), 401),
        ("/v10/gateway/bot", Some("Bot sim-token"), 200),
        ("/v9/gateway", None, 400),
    ] {
        let mut request = discord.http.get(format!("{base}{path}"));
        if let Some(token) = token {
            request = request.header("authorization", token);
        }
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), status, "{path} {token:?}");
        if status == 401 {
            let body: Value = response.json().await.unwrap();
            assert_eq!(body, json!({"message": "401: Unauthorized", "code": 0}));
        }
    }
}

#[tokio::test]
async fn bad_bodies_are_refused_by_field_and_change_nothing() {
    let discord = Discord::start().await;
    let before = discord.state().await["guilds"].clone();
    let (status, body) = discord
        .create(json!({"name": "", "type": 2, "user_limit": 100}))
        .await;
    assert_eq!((status, &body["code"]), (400, &json!(50035)));
    assert_eq!(
        body["errors"]["name"]["_errors"][0]["code"],
        "BASE_TYPE_BAD_LENGTH"
    );
    assert_eq!(
        body["errors"]["user_limit"]["_errors"][0]["code"],
        "NUMBER_TYPE_MAX"
    );
    for (body, kind, code) in [
        ("{", "application/json", 50109),
        ("{}", "text/plain", 50035),
        ("[]", "application/json", 50035),
    ] {
        let response = discord
            .api(Method::POST, &channels())
            .header("content-type", kind)
            .body(body)
            .send()
            .await
            .unwrap();
        assert_eq!(response.status(), 400);
        assert_eq!(
            response.json::<Value>().await.unwrap()["code"],
            code,
            "{body}"
        );
    }
    for parent in [LOUNGE, "999"] {
        let (_, body) = discord
            .create(json!({"name": "x", "parent_id": parent}))
            .await;
        assert_eq!(
            body["errors"]["parent_id"]["_errors"][0]["code"],
            "CHANNEL_PARENT_INVALID"
        );
    }
    let long = "a".repeat(513);
    let request = discord
        .api(Method::POST, &channels())
        .header("x-audit-log-reason", long);
    assert_eq!(
        request
            .json(&json!({"name": "x"}))
            .send()
            .await
            .unwrap()
            .status(),
        400
    );
    assert_eq!(discord.state().await["guilds"], before);
}

#[tokio::test]
async fn a_bot_without_the_permission_is_refused_with_50013() {
    let discord = Discord::start().await;
    discord
        .post_control(
            "roles",
            json!({"guildId": GUILD, "roleId": BOT_ROLE, "permissions": "0"}),
        )
        .await;
    let room = json!({"name": "x", "type": 2});
    for (method, path, body) in [
        ("POST", channels(), Some(room)),
        (
            "PATCH",
            format!("/channels/{LOUNGE}"),
            Some(json!({"name": "y"})),
        ),
        ("DELETE", format!("/channels/{LOUNGE}"), None),
        (
            "PUT",
            format!("/channels/{LOUNGE}/voice-status"),
            Some(json!({"status": "z"})),
        ),
        (
            "PATCH",
            format!("/guilds/{GUILD}/members/{ADA}"),
            Some(json!({"channel_id": null})),
        ),
    ] {
        let (status, answer) = discord.rest(method, &path, body).await;
        assert_eq!(
            (status, &answer["code"]),
            (403, &json!(50013)),
            "{method} {path}"
        );
    }
}

fn audit_log() -> String {
    format!("/guilds/{GUILD}/audit-logs")
}

#[tokio::test]
async fn the_audit_log_has_what_the_bot_did_with_reason_and_changes() {
    let discord = Discord::start().await;
    discord.voice(ADA, Some(LOUNGE)).await;
    let response = discord
        .api(Method::POST, &channels())
        .header("x-audit-log-reason", "f%C3%BCr%20Ada")
        .json(&json!({"name": "Ada's room", "type": 2, "user_limit": 4}))
        .send()
        .await
        .unwrap();
    let made: Value = response.json().await.unwrap();
    let id = made["id"].as_str().unwrap();
    let path = format!("/channels/{id}");
    discord
        .rest("PATCH", &path, Some(json!({"user_limit": 5})))
        .await;
    discord
        .rest(
            "PATCH",
            &format!("/guilds/{GUILD}/members/{ADA}"),
            Some(json!({"mute": true})),
        )
        .await;
    discord.rest("DELETE", &path, None).await;

    let (status, log) = discord.rest("GET", &audit_log(), None).await;
    assert_eq!(status, 200, "{log}");
    let entries = log["audit_log_entries"].as_array().unwrap();
    let actions: Vec<&Value> = entries.iter().map(|entry| &entry["action_type"]).collect();
    assert_eq!(actions, [12, 24, 11, 10]);
    let numbers: Vec<u64> = entries
        .iter()
        .map(|entry| entry["id"].as_str().unwrap().parse().unwrap())
        .collect();
    assert!(numbers.is_sorted_by(|newer, older| newer > older));

    let created = &entries[3];
    assert!(numbers[3] > id.parse().unwrap(), "{created}");
    assert_eq!(
        (
            &created["target_id"],
            &created["user_id"],
            &created["reason"]
        ),
        (&json!(id), &json!(BOT), &json!("für Ada"))
    );
    let changes = created["changes"].as_array().unwrap();
    for (key, value) in [
        ("name", json!("Ada's room")),
        ("type", json!(2)),
        ("user_limit", json!(4)),
    ] {
        assert!(changes.contains(&json!({"key": key, "new_value": value})));
    }
    assert_eq!(entries[2].get("reason"), None);
    assert_eq!(
        entries[2]["changes"],
        json!([{"key": "user_limit", "old_value": 4, "new_value": 5}])
    );
    assert_eq!(
        entries[1]["changes"],
        json!([{"key": "mute", "old_value": false, "new_value": true}])
    );
    let users: Vec<&Value> = log["users"]
        .as_array()
        .unwrap()
        .iter()
        .map(|user| &user["id"])
        .collect();
    assert_eq!(users, [ADA, BOT]);

    let after = format!("{}?after={}&limit=1", audit_log(), numbers[3]);
    let (_, next) = discord.rest("GET", &after, None).await;
    assert_eq!(next["audit_log_entries"], json!([entries[2]]));
}

#[tokio::test]
async fn the_audit_log_needs_its_permission_and_a_good_query() {
    let mut settings = settings();
    settings.sim_bot_permissions ^= 1 << 7;
    let discord = Discord::start_with(settings).await;
    let (status, answer) = discord.rest("GET", &audit_log(), None).await;
    assert_eq!((status, &answer["code"]), (403, &json!(50013)));
    assert_eq!(discord.create(json!({"name": "x", "type": 2})).await.0, 201);

    discord
        .post_control(
            "roles",
            json!({"guildId": GUILD, "roleId": BOT_ROLE, "permissions": "128"}),
        )
        .await;
    assert_eq!(discord.rest("GET", &audit_log(), None).await.0, 200);
    let (status, answer) = discord
        .rest("GET", &format!("{}?limit=101", audit_log()), None)
        .await;
    assert_eq!((status, &answer["code"]), (400, &json!(50035)));
    assert!(answer["errors"]["limit"]["_errors"].is_array(), "{answer}");
    let (status, answer) = discord.rest("GET", "/guilds/999/audit-logs", None).await;
    assert_eq!((status, &answer["code"]), (404, &json!(10004)));
}

#[tokio::test]
async fn overwrites_are_inherited_from_the_category_and_foreign_permissions_refused() {
    let discord = Discord::start().await;
    let deny = json!([{"id": GUILD, "type": 0, "allow": "0", "deny": "1024"}, {"id": BOT, "type": 1, "allow": "1049616", "deny": "0"}]);
    let (status, category) = discord
        .create(json!({"name": "Private", "type": 4, "permission_overwrites": deny}))
        .await;
    assert_eq!(status, 201, "{category}");
    let parent = category["id"].clone();
    let (_, inside) = discord
        .create(json!({"name": "in", "type": 2, "parent_id": parent}))
        .await;
    assert_eq!(
        inside["permission_overwrites"],
        category["permission_overwrites"]
    );
    let own = json!({"name": "own", "type": 2, "parent_id": parent, "permission_overwrites": []});
    let (_, own) = discord.create(own).await;
    assert_eq!(own["permission_overwrites"], json!([]));
    let ban = json!([{"id": GUILD, "type": 0, "allow": "4", "deny": "0"}]);
    let (status, body) = discord
        .create(json!({"name": "x", "permission_overwrites": ban}))
        .await;
    assert_eq!((status, &body["code"]), (403, &json!(50013)));
}

#[tokio::test]
async fn a_guild_and_a_category_fill_up() {
    let discord = Discord::start().await;
    for n in 0..47 {
        let body = json!({"name": format!("c{n}"), "type": 2, "parent_id": CATEGORY});
        assert_eq!(discord.create(body).await.0, 201);
    }
    let (status, full) = discord
        .create(json!({"name": "x", "type": 2, "parent_id": CATEGORY}))
        .await;
    assert_eq!(status, 400);
    assert_eq!(
        full["errors"]["parent_id"]["_errors"][0]["code"],
        "CHANNEL_PARENT_MAX_CHANNELS"
    );
    for n in 52..500 {
        discord
            .post_control(
                "channels",
                json!({"guildId": GUILD, "name": format!("t{n}"), "type": 0}),
            )
            .await;
    }
    let (status, full) = discord.create(json!({"name": "x"})).await;
    assert_eq!((status, &full["code"]), (400, &json!(30013)));
}

#[tokio::test]
async fn a_bucket_is_announced_and_enforced_by_resource() {
    let mut settings = settings();
    settings.sim_route_requests = 2;
    settings.sim_route_window_ms = 60_000;
    let discord = Discord::start_with(settings).await;
    let path = format!("/channels/{LOUNGE}");
    for remaining in ["1", "0"] {
        let response = discord.api(Method::GET, &path).send().await.unwrap();
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["x-ratelimit-limit"], "2");
        assert_eq!(response.headers()["x-ratelimit-remaining"], remaining);
        assert!(response.headers().contains_key("x-ratelimit-bucket"));
        assert_eq!(response.headers()["via"], "1.1 google");
    }
    let response = discord.api(Method::GET, &path).send().await.unwrap();
    assert_eq!(response.status(), 429);
    assert_eq!(response.headers()["x-ratelimit-scope"], "user");
    let retry: f64 = response.headers()["retry-after"]
        .to_str()
        .unwrap()
        .parse()
        .unwrap();
    let body: Value = response.json().await.unwrap();
    assert!(body["retry_after"].as_f64().unwrap() <= retry);
    assert_eq!(body["global"], false);
    assert_eq!(
        discord
            .rest("GET", &format!("/channels/{STUDY_HALL}"), None)
            .await
            .0,
        200,
        "another channel"
    );
}

#[tokio::test]
async fn the_global_limit_holds_over_all_routes() {
    let mut settings = settings();
    settings.sim_global_per_s = 3;
    let discord = Discord::start_with(settings).await;
    let mut limited = None;
    for path in [
        "/users/@me",
        "/gateway/bot",
        "/applications/@me",
        "/users/@me",
        "/gateway/bot",
        "/users/@me",
        "/gateway",
    ] {
        let response = discord.api(Method::GET, path).send().await.unwrap();
        if response.status() == 429 {
            limited = Some(response);
            break;
        }
    }
    let response = limited.expect("seven requests of three");
    assert_eq!(response.headers()["x-ratelimit-global"], "true");
    assert_eq!(response.headers()["x-ratelimit-scope"], "global");
    assert_eq!(response.json::<Value>().await.unwrap()["global"], true);
}

#[tokio::test]
async fn renames_are_limited_far_harder_than_other_changes() {
    let discord = Discord::start().await;
    let path = format!("/channels/{LOUNGE}");
    for name in ["a", "b"] {
        assert_eq!(
            discord
                .rest("PATCH", &path, Some(json!({"name": name})))
                .await
                .0,
            200
        );
    }
    let (status, body) = discord
        .rest("PATCH", &path, Some(json!({"name": "c"})))
        .await;
    assert_eq!((status, &body["code"]), (429, &json!(20028)));
    assert!(body["retry_after"].as_f64().unwrap() > 60.0);
    assert_eq!(
        discord
            .rest("PATCH", &path, Some(json!({"user_limit": 7})))
            .await
            .0,
        200
    );
}

#[tokio::test]
async fn scripted_faults_happen_the_requested_number_of_times() {
    let discord = Discord::start().await;
    let create = || async { discord.create(json!({"name": "x", "type": 2})).await };
    discord
        .post_control("rest", json!({"match": "POST /guilds/*/channels", "status": 429, "times": 2, "retryAfter": 0.25}))
        .await;
    for _ in 0..2 {
        let (status, body) = create().await;
        assert_eq!((status, &body["retry_after"]), (429, &json!(0.25)));
    }
    assert_eq!(create().await.0, 201);
    discord
        .post_control(
            "rest",
            json!({"match": "POST /guilds/*/channels", "status": 503, "delayMs": 120}),
        )
        .await;
    let begun = std::time::Instant::now();
    assert_eq!(create().await.0, 503);
    assert!(begun.elapsed().as_millis() >= 120);
    let count = discord.state().await["counters"]["rest"]["POST /guilds/*/channels"].clone();
    assert_eq!(count, 4);
}

#[tokio::test]
async fn a_cut_answer_is_cut_before_or_after_the_deed() {
    let discord = Discord::start().await;
    let rooms = || async {
        discord.state().await["guilds"][GUILD]["channels"]
            .as_object()
            .unwrap()
            .len()
    };
    for (when, made) in [("before", 0), ("after", 1)] {
        let had = rooms().await;
        discord
            .post_control(
                "rest",
                json!({"match": "POST /guilds/*/channels", "drop": when}),
            )
            .await;
        let sent = discord
            .api(Method::POST, &channels())
            .json(&json!({"name": "x", "type": 2}))
            .send()
            .await;
        assert!(sent.is_err(), "{when}: there was an answer");
        assert_eq!(rooms().await, had + made, "{when}");
    }
}

#[tokio::test]
async fn a_late_answer_comes_after_the_deed() {
    let discord = Discord::start().await;
    let mut bot = discord.ready().await;
    discord
        .post_control(
            "rest",
            json!({"match": "POST /guilds/*/channels", "answerDelayMs": 600_000}),
        )
        .await;
    let request = discord
        .api(Method::POST, &channels())
        .json(&json!({"name": "Late", "type": 2}))
        .send();
    // The channel exists while its request still waits.
    tokio::select! {
        made = bot.until("CHANNEL_CREATE") => assert_eq!(made["name"], "Late"),
        answer = request => panic!("there was an answer: {answer:?}"),
    }
    discord
        .post_control(
            "rest",
            json!({"match": "POST /guilds/*/channels", "answerDelayMs": 120}),
        )
        .await;
    let begun = std::time::Instant::now();
    assert_eq!(discord.create(json!({"name": "x", "type": 2})).await.0, 201);
    assert!(begun.elapsed().as_millis() >= 120);
}

#[tokio::test]
async fn commands_are_created_kept_by_name_changed_and_deleted() {
    let discord = Discord::start().await;
    for base in [
        format!("/applications/{BOT}/commands"),
        format!("/applications/{BOT}/guilds/{GUILD}/commands"),
    ] {
        let room = json!({"name": "room", "description": "Voice rooms"});
        let (status, made) = discord.rest("POST", &base, Some(room.clone())).await;
        assert_eq!((status, &made["type"]), (201, &json!(1)));
        assert_eq!(
            discord.rest("POST", &base, Some(room.clone())).await.0,
            200,
            "the same name is replaced"
        );
        let (_, bulk) = discord
            .rest(
                "PUT",
                &base,
                Some(json!([{"name": "room", "description": "Other"}])),
            )
            .await;
        assert_eq!(
            (&bulk[0]["id"], &bulk[0]["description"]),
            (&made["id"], &json!("Other"))
        );
        let one = format!("{base}/{}", made["id"].as_str().unwrap());
        let (_, changed) = discord
            .rest("PATCH", &one, Some(json!({"description": "Third"})))
            .await;
        assert_eq!(discord.rest("GET", &one, None).await, (200, changed));
        assert_eq!(
            discord
                .rest("GET", &base, None)
                .await
                .1
                .as_array()
                .unwrap()
                .len(),
            1
        );
        assert_eq!(discord.rest("DELETE", &one, None).await.0, 204);
        assert_eq!(discord.rest("GET", &base, None).await.1, json!([]));
    }
    let twice = json!([{"name": "a", "description": "x"}, {"name": "a", "description": "y"}]);
    let (status, body) = discord
        .rest("PUT", &format!("/applications/{BOT}/commands"), Some(twice))
        .await;
    assert_eq!((status, &body["code"]), (400, &json!(50035)));
}

#[tokio::test]
async fn two_hundred_commands_a_day_are_enough() {
    let discord = Discord::start().await;
    let base = format!("/applications/{BOT}/commands");
    for n in 0..200 {
        let (status, made) = discord
            .rest(
                "POST",
                &base,
                Some(json!({"name": format!("c{n}"), "description": "x"})),
            )
            .await;
        assert_eq!(status, 201);
        discord
            .rest(
                "DELETE",
                &format!("{base}/{}", made["id"].as_str().unwrap()),
                None,
            )
            .await;
    }
    let (status, body) = discord
        .rest(
            "POST",
            &base,
            Some(json!({"name": "more", "description": "x"})),
        )
        .await;
    assert_eq!((status, &body["code"]), (400, &json!(30034)));
}

#[tokio::test]
async fn a_member_is_read_moved_and_disconnected() {
    let discord = Discord::start().await;
    discord.voice(ADA, Some(LOUNGE)).await;
    let path = format!("/guilds/{GUILD}/members/{ADA}");
    assert_eq!(
        discord.rest("GET", &path, None).await.1["user"]["username"],
        "ada"
    );
    let voice = format!("/guilds/{GUILD}/voice-states/{ADA}");
    assert_eq!(
        discord
            .rest("PATCH", &path, Some(json!({"channel_id": STUDY_HALL})))
            .await
            .0,
        200
    );
    assert_eq!(
        discord.rest("GET", &voice, None).await.1["channel_id"],
        STUDY_HALL
    );
    let (status, refused) = discord
        .rest("PATCH", &path, Some(json!({"channel_id": STAFF_ROOM})))
        .await;
    assert_eq!((status, &refused["code"]), (403, &json!(50013)));
    assert_eq!(
        discord
            .rest("PATCH", &path, Some(json!({"channel_id": null})))
            .await
            .0,
        200
    );
    assert_eq!(discord.rest("GET", &voice, None).await.0, 404);
    let (status, refused) = discord
        .rest("PATCH", &path, Some(json!({"mute": true})))
        .await;
    assert_eq!((status, &refused["code"]), (400, &json!(40032)));
}

#[tokio::test]
async fn pictures_are_served_for_the_hashes_of_people() {
    let discord = Discord::start().await;
    let (_, ada) = discord.rest("GET", &format!("/users/{ADA}"), None).await;
    let avatar = ada["avatar"].as_str().unwrap();
    for path in [
        format!("avatars/{ADA}/{avatar}.png?size=128"),
        "embed/avatars/0.png".to_owned(),
    ] {
        let response = discord
            .http
            .get(format!("http://{}/{path}", discord.address))
            .send()
            .await
            .unwrap();
        assert_eq!(response.headers()["content-type"], "image/png", "{path}");
    }
    let missing = discord
        .http
        .get(format!("http://{}/avatars/1/2.png", discord.address))
        .send()
        .await
        .unwrap();
    assert_eq!(missing.status(), 404);
}

#[tokio::test]
async fn an_oversized_body_is_413() {
    let discord = Discord::start().await;
    let body = "x".repeat(1_048_577);
    let request = discord
        .api(Method::POST, &channels())
        .header("content-type", "application/json");
    assert_eq!(request.body(body).send().await.unwrap().status(), 413);
    let (_, lounge) = discord
        .rest("GET", &format!("/channels/{TEXT}"), None)
        .await;
    assert_eq!(lounge["name"], "general");
}

#[tokio::test]
async fn a_voice_state_is_returned_only_where_the_bot_may_connect() {
    let discord = Discord::start().await;
    let path = format!("/guilds/{GUILD}/voice-states/{ADA}");
    assert_eq!(discord.rest("GET", &path, None).await.1["code"], 10065);
    discord.voice(ADA, Some(LOUNGE)).await;
    assert_eq!(discord.rest("GET", &path, None).await.0, 200);
    discord.voice(ADA, Some(STAFF_ROOM)).await;
    let (status, why) = discord.rest("GET", &path, None).await;
    assert_eq!((status, &why["code"]), (403, &json!(50001)));
    discord.voice(ADA, Some(LOUNGE)).await;
    let deny = json!({"overwrites": [{"id": GUILD, "type": 0, "deny": "1048576"}]});
    discord
        .control("PATCH", &format!("channels/{LOUNGE}"), Some(deny))
        .await;
    let (status, why) = discord.rest("GET", &path, None).await;
    assert_eq!((status, &why["code"]), (403, &json!(50013)));
}

#[tokio::test]
async fn a_scripted_answer_may_be_a_page_that_is_not_discords() {
    let discord = Discord::start().await;
    let page = "<html>a proxy</html>";
    discord
        .post_control(
            "rest",
            json!({"match": "GET /gateway/bot", "status": 401, "body": page}),
        )
        .await;
    let answer = discord
        .api(Method::GET, "/gateway/bot")
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), 401);
    assert_eq!(answer.headers()["content-type"], "text/html");
    assert_eq!(answer.text().await.unwrap(), page);
    discord
        .post_control(
            "rest",
            json!({"match": "GET /gateway/bot", "status": 403, "code": 40333}),
        )
        .await;
    assert_eq!(
        discord.rest("GET", "/gateway/bot", None).await,
        (403, json!({"message": "a scripted fault", "code": 40333}))
    );
}

#[tokio::test]
async fn an_invite_is_made_and_a_similar_one_is_returned_again() {
    let discord = Discord::start().await;
    let path = format!("/channels/{LOUNGE}/invites");
    let invite = |body: Value| {
        let (discord, path) = (&discord, &path);
        async move { discord.rest("POST", path, Some(body)).await }
    };
    let (status, made) = invite(json!({"max_age": 600, "max_uses": 2})).await;
    assert_eq!(status, 200, "{made}");
    assert_eq!(
        (&made["channel"]["id"], &made["max_age"], &made["max_uses"]),
        (&json!(LOUNGE), &json!(600), &json!(2))
    );
    assert!(made["expires_at"].is_string());
    let (_, again) = invite(json!({"max_age": 600, "max_uses": 2})).await;
    let (_, other) = invite(json!({"max_age": 600, "max_uses": 2, "unique": true})).await;
    assert_eq!(again["code"], made["code"]);
    assert_ne!(other["code"], made["code"]);
    let (_, endless) = invite(json!({"max_age": 0})).await;
    assert_eq!(endless["expires_at"], Value::Null);
    let (status, bad) = invite(json!({"max_age": 604_801, "max_uses": 101})).await;
    assert_eq!((status, &bad["code"]), (400, &json!(50035)));
    // Everyone may invite, and so may the bot.
    for role in [GUILD, BOT_ROLE] {
        let role = json!({"guildId": GUILD, "roleId": role, "permissions": "1024"});
        discord.post_control("roles", role).await;
    }
    let (status, refused) = invite(json!({})).await;
    assert_eq!((status, &refused["code"]), (403, &json!(50013)));
    let state = discord.state().await;
    assert_eq!(state["invites"].as_array().map(Vec::len), Some(3));
    assert_eq!(state["auditLog"][0]["actionType"], 40);
}
