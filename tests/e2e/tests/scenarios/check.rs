//! `hub check` and `gateway-worker check`: what they find, and that they change nothing.

use std::process::{Child, Command, Stdio};

use e2e::tools::tool;
use serde_json::json;
use world::{ADA, Folder, GUILD, Plan, Process, World, eventually, free_addresses};

const REACH: &[&str] = &["check", "--reach"];
/// The simulator's role of the bot, in its first guild.
const BOT_ROLE: &str = "100000000000000021";
/// What the role needs: View Channels, Manage Channels, Connect.
const NEEDED: u64 = 1 << 10 | 1 << 4 | 1 << 20;

/// Asserts that a program's check has a line that begins so, and ends with this code.
async fn finds(process: &Process, changes: &[(&str, &str)], line: &str, code: i32) {
    let (printed, ended) = process.order(REACH, changes).await;
    assert!(
        printed.lines().any(|printed| printed.starts_with(line)),
        "no line {line:?} with {changes:?}:\n{printed}"
    );
    assert_eq!(ended, Some(code), "{changes:?}:\n{printed}");
}

async fn permit(world: &World, role: &str, permissions: u64) {
    let role = json!({"guildId": GUILD, "roleId": role, "permissions": permissions.to_string()});
    world.control("roles", role).await;
}

#[tokio::test]
async fn a_check_reads_every_setting_and_starts_nothing() {
    let world = World::start().await;
    for process in [&world.hub, &world.worker] {
        // The addresses are taken by the running programs, which a check does not notice.
        let (printed, code) = process.order(&["check"], &[]).await;
        assert_eq!(printed, "ok       settings: every setting can be used\n");
        assert_eq!(code, Some(0));
        let wrong = [
            ("HUB_SECRET", ""),
            ("GUILD_IDS", "one, two"),
            ("PRIMARY_GUILD", GUILD),
            ("LOGLEVEL", "debug"),
        ];
        let (printed, code) = process.order(&["check", "--reach"], &wrong).await;
        let lines: Vec<_> = printed.lines().collect();
        assert_eq!(code, Some(78), "{printed}");
        assert!(
            lines[0].starts_with("wrong    HUB_SECRET is missing. Set it to"),
            "{printed}"
        );
        assert!(
            lines[1].starts_with("wrong    GUILD_IDS contains \"one\"."),
            "{printed}"
        );
        assert!(
            lines[2].starts_with("wrong    GUILD_IDS contains \"two\"."),
            "{printed}"
        );
        assert_eq!(
            lines[3],
            "warning  LOGLEVEL is not a setting of Roomwire. Did you mean LOG_LEVEL?"
        );
        assert_eq!(
            lines[4],
            "warning  --reach: the other systems are not asked before every setting can be used."
        );
        assert_eq!(lines.len(), 5, "{printed}");
    }
}

#[tokio::test]
async fn a_check_that_reaches_finds_a_running_system_in_order_and_leaves_it_so() {
    let world = World::start().await;
    let endpoint = format!("{}/interactions", world.hub_url);
    let hub = [("INTERACTIONS_ENDPOINT_URL", endpoint.as_str())];
    let (printed, code) = world.hub.order(REACH, &hub).await;
    assert_eq!(code, Some(0), "{printed}");
    for line in [
        "ok       settings: every setting can be used".to_owned(),
        format!(
            "ok       key set {}/.well-known/jwks.json: ",
            world.tokens.url
        ),
        "ok       store: a running hub uses it".to_owned(),
        "ok       Discord: it takes DISCORD_BOT_TOKEN".to_owned(),
        "ok       application: the bot belongs to application".to_owned(),
        "ok       interactions: DISCORD_PUBLIC_KEY is the application's".to_owned(),
        "ok       interactions: the endpoint at Discord is INTERACTIONS_ENDPOINT_URL".to_owned(),
        format!("ok       guild {GUILD}: the bot has View Channels, Manage Channels and Connect"),
        format!("ok       guild {GUILD}: it may have slash commands"),
    ] {
        assert!(printed.contains(&line), "{line}\n{printed}");
    }
    let (printed, code) = world.worker.order(REACH, &[]).await;
    assert_eq!(code, Some(0), "{printed}");
    for line in [
        format!(
            "ok       hub {}/api/internal/events: it answers, and takes HUB_SECRET",
            world.internal_url
        ),
        "ok       Discord: it takes DISCORD_BOT_TOKEN".to_owned(),
        "ok       shards: 1, as Discord recommends".to_owned(),
        "ok       identify budget: 1 of 500 identifies are used".to_owned(),
        "ok       gateway ws://".to_owned(),
        format!("ok       guild {GUILD}: the bot is in it"),
    ] {
        assert!(printed.contains(&line), "{line}\n{printed}");
    }
    // No gateway session began, and the worker still has its shard.
    assert_eq!(world.truth().await["counters"]["identify"], 1);
    let mut browser = world.browser("ada").await;
    world.voice(ADA, Some(world::LOUNGE)).await;
    browser.event("voice.joined").await;
}

#[tokio::test]
async fn a_check_that_reaches_names_what_is_wrong_and_what_to_do() {
    let world = World::start().await;
    let (hub, worker) = (&world.hub, &world.worker);
    let dead = [("JWT_PUBLIC_JWK_URL", "http://127.0.0.1:9/jwks.json")];
    finds(
        hub,
        &dead,
        "wrong    key set http://127.0.0.1:9/jwks.json: nothing answers",
        78,
    )
    .await;
    let no_set = format!("{}/nowhere", world.tokens.url);
    let no_set = [("JWT_PUBLIC_JWK_URL", no_set.as_str())];
    finds(hub, &no_set, "wrong    key set", 78).await;
    let token = [("DISCORD_BOT_TOKEN", "another")];
    finds(
        hub,
        &token,
        "wrong    Discord: it refuses DISCORD_BOT_TOKEN (401)",
        78,
    )
    .await;
    finds(
        worker,
        &token,
        "wrong    Discord: Discord refuses the token (401)",
        78,
    )
    .await;
    let away = [("DISCORD_API_URL", "http://127.0.0.1:9")];
    finds(
        hub,
        &away,
        "wrong    Discord: no answer of Discord comes",
        78,
    )
    .await;
    finds(worker, &away, "wrong    Discord: no answer", 78).await;
    let guild = [("GUILD_IDS", "42")];
    finds(hub, &guild, "wrong    guild 42: the bot is not in it", 78).await;
    finds(
        worker,
        &guild,
        "wrong    guild 42: the bot is not in it",
        78,
    )
    .await;
    let endpoint = [(
        "INTERACTIONS_ENDPOINT_URL",
        "https://rooms.example.org/interactions",
    )];
    finds(
        hub,
        &endpoint,
        "wrong    interactions: Discord sends them to",
        78,
    )
    .await;
    let key = [(
        "DISCORD_PUBLIC_KEY",
        "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
    )];
    finds(
        hub,
        &key,
        "wrong    interactions: DISCORD_PUBLIC_KEY is another application's",
        78,
    )
    .await;
    let no_key = [("DISCORD_PUBLIC_KEY", "")];
    finds(
        hub,
        &no_key,
        "warning  interactions: Discord sends interactions to",
        0,
    )
    .await;
    let application = [("DISCORD_APPLICATION_ID", "42")];
    finds(
        hub,
        &application,
        "wrong    application: DISCORD_APPLICATION_ID is 42",
        78,
    )
    .await;
    let shown = [("ROOMS_SHOWN", "42 43")];
    finds(
        hub,
        &shown,
        "warning  ROOMS_SHOWN: the bot sees no such channel in its guilds: 42, 43",
        0,
    )
    .await;
    let store = [("STORE_URL", "sqlite:///dev/null/hub.db")];
    finds(hub, &store, "wrong    store: STORE_URL:", 78).await;

    let secret = [(
        "HUB_SECRET",
        "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=",
    )];
    finds(worker, &secret, "wrong    hub", 78).await;
    let (printed, _) = worker.order(REACH, &secret).await;
    assert!(printed.contains("it refuses HUB_SECRET"), "{printed}");
    let public = format!("{}/api/internal/events", world.hub_url);
    let public = [("HUB_ENDPOINT", public.as_str())];
    finds(worker, &public, "wrong    hub", 78).await;
    let nobody = [("HUB_ENDPOINT", "http://127.0.0.1:9/api/internal/events")];
    finds(
        worker,
        &nobody,
        "wrong    hub http://127.0.0.1:9/api/internal/events: no answer (network)",
        78,
    )
    .await;
    let gateway = [("DISCORD_GATEWAY_URL", "ws://127.0.0.1:9")];
    finds(
        worker,
        &gateway,
        "wrong    gateway ws://127.0.0.1:9/: no answer",
        78,
    )
    .await;
    let budget = [("IDENTIFIES_PER_DAY_MAX", "1")];
    finds(
        worker,
        &budget,
        "wrong    identify budget: 1 of 1 identifies are used",
        78,
    )
    .await;

    // What the bot may do in the guild: @everyone and the bot's own role together.
    permit(&world, GUILD, 0).await;
    for (bit, permission) in [
        (1 << 10, "View Channels"),
        (1 << 4, "Manage Channels"),
        (1 << 20, "Connect"),
    ] {
        permit(&world, BOT_ROLE, NEEDED & !bit).await;
        let line = format!("wrong    guild {GUILD}: the bot lacks {permission}: ");
        finds(hub, &[], &line, 78).await;
    }
    permit(&world, BOT_ROLE, NEEDED).await;
    let deny = json!({"overwrites": [{"id": BOT_ROLE, "type": "role", "allow": "0", "deny": (1 << 20).to_string()}]});
    world.change_channel(world::LOUNGE, deny).await;
    let line = format!(
        "warning  guild {GUILD}: Connect is denied to the bot in {}",
        world::LOUNGE
    );
    finds(hub, &[], &line, 0).await;
}

#[tokio::test]
async fn no_outbound_proxy_is_used_whatever_the_environment_says() {
    const PROXIES: &[(&str, &str)] = &[
        ("HTTP_PROXY", "http://127.0.0.1:9"),
        ("HTTPS_PROXY", "http://127.0.0.1:9"),
        ("ALL_PROXY", "http://127.0.0.1:9"),
        ("http_proxy", "http://127.0.0.1:9"),
        ("https_proxy", "http://127.0.0.1:9"),
        ("all_proxy", "socks5://127.0.0.1:9"),
    ];
    // It starts only if the hub gets its keys and the worker gets to Discord, its gateway and the hub.
    let world = World::of(Plan {
        hub: PROXIES,
        worker: PROXIES,
        ..Plan::default()
    })
    .await;
    let (printed, code) = world.hub.order(REACH, &[]).await;
    assert_eq!(code, Some(0), "{printed}");
    let (printed, code) = world.worker.order(REACH, &[]).await;
    assert_eq!(code, Some(0), "{printed}");
}

/// `openssl s_server`, serving the files of a folder over https. Dropping it ends it.
struct Https(Child);

impl Drop for Https {
    fn drop(&mut self) {
        let _killed = self.0.kill();
        let _ended = self.0.wait();
    }
}

#[tokio::test]
async fn a_private_authority_is_trusted_if_ssl_cert_file_or_ssl_cert_dir_names_it() {
    let Some(openssl) = tool("openssl") else {
        return;
    };
    let world = World::start().await;
    let folder = Folder::new();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let set = format!("{}/.well-known/jwks.json", world.tokens.url);
    let set = reqwest::get(set).await.unwrap().text().await.unwrap();
    std::fs::write(path("jwks.json"), set).unwrap();
    let request = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 1 \
                   -subj /CN=localhost -addext subjectAltName=DNS:localhost \
                   -addext basicConstraints=critical,CA:FALSE";
    let made = Command::new(&openssl)
        .args(request.split_whitespace())
        .args(["-keyout", &path("key.pem"), "-out", &path("authority.pem")])
        .output()
        .unwrap();
    assert!(made.status.success(), "{made:?}");
    std::fs::create_dir(path("authorities")).unwrap();
    std::fs::copy(path("authority.pem"), path("authorities/own.pem")).unwrap();
    let hashed = Command::new(&openssl)
        .args(["rehash", &path("authorities")])
        .output()
        .unwrap();
    assert!(hashed.status.success(), "{hashed:?}");
    let [address] = free_addresses();
    let server = Command::new(openssl)
        .current_dir(folder.path())
        .args(["s_server", "-quiet", "-WWW", "-accept", &address])
        .args(["-cert", "authority.pem", "-key", "key.pem"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let _server = Https(server);
    eventually("the server listens", || async {
        tokio::net::TcpStream::connect(&address).await.ok()
    })
    .await;
    let url = format!(
        "https://{}/jwks.json",
        address.replace("127.0.0.1", "localhost")
    );
    let key_set = ("JWT_PUBLIC_JWK_URL", url.as_str());
    let (ok, wrong) = (
        format!("ok       key set {url}"),
        format!("wrong    key set {url}"),
    );
    finds(&world.hub, &[key_set], &wrong, 78).await;
    let file = path("authority.pem");
    let file = [key_set, ("SSL_CERT_FILE", file.as_str())];
    finds(&world.hub, &file, &ok, 0).await;
    let directory = path("authorities");
    let directory = [key_set, ("SSL_CERT_DIR", directory.as_str())];
    finds(&world.hub, &directory, &ok, 0).await;
}
