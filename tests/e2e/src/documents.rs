//! The fenced blocks of the Markdown files, so that tests can run what the documents show.

use std::fs;
use std::path::Path;

use crate::tools::checkout;

/// One fenced block.
#[derive(Debug, Clone)]
pub struct Block {
    /// The file, from the checkout's root on.
    pub file: String,
    /// The line of the opening fence, from 1.
    pub line: usize,
    /// The text of an HTML comment on the line before the block: `<!-- nginx -->` is `nginx`.
    pub marker: Option<String>,
    /// The word behind the opening fence.
    pub language: String,
    /// What stands between the fences.
    pub text: String,
}

impl Block {
    /// File and line, for messages.
    pub fn place(&self) -> String {
        format!("{}:{}", self.file, self.line)
    }
}

/// Every fenced block of the checkout's Markdown files.
pub fn blocks() -> Vec<Block> {
    let mut files = Vec::new();
    markdown_files(checkout(), "", &mut files);
    files.sort();
    files.iter().flat_map(|file| blocks_of(file)).collect()
}

/// The block with this marker.
pub fn block(marker: &str) -> Block {
    blocks()
        .into_iter()
        .find(|block| block.marker.as_deref() == Some(marker))
        .unwrap_or_else(|| panic!("no block with the marker <!-- {marker} -->"))
}

fn markdown_files(folder: &Path, prefix: &str, found: &mut Vec<String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        let path = format!("{prefix}{name}");
        let built = [
            "target",
            "node_modules",
            "dist",
            "data",
            "secrets",
            "test-results",
            "playwright-report",
            "venv",
        ]
        .contains(&name.as_str());
        if name.starts_with('.') || built {
            continue;
        }
        if entry.file_type().unwrap().is_dir() {
            markdown_files(&entry.path(), &format!("{path}/"), found);
        } else if name.ends_with(".md") {
            found.push(path);
        }
    }
}

fn blocks_of(file: &str) -> Vec<Block> {
    let text = fs::read_to_string(checkout().join(file)).unwrap();
    let mut blocks = Vec::new();
    let mut open: Option<Block> = None;
    let mut marker = None;
    for (index, line) in text.lines().enumerate() {
        let fence = line.trim_start().strip_prefix("```");
        match (&mut open, fence) {
            (Some(_), Some("")) => blocks.extend(open.take()),
            (Some(block), _) => {
                block.text.push_str(line);
                block.text.push('\n');
            }
            (None, Some(language)) => {
                open = Some(Block {
                    file: file.to_owned(),
                    line: index + 1,
                    marker: marker.take(),
                    language: language.trim().to_owned(),
                    text: String::new(),
                });
            }
            (None, None) => {
                let comment = line.trim().strip_prefix("<!--");
                marker = comment
                    .and_then(|comment| comment.strip_suffix("-->"))
                    .map(|comment| comment.trim().to_owned());
            }
        }
    }
    blocks
}
