//! What a scrape of the running programs shows.

use std::io::Write as _;
use std::process::{Command, Stdio};

use e2e::tools::tool;
use reqwest::{Method, StatusCode};
use serde_json::json;
use world::{ADA, LOUNGE, Scrape, World, eventually};

/// A world in which most metrics have something to show.
async fn busy_world() -> World {
    let world = World::start().await;
    let mut browser = world.browser("ada").await;
    world.voice(ADA, Some(LOUNGE)).await;
    browser.event("voice.joined").await;
    let claims = json!({ "sub": "ada" });
    let room = json!({ "name": "Board games" });
    let (status, created) = world
        .rest(Method::POST, "/api/create-room", claims, Some(room))
        .await;
    assert_eq!(status, StatusCode::CREATED, "{created}");
    let (status, _) = world
        .rest_with(Method::GET, "/api/rooms", "no-token", None)
        .await;
    assert_eq!(status, StatusCode::UNAUTHORIZED);
    world
}

#[tokio::test]
async fn every_metric_of_a_scrape_has_help_type_and_a_name_by_prometheus_conventions() {
    let world = busy_world().await;
    for (scrape, program) in world.scrapes().await.iter().zip(["hub", "worker"]) {
        for (name, family) in &scrape.families {
            let kind = family.kind.as_deref().unwrap_or_default();
            assert!(
                family.help.as_ref().is_some_and(|help| help.len() > 10),
                "{name} has no HELP: add it to the program's metrics.rs"
            );
            assert!(
                ["counter", "gauge", "histogram", "summary"].contains(&kind),
                "{name}: {kind:?}"
            );
            assert_eq!(
                name.ends_with("_total"),
                kind == "counter",
                "{name}: {kind}"
            );
            assert!(!family.samples.is_empty(), "{name}");
            assert!(
                name.starts_with(&format!("{program}_")) || name.starts_with("process_"),
                "{name}"
            );
            let has = |suffix: &str| {
                let samples = &mut family.samples.iter();
                samples.any(|(sample, ..)| sample == &format!("{name}{suffix}"))
            };
            let is_histogram = kind == "histogram";
            assert!(!is_histogram || has("_bucket"), "{name}");
            assert!(
                kind != "summary" && !is_histogram || has("_sum") && has("_count"),
                "{name}"
            );
        }
        for name in [
            "process_cpu_seconds_total",
            "process_max_fds",
            "process_open_fds",
            "process_resident_memory_bytes",
            "process_start_time_seconds",
            "process_threads",
            "process_virtual_memory_bytes",
        ] {
            assert!(scrape.families.contains_key(name), "{program}: {name}");
        }
        let version = format!("version=\"{}\"", env!("CARGO_PKG_VERSION"));
        assert_eq!(
            scrape.sum(&format!("{program}_build_info"), &[&version]),
            1.0
        );
        assert!(scrape.sum("process_resident_memory_bytes", &[]) > 1e6);
    }
}

#[tokio::test]
async fn promtool_finds_nothing_to_complain_of_in_a_scrape() {
    let Some(promtool) = tool("promtool") else {
        return;
    };
    let world = busy_world().await;
    for url in [&world.internal_url, &world.worker_url] {
        let text = world.scraped(url).await;
        let mut check = Command::new(&promtool)
            .args(["check", "metrics"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut input = check.stdin.take().unwrap();
        input.write_all(text.as_bytes()).unwrap();
        drop(input);
        let checked = check.wait_with_output().unwrap();
        let said = [checked.stdout, checked.stderr].concat();
        let said = String::from_utf8_lossy(&said);
        assert!(checked.status.success() && said.is_empty(), "{url}: {said}");
    }
}

#[tokio::test]
async fn http_requests_are_counted_by_listener_route_and_status() {
    let world = busy_world().await;
    let (status, _) = world
        .rest(Method::GET, "/api/rooms/1", json!({ "sub": "ada" }), None)
        .await;
    let [hub, worker] = world.scrapes().await;
    let count = |labels: &[&str]| hub.sum("hub_http_requests_total", labels);
    let public = "listener=\"public\"";
    assert_eq!(
        count(&[public, "route=\"/api/rooms\"", "status=\"401\""]),
        1.0
    );
    assert_eq!(
        count(&[
            public,
            "route=\"/api/create-room\"",
            "method=\"POST\"",
            "status=\"201\""
        ]),
        1.0
    );
    assert_eq!(count(&[public, "route=\"/api/ws\"", "status=\"101\""]), 1.0);
    let one = format!("status=\"{}\"", status.as_u16());
    assert_eq!(
        count(&[public, "route=\"/api/rooms/{channel}\"", &one]),
        1.0
    );
    assert!(
        count(&[
            "listener=\"internal\"",
            "route=\"/api/internal/events\"",
            "status=\"200\""
        ]) >= 1.0
    );
    let timed = [
        "listener=\"public\"",
        "route=\"/api/create-room\"",
        "le=\"+Inf\"",
    ];
    assert_eq!(hub.sum("hub_http_request_seconds_bucket", &timed), 1.0);
    let ready = ["route=\"/readyz\"", "status=\"200\""];
    assert!(worker.sum("worker_http_requests_total", &ready) >= 1.0);
}

#[tokio::test]
async fn a_client_cannot_choose_a_label_of_any_metric() {
    let world = busy_world().await;
    let series = |scrape: &Scrape| -> usize {
        let requests = ["hub_http_requests_total", "hub_http_request_seconds"];
        requests
            .iter()
            .map(|name| scrape.families[*name].samples.len())
            .sum()
    };
    let ask = async |word: usize| {
        let url = format!("{}/canary-path-{word}?canary-query={word}", world.hub_url);
        let method = Method::from_bytes(format!("CANARY{word}").as_bytes()).unwrap();
        let request = world
            .http
            .request(method, url)
            .bearer_auth(format!("canary-token-{word}"))
            .header("origin", format!("https://canary-{word}.example"))
            .header("user-agent", format!("canary-{word}"));
        request.send().await.unwrap();
        let path = format!("/api/rooms/canary-{word}");
        let (status, _) = world.rest_with(Method::GET, &path, "canary", None).await;
        assert!(status.is_client_error(), "{status}");
        // The internal listener, and the worker's: also for a client that reaches them.
        for url in [&world.internal_url, &world.worker_url] {
            let url = format!("{url}/canary-{word}");
            world.http.get(url).send().await.unwrap();
        }
    };
    // The first request and a scrape create every series of these requests.
    ask(0).await;
    let _first = world.scrapes().await;
    let [before, _] = world.scrapes().await;
    for word in 1..=30 {
        ask(word).await;
    }
    let [after, _] = world.scrapes().await;
    for url in [&world.internal_url, &world.worker_url] {
        let text = world.scraped(url).await.to_lowercase();
        assert!(!text.contains("canary"), "{text}");
    }
    assert_eq!(series(&after), series(&before));
    let unmatched = [
        "listener=\"public\"",
        "route=\"unmatched\"",
        "method=\"other\"",
    ];
    assert_eq!(after.sum("hub_http_requests_total", &unmatched), 31.0);
}

#[tokio::test]
async fn an_event_counts_once_in_the_histogram_of_its_age_however_many_watch() {
    let world = World::start().await;
    let mut browsers = Vec::new();
    for sub in ["ada", "grace", "alan"] {
        browsers.push(world.browser(sub).await);
    }
    let age = |scrape: &Scrape| {
        let sum = |part: &str| scrape.sum(&format!("hub_event_seconds_{part}"), &[]);
        (sum("count"), sum("sum"))
    };
    let (before, _) = age(&world.scrapes().await[0]);
    world.voice(ADA, Some(LOUNGE)).await;
    for browser in &mut browsers {
        browser.event("voice.joined").await;
    }
    let (count, sum) = age(&world.scrapes().await[0]);
    assert_eq!(count, before + 1.0);
    assert!(sum < 60.0, "{sum} s");
}

#[tokio::test]
async fn a_guild_that_is_not_live_and_a_checkpoint_that_ages_show_in_a_scrape() {
    let mut world = World::start().await;
    let guild = format!("guild=\"{}\"", world::GUILD);
    let [hub, worker] = world.scrapes().await;
    assert_eq!(hub.sum("hub_guild_live", &[&guild]), 1.0);
    assert_eq!(hub.sum("hub_guilds", &["state=\"live\""]), 1.0);
    let age = worker.sum("worker_checkpoint_age_seconds", &["shard=\"0\""]);
    assert!(
        worker
            .families
            .contains_key("worker_checkpoint_age_seconds")
    );
    assert!(age < 20.0, "{age} s");

    // Nothing is acknowledged any more.
    world.hub.kill().await;
    eventually("the checkpoint ages", || async {
        let scrape = Scrape::read(&world.scraped(&world.worker_url).await);
        let now = scrape.sum("worker_checkpoint_age_seconds", &["shard=\"0\""]);
        (now > age + 4.0).then_some(())
    })
    .await;
    world.hub = world.hub.again();
    eventually("the checkpoint is current again", || async {
        let scrape = Scrape::read(&world.scraped(&world.worker_url).await);
        (scrape.sum("worker_checkpoint_age_seconds", &["shard=\"0\""]) < 3.5).then_some(())
    })
    .await;

    world.worker.kill().await;
    eventually("the guild is not live", || async {
        let scrape = Scrape::read(&world.scraped(&world.internal_url).await);
        let down = scrape.sum("hub_guilds", &["state=\"down\""]);
        (scrape.sum("hub_guild_live", &[&guild]) == 0.0 && down == 1.0).then_some(())
    })
    .await;
}

#[tokio::test]
async fn metrics_and_readiness_are_not_on_the_public_listener() {
    let world = World::start().await;
    for path in ["/metrics", "/readyz", "/healthz", "/api/internal/events"] {
        let url = format!("{}{path}", world.hub_url);
        let answer = world.http.get(url).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::NOT_FOUND, "{path}");
    }
    let url = format!("{}/health", world.hub_url);
    let health = world.http.get(url).send().await.unwrap();
    assert_eq!(health.text().await.unwrap(), r#"{"status":"ok"}"#);
}
