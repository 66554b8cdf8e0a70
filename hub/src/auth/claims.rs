//! Token claims as JSON: reading them, and finding one by the path of a setting. Pure.

use std::fmt;
use std::str::FromStr;

use serde::de::{self, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

/// The longest path of a claim, in bytes.
const PATH_BYTES_MAX: usize = 256;

/// Which token claim a setting names: `guilds`, `app_metadata.guilds` or
/// `https://example.org/guilds`.
///
/// A path is the name of a top-level claim, or names with dots between, from the outside in. Names
/// may contain dots themselves: of several readings, the one with the longest first name counts.
/// So a top-level claim of exactly this name comes first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClaimPath(String);

impl FromStr for ClaimPath {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let has_gap = |char: char| {
            char.is_whitespace() || char.is_control() || ['"', '\'', '`'].contains(&char)
        };
        if text.is_empty() || text.len() > PATH_BYTES_MAX || text.contains(has_gap) {
            return Err(format!(
                "It must be the name or the path of a claim, such as guilds or app_metadata.guilds: 1 to {PATH_BYTES_MAX} bytes without white space and quotation marks."
            ));
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for ClaimPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl ClaimPath {
    /// The claim `guilds`.
    pub fn guilds() -> Self {
        Self("guilds".to_owned())
    }

    /// The claim `scope`.
    pub fn scope() -> Self {
        Self("scope".to_owned())
    }

    /// The path as it was written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The value at this path.
    pub(super) fn find<'a>(&self, claims: &'a Map<String, Value>) -> Option<&'a Value> {
        find(claims, &self.0)
    }

    /// A part of the path that names claims which the person can write at their provider.
    pub(super) fn written_by_the_person(&self) -> Option<&str> {
        // Supabase: `user_metadata`; Clerk: `unsafe_metadata`. Amazon Cognito: attributes named
        // `custom:…`, which the app's own client may write by default.
        self.0.split(['.', '/']).find(|part| {
            let plain = part.to_ascii_lowercase().replace(['_', '-'], "");
            ["usermetadata", "rawusermetadata", "unsafemetadata"].contains(&plain.as_str())
                || plain.starts_with("custom:")
        })
    }
}

fn find<'a>(claims: &'a Map<String, Value>, path: &str) -> Option<&'a Value> {
    if let Some(value) = claims.get(path) {
        return Some(value);
    }
    let dots = path.rmatch_indices('.');
    dots.into_iter().find_map(|(dot, _)| {
        let (name, rest) = (path.get(..dot)?, path.get(dot + 1..)?);
        find(claims.get(name)?.as_object()?, rest)
    })
}

/// What kind of JSON a value is. This may be logged; the value may not.
pub(super) fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

/// Reads a JSON object in which every member is named once, at every depth: of two readers of
/// `{"sub":"a","sub":"b"}`, one may see `a` and the other `b` (RFC 7519, section 4).
///
/// # Errors
/// The bytes are no such object.
pub(super) fn read_object(json: &[u8]) -> serde_json::Result<Map<String, Value>> {
    let mut deserializer = serde_json::Deserializer::from_slice(json);
    let value = Unique.deserialize(&mut deserializer)?;
    deserializer.end()?;
    match value {
        Value::Object(members) => Ok(members),
        _ => Err(de::Error::custom("not an object")),
    }
}

/// Any JSON value without a member that is named twice.
struct Unique;

impl<'de> DeserializeSeed<'de> for Unique {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Unique {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON in which every member is named once")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Number::from_f64(value).map_or(Value::Null, Value::Number))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut array = Vec::new();
        while let Some(entry) = entries.next_element_seed(Self)? {
            array.push(entry);
        }
        Ok(Value::Array(array))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut members = Map::new();
        while let Some(name) = entries.next_key::<String>()? {
            if members
                .insert(name, entries.next_value_seed(Self)?)
                .is_some()
            {
                return Err(de::Error::custom("a member is named twice"));
            }
        }
        Ok(Value::Object(members))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn found(path: &str, claims: &Value) -> Option<Value> {
        let path: ClaimPath = path.parse().unwrap();
        path.find(claims.as_object().unwrap()).cloned()
    }

    #[test]
    fn a_path_names_a_top_level_claim_first_and_then_walks_down() {
        for (path, claims) in [
            ("guilds", json!({"guilds": 1})),
            ("a.b.c", json!({"a": {"b": {"c": 1}}})),
            ("a.b", json!({"a.b": 1, "a": {"b": 2}})),
            (
                "https://example.org/guilds",
                json!({"https://example.org/guilds": 1}),
            ),
            (
                "https://example.org/claims.guilds",
                json!({"https://example.org/claims": {"guilds": 1}}),
            ),
            (
                "resource_access.my.client.roles",
                json!({"resource_access": {"my.client": {"roles": 1}}}),
            ),
            ("a.b.c", json!({"a.b": {"x": 2}, "a": {"b.c": 1}})),
            ("a..b", json!({"a": {"": {"b": 1}}})),
            ("custom:guilds", json!({"custom:guilds": 1})),
        ] {
            assert_eq!(found(path, &claims), Some(json!(1)), "{path} in {claims}");
        }
        for (path, claims) in [
            ("guilds", json!({"Guilds": 1})),
            ("a.b", json!({"a": [1]})),
            ("a.b", json!({"a": null})),
            ("a.b", json!({"b": 1})),
            ("a.0", json!({"a": [1]})),
        ] {
            assert_eq!(found(path, &claims), None, "{path} in {claims}");
        }
        for bad in ["", "a b", "a\n", &"a".repeat(257)] {
            assert!(bad.parse::<ClaimPath>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn claims_that_the_person_can_write_are_recognised_by_the_names_of_their_providers() {
        for path in [
            "user_metadata.guilds",
            "unsafe_metadata.guilds",
            "user_metadata",
            "https://example.org/user_metadata",
            "https://example.org/claims.user_metadata.guilds",
            "unsafeMetadata.guilds",
            "raw_user_meta_data.guilds",
            "custom:guilds",
        ] {
            let path: ClaimPath = path.parse().unwrap();
            assert!(path.written_by_the_person().is_some(), "{path}");
        }
        for path in [
            "guilds",
            "app_metadata.guilds",
            "public_metadata.guilds",
            "realm_access.roles",
        ] {
            let path: ClaimPath = path.parse().unwrap();
            assert_eq!(path.written_by_the_person(), None, "{path}");
        }
    }

    #[test]
    fn a_member_that_is_named_twice_makes_an_object_unreadable_at_any_depth() {
        let same = br#"{"a":[{"b":null,"c":[true,-1,2,1.5,"x"]}],"d":{"a":{}}}"#;
        let plain: Value = serde_json::from_slice(same).unwrap();
        assert_eq!(Value::Object(read_object(same).unwrap()), plain);
        for bad in [
            r#"{"a":1,"a":1}"#,
            r#"{"x":{"a":1,"a":2}}"#,
            r#"{"x":[{"a":1,"\u0061":2}]}"#,
            "[]",
            "{} x",
            "",
        ] {
            assert!(read_object(bad.as_bytes()).is_err(), "{bad}");
        }
    }
}
