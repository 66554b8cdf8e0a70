//! The import rules hold in this repository, and each forbidden import is found.

#![expect(clippy::unwrap_used, reason = "a test")]

use std::path::Path;

use imports::{Files, broken_rules, read};

fn repository() -> Files {
    read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")).unwrap()
}

/// Adds this text at the end of a file, which may be new.
fn plant(files: &mut Files, path: &str, text: &str) {
    let file = files.entry(path.to_owned()).or_insert(Some(String::new()));
    let file = file.as_mut().unwrap();
    *file = format!("{file}\n{text}");
}

#[test]
fn every_crate_keeps_the_import_rules() {
    let broken = broken_rules(&repository());
    assert!(broken.is_empty(), "\n{}", broken.join("\n"));
}

/// A file, the text that is added to it, and a part of the sentence that this leads to.
const PLANTED: &str = "
hub/src/access.rs | use axum::http::StatusCode; | In the hub, axum is only in app, http,
hub/src/sockets/session.rs | fn x(_: axum::response::Response) {} | In the hub, axum is only in app, http,
gateway-worker/src/claim.rs | use axum::Router; | In the worker, axum is only in ops.
hub/src/rooms/mod.rs | use twilight_model::id::Id; | In the hub, twilight is only in discord,
gateway-worker/src/roster.rs | use twilight_gateway::Shard; | In the worker, twilight is only in shards.
hub/src/view.rs | use rusqlite::Connection; | SQL and Redis are only in roomlog::backend.
hub/log/src/state.rs | use redis::Client; | SQL and Redis are only in roomlog::backend.
hub/src/discord_http/mod.rs | use crate::sockets::Sockets; | Endpoint modules never import each other.
hub/src/rooms/api.rs | mod inner { use crate::{access, discord_http::Interactions}; } | Endpoint modules never import each other.
hub/log/src/lib.rs | use hub::view::View; | roomlog knows only proto and launch.
gateway-worker/src/claim.rs | use hub::view::View; | gateway-worker and hub never import each other
hub/src/app.rs | use gateway_worker::config::Settings; | gateway-worker and hub never import each other
launch/src/lib.rs | use proto::GuildId; | launch knows no other crate of the workspace.
proto/src/event.rs | use launch::Secret; | proto knows no other crate of the workspace.
hub/src/positions.rs | use world::World; | No crate of the product imports a test.
proto/src/ids.rs | use tokio::sync::Mutex; | proto is pure: it imports no runtime, no I/O and no clock.
proto/src/rest.rs | fn now() { std::time::SystemTime::now(); } | proto is pure: it imports no runtime, no I/O and no clock.
hub/src/error.rs | use crate::access::Access; | No file of a crate is in an import circle.
";

fn row(line: &str) -> [&str; 3] {
    let cells: Vec<_> = line.split(" | ").collect();
    cells.try_into().unwrap()
}

#[test]
fn each_forbidden_import_is_found() {
    let planted: Vec<_> = PLANTED.trim().lines().map(row).collect();
    let mut files = repository();
    for [path, text, _] in &planted {
        plant(&mut files, path, text);
    }
    files.insert("hub/src/linked.rs".to_owned(), None);
    let broken = broken_rules(&files);
    let link = "hub/src/linked.rs: No source file is a symbolic link.";
    assert!(broken.iter().any(|broken| broken == link), "{broken:#?}");
    for [path, text, sentence] in planted {
        let is_found = |broken: &String| broken.contains(path) && broken.contains(sentence);
        assert!(broken.iter().any(is_found), "{path}: {text}: {broken:#?}");
    }
}

/// The rules that these files break.
fn broken_by(files: &[(&str, &str)]) -> Vec<String> {
    let mut all = Files::new();
    for (path, text) in files {
        plant(&mut all, path, text);
    }
    broken_rules(&all)
}

#[test]
fn tests_may_import_anything() {
    let test = "#[cfg(test)]\nmod tests { use axum::Router; use crate::sockets::Sockets; }";
    let broken = broken_by(&[
        ("hub/Cargo.toml", "name = \"hub\""),
        ("hub/src/lib.rs", "mod access; mod sockets;"),
        ("hub/src/sockets.rs", "use crate::access::Access;"),
        ("hub/src/access.rs", test),
    ]);
    assert_eq!(broken, Vec::<String>::new());
}

#[test]
fn a_circle_through_a_re_export_is_found() {
    let broken = broken_by(&[
        ("x/Cargo.toml", "name = \"proto\""),
        ("x/src/lib.rs", "pub mod a;"),
        ("x/src/a/mod.rs", "mod b; mod c; pub use c::C; use b::B;"),
        ("x/src/a/b.rs", "use super::C; use super::OfParent;"),
        ("x/src/a/c.rs", "use super::b::B;"),
    ]);
    assert_eq!(broken.len(), 1, "{broken:?}");
    let circle = "x/src/a/b.rs → x/src/a/c.rs → x/src/a/b.rs: ";
    assert!(broken[0].starts_with(circle), "{broken:?}");
}
