//! `load`: how long it takes from the simulated Discord to the browser, how long a room takes to
//! be created, and what a connection costs; everything beside what the kernel alone needs, measured
//! in the same run. `make bench` runs it on release builds.
//!
//! Browsers and the control requests are in this one process, so that one monotonic clock times
//! both ends. The browsers share one thread, the control requests have the other.

mod board;
mod browsers;
mod figures;
mod floor;
mod kernel;
mod rooms;
mod run;
mod script;
mod settings;
mod world;

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::runtime::{Builder, Handle};

use figures::{Figure, table};
use settings::Settings;
use world::World;

fn main() -> ExitCode {
    let settings: Settings = launch::settings::parse();
    if let Err(line) = settings.check() {
        launch::settings::refuse(&line);
    }
    let runtimes = Builder::new_current_thread()
        .enable_all()
        .build()
        .and_then(|control| {
            Ok((
                control,
                Builder::new_multi_thread()
                    .worker_threads(1)
                    .enable_all()
                    .build()?,
            ))
        });
    let measured = runtimes
        .map_err(anyhow::Error::from)
        .and_then(|(control, readers)| {
            let measured = control.block_on(measure_until_stopped(settings, readers.handle()));
            readers.shutdown_background();
            control.shutdown_background();
            measured
        });
    match measured {
        Ok(()) => ExitCode::from(launch::exit::CLEAN),
        Err(error) => {
            remark(&format!("load: {error:#}"));
            ExitCode::from(launch::exit::FAILED)
        }
    }
}

async fn measure_until_stopped(settings: Settings, readers: &Handle) -> anyhow::Result<()> {
    let shutdown = launch::shutdown::on_signals()?;
    let stop = Arc::new(AtomicBool::new(false));
    let measured = shutdown
        .run_until_cancelled(measure(settings, readers, &stop))
        .await;
    stop.store(true, Ordering::Relaxed);
    measured.unwrap_or_else(|| Err(anyhow::anyhow!("asked to stop")))
}

async fn measure(
    mut settings: Settings,
    readers: &Handle,
    stop: &Arc<AtomicBool>,
) -> anyhow::Result<()> {
    let machine = kernel::machine();
    if let Some(lowered) = settings.fit(kernel::descriptor_limit()?)? {
        remark(&lowered);
    }
    let mut runs = Vec::new();
    for nth in 1..=settings.runs {
        remark(&format!("run {nth} of {} ...", settings.runs));
        runs.push(measure_once(&settings, readers, stop).await?);
    }
    show(&format!(
        "{machine}{}",
        if cfg!(debug_assertions) {
            "; DEBUG BUILD: figures mean nothing"
        } else {
            ""
        }
    ));
    show(&format!(
        "{} runs of {} s; median (least to most). Latency: from just before the control request is sent until the \
         browser has read the frame.\nFloor: the same bytes to as many bare TCP sockets from one thread; for rooms, \
         the bare requests to the simulator.\n",
        settings.runs, settings.seconds
    ));
    show(&table(&runs));
    Ok(())
}

async fn measure_once(
    settings: &Settings,
    readers: &Handle,
    stop: &Arc<AtomicBool>,
) -> anyhow::Result<Vec<Figure>> {
    let world = World::start().await?;
    let measured = run::measure(settings, &world, readers).await;
    world.stop().await;
    let measured = measured?;
    remark(&measured.remark());
    let (plan, readers, stop) = (measured.plan(settings), readers.clone(), Arc::clone(stop));
    let floor =
        tokio::task::spawn_blocking(move || floor::measure(&plan, &readers, &stop)).await??;
    Ok(measured.figures(floor, settings))
}

#[expect(clippy::print_stdout, reason = "the table is what this program is for")]
fn show(text: &str) {
    println!("{text}");
}

#[expect(
    clippy::print_stderr,
    reason = "progress stands beside the table, not in it"
)]
fn remark(text: &str) {
    eprintln!("{text}");
}
