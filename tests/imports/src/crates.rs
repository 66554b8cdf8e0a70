//! The crates of a repository, with their files and the paths that each file names.

use std::collections::{BTreeMap, BTreeSet};

use crate::paths::{Named, named};
use crate::repository::Repository;

/// A crate of the workspace.
pub(crate) struct Crate {
    /// Its name in code.
    pub(crate) name: String,
    /// The names in code of the crates in `[dependencies]`.
    pub(crate) dependencies: BTreeSet<String>,
    /// Its files by the path of their module. Files that only tests compile are not among them.
    pub(crate) files: BTreeMap<Vec<String>, File>,
}

/// A source file.
pub(crate) struct File {
    /// The path from the root of the repository.
    pub(crate) path: String,
    /// Its text.
    pub(crate) text: String,
    /// The paths that it names.
    pub(crate) named: Named,
}

impl Crate {
    /// The module whose file contains this path: its longest prefix that is a file.
    pub(crate) fn module_of<'a>(&self, path: &'a [String]) -> Option<&'a [String]> {
        (0..=path.len())
            .rev()
            .map(|length| &path[..length])
            .find(|prefix| self.files.contains_key(*prefix))
    }

    /// The absolute form of a path that code of `module` names, or `None` for a path of another
    /// crate.
    pub(crate) fn resolve(&self, module: &[String], path: &[String]) -> Option<Vec<String>> {
        let (mut base, mut rest) = (module.to_vec(), path);
        match path.first().map(String::as_str) {
            Some("crate") => (base, rest) = (Vec::new(), &path[1..]),
            Some("self" | "super") => {
                while let Some("self" | "super") = rest.first().map(String::as_str) {
                    if rest[0] == "super" {
                        base.pop();
                    }
                    rest = &rest[1..];
                }
            }
            Some(first) => {
                let mut child = base.clone();
                child.push(first.to_owned());
                if !self.files.contains_key(&child) {
                    return None;
                }
            }
            None => return None,
        }
        base.extend_from_slice(rest);
        Some(base)
    }
}

/// The crates of a repository.
pub(crate) fn crates(repository: &Repository) -> Vec<Crate> {
    repository
        .files_in("")
        .filter_map(|(path, manifest)| {
            let folder = path.strip_suffix("/Cargo.toml")?;
            Some(read(repository, folder, manifest))
        })
        .collect()
}

fn read(repository: &Repository, folder: &str, manifest: &str) -> Crate {
    let src = format!("{folder}/src/");
    let mut files = BTreeMap::new();
    let mut only_for_tests = Vec::new();
    for (path, text) in repository.files_in(&src) {
        let module = module_of_file(&path[src.len()..]);
        let named = named(text);
        only_for_tests.extend(named.test_modules.iter().map(|name| {
            let mut test = module.clone();
            test.push(name.clone());
            test
        }));
        let file = File {
            path: path.to_owned(),
            text: text.to_owned(),
            named,
        };
        files.insert(module, file);
    }
    files.retain(|module: &Vec<String>, _| {
        !only_for_tests.iter().any(|test| module.starts_with(test))
    });
    Crate {
        name: name(manifest).replace('-', "_"),
        dependencies: dependencies(manifest),
        files,
    }
}

/// The module of a file at this path from `src/`. `main.rs` is not the crate's root here: the
/// library is.
fn module_of_file(path: &str) -> Vec<String> {
    let path = path.strip_suffix(".rs").unwrap_or(path);
    let mut module: Vec<_> = path.split('/').map(str::to_owned).collect();
    if module.last().is_some_and(|last| last == "mod") || module == ["lib"] {
        module.pop();
    }
    module
}

fn name(manifest: &str) -> &str {
    let name = manifest
        .lines()
        .find_map(|line| line.strip_prefix("name = "));
    name.unwrap_or_default().trim_matches('"')
}

fn dependencies(manifest: &str) -> BTreeSet<String> {
    manifest
        .lines()
        .skip_while(|line| *line != "[dependencies]")
        .skip(1)
        .take_while(|line| !line.starts_with('['))
        .filter_map(|line| line.split(['=', '.']).next())
        .map(|name| name.trim().replace('-', "_"))
        .filter(|name| !name.is_empty() && !name.starts_with('#'))
        .collect()
}
