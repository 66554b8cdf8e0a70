//! Programs of others that some tests need, such as nginx. `tests/tools.sh` gets them.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The folder of the checkout.
pub fn checkout() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
}

/// Finds a program: among the installed ones, or where `tests/tools.sh` unpacks them. `None` counts
/// as a skipped test, and the output says so.
pub fn tool(name: &str) -> Option<PathBuf> {
    let unpacked = checkout().join("target/tools/debian/usr");
    let places = [
        PathBuf::from(name),
        Path::new("/usr/sbin").join(name),
        unpacked.join("sbin").join(name),
        unpacked.join("bin").join(name),
    ];
    let runs = |path: &PathBuf| {
        Command::new(path)
            .arg("--version")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .is_ok()
    };
    let found = places.into_iter().find(runs);
    if found.is_none() {
        // Not captured by the test harness, so that a passing run shows it too.
        let _written = writeln!(std::io::stderr(), "SKIPPED: {name} is not installed");
    }
    found
}
