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

#[test]
fn issuers_that_could_name_the_same_subject_are_refused_together() {
    let prefixed =
        |issuer: &str, prefix: &str| second(&json!({ "issuer": issuer, "subjectPrefix": prefix }));
    let discord = |issuer: &str| second(&json!({ "issuer": issuer, "discordSubjects": true }));
    for (entries, names) in [
        (vec![], "1 to 16"),
        (vec![first(); 2], "listed twice"),
        (vec![first(), second(&json!({}))], "subjectPrefix"),
        (vec![first(), prefixed("b", "")], "printable"),
        (vec![first(), prefixed("b", "a\nb")], "printable"),
        (vec![first(), prefixed("b", &"p".repeat(65))], "64"),
        (vec![first(), prefixed("b", "service:")], "service:"),
        (vec![first(), prefixed("b", "discord:x")], "discord:"),
        (
            vec![first(), prefixed("b", "x"), prefixed("c", "x")],
            "alike",
        ),
        (
            vec![first(), prefixed("b", "x"), prefixed("c", "xy")],
            "alike",
        ),
        (
            vec![first(), prefixed("b", "xy"), prefixed("c", "x")],
            "alike",
        ),
        (vec![first(), discord("b"), discord("c")], "discordSubjects"),
        (
            vec![
                first(),
                second(&json!({ "subjectPrefix": "b:", "discordSubjects": true })),
            ],
            "Keep one",
        ),
        (
            vec![
                first(),
                second(&json!({ "subjectPrefix": "b:", "discordIdClaim": "d" })),
            ],
            "Keep one",
        ),
        (
            vec![
                second(&json!({ "discordIdClaim": "d" })),
                prefixed("c", "c:"),
            ],
            "discordIdClaim",
        ),
        (vec![second(&json!({ "audience": [] }))], "audience"),
        (vec![second(&json!({ "audience": [""] }))], "audience"),
        (
            vec![second(&json!({ "audience": "rooms" }))],
            "audience must be a list",
        ),
        (vec![second(&json!({ "issuer": "" }))], "issuer is empty"),
        (
            vec![second(&json!({ "jwksUrl": "https://169.254.169.254/" }))],
            "link-local",
        ),
        (vec![second(&json!({ "audienceClaim": "sub" }))], "sub"),
        (vec![second(&json!({ "guildsClaim": "" }))], "path"),
        (
            vec![second(&json!({ "subjectPrefix": 7 }))],
            "subjectPrefix must be a text",
        ),
    ] {
        let problem = parse(&entries).unwrap_err();
        assert!(problem.contains(names), "{problem}, not {names}");
    }
    for not_a_list in ["", "{}", "null", "[1]", r#"[{"issuer":"a","issuer":"a"}]"#] {
        assert!(
            !IssuersFile::parse(not_a_list).problems.is_empty(),
            "{not_a_list}"
        );
    }
    assert!(
        parse(&[
            first(),
            prefixed("b", "b:"),
            discord("c"),
            prefixed("d", "d:")
        ])
        .is_ok()
    );
    assert!(parse(&[prefixed("b", "b:"), prefixed("c", "c:")]).is_ok());
    assert!(parse(&[second(&json!({ "discordIdClaim": "d" }))]).is_ok());
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
