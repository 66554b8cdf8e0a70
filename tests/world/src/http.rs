//! HTTP clients for loopback.

use std::time::Duration;

use reqwest::Client;

use crate::DEADLINE;

/// A connection that was idle for longer is not used again: the programs close it after 10 s.
const IDLE_MAX: Duration = Duration::from_secs(5);

/// A client that opens a connection for each request: a refused request must not spoil the next.
pub(crate) fn unpooled() -> Client {
    let builder = Client::builder().no_proxy().timeout(DEADLINE);
    builder.pool_max_idle_per_host(0).build().unwrap()
}

/// A client that keeps its connections open between requests.
pub fn pooled() -> Client {
    let builder = Client::builder().no_proxy().timeout(DEADLINE);
    builder.pool_idle_timeout(IDLE_MAX).build().unwrap()
}
