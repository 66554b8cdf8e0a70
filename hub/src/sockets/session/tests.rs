use super::*;
use crate::auth::{Rights, Subject};
use crate::view::RoomsShown;

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
        expires_at_ms: 5_000,
    }
}

/// The actions in short: what matters of each.
fn short(actions: &[Action]) -> String {
    let short = |action: &Action| match action {
        Action::Ack(Ack::AuthOk { guilds, .. }, _) => format!("auth.ok {guilds:?}"),
        Action::Ack(Ack::AuthRefreshed { guilds, .. }, _) => format!("auth.refreshed {guilds:?}"),
        Action::Ack(Ack::Unsubscribed { guild_id }, _) => format!("unsubscribed {guild_id}"),
        Action::Ack(Ack::Pong, re) => format!("pong {re:?}"),
        Action::Ack(Ack::Subscribed { .. }, _) => "subscribed".to_owned(),
        Action::Error(error, _) => error.code.name().to_owned(),
        Action::Fail(error, _, code) => format!("{} {}", error.code.name(), code.code()),
        Action::Verify(token) => format!("verify {token}"),
        Action::Authenticated(principal) => format!("is {}", principal.subject),
        Action::Subscribe(subscribe) => match &subscribe.recover {
            None => format!("subscribe {}", subscribe.view.guild()),
            Some(pos) => format!("subscribe {} after {pos}", subscribe.view.guild()),
        },
        Action::Unsubscribe(guild) => format!("unsubscribe {guild}"),
        Action::Ping => "ping".to_owned(),
        Action::Close(code) => code.code().to_string(),
    };
    let all: Vec<_> = actions.iter().map(short).collect();
    all.join(", ")
}

fn send(session: &mut Session, text: &str) -> String {
    short(&session.text(text, false, 0))
}

/// What follows on an `auth` with these other fields, once its token was verified.
fn auth(fields: &str, result: Result<Principal, AuthError>) -> String {
    let mut session = session();
    let frame = format!(r#"{{"type":"auth","token":"t"{fields}}}"#);
    assert_eq!(send(&mut session, &frame), "verify t");
    let actions = short(&session.verified(result, 5_000, 0));
    if !actions.starts_with("is ada") {
        assert_eq!(
            send(&mut session, &frame),
            "",
            "frames after the end are ignored"
        );
    }
    actions
}

fn opened(guilds: Option<&[u64]>) -> Session {
    let mut session = session();
    assert_eq!(
        send(&mut session, r#"{"type":"auth","token":"t"}"#),
        "verify t"
    );
    session.verified(Ok(ada(guilds)), 5_000, 0);
    session
}

#[test]
fn the_guilds_are_those_of_the_token_that_the_hub_serves() {
    for (claimed, asked, expected) in [
        (
            Some(&[2, 3, 9][..]),
            "",
            "is ada, auth.ok [2, 3], subscribe 2, subscribe 3",
        ),
        (
            Some(&[2, 3]),
            r#","guilds":["3","3"]"#,
            "is ada, auth.ok [3], subscribe 3",
        ),
        (Some(&[2]), r#","guilds":[]"#, "is ada, auth.ok []"),
        (Some(&[2]), r#","guilds":["1"]"#, "FORBIDDEN 4403"),
        (Some(&[2]), r#","guilds":["9"]"#, "FORBIDDEN 4403"),
        (Some(&[]), "", "is ada, auth.ok []"),
        (Some(&[9]), "", "is ada, auth.ok []"),
        (Some(&[]), r#","guilds":[]"#, "is ada, auth.ok []"),
        (Some(&[]), r#","guilds":["2"]"#, "FORBIDDEN 4403"),
        (
            Some(&[1, 2, 3]),
            r#","guilds":["1","2","3"]"#,
            "BAD_REQUEST 4400",
        ),
        (None, r#","guilds":["2"]"#, "FORBIDDEN 4403"),
    ] {
        let actions = auth(asked, Ok(ada(claimed)));
        assert_eq!(actions, expected, "{claimed:?} {asked}");
    }
}

#[test]
fn a_position_is_passed_on_as_it_is_written() {
    for (recover, expected) in [
        (
            r#","recover":{"2":"here","3":"there"}"#,
            "subscribe 2 after here, subscribe 3 after there",
        ),
        (
            r#","recover":{"3":"there","9":"nowhere"}"#,
            "subscribe 2, subscribe 3 after there",
        ),
        (r#","recover":{"2":""}"#, "subscribe 2 after , subscribe 3"),
        (r#","recover":{}"#, "subscribe 2, subscribe 3"),
        (r#","recover":null"#, "subscribe 2, subscribe 3"),
    ] {
        let actions = auth(recover, Ok(ada(Some(&[2, 3]))));
        let expected = format!("is ada, auth.ok [2, 3], {expected}");
        assert_eq!(actions, expected, "{recover}");
    }
    let mut session = opened(None);
    for (recover, expected) in [
        (r#","recover":"here""#, "subscribe 1 after here"),
        (r#","recover":null"#, "subscribe 1"),
        ("", "subscribe 1"),
        (r#","recover":7"#, "BAD_REQUEST"),
    ] {
        let frame = format!(r#"{{"type":"subscribe","guildId":"1"{recover}}}"#);
        assert_eq!(send(&mut session, &frame), expected, "{recover}");
    }
}

#[test]
fn an_invalid_token_ends_the_connection() {
    let invalid = AuthError::Unauthorized("expired".to_owned());
    assert_eq!(auth("", Err(invalid)), "UNAUTHORIZED 4401");
    assert_eq!(auth("", Err(AuthError::Unavailable)), "UNAVAILABLE 4503");
}

#[test]
fn a_text_that_is_no_frame_gets_the_documented_code() {
    let deep = format!(
        r#"{{"type":"ping","x":{}{}}}"#,
        "[".repeat(5_000),
        "]".repeat(5_000)
    );
    for (text, expected) in [
        ("", "BAD_REQUEST 4400"),
        ("hello", "BAD_REQUEST 4400"),
        ("[]", "BAD_REQUEST 4400"),
        (r#"["ping"]"#, "BAD_REQUEST 4400"),
        (r#"["ping", null]"#, "BAD_REQUEST 4400"),
        ("{}", "BAD_REQUEST 4400"),
        (r#"{"type":1}"#, "BAD_REQUEST 4400"),
        (r#"{"type":"ping","type":"ping"}"#, "BAD_REQUEST 4400"),
        (r#"{"type":"ping","id":{}}"#, "BAD_REQUEST"),
        (r#"{"type":"ping","id":-1}"#, "BAD_REQUEST"),
        (r#"{"type":"ping","id":1.0}"#, "BAD_REQUEST"),
        (
            r#"{"type":"ping","id":18446744073709551616}"#,
            "BAD_REQUEST",
        ),
        (
            r#"{"type":"ping","id":18446744073709551615}"#,
            "pong Some(Number(18446744073709551615))",
        ),
        (r#"{"type":"ping","id":0}"#, "pong Some(Number(0))"),
        (r#"{"type":"ping","id":null}"#, "pong None"),
        ("\u{0}", "BAD_REQUEST 4400"),
        (&deep, "BAD_REQUEST 4400"),
        (r#"{"type":"dance"}"#, "BAD_REQUEST"),
        (r#"{"type":"subscribe","guildId":1}"#, "BAD_REQUEST"),
        (r#"{"type":"subscribe","guildId":"0"}"#, "BAD_REQUEST"),
        (r#"{"type":"subscribe","guildId":"9"}"#, "FORBIDDEN"),
        (r#"{"type":"subscribe","guildId":"2"}"#, "FORBIDDEN"),
        (r#"{"type":"unsubscribe","guildId":"2"}"#, "NOT_FOUND"),
        (r#"{"type":"auth","token":"t"}"#, "BAD_REQUEST"),
        (r#"{"type":"ping","id":"a"}"#, r#"pong Some(Text("a"))"#),
        (
            r#"{"type":"ping","id":7,"new":"field"}"#,
            "pong Some(Number(7))",
        ),
        (
            r#"{"type":"unsubscribe","guildId":"1"}"#,
            "unsubscribe 1, unsubscribed 1",
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
        let actions = auth(asked, Ok(unread(claimed)));
        assert_eq!(actions, "FORBIDDEN 4403", "{claimed:?} {asked}");
    }
    let mut session = opened(Some(&[2]));
    send(&mut session, r#"{"type":"refresh","token":"u"}"#);
    let actions = session.verified(Ok(unread(Some(&[2, 3]))), 50_000, 1_000);
    let lost = "auth.refreshed [], unsubscribe 2, FORBIDDEN, unsubscribed 2";
    assert_eq!(short(&actions), lost);
}

#[test]
fn before_authentication_a_client_may_only_authenticate_and_ping() {
    let large = format!(r#"{{"type":"auth","token":"{}"}}"#, "x".repeat(5_000));
    for (text, expected) in [
        (r#"{"type":"subscribe","guildId":"1"}"#, "UNAUTHORIZED 4401"),
        (r#"{"type":"refresh","token":"t"}"#, "UNAUTHORIZED 4401"),
        (r#"{"type":"auth"}"#, "BAD_REQUEST 4400"),
        (r#"{"type":"ping"}"#, "pong None"),
        (&large, "TOO_LARGE 1009"),
    ] {
        assert_eq!(send(&mut session(), text), expected, "{text}");
    }
}

#[test]
fn subscriptions_are_bounded_and_may_be_changed() {
    let mut session = opened(Some(&[1, 2, 3]));
    for (command, expected) in [
        // Two of the three, by the limit.
        (r#""subscribe","guildId":"3""#, "RATE_LIMITED"),
        (r#""subscribe","guildId":"1","rooms":["5"]"#, "subscribe 1"),
        (
            r#""unsubscribe","guildId":"1""#,
            "unsubscribe 1, unsubscribed 1",
        ),
        (r#""subscribe","guildId":"3""#, "subscribe 3"),
    ] {
        let sent = send(&mut session, &format!(r#"{{"type":{command}}}"#));
        assert_eq!(sent, expected, "{command}");
    }
}

#[test]
fn a_refresh_keeps_the_subject_and_drops_forbidden_guilds() {
    let mut session = opened(Some(&[1, 2]));
    assert_eq!(
        send(&mut session, r#"{"type":"refresh","token":"u"}"#),
        "verify u"
    );
    let actions = session.verified(Ok(ada(Some(&[1]))), 50_000, 1_000);
    assert_eq!(
        short(&actions),
        "auth.refreshed [1], unsubscribe 2, FORBIDDEN, unsubscribed 2"
    );
    // The end of the newer token counts.
    assert_eq!(short(&session.tick(110_999)), "ping");
    send(&mut session, r#"{"type":"refresh","token":"u"}"#);
    let grace = Principal {
        subject: Subject::new("grace").unwrap(),
        ..ada(None)
    };
    assert_eq!(
        short(&session.verified(Ok(grace), 50_000, 1_000)),
        "UNAUTHORIZED 4401"
    );
}

#[test]
fn every_deadline_ends_the_connection() {
    let mut silent = session();
    assert!(short(&silent.tick(9_999)).is_empty());
    assert_eq!(short(&silent.tick(10_000)), "UNAUTHORIZED 4408");

    // The token of `ada` is valid for 5 s, and 60 s of leeway.
    let mut expiring = opened(None);
    assert_eq!(expiring.due_ms(), 20_000, "the ping comes first");
    assert_eq!(short(&expiring.tick(20_000)), "ping");
    expiring.control(true, 20_000);
    assert!(short(&expiring.tick(20_001)).is_empty());
    assert_eq!(short(&expiring.tick(65_000)), "UNAUTHORIZED 4401");

    let mut gone = opened(None);
    gone.tick(20_000);
    assert_eq!(gone.due_ms(), 30_000);
    assert_eq!(short(&gone.tick(30_000)), "1001");
}

#[test]
fn a_flood_ends_the_connection_and_a_steady_client_does_not() {
    let mut flooding = opened(None);
    let last = (0..40)
        .map(|_| send(&mut flooding, r#"{"type":"ping"}"#))
        .find(|sent| sent != "pong None");
    assert_eq!(last.unwrap(), "RATE_LIMITED 4429");
    let mut steady = opened(None);
    for at in 0..200 {
        let sent = short(&steady.text(r#"{"type":"ping"}"#, false, at * 50));
        assert_eq!(sent, "pong None", "at {at}");
    }
    assert_eq!(steady.control(false, 10_000).len(), 0);
}

#[test]
fn only_a_pong_answers_a_ping_and_a_flood_of_pongs_ends_the_connection() {
    let mut talking = opened(None);
    talking.tick(20_000);
    assert_eq!(
        short(&talking.text(r#"{"type":"ping"}"#, false, 25_000)),
        "pong None"
    );
    assert_eq!(
        short(&talking.tick(30_000)),
        "1001",
        "it talks, but does not answer"
    );
    let mut flooding = opened(None);
    let end = (0..40)
        .map(|_| short(&flooding.control(true, 0)))
        .find(|sent| !sent.is_empty());
    assert_eq!(end.unwrap(), "RATE_LIMITED 4429");
}

#[test]
fn an_unreachable_issuer_does_not_end_a_connection_with_a_valid_token() {
    let mut session = opened(None);
    let refresh = r#"{"type":"refresh","token":"u"}"#;
    assert_eq!(send(&mut session, refresh), "verify u");
    let actions = session.verified(Err(AuthError::Unavailable), 0, 0);
    assert_eq!(short(&actions), "UNAVAILABLE");
    assert_eq!(send(&mut session, refresh), "verify u");
    session.verified(Err(AuthError::Unavailable), 0, 0);
    let unsubscribe = r#"{"type":"unsubscribe","guildId":"1"}"#;
    assert_eq!(
        send(&mut session, unsubscribe),
        "unsubscribe 1, unsubscribed 1"
    );
    assert_eq!(short(&session.tick(65_000)), "UNAUTHORIZED 4401");
}

#[test]
fn frames_behind_a_pending_operation_are_deferred_and_a_ping_is_answered() {
    let mut session = opened(Some(&[1, 2]));
    let mut busy = |text: &str| short(&session.text(text, true, 0));
    assert!(busy(r#"{"type":"unsubscribe","guildId":"1"}"#).is_empty());
    assert!(busy(r#"{"type":"unsubscribe","guildId":"1"}"#).is_empty());
    assert_eq!(busy(r#"{"type":"ping"}"#), "pong None");
    assert_eq!(busy(r#"{"type":"dance"}"#), "BAD_REQUEST");
    let next = session.next_deferred().unwrap();
    assert_eq!(short(&next), "unsubscribe 1, unsubscribed 1");
    assert_eq!(short(&session.next_deferred().unwrap()), "NOT_FOUND");
    assert!(session.next_deferred().is_none());
    assert_eq!(short(&session.text("dance", true, 0)), "BAD_REQUEST 4400");
    assert!(session.text(r#"{"type":"ping"}"#, true, 0).is_empty());
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
        session.text(&frame, true, 0);
    }
    assert!(session.read_paused());
    assert_eq!(short(&session.tick(20_000)), "ping");
    assert!(session.tick(30_000).is_empty());
    session.next_deferred();
    assert!(!session.read_paused());
    assert_eq!(session.due_ms(), 40_000);
    session.resume_reading(39_999);
    assert_eq!(session.due_ms(), 49_999);
    assert!(session.tick(40_000).is_empty());
    assert_eq!(short(&session.tick(49_999)), "1001");
}
