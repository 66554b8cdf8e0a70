//! Settings from the environment: all of them are read before anything is bound.
//!
//! A program describes its settings as a `clap::Parser` whose arguments have an `env`, and
//! implements [`Program`] for it. This module adds what clap lacks:
//!
//! - A variable that is empty or white space alone counts as unset. White space around a value is
//!   removed.
//! - A secret `X` (an argument with `hide_env_values`) may come from the file named by `X_FILE`.
//! - An argument with a `value_delimiter` is a list, see [`list`].
//! - Every problem is reported, one line each, in our words; then the process ends with code 78.
//! - A variable that looks like a misspelled setting causes a warning.

pub mod address;
pub mod bounds;
pub mod file;
pub mod list;
mod near;
pub mod origin;
mod secrets;
mod values;

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::process;

use clap::builder::ValueParser;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Args, Command, Parser};

use crate::exit;

/// The name of the command that only checks the settings.
const CHECK: &str = "check";
/// The longest word that is taken for a misspelled command, in bytes.
const COMMAND_BYTES_MAX: usize = 12;
/// The option of [`CHECK`] that also asks the other systems.
const REACH: &str = "reach";

/// A program's settings, and what clap cannot say of them.
pub trait Program: Parser {
    /// Values for the settings without a default. They stand in for wrong ones, so that the rules
    /// of [`Program::problems`] hold for the rest. They are never used to run.
    const EXAMPLES: &'static [(&'static str, &'static str)] = &[];

    /// What the command `check --reach` does, for `--help`. `None`: no such command exists.
    const CHECK: Option<&'static str> = None;

    /// What only several settings together show.
    fn problems(&self) -> Vec<Problem> {
        Vec::new()
    }

    /// What works and probably is not what was meant: one sentence or two each. Those about a
    /// setting that is wrong by itself are dropped.
    fn warnings(&self) -> Vec<Problem> {
        Vec::new()
    }
}

/// Something wrong with one setting, or with several together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    settings: Vec<String>,
    text: String,
}

impl Problem {
    /// What is wrong with these settings, what is allowed, and what to do, in one line that begins
    /// with the name of the first one. The line never holds a secret.
    pub fn new(settings: &[&str], text: impl Into<String>) -> Self {
        Self {
            settings: settings.iter().map(|name| (*name).to_owned()).collect(),
            text: text.into(),
        }
    }

    /// A setting that has no value and needs one.
    pub fn missing(setting: &str, cure: &str) -> Self {
        Self::new(&[setting], format!("{setting} is missing. {cure}"))
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text.replace(['\n', '\r'], " "))
    }
}

/// Settings that can be used.
#[derive(Debug)]
pub struct Parsed<T> {
    /// The settings.
    pub settings: T,
    /// What is probably not meant, one line each.
    pub warnings: Vec<String>,
}

impl<T> Parsed<T> {
    /// Writes the warnings to the log.
    pub fn log_warnings(&self) {
        for warning in &self.warnings {
            tracing::warn!("{warning}");
        }
    }
}

/// Settings that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wrong {
    /// Every problem, in the order of the settings; at least one.
    pub problems: Vec<Problem>,
    /// What is probably not meant, one line each.
    pub warnings: Vec<String>,
}

/// Why no settings exist.
#[derive(Debug, PartialEq, Eq)]
pub enum Refusal {
    /// `--help` or `--version` was asked for; the text answers.
    Help(String),
    /// Settings are missing or wrong.
    Wrong(Wrong),
}

impl Refusal {
    /// Every problem as a line; no line for a call for help.
    pub fn lines(&self) -> Vec<String> {
        match self {
            Self::Help(_) => Vec::new(),
            Self::Wrong(wrong) => wrong.problems.iter().map(ToString::to_string).collect(),
        }
    }
}

/// What the command line of a program asks for.
#[derive(Debug)]
pub enum Order<T> {
    /// To run.
    Run(Parsed<T>),
    /// To say whether it could run, and nothing else.
    Check {
        /// The settings, or what is wrong with them.
        read: Result<Parsed<T>, Wrong>,
        /// Whether the other systems are to be asked too.
        reach: bool,
    },
}

/// Reads the settings of this process from its environment and command line.
///
/// Ends the process instead of returning: code 0 after `--help` and `--version`, code 78 with one
/// line for each problem on standard error.
pub fn parse<T: Program>() -> Parsed<T> {
    or_exit(read(std::env::args_os().collect(), &Environment::own()))
}

/// As [`parse`], for a program that has the command `check`.
pub fn order<T: Program>() -> Order<T> {
    let mut args: Vec<OsString> = std::env::args_os().collect();
    let environment = Environment::own();
    if args.get(1).is_none_or(|first| first != CHECK) {
        return Order::Run(or_exit(read(args, &environment)));
    }
    args.remove(1);
    if args.iter().any(|arg| arg == "--help" || arg == "-h") {
        help(&check_command::<T>().render_long_help().to_string());
    }
    let before = args.len();
    args.retain(|arg| arg != "--reach");
    let reach = args.len() < before;
    let read = match read(args, &environment) {
        Ok(parsed) => Ok(parsed),
        Err(Refusal::Wrong(wrong)) => Err(wrong),
        Err(Refusal::Help(text)) => help(&text),
    };
    Order::Check { read, reach }
}

/// Ends the process with code 78 and one line, for what is wrong beyond the settings.
pub fn refuse(line: &str) -> ! {
    complain(line);
    process::exit(i32::from(exit::CONFIGURATION));
}

/// The settings of one part of a program: those of the arguments, and the defaults of the others.
///
/// # Errors
/// An argument is wrong, or a required one is missing.
pub fn part<T: Args>(args: &[&str]) -> Result<T, clap::Error> {
    let command = Command::new("part").no_binary_name(true);
    let command = T::augment_args(command).mut_args(|arg| arg.env(None::<&'static str>));
    T::from_arg_matches(&command.try_get_matches_from(args)?)
}

/// As [`parse`], from given arguments and a given environment. Nothing looks for misspelled
/// variables, since the environment cannot be listed.
///
/// # Errors
/// [`Refusal`] says why there are no settings.
pub fn parse_from<T: Program>(
    args: impl IntoIterator<Item = OsString>,
    environment: impl Fn(&str) -> Option<OsString>,
) -> Result<T, Refusal> {
    let names = near::settings_of(&T::command()).into_iter();
    let found = names.filter_map(|name| {
        let value = environment(&name)?;
        Some((name, value))
    });
    let environment = Environment(found.collect());
    Ok(read(args.into_iter().collect(), &environment)?.settings)
}

/// The settings of [`Program::EXAMPLES`] with these changes; an empty value removes one.
///
/// # Errors
/// [`Refusal`] says why there are no settings.
pub fn example<T: Program>(changes: &[(&str, &str)]) -> Result<T, Refusal> {
    let variables: BTreeMap<_, _> = T::EXAMPLES.iter().chain(changes).copied().collect();
    parse_from(["program".into()], |name| {
        variables.get(name).map(Into::into)
    })
}

/// The variables of an environment.
#[derive(Debug)]
struct Environment(BTreeMap<String, OsString>);

impl Environment {
    fn own() -> Self {
        let variables =
            std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value)));
        Self(variables.collect())
    }

    /// The value of a variable that holds more than white space.
    fn get(&self, name: &str) -> Option<&OsString> {
        self.0.get(name).filter(|value| !is_blank(value))
    }
}

/// Whether a value is empty or white space alone, which counts as unset.
fn is_blank(value: &OsStr) -> bool {
    value.to_str().is_some_and(|text| text.trim().is_empty())
}

fn read<T: Program>(args: Vec<OsString>, environment: &Environment) -> Result<Parsed<T>, Refusal> {
    let command = T::command();
    let (given, mut problems) = given_values::<T>(args)?;
    let mut usable = vec![OsString::from(command.get_name())];
    let mut wrong: Vec<String> = Vec::new();
    for arg in command.get_arguments() {
        let found = match given.get(arg.get_id().as_str()) {
            Some(Given::Flag) => {
                usable.push(values::flag(arg).into());
                continue;
            }
            Some(Given::Values(found)) => Ok(found.clone()),
            None => values::from_environment(arg, environment),
        };
        let found = found.and_then(|found| values::checked(arg, found));
        match found {
            Ok(found) if found.is_empty() && !arg.is_required_set() => {}
            Ok(found) if !found.is_empty() => {
                let flag = values::flag(arg);
                usable.extend(found.iter().map(|value| format!("{flag}={value}").into()));
            }
            not_usable => {
                let name = values::name(arg);
                problems.extend(match not_usable {
                    Ok(_) => vec![Problem::missing(&name, &values::cure(arg))],
                    Err(problems) => problems,
                });
                // An optional one has its default, or none.
                if arg.is_required_set() {
                    let example = T::EXAMPLES.iter().find(|(known, _)| *known == name);
                    let flag = values::flag(arg);
                    usable.extend(example.map(|(_, value)| format!("{flag}={value}").into()));
                }
                wrong.push(name);
            }
        }
    }
    // Lists are split already.
    let command = command.mut_args(|arg| arg.env(None::<&'static str>).value_delimiter(None));
    let settings = command
        .try_get_matches_from(usable)
        .and_then(|matches| T::from_arg_matches(&matches));
    let mut warnings = near::warnings(&T::command(), environment);
    match settings {
        Ok(settings) => {
            // What a rule says of a setting that is wrong by itself is about a stand-in.
            let is_about_given = |found: &Problem| {
                let mut names = found.settings.iter();
                !names.any(|name| wrong.contains(name))
            };
            problems.extend(settings.problems().into_iter().filter(is_about_given));
            let given = settings.warnings().into_iter().filter(is_about_given);
            warnings.extend(given.map(|warning| warning.to_string()));
            if problems.is_empty() {
                return Ok(Parsed { settings, warnings });
            }
        }
        // A required setting is wrong and has no example, or clap knows a rule of its own.
        Err(error) if problems.is_empty() => {
            problems.push(Problem::new(
                &[],
                line_words::<T>(&described::<T>(), &error, false),
            ));
        }
        Err(_) => {}
    }
    Err(Refusal::Wrong(Wrong { problems, warnings }))
}

/// What the command line says of one argument.
enum Given {
    Flag,
    Values(Vec<OsString>),
}

/// What stands on the command line, by the ids of the arguments, not yet judged.
fn given_values<T: Program>(
    mut args: Vec<OsString>,
) -> Result<(BTreeMap<String, Given>, Vec<Problem>), Refusal> {
    let described = described::<T>();
    let raw = described.clone().mut_args(|arg| {
        let arg = arg.required(false).value_delimiter(None);
        if arg.get_action().takes_values() {
            arg.value_parser(ValueParser::os_string())
        } else {
            arg
        }
    });
    let mut problems = Vec::new();
    let first = args.get(1).filter(|first| is_command_like(first));
    let command = first.and_then(|first| first.to_str().map(str::to_owned));
    let matches = loop {
        let error = match raw.clone().try_get_matches_from(args.clone()) {
            Ok(matches) => break matches,
            Err(error) => error,
        };
        if matches!(
            error.kind(),
            ErrorKind::DisplayHelp | ErrorKind::DisplayVersion
        ) {
            return Err(Refusal::Help(help_text::<T>(error.kind())));
        }
        let may_be_command = command
            .as_deref()
            .is_some_and(|command| named(&error) == Some(command));
        let text = line_words::<T>(&described, &error, may_be_command);
        problems.push(Problem::new(&[], text));
        // What else stands there still counts.
        let named = named(&error);
        let at = args.iter().skip(1).rposition(|arg| {
            named.is_some_and(|named| {
                let arg = arg.to_string_lossy();
                arg == named || arg.starts_with(&format!("{named}="))
            })
        });
        match at {
            Some(at) => drop(args.remove(at + 1)),
            None => break ArgMatches::default(),
        }
    };
    let given = described.get_arguments().filter_map(|arg| {
        let id = arg.get_id().as_str();
        Some((id.to_owned(), given(&matches, id)?))
    });
    Ok((given.collect(), problems))
}

fn given(matches: &ArgMatches, id: &str) -> Option<Given> {
    let from_line = matches.try_contains_id(id).ok()?
        && matches.value_source(id) == Some(ValueSource::CommandLine);
    if !from_line {
        return None;
    }
    match matches.try_get_many::<OsString>(id) {
        Ok(values) => {
            let values: Vec<_> = values.into_iter().flatten().cloned().collect();
            let some = values.iter().any(|value| !is_blank(value));
            some.then_some(Given::Values(values))
        }
        Err(_) => Some(Given::Flag),
    }
}

/// The program as `--help` describes it: with the variables' names, and unable to read them.
fn described<T: Program>() -> Command {
    T::command().mut_args(|arg| {
        let Some(name) = arg
            .get_env()
            .map(|name| name.to_string_lossy().into_owned())
        else {
            return arg;
        };
        // clap itself must not read the environment, where an empty variable would count as a
        // value; so the name moves into the help text.
        let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
        let file = if values::is_secret(&arg) {
            format!(" or {name}_FILE")
        } else {
            String::new()
        };
        arg.help(format!("{help} [env: {name}{file}]"))
            .env(None::<&'static str>)
    })
}

fn help_text<T: Program>(asked: ErrorKind) -> String {
    let mut command = described::<T>();
    if asked == ErrorKind::DisplayVersion {
        return command.render_version();
    }
    if T::CHECK.is_some() {
        command = command
            .subcommand(check_command::<T>())
            .disable_help_subcommand(true);
    }
    command.render_long_help().to_string()
}

fn check_command<T: Program>() -> Command {
    let program = T::command();
    let reaches = T::CHECK.unwrap_or_default();
    Command::new(CHECK)
        .bin_name(format!("{} {CHECK}", program.get_name()))
        .about("Reads every setting, says what is wrong with each, and ends with code 0 or 78")
        .arg(
            Arg::new(REACH)
                .long(REACH)
                .action(ArgAction::SetTrue)
                .help(format!("Also asks the other systems: {reaches}")),
        )
        .after_help(format!(
            "It reads the settings that `{0}` reads, see `{0} --help`, and changes nothing.",
            program.get_name()
        ))
}

/// The flag or the word that an error is about.
fn named(error: &clap::Error) -> Option<&str> {
    match error.get(ContextKind::InvalidArg) {
        Some(ContextValue::String(named)) => {
            Some(named.split([' ', '=']).next().unwrap_or(named.as_str()))
        }
        _ => None,
    }
}

/// What is wrong with the form of the command line.
///
/// A value on the command line may be a secret whose option is misspelled. So a word is shown only
/// as an option's name, or as the command that stands first.
fn line_words<T: Program>(command: &Command, error: &clap::Error, may_be_command: bool) -> String {
    let Some(flag) = named(error) else {
        return "The command line is wrong. See --help.".to_owned();
    };
    match error.kind() {
        ErrorKind::UnknownArgument if flag.starts_with('-') && secrets::may_hold_one(flag) => {
            "An option is not known. It is not shown, because it looks like a secret. See --help for all options.".to_owned()
        }
        ErrorKind::UnknownArgument if flag.starts_with('-') => {
            let known = command.get_arguments().map(values::flag);
            let hint = near::nearest(flag, known).map_or_else(
                || "See --help for all options.".to_owned(),
                |known| format!("Did you mean {known}? See --help for all options."),
            );
            format!("{} is not an option. {hint}", values::shown(flag))
        }
        ErrorKind::UnknownArgument if flag == CHECK && T::CHECK.is_some() => format!(
            "{CHECK} stands in the wrong place. Write {} {CHECK} first.",
            command.get_name()
        ),
        ErrorKind::UnknownArgument if may_be_command => format!(
            "{} is not a command. See --help for what is allowed.",
            values::shown(flag)
        ),
        ErrorKind::UnknownArgument => {
            "A value stands without an option before it. It is not shown, because it may be a secret. Write --<option>=<value>, see --help.".to_owned()
        }
        ErrorKind::InvalidValue | ErrorKind::TooFewValues => {
            format!("{flag} has no value. Write {flag}=<value>.")
        }
        ErrorKind::ArgumentConflict => format!("{flag} is given twice. Keep one."),
        ErrorKind::TooManyValues => format!("{flag} takes no value. Write {flag} alone."),
        _ => format!("{flag} is used wrongly. See --help."),
    }
}

/// Whether a word was probably meant as a command: a short word of lower-case letters.
fn is_command_like(word: &OsStr) -> bool {
    word.to_str().is_some_and(|word| {
        word.len() <= COMMAND_BYTES_MAX && word.bytes().all(|byte| byte.is_ascii_lowercase())
    })
}

fn or_exit<T>(read: Result<Parsed<T>, Refusal>) -> Parsed<T> {
    match read {
        Ok(parsed) => parsed,
        Err(Refusal::Help(text)) => help(&text),
        Err(Refusal::Wrong(wrong)) => {
            for problem in &wrong.problems {
                complain(&problem.to_string());
            }
            for warning in &wrong.warnings {
                complain(&format!("warning: {warning}"));
            }
            process::exit(i32::from(exit::CONFIGURATION));
        }
    }
}

fn help(text: &str) -> ! {
    #[expect(clippy::print_stdout, reason = "--help is asked for")]
    {
        print!("{text}");
    }
    process::exit(i32::from(exit::CLEAN));
}

#[expect(
    clippy::print_stderr,
    reason = "there is no log before the settings are read"
)]
fn complain(line: &str) {
    eprintln!("configuration: {line}");
}

#[cfg(test)]
mod tests;
