//! The answer of a program's command `check`: one line for each check, and the exit code.

use std::process::ExitCode;

use crate::exit;
use crate::settings::{Parsed, Wrong};

/// How a check ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// As it must be.
    Ok,
    /// The program runs, and something is probably not meant.
    Warning,
    /// The program cannot run, or not do its work.
    Wrong,
}

impl Verdict {
    fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Wrong => "wrong",
        }
    }
}

/// The lines of a check, printed to standard output as they come.
#[derive(Debug, Default)]
pub struct Report {
    lines: Vec<(Verdict, String)>,
}

impl Report {
    /// One check: what it is about, and what was found, in a line. It never holds a secret.
    #[expect(clippy::print_stdout, reason = "the lines are what was asked for")]
    pub fn line(&mut self, verdict: Verdict, about: &str, found: &str) {
        let line = match about {
            "" => found.to_owned(),
            about => format!("{about}: {found}"),
        };
        let line = line.replace(['\n', '\r'], " ");
        println!("{:<8} {line}", verdict.word());
        self.lines.push((verdict, line));
    }

    /// A check that ended well.
    pub fn ok(&mut self, about: &str, found: &str) {
        self.line(Verdict::Ok, about, found);
    }

    /// A check that found something that is probably not meant.
    pub fn warning(&mut self, about: &str, found: &str) {
        self.line(Verdict::Warning, about, found);
    }

    /// A check that found what keeps the program from its work.
    pub fn wrong(&mut self, about: &str, found: &str) {
        self.line(Verdict::Wrong, about, found);
    }

    /// The lines of the settings themselves. The settings, if they can be used; otherwise nothing
    /// else can be asked (`reach`).
    pub fn settings<T>(&mut self, read: Result<Parsed<T>, Wrong>, reach: bool) -> Option<T> {
        let (settings, problems, warnings) = match read {
            Ok(parsed) => (Some(parsed.settings), Vec::new(), parsed.warnings),
            Err(wrong) => (None, wrong.problems, wrong.warnings),
        };
        for problem in problems {
            self.wrong("", &problem.to_string());
        }
        for warning in warnings {
            self.warning("", &warning);
        }
        if settings.is_some() {
            self.ok("settings", "every setting can be used");
        } else if reach {
            let text = "the other systems are not asked before every setting can be used.";
            self.warning("--reach", text);
        }
        settings
    }

    /// Every line so far.
    pub fn lines(&self) -> &[(Verdict, String)] {
        &self.lines
    }

    /// Code 0, or 78 if something is wrong. Warnings do not count.
    pub fn exit_code(&self) -> ExitCode {
        let is_wrong = self
            .lines
            .iter()
            .any(|(verdict, _)| *verdict == Verdict::Wrong);
        ExitCode::from(if is_wrong {
            exit::CONFIGURATION
        } else {
            exit::CLEAN
        })
    }
}
