//! Wrong settings end a program with code 78 and one line for each.

use std::collections::BTreeSet;
use std::path::Path;

use world::{Process, SECRET};

const HUB: &[(&str, &str)] = &[
    ("HUB_LISTEN", "127.0.0.1:0"),
    ("INTERNAL_LISTEN", "127.0.0.1:0"),
    ("HUB_SECRET", SECRET),
    ("JWT_ISSUER", "http://127.0.0.1:9"),
    ("JWT_AUDIENCE", "roomwire"),
    ("JWT_PUBLIC_JWK_URL", "http://127.0.0.1:9/jwks.json"),
    ("WEB_ORIGIN", "http://127.0.0.1:3000"),
    ("PRIMARY_GUILD_ID", "1"),
    ("DISCORD_BOT_TOKEN", "hunter2-token"),
];
const WORKER: &[(&str, &str)] = &[
    ("HUB_SECRET", SECRET),
    ("PRIMARY_GUILD_ID", "1"),
    ("DISCORD_BOT_TOKEN", "hunter2-token"),
    ("WORKER_LISTEN", "127.0.0.1:0"),
];
const SIM: &[(&str, &str)] = &[("SIM_LISTEN", "127.0.0.1:0")];
const ISSUER: &[(&str, &str)] = &[("ISSUER_LISTEN", "127.0.0.1:0")];

async fn refuses(program: &str, good: &[(&str, &str)], name: &str, value: &str) {
    let mut settings: Vec<_> = good
        .iter()
        .copied()
        .filter(|(known, _)| *known != name)
        .collect();
    if !value.is_empty() {
        settings.push((name, value));
    }
    let mut process = Process::start(program, &settings);
    let status = process.exit().await;
    let lines = world::eventually("the line is read", || async {
        let log = process.log();
        (!log.is_empty()).then_some(log)
    })
    .await;
    assert_eq!(status.code(), Some(78), "{program} {name}={value}: {lines}");
    assert_eq!(lines.lines().count(), 1, "{lines}");
    assert!(lines.contains(name), "{lines}");
    assert!(!lines.contains("hunter2"), "{lines}");
}

#[tokio::test]
async fn a_wrong_setting_is_named() {
    for (program, good, name, value) in [
        ("hub", HUB, "HUB_SECRET", "hunter2"),
        ("hub", HUB, "JWT_PUBLIC_JWK_URL", "http://example.org/keys"),
        ("hub", HUB, "WEB_ORIGIN", "*"),
        ("hub", HUB, "ROOMS_SHOWN", "everything"),
        ("hub", HUB, "DISCORD_PUBLIC_KEY", "00"),
        ("hub", HUB, "HUB_LISTEN", "here"),
        ("hub", HUB, "LOG_FORMAT", "xml"),
        ("hub", HUB, "JWT_BYTES_MAX", "8193"),
        ("hub", HUB, "UNAUTHENTICATED_MESSAGE_BYTES_MAX", "4096"),
        ("gateway-worker", WORKER, "SHARD_COUNT", "0"),
        ("gateway-worker", WORKER, "HUB_ENDPOINT", "nowhere"),
        ("gateway-worker", WORKER, "GUILD_IDS", "1,x"),
        ("discord-sim", SIM, "SIM_SESSION_TTL_S", "soon"),
        ("discord-sim", SIM, "SIM_LISTEN", "0.0.0.0:0"),
        ("dev-issuer", ISSUER, "ISSUER_LISTEN", "0.0.0.0:0"),
    ] {
        refuses(program, good, name, value).await;
    }
}

#[tokio::test]
async fn a_taken_port_is_named() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let mut settings: Vec<_> = HUB
        .iter()
        .copied()
        .filter(|(name, _)| *name != "HUB_LISTEN")
        .collect();
    settings.push(("HUB_LISTEN", &address));
    let mut hub = Process::start("hub", &settings);
    assert_eq!(hub.exit().await.code(), Some(1));
    world::eventually("the address is named", || async {
        hub.log().contains(&address).then_some(())
    })
    .await;
}

/// What a program that ends prints with these settings, and its exit code.
fn printed(program: &str, settings: &[(&str, &str)]) -> (String, Option<i32>) {
    let output = std::process::Command::new(world::program(program))
        .env_clear()
        .envs(settings.iter().copied())
        .output()
        .unwrap();
    let lines = String::from_utf8(output.stderr).unwrap();
    (lines, output.status.code())
}

#[test]
fn every_problem_of_a_start_is_a_line_of_its_own() {
    let settings = [
        ("HUB_SECRET", "hunter2"),
        ("JWT_PUBLIC_JWK_URL", "login.example.org/keys"),
        (
            "WEB_ORIGIN",
            "https://*.example.org https://rooms.example.org/",
        ),
        ("JWT_ISSUR", "https://login.example.org"),
        ("HEADER_TIMEOUT_MS", "10s"),
        ("HUB_LISTEN", "127.0.0.1:3000"),
        ("INTERNAL_LISTEN", "127.0.0.1:3000"),
    ];
    let (lines, code) = printed("hub", &settings);
    assert_eq!(code, Some(78), "{lines}");
    let expected = [
        "HUB_SECRET has a wrong value, which is not shown. Each secret must be whsec_ and base64 behind it.",
        "JWT_ISSUER is missing. Set it to the \"iss\" of your tokens.",
        "JWT_AUDIENCE is missing. Set it to the \"aud\" of your tokens.",
        "JWT_PUBLIC_JWK_URL is \"login.example.org/keys\". The scheme is missing. Write https://login.example.org/keys.",
        "WEB_ORIGIN contains \"https://*.example.org\". A wildcard is not an origin: origins are compared letter by letter. List each origin, as in https://a.example.org,https://b.example.org.",
        "WEB_ORIGIN contains \"https://rooms.example.org/\". An origin has no slash at its end. Write https://rooms.example.org.",
        "PRIMARY_GUILD_ID is missing. Set it to the id of your Discord server.",
        "DISCORD_BOT_TOKEN is missing. Set it to the token on the page Bot of your application at Discord.",
        "HEADER_TIMEOUT_MS is \"10s\". It must be a whole number from 1 to 604800000, in milliseconds. Write digits alone: no unit, no separators.",
        "HUB_LISTEN and INTERNAL_LISTEN are both 127.0.0.1:3000. Give each a port of its own.",
        "warning: JWT_ISSUR is not a setting of Roomwire. Did you mean JWT_ISSUER?",
    ];
    let found: BTreeSet<_> = lines.lines().collect();
    for line in expected {
        assert!(
            found.contains(format!("configuration: {line}").as_str()),
            "{line}\n{lines}"
        );
    }
    assert_eq!(found.len(), expected.len(), "{lines}");
}

#[test]
fn no_words_of_a_library_reach_the_operator() {
    /// What the standard library, clap, serde and the url crate say to programmers.
    const FOREIGN: &str = "relative URL|invalid digit|is not in|invalid socket|too large to fit|\
        without a base|empty host|invalid port|invalid value|provided string|parse|expected|\
        os error|No such file|invalid type|at line|EOF";
    let names = include_str!("../../../../launch/src/settings/names.txt");
    let secret_files = ["HUB_SECRET_FILE", "DISCORD_BOT_TOKEN_FILE"];
    let names = names.lines().filter(|name| !secret_files.contains(name));
    for value in [
        "x y",
        "-1",
        "1_000",
        "10s",
        "99999999999999999999999",
        "http://",
        "https://[",
        "://",
        "*",
        "\u{e9}",
        "https://a:b@c",
        "1.5",
        "none",
        "#",
        "[",
        "true",
    ] {
        let settings: Vec<_> = names.clone().map(|name| (name, value)).collect();
        for program in ["hub", "gateway-worker"] {
            let (lines, code) = printed(program, &settings);
            assert!(code == Some(78) && lines.lines().count() > 10, "{lines}");
            for line in lines.lines() {
                let said = line.strip_prefix("configuration: ").unwrap();
                let name = said.split(' ').next().unwrap();
                assert!(names.clone().any(|known| known == name), "{line}");
                assert!(said.ends_with('.'), "{line}");
                assert!(
                    !FOREIGN.split('|').any(|words| said.contains(words)),
                    "{line}"
                );
            }
        }
    }
}

#[tokio::test]
async fn a_variable_that_looks_like_a_setting_is_warned_about_at_every_start() {
    for (program, good) in [
        ("hub", HUB),
        ("gateway-worker", WORKER),
        ("discord-sim", SIM),
        ("dev-issuer", ISSUER),
    ] {
        let mut settings = good.to_vec();
        settings.extend([
            ("STORE_URL", "memory:"),
            // Of another program, and so no warning.
            ("SIM_QUIET", "1"),
            ("ISSUER_GENERATIONS_KEPT", "1"),
            ("LOGLEVEL", "debug"),
            ("GUILD_ID", "1"),
            ("HOME", "/"),
        ]);
        let mut process = Process::start(program, &settings);
        world::eventually("the warnings", || async {
            let log = process.log();
            let said = log
                .contains("LOGLEVEL is not a setting of Roomwire. Did you mean LOG_LEVEL?")
                && log.contains("GUILD_ID is not a setting of Roomwire. Did you mean GUILD_IDS?");
            said.then_some(())
        })
        .await;
        assert_eq!(
            process.log().matches("is not a setting").count(),
            2,
            "{}",
            process.log()
        );
        process.kill().await;
    }
}

#[test]
fn the_known_settings_are_those_of_all_programs() {
    let mut names = BTreeSet::new();
    for program in [
        "hub",
        "gateway-worker",
        "discord-sim",
        "dev-issuer",
        "chaos",
        "load",
    ] {
        let help = std::process::Command::new(world::program(program))
            .arg("--help")
            .output()
            .unwrap();
        let help = String::from_utf8(help.stdout).unwrap();
        // A long name may stand on the next line.
        let help = help.split_whitespace().collect::<Vec<_>>().join(" ");
        for part in help.split("[env: ").skip(1) {
            let names_here = part.split(']').next().unwrap();
            names.extend(names_here.split(" or ").map(str::to_owned));
        }
    }
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../launch/src/settings/names.txt");
    let file = std::fs::read_to_string(file).unwrap();
    let known: BTreeSet<String> = file.lines().map(str::to_owned).collect();
    assert_eq!(known, names, "run `node docs/settings.mjs`");
}
