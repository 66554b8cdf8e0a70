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
    #[arg(long, env = "DISCORD_BOT_TOKEN", hide_env_values = true, value_parser = Secret::visible_ascii)]
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
fn an_option_beats_a_variable_and_a_variable_beats_the_default() {
    let one = good(&[], &[("HUB_LISTEN", "127.0.0.1:1")]);
    assert_eq!(one.hub_listen.port(), 1);
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
fn a_list_may_be_given_in_parts_and_its_equal_items_count_once() {
    let (a, b, c) = (
        "https://a.example",
        "https://b.example",
        "https://c.example",
    );
    let both = good(&[], &[("WEB_ORIGIN", &format!("{a},\n {b} {a},\n"))]);
    assert_eq!(both.web_origin, [a, b]);
    let parts = good(&[&format!("--web-origin={a} {b}"), "--web-origin", c], &[]);
    assert_eq!(parts.web_origin, [a, b, c]);
    assert!(good(&[], &[("WEB_ORIGIN", " , ")]).web_origin.is_empty());
}

#[test]
fn a_value_in_quotation_marks_is_refused_as_such() {
    let quoted = line(&[("API_URL", "\"https://example.org\"")]);
    let words = "API_URL begins and ends with a quotation mark.";
    assert!(quoted.starts_with(words), "{quoted}");
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
    let empty = lines(&[], &of_file).remove(0);
    let words = "That file is empty. Write the secret into it.";
    assert!(empty.ends_with(words), "{empty}");
    std::fs::remove_file(&path).unwrap();
    let missing = lines(&[], &of_file).remove(0);
    let words = "That file does not exist. Create it, or name another one.";
    assert!(missing.ends_with(words), "{missing}");
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
    for (line, words) in [
        (
            "--hub-listn=x",
            "\"--hub-listn\" is not an option. Did you mean --hub-listen?",
        ),
        ("start", "\"start\" is not a command."),
        ("--hub-listen", "--hub-listen has no value."),
        ("--runs=1 --runs=2", "--runs is given twice. Keep one."),
        ("--runs=1 check", "check stands in the wrong place."),
    ] {
        let args: Vec<_> = line.split(' ').collect();
        let found = lines(&args, &REQUIRED);
        assert!(
            found.len() == 1 && found[0].starts_with(words),
            "{line}: {found:?}"
        );
    }
}

#[test]
fn a_misspelled_variable_of_this_program_is_named_with_the_setting_that_was_probably_meant() {
    let misspelled = [("DISCORD_BOT_TOKEN_FIL", "/x"), ("ROOM_MAX", "3")];
    let parsed = sample(&[], &[REQUIRED, misspelled].concat()).unwrap();
    assert_eq!(
        parsed.warnings,
        [
            "DISCORD_BOT_TOKEN_FIL is not a setting of Roomwire. Did you mean DISCORD_BOT_TOKEN_FILE?",
            "ROOM_MAX is not a setting of Roomwire. Did you mean ROOMS_MAX?",
        ]
    );
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
    let of_file = |path: &str| {
        let found = lines(
            &[],
            &[("DISCORD_BOT_TOKEN_FILE", path), ("JWT_ISSUER", "i")],
        );
        assert_eq!(found.len(), 1, "{found:?}");
        found[0].clone()
    };
    for secret in [
        BOT_TOKEN,
        "hunter2",
        "whsec_aHVudGVyMg==",
        "/whsec_aHVudGVyMg==",
        "hunter2/hunter2",
    ] {
        let line = of_file(secret);
        assert!(line.starts_with("DISCORD_BOT_TOKEN_FILE names no file."));
        assert!(!line.contains(secret), "{line}");
    }
    for path in ["/no/such/file", "./no-such-file", ".", "/"] {
        let shown = format!("DISCORD_BOT_TOKEN_FILE is \"{path}\".");
        assert!(of_file(path).starts_with(&shown), "{path}");
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
            for line in lines(&[], &[&REQUIRED[..], &[(name, secret)]].concat()) {
                assert!(line.starts_with(name), "{line}");
                let mut parts = secret.split([' ', '.']).filter(|part| part.len() > 3);
                assert!(!parts.any(|part| line.contains(part)), "{line}");
            }
        }
    }
}

#[test]
fn a_value_behind_a_misspelled_option_is_not_shown() {
    for line in [
        "--discord-bot-tokn hunter",
        "--discord-bot-tokn hunter2",
        "--discord-bot-tokn=hunter2",
        "--runs=1 hunter",
        "hunter2",
        "DISCORD_BOT_TOKEN=hunter2",
        "--list=hunter2",
        "--runs 1 hunter 2",
        "-x hunter2",
        "--whsec_hunter",
    ] {
        let args: Vec<_> = line.split(' ').collect();
        let found = lines(&args, &REQUIRED);
        let is_shown = found.iter().any(|line| line.contains("hunter"));
        assert!(!found.is_empty() && !is_shown, "{line}: {found:?}");
    }
}

#[test]
fn a_setting_that_is_empty_or_white_space_alone_is_unset() {
    for blank in ["", " ", "\t", " \r\n", "\u{a0}"] {
        let secrets = [("JWT_ISSUER", blank), ("DISCORD_BOT_TOKEN_FILE", blank)];
        assert_eq!(lines(&[], &secrets).len(), 2, "{blank:?}");
        let others = [
            "HUB_LISTEN",
            "ROOMS_MAX",
            "API_URL",
            "DISCORD_BOT_TOKEN_FILE",
        ];
        let defaults = good(&["--runs", blank], &others.map(|name| (name, blank)));
        assert_eq!((defaults.rooms_max, defaults.runs), (5, 1));
        assert!(defaults.api_url.is_none());
    }
}
