//! Where a connection stands between two requests, and the deadline for a request's head.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use hyper::rt::{Sleep, Timer};

/// What a connection is at; shared by its socket, its timer and its service.
#[derive(Debug, Default)]
pub(super) struct Head(Mutex<Stage>);

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
        *self.stage() = Stage::default();
    }

    /// The socket has received something.
    pub(super) fn receive(&self) {
        if let Stage::Awaited { first_byte } = &mut *self.stage() {
            first_byte.get_or_insert_with(now);
        }
    }

    /// A head is complete.
    pub(super) fn complete(&self) {
        *self.stage() = Stage::Complete;
    }

    /// The service has answered.
    pub(super) fn answer(&self) {
        *self.stage() = Stage::Answered;
    }

    /// Whether no request is being answered.
    pub(super) fn is_awaited(&self) -> bool {
        matches!(*self.stage(), Stage::Awaited { .. })
    }

    /// Whether the service has answered, and no other head is awaited yet.
    pub(super) fn is_answered(&self) -> bool {
        matches!(*self.stage(), Stage::Answered)
    }

    fn first_byte(&self) -> Option<Instant> {
        match *self.stage() {
            Stage::Awaited { first_byte } => first_byte,
            Stage::Complete | Stage::Answered => None,
        }
    }

    fn stage(&self) -> std::sync::MutexGuard<'_, Stage> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
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
