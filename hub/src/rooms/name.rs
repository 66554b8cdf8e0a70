//! Names of rooms: which texts are names, and the name of a room whose request has none.
//!
//! Pure. A name is normalised (NFC) and trimmed. Apart from that it is accepted unchanged, or rejected.

use unicode_normalization::UnicodeNormalization;

/// The longest name, in characters (Discord's documentation, "Channel Object").
const NAME_CHARS_MAX: usize = 100;
/// A longer text is no name: 100 characters have at most 400 bytes, and normalisation makes no text
/// of 4 kB that short.
const NAME_BYTES_MAX: usize = 4 * 1024;

/// Why a text is no name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum NotAName {
    /// Nothing is left, or nothing that can be seen.
    #[error("1 to 100 characters, of which some can be seen")]
    Empty,
    /// More than 100 characters.
    #[error("at most 100 characters")]
    TooLong,
    /// A control character, a line break, or a direction mark: they change the text around a name.
    #[error("no control characters and no direction marks")]
    Unprintable,
}

/// A name of 1 to 100 characters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RoomName(String);

impl RoomName {
    /// The name of this text.
    ///
    /// # Errors
    /// [`NotAName`]: why it is none.
    pub(super) fn new(text: &str) -> Result<Self, NotAName> {
        if text.len() > NAME_BYTES_MAX {
            return Err(NotAName::TooLong);
        }
        let normal: String = text.nfc().collect();
        let name = normal.trim();
        if name.chars().any(changes_its_surroundings) {
            return Err(NotAName::Unprintable);
        }
        if name.chars().all(is_invisible) {
            return Err(NotAName::Empty);
        }
        if name.chars().count() > NAME_CHARS_MAX {
            return Err(NotAName::TooLong);
        }
        Ok(Self(name.to_owned()))
    }

    /// A name for a room whose request has none: `Room` and four letters or digits, which people can
    /// read aloud. It does not depend on the creator.
    pub(super) fn chosen(random: u32) -> Self {
        // No 0 and O, no 1, I and L.
        const LETTERS: &[u8; 31] = b"ABCDEFGHJKMNPQRSTUVWXYZ23456789";
        let mut left = random as usize;
        let mut name = String::from("Room ");
        for _ in 0..4 {
            name.push(char::from(LETTERS[left % LETTERS.len()]));
            left /= LETTERS.len();
        }
        Self(name)
    }

    /// The name.
    pub(super) fn into_string(self) -> String {
        self.0
    }
}

fn changes_its_surroundings(char: char) -> bool {
    char.is_control()
        || matches!(
            char,
            // Zero-width space; left-to-right and right-to-left marks (the joiners between them
            // build emoji and words).
            '\u{200B}' | '\u{200E}' | '\u{200F}' |
            // Line and paragraph separators; embeddings and overrides of direction.
            '\u{2028}'..='\u{202E}' |
            // Word joiner, invisible operators, isolates.
            '\u{2060}'..='\u{206F}' |
            // Byte order mark; interlinear annotation.
            '\u{FEFF}' | '\u{FFF9}'..='\u{FFFB}'
        )
}

fn is_invisible(char: char) -> bool {
    char.is_whitespace()
        || matches!(
            char,
            // Soft hyphen, grapheme joiner, Hangul fillers, Khmer's inherent vowels, Mongolian
            // separators, joiners, blank Braille, variation selectors, tags.
            '\u{AD}' | '\u{34F}' | '\u{115F}' | '\u{1160}' | '\u{17B4}' | '\u{17B5}' | '\u{180B}'..='\u{180F}'
                | '\u{200C}' | '\u{200D}' | '\u{2800}' | '\u{3164}' | '\u{FE00}'..='\u{FE0F}' | '\u{FFA0}'
                | '\u{E0000}'..='\u{E0FFF}'
        )
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_name_is_normalised_and_trimmed_and_otherwise_kept() {
        for (text, name) in [
            ("Kitchen", "Kitchen"),
            ("  Kitchen \u{3000}", "Kitchen"),
            ("a  b", "a  b"),
            ("e\u{301}te\u{301}", "été"),
            (
                "@everyone <@1> **x** #general",
                "@everyone <@1> **x** #general",
            ),
            ("👩‍👩‍👧 family", "👩‍👩‍👧 family"),
            ("می‌خواهم", "می‌خواهم"),
            ("___hidden___", "___hidden___"),
        ] {
            assert_eq!(
                RoomName::new(text).map(RoomName::into_string).as_deref(),
                Ok(name),
                "{text:?}"
            );
        }
    }

    #[test]
    fn a_text_that_is_no_name_is_rejected_and_not_repaired() {
        for (text, why) in [
            ("", NotAName::Empty),
            (" \u{a0}\u{2003}", NotAName::Empty),
            ("\u{200d}\u{fe0f}", NotAName::Empty),
            ("\u{3164}", NotAName::Empty),
            ("a\0b", NotAName::Unprintable),
            ("a\nb", NotAName::Unprintable),
            ("a\tb", NotAName::Unprintable),
            ("\u{1b}[31mred", NotAName::Unprintable),
            ("a\u{85}b", NotAName::Unprintable),
            ("a\u{202e}b", NotAName::Unprintable),
            ("a\u{2028}b", NotAName::Unprintable),
            ("\u{feff}a", NotAName::Unprintable),
        ] {
            assert_eq!(RoomName::new(text), Err(why), "{text:?}");
        }
    }

    #[test]
    fn a_hundred_characters_are_counted_after_normalisation() {
        for (text, fits) in [
            ("x".repeat(100), true),
            ("x".repeat(101), false),
            ("名".repeat(100), true),
            ("e\u{301}".repeat(100), true),
            ("e\u{301}".repeat(101), false),
            (format!("  {}  ", "x".repeat(100)), true),
            ("x".repeat(1_000_000), false),
        ] {
            assert_eq!(RoomName::new(&text).is_ok(), fits, "{} bytes", text.len());
        }
    }

    #[test]
    fn chosen_names_differ_and_are_names() {
        assert_eq!(RoomName::chosen(0).into_string(), "Room AAAA");
        assert_ne!(RoomName::chosen(1), RoomName::chosen(2));
        let last = RoomName::chosen(u32::MAX);
        assert_eq!(RoomName::new(&last.0), Ok(last));
    }

    proptest! {
        #[test]
        fn a_text_that_is_accepted_is_a_name_and_stays_the_same(text in "\\PC{0,120}|.{0,120}|[\\s\\S]{0,40}") {
            if let Ok(name) = RoomName::new(&text) {
                let chars = name.0.chars().count();
                prop_assert!((1..=NAME_CHARS_MAX).contains(&chars));
                prop_assert!(!name.0.chars().any(char::is_control));
                prop_assert_eq!(name.0.trim(), &name.0);
                prop_assert_eq!(RoomName::new(&name.0), Ok(name));
            }
        }
    }
}
