//! The files of a crate that import each other.
//!
//! A module may use what its parents define: it is a part of them, and that is no circle. A name
//! that a parent only re-exports counts as an import of the file that defines it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::modules::{Module, Path};

type ByName<'a> = BTreeMap<&'a [String], &'a Module>;
type Imports<'a> = BTreeMap<&'a [String], BTreeSet<&'a [String]>>;

/// One sentence for each circle among these modules.
pub(crate) fn broken(modules: &[Module]) -> Vec<String> {
    let by_name: ByName<'_> = modules.iter().map(|at| (&at.name[..], at)).collect();
    let mut imports = Imports::new();
    for module in modules {
        let of = imports.entry(&module.name).or_default();
        for path in &module.names {
            add(&by_name, module, path, of);
        }
    }
    let mut broken = Vec::new();
    let mut seen = BTreeSet::new();
    for module in modules {
        if let Some(circle) = shortest_circle(&imports, &module.name)
            && seen.insert(circle.iter().copied().collect::<BTreeSet<_>>())
        {
            let files = circle.iter().chain(circle.first());
            let files: Vec<_> = files.map(|name| by_name[name].file.as_str()).collect();
            broken.push(format!(
                "{}: files that import each other. No file of a crate is in an import circle.",
                files.join(" → "),
            ));
        }
    }
    broken
}

/// Adds the module that defines a path, unless it is a parent of the module that names it.
fn add<'a>(by_name: &ByName<'a>, of: &Module, path: &Path, imports: &mut BTreeSet<&'a [String]>) {
    // The longest prefix that is a file.
    let mut prefixes = (1..=path.len()).rev().map(|length| &path[..length]);
    let Some(imported) = prefixes.find_map(|prefix| by_name.get(prefix)) else {
        return;
    };
    if !of.name.starts_with(&imported.name) {
        imports.insert(&imported.name);
        return;
    }
    // A name of a parent: perhaps one that the parent re-exports.
    let depth = imported.name.len();
    for reexport in &imported.reexports {
        if path.len() > depth && reexport.last() == Some(&path[depth]) && reexport.len() > depth + 1
        {
            add(by_name, of, reexport, imports);
        }
    }
}

/// The shortest way from a module back to itself.
fn shortest_circle<'a>(imports: &Imports<'a>, start: &'a [String]) -> Option<Vec<&'a [String]>> {
    let mut ways = VecDeque::from([vec![start]]);
    let mut seen = BTreeSet::new();
    while let Some(way) = ways.pop_front() {
        for next in imports.get(way.last()?).into_iter().flatten() {
            if *next == start {
                return Some(way);
            }
            if seen.insert(*next) {
                ways.push_back([&way[..], &[*next]].concat());
            }
        }
    }
    None
}
