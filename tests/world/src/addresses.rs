//! Free addresses on loopback.

use std::net::TcpListener;
use std::sync::atomic::{AtomicU32, Ordering};

/// Addresses on which nothing listens at the moment. They lie below the ports that systems give to
/// outgoing connections, and each call of this process continues after the last one, so that
/// nothing else takes them soon.
pub fn free_addresses<const N: usize>() -> [String; N] {
    const LOWEST: u32 = 10_000;
    const PORTS: u32 = 20_000;
    static NEXT: AtomicU32 = AtomicU32::new(0);
    // Processes that run at once begin apart.
    let begin = std::process::id().wrapping_mul(977);
    std::array::from_fn(|_| {
        let ports = (0..PORTS).map(|_| {
            let step = NEXT.fetch_add(1, Ordering::Relaxed);
            LOWEST + begin.wrapping_add(step) % PORTS
        });
        let mut addresses = ports.map(|port| format!("127.0.0.1:{port}"));
        addresses
            .find(|address| TcpListener::bind(address).is_ok())
            .expect("a free port")
    })
}
