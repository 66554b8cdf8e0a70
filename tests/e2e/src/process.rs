//! One of the real programs, running.

use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};

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
        Self::launch(name.to_owned(), settings)
    }

    /// The same program with the same settings once more.
    pub fn again(&self) -> Self {
        Self::launch(self.name.clone(), self.settings.clone())
    }

    fn launch(name: String, settings: Vec<(String, String)>) -> Self {
        let path = program(&name);
        let mut child = Command::new(&path)
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

/// The program beside this test's own executable.
fn program(name: &str) -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let folder = test
        .ancestors()
        .find(|folder| folder.ends_with("deps"))
        .and_then(|deps| deps.parent());
    folder
        .unwrap_or_else(|| panic!("{} is not in a target folder", test.display()))
        .join(name)
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
