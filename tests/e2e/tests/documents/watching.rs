//! What `deploy/` has for Prometheus and Grafana.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::Command;

use e2e::tools::{checkout, tool};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use world::{ADA, Browser, Ended, Folder, LOUNGE, World};

const RULES: &str = "deploy/prometheus/rules.yml";

/// Runs promtool in a folder of the checkout; `None` if it is not installed.
fn promtool(folder: &Path, arguments: &[&str]) -> Option<()> {
    let run = Command::new(tool("promtool")?)
        .args(arguments)
        .current_dir(folder)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&[run.stdout, run.stderr].concat()).into_owned();
    assert!(run.status.success(), "{arguments:?}: {said}");
    Some(())
}

/// The dashboards, by file.
fn dashboards() -> BTreeMap<String, Value> {
    let folder = checkout().join("deploy/grafana");
    let files = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let files = files.filter(|path| path.extension().is_some_and(|of| of == "json"));
    let read = |path: std::path::PathBuf| {
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        (
            name,
            serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap(),
        )
    };
    files.map(read).collect()
}

/// The panels that show something, of a dashboard.
fn panels(dashboard: &Value) -> impl Iterator<Item = &Value> {
    let panels = dashboard["panels"].as_array().into_iter().flatten();
    panels.filter(|panel| panel["type"] != "row")
}

/// The queries of all dashboards, as Prometheus would get them.
fn queries() -> Vec<String> {
    let dashboards = dashboards();
    let panels = dashboards.values().flat_map(panels);
    let targets = panels.flat_map(|panel| panel["targets"].as_array().into_iter().flatten());
    targets
        .map(|target| {
            target["expr"]
                .as_str()
                .unwrap()
                .replace("$__rate_interval", "5m")
        })
        .collect()
}

#[test]
fn promtool_accepts_the_rules_and_each_alert_fires_on_what_it_is_for() {
    let folder = checkout().join("deploy/prometheus");
    let _ran = promtool(&folder, &["check", "config", "prometheus.yml"])
        .and_then(|()| promtool(&folder, &["check", "rules", "rules.yml"]))
        .and_then(|()| promtool(&folder, &["test", "rules", "rules.test.yml"]));
    // Each alert is named by a test of it.
    let rules = fs::read_to_string(checkout().join(RULES)).unwrap();
    let tests = fs::read_to_string(folder.join("rules.test.yml")).unwrap();
    let alerts = rules
        .lines()
        .filter_map(|line| line.trim().strip_prefix("- alert: "));
    let mut count = 0;
    for alert in alerts {
        let tested = tests.contains(alert) || alert.ends_with("Slow");
        assert!(tested, "{alert} has no test in rules.test.yml");
        count += 1;
    }
    assert!(count >= 6, "{count} alerts");
}

#[test]
fn every_panel_of_a_dashboard_has_a_valid_query_on_the_chosen_data_source() {
    for (file, dashboard) in dashboards() {
        let variables = dashboard["templating"]["list"].as_array().unwrap();
        assert!(
            variables
                .iter()
                .any(|one| one["type"] == "datasource" && one["name"] == "datasource"),
            "{file}"
        );
        let mut ids = BTreeSet::new();
        for panel in panels(&dashboard) {
            let title = panel["title"].as_str().unwrap();
            assert!(
                ids.insert(panel["id"].as_u64().unwrap()),
                "{file}: {title}: id"
            );
            assert!(
                panel["description"]
                    .as_str()
                    .is_some_and(|text| text.ends_with('.')),
                "{file}: {title}"
            );
            assert!(
                panel["fieldConfig"]["defaults"]["unit"].is_string(),
                "{file}: {title}"
            );
            let targets = panel["targets"].as_array().unwrap();
            assert!(!targets.is_empty(), "{file}: {title}");
            for source in targets.iter().chain([panel]).map(|one| &one["datasource"]) {
                assert_eq!(
                    *source,
                    json!({ "type": "prometheus", "uid": "${datasource}" }),
                    "{title}"
                );
            }
        }
        assert!(ids.len() > 10, "{file}: {} panels", ids.len());
    }
    // As rules, promtool parses them.
    let rules = queries()
        .into_iter()
        .enumerate()
        .map(|(index, query)| json!({ "record": format!("panel:{index}"), "expr": query }));
    let rules: Vec<Value> = rules.collect();
    let file = json!({ "groups": [{ "name": "panels", "rules": rules }] });
    let folder = Folder::new();
    fs::write(folder.path().join("panels.yml"), file.to_string()).unwrap();
    let _ran = promtool(folder.path(), &["check", "rules", "panels.yml"]);
}

/// The names of our metrics in a text.
fn metrics_in(text: &str) -> BTreeSet<&str> {
    text.split(|one: char| !one.is_ascii_alphanumeric() && one != '_')
        .filter(|word| {
            ["hub_", "worker_", "process_"]
                .iter()
                .any(|prefix| word.starts_with(prefix))
        })
        .collect()
}

#[tokio::test]
async fn every_metric_of_the_dashboards_and_alerts_is_in_a_scrape_of_the_running_programs() {
    let world = World::start().await;
    let mut browser = world.browser("ada").await;
    world.voice(ADA, Some(LOUNGE)).await;
    browser.event("voice.joined").await;
    let (claims, room) = (json!({ "sub": "ada" }), json!({ "name": "Board games" }));
    let (status, created) = world
        .rest(Method::POST, "/api/create-room", claims, Some(room))
        .await;
    assert_eq!(status, StatusCode::CREATED, "{created}");
    let mut refused = Browser::open(&world.hub_url).await;
    refused
        .send(&json!({ "type": "auth", "token": "none" }))
        .await;
    assert_eq!(refused.end().await, Ended::Closed(4401));

    let scrapes = world.scrapes().await;
    let mut exported: BTreeSet<&str> = scrapes.iter().flat_map(|scrape| scrape.names()).collect();
    // A text may name a histogram as a whole.
    exported.extend(
        scrapes
            .iter()
            .flat_map(|scrape| scrape.families.keys().map(String::as_str)),
    );
    let rules = fs::read_to_string(checkout().join(RULES)).unwrap();
    let queries = queries().join("\n");
    for (source, text) in [(RULES, &rules), ("deploy/grafana", &queries)] {
        let named = metrics_in(text);
        assert!(named.len() > 8, "{source}: {named:?}");
        for name in named {
            assert!(exported.contains(name), "{source}: {name} is in no scrape");
        }
    }
}
