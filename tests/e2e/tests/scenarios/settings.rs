//! A missing or wrong setting ends a program with code 78 and one line that names it.

use e2e::{Process, SECRET};

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
    let lines = e2e::eventually("the line is read", || async {
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
async fn a_missing_setting_is_named() {
    for (program, good, required) in [("hub", HUB, 7), ("gateway-worker", WORKER, 3)] {
        let needed = good.iter().filter(|(name, _)| !name.ends_with("LISTEN"));
        assert_eq!(needed.clone().count(), required);
        for (name, _) in needed {
            refuses(program, good, name, "").await;
        }
    }
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
        ("gateway-worker", WORKER, "GUILD_IDS", "1,,2"),
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
    e2e::eventually("the address is named", || async {
        hub.log().contains(&address).then_some(())
    })
    .await;
}
