//! The reverse proxy of docs/operations.md, "Behind a proxy".

use std::fs;
use std::process::Command;

use e2e::Nginx;
use e2e::documents::block;
use e2e::nginx::{replaced, write_configuration};
use e2e::tools::tool;
use reqwest::{Method, StatusCode};
use serde_json::json;
use world::{Browser, Folder, LOUNGE, World, free_addresses};

#[test]
fn nginx_accepts_the_documented_configuration_as_it_is_written() {
    let (Some(nginx), Some(openssl)) = (tool("nginx"), tool("openssl")) else {
        return;
    };
    let folder = Folder::new();
    let made = Command::new(openssl)
        .args([
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
        ])
        .args([
            "-subj",
            "/CN=rooms.example.org",
            "-keyout",
            "privkey.pem",
            "-out",
            "fullchain.pem",
        ])
        .current_dir(folder.path())
        .output()
        .unwrap();
    assert!(made.status.success(), "{made:?}");
    // Only what belongs to the machine differs: a free port, and where the certificate lies.
    let [address] = free_addresses();
    let site = block("nginx").text;
    let site = replaced(&site, "listen 443 ssl;", &format!("listen {address} ssl;"));
    let site = site.replace("/etc/ssl/roomwire", &folder.path().display().to_string());
    let file = write_configuration(folder.path(), &site);
    let tested = Command::new(nginx)
        .args(["-t", "-e", "stderr", "-c", &file])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&tested.stderr);
    assert!(tested.status.success(), "{said}");
    assert!(!said.contains("[warn]"), "{said}");
    fs::metadata(folder.path().join("fullchain.pem")).unwrap();
}

#[tokio::test]
async fn a_websocket_and_a_request_pass_through_the_documented_nginx() {
    let mut world = World::start().await;
    let Some(nginx) = Nginx::start(&world.hub_url).await else {
        return;
    };
    // From here on the world's browsers and requests come in by nginx.
    world.hub_url.clone_from(&nginx.url);
    let mut browser = world.browser("ada").await;
    world.voice(world::ADA, Some(LOUNGE)).await;
    assert_eq!(
        browser.event("voice.joined").await["payload"]["channelId"],
        LOUNGE
    );
    let (status, rooms) = world
        .rest(Method::GET, "/api/rooms", json!({ "sub": "ada" }), None)
        .await;
    assert_eq!(status, StatusCode::OK, "{rooms}");
    assert!(rooms.to_string().contains(LOUNGE), "{rooms}");
    // The hub itself judges the largest token, and names its answer by an id.
    let token = "x".repeat(8 * 1024);
    let (status, problem) = world
        .rest_with(Method::GET, "/api/rooms", &token, None)
        .await;
    assert_eq!(
        (status, &problem["code"]),
        (StatusCode::UNAUTHORIZED, &json!("UNAUTHORIZED")),
        "{problem}"
    );
    drop(browser);
    let refused = Browser::open_with(&nginx.url, &[("origin", "https://evil.example")]).await;
    assert_eq!(refused.err(), Some(403));
    assert_eq!(nginx.errors(), "");
}
