//! The processes of one measurement, on loopback: only what was started here is ever ended here.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use anyhow::Context as _;
use reqwest::StatusCode;
use tokio::net::TcpListener;
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep, timeout};

use crate::kernel::Observed;

/// Until a process is ready: identifying takes a second, making keys in a debug build several.
const STARTUP_MAX: Duration = Duration::from_secs(60);
/// Also how exactly a restart is timed.
const ASK_AGAIN: Duration = Duration::from_millis(10);
const STOP_MAX: Duration = Duration::from_secs(5);
const REQUEST_MAX: Duration = Duration::from_secs(10);
/// A connection that was idle for longer is not used again: the hub lets go of it after 10 s.
const IDLE_MAX: Duration = Duration::from_secs(5);

/// Running processes. What is dropped without [`Processes::stop`] is killed as well.
pub(crate) struct Processes {
    running: Vec<Process>,
    log_level: &'static str,
    http: reqwest::Client,
}

struct Process {
    name: String,
    program: PathBuf,
    arguments: Vec<String>,
    variables: Vec<(String, String)>,
    child: Child,
}

impl Processes {
    /// None yet; what comes says what is at least of this level.
    ///
    /// # Errors
    /// No HTTP client can be made.
    pub(crate) fn none(log_level: &'static str) -> anyhow::Result<Self> {
        Ok(Self {
            running: Vec::new(),
            log_level,
            http: client()?,
        })
    }

    /// Starts a program that lies beside this one.
    ///
    /// # Errors
    /// It is missing or can not be started.
    pub(crate) fn spawn(&mut self, name: &str, variables: &[(&str, &str)]) -> anyhow::Result<()> {
        let variables = std::iter::once(&("LOG_LEVEL", self.log_level))
            .chain(variables)
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        self.start(name, beside(name)?, Vec::new(), variables)
    }

    /// Starts this program itself as another process, with these arguments.
    ///
    /// # Errors
    /// It can not be started.
    pub(crate) fn spawn_this(&mut self, name: &str, arguments: Vec<String>) -> anyhow::Result<()> {
        self.start(name, std::env::current_exe()?, arguments, Vec::new())
    }

    /// Waits until this address answers 200.
    ///
    /// # Errors
    /// It does not in time, or any of the processes ended by itself.
    pub(crate) async fn ready(&mut self, url: &str) -> anyhow::Result<()> {
        let deadline = Instant::now() + STARTUP_MAX;
        loop {
            if let Ok(answer) = self.http.get(url).send().await
                && answer.status() == StatusCode::OK
            {
                return Ok(());
            }
            self.check()?;
            anyhow::ensure!(
                Instant::now() < deadline,
                "{url} is not ready after {} s",
                STARTUP_MAX.as_secs()
            );
            sleep(ASK_AGAIN).await;
        }
    }

    /// Waits until something listens at this address.
    ///
    /// # Errors
    /// Nothing does in time, or any of the processes ended by itself.
    pub(crate) async fn listening(
        &mut self,
        address: &str,
    ) -> anyhow::Result<tokio::net::TcpStream> {
        let deadline = Instant::now() + STARTUP_MAX;
        loop {
            if let Ok(stream) = tokio::net::TcpStream::connect(address).await {
                return Ok(stream);
            }
            self.check()?;
            anyhow::ensure!(Instant::now() < deadline, "nothing listens at {address}");
            sleep(ASK_AGAIN).await;
        }
    }

    /// Kills a process as `kill -9` does, and waits for its end.
    ///
    /// # Errors
    /// There is none of this name.
    pub(crate) async fn kill(&mut self, name: &str) -> anyhow::Result<()> {
        let process = self.named(name)?;
        process.child.kill().await?;
        Ok(())
    }

    /// Starts a process that was killed anew, with the same settings.
    ///
    /// # Errors
    /// There is none of this name, or it can not be started.
    pub(crate) fn revive(&mut self, name: &str) -> anyhow::Result<()> {
        let process = self.named(name)?;
        process.child = child(&process.program, &process.arguments, &process.variables)?;
        Ok(())
    }

    /// Kills a process and forgets it.
    ///
    /// # Errors
    /// There is none of this name.
    pub(crate) async fn end(&mut self, name: &str) -> anyhow::Result<()> {
        self.kill(name).await?;
        self.running.retain(|process| process.name != name);
        Ok(())
    }

    /// Ends every process and waits for it.
    pub(crate) async fn stop(mut self) {
        // The last that was started first, or it would complain.
        for process in self.running.iter_mut().rev() {
            // One that has ended already needs no end.
            let _ended = process.child.start_kill();
        }
        for process in &mut self.running {
            let _ended = timeout(STOP_MAX, process.child.wait()).await;
        }
    }

    /// Processor time and memory of a process.
    ///
    /// # Errors
    /// It has ended.
    pub(crate) fn observe(&self, name: &str) -> anyhow::Result<Observed> {
        self.running
            .iter()
            .find(|process| process.name == name)
            .and_then(|process| process.child.id())
            .map(Observed::process)
            .with_context(|| format!("{name} has ended"))
    }

    /// Whether all of them are still there.
    ///
    /// # Errors
    /// One ended by itself.
    pub(crate) fn check(&mut self) -> anyhow::Result<()> {
        for process in &mut self.running {
            if let Some(status) = process.child.try_wait()? {
                anyhow::bail!("{} ended by itself: {status}", process.name);
            }
        }
        Ok(())
    }

    fn named(&mut self, name: &str) -> anyhow::Result<&mut Process> {
        self.running
            .iter_mut()
            .find(|process| process.name == name)
            .with_context(|| format!("{name} was not started"))
    }

    fn start(
        &mut self,
        name: &str,
        program: PathBuf,
        arguments: Vec<String>,
        variables: Vec<(String, String)>,
    ) -> anyhow::Result<()> {
        let child = child(&program, &arguments, &variables)
            .with_context(|| format!("{name} can not be started"))?;
        self.running.push(Process {
            name: name.to_owned(),
            program,
            arguments,
            variables,
            child,
        });
        Ok(())
    }
}

/// An HTTP client for loopback, which keeps its connections open between requests.
///
/// # Errors
/// None can be made.
pub(crate) fn client() -> anyhow::Result<reqwest::Client> {
    Ok(reqwest::Client::builder()
        .no_proxy()
        .timeout(REQUEST_MAX)
        .pool_idle_timeout(IDLE_MAX)
        .build()?)
}

fn child(
    program: &PathBuf,
    arguments: &[String],
    variables: &[(String, String)],
) -> std::io::Result<Child> {
    Command::new(program)
        .args(arguments)
        // Whatever this shell has set is not part of the measurement.
        .env_clear()
        .envs(variables.iter().map(|(name, value)| (name, value)))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .kill_on_drop(true)
        .spawn()
}

fn beside(name: &str) -> anyhow::Result<PathBuf> {
    let path = std::env::current_exe()?.with_file_name(name);
    anyhow::ensure!(
        path.is_file(),
        "{} is missing; `cargo build --release --workspace --bins` makes it",
        path.display()
    );
    Ok(path)
}

/// Addresses that were free a moment ago, all different.
///
/// # Errors
/// Not so many are free.
pub(crate) async fn free_addresses<const N: usize>() -> anyhow::Result<[String; N]> {
    let mut held = Vec::new();
    for _ in 0..N {
        held.push(TcpListener::bind("127.0.0.1:0").await?);
    }
    let mut addresses = [const { String::new() }; N];
    for (address, listener) in addresses.iter_mut().zip(&held) {
        *address = listener.local_addr()?.to_string();
    }
    Ok(addresses)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_is_not_there_is_named_with_how_to_make_it() {
        let said = beside("no-such-program").unwrap_err().to_string();
        assert!(
            said.contains("no-such-program") && said.contains("cargo build"),
            "{said}"
        );
    }
}
