//! Bare counterparts of the hub, as processes of their own: what the floors are measured against.
//! This program starts itself with `--bare`.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpListener;

use serde::{Deserialize, Serialize};

use crate::recovery::bare_crowd;

/// What an acknowledged event survives: the hub's setting `STORE_DURABILITY`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Durability {
    /// Any death of the process.
    Process,
    /// A power cut too.
    Power,
}

impl Durability {
    /// As the setting has it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Process => "process",
            Self::Power => "power",
        }
    }
}

/// What to be.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase")]
pub(crate) enum Bare {
    /// Answers every POST once its body is in a file: a thread and a file for each connection.
    Echo {
        /// Where it listens.
        listen: String,
        /// The beginning of the files' paths.
        file: String,
        /// How firmly it writes.
        durability: Durability,
    },
    /// Accepts WebSockets and writes frames to them.
    Crowd(bare_crowd::Plan),
}

impl Bare {
    /// This program's arguments that make it one.
    ///
    /// # Errors
    /// It cannot be written as JSON.
    pub(crate) fn arguments(&self) -> serde_json::Result<Vec<String>> {
        Ok(vec!["--bare".to_owned(), serde_json::to_string(self)?])
    }

    /// Is one, until the process is killed.
    ///
    /// # Errors
    /// An address is taken, or a file cannot be written.
    pub(crate) fn run(self) -> anyhow::Result<()> {
        match self {
            Self::Echo {
                listen,
                file,
                durability,
            } => echo(&listen, &file, durability),
            Self::Crowd(plan) => tokio::runtime::Builder::new_multi_thread()
                .enable_all()
                .build()?
                .block_on(bare_crowd::serve(plan)),
        }
    }
}

fn echo(listen: &str, file: &str, durability: Durability) -> anyhow::Result<()> {
    let listener = TcpListener::bind(listen)?;
    for nth in 0_u64.. {
        let (stream, _) = listener.accept()?;
        stream.set_nodelay(true)?;
        let mut file = File::create(format!("{file}.{nth}"))?;
        std::thread::spawn(move || answer(stream, &mut file, durability));
    }
    Ok(())
}

/// Answers requests until the connection ends.
fn answer(
    stream: std::net::TcpStream,
    file: &mut File,
    durability: Durability,
) -> std::io::Result<()> {
    const RECEIPT: &str = r#"{"accepted":1,"duplicates":0,"refused":[]}"#;
    let (mut reader, mut writer) = (BufReader::new(stream.try_clone()?), stream);
    let (mut line, mut length, mut body) = (String::new(), 0, Vec::new());
    loop {
        line.clear();
        if reader.read_line(&mut line)? == 0 {
            return Ok(());
        }
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap_or(0);
        }
        if !line.trim().is_empty() {
            continue;
        }
        body.resize(length, 0);
        reader.read_exact(&mut body)?;
        file.write_all(&body)?;
        if durability == Durability::Power {
            file.sync_data()?;
        }
        let head = format!(
            "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
            RECEIPT.len()
        );
        writer.write_all(format!("{head}{RECEIPT}").as_bytes())?;
    }
}
