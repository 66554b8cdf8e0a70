//! `gateway-worker`: settings, then logs, then bind, then run.

use std::process::ExitCode;

use gateway_worker::config::Config;
use launch::check::Report;
use launch::settings::Order;

#[tokio::main]
async fn main() -> ExitCode {
    let parsed = match launch::settings::order::<Config>() {
        Order::Run(parsed) => parsed,
        Order::Check { read, reach } => {
            let mut report = Report::default();
            if let Some(config) = report.settings(read, reach)
                && reach
            {
                gateway_worker::check::reach(&config, &mut report).await;
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
                .downcast_ref::<gateway_worker::Failure>()
                .map_or(launch::exit::FAILED, gateway_worker::Failure::exit_code);
            ExitCode::from(code)
        }
    }
}

async fn start(config: Config) -> anyhow::Result<()> {
    let metrics = gateway_worker::metrics::record()?;
    let shutdown = launch::shutdown::on_signals()?;
    let listener = launch::bind("WORKER_LISTEN", config.worker_listen).await?;
    gateway_worker::run(config, listener, metrics, shutdown).await?;
    Ok(())
}
