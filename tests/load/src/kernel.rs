//! What the kernel says of processes and of the machine (`proc(5)`).

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use procfs::process::Process;
use procfs::{Current as _, CurrentSI as _};
use rustix::process::{Resource, getrlimit};

/// How many descriptors a process may open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct DescriptorLimit {
    /// The limit that holds.
    pub(crate) soft: u64,
    /// How far the process may raise it itself.
    pub(crate) hard: u64,
}

/// This process's limit of open descriptors.
pub(crate) fn descriptor_limit() -> DescriptorLimit {
    let limit = getrlimit(Resource::Nofile);
    DescriptorLimit {
        soft: limit.current.unwrap_or(u64::MAX),
        hard: limit.maximum.unwrap_or(u64::MAX),
    }
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
        Self::process(std::process::id())
    }

    /// The thread that asks.
    ///
    /// # Errors
    /// There is no `/proc`.
    pub(crate) fn this_thread() -> std::io::Result<Self> {
        fs::canonicalize("/proc/thread-self").map(Self)
    }

    fn read(&self) -> procfs::ProcResult<Process> {
        Process::new_with_root(self.0.clone())
    }

    /// Memory that is resident, in KiB.
    ///
    /// # Errors
    /// The process is gone.
    pub(crate) fn resident_kib(&self) -> anyhow::Result<f64> {
        let status = self.read()?.status()?;
        Ok(status.vmrss.context("no VmRSS in its status")? as f64)
    }

    /// Processor time used so far, by itself and the kernel on its behalf, in seconds.
    ///
    /// # Errors
    /// The process is gone.
    pub(crate) fn processor_s(&self) -> anyhow::Result<f64> {
        let stat = self.read()?.stat()?;
        Ok(seconds(stat.utime + stat.stime))
    }
}

fn seconds(ticks: u64) -> f64 {
    ticks as f64 / procfs::ticks_per_second() as f64
}

/// Processor time that was used so far on all cores by everybody, in seconds.
///
/// # Errors
/// There is no readable `/proc/stat`.
pub(crate) fn busy_s() -> anyhow::Result<f64> {
    let all = procfs::KernelStats::current()?.total;
    let interrupts = [all.irq, all.softirq, all.steal].into_iter().flatten();
    let busy = all.user + all.nice + all.system + interrupts.sum::<u64>();
    Ok(seconds(busy))
}

/// The type of the file system that a path is on, and what it is mounted from.
pub(crate) fn file_system(path: &Path) -> String {
    let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let mounts = Process::myself().and_then(|process| process.mountinfo());
    let holding = mounts.into_iter().flatten();
    let holding = holding.filter(|mount| path.starts_with(&mount.mount_point));
    // Of two mounts at one place, the later one is in sight.
    let innermost = holding.max_by_key(|mount| mount.mount_point.components().count());
    innermost.map_or_else(
        || "an unknown file system".to_owned(),
        |mount| {
            let from = mount.mount_source.unwrap_or_default();
            format!("{} ({from})", mount.fs_type)
        },
    )
}

/// One line that describes the machine and how busy it is.
pub(crate) fn machine() -> String {
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let model = procfs::CpuInfo::current().ok();
    let model = model.as_ref().and_then(|info| info.model_name(0));
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let load = procfs::LoadAverage::current().map_or(f32::NAN, |load| load.one);
    format!(
        "{cores} cores ({}), Linux {}, load average {load:.2} when it began",
        model.unwrap_or("unknown processor"),
        release.trim(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_and_machine_can_be_observed() {
        assert!(Observed::this_process().resident_kib().unwrap() > 0.0);
        let thread = Observed::this_thread().unwrap();
        assert!(thread.processor_s().unwrap() >= 0.0);
        assert!(descriptor_limit().soft > 0);
        assert!(busy_s().unwrap() > 0.0);
        assert!(file_system(Path::new("/proc/self")).starts_with("proc ("));
        assert!(machine().contains("Linux"));
    }
}
