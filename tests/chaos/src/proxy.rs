//! A [`Proxy`] between the worker and the hub that answers badly on demand.

use std::collections::VecDeque;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

/// The largest request or answer that is passed on, in bytes.
const MESSAGE_MAX: usize = 8 * 1024 * 1024;
/// How long the hub may take to answer.
const ANSWER_MAX: Duration = Duration::from_secs(30);
/// The deliveries' path; claims and notices have others.
const DELIVERIES: &str = "/api/internal/events";

/// How a request fails, instead of reaching the hub and being answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProxyFault {
    /// Answered with this status, and not passed on: 400, 401 (stale), 413, 429, 500, 503.
    Status(u16),
    /// Not passed on, never answered.
    Hang,
    /// Passed on; half of the answer comes back.
    HalfAnswer,
    /// Passed on; the connection is reset instead of an answer.
    Reset,
    /// Half of the body reaches the hub, and nothing comes back.
    HalfBody,
    /// Passed on after this many ms.
    Delay(u64),
    /// Passed on and answered, and passed on once more after this many ms.
    Repeat(u64),
}

impl ProxyFault {
    /// All kinds, for a script to choose from.
    pub const ALL: [Self; 12] = [
        Self::Status(500),
        Self::Status(503),
        Self::Status(429),
        Self::Status(413),
        Self::Status(401),
        Self::Status(400),
        Self::Hang,
        Self::HalfAnswer,
        Self::Reset,
        Self::HalfBody,
        Self::Delay(150),
        Self::Repeat(400),
    ];

    /// Refusals that say that the delivery itself is wrong, which can be said of deliveries only.
    fn is_about_deliveries(self) -> bool {
        matches!(self, Self::Status(400 | 413))
    }
}

/// A proxy between the worker and the hub's internal listener. Dropping it ends it.
pub struct Proxy {
    address: String,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

struct Shared {
    hub: String,
    queue: Mutex<VecDeque<ProxyFault>>,
    /// How many of a hundred requests fail, and in which ways.
    random: Mutex<(u32, Vec<ProxyFault>)>,
    rng: Mutex<StdRng>,
    done: AtomicU64,
    unavailable: AtomicU64,
}

impl Proxy {
    /// Listens on a free port and passes on to this address.
    pub async fn start(hub: &str, seed: u64) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let shared = Arc::new(Shared {
            hub: hub.to_owned(),
            queue: Mutex::default(),
            random: Mutex::default(),
            rng: Mutex::new(StdRng::seed_from_u64(seed)),
            done: AtomicU64::new(0),
            unavailable: AtomicU64::new(0),
        });
        let address = listener.local_addr().unwrap().to_string();
        let serving = Arc::clone(&shared);
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(serve(client, Arc::clone(&serving)));
            }
        });
        Self {
            address,
            shared,
            task,
        }
    }

    /// Where it listens.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Fails the next request in this way.
    pub fn next(&self, fault: ProxyFault) {
        lock(&self.shared.queue).push_back(fault);
    }

    /// Fails so many of a hundred requests in one of these ways, from now on.
    pub fn fail_randomly(&self, percent: u32, kinds: &[ProxyFault]) {
        *lock(&self.shared.random) = (percent, kinds.to_vec());
    }

    /// Fails no request from now on.
    pub fn behave(&self) {
        self.fail_randomly(0, &[]);
        lock(&self.shared.queue).clear();
    }

    /// The number of requests that failed here.
    pub fn faults(&self) -> u64 {
        self.shared.done.load(Ordering::Relaxed)
    }

    /// The number of requests that the hub itself answered with 503.
    pub fn unavailable(&self) -> u64 {
        self.shared.unavailable.load(Ordering::Relaxed)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Shared {
    fn choose(&self, about_deliveries: bool) -> Option<ProxyFault> {
        let fits = |fault: &ProxyFault| about_deliveries || !fault.is_about_deliveries();
        let mut queue = lock(&self.queue);
        let asked = queue
            .iter()
            .position(fits)
            .and_then(|at| queue.remove(at))
            .or_else(|| {
                let (percent, kinds) = &*lock(&self.random);
                let rng = &mut *lock(&self.rng);
                if kinds.is_empty() || rng.random_range(0..100) >= *percent {
                    return None;
                }
                Some(kinds[rng.random_range(0..kinds.len())]).filter(fits)
            });
        self.done
            .fetch_add(u64::from(asked.is_some()), Ordering::Relaxed);
        asked
    }
}

/// Serves one connection of the worker.
async fn serve(mut client: TcpStream, shared: Arc<Shared>) {
    while let Ok(Some(request)) = read_message(&mut client).await {
        let head = String::from_utf8_lossy(&request[..request.len().min(256)]).into_owned();
        let path = head.split(' ').nth(1).unwrap_or_default();
        match shared.choose(path == DELIVERIES) {
            None => {
                let Ok(answer) = exchange(&shared.hub, &request).await else {
                    return;
                };
                let refused = answer.starts_with(b"HTTP/1.1 503 ");
                shared
                    .unavailable
                    .fetch_add(u64::from(refused), Ordering::Relaxed);
                if client.write_all(&answer).await.is_err() {
                    return;
                }
            }
            Some(fault) => {
                if apply(fault, &mut client, &shared, &request).await.is_err() {
                    return;
                }
            }
        }
    }
}

/// An error ends the connection.
async fn apply(
    fault: ProxyFault,
    client: &mut TcpStream,
    shared: &Arc<Shared>,
    request: &[u8],
) -> io::Result<()> {
    let cut = || Err(io::Error::other("cut on purpose"));
    match fault {
        ProxyFault::Status(status) => client.write_all(&refusal(status)).await,
        ProxyFault::Hang => {
            sleep(ANSWER_MAX).await;
            cut()
        }
        ProxyFault::HalfAnswer => {
            let answer = exchange(&shared.hub, request).await?;
            client.write_all(&answer[..answer.len() / 2]).await?;
            cut()
        }
        ProxyFault::Reset => {
            exchange(&shared.hub, request).await?;
            client.set_zero_linger()?;
            cut()
        }
        ProxyFault::HalfBody => {
            let head = head_len(request).unwrap_or(0);
            let mut hub = TcpStream::connect(&shared.hub).await?;
            hub.write_all(&request[..head.midpoint(request.len())])
                .await?;
            hub.flush().await?;
            cut()
        }
        ProxyFault::Delay(ms) => {
            sleep(Duration::from_millis(ms)).await;
            let answer = exchange(&shared.hub, request).await?;
            client.write_all(&answer).await
        }
        ProxyFault::Repeat(ms) => {
            let answer = exchange(&shared.hub, request).await?;
            let (hub, again) = (shared.hub.clone(), request.to_vec());
            tokio::spawn(async move {
                sleep(Duration::from_millis(ms)).await;
                // Nobody waits for this answer.
                let _answered = exchange(&hub, &again).await;
            });
            client.write_all(&answer).await
        }
    }
}

fn refusal(status: u16) -> Vec<u8> {
    let (code, more) = match status {
        400 => ("BAD_REQUEST", ""),
        401 => ("STALE_TIMESTAMP", ""),
        413 => ("TOO_LARGE", ""),
        429 => ("RATE_LIMITED", ",\"retryAfterMs\":100"),
        503 => ("UNAVAILABLE", ",\"retryAfterMs\":100"),
        _ => ("INTERNAL", ""),
    };
    let body = format!(
        "{{\"type\":\"urn:roomwire:{}\",\"title\":\"by the proxy\",\"status\":{status},\"detail\":\"by the proxy\",\"code\":\"{code}\",\"requestId\":\"0\"{more}}}",
        code.to_lowercase()
    );
    format!(
        "HTTP/1.1 {status} By the proxy\r\ncontent-type: application/problem+json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

/// Passes a request on, on a connection of its own; the answer as it came.
async fn exchange(hub: &str, request: &[u8]) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(hub).await?;
    stream.write_all(request).await?;
    timeout(ANSWER_MAX, read_message(&mut stream))
        .await??
        .ok_or_else(|| io::Error::other("no answer"))
}

/// One HTTP/1.1 message with a `content-length`, or none: then it has no body. `None`: the other
/// side closed before it began.
async fn read_message(stream: &mut TcpStream) -> io::Result<Option<Vec<u8>>> {
    let mut message = Vec::new();
    let mut whole = None;
    loop {
        if whole.is_none()
            && let Some(head) = head_len(&message)
        {
            whole = Some(head + body_len(&message[..head]));
        }
        if whole.is_some_and(|whole| message.len() >= whole) {
            return Ok(Some(message));
        }
        if message.len() > MESSAGE_MAX {
            return Err(io::Error::other("too large"));
        }
        if stream.read_buf(&mut message).await? == 0 {
            return if message.is_empty() {
                Ok(None)
            } else {
                Err(io::ErrorKind::UnexpectedEof.into())
            };
        }
    }
}

fn head_len(message: &[u8]) -> Option<usize> {
    let end = message.windows(4).position(|four| four == b"\r\n\r\n")?;
    Some(end + 4)
}

fn body_len(head: &[u8]) -> usize {
    let head = String::from_utf8_lossy(head).to_lowercase();
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length:"));
    length
        .and_then(|length| length.trim().parse().ok())
        .unwrap_or(0)
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
