//! Settings from the environment: parsed whole before anything is bound.
//!
//! A process describes its settings as a `clap::Parser` whose arguments all have an `env`.
//! What clap does not do is added here: an empty variable counts as unset, a secret `X` (an
//! argument with `hide_env_values`) may come from the file named by `X_FILE`, and whatever is
//! wrong ends the process with code 78 and *one line* that names the setting.

use std::ffi::OsString;
use std::path::Path;
use std::process;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, Command, Parser};

use crate::exit;

/// The largest secret file that is read, in bytes.
const SECRET_FILE_BYTES_MAX: u64 = 64 * 1024;
/// How much of a wrong value is shown, in characters.
const SHOWN_CHARS_MAX: usize = 80;

/// Parses the settings of this process from its environment and command line.
///
/// Ends the process instead of returning: code 0 after `--help` and `--version`, code 78 with
/// one line on standard error after a missing or wrong setting.
pub fn parse<T: Parser>() -> T {
    #[expect(
        clippy::disallowed_methods,
        reason = "the one reader of the environment, on behalf of every config"
    )]
    let environment = |name: &str| std::env::var_os(name);
    match parse_from::<T>(std::env::args_os(), environment) {
        Ok(settings) => settings,
        Err(Refusal::Help(text)) => {
            #[expect(clippy::print_stdout, reason = "--help is asked for")]
            {
                print!("{text}");
            }
            process::exit(i32::from(exit::CLEAN));
        }
        Err(Refusal::Wrong(line)) => refuse(&line),
    }
}

/// Ends the process with code 78 and one line, for what only the whole of the settings shows.
pub fn refuse(line: &str) -> ! {
    #[expect(
        clippy::print_stderr,
        reason = "there is no log before the settings are read"
    )]
    {
        eprintln!("configuration: {line}");
    }
    process::exit(i32::from(exit::CONFIGURATION));
}

/// Why [`parse_from`] has no settings to give.
#[derive(Debug, PartialEq, Eq)]
pub enum Refusal {
    /// `--help` or `--version` was asked for; the text answers.
    Help(String),
    /// A setting is missing or wrong; one line that names it.
    Wrong(String),
}

/// As [`parse`], from given arguments and a given environment.
///
/// # Errors
/// [`Refusal`] says why there are no settings.
pub fn parse_from<T: Parser>(
    args: impl IntoIterator<Item = OsString>,
    environment: impl Fn(&str) -> Option<OsString>,
) -> Result<T, Refusal> {
    let environment = |name: &str| environment(name).filter(|value| !value.is_empty());
    let mut command = T::command();
    for id in command
        .get_arguments()
        .map(|arg| arg.get_id().clone())
        .collect::<Vec<_>>()
    {
        let mut wrong = None;
        command = command.mut_arg(id, |arg| match supply(arg.clone(), environment) {
            Ok(arg) => arg,
            Err(line) => {
                wrong = Some(line);
                arg
            }
        });
        if let Some(line) = wrong {
            return Err(Refusal::Wrong(line));
        }
    }
    let known = command.clone();
    let matches = command
        .try_get_matches_from(args)
        .map_err(|error| explain(&known, &error))?;
    T::from_arg_matches(&matches).map_err(|error| explain(&known, &error))
}

/// Gives an argument its value from the environment, as a default that the command line overrides.
fn supply(arg: Arg, environment: impl Fn(&str) -> Option<OsString>) -> Result<Arg, String> {
    let Some(name) = arg
        .get_env()
        .map(|name| name.to_string_lossy().into_owned())
    else {
        return Ok(arg);
    };
    let mut value = environment(&name);
    if arg.is_hide_env_values_set() {
        let file_name = format!("{name}_FILE");
        if let Some(path) = environment(&file_name) {
            if value.is_some() {
                return Err(format!("{name} and {file_name} are both set; keep one"));
            }
            value = Some(
                read_secret(Path::new(&path))
                    .map_err(|why| format!("{file_name}: {why}"))?
                    .into(),
            );
        }
    }
    if value.as_ref().is_some_and(|value| value.to_str().is_none()) {
        return Err(format!("{name}: not UTF-8"));
    }
    // The name moves into the help text: clap itself must not read the environment, where an
    // empty variable would count as a value.
    let unit = arg.get_help().map(ToString::to_string).unwrap_or_default();
    let file = if arg.is_hide_env_values_set() {
        format!(" or {name}_FILE")
    } else {
        String::new()
    };
    let arg = arg
        .help(format!("{unit} [env: {name}{file}]"))
        .env(None::<&'static str>);
    Ok(match value {
        Some(value) => arg
            .required(false)
            .default_value(value)
            .hide_default_value(true),
        None => arg,
    })
}

fn read_secret(path: &Path) -> Result<String, String> {
    let size = std::fs::metadata(path)
        .map_err(|error| error.to_string())?
        .len();
    if size > SECRET_FILE_BYTES_MAX {
        return Err(format!("larger than {SECRET_FILE_BYTES_MAX} bytes"));
    }
    let text = std::fs::read_to_string(path).map_err(|error| error.to_string())?;
    let text = text.trim();
    if text.is_empty() {
        return Err("the file is empty".to_owned());
    }
    Ok(text.to_owned())
}

fn explain(command: &Command, error: &clap::Error) -> Refusal {
    if matches!(
        error.kind(),
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion
    ) {
        return Refusal::Help(error.render().to_string());
    }
    let secret = |flag: &str| {
        command
            .get_arguments()
            .any(|arg| arg.is_hide_env_values_set() && flag.starts_with(&flag_of(arg)))
    };
    let line = match (error.kind(), error.get(ContextKind::InvalidArg)) {
        (ErrorKind::MissingRequiredArgument, Some(ContextValue::Strings(flags))) => {
            let names: Vec<_> = flags.iter().map(|flag| setting_name(flag)).collect();
            format!("{} must be set", names.join(", "))
        }
        (ErrorKind::UnknownArgument, Some(ContextValue::String(flag))) => {
            format!("{}: no such option; see --help", shown(flag))
        }
        (_, Some(ContextValue::String(flag))) => {
            let why = std::error::Error::source(error).map(ToString::to_string);
            let value = match error.get(ContextKind::InvalidValue) {
                Some(ContextValue::String(value)) if !secret(flag) => format!(" {}", shown(value)),
                _ => String::new(),
            };
            let valid = match error.get(ContextKind::ValidValue) {
                Some(ContextValue::Strings(values)) if !values.is_empty() => {
                    format!("one of {}", values.join(", "))
                }
                _ => "not a valid value".to_owned(),
            };
            format!("{}{value}: {}", setting_name(flag), why.unwrap_or(valid))
        }
        _ => error
            .render()
            .to_string()
            .lines()
            .next()
            .unwrap_or("unusable arguments")
            .to_owned(),
    };
    Refusal::Wrong(line.replace(['\n', '\r'], " "))
}

fn flag_of(arg: &Arg) -> String {
    format!("--{}", arg.get_long().unwrap_or_default())
}

/// `--hub-listen <HUB_LISTEN>` is the setting `HUB_LISTEN`.
fn setting_name(flag: &str) -> String {
    let flag = flag.split([' ', '=']).next().unwrap_or(flag);
    flag.trim_start_matches('-')
        .replace('-', "_")
        .to_uppercase()
}

fn shown(value: &str) -> String {
    let short: String = value.chars().take(SHOWN_CHARS_MAX).collect();
    let cut = if short.len() < value.len() { "…" } else { "" };
    format!("{short:?}{cut}")
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::net::SocketAddr;

    use super::*;
    use crate::Secret;

    #[derive(Debug, Parser)]
    struct Sample {
        /// Where to listen
        #[arg(long, env = "HUB_LISTEN", default_value = "127.0.0.1:3000")]
        hub_listen: SocketAddr,
        /// The token
        #[arg(long, env = "DISCORD_BOT_TOKEN", hide_env_values = true)]
        discord_bot_token: Secret,
        /// How many
        #[arg(long, env = "ROOMS_MAX", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=10))]
        rooms_max: u32,
    }

    fn sample(variables: &[(&str, &str)]) -> Result<Sample, Refusal> {
        let variables: HashMap<_, _> = variables.iter().copied().collect();
        parse_from(["sample".into()], |name| {
            variables.get(name).map(OsString::from)
        })
    }

    fn wrong(variables: &[(&str, &str)]) -> String {
        match sample(variables) {
            Err(Refusal::Wrong(line)) => line,
            other => panic!("not refused: {other:?}"),
        }
    }

    #[test]
    fn a_missing_setting_is_named_in_one_line() {
        assert_eq!(wrong(&[]), "DISCORD_BOT_TOKEN must be set");
        assert_eq!(
            wrong(&[("DISCORD_BOT_TOKEN", "")]),
            "DISCORD_BOT_TOKEN must be set"
        );
    }

    #[test]
    fn a_wrong_setting_is_named_with_its_value_bounded_and_escaped() {
        let line = wrong(&[
            ("DISCORD_BOT_TOKEN", "t"),
            ("HUB_LISTEN", &format!("x\n{}", "y".repeat(500))),
        ]);
        assert!(line.starts_with("HUB_LISTEN \"x\\ny"), "{line}");
        assert!(line.len() < 200 && !line.contains('\n'), "{line}");
        let line = wrong(&[("DISCORD_BOT_TOKEN", "t"), ("ROOMS_MAX", "11")]);
        assert!(
            line.starts_with("ROOMS_MAX \"11\": 11 is not in 1..=10"),
            "{line}"
        );
    }

    #[test]
    fn an_empty_variable_is_unset_and_a_set_one_beats_the_default() {
        let settings = sample(&[("DISCORD_BOT_TOKEN", "t"), ("HUB_LISTEN", "")]).unwrap();
        assert_eq!(settings.hub_listen.port(), 3000);
        let settings =
            sample(&[("DISCORD_BOT_TOKEN", "t"), ("HUB_LISTEN", "127.0.0.1:1")]).unwrap();
        assert_eq!(settings.hub_listen.port(), 1);
    }

    #[test]
    fn a_secret_may_come_from_a_file_but_not_from_both() {
        let path = std::env::temp_dir().join(format!("launch-secret-{}", process::id()));
        std::fs::write(&path, "from-file\n").unwrap();
        let path_text = path.to_str().unwrap();
        let settings = sample(&[("DISCORD_BOT_TOKEN_FILE", path_text)]).unwrap();
        assert_eq!(settings.discord_bot_token.expose(), "from-file");
        let line = wrong(&[
            ("DISCORD_BOT_TOKEN_FILE", path_text),
            ("DISCORD_BOT_TOKEN", "t"),
        ]);
        assert_eq!(
            line,
            "DISCORD_BOT_TOKEN and DISCORD_BOT_TOKEN_FILE are both set; keep one"
        );
        std::fs::remove_file(&path).unwrap();
        assert!(
            wrong(&[("DISCORD_BOT_TOKEN_FILE", path_text)]).starts_with("DISCORD_BOT_TOKEN_FILE: ")
        );
    }

    #[test]
    fn a_value_that_is_no_text_is_named_and_an_unknown_option_is_called_so() {
        use std::os::unix::ffi::OsStringExt as _;
        let garbled = |name: &str| (name == "HUB_LISTEN").then(|| OsString::from_vec(vec![0xff]));
        let refused = parse_from::<Sample>(["sample".into()], garbled);
        let Err(Refusal::Wrong(line)) = refused else {
            panic!("not refused: {refused:?}")
        };
        assert_eq!(line, "HUB_LISTEN: not UTF-8");
        let refused = parse_from::<Sample>(["sample".into(), "--bogus".into()], |_| None);
        let Err(Refusal::Wrong(line)) = refused else {
            panic!("not refused: {refused:?}")
        };
        assert_eq!(line, "\"--bogus\": no such option; see --help");
    }

    #[test]
    fn help_names_every_variable() {
        let Err(Refusal::Help(text)) =
            parse_from::<Sample>(["sample".into(), "--help".into()], |_| None)
        else {
            panic!("no help")
        };
        for name in ["HUB_LISTEN", "DISCORD_BOT_TOKEN_FILE", "ROOMS_MAX"] {
            assert!(text.contains(name), "{name} is not in {text}");
        }
    }
}
