use serde_json::{Value, json};

use super::*;

fn first() -> Value {
    json!({ "issuer": "https://a.example", "audience": ["roomwire"], "jwksUrl": "https://a.example/keys" })
}

fn second(more: &Value) -> Value {
    let mut entry = json!({ "issuer": "https://b.example", "audience": ["rooms", "more"], "jwksUrl": "https://b.example/keys" });
    for (name, value) in more.as_object().unwrap() {
        entry[name] = value.clone();
    }
    entry
}

fn parse(entries: &[Value]) -> Result<Vec<Issuer>, String> {
    let file = IssuersFile::parse(&json!(entries).to_string());
    match &file.problems[..] {
        [] => Ok(file.issuers),
        problems => Err(problems.join("\n")),
    }
}

#[test]
fn a_file_of_issuers_has_the_documented_fields_and_no_others() {
    let issuers = parse(&[
        first(),
        second(&json!({
            "audienceClaim": "client_id", "guildsClaim": "app_metadata.guilds", "scopeClaim": "permissions",
            "subjectPrefix": "b:",
        })),
        json!({
            "issuer": "c", "audience": ["x"], "jwksUrl": "http://10.0.0.7/keys",
            "discordIdClaim": "https://c.example/discord", "discordSubjects": true,
        }),
    ])
    .unwrap();
    let [a, b, c] = &issuers[..] else {
        panic!("{issuers:?}")
    };
    assert_eq!(
        *a,
        Issuer::new("https://a.example", "roomwire", a.jwks_url.clone())
    );
    assert_eq!(b.audiences, ["rooms", "more"]);
    assert_eq!(b.audience_claim, AudienceClaim::ClientId);
    assert_eq!(b.guilds_claim.as_str(), "app_metadata.guilds");
    assert_eq!(b.scope_claim.as_str(), "permissions");
    assert!(c.discord_subjects && c.discord_id_claim.is_some());
    for unknown in ["jwks_url", "audiences", "guilds", "comment"] {
        let problem = parse(&[second(&json!({ unknown: "x" }))]).unwrap_err();
        assert!(problem.contains(unknown), "{problem}");
    }
}

/// The first issuer, and others with these fields.
fn with_others(others: &Value) -> Result<Vec<Issuer>, String> {
    let others = others.as_array().unwrap().iter().zip('b'..);
    let others = others.map(|(more, name)| {
        let mut entry = second(&json!({ "issuer": name }));
        let more = more.as_object().unwrap().clone();
        entry.as_object_mut().unwrap().extend(more);
        entry
    });
    parse(&[first()].into_iter().chain(others).collect::<Vec<_>>())
}

#[test]
fn issuers_that_could_name_the_same_subject_are_refused_together() {
    for (words, others) in [
        ("1 to 16", json!(vec![json!({}); 16])),
        ("listed twice", json!([{"issuer": "https://a.example"}])),
        ("needs a subjectPrefix", json!([{}])),
        ("printable", json!([{"subjectPrefix": ""}])),
        ("printable", json!([{"subjectPrefix": "a\nb"}])),
        ("64", json!([{"subjectPrefix": "p".repeat(65)}])),
        ("service:", json!([{"subjectPrefix": "service:"}])),
        ("discord:", json!([{"subjectPrefix": "discord:x"}])),
        (
            "alike",
            json!([{"subjectPrefix": "x"}, {"subjectPrefix": "x"}]),
        ),
        (
            "alike",
            json!([{"subjectPrefix": "x"}, {"subjectPrefix": "xy"}]),
        ),
        (
            "alike",
            json!([{"subjectPrefix": "xy"}, {"subjectPrefix": "x"}]),
        ),
        (
            "discordSubjects too",
            json!([{"discordSubjects": true}, {"discordSubjects": true}]),
        ),
        (
            "Keep one",
            json!([{"subjectPrefix": "b:", "discordSubjects": true}]),
        ),
        (
            "Keep one",
            json!([{"subjectPrefix": "b:", "discordIdClaim": "d"}]),
        ),
        ("discordIdClaim needs", json!([{"discordIdClaim": "d"}])),
        ("audience must be a list", json!([{"audience": []}])),
        ("audience must be a list", json!([{"audience": [""]}])),
        ("audience must be a list", json!([{"audience": "rooms"}])),
        ("issuer is empty", json!([{"issuer": ""}])),
        (
            "link-local",
            json!([{"jwksUrl": "https://169.254.169.254/"}]),
        ),
        (
            "audienceClaim is \"sub\"",
            json!([{"audienceClaim": "sub"}]),
        ),
        ("path", json!([{"guildsClaim": ""}])),
        (
            "subjectPrefix must be a text",
            json!([{"subjectPrefix": 7}]),
        ),
    ] {
        let problem = with_others(&others).unwrap_err();
        assert!(problem.contains(words), "{problem}, not {words}");
    }
    let apart =
        json!([{"subjectPrefix": "b:"}, {"discordSubjects": true}, {"subjectPrefix": "d:"}]);
    assert!(with_others(&apart).is_ok());
    assert!(parse(&[second(&json!({"discordIdClaim": "d"}))]).is_ok());
    for not_a_list in [
        "",
        "[]",
        "{}",
        "null",
        "[1]",
        r#"[{"issuer":"a","issuer":"a"}]"#,
    ] {
        let file = IssuersFile::parse(not_a_list);
        assert!(!file.problems.is_empty(), "{not_a_list}");
    }
}

#[test]
fn subjects_of_one_issuer_are_never_those_of_another() {
    let issuers = parse(&[
        first(),
        second(&json!({ "issuer": "b", "subjectPrefix": "b:" })),
        second(&json!({ "issuer": "c", "subjectPrefix": "disc" })),
        second(&json!({ "issuer": "d", "discordSubjects": true })),
    ])
    .unwrap();
    let all = &issuers[..];
    let subject = |index: usize, sub: &str| {
        let rule = SubjectRule::of(&all[index], all);
        rule.subject(sub).map(|subject| subject.to_string())
    };
    for (index, sub, acts_as) in [
        (0, "ada", Some("ada")),
        (0, "b", Some("b")),
        (0, "b:ada", None),
        (0, "disc", None),
        (0, "discord:1", None),
        (0, "service:x", None),
        (1, "ada", Some("b:ada")),
        (1, "b:ada", Some("b:b:ada")),
        (1, "", None),
        (1, "discord:1", None),
        (1, "service:x", None),
        (2, "ada", Some("discada")),
        (2, "ord:1", None),
        (3, "discord:7", Some("discord:7")),
        (3, "ada", None),
        (3, "7", None),
        (3, "discord:", None),
        (3, "discord:07", None),
        (3, "discord:ada", None),
        (3, "service:x", None),
    ] {
        assert_eq!(subject(index, sub).as_deref(), acts_as, "{index} {sub}");
    }
    let alone = parse(&[first()]).unwrap();
    let rule = SubjectRule::of(&alone[0], &alone);
    assert!(
        rule.subject("discord:1").is_some(),
        "there is no other issuer"
    );
    assert!(rule.subject("service:1").is_none());
}

#[test]
fn a_claim_that_the_person_can_write_causes_a_warning_with_its_name() {
    let of = |more: &Value| IssuersFile::parse(&json!([second(more)]).to_string()).warnings;
    assert!(of(&json!({ "guildsClaim": "app_metadata.guilds" })).is_empty());
    for field in ["guildsClaim", "scopeClaim", "discordIdClaim"] {
        let [warning] = &of(&json!({ field: "user_metadata.x" }))[..] else {
            panic!("{field}")
        };
        assert!(warning.contains("user_metadata.x"), "{warning}");
    }
}

#[test]
fn every_problem_of_every_entry_is_reported_at_once() {
    let file = IssuersFile::parse(
        r#"[
            {"issuer": "", "audience": "rooms", "jwksUrl": "keys", "audienceClaim": "sub", "guilds": 1},
            7,
            {"issuer": "c", "audience": ["x"], "jwksUrl": "http://8.8.8.8/keys", "subjectPrefix": 7},
            {"issuer": "c", "issuer": "c", "audience": ["x"], "jwksUrl": "https://c.example/"}
        ]"#,
    );
    for (problem, begin) in file.problems.iter().zip([
        "Issuer 1: \"guilds\" is not a field. Allowed are issuer, ",
        "Issuer 1: issuer is empty.",
        "Issuer 1: audience must be a list",
        "Issuer 1: jwksUrl is wrong. It must begin with https:// or http://.",
        "Issuer 1: audienceClaim is \"sub\". It must be aud, client_id or azp.",
        "Issuer 2: it must be an object",
        "Issuer 3: subjectPrefix must be a text",
        "Issuer 4: it has \"issuer\" twice.",
        "Issuer 4: its \"issuer\" is listed twice.",
        "Issuer 4: each issuer but the first needs a subjectPrefix",
    ]) {
        assert!(problem.starts_with(begin), "{problem}, not {begin}");
    }
    assert_eq!(file.problems.len(), 10, "{:#?}", file.problems);
    assert_eq!(file.key_sets.len(), 2);
}
