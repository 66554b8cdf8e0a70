//! Reading on after the last answer, so that the answer arrives.
//!
//! A socket that is closed while the client still sends is reset by the kernel, and the reset
//! destroys what the client has not read yet: a refusal is lost, and a reverse proxy reports 502.
//! So the listener closes only its own half of the connection, reads what still comes, discards it,
//! and closes the rest when the client has closed or a bound is reached (RFC 9112, section 9.6).

use std::collections::BTreeMap;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::runtime::Handle;
use tokio::task::coop::consume_budget;
use tokio::time::sleep;
use tokio_io_timeout::TimeoutStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::task_tracker::TaskTrackerToken;

use super::MetricNames;

/// How much longer a connection is read once the listener ends: enough for a round trip.
const END_TIME: Duration = Duration::from_millis(500);
/// How much is read at once, in bytes; on the stack, and discarded.
const READ_BYTES: usize = 16 * 1024;

/// The bounds of reading on after an answer. At the first two of them the connection is closed.
#[derive(Debug, Clone, Copy)]
pub struct LingerBounds {
    /// How long a connection is read.
    pub time_max: Duration,
    /// How much of it, in bytes.
    pub bytes_max: u64,
    /// How many connections are read at once, at least one. They do not count among the listener's
    /// connections, so that a client that was refused keeps nobody out. For one more the oldest is
    /// closed: a client that stays cannot take the answer from those that come later.
    pub connections_max: usize,
}

/// The connections of one listener that are read after their last answer.
#[derive(Debug)]
pub(super) struct LingerPool {
    bounds: LingerBounds,
    places: Mutex<Places>,
    names: MetricNames,
    end: CancellationToken,
}

/// Who is read on, by age; cancelling a place closes its connection.
#[derive(Debug, Default)]
struct Places {
    next: u64,
    taken: BTreeMap<u64, CancellationToken>,
}

impl LingerPool {
    pub(super) fn new(bounds: LingerBounds, names: MetricNames, end: CancellationToken) -> Self {
        Self {
            bounds,
            places: Mutex::default(),
            names,
            end,
        }
    }

    /// Reads a connection on, in a task of its own.
    pub(super) fn linger(
        self: &Arc<Self>,
        stream: Pin<Box<TimeoutStream<TcpStream>>>,
        token: TaskTrackerToken,
    ) {
        let Ok(runtime) = Handle::try_current() else {
            return;
        };
        let (place, displaced) = self.take_place();
        let lingering = Arc::clone(self);
        runtime.spawn(async move {
            lingering.read_on(stream, displaced).await;
            lingering.places().taken.remove(&place);
            drop(token);
        });
    }

    /// A place, and what is cancelled when it is another's.
    fn take_place(&self) -> (u64, CancellationToken) {
        let mut places = self.places();
        while places.taken.len() >= self.bounds.connections_max.max(1) {
            let Some((_place, oldest)) = places.taken.pop_first() else {
                break;
            };
            oldest.cancel();
        }
        let (place, displaced) = (places.next, CancellationToken::new());
        places.next += 1;
        places.taken.insert(place, displaced.clone());
        (place, displaced)
    }

    fn places(&self) -> std::sync::MutexGuard<'_, Places> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn read_on(
        &self,
        mut stream: Pin<Box<TimeoutStream<TcpStream>>>,
        displaced: CancellationToken,
    ) {
        metrics::gauge!(self.names.lingering).increment(1.0);
        // An error means that the client is gone; reading notices that too.
        let _half_closed = stream.shutdown().await;
        let ended = async {
            self.end.cancelled().await;
            sleep(END_TIME).await;
        };
        let cut = tokio::select! {
            is_closed = discard(stream.get_ref(), self.bounds.bytes_max) => (!is_closed).then_some("bytes"),
            () = sleep(self.bounds.time_max) => Some("time"),
            () = displaced.cancelled() => Some("full"),
            () = ended => None,
        };
        if let Some(why) = cut {
            metrics::counter!(self.names.linger_cut, "why" => why).increment(1);
        }
        metrics::gauge!(self.names.lingering).decrement(1.0);
    }
}

/// Reads until the client has closed (true), or has sent more than `bytes_max` bytes (false).
async fn discard(stream: &TcpStream, bytes_max: u64) -> bool {
    let mut left = bytes_max;
    loop {
        if stream.readable().await.is_err() {
            return true;
        }
        match discard_once(stream) {
            Ok(0) => return true,
            Ok(read) => match left.checked_sub(read) {
                Some(rest) => left = rest,
                None => return false,
            },
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            // Reset: the client is gone.
            Err(_) => return true,
        }
        consume_budget().await;
    }
}

fn discard_once(stream: &TcpStream) -> io::Result<u64> {
    let mut scrap = [0; READ_BYTES];
    stream.try_read(&mut scrap).map(|read| read as u64)
}
