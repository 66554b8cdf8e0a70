//! `chaos`: see [`chaos::settings::Settings`], or `--help`.

use std::process::ExitCode;

use chaos::campaign::{asked, campaign};
use chaos::environment::has_fault_programs;
use chaos::fault::FAULTS;
use chaos::scenarios::{SCENARIOS, Scenario, Size, in_words};
use chaos::settings::Settings;
use tokio::signal::ctrl_c;
use tokio::signal::unix::{SignalKind, signal};

#[tokio::main]
async fn main() -> ExitCode {
    let parsed = launch::settings::parse::<Settings>();
    for warning in &parsed.warnings {
        say(&format!("warning: {warning}"));
    }
    let settings = parsed.settings;
    if settings.list {
        for fault in FAULTS {
            say(&format!("{:<12} {}", fault.name, fault.about));
        }
        for scenario in SCENARIOS {
            say(&format!(
                "--scenario {:<24} {}",
                scenario.name, scenario.about
            ));
        }
        return ExitCode::from(launch::exit::CLEAN);
    }
    if let Some(name) = &settings.scenario {
        return run_scenarios(name, &settings).await;
    }
    let faults = match asked(&settings.fault) {
        Ok(faults) => faults,
        Err(line) => launch::settings::refuse(&line),
    };
    if !has_fault_programs() {
        if settings.plant.is_some() {
            launch::settings::refuse(
                "--plant needs the programs with faults, which are not built. Run tests/chaos.sh, which builds them.",
            );
        }
        say(
            "SKIPPED: fail points: the programs with faults are not built; F1 to F3 and F8 kill at random",
        );
    }
    for fault in FAULTS {
        if let Some(lacks) = fault.lacks() {
            say(&format!("SKIPPED: {}: {lacks}", fault.name));
        }
    }
    let seed = settings.seed.unwrap_or_else(launch::clock::now_ms);
    say(&format!("seed {seed}"));
    let summary = campaign(&settings, &faults, seed, stopped(), say).await;
    say(&format!("\n{}", summary.table()));
    if summary.is_clean() {
        ExitCode::from(launch::exit::CLEAN)
    } else {
        ExitCode::from(launch::exit::FAILED)
    }
}

/// Runs the scenario of this name, or all.
async fn run_scenarios(name: &str, settings: &Settings) -> ExitCode {
    let asked: Vec<Scenario> = SCENARIOS
        .into_iter()
        .filter(|scenario| scenario.name == name || name == "all")
        .collect();
    if asked.is_empty() {
        launch::settings::refuse(&format!(
            "--scenario is {name:?}, which is no scenario. See --list for their names."
        ));
    }
    let minutes = if settings.minutes > 0 {
        settings.minutes
    } else {
        5
    };
    let size = if settings.short {
        Size::Short
    } else {
        Size::Full { minutes }
    };
    let seed = settings.seed.unwrap_or_else(launch::clock::now_ms);
    let mut clean = true;
    let mut stopped = std::pin::pin!(stopped());
    for scenario in asked {
        let report = tokio::select! {
            report = scenario.run(size, seed, &settings.folder) => report,
            // Dropping it ends its processes and removes its files.
            () = &mut stopped => return ExitCode::from(launch::exit::FAILED),
        };
        say(&in_words(&scenario, &report, seed));
        clean &= report.is_clean();
    }
    ExitCode::from(if clean {
        launch::exit::CLEAN
    } else {
        launch::exit::FAILED
    })
}

/// Waits for Ctrl-C or SIGTERM.
async fn stopped() {
    match signal(SignalKind::terminate()) {
        Ok(mut terminated) => tokio::select! {
            _asked = ctrl_c() => {}
            _asked = terminated.recv() => {}
        },
        // No handler can be had: the signals end the process as they always do.
        Err(_) => std::future::pending().await,
    }
}

#[expect(
    clippy::print_stdout,
    reason = "lines and the table are what this program is for"
)]
fn say(line: &str) {
    println!("{line}");
}
