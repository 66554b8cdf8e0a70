//! Who acts, after proof.

use std::fmt;

use proto::GuildId;

/// A browser's user as a verified token describes them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Principal {
    /// Who it is (`sub`).
    pub subject: Subject,
    /// The guilds that the token names (`guilds`), each once, in its order. `None`: the token says
    /// nothing of guilds; an empty list: it allows none.
    pub guilds: Option<Vec<GuildId>>,
    /// What the token allows in those guilds (`scope`).
    pub rights: Rights,
    /// `exp`, in milliseconds since the Unix epoch, *without* the leeway that was granted on it.
    pub expires_at_ms: u64,
}

/// The most characters of a subject. `OpenID` Connect Core 1.0, section 2, allows 255.
const SUBJECT_CHARS_MAX: usize = 255;

/// The name of a principal at its issuer: 1 to 255 characters, all of them printable, so that it
/// can stand in a log line or an audit reason without changing what stands around it.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Subject(String);

impl Subject {
    /// The subject of this name; `None` if it is empty, too long, or has a character that does
    /// not print (controls, line separators, marks that turn the direction of text).
    pub fn new(name: impl Into<String>) -> Option<Self> {
        let name = name.into();
        let mut chars = 0_usize;
        for char in name.chars() {
            chars += 1;
            if chars > SUBJECT_CHARS_MAX || !is_printable(char) {
                return None;
            }
        }
        (chars > 0).then_some(Self(name))
    }

    /// The name itself.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn is_printable(char: char) -> bool {
    !char.is_control()
        && !matches!(
            char,
            '\u{200B}'..='\u{200F}' | '\u{2028}'..='\u{202E}' | '\u{2060}'..='\u{206F}' | '\u{FEFF}'
        )
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

/// What a principal may do with rooms, apart from which guilds and rooms it may see.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rights {
    /// `rooms:read`: see rooms and their members.
    pub read: bool,
    /// `rooms:create`: open a room.
    pub create: bool,
    /// `rooms:end`: end a room of one's own.
    pub end: bool,
    /// `rooms:manage`: end any room that Roomwire made.
    pub manage: bool,
}

impl Rights {
    /// What a token without any word of ours allows.
    pub const MEMBER: Self = Self {
        read: true,
        create: true,
        end: true,
        manage: false,
    };

    /// The rights of a `scope`: words with spaces between (RFC 6749, section 3.3).
    pub fn of_scope(scope: &str) -> Self {
        Self::of_words(scope.split(' '))
    }

    /// The rights that these words name. If no word starts with `rooms:`, the token was not made
    /// with Roomwire in mind and [`Rights::MEMBER`] holds; if one does, only what is named holds.
    pub fn of_words<'a>(words: impl Iterator<Item = &'a str>) -> Self {
        let mut rights = Self {
            read: false,
            create: false,
            end: false,
            manage: false,
        };
        let mut meant_for_us = false;
        for word in words {
            let Some(right) = word.strip_prefix("rooms:") else {
                continue;
            };
            meant_for_us = true;
            match right {
                "read" => rights.read = true,
                "create" => rights.create = true,
                "end" => rights.end = true,
                "manage" => rights.manage = true,
                _ => {}
            }
        }
        if meant_for_us { rights } else { Self::MEMBER }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scope_words_give_rights_and_a_scope_without_ours_gives_the_first_three() {
        let all = |read, create, end, manage| Rights {
            read,
            create,
            end,
            manage,
        };
        for (scope, rights) in [
            ("", Rights::MEMBER),
            ("openid profile", Rights::MEMBER),
            ("room:read Rooms:manage xrooms:end", Rights::MEMBER),
            ("rooms:read", all(true, false, false, false)),
            (
                "openid rooms:end rooms:create",
                all(false, true, true, false),
            ),
            ("rooms:manage", all(false, false, false, true)),
            ("rooms:", all(false, false, false, false)),
            ("rooms:unheard-of", all(false, false, false, false)),
            (
                "rooms:READ rooms:read,rooms:end",
                all(false, false, false, false),
            ),
        ] {
            assert_eq!(Rights::of_scope(scope), rights, "{scope:?}");
        }
    }

    #[test]
    fn a_subject_is_printable_and_bounded() {
        for good in [
            "a",
            "auth0|5f7c8ec7c33c6c004bbafe82",
            "Zoë ☃ 名前",
            &"é".repeat(255),
        ] {
            assert!(Subject::new(good).is_some(), "{good}");
        }
        for bad in [
            "",
            "a\n",
            "\0",
            "\u{1b}[31m",
            "a\u{202e}b",
            "a\u{2028}",
            "\u{7f}",
            "\u{85}",
            "\u{feff}a",
            &"é".repeat(256),
        ] {
            assert!(Subject::new(bad).is_none(), "{bad:?}");
        }
    }
}
