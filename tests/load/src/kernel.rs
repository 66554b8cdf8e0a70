//! What the kernel says of processes and of the machine (`proc(5)`).

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context as _;

/// `/proc/<pid>/stat` counts in hundredths of a second (`USER_HZ`), independent of the kernel's own tick.
const TICKS_PER_S: f64 = 100.0;

/// How many descriptors a process may open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct DescriptorLimit {
    /// The limit that holds.
    pub(crate) soft: u64,
    /// How far the process may raise it itself.
    pub(crate) hard: u64,
}

/// This process's limit of open descriptors.
///
/// # Errors
/// There is no readable `/proc`.
pub(crate) fn descriptor_limit() -> anyhow::Result<DescriptorLimit> {
    read_limit(&fs::read_to_string("/proc/self/limits")?)
        .context("no 'Max open files' in /proc/self/limits")
}

fn read_limit(limits: &str) -> Option<DescriptorLimit> {
    let line = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max open files"))?;
    let mut words = line.split_whitespace().map(|word| match word {
        "unlimited" => Some(u64::MAX),
        number => number.parse().ok(),
    });
    Some(DescriptorLimit {
        soft: words.next()??,
        hard: words.next()??,
    })
}

/// A process or thread, as `/proc` names it.
#[derive(Debug, Clone)]
pub(crate) struct Observed(PathBuf);

impl Observed {
    /// The process of this id.
    pub(crate) fn process(id: u32) -> Self {
        Self(Path::new("/proc").join(id.to_string()))
    }

    /// This process.
    pub(crate) fn this_process() -> Self {
        Self("/proc/self".into())
    }

    /// The thread that asks.
    pub(crate) fn this_thread() -> Self {
        Self("/proc/thread-self".into())
    }

    /// Memory that is resident, in KiB.
    ///
    /// # Errors
    /// The process is gone.
    pub(crate) fn resident_kib(&self) -> anyhow::Result<f64> {
        let status = fs::read_to_string(self.0.join("status"))?;
        read_resident(&status).context("no VmRSS in its status")
    }

    /// Processor time used so far, by itself and the kernel on its behalf, in seconds.
    ///
    /// # Errors
    /// The process is gone.
    pub(crate) fn processor_s(&self) -> anyhow::Result<f64> {
        let stat = fs::read_to_string(self.0.join("stat"))?;
        read_processor(&stat).context("its stat cannot be read")
    }
}

fn read_resident(status: &str) -> Option<f64> {
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix("kB")?.trim().parse().ok()
}

fn read_processor(stat: &str) -> Option<f64> {
    // The second field is the name in parentheses, which may hold anything.
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_whitespace().skip(11);
    let user: f64 = fields.next()?.parse().ok()?;
    let system: f64 = fields.next()?.parse().ok()?;
    Some((user + system) / TICKS_PER_S)
}

/// Processor time that was used so far on all cores by everybody, in seconds.
///
/// # Errors
/// There is no readable `/proc/stat`.
pub(crate) fn busy_s() -> anyhow::Result<f64> {
    read_busy(&fs::read_to_string("/proc/stat")?).context("/proc/stat cannot be read")
}

fn read_busy(stat: &str) -> Option<f64> {
    let mut fields = stat
        .lines()
        .next()?
        .strip_prefix("cpu ")?
        .split_whitespace();
    let mut busy = 0.0;
    // user, nice, system, idle, iowait, irq, softirq, steal; what follows is in these already.
    for place in 0..8 {
        let ticks: f64 = fields.next()?.parse().ok()?;
        if place != 3 && place != 4 {
            busy += ticks;
        }
    }
    Some(busy / TICKS_PER_S)
}

/// The type of the file system that a path is on, and what it is mounted from.
pub(crate) fn file_system(path: &Path) -> String {
    let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    read_mount(&mounts, &path).unwrap_or_else(|| "an unknown file system".to_owned())
}

fn read_mount(mounts: &str, path: &Path) -> Option<String> {
    let mut best: Option<(usize, String)> = None;
    for line in mounts.lines() {
        let mut fields = line.split_whitespace();
        let (from, at, kind) = (fields.next()?, Path::new(fields.next()?), fields.next()?);
        let depth = at.components().count();
        // Of two mounts at one place, the later one is in sight.
        if path.starts_with(at) && best.as_ref().is_none_or(|(most, _)| depth >= *most) {
            best = Some((depth, format!("{kind} ({from})")));
        }
    }
    best.map(|(_, named)| named)
}

/// One line that describes the machine and how busy it is.
pub(crate) fn machine() -> String {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let model = read("/proc/cpuinfo")
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(':'))
        .map_or_else(
            || "unknown processor".to_owned(),
            |(_, model)| model.trim().to_owned(),
        );
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let load = read("/proc/loadavg");
    format!(
        "{cores} cores ({model}), Linux {}, load average {} when it began",
        read("/proc/sys/kernel/osrelease").trim(),
        load.split_whitespace().next().unwrap_or("unknown")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_texts_of_the_kernel_are_read() {
        let limits = "Limit   Soft Limit  Hard Limit  Units\nMax open files            1024                 unlimited            files\n";
        assert_eq!(
            read_limit(limits),
            Some(DescriptorLimit {
                soft: 1_024,
                hard: u64::MAX
            })
        );
        assert_eq!(read_limit("Max stack size 1 2"), None);
        assert_eq!(
            read_resident("Name:\thub\nVmRSS:\t   12345 kB\n"),
            Some(12_345.0)
        );
        let stat = "7 (a) name) S 1 2 3 4 5 6 7 8 9 10 250 150 0 0 20";
        assert_eq!(read_processor(stat), Some(4.0));
        assert_eq!(read_processor("7 (short) S 1"), None);
        let stat = "cpu  100 10 200 9000 800 1 2 37 5 5\ncpu0 1 1\n";
        assert_eq!(read_busy(stat), Some(3.5));
        assert_eq!(read_busy("cpu  1 2 3"), None);
    }

    #[test]
    fn the_innermost_mount_holds_a_path() {
        let mounts =
            "/dev/vda / ext4 rw 0 0\ntmpfs /tmp tmpfs rw 0 0\n/dev/vdb /tmpfile xfs rw 0 0\n";
        let read = |path: &str| read_mount(mounts, Path::new(path)).unwrap();
        assert_eq!(read("/tmp/a/b"), "tmpfs (tmpfs)");
        assert_eq!(read("/tmpx"), "ext4 (/dev/vda)");
        assert_eq!(read("/tmpfile"), "xfs (/dev/vdb)");
    }

    #[test]
    fn this_process_can_be_observed() {
        assert!(Observed::this_process().resident_kib().unwrap() > 0.0);
        assert!(Observed::this_thread().processor_s().unwrap() >= 0.0);
        assert!(
            Observed::process(std::process::id())
                .resident_kib()
                .unwrap()
                > 0.0
        );
        assert!(descriptor_limit().unwrap().soft > 0);
        assert!(busy_s().unwrap() > 0.0);
        assert!(machine().contains("Linux"));
    }
}
