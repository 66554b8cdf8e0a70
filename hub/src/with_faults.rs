//! The hub with fail points and planted faults, for tests.

use std::process::ExitCode;

#[tokio::main]
async fn main() -> ExitCode {
    hub::program::main().await
}
