//! Where a connection stands between two requests, and the deadline for a request's head.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use hyper::rt::{Sleep, Timer};

/// What a connection is at; shared by its socket, its timer and its service.
#[derive(Debug, Default)]
pub(super) struct Head(Mutex<Progress>);

#[derive(Debug, Default)]
struct Progress {
    stage: Stage,
    end: HeadEnd,
    /// How many bytes came behind the current head.
    beyond_head: u64,
    /// How long the current request's body is; `None` if its end is not known in advance (chunked).
    body_length: Option<u64>,
    /// The client has sent more than one request at once. Part of the next head may then be in
    /// hyper's buffer, where it cannot be seen. From then on every head is taken as begun.
    is_pipelining: bool,
}

#[derive(Debug, Clone, Copy)]
enum Stage {
    /// A request's head is awaited.
    Awaited {
        /// When its first byte came.
        first_byte: Option<Instant>,
    },
    /// A head is complete; its request is being answered.
    Complete,
    /// The service has answered, perhaps so that the connection is another protocol's now.
    Answered,
}

impl Default for Stage {
    fn default() -> Self {
        Self::Awaited { first_byte: None }
    }
}

impl Head {
    /// The next head is awaited.
    fn begin(&self) {
        let mut progress = self.progress();
        let body_length = progress.body_length.unwrap_or(0);
        progress.is_pipelining |= progress.beyond_head > body_length;
        progress.stage = Stage::Awaited {
            first_byte: progress.is_pipelining.then(now),
        };
        progress.end = HeadEnd::default();
        progress.beyond_head = 0;
    }

    /// The socket has received these bytes.
    pub(super) fn receive(&self, bytes: &[u8]) {
        let mut progress = self.progress();
        if let Stage::Awaited { first_byte } = &mut progress.stage {
            first_byte.get_or_insert_with(now);
        }
        let beyond = progress.end.beyond(bytes);
        progress.beyond_head = progress.beyond_head.saturating_add(beyond as u64);
    }

    /// A head is complete, and a body of this length follows; `None` if that is not known.
    pub(super) fn complete(&self, body_length: Option<u64>) {
        let mut progress = self.progress();
        progress.stage = Stage::Complete;
        progress.body_length = body_length;
    }

    /// The service has answered.
    pub(super) fn answer(&self) {
        self.progress().stage = Stage::Answered;
    }

    /// Whether no request is being answered.
    pub(super) fn is_awaited(&self) -> bool {
        matches!(self.progress().stage, Stage::Awaited { .. })
    }

    /// Whether the service has answered, and no other head is awaited yet.
    pub(super) fn is_answered(&self) -> bool {
        matches!(self.progress().stage, Stage::Answered)
    }

    fn first_byte(&self) -> Option<Instant> {
        match self.progress().stage {
            Stage::Awaited { first_byte } => first_byte,
            Stage::Complete | Stage::Answered => None,
        }
    }

    fn progress(&self) -> std::sync::MutexGuard<'_, Progress> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Finds the end of a head: the first empty line behind one that is not empty. Lines end in LF, or
/// CR and LF (RFC 9112, section 2.2).
#[derive(Debug, Default)]
struct HeadEnd {
    line_has_bytes: bool,
    has_lines: bool,
    is_found: bool,
}

impl HeadEnd {
    /// How many of the bytes, which are the next of the connection, come behind the head.
    fn beyond(&mut self, bytes: &[u8]) -> usize {
        let mut rest = bytes.iter();
        while !self.is_found {
            match rest.next() {
                None => return 0,
                Some(b'\n') => {
                    self.is_found = self.has_lines && !self.line_has_bytes;
                    self.has_lines |= self.line_has_bytes;
                    self.line_has_bytes = false;
                }
                Some(b'\r') => {}
                Some(_) => self.line_has_bytes = true,
            }
        }
        rest.len()
    }
}

/// The clock of tokio, so that a test can stop it.
fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// hyper's timer for heads.
///
/// hyper asks for one sleep when it begins to wait for a head, and gives the connection up when it
/// has passed. Counted from there alone, a client that was idle before its request would have less
/// time for it. So the deadline moves once, when the first byte comes.
#[derive(Debug)]
pub(super) struct HeadTimer {
    head: Arc<Head>,
    timeout: Duration,
}

impl HeadTimer {
    pub(super) fn new(head: Arc<Head>, timeout: Duration) -> Self {
        Self { head, timeout }
    }
}

impl Timer for HeadTimer {
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Sleep>> {
        self.sleep_until(now() + duration)
    }

    fn sleep_until(&self, deadline: Instant) -> Pin<Box<dyn Sleep>> {
        self.head.begin();
        Box::pin(HeadSleep {
            head: Some(Arc::clone(&self.head)),
            timeout: self.timeout,
            sleep: Box::pin(tokio::time::sleep_until(deadline.into())),
        })
    }

    fn now(&self) -> Instant {
        now()
    }
}

struct HeadSleep {
    /// Taken once the first byte has moved the deadline.
    head: Option<Arc<Head>>,
    timeout: Duration,
    sleep: Pin<Box<tokio::time::Sleep>>,
}

impl Future for HeadSleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let this = &mut *self;
        let first_byte = this.head.as_ref().and_then(|head| head.first_byte());
        if let Some(at) = first_byte {
            this.head = None;
            let deadline = at + this.timeout;
            this.sleep.as_mut().reset(deadline.into());
        }
        this.sleep.as_mut().poll(context)
    }
}

impl Sleep for HeadSleep {}
