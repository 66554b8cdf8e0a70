//! Single fields, in all the JSON types that they come in.

use serde_json::Value;

/// An id: a decimal string, or the number that some libraries make of it.
pub(super) fn id<T: std::str::FromStr>(value: Option<&Value>) -> Option<T> {
    match value? {
        Value::String(text) => text.parse().ok(),
        Value::Number(number) => number.as_u64()?.to_string().parse().ok(),
        _ => None,
    }
}

/// As [`id`]; null or no field means that there is none.
pub(super) fn optional_id<T: std::str::FromStr>(value: Option<&Value>) -> Result<Option<T>, ()> {
    match value {
        None | Some(Value::Null) => Ok(None),
        _ => id(value).map(Some).ok_or(()),
    }
}

/// A number, or the string that some libraries make of it.
pub(super) fn number(value: Option<&Value>) -> Option<u64> {
    match value? {
        Value::Number(number) => number.as_u64(),
        Value::String(text) => text.parse().ok(),
        _ => None,
    }
}

/// Permission bits: a decimal string, since they outgrow what a JSON number carries.
pub(super) fn bits(value: Option<&Value>) -> Option<u128> {
    match value? {
        Value::String(text) => text.parse().ok(),
        Value::Number(number) => number.as_u64().map(u128::from),
        _ => None,
    }
}
