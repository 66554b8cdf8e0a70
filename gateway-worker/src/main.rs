//! gateway-worker
fn main() {}
