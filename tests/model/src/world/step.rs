//! What may happen.

use std::fmt;

/// What happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Step {
    /// A member goes where they go next.
    Moves {
        /// In which guild.
        guild: u8,
        /// Who.
        user: u8,
        /// Whether its dispatch can be read.
        legible: bool,
    },
    /// A worker claims and connects.
    Claims,
    /// A second worker claims and connects.
    Second,
    /// The worker reads a dispatch.
    Reads,
    /// A worker sends a delivery.
    Sends(Whose, u32),
    /// Nothing new: sent, arrived and answered.
    Beats(Whose),
    /// No answer came: the same again.
    SendsAgain(Whose, u32),
    /// No answer came: the next will be another.
    GivesUp(Whose),
    /// It does not wait for the answer of what is still under way.
    TimesOut(Whose),
    /// Discord's REST looks.
    Asks,
    /// Its answer is heard.
    Hears,
    /// A new session.
    Identifies,
    /// A worker whose claim the hub does not know claims again.
    ClaimsAgain(Whose),
    /// The older worker ends instead of that.
    Ends,
    /// A delivery arrives and is answered.
    Arrives(u32, u32),
    /// It arrives, and its answer is lost.
    AnswerLost(u32, u32),
    /// It arrives, and will again.
    ArrivesTwice(u32, u32),
    /// It never arrives.
    Lost(u32),
    /// The worker is gone.
    Dies,
    /// Discord forgets the session.
    Expires,
    /// The connection is lost, and Discord answers no RESUME of the session.
    Stalls,
    /// The worker sends a RESUME.
    Resumes,
    /// The hub loses its store.
    Wiped,
    /// The store is copied.
    Copied,
    /// The store is replaced by the copy.
    Restored,
}

/// Which worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Whose {
    /// The one that reads.
    Newer,
    /// The one that was replaced.
    Older,
}

impl fmt::Display for Whose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Newer => "it",
            Self::Older => "the older worker",
        })
    }
}
