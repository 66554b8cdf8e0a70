//! Why the hub does not do what a client asks: one type for every endpoint, without a web framework.
//! `http` writes it as a problem document, `sockets` as an error frame.

mod log;

use std::borrow::Cow;

use proto::chain::Conflict;
use proto::problem::{Code, FieldProblem};

pub use log::ErrorLog;

/// Why a request is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiError {
    /// What the client acts on.
    pub code: Code,
    /// What is wrong this time, in a sentence for the client.
    pub detail: Cow<'static, str>,
    /// Which fields are wrong.
    pub errors: Vec<FieldProblem>,
    /// How long to wait, where waiting helps.
    pub retry_after_ms: Option<u64>,
    /// Why a delivery does not fit, for the worker.
    pub conflict: Option<Conflict>,
    /// More than the client may know, for the log. It contains no part of a token.
    pub reason: Option<Box<str>>,
}

impl ApiError {
    /// An error of this code.
    pub fn new(code: Code, detail: impl Into<Cow<'static, str>>) -> Self {
        Self {
            code,
            detail: detail.into(),
            errors: Vec::new(),
            retry_after_ms: None,
            conflict: None,
            reason: None,
        }
    }

    /// Adds a wrong field.
    #[must_use]
    pub fn field(mut self, field: impl Into<String>, detail: impl Into<String>) -> Self {
        self.errors.push(FieldProblem {
            field: field.into(),
            detail: detail.into(),
        });
        self
    }

    /// Adds how long to wait.
    #[must_use]
    pub fn retry_after_ms(mut self, ms: u64) -> Self {
        self.retry_after_ms = Some(ms);
        self
    }

    /// Adds a reason that is logged and that the client does not see.
    #[must_use]
    pub fn reason(mut self, reason: impl Into<Box<str>>) -> Self {
        self.reason = Some(reason.into());
        self
    }

    /// The reason for the log. A detail of our own words is one. A detail that was composed is not:
    /// it may contain what the client wrote.
    pub(crate) fn reason_to_log(&self) -> Option<&str> {
        match (&self.reason, &self.detail) {
            (Some(reason), _) => Some(reason),
            (None, Cow::Borrowed(detail)) => Some(detail),
            (None, Cow::Owned(_)) => None,
        }
    }
}

/// How a request ended, as a metric's label.
pub(crate) fn outcome<T>(result: &Result<T, ApiError>) -> &'static str {
    match result {
        Ok(_) => "ok",
        Err(error) => error.code.name(),
    }
}
