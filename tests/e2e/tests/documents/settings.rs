//! `.env.example`.

use std::fs;

use e2e::tools::checkout;
use e2e::{Folder, SECRET};

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

#[test]
fn no_value_of_an_environment_file_has_a_comment_behind_it() {
    let example = fs::read_to_string(checkout().join(".env.example")).unwrap();
    let files = e2e::documents::blocks().into_iter().filter(|block| {
        block.marker.as_deref() == Some("settings")
            || block
                .marker
                .as_deref()
                .is_some_and(|marker| marker.starts_with("systemd: "))
    });
    for (name, text) in files
        .map(|block| (block.place(), block.text))
        .chain([(".env.example".to_owned(), example)])
    {
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            assert!(!line.contains(" #"), "{name}: {line}");
        }
    }
}
