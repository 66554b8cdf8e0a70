//! Runs the simulated Discord: settings, logs, listener, and then the library.

use std::process::ExitCode;

use discord_sim::Settings;
use launch::{exit, logs, settings, shutdown};

#[tokio::main]
async fn main() -> ExitCode {
    let parsed = settings::parse::<Settings>();
    logs::init(&parsed.settings.logs);
    parsed.log_warnings();
    match serve(parsed.settings).await {
        Ok(()) => ExitCode::from(exit::CLEAN),
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::from(exit::FAILED)
        }
    }
}

async fn serve(settings: Settings) -> anyhow::Result<()> {
    let shutdown = shutdown::on_signals()?;
    let listener = launch::bind("SIM_LISTEN", settings.sim_listen).await?;
    discord_sim::run(listener, settings, shutdown).await
}
