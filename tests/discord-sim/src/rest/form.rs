//! Reads a JSON body field by field, and collects what is wrong as Discord words it.

use serde_json::{Map, Value};

use super::errors::{Problem, field_error};
use crate::snowflake::Id;

/// An object that is being read. Null counts as left out, as Discord has it.
pub(crate) struct Form<'a> {
    fields: &'a Map<String, Value>,
    pub(crate) errors: Map<String, Value>,
}

impl<'a> Form<'a> {
    pub(crate) fn new(fields: &'a Map<String, Value>) -> Self {
        Self {
            fields,
            errors: Map::new(),
        }
    }

    /// What was read, or everything that was wrong.
    pub(crate) fn finish<T>(self, read: T) -> Result<T, Problem> {
        if self.errors.is_empty() {
            Ok(read)
        } else {
            Err(Problem::invalid_form(self.errors))
        }
    }

    /// Whether the field is present, null included.
    pub(crate) fn has(&self, field: &str) -> bool {
        self.fields.contains_key(field)
    }

    /// A field that is neither left out nor null.
    pub(crate) fn get(&self, field: &str) -> Option<&'a Value> {
        self.fields.get(field).filter(|value| !value.is_null())
    }

    pub(crate) fn wrong(&mut self, field: &str, code: &str, message: &str) {
        self.errors
            .insert(field.to_owned(), field_error(code, message));
    }

    pub(crate) fn require(&mut self, field: &str) {
        if self.get(field).is_none() {
            self.wrong(field, "BASE_TYPE_REQUIRED", "This field is required");
        }
    }

    /// A string of `least` to `most` characters.
    pub(crate) fn text(&mut self, field: &str, least: usize, most: usize) -> Option<&'a str> {
        let value = self.get(field)?;
        let Some(text) = value.as_str() else {
            self.wrong(
                field,
                "STRING_TYPE_CONVERT",
                &format!("Could not interpret \"{value}\" as string."),
            );
            return None;
        };
        let length = text.trim().chars().count();
        if length < least || text.chars().count() > most {
            let message = if least == 0 {
                format!("Must be {most} or fewer in length.")
            } else {
                format!("Must be between {least} and {most} in length.")
            };
            self.wrong(field, "BASE_TYPE_BAD_LENGTH", &message);
            return None;
        }
        Some(text)
    }

    /// A whole number of `least` to `most`.
    pub(crate) fn number(&mut self, field: &str, least: u32, most: u32) -> Option<u32> {
        let value = self.get(field)?;
        let Some(number) = value
            .as_i64()
            .or_else(|| value.as_str().and_then(|text| text.parse().ok()))
        else {
            self.wrong(
                field,
                "NUMBER_TYPE_COERCE",
                &format!("Value {value} is not int."),
            );
            return None;
        };
        match u32::try_from(number) {
            Ok(number) if (least..=most).contains(&number) => Some(number),
            Ok(number) if number > most => {
                let message = format!("int value should be less than or equal to {most}.");
                self.wrong(field, "NUMBER_TYPE_MAX", &message);
                None
            }
            _ if number > 0 && least == 0 => {
                let message = format!("int value should be less than or equal to {most}.");
                self.wrong(field, "NUMBER_TYPE_MAX", &message);
                None
            }
            _ => {
                let message = format!("int value should be greater than or equal to {least}.");
                self.wrong(field, "NUMBER_TYPE_MIN", &message);
                None
            }
        }
    }

    pub(crate) fn flag(&mut self, field: &str) -> Option<bool> {
        let value = self.get(field)?;
        if value.as_bool().is_none() {
            self.wrong(
                field,
                "BOOLEAN_TYPE_CONVERT",
                "Must be either true or false.",
            );
        }
        value.as_bool()
    }

    /// A snowflake.
    pub(crate) fn id(&mut self, field: &str) -> Option<Id> {
        let value = self.get(field)?;
        let id = match value {
            Value::String(text) => text.parse().ok(),
            Value::Number(number) => number.to_string().parse().ok(),
            _ => None,
        };
        if id.is_none() {
            self.wrong(
                field,
                "NUMBER_TYPE_COERCE",
                &format!("Value {value} is not snowflake."),
            );
        }
        id
    }

    /// A bound between snowflakes: one of them, or 0.
    pub(crate) fn id_or_zero(&mut self, field: &str) -> Option<u64> {
        match self.get(field)? {
            Value::String(text) if text == "0" => Some(0),
            _ => self.id(field).map(Id::get),
        }
    }

    /// A list of at most `most`.
    pub(crate) fn list(&mut self, field: &str, most: usize) -> Option<&'a [Value]> {
        let value = self.get(field)?;
        let Some(list) = value.as_array() else {
            self.wrong(
                field,
                "LIST_TYPE_CONVERT",
                "Only iterables may be used in a ListType",
            );
            return None;
        };
        if list.len() > most {
            self.wrong(
                field,
                "BASE_TYPE_BAD_LENGTH",
                &format!("Must be {most} or fewer in length."),
            );
            return None;
        }
        Some(list)
    }

    /// Permission bits: a decimal string, or a number.
    pub(crate) fn bits(&mut self, field: &str) -> u64 {
        let Some(value) = self.get(field) else {
            return 0;
        };
        let bits = value
            .as_u64()
            .or_else(|| value.as_str().and_then(|text| text.parse().ok()));
        if bits.is_none() {
            self.wrong(
                field,
                "NUMBER_TYPE_COERCE",
                &format!("Value {value} is not int."),
            );
        }
        bits.unwrap_or(0)
    }
}

/// Puts what is wrong with element `index` of a list into `errors`.
pub(crate) fn nest(
    errors: &mut Map<String, Value>,
    field: &str,
    index: usize,
    inner: Map<String, Value>,
) {
    if inner.is_empty() {
        return;
    }
    let list = errors
        .entry(field)
        .or_insert_with(|| Value::Object(Map::new()));
    if let Some(list) = list.as_object_mut() {
        list.insert(index.to_string(), Value::Object(inner));
    }
}
