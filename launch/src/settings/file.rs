//! Files that settings name: what is wrong with one that cannot be used, in our words.

use std::io::ErrorKind;
use std::path::Path;

/// Reads a text file of at most `bytes_max` bytes that must hold `what`.
///
/// # Errors
/// A sentence or two: what is wrong, and what to do.
pub fn read(path: &Path, bytes_max: u64, what: &str) -> Result<String, String> {
    let read = std::fs::metadata(path).and_then(|file| {
        if file.len() > bytes_max {
            return Ok(None);
        }
        std::fs::read_to_string(path).map(Some)
    });
    let text = read.map_err(|error| match error.kind() {
        ErrorKind::NotFound => {
            "That file does not exist. Create it, or name another one.".to_owned()
        }
        ErrorKind::PermissionDenied => {
            "This process is not allowed to read that file. Give its user the right to read it."
                .to_owned()
        }
        ErrorKind::IsADirectory => "That is a directory. Name a file in it.".to_owned(),
        ErrorKind::InvalidData => {
            format!("That file is not text in UTF-8. Write {what} into it as text.")
        }
        _ => "That file cannot be read. Look at it, or name another one.".to_owned(),
    })?;
    let Some(text) = text else {
        return Err(format!(
            "That file is larger than {bytes_max} bytes. It must hold {what} and nothing else."
        ));
    };
    let text = text.trim();
    if text.is_empty() {
        return Err(format!("That file is empty. Write {what} into it."));
    }
    Ok(text.to_owned())
}
