//! What can be chosen on the command line.

use clap::Parser;

use crate::kernel;

/// Samples that are kept at once, one for each event and browser (4 bytes each).
const SAMPLES_MAX: usize = 100_000_000;
/// Descriptors of a process besides the browsers' sockets: listeners, control connections, files.
const DESCRIPTORS_BESIDES: u64 = 200;

/// Measures Roomwire from the simulated Discord to the browser, beside what the kernel alone needs.
///
/// Starts hub, gateway-worker, discord-sim and dev-issuer, which must lie beside this program, on
/// free loopback ports, and ends them again.
#[derive(Debug, Clone, Parser)]
#[command(name = "load", version, about, max_term_width = 110)]
pub(crate) struct Settings {
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
    /// How often everything is measured, on processes started anew; the median is shown
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=20))]
    pub(crate) runs: u32,
    /// Single events by which the time to the last browser is measured, for each number of browsers
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pub(crate) single_events: u32,
    /// Rooms that are created and ended, one after the other: once with nobody watching and once
    /// with all browsers
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=2_000))]
    pub(crate) rooms: u32,
}

impl Settings {
    /// Events of the stage at a steady rate.
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

    /// Says what is wrong with the settings as a whole.
    ///
    /// # Errors
    /// One line that names the flags.
    pub(crate) fn check(&self) -> Result<(), String> {
        if self.rated_events().saturating_mul(self.browsers as usize) > SAMPLES_MAX {
            return Err(format!(
                "--browsers, --events-per-s and --seconds together mean more than {SAMPLES_MAX} samples"
            ));
        }
        Ok(())
    }

    /// Lowers the number of browsers to what the descriptors allow, and says so.
    ///
    /// # Errors
    /// There are not even enough for one.
    pub(crate) fn fit(&mut self, limit: kernel::DescriptorLimit) -> anyhow::Result<Option<String>> {
        // The floor holds both ends of each connection.
        let most = limit.soft.saturating_sub(DESCRIPTORS_BESIDES) / 2;
        let most = u32::try_from(most).unwrap_or(u32::MAX);
        anyhow::ensure!(
            most > 0,
            "{} descriptors are not enough; raise `ulimit -n`",
            limit.soft
        );
        if self.browsers <= most {
            return Ok(None);
        }
        let wanted = std::mem::replace(&mut self.browsers, most);
        Ok(Some(format!(
            "{wanted} browsers need more than the {} descriptors of this process: lowered to {most} (`ulimit -n`, at most {})",
            limit.soft, limit.hard
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
    fn more_samples_than_fit_are_refused() {
        assert_eq!(settings(&[]).check(), Ok(()));
        assert!(
            settings(&["--browsers=20000", "--events-per-s=1000", "--seconds=600"])
                .check()
                .is_err()
        );
    }
}
