//! Values that must never be printed.

use std::fmt;

/// A secret setting. It can be read with [`Secret::expose`], and neither printed nor serialised.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps a value that must not be printed.
    pub fn new(value: impl Into<String>) -> Self {
        Self(value.into())
    }

    /// A secret that goes into a header as it is.
    ///
    /// # Errors
    /// A sentence that says what is allowed, and nothing of the secret.
    pub fn visible_ascii(text: &str) -> Result<Self, String> {
        if text.starts_with("Bot ") {
            return Err("Write the token alone, without the word Bot before it.".to_owned());
        }
        if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic()) {
            Ok(Self::new(text))
        } else {
            Err("It must be visible ASCII characters alone, without spaces and line breaks. Copy it again.".to_owned())
        }
    }

    /// The value itself, for the one place that needs it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[secret]")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_does_not_print() {
        assert_eq!(format!("{:?}", Secret::new("hunter2")), "[secret]");
    }
}
