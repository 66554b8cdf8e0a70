//! The reason that stands in a guild's audit log.

use percent_encoding::{NON_ALPHANUMERIC, percent_encode};

/// The header of a reason.
pub(super) const REASON_HEADER: &str = "x-audit-log-reason";
/// The longest reason, in bytes as it is sent (Discord's API documentation, "Audit Log Entry":
/// 1 to 512 URL-encoded UTF-8 characters).
const REASON_BYTES_MAX: usize = 512;

/// A reason as the header's value: without what does not print, percent-encoded, cut between
/// characters to [`REASON_BYTES_MAX`]. `None` if nothing is left.
pub(super) fn reason_value(reason: &str) -> Option<String> {
    let mut value = String::new();
    let mut bytes = [0; 4];
    for char in reason.trim().chars().filter(|char| !char.is_control()) {
        let encoded = percent_encode(char.encode_utf8(&mut bytes).as_bytes(), NON_ALPHANUMERIC);
        let before = value.len();
        value.extend(encoded);
        if value.len() > REASON_BYTES_MAX {
            value.truncate(before);
            break;
        }
    }
    (!value.is_empty()).then_some(value)
}

#[cfg(test)]
mod tests {
    use percent_encoding::percent_decode_str;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_reason_is_encoded_and_its_control_characters_are_left_out() {
        for (reason, value) in [
            (
                "Roomwire: create-room by ada",
                Some("Roomwire%3A%20create%2Droom%20by%20ada"),
            ),
            ("a\r\nX-Evil: 1\u{7f}\u{85}", Some("aX%2DEvil%3A%201")),
            ("名", Some("%E5%90%8D")),
            (" \n\t", None),
            ("", None),
        ] {
            assert_eq!(reason_value(reason).as_deref(), value, "{reason:?}");
        }
    }

    proptest! {
        #[test]
        fn any_reason_fits_and_is_a_beginning_of_what_was_meant(reason in "\\PC{0,600}|.{0,600}") {
            if let Some(value) = reason_value(&reason) {
                prop_assert!(value.len() <= REASON_BYTES_MAX);
                prop_assert!(value.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'%'));
                let meant: String = reason.trim().chars().filter(|char| !char.is_control()).collect();
                let decoded = percent_decode_str(&value).decode_utf8().unwrap();
                prop_assert!(meant.starts_with(&*decoded));
                prop_assert!(decoded == meant || value.len() > REASON_BYTES_MAX - 12);
            }
        }
    }
}
