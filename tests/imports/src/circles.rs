//! The files of a crate that import each other.
//!
//! A module may use what its parents define: it is a part of them, and that is no circle. A name
//! that a parent only re-exports counts as an import of the file that defines it.

use std::collections::{BTreeMap, BTreeSet};

use crate::crates::Crate;

type Module = Vec<String>;
type Imports<'a> = BTreeMap<&'a Module, BTreeSet<Module>>;

/// One sentence for each circle of a crate.
pub(crate) fn broken(of: &Crate) -> Vec<String> {
    let imports: Imports<'_> = of
        .files
        .keys()
        .map(|module| (module, imports(of, module)))
        .collect();
    let mut broken = Vec::new();
    let mut seen = BTreeSet::new();
    for module in of.files.keys() {
        if let Some(circle) = shortest_circle(&imports, module)
            && seen.insert(circle.iter().cloned().collect::<BTreeSet<_>>())
        {
            let paths: Vec<_> = circle.iter().map(|at| of.files[at].path.as_str()).collect();
            broken.push(format!(
                "{} → {}: files that import each other. No file of a crate of the product is in an import circle.",
                paths.join(" → "),
                paths[0]
            ));
        }
    }
    broken
}

/// The files that a file imports, without its parents.
fn imports(of: &Crate, module: &Module) -> BTreeSet<Module> {
    let mut imports = BTreeSet::new();
    for (within, path) in &of.files[module].named.paths {
        let mut at = module.clone();
        at.extend(within.iter().cloned());
        if let Some(path) = of.resolve(&at, path) {
            add(of, module, &path, &mut imports);
        }
    }
    imports
}

fn add(of: &Crate, module: &Module, path: &[String], imports: &mut BTreeSet<Module>) {
    let Some(imported) = of.module_of(path) else {
        return;
    };
    if !module.starts_with(imported) {
        imports.insert(imported.to_vec());
        return;
    }
    // A name of a parent: perhaps one that the parent re-exports.
    let Some(name) = path.get(imported.len()) else {
        return;
    };
    for reexport in &of.files[imported].named.reexports {
        if reexport.last() == Some(name)
            && let Some(path) = of.resolve(imported, reexport)
            && path.len() > imported.len() + 1
        {
            add(of, module, &path, imports);
        }
    }
}

/// The shortest way from a module back to itself.
fn shortest_circle(imports: &Imports<'_>, start: &Module) -> Option<Vec<Module>> {
    let mut ways = vec![vec![start.clone()]];
    let mut seen = BTreeSet::new();
    while !ways.is_empty() {
        let mut longer = Vec::new();
        for way in ways {
            let last = way.last()?;
            for next in imports.get(last).into_iter().flatten() {
                if next == start {
                    return Some(way);
                }
                if seen.insert(next.clone()) {
                    let mut further = way.clone();
                    further.push(next.clone());
                    longer.push(further);
                }
            }
        }
        ways = longer;
    }
    None
}
