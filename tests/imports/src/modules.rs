//! The files of all crates as modules, with the absolute paths that each names.

use std::collections::BTreeMap;

use crate::Files;
use crate::paths::Named;

/// A path, absolute unless it says otherwise: its first part is a crate.
pub(crate) type Path = Vec<String>;

/// One source file that is not only compiled for tests.
#[derive(Debug)]
pub(crate) struct Module {
    /// The file's path from the root of the repository.
    pub(crate) file: String,
    /// The module's path.
    pub(crate) name: Path,
    /// The paths that it names. Those of a crate below `tests/` begin with `tests`.
    pub(crate) names: Vec<Path>,
    /// The paths that it re-exports.
    pub(crate) reexports: Vec<Path>,
}

/// The modules of every crate.
pub(crate) fn modules(files: &Files) -> Vec<Module> {
    let crates = files.iter().filter_map(|(path, manifest)| {
        let folder = path.strip_suffix("/Cargo.toml")?;
        let mut lines = manifest.as_ref()?.lines();
        let name = lines.find_map(|line| line.strip_prefix("name = "))?;
        Some((folder, name.trim_matches('"').replace('-', "_")))
    });
    let crates: Vec<(&str, String)> = crates.collect();
    let of_tests: Vec<&str> = crates
        .iter()
        .filter(|(folder, _)| folder.starts_with("tests/"))
        .map(|(_, name)| name.as_str())
        .collect();
    let all = crates
        .iter()
        .flat_map(|(folder, name)| modules_of(files, folder, name, &of_tests));
    all.collect()
}

fn modules_of(files: &Files, folder: &str, of: &str, of_tests: &[&str]) -> Vec<Module> {
    let mut named = BTreeMap::new();
    let mut only_for_tests = Vec::new();
    for (file, text) in files {
        let within = file
            .strip_prefix(folder)
            .and_then(|path| path.strip_prefix("/src/"));
        if let (Some(path), Some(text)) = (within, text) {
            let name = name_of(of, path);
            let mut names = Named::default();
            names.read(text.parse().unwrap_or_default(), &[]);
            let tests = names.test_modules.iter();
            only_for_tests
                .extend(tests.map(|test| [&name[..], std::slice::from_ref(test)].concat()));
            named.insert(name, (file, names));
        }
    }
    named.retain(|name, _| !only_for_tests.iter().any(|test| name.starts_with(test)));
    let absolute = |module: Path, path: &Path| -> Path {
        let inside = resolve(&module, path, |module| named.contains_key(module));
        inside.unwrap_or_else(|| match of_tests.contains(&path[0].as_str()) {
            true => [&["tests".to_owned()], &path[..]].concat(),
            false => path.clone(),
        })
    };
    let modules = named.iter().map(|(name, (file, names))| Module {
        file: (*file).clone(),
        name: name.clone(),
        names: names
            .paths
            .iter()
            .map(|(within, path)| absolute([&name[..], within].concat(), path))
            .collect(),
        reexports: names
            .reexports
            .iter()
            .map(|path| absolute(name.clone(), path))
            .collect(),
    });
    modules.collect()
}

/// The module of a file at this path from `src/`. `main.rs` is not the crate's root here: the
/// library is.
fn name_of(of: &str, path: &str) -> Path {
    let path = path.strip_suffix(".rs").unwrap_or(path);
    let mut name = vec![of.to_owned()];
    name.extend(path.split('/').map(str::to_owned));
    if name.last().is_some_and(|last| last == "mod") || name[1..] == ["lib"] {
        name.pop();
    }
    name
}

/// The absolute form of a path that code of `module` names, or `None` for a path of another crate.
fn resolve(module: &[String], path: &[String], exists: impl Fn(&Path) -> bool) -> Option<Path> {
    let mut base = module.to_vec();
    let mut rest = path;
    match path[0].as_str() {
        "crate" => {
            base.truncate(1);
            rest = &path[1..];
        }
        "self" | "super" => {
            while let Some("self" | "super") = rest.first().map(String::as_str) {
                if rest[0] == "super" {
                    base.pop();
                }
                rest = &rest[1..];
            }
        }
        child => {
            if !exists(&[module, &[child.to_owned()]].concat()) {
                return None;
            }
        }
    }
    Some([&base, rest].concat())
}
