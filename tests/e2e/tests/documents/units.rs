//! The units for systemd in docs/operations.md, "With systemd".

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

use e2e::documents::{Block, blocks};
use e2e::tools::{checkout, tool};
use world::Folder;

/// The units, by name.
fn units() -> Vec<(String, Block)> {
    let named = |block: Block| {
        let name = block.marker.as_deref()?.strip_prefix("systemd: ")?;
        Some((name.to_owned(), block))
    };
    blocks().into_iter().filter_map(named).collect()
}

#[test]
fn systemd_accepts_the_documented_units_without_a_word() {
    let Some(analyze) = tool("systemd-analyze") else {
        return;
    };
    let units = units();
    assert_eq!(units.len(), 2, "one for the hub, one for the worker");
    let folder = Folder::new();
    for (name, unit) in &units {
        // Verified too: that the program exists.
        let text = unit.text.replace("/usr/local/bin/hub", "/bin/sh");
        let text = text.replace("/usr/local/bin/gateway-worker", "/bin/sh");
        fs::write(folder.path().join(name), text).unwrap();
    }
    for (name, unit) in &units {
        let verified = Command::new(&analyze)
            .args(["verify", "--man=no"])
            .arg(folder.path().join(name))
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&verified.stderr);
        assert!(verified.status.success(), "{}: {said}", unit.place());
        // systemd passes over what it cannot read, and only says so.
        let complaints: Vec<_> = said.lines().filter(|line| line.contains(name)).collect();
        assert!(complaints.is_empty(), "{}: {complaints:?}", unit.place());
    }
}

#[test]
fn a_unit_does_not_restart_on_exit_codes_that_a_restart_does_not_cure() {
    let page = fs::read_to_string(checkout().join("docs/operations.md")).unwrap();
    let (_, table) = page.split_once("## Exit codes").unwrap();
    let (table, _) = table.split_once("\n## ").unwrap();
    let lasting: Vec<(u8, &str)> = table
        .lines()
        .filter_map(|line| {
            let cells: Vec<_> = line.trim_matches('|').split('|').map(str::trim).collect();
            let [code, means, restart] = cells[..] else {
                return None;
            };
            restart
                .starts_with("no")
                .then(|| Some((code.parse().ok()?, means)))?
        })
        .collect();
    assert_eq!(lasting.len(), 3, "{lasting:?}");
    for (name, unit) in units() {
        let of_worker = name.contains("worker");
        let expected: BTreeSet<u8> = lasting
            .iter()
            .filter(|(_, means)| of_worker || !means.starts_with("worker:"))
            .map(|(code, _)| *code)
            .collect();
        let setting = unit
            .text
            .lines()
            .find_map(|line| line.strip_prefix("RestartPreventExitStatus="));
        let codes: BTreeSet<u8> = setting
            .unwrap_or_default()
            .split(' ')
            .map(|code| code.parse().unwrap())
            .collect();
        assert_eq!(codes, expected, "{name}");
    }
}

#[test]
fn every_configuration_of_the_documents_has_a_test() {
    let known = ["nginx", "nginx: main", "settings"];
    for block in blocks() {
        let is_configuration = [
            "nginx",
            "ini",
            "systemd",
            "yaml",
            "yml",
            "toml",
            "caddy",
            "caddyfile",
            "haproxy",
        ]
        .contains(&block.language.as_str());
        let marker = block.marker.as_deref().unwrap_or_default();
        let is_tested = known.contains(&marker) || marker.starts_with("systemd: ");
        assert!(
            !is_configuration || is_tested,
            "{}: a block of {} without a marker that a test knows ({marker:?})",
            block.place(),
            block.language
        );
    }
}
