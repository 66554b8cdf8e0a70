//! One of the real programs, running.

use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::process::{Child, Command};
use tokio::time::timeout;

use crate::DEADLINE;

/// How much of a log is kept, in bytes; a test that needs more is another test.
const LOG_BYTES_MAX: usize = 16 * 1024 * 1024;

/// A running program. Dropping it kills it.
pub struct Process {
    name: String,
    settings: Vec<(String, String)>,
    /// A shell's words before the program, where it is to start with other limits or signals.
    prelude: String,
    child: Child,
    log: Arc<Mutex<String>>,
}

impl Process {
    /// Starts a program with these settings and nothing else in its environment.
    pub fn start(name: &str, settings: &[(&str, &str)]) -> Self {
        let settings = settings
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        Self::launch(name.to_owned(), settings, String::new())
    }

    /// Starts a program after these words of a shell, such as `ulimit -f 100`.
    pub fn start_after(prelude: &str, name: &str, settings: &[(&str, &str)]) -> Self {
        let settings = settings
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        Self::launch(name.to_owned(), settings, prelude.to_owned())
    }

    /// The same program with the same settings once more.
    pub fn again(&self) -> Self {
        self.again_with(&[])
    }

    /// The same program with some of its settings changed; an empty value takes one away.
    pub fn again_with(&self, changes: &[(&str, &str)]) -> Self {
        let mut settings = self.settings.clone();
        for (name, value) in changes {
            settings.retain(|(known, _)| known != name);
            if !value.is_empty() {
                settings.push(((*name).to_owned(), (*value).to_owned()));
            }
        }
        Self::launch(self.name.clone(), settings, self.prelude.clone())
    }

    /// Runs the program once more with these arguments, and with some of its settings changed as
    /// [`Process::again_with`] does: what it printed, and its exit code.
    pub async fn order(&self, args: &[&str], changes: &[(&str, &str)]) -> (String, Option<i32>) {
        let kept = self
            .settings
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .filter(|(name, _)| changes.iter().all(|(changed, _)| changed != name));
        let set = changes
            .iter()
            .copied()
            .filter(|(_, value)| !value.is_empty());
        let output = Command::new(program(&self.name))
            .args(args)
            .env_clear()
            .envs(kept.chain(set))
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output();
        let output = timeout(DEADLINE, output)
            .await
            .unwrap_or_else(|_| panic!("{} {args:?} did not end", self.name))
            .unwrap();
        let printed = [output.stdout, output.stderr].concat();
        (String::from_utf8(printed).unwrap(), output.status.code())
    }

    fn launch(name: String, settings: Vec<(String, String)>, prelude: String) -> Self {
        let path = program(&name);
        let mut command = if prelude.is_empty() {
            Command::new(&path)
        } else {
            let mut shell = Command::new("/bin/sh");
            shell
                .arg("-c")
                .arg(format!("{prelude}; exec \"$0\""))
                .arg(&path);
            shell
        };
        let mut child = command
            .env_clear()
            .envs(settings.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap_or_else(|error| {
                panic!(
                    "{}: {error}; build it: cargo build --workspace --bins",
                    path.display()
                )
            });
        let log = Arc::new(Mutex::new(String::new()));
        tokio::spawn(keep(child.stdout.take().unwrap(), Arc::clone(&log)));
        tokio::spawn(keep(child.stderr.take().unwrap(), Arc::clone(&log)));
        Self {
            name,
            settings,
            prelude,
            child,
            log,
        }
    }

    /// What it printed so far.
    pub fn log(&self) -> String {
        self.log
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id().expect("still running")
    }

    /// Its process id while it runs; `None` once it has ended and that was noticed.
    pub fn running(&mut self) -> Option<u32> {
        match self.child.try_wait() {
            Ok(None) => self.child.id(),
            Ok(Some(_)) | Err(_) => None,
        }
    }

    /// Ends it by SIGKILL.
    pub async fn kill(&mut self) {
        self.child.kill().await.unwrap();
    }

    /// Ends it by SIGTERM; its exit status.
    pub async fn terminate(&mut self) -> ExitStatus {
        let sent = std::process::Command::new("kill")
            .arg("-TERM")
            .arg(self.id().to_string())
            .status()
            .unwrap();
        assert!(sent.success());
        self.exit().await
    }

    /// Waits for its end.
    pub async fn exit(&mut self) -> ExitStatus {
        timeout(DEADLINE, self.child.wait())
            .await
            .unwrap_or_else(|_| panic!("{} did not end: {}", self.name, self.log()))
            .unwrap()
    }
}

/// The program in the folder that `ROOMWIRE_PROGRAMS` names (`target/release`, say), or else in the
/// same target folder as this one, a test's or a program's own executable.
#[expect(
    clippy::disallowed_methods,
    reason = "of the tests alone: which programs are tested"
)]
pub fn program(name: &str) -> PathBuf {
    if let Some(folder) = std::env::var_os("ROOMWIRE_PROGRAMS") {
        return PathBuf::from(folder).join(name);
    }
    let own = std::env::current_exe().unwrap();
    let mut folders = own.ancestors().skip(1);
    let beside = folders
        .next()
        .unwrap_or_else(|| panic!("{} lies nowhere", own.display()));
    let folder = match beside.parent() {
        Some(parent) if beside.ends_with("deps") => parent,
        _ => beside,
    };
    folder.join(name)
}

/// When a program beside this one was built, if it was.
pub fn built_at(name: &str) -> Option<SystemTime> {
    program(name).metadata().ok()?.modified().ok()
}

async fn keep(output: impl AsyncRead + Unpin, log: Arc<Mutex<String>>) {
    let mut lines = BufReader::new(output).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        let mut log = log.lock().unwrap_or_else(PoisonError::into_inner);
        if log.len() < LOG_BYTES_MAX {
            log.push_str(&line);
            log.push('\n');
        }
    }
}
