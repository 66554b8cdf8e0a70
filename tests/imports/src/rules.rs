//! The rules about what may be named where.

use crate::modules::Module;

/// The crates of the product.
pub(crate) const PRODUCT: [&str; 5] = ["proto", "launch", "roomlog", "hub", "gateway_worker"];

/// What some modules must not name. A module stands for those below it too, a name that ends with
/// `_` for every name that begins so.
struct Rule {
    /// The modules that the rule is for.
    modules: &'static [&'static str],
    /// The modules below those that it is not for.
    except: &'static [&'static str],
    /// What they must not name.
    names: &'static [&'static str],
    sentence: &'static str,
}

const AXUM_IN_THE_HUB: &str = "In the hub, axum is only in app, http, console, ops and the endpoint modules, without ingest::form and sockets::session.";
const ENDPOINTS: &str = "Endpoint modules never import each other.";

const RULES: &[Rule] = &[
    Rule {
        modules: &["hub"],
        except: &[
            "hub::app",
            "hub::http",
            "hub::console",
            "hub::ops",
            "hub::ingest",
            "hub::sockets",
            "hub::rooms::api",
            "hub::discord_http",
        ],
        names: &["axum"],
        sentence: AXUM_IN_THE_HUB,
    },
    Rule {
        modules: &["hub::ingest::form", "hub::sockets::session"],
        except: &[],
        names: &["axum"],
        sentence: AXUM_IN_THE_HUB,
    },
    Rule {
        modules: &["gateway_worker"],
        except: &["gateway_worker::ops"],
        names: &["axum"],
        sentence: "In the worker, axum is only in ops.",
    },
    Rule {
        modules: &["hub"],
        except: &["hub::discord", "hub::discord_http", "hub::commands"],
        names: &["twilight_"],
        sentence: "In the hub, twilight is only in discord, discord_http and commands.",
    },
    Rule {
        modules: &["gateway_worker"],
        except: &["gateway_worker::shards"],
        names: &["twilight_"],
        sentence: "In the worker, twilight is only in shards.",
    },
    Rule {
        modules: &PRODUCT,
        except: &["roomlog::backend"],
        names: &["rusqlite", "redis"],
        sentence: "SQL and Redis are only in roomlog::backend.",
    },
    Rule {
        modules: &["proto"],
        except: &[],
        names: &[
            "tokio",
            "tokio_",
            "axum",
            "hyper",
            "reqwest",
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
        sentence: "proto is pure: it imports no runtime, no I/O and no clock.",
    },
    Rule {
        modules: &["proto"],
        except: &[],
        names: &["launch", "roomlog", "hub", "gateway_worker"],
        sentence: "proto knows no other crate of the workspace.",
    },
    Rule {
        modules: &["launch"],
        except: &[],
        names: &["proto", "roomlog", "hub", "gateway_worker"],
        sentence: "launch knows no other crate of the workspace.",
    },
    Rule {
        modules: &["roomlog"],
        except: &[],
        names: &["hub", "gateway_worker"],
        sentence: "roomlog knows only proto and launch.",
    },
    Rule {
        modules: &["hub"],
        except: &[],
        names: &["gateway_worker"],
        sentence: "gateway-worker and hub never import each other.",
    },
    Rule {
        modules: &["gateway_worker"],
        except: &[],
        names: &["hub", "roomlog"],
        sentence: "gateway-worker and hub never import each other.",
    },
    Rule {
        modules: &PRODUCT,
        except: &[],
        names: &["tests"],
        sentence: "No crate of the product imports a test.",
    },
    Rule {
        modules: &["hub::ingest"],
        except: &[],
        names: &["hub::sockets", "hub::rooms::api", "hub::discord_http"],
        sentence: ENDPOINTS,
    },
    Rule {
        modules: &["hub::sockets"],
        except: &[],
        names: &["hub::ingest", "hub::rooms::api", "hub::discord_http"],
        sentence: ENDPOINTS,
    },
    Rule {
        modules: &["hub::rooms::api"],
        except: &[],
        names: &["hub::ingest", "hub::sockets", "hub::discord_http"],
        sentence: ENDPOINTS,
    },
    Rule {
        modules: &["hub::discord_http"],
        except: &[],
        names: &["hub::ingest", "hub::sockets", "hub::rooms::api"],
        sentence: ENDPOINTS,
    },
];

/// One sentence for each rule that a module breaks.
pub(crate) fn broken(module: &Module) -> Vec<String> {
    let here = module.name.join("::");
    let is_for = |rule: &&Rule| is_below(&here, rule.modules) && !is_below(&here, rule.except);
    let broken = RULES.iter().filter(is_for).filter_map(|rule| {
        let mut names = module.names.iter().map(|path| path.join("::"));
        let name = names.find(|name| is_below(name, rule.names))?;
        Some(format!("{}: names {name}. {}", module.file, rule.sentence))
    });
    broken.collect()
}

fn is_below(path: &str, names: &[&str]) -> bool {
    names.iter().any(|name| {
        path.strip_prefix(name)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with("::") || name.ends_with('_'))
    })
}
