//! What every HTTP response goes through: problem documents, CORS, compression, the queue of REST
//! requests.

mod cors;
pub(crate) mod layers;
mod problem;
pub(crate) mod queue;

use axum::http::HeaderMap;
use axum::http::header::AsHeaderName;

pub use problem::write_problems;

/// The value of a header that occurs once: two readers would read two values of another.
pub(crate) fn only(headers: &HeaderMap, name: impl AsHeaderName) -> Option<&str> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (Some(value), None) => value.to_str().ok(),
        _ => None,
    }
}
