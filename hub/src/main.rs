//! The hub.

use std::process::ExitCode;

#[tokio::main]
async fn main() -> ExitCode {
    hub::program::main().await
}
