//! A request for a room, as far as it can be checked without the log and without Discord. Pure.

use proto::ChannelId;
use proto::problem::FieldProblem;
use proto::rest::CreateRoom;

use super::name::RoomName;

/// The limit of a room whose request names none.
const USER_LIMIT_DEFAULT: u32 = 4;
/// The highest limit (Discord's documentation, "Create Guild Channel"). 0 is no limit.
const USER_LIMIT_MAX: u32 = 99;

/// A room as it is to be created.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RoomSpec {
    pub(super) name: Option<RoomName>,
    pub(super) user_limit: u32,
    pub(super) parent_id: Option<ChannelId>,
}

/// Every field of a request that is wrong by itself.
pub(super) fn wrong_fields(request: &CreateRoom) -> Vec<FieldProblem> {
    read_request(request).err().unwrap_or_default()
}

/// Reads a request.
///
/// # Errors
/// Every wrong field.
pub(super) fn read_request(request: &CreateRoom) -> Result<RoomSpec, Vec<FieldProblem>> {
    let mut wrong = Vec::new();
    let name = request
        .name
        .as_deref()
        .map(RoomName::new)
        .transpose()
        .unwrap_or_else(|why| {
            wrong.push(problem("name", why.to_string()));
            None
        });
    let user_limit = request.user_limit.unwrap_or(USER_LIMIT_DEFAULT);
    if user_limit > USER_LIMIT_MAX {
        wrong.push(problem(
            "userLimit",
            format!("0 (no limit) to {USER_LIMIT_MAX}"),
        ));
    }
    if wrong.is_empty() {
        Ok(RoomSpec {
            name,
            user_limit,
            parent_id: request.parent_id,
        })
    } else {
        Err(wrong)
    }
}

pub(super) fn problem(field: &str, detail: impl Into<String>) -> FieldProblem {
    FieldProblem {
        field: field.to_owned(),
        detail: detail.into(),
    }
}
