use std::net::SocketAddr;

use super::*;
use crate::Secret;

#[derive(Debug, Parser)]
#[command(name = "sample")]
struct Sample {
    /// Where to listen
    #[arg(long, env = "HUB_LISTEN", default_value = "127.0.0.1:3000")]
    hub_listen: SocketAddr,
    /// The token. Set it to the bot's token
    #[arg(long, env = "DISCORD_BOT_TOKEN", hide_env_values = true)]
    discord_bot_token: Secret,
    /// Who signs. Set it to the "iss" of your tokens
    #[arg(long, env = "JWT_ISSUER")]
    jwt_issuer: String,
    /// How many
    #[arg(long, env = "ROOMS_MAX", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=10))]
    rooms_max: u32,
    /// How long
    #[arg(long, env = "WAIT_MS", default_value_t = 5, value_parser = clap::value_parser!(u64).range(2..))]
    wait_ms: u64,
    /// How often
    #[arg(long, env = "RUNS", default_value_t = 1)]
    runs: u64,
    /// Which pages
    #[arg(long, env = "WEB_ORIGIN", value_delimiter = ',', value_parser = origin::parse)]
    web_origin: Vec<String>,
    /// Where
    #[arg(long, env = "API_URL", value_parser = |text: &str| address::parse(text, address::HTTP))]
    api_url: Option<url::Url>,
    #[arg(long)]
    list: bool,
}

impl Program for Sample {
    const EXAMPLES: &'static [(&'static str, &'static str)] =
        &[("DISCORD_BOT_TOKEN", "token"), ("JWT_ISSUER", "issuer")];
    const CHECK: Option<&'static str> = Some("Discord");

    fn problems(&self) -> Vec<Problem> {
        if self.wait_ms < u64::from(self.rooms_max) {
            let text = "WAIT_MS is below ROOMS_MAX. Raise it.";
            return vec![Problem::new(&["WAIT_MS", "ROOMS_MAX"], text)];
        }
        Vec::new()
    }
}

const REQUIRED: [(&str, &str); 2] = [("DISCORD_BOT_TOKEN", "t"), ("JWT_ISSUER", "i")];

fn environment(variables: &[(&str, &str)]) -> Environment {
    let variables = variables
        .iter()
        .map(|(name, value)| ((*name).to_owned(), OsString::from(value)));
    Environment(variables.collect())
}

fn sample(args: &[&str], variables: &[(&str, &str)]) -> Result<Parsed<Sample>, Refusal> {
    let args = std::iter::once("sample").chain(args.iter().copied());
    read(args.map(Into::into).collect(), &environment(variables))
}

fn good(args: &[&str], changes: &[(&str, &str)]) -> Sample {
    let variables: Vec<_> = REQUIRED.iter().chain(changes).copied().collect();
    sample(args, &variables).unwrap().settings
}

fn lines(args: &[&str], variables: &[(&str, &str)]) -> Vec<String> {
    match sample(args, variables) {
        Err(refusal @ Refusal::Wrong(_)) => refusal.lines(),
        other => panic!("not refused: {other:?}"),
    }
}

fn line(changes: &[(&str, &str)]) -> String {
    let variables: Vec<_> = REQUIRED.iter().chain(changes).copied().collect();
    let lines = lines(&[], &variables);
    assert_eq!(lines.len(), 1, "{lines:?}");
    lines[0].clone()
}

#[test]
fn a_missing_setting_is_named_with_what_to_do() {
    assert_eq!(
        lines(&[], &[("JWT_ISSUER", "")]),
        [
            "DISCORD_BOT_TOKEN is missing. Set it to the bot's token.",
            "JWT_ISSUER is missing. Set it to the \"iss\" of your tokens.",
        ]
    );
}

#[test]
fn all_problems_are_reported_at_once_in_a_line_each() {
    let found = lines(
        &["--bogus", "--runs=many"],
        &[
            ("HUB_LISTEN", "here"),
            ("ROOMS_MAX", "11"),
            ("WAIT_MS", "1s"),
            (
                "WEB_ORIGIN",
                "https://*.example.org, https://a.example/, https://b.example",
            ),
            ("API_URL", "example.org"),
        ],
    );
    let begin: Vec<_> = found
        .iter()
        .map(|line| line.split_once(". ").unwrap().0)
        .collect();
    assert_eq!(
        begin,
        [
            "\"--bogus\" is not an option",
            "HUB_LISTEN is \"here\"",
            "DISCORD_BOT_TOKEN is missing",
            "JWT_ISSUER is missing",
            "ROOMS_MAX is \"11\"",
            "WAIT_MS is \"1s\"",
            "RUNS is \"many\"",
            "WEB_ORIGIN contains \"https://*.example.org\"",
            "WEB_ORIGIN contains \"https://a.example/\"",
            "API_URL is \"example.org\"",
        ]
    );
    assert!(found.iter().all(|line| line.ends_with('.')), "{found:#?}");
}

#[test]
fn a_number_is_refused_with_its_range_and_unit() {
    for (name, value, allowed) in [
        ("ROOMS_MAX", "11", "from 1 to 10."),
        ("ROOMS_MAX", "0", "from 1 to 10."),
        ("ROOMS_MAX", "5_0", "from 1 to 10."),
        ("ROOMS_MAX", "-1", "from 1 to 10."),
        ("ROOMS_MAX", "99999999999999999999", "from 1 to 10."),
        ("WAIT_MS", "10s", "of 2 or more, in milliseconds."),
        ("WAIT_MS", "1", "of 2 or more, in milliseconds."),
        ("WAIT_MS", "1.5", "of 2 or more, in milliseconds."),
        ("RUNS", "ten", "of 0 or more."),
        ("RUNS", "18446744073709551616", "of 0 or more."),
    ] {
        assert_eq!(
            line(&[(name, value)]),
            format!(
                "{name} is \"{value}\". It must be a whole number {allowed} Write digits alone: no unit, no separators."
            )
        );
    }
}

#[test]
fn a_rule_about_several_settings_holds_beside_wrong_ones() {
    let found = lines(&[], &[("WAIT_MS", "3"), ("HUB_LISTEN", "3000")]);
    assert_eq!(
        found.last().unwrap(),
        "WAIT_MS is below ROOMS_MAX. Raise it."
    );
    assert_eq!(found.len(), 4, "{found:#?}");
    // A rule says nothing about a setting that is wrong by itself.
    let found = lines(&[], &[("WAIT_MS", "3"), ("ROOMS_MAX", "many")]);
    assert!(
        !found.iter().any(|line| line.contains("Raise it")),
        "{found:#?}"
    );
}

#[test]
fn a_wrong_value_is_shown_bounded_and_escaped_and_without_a_password() {
    let long = line(&[("HUB_LISTEN", &format!("x\n{}", "y".repeat(500)))]);
    assert!(long.starts_with("HUB_LISTEN is \"x\\ny"), "{long}");
    assert!(long.len() < 400 && !long.contains('\n'), "{long}");
    let address = line(&[("API_URL", "https://me:hunter2@example.org/")]);
    assert!(
        address.starts_with("API_URL is \"https://…@example.org/\"."),
        "{address}"
    );
    for secret in [
        "hunter2@example.org",
        "https://me:hunter@2@example.org",
        "me:hunter2@x",
    ] {
        assert!(!line(&[("API_URL", secret)]).contains("hunter"), "{secret}");
    }
}

#[test]
fn an_empty_variable_is_unset_and_a_set_one_beats_the_default() {
    assert_eq!(good(&[], &[("HUB_LISTEN", "")]).hub_listen.port(), 3000);
    assert_eq!(
        good(&[], &[("HUB_LISTEN", "127.0.0.1:1")])
            .hub_listen
            .port(),
        1
    );
    let both = good(
        &["--hub-listen=127.0.0.1:2", "--list"],
        &[("HUB_LISTEN", "127.0.0.1:1")],
    );
    assert_eq!((both.hub_listen.port(), both.list), (2, true));
    let spaced = good(
        &["--jwt-issuer", " a "],
        &[("RUNS", "7\r"), ("JWT_ISSUER", "b")],
    );
    assert_eq!((spaced.jwt_issuer.as_str(), spaced.runs), ("a", 7));
}

#[test]
fn a_list_takes_commas_spaces_and_line_breaks() {
    for text in [
        "https://a.example,https://b.example",
        "https://a.example https://b.example",
        "https://a.example,\n  https://b.example,\n",
        "https://a.example, https://a.example, https://b.example",
    ] {
        let origins = good(&[], &[("WEB_ORIGIN", text)]).web_origin;
        assert_eq!(
            origins,
            ["https://a.example", "https://b.example"],
            "{text:?}"
        );
    }
    let origins = good(
        &[
            "--web-origin=https://a.example https://b.example",
            "--web-origin",
            "https://c.example",
        ],
        &[],
    );
    assert_eq!(origins.web_origin.len(), 3);
    assert_eq!(good(&[], &[("WEB_ORIGIN", " , ")]).web_origin.len(), 0);
}

#[test]
fn a_value_in_quotation_marks_is_refused_as_such() {
    let quoted = line(&[("API_URL", "\"https://example.org\"")]);
    assert!(
        quoted.starts_with("API_URL begins and ends with a quotation mark."),
        "{quoted}"
    );
}

#[test]
fn a_secret_may_come_from_a_file_but_not_from_both() {
    let path = std::env::temp_dir().join(format!("launch-secret-{}", process::id()));
    std::fs::write(&path, "from-file\n").unwrap();
    let file = path.to_str().unwrap();
    let of_file = [("DISCORD_BOT_TOKEN_FILE", file), ("JWT_ISSUER", "i")];
    let settings = sample(&[], &of_file).unwrap().settings;
    assert_eq!(settings.discord_bot_token.expose(), "from-file");
    assert_eq!(
        line(&[("DISCORD_BOT_TOKEN_FILE", file)]),
        "DISCORD_BOT_TOKEN and DISCORD_BOT_TOKEN_FILE are both set. Keep one of them."
    );
    std::fs::write(&path, " \n").unwrap();
    let empty = lines(&[], &of_file);
    assert!(
        empty[0].ends_with("That file is empty. Write the secret into it."),
        "{empty:?}"
    );
    std::fs::remove_file(&path).unwrap();
    let missing = lines(&[], &of_file);
    assert!(
        missing[0].starts_with("DISCORD_BOT_TOKEN_FILE is \"")
            && missing[0].ends_with("That file does not exist. Create it, or name another one."),
        "{missing:?}"
    );
}

#[test]
fn a_value_that_is_no_text_is_named() {
    use std::os::unix::ffi::OsStringExt as _;
    let garbled = OsString::from_vec(vec![0xff]);
    let mut variables = environment(&REQUIRED);
    variables.0.insert("HUB_LISTEN".to_owned(), garbled);
    let refused = read::<Sample>(vec!["sample".into()], &variables).unwrap_err();
    assert_eq!(
        refused.lines(),
        ["HUB_LISTEN is not UTF-8. Write it in UTF-8."]
    );
}

#[test]
fn a_wrong_command_line_is_explained() {
    for (args, words) in [
        (
            vec!["--hub-listn=x"],
            "\"--hub-listn\" is not an option. Did you mean --hub-listen?",
        ),
        (vec!["start"], "\"start\" is not a command."),
        (vec!["--hub-listen"], "--hub-listen has no value."),
        (
            vec!["--runs=1", "--runs=2"],
            "--runs is given twice. Keep one.",
        ),
        (
            vec!["--runs=1", "check"],
            "check stands in the wrong place.",
        ),
    ] {
        let found = lines(&args, &REQUIRED);
        assert!(
            found.len() == 1 && found[0].starts_with(words),
            "{args:?}: {found:?}"
        );
    }
}

#[test]
fn a_misspelled_variable_is_named_with_the_setting_that_was_probably_meant() {
    let mut variables = REQUIRED.to_vec();
    variables.extend([
        ("JWT_ISSUR", "x"),
        ("PATH", "/bin"),
        ("DISCORD_BOT_TOKEN_FIL", "/x"),
        ("ROOM_MAX", "3"),
    ]);
    let parsed = sample(&[], &variables).unwrap();
    assert_eq!(
        parsed.warnings,
        [
            "DISCORD_BOT_TOKEN_FIL is not a setting of Roomwire. Did you mean DISCORD_BOT_TOKEN_FILE?",
            "JWT_ISSUR is not a setting of Roomwire. Did you mean JWT_ISSUER?",
            "ROOM_MAX is not a setting of Roomwire. Did you mean ROOMS_MAX?",
        ]
    );
    // Where the right one is missing, the warning says why.
    let Err(Refusal::Wrong(wrong)) = sample(&[], &[("JWT_ISSUR", "x")]) else {
        panic!("not refused")
    };
    assert_eq!((wrong.problems.len(), wrong.warnings.len()), (2, 1));
}

#[test]
fn help_names_every_variable_and_the_command() {
    let Err(Refusal::Help(text)) = sample(&["--help"], &[]) else {
        panic!("no help")
    };
    for name in ["HUB_LISTEN", "DISCORD_BOT_TOKEN_FILE", "ROOMS_MAX", "check"] {
        assert!(text.contains(name), "{name} is not in {text}");
    }
}

/// As Discord makes them, and of nobody.
const BOT_TOKEN: &str = "MTk4NjIyNDgzNDcxOTI1MjQ4.Cl2FMQ.ZnCjm1XVW7vRze4b7Cq4se7kKWs";

#[test]
fn a_secret_in_the_place_of_its_files_name_is_not_shown() {
    for secret in [
        BOT_TOKEN,
        "hunter2",
        "whsec_aHVudGVyMg==",
        "/whsec_aHVudGVyMg==",
        "hunter2/hunter2",
    ] {
        let found = lines(
            &[],
            &[("DISCORD_BOT_TOKEN_FILE", secret), ("JWT_ISSUER", "i")],
        );
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(
            found[0].starts_with("DISCORD_BOT_TOKEN_FILE names no file.")
                && !found[0].contains(secret),
            "{found:?}"
        );
    }
    for path in ["/no/such/file", "./no-such-file", ".", "/"] {
        let found = lines(
            &[],
            &[("DISCORD_BOT_TOKEN_FILE", path), ("JWT_ISSUER", "i")],
        );
        let shown = format!("DISCORD_BOT_TOKEN_FILE is \"{path}\".");
        assert!(found[0].starts_with(&shown), "{found:?}");
    }
}

#[test]
fn a_secret_in_the_place_of_another_setting_is_not_shown() {
    for secret in [
        BOT_TOKEN,
        &format!("Bot {BOT_TOKEN}"),
        "whsec_aHVudGVyMg==",
        "0123456789abcdef0123456789abcdef",
    ] {
        for name in ["HUB_LISTEN", "ROOMS_MAX", "WEB_ORIGIN", "API_URL"] {
            let found = lines(&[], &[&REQUIRED[..], &[(name, secret)]].concat());
            for line in found {
                let line = line.to_lowercase();
                assert!(line.starts_with(&name.to_lowercase()), "{line}");
                for part in secret.split([' ', '.']).filter(|part| part.len() > 3) {
                    assert!(!line.contains(&part.to_lowercase()), "{line}");
                }
            }
        }
    }
}

#[test]
fn a_value_behind_a_misspelled_option_is_not_shown() {
    for args in [
        vec!["--discord-bot-tokn", "hunter"],
        vec!["--discord-bot-tokn", "hunter2"],
        vec!["--discord-bot-tokn=hunter2"],
        vec!["--runs=1", "hunter"],
        vec!["hunter2"],
        vec!["DISCORD_BOT_TOKEN=hunter2"],
        vec!["--list=hunter2"],
        vec!["--runs", "1", "hunter", "2"],
        vec!["-x", "hunter2"],
        vec!["--whsec_hunter"],
    ] {
        let found = lines(&args, &REQUIRED);
        assert!(!found.is_empty());
        assert!(
            !found.iter().any(|line| line.contains("hunter")),
            "{args:?}: {found:?}"
        );
    }
}

#[test]
fn a_setting_of_white_space_alone_is_unset() {
    for blank in [" ", "\t", " \r\n", "\u{a0}"] {
        assert_eq!(
            lines(
                &[],
                &[("JWT_ISSUER", blank), ("DISCORD_BOT_TOKEN_FILE", blank)]
            ),
            [
                "DISCORD_BOT_TOKEN is missing. Set it to the bot's token.",
                "JWT_ISSUER is missing. Set it to the \"iss\" of your tokens.",
            ]
        );
        let defaults = good(
            &["--runs", blank],
            &[
                ("HUB_LISTEN", blank),
                ("ROOMS_MAX", blank),
                ("API_URL", blank),
                ("DISCORD_BOT_TOKEN_FILE", blank),
            ],
        );
        assert_eq!((defaults.rooms_max, defaults.runs), (5, 1));
        assert!(defaults.api_url.is_none());
    }
}
