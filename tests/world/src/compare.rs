//! Comparing JSON.

use serde_json::Value;

/// Asserts that a value has these fields, at any depth. A field that is null may also be absent.
#[track_caller]
pub fn assert_has(value: &Value, fields: &Value) {
    assert!(has(value, fields), "{value} has not {fields}");
}

fn has(value: &Value, fields: &Value) -> bool {
    match fields {
        Value::Object(fields) => fields.iter().all(|(name, field)| has(&value[name], field)),
        other => value == other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn fields_are_compared_at_any_depth_and_others_do_not_matter() {
        let value = json!({"n": 1, "payload": {"userId": "7", "mute": false}});
        assert_has(
            &value,
            &json!({"n": 1, "payload": {"userId": "7", "parent": null}}),
        );
        assert!(!has(&value, &json!({"payload": {"userId": "8"}})));
        assert!(!has(&value, &json!({"n": {"n": 1}})));
    }
}
