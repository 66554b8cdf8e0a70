//! A bound on the REST requests that are answered at once, and on those that wait.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use proto::problem::Code;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::error::ApiError;

/// When a rejected client may retry, in ms.
const RETRY_MS: u64 = 1_000;

/// The queue. A clone is a reference.
#[derive(Clone)]
pub(crate) struct Queue(Arc<Shared>);

struct Shared {
    slots: Semaphore,
    waiting: Semaphore,
    wait_max: Duration,
}

impl Queue {
    /// A queue with `at_once_max` requests in progress and `waiting_max` that wait, each for at most
    /// `wait_max`.
    pub(crate) fn new(at_once_max: usize, waiting_max: usize, wait_max: Duration) -> Self {
        Self(Arc::new(Shared {
            slots: Semaphore::new(at_once_max),
            waiting: Semaphore::new(waiting_max),
            wait_max,
        }))
    }
}

/// Middleware: waits for a slot, and holds it until the request is answered.
///
/// # Errors
/// 503 when the queue is full, or the wait was too long.
pub(crate) async fn wait_for_slot(
    State(queue): State<Queue>,
    request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    let queue = &queue.0;
    let _slot = match queue.slots.try_acquire() {
        Ok(slot) => slot,
        Err(_) => {
            let Ok(_place) = queue.waiting.try_acquire() else {
                return Err(unavailable("full"));
            };
            match timeout(queue.wait_max, queue.slots.acquire()).await {
                Ok(Ok(slot)) => slot,
                Ok(Err(_)) | Err(_) => return Err(unavailable("late")),
            }
        }
    };
    Ok(next.run(request).await)
}

fn unavailable(why: &'static str) -> ApiError {
    metrics::counter!("hub_requests_refused_total", "why" => why).increment(1);
    let detail = "Too many requests are being answered. Send this one again later.";
    ApiError::new(Code::Unavailable, detail).retry_after_ms(RETRY_MS)
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use axum::body::Body;
    use axum::http::header::RETRY_AFTER;
    use axum::middleware::from_fn_with_state;
    use axum::routing::get;
    use tokio::sync::Notify;
    use tower::ServiceExt as _;

    use super::*;
    use crate::error::ErrorLog;
    use crate::http::write_problems;

    #[tokio::test]
    async fn a_full_queue_rejects_a_request_and_answers_those_that_wait() {
        let (arrived, release) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let held = (Arc::clone(&arrived), Arc::clone(&release));
        let route = get(move || {
            let (arrived, release) = held.clone();
            async move {
                arrived.notify_one();
                release.notified().await;
            }
        });
        let queue = Queue::new(1, 1, Duration::from_secs(60));
        let router = Router::new()
            .route("/", route)
            .layer(from_fn_with_state(queue.clone(), wait_for_slot))
            .layer(from_fn_with_state(ErrorLog::new(1), write_problems));
        let ask = || {
            let request = Request::get("/").body(Body::empty()).unwrap();
            tokio::spawn(router.clone().oneshot(request))
        };
        let first = ask();
        arrived.notified().await;
        let second = ask();
        while queue.0.waiting.available_permits() > 0 {
            tokio::task::yield_now().await;
        }
        let refused = ask().await.unwrap().unwrap();
        assert_eq!(refused.status(), 503);
        assert_eq!(refused.headers()[RETRY_AFTER], "1");
        release.notify_one();
        assert_eq!(first.await.unwrap().unwrap().status(), 200);
        release.notify_one();
        assert_eq!(second.await.unwrap().unwrap().status(), 200);
    }
}
