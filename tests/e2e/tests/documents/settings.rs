//! `.env.example`, and the environment files in the documents.

use std::fs;

use e2e::documents::{Block, blocks};
use e2e::tools::checkout;
use world::{Folder, SECRET};

use crate::shells::start_with;

#[tokio::test]
async fn both_programs_start_with_the_example_of_settings_once_it_is_filled_in() {
    let folder = Folder::new();
    let mut text = fs::read_to_string(checkout().join(".env.example")).unwrap();
    for (name, value) in [("hub_secret", SECRET), ("discord_bot_token", "a-token")] {
        let path = folder.path().join(name);
        fs::write(&path, format!("{value}\n")).unwrap();
        text = text.replace(&format!("=secrets/{name}"), &format!("={}", path.display()));
    }
    for (name, value) in [
        ("PRIMARY_GUILD_ID", "100000000000000001"),
        ("JWT_ISSUER", "https://login.example.org"),
        ("JWT_AUDIENCE", "roomwire"),
        (
            "JWT_PUBLIC_JWK_URL",
            "https://login.example.org/.well-known/jwks.json",
        ),
        ("WEB_ORIGIN", "https://rooms.example.org"),
    ] {
        assert!(
            text.contains(&format!("\n{name}=\n")),
            "{name} is not to be filled in"
        );
        text = text.replace(&format!("\n{name}=\n"), &format!("\n{name}={value}\n"));
    }
    start_with(&text, &folder).await;
}

/// Environment files, by where they stand: blocks with the marker `settings` or the language `env`, and
/// `.env.example`.
fn environment_files() -> Vec<(String, String)> {
    let of = |block: &Block| block.language == "env" || block.marker.as_deref() == Some("settings");
    let blocks = blocks().into_iter().filter(of);
    let mut files: Vec<_> = blocks.map(|block| (block.place(), block.text)).collect();
    let example = fs::read_to_string(checkout().join(".env.example")).unwrap();
    files.push((".env.example".to_owned(), example));
    assert!(files.len() > 1);
    files
}

#[test]
fn an_environment_file_of_the_documents_names_settings_that_exist() {
    let known = fs::read_to_string(checkout().join("launch/src/settings/names.txt")).unwrap();
    for (place, text) in environment_files() {
        for line in text.lines().filter(|line| !line.is_empty()) {
            // A setting that is commented out has to exist too.
            let Some((name, _)) = line.trim_start_matches("# ").split_once('=') else {
                assert!(line.starts_with('#'), "{place}: {line}");
                continue;
            };
            let is_prose = name.contains(' ') || name.contains('"');
            let setting = name.strip_suffix("_FILE").unwrap_or(name);
            assert!(
                is_prose && line.starts_with('#')
                    || known.lines().any(|one| one == setting || one == name),
                "{place}: no program reads {name}"
            );
        }
    }
}

#[test]
fn no_value_of_an_environment_file_or_a_unit_has_a_comment_behind_it() {
    let units = blocks().into_iter().filter(|block| {
        let marker = block.marker.as_deref().unwrap_or_default();
        marker.starts_with("systemd: ")
    });
    let units = units.map(|block| (block.place(), block.text));
    for (place, text) in units.chain(environment_files()) {
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            assert!(!line.contains(" #"), "{place}: {line}");
        }
    }
}
