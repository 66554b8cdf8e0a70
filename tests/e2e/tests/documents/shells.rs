//! The shell commands of the documents.

use std::io::Write as _;
use std::process::{Command, Stdio};

use e2e::documents::{Block, block, blocks};
use serde_json::json;
use world::{Folder, Process, SECRET, World, eventually, free_addresses};

fn is_shell(block: &Block) -> bool {
    ["sh", "bash", "shell"].contains(&block.language.as_str())
}

#[test]
fn every_shell_block_of_the_documents_is_valid_shell() {
    let shells: Vec<_> = blocks().into_iter().filter(is_shell).collect();
    assert!(shells.len() > 10, "{} blocks", shells.len());
    for block in shells {
        let mut bash = Command::new("bash")
            .arg("-n")
            .stdin(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut input = bash.stdin.take().unwrap();
        input.write_all(block.text.as_bytes()).unwrap();
        drop(input);
        let checked = bash.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&checked.stderr);
        assert!(checked.status.success(), "{}: {said}", block.place());
    }
}

/// Commands that ask the running programs, at the addresses of the demo.
#[tokio::test]
async fn the_curl_commands_of_the_documents_succeed_against_the_running_programs() {
    let world = World::start().await;
    let token = world
        .token(json!({ "sub": "ada", "scope": "rooms:read rooms:create rooms:end" }))
        .await;
    let pages = [
        "README.md",
        "docs/operations.md",
        "docs/protocol.md",
        "docs/first-run-on-discord.md",
    ];
    let mut ran = 0;
    for block in blocks().into_iter().filter(is_shell) {
        if !pages.contains(&block.file.as_str())
            || !block.text.contains("curl ")
            || block.text.contains("https://")
        {
            continue;
        }
        // A command that is refused must fail.
        let mut script = block.text.replace("curl ", "curl --fail-with-body ");
        // In the demo 3001 is the console's issuer; a worker of one's own answers there.
        for (demo, here) in [
            ("http://127.0.0.1:3000", &world.hub_url),
            ("http://127.0.0.1:3001", &world.worker_url),
            ("http://127.0.0.1:3100", &world.internal_url),
            ("http://127.0.0.1:3900", &world.discord.url),
            ("http://127.0.0.1:3901", &world.tokens.url),
        ] {
            script = script.replace(demo, here);
        }
        let run = Command::new("bash")
            .args(["-euo", "pipefail", "-c", &script])
            .env("TOKEN", &token)
            .env("HUB_SECRET", SECRET)
            .stdin(Stdio::null())
            .output();
        let run = run.unwrap();
        assert!(
            run.status.success(),
            "{}: {}{}",
            block.place(),
            String::from_utf8_lossy(&run.stdout),
            String::from_utf8_lossy(&run.stderr)
        );
        ran += 1;
    }
    assert!(ran >= 4, "{ran} blocks");
}

/// The settings of docs/first-run-on-discord.md, as an environment file.
#[tokio::test]
async fn both_programs_start_with_the_settings_of_the_first_run() {
    let folder = Folder::new();
    let secret = folder.path().join("bot-token");
    std::fs::write(&secret, "a-token\n").unwrap();
    let text = block("settings").text;
    let text = text
        .replace("whsec_…", SECRET)
        .replace("/etc/roomwire/bot-token", &secret.display().to_string());
    let text = text.replace("PRIMARY_GUILD_ID=…", "PRIMARY_GUILD_ID=1");
    let text = text.replace(
        "DISCORD_PUBLIC_KEY=…",
        "DISCORD_PUBLIC_KEY=d36e0670cb079279c111483a2ebb0c9f4b472bd6de8d44df315b025c0f1b1e2d",
    );
    assert!(!text.contains('…'), "{text}");
    start_with(&text, &folder).await;
}

/// Starts both programs with an environment file, as systemd reads it, and waits until they serve.
pub(crate) async fn start_with(file: &str, folder: &Folder) {
    let settings: Vec<(&str, &str)> = file
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with(['#', ';']))
        .map(|line| line.split_once('=').unwrap())
        .collect();
    let [hub_at, internal_at, worker_at, nothing] = free_addresses();
    let store = format!("sqlite://{}", folder.path().join("hub.db").display());
    let nothing = format!("http://{nothing}");
    let mut of_hub = settings.clone();
    of_hub.extend([
        ("HUB_LISTEN", hub_at.as_str()),
        ("INTERNAL_LISTEN", &internal_at),
        ("STORE_URL", &store),
        ("DISCORD_API_URL", &nothing),
    ]);
    let mut of_worker = settings;
    of_worker.extend([
        ("WORKER_LISTEN", worker_at.as_str()),
        ("DISCORD_API_URL", &nothing),
    ]);
    let http = reqwest::Client::new();
    for (program, settings, address) in [
        ("hub", of_hub, internal_at.clone()),
        ("gateway-worker", of_worker, worker_at.clone()),
    ] {
        let process = Process::start(program, &settings);
        let url = format!("http://{address}/healthz");
        let http = &http;
        eventually(&format!("{program} serves"), || async {
            let answer = http.get(&url).send().await;
            answer
                .is_ok_and(|answer| answer.status().is_success())
                .then_some(())
                .or_else(|| {
                    let log = process.log();
                    assert!(!log.contains("error: "), "{program}: {log}");
                    None
                })
        })
        .await;
    }
}
