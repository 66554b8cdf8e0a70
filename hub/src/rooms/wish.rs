//! What somebody wishes a room to be, as far as it can be checked without asking anybody. Pure.

use proto::ChannelId;
use proto::problem::FieldProblem;
use proto::rest::CreateRoom;

use super::name::RoomName;

/// How many may be in a room when nobody says.
const USER_LIMIT_DEFAULT: u32 = 4;
/// The most that can be said (Discord's documentation, "Create Guild Channel"); 0 is no limit.
const USER_LIMIT_MAX: u32 = 99;

/// A wish for a room, checked as far as one can without asking anybody.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) name: Option<RoomName>,
    pub(super) user_limit: u32,
    pub(super) parent_id: Option<ChannelId>,
}

/// Which fields of a wish are wrong by themselves, all of them.
pub(super) fn wrong_fields(wish: &CreateRoom) -> Vec<FieldProblem> {
    read_wish(wish).err().unwrap_or_default()
}

/// Reads a wish.
///
/// # Errors
/// Its wrong fields, all of them.
pub(super) fn read_wish(wish: &CreateRoom) -> Result<Wanted, Vec<FieldProblem>> {
    let mut wrong = Vec::new();
    let name = wish
        .name
        .as_deref()
        .map(RoomName::new)
        .transpose()
        .unwrap_or_else(|why| {
            wrong.push(problem("name", why.to_string()));
            None
        });
    let user_limit = wish.user_limit.unwrap_or(USER_LIMIT_DEFAULT);
    if user_limit > USER_LIMIT_MAX {
        wrong.push(problem(
            "userLimit",
            format!("0 (no limit) to {USER_LIMIT_MAX}"),
        ));
    }
    if wrong.is_empty() {
        Ok(Wanted {
            name,
            user_limit,
            parent_id: wish.parent_id,
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
