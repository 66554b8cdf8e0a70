//! The program: settings, then logs, then bind, then run.

use std::process::ExitCode;

use launch::check::Report;
use launch::settings::Order;

use crate::check;
use crate::config::Config;
use crate::worker::{self, Failure};

/// Runs the worker, or its command `check`, as the command line asks.
pub async fn main() -> ExitCode {
    let parsed = match launch::settings::order::<Config>() {
        Order::Run(parsed) => parsed,
        Order::Check { read, reach } => {
            let mut report = Report::default();
            if let Some(config) = report.settings(read, reach)
                && reach
            {
                check::reach(&config, &mut report).await;
            }
            return report.exit_code();
        }
    };
    launch::logs::init(&parsed.settings.logs);
    parsed.log_warnings();
    match Box::pin(start(parsed.settings)).await {
        Ok(()) => ExitCode::from(launch::exit::CLEAN),
        Err(error) => {
            tracing::error!("{error:#}");
            let code = error
                .downcast_ref::<Failure>()
                .map_or(launch::exit::FAILED, Failure::exit_code);
            ExitCode::from(code)
        }
    }
}

async fn start(config: Config) -> anyhow::Result<()> {
    let metrics = crate::metrics::record()?;
    let shutdown = launch::shutdown::on_signals()?;
    let listener = launch::bind("WORKER_LISTEN", config.worker_listen).await?;
    worker::run(config, listener, metrics, shutdown).await?;
    Ok(())
}
