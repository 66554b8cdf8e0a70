//! Variables that look like misspelled settings.

use clap::Command;

use super::{Environment, values};

/// The settings of every program of Roomwire, one a line: one environment often serves several
/// programs. `node docs/settings.mjs` writes the file from what the programs print for `--help`;
/// `tests/e2e` compares both.
const OF_ALL_PROGRAMS: &str = include_str!("names.txt");

/// A shorter name has too many unrelated neighbours.
const LENGTH_MIN: usize = 5;
/// From this length on, two letters may be wrong.
const LENGTH_OF_TWO: usize = 7;

/// The variables that a program reads, those of secret files included.
pub(super) fn settings_of(command: &Command) -> Vec<String> {
    let names = command
        .get_arguments()
        .filter(|arg| arg.get_env().is_some());
    names
        .flat_map(|arg| {
            let name = values::name(arg);
            let file = values::is_secret(arg).then(|| format!("{name}_FILE"));
            std::iter::once(name).chain(file)
        })
        .collect()
}

/// One line for each variable that is no setting and looks like one.
pub(super) fn warnings(command: &Command, environment: &Environment) -> Vec<String> {
    let mut known = settings_of(command);
    known.extend(OF_ALL_PROGRAMS.lines().map(str::to_owned));
    let unknown = environment.0.keys().filter(|name| !known.contains(name));
    let warnings = unknown.filter_map(|name| {
        let probable = nearest(name, known.iter().cloned())?;
        Some(format!(
            "{name} is not a setting of Roomwire. Did you mean {probable}?"
        ))
    });
    warnings.collect()
}

/// The known name that is the nearest to this one, if it is near enough to be meant. The first of
/// equally near ones.
pub(super) fn nearest(name: &str, known: impl Iterator<Item = String>) -> Option<String> {
    let upper = name.to_ascii_uppercase();
    let near = known.filter_map(|known| {
        let allowed = match known.len() {
            ..LENGTH_MIN => 0,
            LENGTH_MIN..LENGTH_OF_TWO => 1,
            _ => 2,
        };
        let distance = distance(&upper, &known.to_ascii_uppercase(), allowed)?;
        Some((distance, known))
    });
    // `min_by_key` gives the first of equal ones.
    near.min_by_key(|(distance, _)| *distance)
        .map(|(_, known)| known)
}

/// The edit distance (Levenshtein's) of two names, if it is at most `most`.
fn distance(left: &str, right: &str, most: usize) -> Option<usize> {
    let (left, right) = (left.as_bytes(), right.as_bytes());
    if left.len().abs_diff(right.len()) > most {
        return None;
    }
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (i, a) in left.iter().enumerate() {
        let mut diagonal = i;
        row[0] = i + 1;
        for (j, b) in right.iter().enumerate() {
            let replaced = diagonal + usize::from(a != b);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row.last().copied().filter(|distance| *distance <= most)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn probable(name: &str) -> Option<String> {
        nearest(name, OF_ALL_PROGRAMS.lines().map(str::to_owned))
    }

    #[test]
    fn one_or_two_wrong_letters_are_a_misspelling() {
        for (name, meant) in [
            ("JWT_ISSUR", "JWT_ISSUER"),
            ("JWT_ISUEER", "JWT_ISSUER"),
            ("JWT_ISSUERR", "JWT_ISSUER"),
            ("GUILD_ID", "GUILD_IDS"),
            ("WEB_ORIGINS", "WEB_ORIGIN"),
            ("HUB_SECRETS_FILE", "HUB_SECRET_FILE"),
            ("LOGLEVEL", "LOG_LEVEL"),
            ("jwt_issuer", "JWT_ISSUER"),
            ("SIM_LISTN", "SIM_LISTEN"),
        ] {
            assert_eq!(probable(name).as_deref(), Some(meant), "{name}");
        }
    }

    #[test]
    fn what_an_environment_usually_holds_is_no_misspelling() {
        let environment = "PATH HOME LANG TERM SHELL USER LOGNAME MAIL PWD OLDPWD SHLVL EDITOR DISPLAY \
            HOSTNAME TZ LC_ALL TMPDIR RUST_BACKTRACE RUST_LIB_BACKTRACE RUSTUP_HOME \
            RUSTUP_TOOLCHAIN CARGO_HOME HTTP_PROXY HTTPS_PROXY NO_PROXY ALL_PROXY http_proxy \
            no_proxy SSL_CERT_FILE SSL_CERT_DIR NODE_ENV NODE_VERSION PORT HUB_PORT \
            HUB_SERVICE_HOST HUB_SERVICE_PORT HUB_PORT_3000_TCP HUB_PORT_3000_TCP_ADDR \
            GATEWAY_WORKER_PORT INVOCATION_ID JOURNAL_STREAM SYSTEMD_EXEC_PID STATE_DIRECTORY \
            CREDENTIALS_DIRECTORY NOTIFY_SOCKET DATABASE_URL REDIS_URL SEEDS RUN LESS _ \
            DISCORD_TOKEN HUB_URL TOKEN SSH_AUTH_SOCK XDG_RUNTIME_DIR XDG_SESSION_ID COLUMNS \
            LINES LS_COLORS DEBIAN_FRONTEND KUBERNETES_PORT KUBERNETES_SERVICE_HOST";
        for name in environment.split(' ') {
            let is_setting = OF_ALL_PROGRAMS.lines().any(|known| known == name);
            let found = probable(name);
            assert!(is_setting || found.is_none(), "{name}: {found:?}");
        }
    }

    #[test]
    fn distances_are_counted_up_to_the_limit() {
        for (left, right, most, is) in [
            ("", "", 0, Some(0)),
            ("kitten", "sitting", 3, Some(3)),
            ("kitten", "sitting", 2, None),
            ("AB", "BA", 2, Some(2)),
            ("A", "ABC", 2, Some(2)),
            ("A", "ABCD", 2, None),
        ] {
            assert_eq!(distance(left, right, most), is, "{left} {right}");
        }
    }
}
