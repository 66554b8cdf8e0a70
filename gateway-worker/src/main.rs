//! The gateway worker.

use std::process::ExitCode;

#[tokio::main]
async fn main() -> ExitCode {
    gateway_worker::program::main().await
}
