//! The answer of a program's command `check`: one line for each check, and the exit code.

use std::process::ExitCode;

use crate::exit;
use crate::settings::{Parsed, Wrong};

/// The lines of a check, printed to standard output as they come.
#[derive(Debug, Default)]
pub struct Report {
    is_wrong: bool,
}

impl Report {
    /// One check: what it is about, and what was found, in a line. It never holds a secret.
    #[expect(clippy::print_stdout, reason = "the lines are what was asked for")]
    fn line(verdict: &str, about: &str, found: &str) {
        let line = match about {
            "" => found.to_owned(),
            about => format!("{about}: {found}"),
        };
        println!("{verdict:<8} {}", line.replace(['\n', '\r'], " "));
    }

    /// A check that ended well.
    pub fn ok(&mut self, about: &str, found: &str) {
        Self::line("ok", about, found);
    }

    /// A check that found something that is probably not meant.
    pub fn warning(&mut self, about: &str, found: &str) {
        Self::line("warning", about, found);
    }

    /// A check that found what keeps the program from its work.
    pub fn wrong(&mut self, about: &str, found: &str) {
        self.is_wrong = true;
        Self::line("wrong", about, found);
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

    /// Code 0, or 78 if something is wrong. Warnings do not count.
    pub fn exit_code(&self) -> ExitCode {
        ExitCode::from(if self.is_wrong {
            exit::CONFIGURATION
        } else {
            exit::CLEAN
        })
    }
}
