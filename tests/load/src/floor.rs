//! The floor: what the kernel alone needs to take the same bytes to the same number of sockets.
//! One thread writes to one socket after the other; the readers are tasks as the browsers are, on
//! the same runtime. No protocol, no other process, no locks.

use std::io::Write as _;
use std::net::{TcpListener, TcpStream};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio::io::AsyncReadExt as _;
use tokio::runtime::Handle;
use tokio::task::JoinSet;

use crate::board::Board;
use crate::figures::quantile;
use crate::kernel::Observed;

/// An event begins with its number.
const NUMBER_BYTES: usize = 4;
const READ_BUFFER_BYTES: usize = 4 * 1024;
/// A reader that takes nothing for this long is dead.
const WRITE_MAX: Duration = Duration::from_secs(5);
/// Until everybody has a single event, or the last of many.
const SETTLE_MAX: Duration = Duration::from_secs(10);
const LOOK_AGAIN: Duration = Duration::from_millis(2);

/// What to measure.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    /// Numbers of sockets for single events, growing; the last holds for the steady rate.
    pub(crate) sizes: Vec<usize>,
    /// Single events for each number of sockets.
    pub(crate) single_events: usize,
    /// Events at the steady rate.
    pub(crate) rated_events: usize,
    /// Between two of them.
    pub(crate) every: Duration,
    /// Of one event to one socket, at least [`NUMBER_BYTES`].
    pub(crate) event_bytes: usize,
}

/// The results.
#[derive(Debug)]
pub(crate) struct Floor {
    /// For each size: until the last socket had a single event, ms, the median.
    pub(crate) single_ms: Vec<f64>,
    /// Each (event, socket) at the steady rate, ms.
    pub(crate) rated_ms: Vec<f64>,
    /// The writer's processor time for one write, µs.
    pub(crate) write_us: f64,
    /// Memory of this process for one connected socket, KiB.
    pub(crate) socket_kib: f64,
}

/// Measures the floor; `readers` is the runtime of the readers. Gives up soon after `stop`.
///
/// # Errors
/// Sockets cannot be opened, or something was lost.
pub(crate) fn measure(plan: &Plan, readers: &Handle, stop: &AtomicBool) -> anyhow::Result<Floor> {
    let all = plan.sizes.last().copied().unwrap_or(0);
    let singles = plan.sizes.len() * plan.single_events;
    let board = Arc::new(Board::new(singles + plan.rated_events, all));
    let before_kib = Observed::this_process().resident_kib()?;
    let (mut writers, ends) = open(all)?;
    let socket_kib =
        (Observed::this_process().resident_kib()? - before_kib).max(0.0) / (2 * all) as f64;
    let mut tasks = JoinSet::new();
    for (me, end) in ends.into_iter().enumerate() {
        tasks.spawn_on(read(end, Arc::clone(&board), me, plan.event_bytes), readers);
    }
    let mut run = Run {
        board: &board,
        stop,
        event: vec![0; plan.event_bytes.max(NUMBER_BYTES)],
        expected: 0,
    };
    let mut single_ms = Vec::new();
    let mut next = 0;
    for size in &plan.sizes {
        let events = next..next + plan.single_events;
        next = events.end;
        for event in events.clone() {
            run.write(event, &mut writers[..*size])?;
            run.settle()?;
        }
        single_ms.push(quantile(&mut board.last_ms(events, *size), 0.5));
    }
    let events = next..next + plan.rated_events;
    let thread = Observed::this_thread()?;
    let before_s = thread.processor_s()?;
    run.write_at_rate(events.clone(), plan.every, &mut writers)?;
    let spent_s = thread.processor_s()? - before_s;
    run.settle()?;
    let writes = (plan.rated_events * all) as f64;
    Ok(Floor {
        single_ms,
        rated_ms: board.all_ms(events, all),
        write_us: spent_s * 1e6 / writes,
        socket_kib,
    })
}

struct Run<'a> {
    board: &'a Board,
    stop: &'a AtomicBool,
    event: Vec<u8>,
    expected: u64,
}

impl Run<'_> {
    fn write(&mut self, event: usize, writers: &mut [TcpStream]) -> anyhow::Result<()> {
        self.event[..NUMBER_BYTES].copy_from_slice(&u32::try_from(event)?.to_le_bytes());
        self.board.send(event);
        for writer in &mut *writers {
            writer.write_all(&self.event)?;
        }
        self.expected += writers.len() as u64;
        Ok(())
    }

    fn write_at_rate(
        &mut self,
        events: Range<usize>,
        every: Duration,
        writers: &mut [TcpStream],
    ) -> anyhow::Result<()> {
        let mut due = Instant::now();
        for event in events {
            anyhow::ensure!(!self.stop.load(Ordering::Relaxed), "asked to stop");
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            self.write(event, writers)?;
            due += every;
        }
        Ok(())
    }

    fn settle(&self) -> anyhow::Result<()> {
        let deadline = Instant::now() + SETTLE_MAX;
        while self.board.seen() < self.expected {
            anyhow::ensure!(!self.stop.load(Ordering::Relaxed), "asked to stop");
            anyhow::ensure!(
                Instant::now() < deadline,
                "the floor's own sockets lost something"
            );
            std::thread::sleep(LOOK_AGAIN);
        }
        Ok(())
    }
}

fn open(count: usize) -> anyhow::Result<(Vec<TcpStream>, Vec<TcpStream>)> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let (mut writers, mut ends) = (Vec::with_capacity(count), Vec::with_capacity(count));
    for _ in 0..count {
        let end = TcpStream::connect(address)?;
        let (writer, _) = listener.accept()?;
        writer.set_nodelay(true)?;
        writer.set_write_timeout(Some(WRITE_MAX))?;
        end.set_nonblocking(true)?;
        writers.push(writer);
        ends.push(end);
    }
    Ok((writers, ends))
}

/// Reads until the socket ends.
async fn read(
    end: TcpStream,
    board: Arc<Board>,
    me: usize,
    event_bytes: usize,
) -> anyhow::Result<()> {
    let mut end = tokio::net::TcpStream::from_std(end)?;
    let event_bytes = event_bytes.max(NUMBER_BYTES);
    let mut buffer = vec![0; READ_BUFFER_BYTES.max(event_bytes)];
    let mut filled = 0;
    loop {
        let more = end.read(&mut buffer[filled..]).await?;
        if more == 0 {
            return Ok(());
        }
        filled += more;
        let whole = filled - filled % event_bytes;
        for event in buffer[..whole].chunks_exact(event_bytes) {
            if let Some(number) = event.first_chunk::<NUMBER_BYTES>() {
                board.see(u32::from_le_bytes(*number) as usize, me);
            }
        }
        buffer.copy_within(whole..filled, 0);
        filled -= whole;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan() -> Plan {
        Plan {
            sizes: vec![1, 3],
            single_events: 2,
            rated_events: 40,
            every: Duration::from_millis(1),
            event_bytes: 700,
        }
    }

    #[test]
    fn every_socket_has_every_event() {
        let readers = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let floor = measure(&plan(), readers.handle(), &AtomicBool::new(false)).unwrap();
        assert_eq!(floor.single_ms.len(), 2);
        assert_eq!(floor.rated_ms.len(), 120);
        assert!(
            floor
                .rated_ms
                .iter()
                .chain(&floor.single_ms)
                .all(|ms| *ms > 0.0)
        );
    }

    #[test]
    fn the_floor_gives_up_when_asked_to() {
        let readers = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let error = measure(&plan(), readers.handle(), &AtomicBool::new(true)).unwrap_err();
        assert_eq!(error.to_string(), "asked to stop");
    }
}
