//! Reading on after the last answer, so that the answer arrives.
//!
//! A socket that is closed while the client still sends is reset by the kernel, and the reset
//! destroys what the client has not read yet: a refusal is lost, and a reverse proxy reports 502.
//! So the listener closes only its own half of the connection, reads what still comes, discards it,
//! and closes the rest when the client has closed or a bound is reached (RFC 9112, section 9.6).

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
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

/// The bounds of reading on after an answer. At either of them the connection is closed.
#[derive(Debug, Clone, Copy)]
pub struct LingerBounds {
    /// How long a connection is read.
    pub time_max: Duration,
    /// How much of it, in bytes.
    pub bytes_max: u64,
}

/// The connections of one listener that are read after their last answer.
#[derive(Debug)]
pub(super) struct Lingering {
    bounds: LingerBounds,
    /// As many as the listener has connections, and not among those: a client that was refused
    /// keeps nobody out.
    places: Arc<Semaphore>,
    names: MetricNames,
    end: CancellationToken,
}

impl Lingering {
    pub(super) fn new(
        bounds: LingerBounds,
        connections_max: usize,
        names: MetricNames,
        end: CancellationToken,
    ) -> Self {
        Self {
            bounds,
            places: Arc::new(Semaphore::new(connections_max)),
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
        let Ok(place) = Arc::clone(&self.places).try_acquire_owned() else {
            self.count("full");
            return;
        };
        let lingering = Arc::clone(self);
        runtime.spawn(async move {
            lingering.read_on(stream, place).await;
            drop(token);
        });
    }

    async fn read_on(
        &self,
        mut stream: Pin<Box<TimeoutStream<TcpStream>>>,
        _place: OwnedSemaphorePermit,
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
            () = ended => None,
        };
        if let Some(why) = cut {
            self.count(why);
        }
        metrics::gauge!(self.names.lingering).decrement(1.0);
    }

    fn count(&self, why: &'static str) {
        metrics::counter!(self.names.linger_cut, "why" => why).increment(1);
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
