//! A scrape of `/metrics`, read strictly: Prometheus' text format, version 0.0.4
//! (<https://prometheus.io/docs/instrumenting/exposition_formats/>).

use std::collections::{BTreeMap, BTreeSet};

/// The metrics of one scrape.
#[derive(Debug, Default)]
pub struct Scrape {
    /// The metrics, by name.
    pub families: BTreeMap<String, Family>,
}

/// One metric with its series.
#[derive(Debug, Default)]
pub struct Family {
    /// Its `# HELP` line.
    pub help: Option<String>,
    /// Its `# TYPE` line.
    pub kind: Option<String>,
    /// The samples: name, labels as they are written, value.
    pub samples: Vec<(String, String, f64)>,
}

impl Scrape {
    /// Reads a scrape.
    pub fn read(text: &str) -> Self {
        let mut scrape = Self::default();
        for line in text.lines().filter(|line| !line.is_empty()) {
            if let Some(comment) = line.strip_prefix("# ") {
                let mut words = comment.splitn(3, ' ');
                let (sort, name) = (words.next().unwrap(), words.next().unwrap());
                let rest = words.next().unwrap_or_default().to_owned();
                let family = scrape.families.entry(name.to_owned()).or_default();
                assert!(family.samples.is_empty(), "{line}: after its samples");
                let slot = match sort {
                    "HELP" => &mut family.help,
                    "TYPE" => &mut family.kind,
                    _ => panic!("a comment of another sort: {line}"),
                };
                assert_eq!(slot.replace(rest), None, "{line}: twice");
            } else {
                scrape.sample(line);
            }
        }
        scrape
    }

    fn sample(&mut self, line: &str) {
        let (series, value) = line.rsplit_once(' ').unwrap();
        let (name, labels) = series.split_once('{').unwrap_or((series, "}"));
        let labels = labels.strip_suffix('}').unwrap();
        let value: f64 = value.parse().unwrap();
        // The series of a histogram or a summary have names of their own.
        let family = ["_bucket", "_sum", "_count"]
            .iter()
            .filter_map(|suffix| name.strip_suffix(suffix))
            .find(|family| {
                let kind = self
                    .families
                    .get(*family)
                    .and_then(|one| one.kind.as_deref());
                matches!(kind, Some("histogram" | "summary"))
            })
            .unwrap_or(name);
        let family = self.families.entry(family.to_owned()).or_default();
        family
            .samples
            .push((name.to_owned(), labels.to_owned(), value));
    }

    /// The sum of a series' samples whose labels contain all of these.
    pub fn sum(&self, name: &str, labels: &[&str]) -> f64 {
        let samples = self.families.values().flat_map(|family| &family.samples);
        samples
            .filter(|(sample, of, _)| {
                sample == name && labels.iter().all(|label| of.contains(label))
            })
            .map(|(_, _, value)| value)
            .sum()
    }

    /// The names of all series, such as those of a histogram's buckets.
    pub fn names(&self) -> BTreeSet<&str> {
        let samples = self.families.values().flat_map(|family| &family.samples);
        samples.map(|(name, _, _)| name.as_str()).collect()
    }
}
