//! The import rules of ARCHITECTURE.md, as a check of the source text.
//!
//! [`read`] reads every crate of the workspace, `paths` finds the paths that a file names, `modules`
//! makes them absolute, and [`broken_rules`] compares them with the rules. Code that only tests
//! compile is not checked.

mod circles;
mod modules;
mod paths;
mod rules;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// The text of each manifest and source file, by its path from the root. A symbolic link has none.
pub type Files = BTreeMap<String, Option<String>>;

/// Reads the manifests and the source files of the repository at this root.
///
/// # Errors
/// A file or a folder cannot be read.
pub fn read(root: &Path) -> std::io::Result<Files> {
    const NOT_OURS: [&str; 3] = ["target", "node_modules", ".git"];
    let mut files = Files::new();
    let ours = |entry: &walkdir::DirEntry| !NOT_OURS.iter().any(|name| entry.file_name() == *name);
    for entry in walkdir::WalkDir::new(root).into_iter().filter_entry(ours) {
        let entry = entry?;
        let path = entry.path().strip_prefix(root).unwrap_or(entry.path());
        let path = path.display().to_string();
        if entry.path_is_symlink() && path.contains("/src/") {
            files.insert(path, None);
        } else if path.ends_with("/Cargo.toml") || (path.contains("/src/") && path.ends_with(".rs"))
        {
            files.insert(path, Some(fs::read_to_string(entry.path())?));
        }
    }
    Ok(files)
}

/// Every broken rule of these files, one sentence each. Empty if all rules hold.
pub fn broken_rules(files: &Files) -> Vec<String> {
    let links = files.iter().filter(|(_, text)| text.is_none());
    let mut broken: Vec<_> = links
        .map(|(path, _)| format!("{path}: No source file is a symbolic link."))
        .collect();
    let modules = modules::modules(files);
    for module in &modules {
        broken.extend(rules::broken(module));
    }
    broken.extend(circles::broken(&modules));
    broken
}
