//! `load`: the time from the simulated Discord to the browser, the time to create a room, and the cost
//! of a connection; everything beside the kernel's own costs, measured in the same run. `make bench` runs it on release builds.
//!
//! Browsers and the control requests are in this one process, so that one monotonic clock times
//! both ends. The browsers share one thread, the control requests have the other.
//!
//! Programs and sockets are those of [`world`]. What counts events is here alone: it shares no code
//! with the SDK or with the checker of `tests/chaos`.

mod appends;
mod bare;
mod board;
mod browsers;
mod figures;
mod floor;
mod kernel;
mod recovery;
mod request;
mod rooms;
mod run;
mod script;
mod settings;
mod system;

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::runtime::{Builder, Handle};

use figures::{Figure, table};
use settings::{Group, Settings};
use system::System;

fn main() -> ExitCode {
    let mut settings = launch::settings::parse::<Settings>().settings;
    // A descriptor for each browser: the limit that holds is what this leads to.
    let _limit = launch::descriptors::raise_limit();
    if let Some(bare) = settings.bare.take() {
        return end(bare.run());
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
    end(measured)
}

fn end(outcome: anyhow::Result<()>) -> ExitCode {
    match outcome {
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
    if let Some(lowered) = settings.fit(kernel::descriptor_limit())? {
        remark(&lowered);
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
        "Logs at {}, on {}.\n",
        settings.stores().display(),
        kernel::file_system(&settings.stores())
    ));
    if settings.wants(Group::Browsers) {
        watch_browsers(&settings, readers, stop).await?;
    }
    if settings.wants(Group::Appends) {
        append(&settings).await?;
    }
    if settings.wants(Group::Recovery) {
        recover(&settings, readers).await?;
    }
    Ok(())
}

async fn watch_browsers(
    settings: &Settings,
    readers: &Handle,
    stop: &Arc<AtomicBool>,
) -> anyhow::Result<()> {
    let mut runs = Vec::new();
    for nth in 1..=settings.runs {
        remark(&format!("browsers, run {nth} of {} ...", settings.runs));
        runs.push(watch_once(settings, readers, stop).await?);
    }
    show(&format!(
        "From the simulator to the browser. {} runs of {} s; median (least to most). Latency: from just before the \
         control request is sent until the browser has read the frame.\nFloor: the same bytes to as many bare TCP \
         sockets from one thread; for rooms, the bare requests to the simulator.\n",
        settings.runs, settings.seconds
    ));
    show(&table(&runs));
    Ok(())
}

async fn watch_once(
    settings: &Settings,
    readers: &Handle,
    stop: &Arc<AtomicBool>,
) -> anyhow::Result<Vec<Figure>> {
    let system = System::start(&settings.stores(), "warn").await;
    let measured = run::measure(settings, &system, readers).await;
    system.stop().await;
    let measured = measured?;
    remark(&measured.remark());
    let (plan, readers, stop) = (measured.plan(settings), readers.clone(), Arc::clone(stop));
    let floor =
        tokio::task::spawn_blocking(move || floor::measure(&plan, &readers, &stop)).await??;
    Ok(measured.figures(floor, settings))
}

async fn append(settings: &Settings) -> anyhow::Result<()> {
    let mut runs = Vec::new();
    for nth in 1..=settings.runs {
        remark(&format!("appends, run {nth} of {} ...", settings.runs));
        runs.push(appends::measure(settings, &settings.stores()).await?);
    }
    show(&format!(
        "Appends: the hub alone, driven by signed deliveries, one in flight for each shard. {} runs of at most {} s; \
         median (least to most). `process`: an acknowledged event survives the hub; `power`: a power cut too.\nAfter \
         each, the hub is killed and started again, and must know all that it acknowledged.\nFloor: the same bytes \
         written to one file (power: fdatasync after each delivery); for one event, an HTTP exchange of the same size \
         with a bare process that writes it to a file first (power: fdatasync), as many at once.\n",
        settings.runs, settings.append_seconds
    ));
    show(&table(&runs));
    Ok(())
}

async fn recover(settings: &Settings, readers: &Handle) -> anyhow::Result<()> {
    let mut runs = Vec::new();
    for nth in 1..=settings.recovery_runs {
        remark(&format!(
            "recovery, run {nth} of {} ...",
            settings.recovery_runs
        ));
        let recovered = recovery::measure(settings, readers, &settings.stores()).await?;
        remark(&recovered.remark());
        runs.push(recovered.figures(settings));
    }
    show(&format!(
        "Recovery: {} browsers in {} rooms, {} events/s over all rooms; the hub is killed (kill -9) and started again on \
         its store. Browsers come back with full jitter, at first below {} ms, at most below {} ms. {} runs; median \
         (least to most).\nEvery browser had every event of its room exactly once. Floor: the same browsers and frames \
         with a bare accept loop that is killed and stays away for as long.\n",
        settings.recovery_browsers,
        settings.recovery_rooms,
        settings.events_per_s,
        settings.backoff_base_ms,
        settings.backoff_cap_ms,
        settings.recovery_runs
    ));
    show(&table(&runs));
    Ok(())
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
