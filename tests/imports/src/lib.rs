//! The import rules of ARCHITECTURE.md, as a check of the source text.
//!
//! [`Repository::read`] reads every crate of the workspace, `paths` finds the imports of a file,
//! [`broken_rules`] compares them with the rules. Code that only tests compile is not checked.

mod circles;
mod crates;
mod paths;
mod repository;
mod rules;

pub use repository::Repository;

/// Every broken rule of the repository, one sentence each. Empty if all rules hold.
pub fn broken_rules(repository: &Repository) -> Vec<String> {
    let crates = crates::crates(repository);
    let mut broken = rules::broken(&crates);
    let product = crates.iter().filter(|of| rules::is_of_the_product(of));
    broken.extend(product.flat_map(circles::broken));
    broken
}
