//! The rules about what may be named where.

use crate::crates::{Crate, File};
use crate::repository::SYMBOLIC_LINK;

/// Which crates, or parts of the standard library, only some modules may name.
struct Confined {
    /// The crate whose files are checked. None: every crate of the product.
    of: &'static str,
    /// What is confined: a crate, or a path, with or without a further part of the first name.
    what: &'static [&'static str],
    /// The modules that may name it, with the modules below them.
    only_in: &'static [&'static str],
    /// The modules below those that may not.
    except_in: &'static [&'static str],
    sentence: &'static str,
}

/// The endpoint modules of the hub.
const ENDPOINTS: [&str; 4] = ["ingest", "sockets", "rooms::api", "discord_http"];

const CONFINED: &[Confined] = &[
    Confined {
        of: "hub",
        what: &["axum"],
        only_in: &[
            "app",
            "http",
            "console",
            "ops",
            "ingest",
            "sockets",
            "rooms::api",
            "discord_http",
        ],
        except_in: &["ingest::form", "sockets::session"],
        sentence: "In the hub, axum is only in app, http, console, ops and the endpoint modules, without ingest::form and sockets::session.",
    },
    Confined {
        of: "gateway_worker",
        what: &["axum"],
        only_in: &["ops"],
        except_in: &[],
        sentence: "In the worker, axum is only in ops.",
    },
    Confined {
        of: "hub",
        what: &["twilight_"],
        only_in: &["discord", "discord_http", "commands"],
        except_in: &[],
        sentence: "In the hub, twilight is only in discord, discord_http and commands.",
    },
    Confined {
        of: "gateway_worker",
        what: &["twilight_"],
        only_in: &["shards"],
        except_in: &[],
        sentence: "In the worker, twilight is only in shards.",
    },
    Confined {
        of: "",
        what: &["rusqlite", "redis"],
        only_in: &["roomlog::backend"],
        except_in: &[],
        sentence: "SQL and Redis are only in roomlog::backend.",
    },
    Confined {
        of: "proto",
        what: &[
            "tokio",
            "tokio_util",
            "axum",
            "hyper",
            "reqwest",
            "launch",
            "metrics",
            "tracing",
            "std::env",
            "std::fs",
            "std::io",
            "std::net",
            "std::process",
            "std::thread",
            "std::time",
        ],
        only_in: &[],
        except_in: &[],
        sentence: "proto is pure: it imports no runtime, no I/O and no clock.",
    },
];

/// The crates of the product, with the crates of the workspace that each may depend on.
const MAY_DEPEND_ON: [(&str, &[&str], &str); 5] = [
    ("proto", &[], "proto knows no other crate of the workspace."),
    (
        "launch",
        &[],
        "launch knows no other crate of the workspace.",
    ),
    (
        "roomlog",
        &["proto", "launch"],
        "roomlog knows only proto and launch.",
    ),
    (
        "hub",
        &["proto", "launch", "roomlog"],
        "gateway-worker and hub never import each other, and no crate of the product imports a test.",
    ),
    (
        "gateway_worker",
        &["proto", "launch"],
        "gateway-worker and hub never import each other, and no crate of the product imports a test.",
    ),
];

/// Whether a crate is a part of the product, and not of its tests.
pub(crate) fn is_of_the_product(of: &Crate) -> bool {
    MAY_DEPEND_ON.iter().any(|(name, ..)| *name == of.name)
}

/// One sentence for each broken rule.
pub(crate) fn broken(crates: &[Crate]) -> Vec<String> {
    let mut broken = Vec::new();
    for of in crates {
        broken.extend(wrong_dependencies(of, crates));
        for (module, file) in &of.files {
            broken.extend(misplaced(of, module, file));
            if of.name == "hub" {
                broken.extend(endpoints_that_meet(of, module, file));
            }
            if file.text == SYMBOLIC_LINK {
                broken.push(format!("{}: No source file is a symbolic link.", file.path));
            }
        }
    }
    broken
}

fn wrong_dependencies(of: &Crate, crates: &[Crate]) -> Vec<String> {
    let Some((_, allowed, sentence)) = MAY_DEPEND_ON.iter().find(|(name, ..)| *name == of.name)
    else {
        return Vec::new();
    };
    let is_wrong = |name: &str| {
        name != of.name && crates.iter().any(|other| other.name == name) && !allowed.contains(&name)
    };
    let in_manifest = of
        .dependencies
        .iter()
        .filter(|name| is_wrong(name))
        .map(|name| format!("{} depends on {name}. {sentence}", of.name));
    let in_code = of.files.iter().flat_map(|(module, file)| {
        // A path that resolves begins with a module of this crate.
        let external = file.named.paths.iter().filter(|(within, path)| {
            let at: Vec<_> = module.iter().chain(within).cloned().collect();
            of.resolve(&at, path).is_none()
        });
        external
            .filter_map(|(_, path)| path.first())
            .filter(|name| is_wrong(name))
            .map(|name| format!("{}: names {name}. {sentence}", file.path))
    });
    in_manifest.chain(in_code).collect()
}

/// Paths that this module may not name.
fn misplaced(of: &Crate, module: &[String], file: &File) -> Vec<String> {
    let here = module.join("::");
    let mut broken = Vec::new();
    for rule in CONFINED {
        let applies = rule.of == of.name || (rule.of.is_empty() && is_of_the_product(of));
        let is_below = |names: &[&str]| {
            names.iter().any(|name| {
                let name = name
                    .strip_prefix(of.name.as_str())
                    .and_then(|rest| rest.strip_prefix("::"))
                    .unwrap_or(name);
                here == name || here.starts_with(&format!("{name}::"))
            })
        };
        if !applies || (is_below(rule.only_in) && !is_below(rule.except_in)) {
            continue;
        }
        let found = file.named.paths.iter().find(|(_, path)| {
            let path = path.join("::");
            rule.what.iter().any(|what| {
                path == *what
                    || path.starts_with(&format!("{what}::"))
                    || (what.ends_with('_') && path.starts_with(what))
            })
        });
        if let Some((_, path)) = found {
            let path = path.join("::");
            broken.push(format!("{}: names {path}. {}", file.path, rule.sentence));
        }
    }
    broken
}

/// Endpoint modules that this file of another endpoint module names.
fn endpoints_that_meet(of: &Crate, module: &[String], file: &File) -> Vec<String> {
    let endpoint_of = |path: &[String]| {
        let path = path.join("::");
        ENDPOINTS
            .into_iter()
            .find(|name| path == *name || path.starts_with(&format!("{name}::")))
    };
    let Some(own) = endpoint_of(module) else {
        return Vec::new();
    };
    let others = file.named.paths.iter().filter_map(|(within, path)| {
        let at: Vec<_> = module.iter().chain(within).cloned().collect();
        endpoint_of(&of.resolve(&at, path)?)
    });
    others
        .filter(|other| *other != own)
        .map(|other| {
            format!(
                "{}: imports {other}. Endpoint modules never import each other.",
                file.path
            )
        })
        .collect()
}
