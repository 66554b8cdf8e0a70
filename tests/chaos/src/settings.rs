//! What can be chosen.

use std::path::PathBuf;

use clap::Parser;
use launch::settings::Program;

/// Seeded faults over the real processes; a checker says what subscribers lost, saw twice, out of
/// order, as ghosts, or should not have seen.
///
/// Starts hub, gateway-worker, discord-sim and dev-issuer, which must lie beside this program.
#[derive(Debug, Clone, Parser)]
#[command(name = "chaos", version, about, max_term_width = 110)]
pub struct Settings {
    /// All randomness comes from it; a failed run names the seed that repeats it. Default: the clock
    #[arg(long, env = "SEED")]
    pub seed: Option<u64>,
    /// How many runs
    #[arg(long, env = "RUNS", default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    pub runs: u64,
    /// Ends after so many minutes, however many runs are left; 0: after the last run
    #[arg(long, env = "MINUTES", default_value_t = 0)]
    pub minutes: u64,
    /// Runs at the same time
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=16))]
    pub jobs: u32,
    /// Only these faults, all of them in every run; default: one to three at random. See --list
    #[arg(long)]
    pub fault: Vec<String>,
    /// Prints the faults and ends
    #[arg(long)]
    pub list: bool,
    /// Runs a scenario instead, or `all` of them; see --list. MINUTES: how long the one goes on that
    /// has no end of its own (5 by default)
    #[arg(long, alias = "show")]
    pub scenario: Option<String>,
    /// Runs scenarios as short as in the tests
    #[arg(long)]
    pub short: bool,
    /// Acts in Discord a second
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pub acts_per_s: u32,
    /// How long things happen before the faults and between them, besides a moment: seconds
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u64).range(0..=3_600))]
    pub seconds: u64,
    /// A client program under test; it gets HUB_URL, TOKEN and GUILD_ID in its environment and
    /// prints a line {"rooms": {"<channelId>": ["<userId>", ...]}} at each change
    #[arg(long)]
    pub client: Option<String>,
    /// Plants a fault into the hub (drop, double, reorder or leak), which must be found
    #[arg(long)]
    pub plant: Option<String>,
    /// Into one of how many events it is planted
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..))]
    pub one_in: u32,
    /// Where failed runs leave their logs
    #[arg(long, default_value = "target/chaos")]
    pub folder: PathBuf,
}

impl Program for Settings {}
