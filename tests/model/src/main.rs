//! `model`: the exhaustive test with bounds of one's own choice.

use std::process::ExitCode;

use clap::Parser;
use gateway_worker::feed::broken as worker_rules;
use hub::log::broken as hub_rules;
use model::bounds::Bounds;
use model::search::explore;

/// Looks at every state of the chain between the worker and the hub, within bounds.
#[derive(Parser)]
struct Options {
    #[command(flatten)]
    bounds: Bounds,
    /// Takes a rule out, which must be found: no-watermark, no-generation, no-chain,
    /// ckpt-past-debt, undated-debt, snapshot-overtakes, overtaken-goes-on.
    #[arg(long = "break")]
    broken: Option<String>,
}

#[expect(clippy::print_stdout, reason = "it is what this program is for")]
fn main() -> ExitCode {
    let options = Options::parse();
    if let Some(name) = &options.broken {
        let here = hub_rules::Rule::named(name).map(hub_rules::set);
        let there = worker_rules::Rule::named(name).map(worker_rules::set);
        if here.or(there).is_none() {
            println!("no such rule: {name}");
            return ExitCode::FAILURE;
        }
    }
    match explore(&options.bounds) {
        Ok(figures) => {
            println!("{figures}: no violation");
            ExitCode::SUCCESS
        }
        Err(violation) => {
            println!("{violation}");
            ExitCode::FAILURE
        }
    }
}
