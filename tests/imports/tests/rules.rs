//! The import rules hold in this repository, and each forbidden import is found.

#![expect(clippy::unwrap_used, reason = "a test")]

use std::path::Path;

use imports::{Repository, broken_rules};

fn repository() -> Repository {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    Repository::read(&root).unwrap()
}

#[test]
fn every_crate_keeps_the_import_rules() {
    let broken = broken_rules(&repository());
    assert!(broken.is_empty(), "\n{}", broken.join("\n"));
}

#[test]
fn each_forbidden_import_is_found() {
    let planted = [
        (
            "hub/src/access.rs",
            "use axum::http::StatusCode;",
            "In the hub, axum is only in app, http,",
        ),
        (
            "hub/src/sockets/session.rs",
            "fn x(_: axum::response::Response) {}",
            "In the hub, axum is only in app, http,",
        ),
        (
            "gateway-worker/src/claim.rs",
            "use axum::Router;",
            "In the worker, axum is only in ops.",
        ),
        (
            "hub/src/rooms/mod.rs",
            "use twilight_model::id::Id;",
            "In the hub, twilight is only in discord,",
        ),
        (
            "gateway-worker/src/roster.rs",
            "use twilight_gateway::Shard;",
            "In the worker, twilight is only in shards.",
        ),
        (
            "hub/src/view.rs",
            "use rusqlite::Connection;",
            "SQL and Redis are only in roomlog::backend.",
        ),
        (
            "hub/log/src/state.rs",
            "use redis::Client;",
            "SQL and Redis are only in roomlog::backend.",
        ),
        (
            "hub/src/discord_http/mod.rs",
            "use crate::sockets::Sockets;",
            "Endpoint modules never import each other.",
        ),
        (
            "hub/src/rooms/api.rs",
            "mod inner { use crate::{access, discord_http::Interactions}; }",
            "Endpoint modules never import each other.",
        ),
        (
            "hub/log/src/lib.rs",
            "use hub::view::View;",
            "roomlog knows only proto and launch.",
        ),
        (
            "gateway-worker/src/claim.rs",
            "use hub::view::View;",
            "gateway-worker and hub never import each other",
        ),
        (
            "hub/src/app.rs",
            "use gateway_worker::config::Settings;",
            "gateway-worker and hub never import each other",
        ),
        (
            "launch/src/lib.rs",
            "use proto::GuildId;",
            "launch knows no other crate of the workspace.",
        ),
        (
            "proto/src/ids.rs",
            "use tokio::sync::Mutex;",
            "proto is pure: it imports no runtime, no I/O and no clock.",
        ),
        (
            "proto/src/rest.rs",
            "fn now() { std::time::SystemTime::now(); }",
            "proto is pure: it imports no runtime, no I/O and no clock.",
        ),
        (
            "hub/src/error.rs",
            "use crate::access::Access;",
            "No file of a crate of the product is in an import circle.",
        ),
    ];
    let with_all = planted
        .iter()
        .fold(repository(), |repository, (path, text, _)| {
            repository.with(path, text)
        });
    let broken = broken_rules(&with_all);
    for (path, text, sentence) in planted {
        let is_found = |broken: &String| broken.contains(path) && broken.contains(sentence);
        assert!(broken.iter().any(is_found), "{path}: {text}: {broken:#?}");
    }
}

#[test]
fn tests_may_import_anything() {
    let repository = Repository::default()
        .with("hub/Cargo.toml", "name = \"hub\"")
        .with("hub/src/lib.rs", "mod access; mod sockets;")
        .with("hub/src/sockets.rs", "use crate::access::Access;")
        .with(
            "hub/src/access.rs",
            "#[cfg(test)]\nmod tests { use axum::Router; use crate::sockets::Sockets; }",
        );
    assert_eq!(broken_rules(&repository), Vec::<String>::new());
}

#[test]
fn a_circle_through_a_re_export_is_found() {
    let repository = Repository::default()
        .with("x/Cargo.toml", "name = \"proto\"")
        .with("x/src/lib.rs", "pub mod a;")
        .with("x/src/a/mod.rs", "mod b; mod c; pub use c::C; use b::B;")
        .with("x/src/a/b.rs", "use super::C; use super::OfParent;")
        .with("x/src/a/c.rs", "use super::b::B;");
    let broken = broken_rules(&repository);
    assert_eq!(broken.len(), 1, "{broken:?}");
    assert!(
        broken[0].starts_with("x/src/a/b.rs → x/src/a/c.rs → x/src/a/b.rs: "),
        "{broken:?}"
    );
}
