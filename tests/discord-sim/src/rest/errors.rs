//! Discord's error answers (`opcodes-and-status-codes.mdx`, "JSON"; `reference.mdx`, "Error Messages").

use axum::body::Body;
use axum::response::Response;
use http::{HeaderValue, StatusCode, header};
use serde_json::{Map, Value, json};

use crate::state::Refusal;

/// An error answer.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Problem {
    pub(crate) status: StatusCode,
    pub(crate) code: u32,
    pub(crate) message: String,
    pub(crate) errors: Option<Value>,
    /// The resource is limited (429): milliseconds to wait.
    pub(crate) wait_ms: Option<u64>,
}

/// The result of serving a route.
pub(crate) type Served = Result<Reply, Problem>;

/// A good answer.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) body: Option<Value>,
}

impl Reply {
    pub(crate) fn ok(body: Value) -> Served {
        Ok(Self {
            status: StatusCode::OK,
            body: Some(body),
        })
    }

    pub(crate) fn created(body: Value) -> Served {
        Ok(Self {
            status: StatusCode::CREATED,
            body: Some(body),
        })
    }

    pub(crate) fn no_content() -> Served {
        Ok(Self {
            status: StatusCode::NO_CONTENT,
            body: None,
        })
    }
}

impl Problem {
    fn new(status: StatusCode, code: u32, message: &str) -> Self {
        Self {
            status,
            code,
            message: message.to_owned(),
            errors: None,
            wait_ms: None,
        }
    }

    /// A plain status, as in `{"message": "404: Not Found", "code": 0}`.
    pub(crate) fn plain(status: StatusCode) -> Self {
        let reason = status.canonical_reason().unwrap_or("Error");
        Self::new(status, 0, &format!("{}: {reason}", status.as_u16()))
    }

    pub(crate) fn unknown(code: u32, what: &str) -> Self {
        Self::new(StatusCode::NOT_FOUND, code, &format!("Unknown {what}"))
    }

    pub(crate) fn missing_access() -> Self {
        Self::new(StatusCode::FORBIDDEN, 50001, "Missing Access")
    }

    pub(crate) fn missing_permissions() -> Self {
        Self::new(StatusCode::FORBIDDEN, 50013, "Missing Permissions")
    }

    pub(crate) fn bad(code: u32, message: &str) -> Self {
        Self::new(StatusCode::BAD_REQUEST, code, message)
    }

    /// A limit of the resource: wait for so long.
    pub(crate) fn limited(code: u32, wait_ms: u64) -> Self {
        let limited = Self::new(
            StatusCode::TOO_MANY_REQUESTS,
            code,
            "The resource is being rate limited.",
        );
        Self {
            wait_ms: Some(wait_ms),
            ..limited
        }
    }

    pub(crate) fn invalid_webhook_token() -> Self {
        Self::new(StatusCode::UNAUTHORIZED, 50027, "Invalid Webhook Token")
    }

    /// 50035, with what is wrong by field.
    pub(crate) fn invalid_form(errors: Map<String, Value>) -> Self {
        Self {
            errors: Some(Value::Object(errors)),
            ..Self::bad(50035, "Invalid Form Body")
        }
    }

    /// 50035 for one field.
    pub(crate) fn invalid_field(field: &str, code: &str, message: &str) -> Self {
        let mut errors = Map::new();
        errors.insert(field.to_owned(), field_error(code, message));
        Self::invalid_form(errors)
    }

    /// What went wrong in the path: not a snowflake.
    pub(crate) fn not_a_snowflake(field: &str, value: &str) -> Self {
        let shown: String = value.chars().take(64).collect();
        Self::invalid_field(
            field,
            "NUMBER_TYPE_COERCE",
            &format!("Value \"{shown}\" is not snowflake."),
        )
    }

    pub(crate) fn into_response(self) -> Response {
        let mut body = json!({"message": self.message, "code": self.code});
        if let Some(errors) = self.errors {
            body["errors"] = errors;
        }
        json_response(self.status, &body)
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::UnknownGuild => Self::unknown(10004, "Guild"),
            Refusal::UnknownChannel => Self::unknown(10003, "Channel"),
            Refusal::UnknownRole => Self::unknown(10011, "Role"),
            Refusal::NotVoice => Self::bad(50024, "Cannot execute action on this channel type"),
            Refusal::NotInVoice => Self::bad(40032, "Target user is not connected to voice."),
            Refusal::NotACategory => Self::invalid_field(
                "parent_id",
                "CHANNEL_PARENT_INVALID",
                "Category does not exist",
            ),
            Refusal::CategoryFull => Self::invalid_field(
                "parent_id",
                "CHANNEL_PARENT_MAX_CHANNELS",
                "Maximum number of channels in category reached (50)",
            ),
            Refusal::TooManyChannels => {
                Self::bad(30013, "Maximum number of guild channels reached (500)")
            }
            Refusal::TooManyRoles => {
                Self::bad(30005, "Maximum number of guild roles reached (250)")
            }
            Refusal::TooManyMembers => Self::bad(30001, "Maximum number of server members reached"),
            // Never reaches here: nothing to change is a success.
            Refusal::Unchanged => Self::plain(StatusCode::INTERNAL_SERVER_ERROR),
        }
    }
}

/// The leaf of `errors`.
pub(crate) fn field_error(code: &str, message: &str) -> Value {
    json!({"_errors": [{"code": code, "message": message}]})
}

/// A JSON answer.
pub(crate) fn json_response(status: StatusCode, body: &Value) -> Response {
    let mut response = Response::new(Body::from(body.to_string()));
    *response.status_mut() = status;
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/json"),
    );
    response
}
