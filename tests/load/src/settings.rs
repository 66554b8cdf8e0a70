//! What can be chosen on the command line.

use std::path::PathBuf;

use clap::{Parser, ValueEnum};
use launch::settings::{Problem, Program};

use crate::bare::Bare;
use crate::kernel;

/// Samples that are kept at once, one for each event and browser (4 bytes each).
const SAMPLES_MAX: usize = 100_000_000;
/// Descriptors of a process besides the browsers' sockets: listeners, control connections, files.
const DESCRIPTORS_BESIDES: u64 = 200;

/// A group of rows of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Group {
    /// From the simulator to the browser, rooms over REST, what a connection costs
    Browsers,
    /// What the hub's log takes, in both modes of durability
    Appends,
    /// Browsers that come back to a hub that was killed
    Recovery,
}

/// Measures Roomwire from the simulated Discord to the browser, beside what the kernel alone needs.
///
/// Starts hub, gateway-worker, discord-sim and dev-issuer, which must lie beside this program, on
/// free loopback ports, and ends them again.
#[derive(Debug, Clone, Parser)]
#[command(name = "load", version, about, max_term_width = 110)]
pub(crate) struct Settings {
    /// A list of rows; all of them when absent
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = Group::value_variants().iter().copied())]
    pub(crate) only: Vec<Group>,
    /// Browsers that are connected at once; lowered if the process may not open enough descriptors
    /// (twice as many and a few; see `ulimit -n`)
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=20_000))]
    pub(crate) browsers: u32,
    /// Events a second
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pub(crate) events_per_s: u32,
    /// For how many seconds events come at that rate, and again for the floor
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=600))]
    pub(crate) seconds: u32,
    /// How often everything is measured, each time on new processes; the median is shown
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=20))]
    pub(crate) runs: u32,
    /// Single events by which the time to the last browser is measured, for each number of browsers
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pub(crate) single_events: u32,
    /// Rooms that are created and ended, one after the other: once with nobody watching and once
    /// with all browsers
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=2_000))]
    pub(crate) rooms: u32,
    /// Large deliveries of 500 events that are appended in all, one in flight for each shard
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pub(crate) append_batches: u32,
    /// For how many seconds at most, and for how many seconds single events are appended; each for
    /// each durability and number of guilds, and each again for the floor
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=30))]
    pub(crate) append_seconds: u32,
    /// Browsers that come back to a hub that was killed; lowered to what the descriptors allow
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=20_000))]
    pub(crate) recovery_browsers: u32,
    /// Rooms over which these and the events spread. An event is a frame to each browser of its room
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=400))]
    pub(crate) recovery_rooms: u32,
    /// How often recovery is measured, each time on new processes
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=20))]
    pub(crate) recovery_runs: u32,
    /// The ceiling of a browser's first wait before it comes back, in ms; it doubles with each attempt
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..=60_000))]
    pub(crate) backoff_base_ms: u32,
    /// ... up to this, in ms (both are the SDK's)
    #[arg(long, default_value_t = 15_000, value_parser = clap::value_parser!(u32).range(1..=600_000))]
    pub(crate) backoff_cap_ms: u32,
    /// Where hubs keep their logs meanwhile: on a disk, or durability costs nothing [default: the directory for temporary files]
    #[arg(long)]
    pub(crate) stores: Option<PathBuf>,
    /// Be a bare counterpart of the hub, as this program starts itself
    #[arg(long, hide = true, value_parser = parse_bare)]
    pub(crate) bare: Option<Bare>,
}

fn parse_bare(text: &str) -> Result<Bare, String> {
    serde_json::from_str(text)
        .map_err(|_| "It must be what this program starts itself with.".to_owned())
}

impl Program for Settings {
    fn problems(&self) -> Vec<Problem> {
        if self.rated_events().saturating_mul(self.browsers as usize) <= SAMPLES_MAX {
            return Vec::new();
        }
        let settings = ["--browsers", "--events-per-s", "--seconds"];
        let text = format!(
            "--browsers, --events-per-s and --seconds together mean more than {SAMPLES_MAX} samples. Lower one of them."
        );
        vec![Problem::new(&settings, text)]
    }
}

impl Settings {
    /// Events at a steady rate.
    pub(crate) fn rated_events(&self) -> usize {
        self.events_per_s as usize * self.seconds as usize
    }

    /// For how many browsers the time to the last of them is measured.
    pub(crate) fn sizes(&self) -> Vec<usize> {
        let all = self.browsers as usize;
        let mut sizes: Vec<usize> = [1, 100, 1_000]
            .into_iter()
            .filter(|size| *size < all)
            .collect();
        sizes.push(all);
        sizes
    }

    /// Where hubs keep their logs.
    pub(crate) fn stores(&self) -> PathBuf {
        self.stores.clone().unwrap_or_else(std::env::temp_dir)
    }

    /// Whether a group is wanted.
    pub(crate) fn wants(&self, group: Group) -> bool {
        self.only.contains(&group)
    }

    /// Lowers the numbers of browsers to what the descriptors allow, and says so.
    ///
    /// # Errors
    /// There are not even enough for one.
    pub(crate) fn fit(&mut self, limit: kernel::DescriptorLimit) -> anyhow::Result<Option<String>> {
        // A floor of the first group holds both ends of each connection; the crowd's is a process
        // of its own.
        let alone =
            u32::try_from(limit.soft.saturating_sub(DESCRIPTORS_BESIDES)).unwrap_or(u32::MAX);
        anyhow::ensure!(
            alone > 1,
            "{} descriptors are not enough; raise `ulimit -n`",
            limit.soft
        );
        let wanted = [&mut self.browsers, &mut self.recovery_browsers];
        let lowered: Vec<String> = wanted
            .into_iter()
            .zip([alone / 2, alone])
            .filter(|(wanted, most)| **wanted > *most)
            .map(|(wanted, most)| format!("{} lowered to {most}", std::mem::replace(wanted, most)))
            .collect();
        if lowered.is_empty() {
            return Ok(None);
        }
        Ok(Some(format!(
            "browsers need more than the {} descriptors of this process: {} (`ulimit -n`, at most {})",
            limit.soft,
            lowered.join(", "),
            limit.hard
        )))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(arguments: &[&str]) -> Settings {
        Settings::parse_from(std::iter::once("load").chain(arguments.iter().copied()))
    }

    #[test]
    fn sizes_grow_up_to_all_browsers() {
        assert_eq!(settings(&[]).sizes(), [1, 100, 1_000]);
        assert_eq!(settings(&["--browsers=1"]).sizes(), [1]);
        assert_eq!(settings(&["--browsers=250"]).sizes(), [1, 100, 250]);
        assert_eq!(
            settings(&["--browsers=3000"]).sizes(),
            [1, 100, 1_000, 3_000]
        );
    }

    #[test]
    fn too_few_descriptors_lower_the_number_of_browsers_and_it_is_said() {
        let mut tight = settings(&[]);
        let limit = kernel::DescriptorLimit {
            soft: 1_024,
            hard: 4_096,
        };
        let said = tight.fit(limit).unwrap().unwrap();
        assert_eq!(tight.browsers, 412);
        assert_eq!(tight.recovery_browsers, 824);
        assert!(said.contains("lowered to 412"), "{said}");
        let mut wide = settings(&[]);
        assert_eq!(
            wide.fit(kernel::DescriptorLimit {
                soft: 20_000,
                hard: 20_000
            })
            .unwrap(),
            None
        );
        assert_eq!(wide.browsers, 1_000);
        assert!(
            settings(&[])
                .fit(kernel::DescriptorLimit {
                    soft: 100,
                    hard: 100
                })
                .is_err()
        );
    }

    #[test]
    fn this_program_understands_what_it_starts_itself_with() {
        let bare = Bare::Echo {
            listen: "127.0.0.1:1".into(),
            file: "/tmp/x".into(),
            durability: crate::bare::Durability::Power,
        };
        let arguments = bare.arguments().unwrap();
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        assert!(matches!(settings(&arguments).bare, Some(Bare::Echo { .. })));
    }

    #[test]
    fn more_samples_than_fit_are_refused() {
        assert_eq!(settings(&[]).problems(), []);
        let many = settings(&["--browsers=20000", "--events-per-s=1000", "--seconds=600"]);
        assert_eq!(many.problems().len(), 1);
    }
}
