//! One setting: where its value comes from, and what is wrong with it, in our words.

use std::any::TypeId;
use std::ffi::{OsStr, OsString};
use std::net::SocketAddr;
use std::num::ParseIntError;
use std::path::Path;

use clap::{Arg, Command};

use super::{Environment, Problem, file, list, secrets};

/// The largest secret file that is read, in bytes.
const SECRET_FILE_BYTES_MAX: u64 = 64 * 1024;
/// How much of a wrong value is shown, in characters.
const SHOWN_CHARS_MAX: usize = 80;
/// What begins the sentence of a help text that says how to choose a value.
const CURE: &str = "Set it to ";
/// How clap says that a number is outside of its range.
const OUT_OF_RANGE: &str = " is not in ";

/// The flag of an argument: `--hub-listen`.
pub(super) fn flag(arg: &Arg) -> String {
    format!("--{}", arg.get_long().unwrap_or_default())
}

/// The setting's name: its variable, or its flag where it has none.
pub(super) fn name(arg: &Arg) -> String {
    arg.get_env()
        .map_or_else(|| flag(arg), |name| name.to_string_lossy().into_owned())
}

/// Whether the value must not be shown, and may come from a file.
pub(super) fn is_secret(arg: &Arg) -> bool {
    arg.is_hide_env_values_set()
}

/// What to do about a missing value: the end of its help text, from "Set it to" on.
pub(super) fn cure(arg: &Arg) -> String {
    let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
    let cure = help.find(CURE).and_then(|at| help.get(at..));
    cure.map_or_else(|| "See --help.".to_owned(), sentence)
}

/// The values of an argument in the environment; none: it is unset there.
pub(super) fn from_environment(
    arg: &Arg,
    environment: &Environment,
) -> Result<Vec<OsString>, Vec<Problem>> {
    if arg.get_env().is_none() {
        return Ok(Vec::new());
    }
    let name = name(arg);
    let value = environment.get(&name);
    let file_name = format!("{name}_FILE");
    let path = environment.get(&file_name).filter(|_| is_secret(arg));
    let wrong = |text: String| Err(vec![Problem::new(&[&name], text)]);
    let path = match (value, path) {
        (value, None) => return Ok(value.cloned().into_iter().collect()),
        (None, Some(path)) => path,
        (Some(_), Some(_)) => {
            return wrong(format!(
                "{name} and {file_name} are both set. Keep one of them."
            ));
        }
    };
    match file::read(Path::new(path), SECRET_FILE_BYTES_MAX, "the secret") {
        Ok(secret) => Ok(vec![secret.into()]),
        Err(why) if is_path(path) => {
            let path = shown(&path.to_string_lossy());
            wrong(format!("{file_name} is {path}. {why}"))
        }
        Err(_) => wrong(format!(
            "{file_name} names no file. Its value is not shown, because it may be the secret itself. Set {file_name} to the path of a file, as in /run/secrets/{}, or set {name} to the secret.",
            name.to_lowercase()
        )),
    }
}

/// The values as clap takes them: trimmed, and split if the setting is a list.
pub(super) fn checked(arg: &Arg, found: Vec<OsString>) -> Result<Vec<String>, Vec<Problem>> {
    let name = name(arg);
    let is_list = arg.get_value_delimiter().is_some();
    let mut values = Vec::new();
    let mut problems = Vec::new();
    for value in found {
        let Some(value) = value.to_str() else {
            let text = format!("{name} is not UTF-8. Write it in UTF-8.");
            problems.push(Problem::new(&[&name], text));
            continue;
        };
        let value = value.trim();
        if is_quoted(value) {
            let text = format!(
                "{name} begins and ends with a quotation mark. Remove both marks: in this place they are part of the value."
            );
            problems.push(Problem::new(&[&name], text));
        } else if is_list {
            values.extend(list::items(value).map(str::to_owned));
        } else {
            values.push(value.to_owned());
        }
    }
    list::drop_repeats(&mut values);
    for value in &values {
        if let Err(error) = try_value(arg, value) {
            let why = why(arg, &error);
            let text = if is_secret(arg) {
                format!("{name} has a wrong value, which is not shown. {why}")
            } else if secrets::may_hold_one(value) {
                // `why` may repeat the value.
                format!(
                    "{name} has a wrong value, which is not shown, because it looks like a secret. {}",
                    allowed(arg)
                )
            } else if is_list {
                format!("{name} contains {}. {why}", shown(value))
            } else {
                format!("{name} is {}. {why}", shown(value))
            };
            problems.push(Problem::new(&[&name], text));
        }
    }
    if problems.is_empty() {
        Ok(values)
    } else {
        Err(problems)
    }
}

/// A value as a person may see it: bounded, escaped, and without the user and password of an address.
pub(super) fn shown(value: &str) -> String {
    let value = without_user(value);
    let short: String = value.chars().take(SHOWN_CHARS_MAX).collect();
    let cut = if short.len() < value.len() { "…" } else { "" };
    format!("{short:?}{cut}")
}

/// Whether a value that names no readable file was meant as a path, so that it may be shown.
fn is_path(value: &OsStr) -> bool {
    let text = value.to_string_lossy();
    let looks_so = text.starts_with(['/', '.']) && !secrets::may_hold_one(&text);
    looks_so || Path::new(value).exists()
}

/// What is allowed, without a word of the value.
fn allowed(arg: &Arg) -> String {
    let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
    if help.is_empty() {
        "See --help.".to_owned()
    } else {
        format!("--help says: {}", sentence(&help))
    }
}

fn without_user(value: &str) -> String {
    // Without a scheme too, and whatever the password holds: up to the last `@`.
    match value.rsplit_once('@') {
        Some((before, after)) => {
            let scheme = before.find("://").map_or("", |at| &before[..at + 3]);
            format!("{scheme}…@{after}")
        }
        None => value.to_owned(),
    }
}

fn is_quoted(value: &str) -> bool {
    value.len() > 1
        && ['"', '\'']
            .iter()
            .any(|mark| value.starts_with(*mark) && value.ends_with(*mark))
}

/// Judges one value by the argument's own parser.
fn try_value(arg: &Arg, value: &str) -> Result<(), clap::Error> {
    let alone = arg
        .clone()
        .required(false)
        .env(None::<&'static str>)
        .value_delimiter(None);
    Command::new("setting")
        .no_binary_name(true)
        .disable_help_flag(true)
        .arg(alone)
        .try_get_matches_from([format!("{}={value}", flag(arg))])
        .map(drop)
}

/// What is allowed, in a sentence or two. A parser of ours says it itself; clap's and the standard
/// library's parsers speak to programmers.
fn why(arg: &Arg, error: &clap::Error) -> String {
    if let Some(values) = arg.get_value_parser().possible_values() {
        let names: Vec<_> = values
            .filter(|value| !value.is_hide_set())
            .map(|value| value.get_name().to_owned())
            .collect();
        return format!("It must be one of: {}.", names.join(", "));
    }
    let source = std::error::Error::source(error);
    let said = source.map(ToString::to_string).unwrap_or_default();
    let kind = arg.get_value_parser().type_id();
    let no_integer = source.and_then(|source| source.downcast_ref::<ParseIntError>());
    // As in `11 is not in 1..=10`: a number out of the range that clap keeps.
    if no_integer.is_some() || said.contains(OUT_OF_RANGE) {
        return number_words(arg);
    }
    if kind == TypeId::of::<SocketAddr>() {
        return "It must be an IP address and a port, as in 127.0.0.1:3000 or [::1]:3000. Use 0.0.0.0 for every address of this machine.".to_owned();
    }
    if said.is_empty() {
        return "It is not allowed. See --help.".to_owned();
    }
    sentence(&said)
}

/// Which numbers are allowed. clap shows a parser's range only in its errors, so the parser is
/// tried with numbers that no setting allows.
fn number_words(arg: &Arg) -> String {
    let (mut least, mut most) = (None, None);
    for probe in [i64::MAX.to_string(), u64::MAX.to_string(), "0".to_owned()] {
        let Err(error) = try_value(arg, &probe) else {
            continue;
        };
        let said = std::error::Error::source(&error)
            .map(ToString::to_string)
            .unwrap_or_default();
        let Some((_, range)) = said.split_once(OUT_OF_RANGE) else {
            continue;
        };
        let (from, to) = range.split_once("..").unwrap_or((range, ""));
        least = least.or_else(|| from.parse::<u64>().ok());
        most = most.or_else(|| to.trim_start_matches('=').parse::<u64>().ok());
    }
    let most = most.filter(|most| *most < i64::MAX.unsigned_abs());
    let range = match (least.unwrap_or(0), most) {
        (least, Some(most)) => format!("from {least} to {most}"),
        (least, None) => format!("of {least} or more"),
    };
    let unit = unit_of(&name(arg)).map_or_else(String::new, |unit| format!(", in {unit}"));
    format!("It must be a whole number {range}{unit}. Write digits alone: no unit, no separators.")
}

/// The unit that the end of a name says.
fn unit_of(name: &str) -> Option<&'static str> {
    let name = name.replace('-', "_").to_uppercase();
    if name.ends_with("_MS") {
        Some("milliseconds")
    } else if name.ends_with("_S") {
        Some("seconds")
    } else if name.contains("BYTES") {
        Some("bytes")
    } else {
        None
    }
}

/// Begins with a capital letter, and ends with a full stop.
fn sentence(text: &str) -> String {
    let text = text.trim();
    let mut letters = text.chars();
    let first = letters.next().map(|first| first.to_ascii_uppercase());
    let stop = if text.ends_with(['.', '?']) { "" } else { "." };
    first
        .into_iter()
        .chain(letters)
        .chain(stop.chars())
        .collect()
}
