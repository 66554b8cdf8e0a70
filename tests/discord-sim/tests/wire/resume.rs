//! What ends a connection, what ends a session, and what a RESUME brings back.

use serde_json::{Value, json};

use crate::client::*;

async fn resumed(discord: &Discord, session: &str, seq: u64) -> (Bot, Value) {
    let mut bot = discord.connect().await;
    bot.hello().await;
    bot.resume(session, seq).await;
    let first = bot.next().await;
    (bot, first)
}

#[tokio::test]
async fn a_cut_connection_resumes_with_everything_it_missed_in_order() {
    let discord = Discord::start().await;
    let mut bot = discord.ready().await;
    discord.gateway(json!({"action": "drop"})).await;
    assert_eq!(bot.closed().await, None, "cut without a word");
    for channel in [Some(LOUNGE), Some(STUDY_HALL), None] {
        discord.voice(ADA, channel).await;
    }
    let mut again = discord.connect().await;
    again.hello().await;
    again.resume(&bot.session, bot.seq).await;
    for expected in [json!(LOUNGE), json!(STUDY_HALL), Value::Null] {
        assert_eq!(
            again.until("VOICE_STATE_UPDATE").await["channel_id"],
            expected
        );
    }
    again.until("RESUMED").await;
    discord.voice(ADA, Some(LOUNGE)).await;
    assert_eq!(
        again.until("VOICE_STATE_UPDATE").await["channel_id"],
        LOUNGE
    );
    let state = discord.state().await;
    assert_eq!(
        (
            &state["counters"]["identify"],
            &state["counters"]["resumed"]
        ),
        (&json!(1), &json!(1))
    );
}

#[tokio::test]
async fn a_client_ends_its_session_by_1000_and_1001_and_keeps_it_by_any_other_code() {
    let discord = Discord::start().await;
    for (code, kept) in [
        (1000, false),
        (1001, false),
        (1002, true),
        (4000, true),
        (4900, true),
    ] {
        let bot = discord.ready().await;
        let (session, seq) = (bot.session.clone(), bot.seq);
        bot.close(code).await;
        let (_, first) = resumed(&discord, &session, seq).await;
        assert_eq!(first["t"] == "RESUMED", kept, "{code}: {first}");
        assert_eq!(first["op"] == 9, !kept, "{code}: {first}");
    }
}

#[tokio::test]
async fn a_server_close_keeps_the_session_unless_its_code_says_otherwise() {
    let discord = Discord::start().await;
    for (code, kept) in [
        (4000, true),
        (4001, true),
        (4002, true),
        (4003, true),
        (4005, true),
        (4008, true),
        (4004, false),
        (4007, false),
        (4009, false),
        (4010, false),
        (4013, false),
        (4014, false),
    ] {
        let mut bot = discord.ready().await;
        discord
            .gateway(json!({"action": "close", "code": code}))
            .await;
        assert_eq!(bot.closed().await, Some(code));
        let (_, first) = resumed(&discord, &bot.session, bot.seq).await;
        assert_eq!(first["t"] == "RESUMED", kept, "{code}: {first}");
    }
}

#[tokio::test]
async fn a_session_expires_after_its_time_and_when_it_is_forgotten() {
    let mut settings = settings();
    settings.sim_session_ttl_s = 0;
    let discord = Discord::start_with(settings).await;
    let bot = discord.ready().await;
    let (session, seq) = (bot.session.clone(), bot.seq);
    bot.close(4000).await;
    assert_eq!(resumed(&discord, &session, seq).await.1["d"], false);

    let discord = Discord::start().await;
    let mut bot = discord.ready().await;
    discord.gateway(json!({"action": "forget"})).await;
    discord.voice(ADA, Some(LOUNGE)).await;
    assert_eq!(
        bot.until("VOICE_STATE_UPDATE").await["user_id"],
        ADA,
        "the connection lives on"
    );
    discord.gateway(json!({"action": "drop"})).await;
    assert_eq!(resumed(&discord, &bot.session, bot.seq).await.1["op"], 9);
}

#[tokio::test]
async fn a_sequence_from_the_future_is_closed_with_4007_and_ends_the_session() {
    let discord = Discord::start().await;
    let bot = discord.ready().await;
    let (session, seq) = (bot.session.clone(), bot.seq);
    bot.close(4000).await;
    let mut again = discord.connect().await;
    again.hello().await;
    again.resume(&session, seq + 1).await;
    assert_eq!(again.closed().await, Some(4007));
    assert_eq!(resumed(&discord, &session, seq).await.1["op"], 9);
}

#[tokio::test]
async fn a_client_too_far_behind_gets_op_9() {
    let mut settings = settings();
    settings.sim_replay_max = 3;
    let discord = Discord::start_with(settings).await;
    let mut bot = discord.ready().await;
    discord.gateway(json!({"action": "drop"})).await;
    bot.closed().await;
    for channel in [Some(LOUNGE), None, Some(LOUNGE), None] {
        discord.voice(ADA, channel).await;
    }
    assert_eq!(resumed(&discord, &bot.session, bot.seq).await.1["op"], 9);
}

#[tokio::test]
async fn a_wrong_token_cannot_resume_and_an_unknown_session_gets_op_9() {
    let discord = Discord::start().await;
    let bot = discord.ready().await;
    let mut thief = discord.connect().await;
    thief.hello().await;
    thief
        .send(json!({"op": 6, "d": {"token": "no", "session_id": bot.session, "seq": 1}}))
        .await;
    assert_eq!(thief.closed().await, Some(4004));
    assert_eq!(resumed(&discord, "nobody", 1).await.1["d"], false);
}

#[tokio::test]
async fn a_session_that_is_resumed_elsewhere_loses_its_former_connection() {
    let discord = Discord::start().await;
    let mut former = discord.ready().await;
    let (mut bot, first) = resumed(&discord, &former.session, former.seq).await;
    assert_eq!(first["t"], "RESUMED");
    assert_eq!(former.closed().await, None);
    discord.voice(ADA, Some(LOUNGE)).await;
    bot.until("VOICE_STATE_UPDATE").await;
}

#[tokio::test]
async fn after_op_9_the_same_connection_may_identify_again() {
    let discord = Discord::start().await;
    let (mut bot, first) = resumed(&discord, "nobody", 1).await;
    assert_eq!(first["op"], 9);
    bot.seq = 0;
    bot.identify(json!({})).await;
    bot.until("GUILD_CREATE").await;
}

#[tokio::test]
async fn an_invalidated_session_resumes_only_where_op_9_says_so() {
    let discord = Discord::start().await;
    for resumable in [true, false] {
        let mut bot = discord.ready().await;
        discord
            .gateway(json!({"action": "invalidate", "resumable": resumable}))
            .await;
        assert_eq!(bot.until_op(9).await["d"], resumable);
        let (_, first) = resumed(&discord, &bot.session, bot.seq).await;
        assert_eq!(first["t"] == "RESUMED", resumable, "{first}");
    }
}

#[tokio::test]
async fn op_7_is_followed_by_the_end_of_the_connection_and_the_session_resumes() {
    let mut settings = settings();
    settings.sim_reconnect_grace_ms = 50;
    let discord = Discord::start_with(settings).await;
    let mut bot = discord.ready().await;
    discord.gateway(json!({"action": "reconnect"})).await;
    assert_eq!(bot.next().await["op"], 7);
    assert_eq!(bot.closed().await, Some(4000));
    assert_eq!(
        resumed(&discord, &bot.session, bot.seq).await.1["t"],
        "RESUMED"
    );
}

#[tokio::test]
async fn a_silent_connection_answers_nothing_and_then_sends_what_it_held_back() {
    let discord = Discord::start().await;
    let mut bot = discord.ready().await;
    discord
        .gateway(json!({"action": "silence", "seconds": 0.3}))
        .await;
    discord.voice(ADA, Some(LOUNGE)).await;
    discord.voice(ADA, None).await;
    let begun = std::time::Instant::now();
    assert_eq!(bot.until("VOICE_STATE_UPDATE").await["channel_id"], LOUNGE);
    assert!(begun.elapsed().as_millis() >= 250, "it was not silent");
    assert_eq!(
        bot.until("VOICE_STATE_UPDATE").await["channel_id"],
        Value::Null
    );
}

#[tokio::test]
async fn one_session_of_several_can_be_chosen() {
    let discord = Discord::start().await;
    let mut one = discord.ready().await;
    let mut other = discord.ready().await;
    discord
        .gateway(json!({"action": "close", "code": 4000, "session": one.session}))
        .await;
    assert_eq!(one.closed().await, Some(4000));
    assert_eq!(other.rest_of().await, Vec::<String>::new());
}

#[tokio::test]
async fn a_client_that_does_not_read_is_cut_and_may_resume() {
    let mut settings = settings();
    settings.sim_queue_max = 8;
    let discord = Discord::start_with(settings).await;
    let mut bot = discord.ready().await;
    discord
        .gateway(json!({"action": "silence", "seconds": 600}))
        .await;
    // The connection holds its orders back; its queue fills up.
    for n in 0..20 {
        discord
            .voice(ADA, if n % 2 == 0 { Some(LOUNGE) } else { None })
            .await;
    }
    assert_eq!(bot.closed().await, None);
    let (mut again, _) = resumed(&discord, &bot.session, bot.seq).await;
    again.until("RESUMED").await;
}

#[tokio::test]
async fn the_history_says_why_each_session_ended_and_when_each_began() {
    let discord = Discord::start().await;
    let bot = discord.ready().await;
    discord
        .gateway(json!({"action": "close", "code": 4009}))
        .await;
    let (_, refused) = resumed(&discord, &bot.session, bot.seq).await;
    assert_eq!(refused["op"], 9);
    let second = discord.ready().await;
    let (session, seq) = (second.session.clone(), second.seq);
    second.close(1000).await;
    resumed(&discord, &session, seq).await;
    let (_, history) = discord.control("GET", "sessions?since=0", None).await;
    assert_eq!(history["complete"], true);
    let notes: Vec<(&str, &Value, bool)> = history["notes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|note| {
            let of_the_first = note["session"] == bot.session.as_str();
            (note["what"].as_str().unwrap(), &note["why"], of_the_first)
        })
        .collect();
    let (none, wished, client) = (Value::Null, json!("wished"), json!("client"));
    let expected = [
        ("identified", &none, true),
        ("detached", &none, true),
        ("ended", &wished, true),
        ("resume.refused", &none, true),
        ("identified", &none, false),
        ("detached", &none, false),
        ("ended", &client, false),
        ("resume.refused", &none, false),
    ];
    assert_eq!(notes, expected);
    let last = history["notes"][7]["n"].as_u64().unwrap();
    let (_, later) = discord
        .control("GET", &format!("sessions?since={last}"), None)
        .await;
    assert_eq!(later["notes"], json!([]));
}

#[tokio::test]
async fn resumes_are_answered_as_the_control_side_wishes_and_the_session_stays() {
    let discord = Discord::start().await;
    let mut bot = discord.ready().await;
    bot.rest_of().await;
    discord.gateway(json!({"action": "drop"})).await;
    discord.voice(ADA, Some(LOUNGE)).await;
    for (answer, closed) in [
        (json!({"answer": "close", "code": 1000}), Some(1000)),
        (json!({"answer": "close", "code": 4006}), Some(4006)),
        (json!({"answer": "drop", "times": 1}), None),
    ] {
        let mut wish = answer;
        wish["action"] = json!("resumes");
        discord.gateway(wish).await;
        let mut again = discord.connect().await;
        again.hello().await;
        again.resume(&bot.session, bot.seq).await;
        assert_eq!(again.closed().await, closed);
    }
    // It was for one: the next is as Discord does.
    let wish = json!({"action": "resumes", "answer": "nothing", "replay": true, "times": 1});
    discord.gateway(wish).await;
    let (mut again, first) = resumed(&discord, &bot.session, bot.seq).await;
    assert_eq!(first["t"], "VOICE_STATE_UPDATE", "it is replayed");
    assert!(!again.rest_of().await.contains(&"RESUMED".to_owned()));
    let (mut again, first) = resumed(&discord, &bot.session, bot.seq).await;
    assert_eq!(first["t"], "VOICE_STATE_UPDATE");
    again.until("RESUMED").await;
    let wish = json!({"action": "resumes", "answer": "nothing"});
    discord.gateway(wish).await;
    discord
        .gateway(json!({"action": "resumes", "answer": "resumed"}))
        .await;
    let (mut again, _) = resumed(&discord, &bot.session, bot.seq).await;
    again.until("RESUMED").await;
}
