//! What every HTTP response goes through: problem documents, CORS, compression, the queue of REST
//! requests.

mod cors;
pub(crate) mod layers;
mod problem;
pub(crate) mod queue;

pub use problem::write_problems;
