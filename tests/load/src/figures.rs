//! The results: figures of one run, and the table over all runs.

use std::fmt::Write as _;

/// A floor that fits into the figure more often than this is no yardstick for it.
const YARDSTICKS_MAX: f64 = 100.0;

/// The part of the sorted samples at or below which `share` (0 to 1) of them lie (nearest rank).
/// Without samples: not a number.
pub(crate) fn quantile(samples: &mut [f64], share: f64) -> f64 {
    samples.sort_unstable_by(f64::total_cmp);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a rank is a small, non-negative number"
    )]
    let rank = (share * samples.len() as f64).ceil() as usize;
    samples.get(rank.max(1) - 1).copied().unwrap_or(f64::NAN)
}

/// One row: the system's figure beside the kernel's floor.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Figure {
    /// The quantity, with its unit.
    pub(crate) what: String,
    /// With Roomwire.
    pub(crate) ours: f64,
    /// Without it.
    pub(crate) floor: f64,
    /// Of rates, more is better; of everything else, less. The ratio says how many times worse
    /// than the floor either is.
    more_is_better: bool,
}

impl Figure {
    /// A row of which less is better.
    pub(crate) fn new(what: impl Into<String>, ours: f64, floor: f64) -> Self {
        Self {
            what: what.into(),
            ours,
            floor,
            more_is_better: false,
        }
    }

    /// A row of which more is better.
    pub(crate) fn rate(what: impl Into<String>, ours: f64, floor: f64) -> Self {
        Self {
            more_is_better: true,
            ..Self::new(what, ours, floor)
        }
    }
}

/// The table over runs that measured the same rows: medians, with the least and the most.
pub(crate) fn table(runs: &[Vec<Figure>]) -> String {
    let rows = runs.first().map_or(0, Vec::len);
    let mut cells = vec![["", "Roomwire", "floor", "ratio"].map(str::to_owned)];
    for row in 0..rows {
        let of = |pick: fn(&Figure) -> f64| -> Vec<f64> {
            runs.iter()
                .filter_map(|run| run.get(row))
                .map(pick)
                .collect()
        };
        let Some(first) = runs.first().and_then(|run| run.get(row)) else {
            continue;
        };
        let (mut ours, mut floor) = (of(|figure| figure.ours), of(|figure| figure.floor));
        let (ours_text, floor_text) = (spread(&mut ours), spread(&mut floor));
        let (ours, floor) = (quantile(&mut ours, 0.5), quantile(&mut floor, 0.5));
        let times = if first.more_is_better {
            floor / ours
        } else {
            ours / floor
        };
        let ratio = if times < YARDSTICKS_MAX {
            format!("{times:.2}")
        } else {
            "-".to_owned()
        };
        cells.push([first.what.clone(), ours_text, floor_text, ratio]);
    }
    let width = |column: usize| {
        cells
            .iter()
            .map(|cells| cells[column].chars().count())
            .max()
            .unwrap_or(0)
    };
    let widths = [width(0), width(1), width(2), width(3)];
    let mut text = String::new();
    for [what, ours, floor, ratio] in &cells {
        // Writing to a string does not fail.
        let _written = writeln!(
            text,
            "{what:<0$}  {ours:>1$}  {floor:>2$}  {ratio:>3$}",
            widths[0], widths[1], widths[2], widths[3]
        );
    }
    text
}

/// The median, and the least and the most where there are several.
fn spread(values: &mut [f64]) -> String {
    let median = shown(quantile(values, 0.5));
    match values {
        [] | [_] => median,
        [least, .., most] => format!("{median} ({} to {})", shown(*least), shown(*most)),
    }
}

fn shown(value: f64) -> String {
    let digits = match value.abs() {
        size if size >= 100.0 => 0,
        size if size >= 10.0 => 1,
        size if size >= 1.0 => 2,
        _ => 3,
    };
    format!("{value:.digits$}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_of_the_nearest_rank() {
        let mut samples: Vec<f64> = (1..=100).rev().map(f64::from).collect();
        assert_eq!(
            [0.0, 0.5, 0.95, 0.99, 1.0].map(|share| quantile(&mut samples, share)),
            [1.0, 50.0, 95.0, 99.0, 100.0]
        );
        assert_eq!(quantile(&mut [7.0], 0.99), 7.0);
        assert!(quantile(&mut [], 0.5).is_nan());
    }

    #[test]
    fn a_rate_is_as_many_times_worse_as_the_floor_is_faster() {
        let text = table(&[vec![
            Figure::rate("a", 50.0, 100.0),
            Figure::rate("b", 1.0, 1e6),
            Figure::new("c", 0.0, 0.0),
        ]]);
        let ends: Vec<&str> = text
            .lines()
            .filter_map(|line| line.split(' ').next_back())
            .collect();
        assert_eq!(ends, ["ratio", "2.00", "-", "-"]);
    }

    #[test]
    fn the_table_shows_medians_spreads_and_ratios_in_columns() {
        let run = |ours, floor| {
            vec![
                Figure::new("latency, ms", ours, floor),
                Figure::new("memory", 20.0, 0.0),
            ]
        };
        let text = table(&[run(4.0, 2.0), run(150.0, 3.0), run(6.0, 2.5)]);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 3);
        assert!(
            lines[1].contains("6.00 (4.00 to 150)") && lines[1].contains("2.50 (2.00 to 3.00)"),
            "{text}"
        );
        assert!(
            lines[1].ends_with("2.40") && lines[2].ends_with('-'),
            "{text}"
        );
        assert!(
            lines.iter().all(|line| line.len() == lines[0].len()),
            "{text}"
        );
        assert!(!table(&[run(4.0, 2.0)]).contains("to"));
    }
}
