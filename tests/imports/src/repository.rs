//! The text of the files that the rules are about.

use std::collections::BTreeMap;
use std::path::Path;
use std::{fs, io};

/// The Rust files and manifests of the workspace's crates, by their path from the root.
#[derive(Debug, Clone, Default)]
pub struct Repository {
    files: BTreeMap<String, String>,
}

impl Repository {
    /// Reads the crates of the workspace at this root.
    ///
    /// # Errors
    /// A file or a folder cannot be read.
    pub fn read(root: &Path) -> io::Result<Self> {
        let mut repository = Self::default();
        let workspace = fs::read_to_string(root.join("Cargo.toml"))?;
        for member in members(&workspace) {
            let manifest = format!("{member}/Cargo.toml");
            let text = fs::read_to_string(root.join(&manifest))?;
            repository.files.insert(manifest, text);
            repository.read_folder(root, &format!("{member}/src"))?;
        }
        Ok(repository)
    }

    fn read_folder(&mut self, root: &Path, folder: &str) -> io::Result<()> {
        for entry in fs::read_dir(root.join(folder))? {
            let entry = entry?;
            let path = format!("{folder}/{}", entry.file_name().to_string_lossy());
            if entry.file_type()?.is_symlink() {
                self.files.insert(path, SYMBOLIC_LINK.to_owned());
            } else if entry.file_type()?.is_dir() {
                self.read_folder(root, &path)?;
            } else if path.ends_with(".rs") {
                let text = fs::read_to_string(root.join(&path))?;
                self.files.insert(path, text);
            }
        }
        Ok(())
    }

    /// The same repository with this text at the end of a file, which may be new.
    #[must_use]
    pub fn with(&self, path: &str, text: &str) -> Self {
        let mut changed = self.clone();
        let file = changed.files.entry(path.to_owned()).or_default();
        file.push('\n');
        file.push_str(text);
        changed
    }

    /// The files in this folder and below, with their paths from the root.
    pub(crate) fn files_in<'a>(
        &'a self,
        folder: &'a str,
    ) -> impl Iterator<Item = (&'a str, &'a str)> {
        self.files
            .iter()
            .filter(move |(path, _)| path.starts_with(folder))
            .map(|(path, text)| (path.as_str(), text.as_str()))
    }
}

/// The text that stands for a symbolic link.
pub(crate) const SYMBOLIC_LINK: &str = "// a symbolic link";

/// The entries of `members` in the manifest of a workspace.
fn members(manifest: &str) -> Vec<String> {
    let list = manifest
        .split_once("members = [")
        .and_then(|(_, rest)| rest.split_once(']'))
        .map_or("", |(list, _)| list);
    let names = list.split(',').map(|name| name.trim().trim_matches('"'));
    names
        .filter(|name| !name.is_empty())
        .map(str::to_owned)
        .collect()
}
