//! The program: settings, then logs, then bind, then run.

use std::process::ExitCode;

use launch::check::Report;
use launch::exit;
use launch::settings::Order;
use roomlog::StoreError;

use crate::config::Settings;
use crate::{app, check};

/// Runs the hub, or its command `check`, as the command line asks.
pub async fn main() -> ExitCode {
    let parsed = match launch::settings::order::<Settings>() {
        Order::Run(parsed) => parsed,
        Order::Check { read, reach } => {
            let mut report = Report::default();
            if let Some(settings) = report.settings(read, reach)
                && reach
            {
                check::reach(&settings, &mut report).await;
            }
            return report.exit_code();
        }
    };
    launch::logs::init(&parsed.settings.logs);
    parsed.log_warnings();
    match run(parsed.settings).await {
        Ok(()) => ExitCode::from(exit::CLEAN),
        Err(error) => {
            tracing::error!(error = format!("{error:#}"), "the hub cannot run");
            let wrong = |error: &StoreError| error.is_wrong_setting;
            ExitCode::from(if error.downcast_ref().is_some_and(wrong) {
                exit::CONFIGURATION
            } else {
                exit::FAILED
            })
        }
    }
}

async fn run(settings: Settings) -> anyhow::Result<()> {
    let descriptors = launch::descriptors::raise_limit();
    let wanted = settings.public_descriptors();
    if descriptors.is_some_and(|limit| usize::try_from(limit).is_ok_and(|limit| limit < wanted)) {
        tracing::warn!(
            descriptors,
            wanted,
            "fewer file descriptors than TCP_CONNECTIONS_MAX + CONNECTIONS_MAX + LINGER_CONNECTIONS_MAX: raise the hard limit of open files, or lower the settings"
        );
    }
    let shutdown = launch::shutdown::on_signals()?;
    let public = launch::bind("HUB_LISTEN", settings.hub_listen).await?;
    let internal = launch::bind("INTERNAL_LISTEN", settings.internal_listen).await?;
    app::run(public, internal, settings, shutdown).await
}
