use std::io;
use std::sync::Mutex;

use axum::Router;
use axum::http::StatusCode;
use serde_json::json;
use tokio::net::TcpListener;
use tracing_subscriber::EnvFilter;

use super::*;
use crate::config::Config;
use crate::dispatch;

const USER: &str = "200000000000000077";

#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A REST that fails.
async fn broken_rest() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let answer = || async { (StatusCode::INTERNAL_SERVER_ERROR, "{}") };
    tokio::spawn(async move { axum::serve(listener, Router::new().fallback(answer)).await });
    format!("http://{address}")
}

#[tokio::test]
async fn no_log_line_names_the_user_that_is_asked_about() {
    let _installed = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let rest_url = broken_rest().await;
    let config: Config = launch::settings::example(&[
        ("PRIMARY_GUILD_ID", "1"),
        ("DISCORD_API_URL", &rest_url),
        ("QUESTION_ATTEMPTS_MAX", "2"),
    ])
    .unwrap();
    let lines = Lines::default();
    let written = lines.clone();
    let log = tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::new("info"))
        .with_writer(move || lines.clone())
        .finish();
    // The test's runtime has this thread alone.
    let _log = tracing::subscriber::set_default(log);

    let feed = Arc::new(SharedFeed::new(Feed::new(crate::worker::feed_setting(
        &config,
        (0, 1),
    ))));
    let sent = [
        ("READY", json!({"guilds": [{"id": "1"}]})),
        (
            "GUILD_CREATE",
            json!({"id": "1", "roles": [{"id": "1", "permissions": "1024"}], "voice_states": [], "channels": []}),
        ),
        (
            "VOICE_STATE_UPDATE",
            json!({"guild_id": "1", "user_id": USER}),
        ),
    ];
    for (sequence, (name, data)) in (1..).zip(sent) {
        let read = dispatch::read(name, &data.to_string());
        feed.update(|feed| feed.receive("s", sequence, read, 1));
    }
    let question = feed.read(Feed::question).unwrap();
    let rest = Rest::new(&config.discord);
    let questions = Questions::new(rest, feed, &config.gateway);
    assert_eq!(questions.ask(question).await, Some(Finding::Unknown));

    let log = String::from_utf8(written.0.lock().unwrap().clone()).unwrap();
    assert!(
        log.contains("the guild is read again") && log.contains("user"),
        "{log}"
    );
    assert!(!log.contains(USER), "{log}");
}
