//! `model`: the exhaustive test with bounds of one's own choice.

use std::process::ExitCode;

use clap::Parser;
use launch::mutation::{self, Rule};
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
        let Some(rule) = Rule::named(name) else {
            println!("no such rule: {name}");
            return ExitCode::FAILURE;
        };
        mutation::set(rule);
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
