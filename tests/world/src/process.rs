//! One of the real programs, running.

use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use reqwest::Client;
use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::process::{Child, Command};
use tokio::time::{sleep, timeout};

use crate::{DEADLINE, LOOK};

/// The size of a kept log, in bytes.
const LOG_BYTES_MAX: usize = 16 * 1024 * 1024;
/// How long a process may take to become ready: a debug build makes keys for several seconds.
const READY_MAX: Duration = Duration::from_secs(60);

/// Where a process writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Output {
    /// Into [`Process::log`].
    #[default]
    Captured,
    /// Into this program's standard error.
    Inherited,
}

/// How a process starts.
#[derive(Debug, Clone)]
pub struct Launch {
    name: String,
    program: PathBuf,
    arguments: Vec<String>,
    settings: Vec<(String, String)>,
    prelude: String,
    output: Output,
}

impl Launch {
    /// A program of the workspace, with nothing in its environment.
    pub fn of(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            program: program(name),
            arguments: Vec::new(),
            settings: Vec::new(),
            prelude: String::new(),
            output: Output::Captured,
        }
    }

    /// This program itself with these arguments.
    pub fn itself(name: &str, arguments: Vec<String>) -> Self {
        Self {
            program: std::env::current_exe().unwrap(),
            arguments,
            ..Self::of(name)
        }
    }

    /// Changes settings; an empty value removes one.
    #[must_use]
    pub fn with(mut self, changes: &[(&str, &str)]) -> Self {
        for (name, value) in changes {
            self.settings.retain(|(known, _)| known != name);
            if !value.is_empty() {
                self.settings
                    .push(((*name).to_owned(), (*value).to_owned()));
            }
        }
        self
    }

    /// Runs these words of a shell before the program, such as `ulimit -f 100`.
    #[must_use]
    pub fn after(mut self, prelude: &str) -> Self {
        prelude.clone_into(&mut self.prelude);
        self
    }

    /// Chooses where the process writes.
    #[must_use]
    pub fn writing_to(mut self, output: Output) -> Self {
        self.output = output;
        self
    }

    /// Starts it.
    pub fn start(self) -> Process {
        let mut command = if self.prelude.is_empty() {
            Command::new(&self.program)
        } else {
            let mut shell = Command::new("/bin/sh");
            let line = format!("{}; exec \"$0\" \"$@\"", self.prelude);
            shell.arg("-c").arg(line).arg(&self.program);
            shell
        };
        let (out, error) = match self.output {
            Output::Captured => (Stdio::piped(), Stdio::piped()),
            Output::Inherited => (Stdio::null(), Stdio::inherit()),
        };
        let mut child = command
            .args(&self.arguments)
            .env_clear()
            .envs(self.settings.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(out)
            .stderr(error)
            .kill_on_drop(true)
            .spawn()
            .unwrap_or_else(|error| {
                panic!(
                    "{}: {error}; build it: cargo build --workspace --bins",
                    self.program.display()
                )
            });
        let log = Arc::new(Mutex::new(String::new()));
        if let Some(out) = child.stdout.take() {
            tokio::spawn(keep(out, Arc::clone(&log)));
        }
        if let Some(error) = child.stderr.take() {
            tokio::spawn(keep(error, Arc::clone(&log)));
        }
        Process {
            launch: Box::new(self),
            child: Box::new(child),
            log,
        }
    }
}

/// A running program. Dropping it kills it. The boxes keep the futures of tests small.
pub struct Process {
    launch: Box<Launch>,
    child: Box<Child>,
    log: Arc<Mutex<String>>,
}

impl Process {
    /// Starts a program with these settings and nothing else in its environment.
    pub fn start(name: &str, settings: &[(&str, &str)]) -> Self {
        Launch::of(name).with(settings).start()
    }

    /// Starts the same program again, with the same settings.
    pub fn again(&self) -> Self {
        (*self.launch).clone().start()
    }

    /// Starts the same program again with changed settings; an empty value removes one.
    pub fn again_with(&self, changes: &[(&str, &str)]) -> Self {
        (*self.launch).clone().with(changes).start()
    }

    /// Runs the program once with these arguments and changed settings: its output and exit code.
    pub async fn order(&self, args: &[&str], changes: &[(&str, &str)]) -> (String, Option<i32>) {
        let launch = (*self.launch).clone().with(changes);
        let output = Command::new(&launch.program)
            .args(args)
            .env_clear()
            .envs(launch.settings)
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output();
        let output = timeout(DEADLINE, output)
            .await
            .unwrap_or_else(|_| panic!("{} {args:?} did not end", launch.name))
            .unwrap();
        let printed = [output.stdout, output.stderr].concat();
        (String::from_utf8(printed).unwrap(), output.status.code())
    }

    /// Its output so far.
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

    /// Its process id while it runs; `None` after its end.
    pub fn running(&mut self) -> Option<u32> {
        match self.child.try_wait() {
            Ok(None) => self.child.id(),
            Ok(Some(_)) | Err(_) => None,
        }
    }

    /// Panics with its log if it has ended.
    pub fn assert_running(&mut self) {
        if let Ok(Some(status)) = self.child.try_wait() {
            panic!("{} ended: {status}\n{}", self.launch.name, self.log());
        }
    }

    /// Waits until this URL answers with success.
    pub async fn ready(&mut self, http: &Client, url: &str) {
        let until = Instant::now() + READY_MAX;
        loop {
            if let Ok(answer) = http.get(url).send().await
                && answer.status().is_success()
            {
                return;
            }
            self.assert_running();
            assert!(Instant::now() < until, "{url} is not ready: {}", self.log());
            sleep(LOOK).await;
        }
    }

    /// Sends a signal. A process that has ended does not receive it.
    pub fn signal(&self, signal: Signal) {
        let id = self.child.id().and_then(|id| i32::try_from(id).ok());
        if let Some(pid) = id.and_then(Pid::from_raw) {
            // The process may end at this moment.
            let _sent = kill_process(pid, signal);
        }
    }

    /// Ends it by SIGKILL.
    pub async fn kill(&mut self) {
        self.child.kill().await.unwrap();
    }

    /// Ends it by SIGTERM; its exit status.
    pub async fn terminate(&mut self) -> ExitStatus {
        self.signal(Signal::TERM);
        self.exit().await
    }

    /// Waits for its end.
    pub async fn exit(&mut self) -> ExitStatus {
        timeout(DEADLINE, self.child.wait())
            .await
            .unwrap_or_else(|_| panic!("{} did not end: {}", self.launch.name, self.log()))
            .unwrap()
    }
}

/// The program in the folder that `ROOMWIRE_PROGRAMS` names (`target/release`, say), or else in the
/// target folder of this executable.
#[expect(
    clippy::disallowed_methods,
    reason = "of the tests alone: which programs are tested"
)]
pub fn program(name: &str) -> PathBuf {
    if let Some(folder) = std::env::var_os("ROOMWIRE_PROGRAMS") {
        return PathBuf::from(folder).join(name);
    }
    let own = std::env::current_exe().unwrap();
    let beside = own.parent().expect("a file is in a folder");
    let folder = match beside.parent() {
        Some(parent) if beside.ends_with("deps") => parent,
        _ => beside,
    };
    folder.join(name)
}

/// The time at which a program was built, if it was.
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
