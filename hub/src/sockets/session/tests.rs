use proto::frame::ServerFrame;
use proto::problem::Code;

use super::*;
use crate::auth::{Rights, Subject};
use crate::view::RoomsShown;

const TS: u64 = 1_730_000_000_000;

fn guild(id: u64) -> GuildId {
    GuildId::new(id).unwrap()
}

fn limits() -> SessionLimits {
    SessionLimits {
        auth_timeout_ms: 10_000,
        unauthenticated_frame_bytes_max: 4_096,
        frame_bytes_max: 1_000_000,
        frames_per_s_max: 20,
        frames_burst_max: 30,
        subscriptions_max: 2,
        ping_interval_ms: 20_000,
        pong_timeout_ms: 10_000,
        expiry_leeway_ms: 60_000,
        held_back_bytes_max: 1_000,
    }
}

fn session() -> Session {
    let access = Access::new(guild(1), &[guild(2), guild(3)], RoomsShown::Everyone);
    Session::new("c".to_owned(), access, limits(), 0)
}

fn ada(guilds: Option<&[u64]>) -> Principal {
    Principal {
        subject: Subject::new("ada").unwrap(),
        guilds: guilds.map(|ids| ids.iter().map(|id| guild(*id)).collect()),
        rights: Rights::MEMBER,
        expires_at_ms: TS + 5_000,
    }
}

/// The actions in short: what matters of each.
fn short(actions: &[Action]) -> Vec<String> {
    actions
        .iter()
        .map(|action| match action {
            Action::Send(ServerFrame::Ack(frame)) => match &frame.ack {
                Ack::AuthOk { guilds, .. } => format!("auth.ok {guilds:?}"),
                Ack::AuthRefreshed { guilds, .. } => format!("auth.refreshed {guilds:?}"),
                Ack::Unsubscribed { guild_id } => format!("unsubscribed {guild_id}"),
                Ack::Pong => format!("pong {:?}", frame.re),
                Ack::Subscribed { .. } => "subscribed".to_owned(),
            },
            Action::Send(ServerFrame::Error(frame)) => frame.error.code.name().to_owned(),
            Action::Send(other) => format!("{other:?}"),
            Action::Verify(token) => format!("verify {token}"),
            Action::Authenticated(principal) => format!("is {}", principal.subject),
            Action::Subscribe(subscribe) => match &subscribe.recover {
                None => format!("subscribe {}", subscribe.view.guild()),
                Some(pos) => format!("subscribe {} after {pos}", subscribe.view.guild()),
            },
            Action::Unsubscribe(guild) => format!("unsubscribe {guild}"),
            Action::Ping => "ping".to_owned(),
            Action::Close(code) => code.code().to_string(),
        })
        .collect()
}

fn send(session: &mut Session, text: &str) -> Vec<String> {
    short(&session.text(text, false, 0, TS))
}

fn opened(guilds: Option<&[u64]>) -> Session {
    let mut session = session();
    assert_eq!(
        send(&mut session, r#"{"type":"auth","token":"t"}"#),
        ["verify t"]
    );
    session.verified(Ok(ada(guilds)), 5_000, 0, TS);
    session
}

#[test]
fn a_connection_begins_with_a_token() {
    let mut session = session();
    assert_eq!(
        send(&mut session, r#"{"type":"auth","token":"t","future":1}"#),
        ["verify t"]
    );
    let actions = session.verified(Ok(ada(None)), 5_000, 0, TS);
    assert_eq!(short(&actions), ["is ada", "auth.ok [1]", "subscribe 1"]);
}

#[test]
fn the_guilds_are_those_of_the_token_that_the_hub_serves() {
    for (claimed, asked, expected) in [
        (
            Some(&[2, 3, 9][..]),
            "",
            vec!["is ada", "auth.ok [2, 3]", "subscribe 2", "subscribe 3"],
        ),
        (
            Some(&[2, 3]),
            r#","guilds":["3","3"]"#,
            vec!["is ada", "auth.ok [3]", "subscribe 3"],
        ),
        (Some(&[2]), r#","guilds":[]"#, vec!["is ada", "auth.ok []"]),
        (Some(&[2]), r#","guilds":["1"]"#, vec!["FORBIDDEN", "4403"]),
        (Some(&[2]), r#","guilds":["9"]"#, vec!["FORBIDDEN", "4403"]),
        (Some(&[]), "", vec!["is ada", "auth.ok []"]),
        (Some(&[9]), "", vec!["is ada", "auth.ok []"]),
        (Some(&[]), r#","guilds":[]"#, vec!["is ada", "auth.ok []"]),
        (Some(&[]), r#","guilds":["2"]"#, vec!["FORBIDDEN", "4403"]),
        (
            Some(&[1, 2, 3]),
            r#","guilds":["1","2","3"]"#,
            vec!["BAD_REQUEST", "4400"],
        ),
        (None, r#","guilds":["2"]"#, vec!["FORBIDDEN", "4403"]),
    ] {
        let mut session = session();
        session.text(
            &format!(r#"{{"type":"auth","token":"t"{asked}}}"#),
            false,
            0,
            TS,
        );
        let actions = session.verified(Ok(ada(claimed)), 5_000, 0, TS);
        assert_eq!(short(&actions), expected, "{claimed:?} {asked}");
    }
}

#[test]
fn a_position_is_passed_on_as_it_is_written() {
    for (recover, expected) in [
        (
            r#","recover":{"2":"here","3":"there"}"#,
            ["subscribe 2 after here", "subscribe 3 after there"],
        ),
        (
            r#","recover":{"3":"there","9":"nowhere"}"#,
            ["subscribe 2", "subscribe 3 after there"],
        ),
        (
            r#","recover":{"2":""}"#,
            ["subscribe 2 after ", "subscribe 3"],
        ),
        (r#","recover":{}"#, ["subscribe 2", "subscribe 3"]),
        (r#","recover":null"#, ["subscribe 2", "subscribe 3"]),
    ] {
        let mut session = session();
        send(
            &mut session,
            &format!(r#"{{"type":"auth","token":"t"{recover}}}"#),
        );
        let actions = session.verified(Ok(ada(Some(&[2, 3]))), 5_000, 0, TS);
        assert_eq!(short(&actions)[2..], expected, "{recover}");
    }
    let mut session = opened(None);
    for (recover, expected) in [
        (r#","recover":"here""#, "subscribe 1 after here"),
        (r#","recover":null"#, "subscribe 1"),
        ("", "subscribe 1"),
        (r#","recover":7"#, "BAD_REQUEST"),
    ] {
        let frame = format!(r#"{{"type":"subscribe","guildId":"1"{recover}}}"#);
        assert_eq!(send(&mut session, &frame), [expected], "{recover}");
    }
}

#[test]
fn an_invalid_token_ends_the_connection() {
    for (error, expected) in [
        (
            AuthError::Unauthorized("expired".to_owned()),
            ["UNAUTHORIZED", "4401"],
        ),
        (AuthError::Unavailable, ["UNAVAILABLE", "4503"]),
    ] {
        let mut session = session();
        send(&mut session, r#"{"type":"auth","token":"t"}"#);
        assert_eq!(short(&session.verified(Err(error), 0, 0, TS)), expected);
        assert!(
            send(&mut session, r#"{"type":"auth","token":"t"}"#).is_empty(),
            "frames after the end are ignored"
        );
    }
}

#[test]
fn a_text_that_is_no_frame_gets_the_documented_code() {
    let deep = format!(
        r#"{{"type":"ping","x":{}{}}}"#,
        "[".repeat(5_000),
        "]".repeat(5_000)
    );
    for (text, expected) in [
        ("", vec!["BAD_REQUEST", "4400"]),
        ("hello", vec!["BAD_REQUEST", "4400"]),
        ("[]", vec!["BAD_REQUEST", "4400"]),
        (r#"["ping"]"#, vec!["BAD_REQUEST", "4400"]),
        (r#"["ping", null]"#, vec!["BAD_REQUEST", "4400"]),
        ("{}", vec!["BAD_REQUEST", "4400"]),
        (r#"{"type":1}"#, vec!["BAD_REQUEST", "4400"]),
        (
            r#"{"type":"ping","type":"ping"}"#,
            vec!["BAD_REQUEST", "4400"],
        ),
        (r#"{"type":"ping","id":{}}"#, vec!["BAD_REQUEST"]),
        (r#"{"type":"ping","id":-1}"#, vec!["BAD_REQUEST"]),
        (r#"{"type":"ping","id":1.0}"#, vec!["BAD_REQUEST"]),
        (
            r#"{"type":"ping","id":18446744073709551616}"#,
            vec!["BAD_REQUEST"],
        ),
        (
            r#"{"type":"ping","id":18446744073709551615}"#,
            vec!["pong Some(Number(18446744073709551615))"],
        ),
        (r#"{"type":"ping","id":0}"#, vec!["pong Some(Number(0))"]),
        (r#"{"type":"ping","id":null}"#, vec!["pong None"]),
        ("\u{0}", vec!["BAD_REQUEST", "4400"]),
        (&deep, vec!["BAD_REQUEST", "4400"]),
        (r#"{"type":"dance"}"#, vec!["BAD_REQUEST"]),
        (r#"{"type":"subscribe","guildId":1}"#, vec!["BAD_REQUEST"]),
        (r#"{"type":"subscribe","guildId":"0"}"#, vec!["BAD_REQUEST"]),
        (r#"{"type":"subscribe","guildId":"9"}"#, vec!["FORBIDDEN"]),
        (r#"{"type":"subscribe","guildId":"2"}"#, vec!["FORBIDDEN"]),
        (r#"{"type":"unsubscribe","guildId":"2"}"#, vec!["NOT_FOUND"]),
        (r#"{"type":"auth","token":"t"}"#, vec!["BAD_REQUEST"]),
        (
            r#"{"type":"ping","id":"a"}"#,
            vec![r#"pong Some(Text("a"))"#],
        ),
        (
            r#"{"type":"ping","id":7,"new":"field"}"#,
            vec!["pong Some(Number(7))"],
        ),
        (
            r#"{"type":"unsubscribe","guildId":"1"}"#,
            vec!["unsubscribe 1", "unsubscribed 1"],
        ),
    ] {
        assert_eq!(
            send(&mut opened(None), text),
            expected,
            "{}",
            &text[..text.len().min(60)]
        );
    }
}

#[test]
fn a_token_without_a_guild_is_accepted_and_a_newer_one_names_the_guilds_to_subscribe() {
    let mut session = session();
    send(&mut session, r#"{"type":"auth","token":"t"}"#);
    let actions = session.verified(Ok(ada(Some(&[9]))), 5_000, 0, TS);
    let [_, Action::Send(ServerFrame::Ack(frame))] = actions.as_slice() else {
        panic!("{actions:?}")
    };
    let written = serde_json::to_value(frame).unwrap();
    assert_eq!(written["guilds"], serde_json::json!([]));
    assert!(written.get("guildId").is_none(), "{written}");
    send(&mut session, r#"{"type":"refresh","token":"u"}"#);
    // Guild 9 is allowed and not served.
    let actions = session.verified(Ok(ada(Some(&[9, 3, 2]))), 50_000, 1_000, TS);
    assert_eq!(short(&actions), ["auth.refreshed [2, 3]"]);
    assert_eq!(
        send(&mut session, r#"{"type":"subscribe","guildId":"3"}"#),
        ["subscribe 3"]
    );
}

#[test]
fn a_token_without_the_right_to_read_is_refused_with_any_guilds() {
    let unread = |guilds| Principal {
        rights: Rights::of_scope("rooms:create"),
        ..ada(guilds)
    };
    for (claimed, asked) in [
        (None, ""),
        (None, r#","guilds":[]"#),
        (Some(&[][..]), ""),
        (Some(&[9]), r#","guilds":[]"#),
        (Some(&[2]), r#","guilds":["2"]"#),
    ] {
        let mut session = session();
        send(
            &mut session,
            &format!(r#"{{"type":"auth","token":"t"{asked}}}"#),
        );
        let actions = session.verified(Ok(unread(claimed)), 5_000, 0, TS);
        assert_eq!(
            short(&actions),
            ["FORBIDDEN", "4403"],
            "{claimed:?} {asked}"
        );
    }
    let mut session = opened(Some(&[2]));
    send(&mut session, r#"{"type":"refresh","token":"u"}"#);
    let actions = session.verified(Ok(unread(Some(&[2, 3]))), 50_000, 1_000, TS);
    let lost = ["unsubscribe 2", "FORBIDDEN", "unsubscribed 2"];
    assert_eq!(short(&actions)[0], "auth.refreshed []");
    assert_eq!(short(&actions)[1..], lost);
}

#[test]
fn the_error_of_a_message_that_is_too_large_names_the_limit() {
    for (mut session, bytes, allowed) in [
        (session(), 4_097, "4096 bytes"),
        (opened(None), 1_000_001, "1000000 bytes"),
    ] {
        let actions = session.text(&" ".repeat(bytes), false, 0, TS);
        let [Action::Send(ServerFrame::Error(frame)), Action::Close(code)] = actions.as_slice()
        else {
            panic!("{actions:?}")
        };
        assert_eq!((frame.error.code, code.code()), (Code::TooLarge, 1009));
        assert!(frame.error.message.contains(allowed), "{frame:?}");
    }
}

#[test]
fn before_authentication_a_client_may_only_authenticate_and_ping() {
    for (text, expected) in [
        (
            r#"{"type":"subscribe","guildId":"1"}"#.to_owned(),
            vec!["UNAUTHORIZED", "4401"],
        ),
        (
            r#"{"type":"refresh","token":"t"}"#.to_owned(),
            vec!["UNAUTHORIZED", "4401"],
        ),
        (r#"{"type":"auth"}"#.to_owned(), vec!["BAD_REQUEST", "4400"]),
        (r#"{"type":"ping"}"#.to_owned(), vec!["pong None"]),
        (
            format!(r#"{{"type":"auth","token":"{}"}}"#, "x".repeat(5_000)),
            vec!["TOO_LARGE", "1009"],
        ),
    ] {
        assert_eq!(
            send(&mut session(), &text),
            expected,
            "{}",
            &text[..text.len().min(60)]
        );
    }
}

#[test]
fn subscriptions_are_bounded_and_may_be_changed() {
    let mut session = opened(Some(&[1, 2, 3]));
    // Two of the three, by the limit.
    assert_eq!(
        send(&mut session, r#"{"type":"subscribe","guildId":"3"}"#),
        ["RATE_LIMITED"]
    );
    assert_eq!(
        send(
            &mut session,
            r#"{"type":"subscribe","guildId":"1","rooms":["5"]}"#
        ),
        ["subscribe 1"]
    );
    assert_eq!(
        send(&mut session, r#"{"type":"unsubscribe","guildId":"1"}"#),
        ["unsubscribe 1", "unsubscribed 1"]
    );
    assert_eq!(
        send(&mut session, r#"{"type":"subscribe","guildId":"3"}"#),
        ["subscribe 3"]
    );
}

#[test]
fn a_refresh_keeps_the_subject_and_drops_forbidden_guilds() {
    let mut session = opened(Some(&[1, 2]));
    assert_eq!(
        send(&mut session, r#"{"type":"refresh","token":"u"}"#),
        ["verify u"]
    );
    let actions = session.verified(Ok(ada(Some(&[1]))), 50_000, 1_000, TS);
    assert_eq!(
        short(&actions),
        [
            "auth.refreshed [1]",
            "unsubscribe 2",
            "FORBIDDEN",
            "unsubscribed 2"
        ]
    );
    assert!(
        session
            .tick(110_999, TS)
            .iter()
            .all(|action| !matches!(action, Action::Close(_)))
    );
    send(&mut session, r#"{"type":"refresh","token":"u"}"#);
    let grace = Principal {
        subject: Subject::new("grace").unwrap(),
        ..ada(None)
    };
    assert_eq!(
        short(&session.verified(Ok(grace), 50_000, 1_000, TS)),
        ["UNAUTHORIZED", "4401"]
    );
}

#[test]
fn every_deadline_ends_the_connection() {
    let mut silent = session();
    assert!(short(&silent.tick(9_999, TS)).is_empty());
    assert_eq!(short(&silent.tick(10_000, TS)), ["UNAUTHORIZED", "4408"]);

    // The token of `ada` is valid for 5 s, and 60 s of leeway.
    let mut expiring = opened(None);
    assert_eq!(expiring.due_ms(), 20_000, "the ping comes first");
    assert_eq!(short(&expiring.tick(20_000, TS)), ["ping"]);
    expiring.control(true, 20_000, TS);
    assert!(short(&expiring.tick(20_001, TS)).is_empty());
    assert_eq!(short(&expiring.tick(65_000, TS)), ["UNAUTHORIZED", "4401"]);

    let mut gone = opened(None);
    gone.tick(20_000, TS);
    assert_eq!(gone.due_ms(), 30_000);
    assert_eq!(short(&gone.tick(30_000, TS)), ["1001"]);
}

#[test]
fn a_flood_ends_the_connection_and_a_steady_client_does_not() {
    let mut flooding = opened(None);
    let last = (0..40)
        .map(|_| send(&mut flooding, r#"{"type":"ping"}"#))
        .find(|sent| sent[0] != "pong None");
    assert_eq!(last.unwrap(), ["RATE_LIMITED", "4429"]);
    let mut steady = opened(None);
    for at in 0..200 {
        let sent = short(&steady.text(r#"{"type":"ping"}"#, false, at * 50, TS));
        assert_eq!(sent, ["pong None"], "at {at}");
    }
    assert_eq!(steady.control(false, 10_000, TS).len(), 0);
}

#[test]
fn only_a_pong_answers_a_ping_and_a_flood_of_pongs_ends_the_connection() {
    let mut talking = opened(None);
    talking.tick(20_000, TS);
    assert_eq!(
        short(&talking.text(r#"{"type":"ping"}"#, false, 25_000, TS)),
        ["pong None"]
    );
    assert_eq!(
        short(&talking.tick(30_000, TS)),
        ["1001"],
        "it talks, but does not answer"
    );
    let mut flooding = opened(None);
    let end = (0..40)
        .map(|_| short(&flooding.control(true, 0, TS)))
        .find(|sent| !sent.is_empty());
    assert_eq!(end.unwrap(), ["RATE_LIMITED", "4429"]);
}

#[test]
fn every_error_says_whether_to_reconnect() {
    // The error before a close never contradicts the close's own advice.
    assert!(
        !Code::Unauthorized.retriable()
            && Code::Unavailable.retriable()
            && Code::RateLimited.retriable()
    );
}

#[test]
fn an_unreachable_issuer_does_not_end_a_connection_with_a_valid_token() {
    let mut session = opened(None);
    let refresh = r#"{"type":"refresh","token":"u"}"#;
    assert_eq!(send(&mut session, refresh), ["verify u"]);
    let actions = session.verified(Err(AuthError::Unavailable), 0, 0, TS);
    assert_eq!(short(&actions), ["UNAVAILABLE"]);
    assert_eq!(send(&mut session, refresh), ["verify u"]);
    session.verified(Err(AuthError::Unavailable), 0, 0, TS);
    let unsubscribe = r#"{"type":"unsubscribe","guildId":"1"}"#;
    assert_eq!(
        send(&mut session, unsubscribe),
        ["unsubscribe 1", "unsubscribed 1"]
    );
    assert_eq!(short(&session.tick(65_000, TS)), ["UNAUTHORIZED", "4401"]);
}

#[test]
fn frames_behind_a_pending_operation_are_deferred_and_a_ping_is_answered() {
    let mut session = opened(Some(&[1, 2]));
    let mut busy = |text: &str| short(&session.text(text, true, 0, TS));
    assert!(busy(r#"{"type":"unsubscribe","guildId":"1"}"#).is_empty());
    assert!(busy(r#"{"type":"unsubscribe","guildId":"1"}"#).is_empty());
    assert_eq!(busy(r#"{"type":"ping"}"#), ["pong None"]);
    assert_eq!(busy(r#"{"type":"dance"}"#), ["BAD_REQUEST"]);
    let next = session.next(TS).unwrap();
    assert_eq!(short(&next), ["unsubscribe 1", "unsubscribed 1"]);
    assert_eq!(short(&session.next(TS).unwrap()), ["NOT_FOUND"]);
    assert!(session.next(TS).is_none());
    assert_eq!(
        short(&session.text("dance", true, 0, TS)),
        ["BAD_REQUEST", "4400"]
    );
    assert!(session.text(r#"{"type":"ping"}"#, true, 0, TS).is_empty());
}

#[test]
fn deferred_frames_are_bounded_and_an_unread_pong_is_not_missed() {
    let mut session = opened(None);
    let frame = format!(
        r#"{{"type":"unsubscribe","guildId":"1","x":"{}"}}"#,
        "x".repeat(457)
    );
    assert_eq!(frame.len(), 500);
    for _ in 0..2 {
        assert!(!session.read_paused());
        session.text(&frame, true, 0, TS);
    }
    assert!(session.read_paused());
    assert_eq!(short(&session.tick(20_000, TS)), ["ping"]);
    assert!(session.tick(30_000, TS).is_empty());
    session.next(TS);
    assert!(!session.read_paused());
    assert_eq!(session.due_ms(), 40_000);
    session.resume_reading(39_999);
    assert_eq!(session.due_ms(), 49_999);
    assert!(session.tick(40_000, TS).is_empty());
    assert_eq!(short(&session.tick(49_999, TS)), ["1001"]);
}

#[test]
fn an_error_that_ends_the_connection_names_it_as_the_log_does_and_no_other_error_does() {
    let named = |actions: &[Action]| match &actions[0] {
        Action::Send(ServerFrame::Error(frame)) => frame.connection_id.clone(),
        other => panic!("{other:?}"),
    };
    let mut session = session();
    let unknown = session.text(r#"{"type":"dance"}"#, false, 0, TS);
    assert_eq!(named(&unknown), None);
    send(&mut session, r#"{"type":"auth","token":"t"}"#);
    let wrong = AuthError::Unauthorized("expired".to_owned());
    let refused = session.verified(Err(wrong), 0, 0, TS);
    assert_eq!(named(&refused).as_deref(), Some("c"));
}
