//! A request's body, and whether some of it was left unread.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use http::Request;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

/// The body of a request that [`super::serve`] hands to its service.
#[derive(Debug)]
pub struct RequestBody {
    incoming: Incoming,
    unread: Unread,
}

/// Whether some of a body was not read.
#[derive(Debug, Clone)]
pub(super) struct Unread(Arc<AtomicBool>);

impl Unread {
    pub(super) fn is_left(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// The request with a watched body.
pub(super) fn watch(request: Request<Incoming>) -> (Request<RequestBody>, Unread) {
    let has_body = !request.body().is_end_stream();
    let unread = Unread(Arc::new(AtomicBool::new(has_body)));
    let watched = unread.clone();
    let request = request.map(|incoming| RequestBody {
        incoming,
        unread: watched,
    });
    (request, unread)
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let polled = Pin::new(&mut self.incoming).poll_frame(context);
        let is_end = matches!(polled, Poll::Ready(None));
        if is_end || self.incoming.is_end_stream() {
            self.unread.0.store(false, Ordering::Relaxed);
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}
