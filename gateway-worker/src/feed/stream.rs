//! The shard's stream of dispatches: which session it is in, how far it was read, what came before.

use std::collections::BTreeSet;

use proto::chain::{GatewaySession, Reached};

/// How many sequence numbers are remembered, to tell a repeat from what comes late.
const REMEMBERED: usize = 1_024;

/// How far a dispatch may come late: a sequence that is missing for longer is not waited for. Discord
/// sends them in order; this is for the day that it does not.
const LATE_MAX: u64 = 16;

/// How a dispatch stands to those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Arrival {
    /// The newest so far.
    Next,
    /// It was read before, or is too old to tell, or of a session that is not read any more.
    Repeat,
    /// It was not read before, but something newer was.
    Late,
}

/// A gateway session, as far as it was read.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub(super) struct Stream {
    session: Option<GatewaySession>,
    newest: u64,
    /// What is not above it was read by whoever had the session before.
    floor: u64,
    seen: BTreeSet<u64>,
    /// The next session's number is above it.
    last_number: u64,
    /// The id of a session that is not read any more, although it may still be connected.
    forsaken: Option<String>,
    /// RESUMEs of this session that were sent since RESUMED last came.
    resumes: u32,
    /// Sessions up to this number cannot be resumed. 0: none is known.
    lost: u64,
}

impl Stream {
    /// Sessions up to this number were there before.
    pub(super) fn know(&mut self, last_number: u64) {
        self.last_number = self.last_number.max(last_number);
    }

    /// Goes on with a session of somebody else, behind this sequence.
    pub(super) fn resume(&mut self, session: GatewaySession, sequence: u64) {
        self.know(session.number);
        *self = Self {
            session: Some(session),
            newest: sequence,
            floor: sequence,
            seen: BTreeSet::new(),
            last_number: self.last_number,
            forsaken: None,
            resumes: 0,
            lost: self.lost,
        };
    }

    /// Goes on with no session: only one that begins from now on is read.
    pub(super) fn forsake(&mut self) {
        *self = Self {
            forsaken: self.session.take().map(|session| session.id),
            last_number: self.last_number,
            lost: self.lost,
            ..Self::default()
        };
    }

    /// Whether the session that may still be connected is not read any more.
    pub(super) fn is_forsaken(&self) -> bool {
        self.forsaken.is_some()
    }

    /// Notes a dispatch of the session with this id.
    pub(super) fn arrive(&mut self, id: &str, sequence: u64) -> Arrival {
        if self.forsaken.as_deref() == Some(id) {
            return Arrival::Repeat;
        }
        if self.session.as_ref().is_none_or(|session| session.id != id) {
            let number = self.last_number.saturating_add(1);
            let session = GatewaySession {
                number,
                id: id.to_owned(),
                resume_url: None,
            };
            self.resume(session, 0);
        }
        let oldest = self.seen.first().copied().unwrap_or(0);
        let full = self.seen.len() >= REMEMBERED;
        if sequence <= self.floor || (full && sequence < oldest) || !self.seen.insert(sequence) {
            return Arrival::Repeat;
        }
        if full {
            self.seen.pop_first();
        }
        if sequence < self.newest {
            return Arrival::Late;
        }
        self.newest = sequence;
        Arrival::Next
    }

    /// Where Discord wants the session resumed.
    pub(super) fn set_resume_url(&mut self, url: Option<String>) {
        if let Some(session) = &mut self.session {
            session.resume_url = url;
        }
    }

    /// Gives the session a number above those that turned out to exist.
    pub(super) fn renumber(&mut self) {
        self.last_number = self.last_number.saturating_add(1);
        if let Some(session) = &mut self.session {
            let is_lost = session.number <= self.lost;
            session.number = self.last_number;
            if is_lost {
                self.lost = session.number;
            }
        }
    }

    /// Goes on where a worker before had sent so many RESUMEs without RESUMED.
    pub(super) fn set_resumes(&mut self, resumes: u32) {
        self.resumes = resumes;
    }

    /// A RESUME is sent: it counts until RESUMED comes. A replay alone does not end the count, or a
    /// session with traffic that is cut behind each replay would be resumed for ever.
    pub(super) fn resume_sent(&mut self) {
        self.resumes = self.resumes.saturating_add(1);
    }

    /// RESUMEs of this session that were sent since RESUMED last came.
    pub(super) fn resumes(&self) -> u32 {
        self.resumes
    }

    /// The session cannot be resumed. It stays the newest one that was read until the next begins.
    pub(super) fn lose(&mut self) {
        if let Some(session) = &self.session {
            self.lost = self.lost.max(session.number);
        }
    }

    /// Sessions up to this number cannot be resumed. 0: none is known.
    pub(super) fn lost(&self) -> u64 {
        self.lost
    }

    /// The session that is read; none before the first READY.
    pub(super) fn session(&self) -> Option<&GatewaySession> {
        self.session.as_ref()
    }

    /// How far it was read.
    pub(super) fn reached(&self) -> Reached {
        Reached {
            session: self.session.as_ref().map_or(0, |session| session.number),
            sequence: self.newest,
        }
    }

    /// How far it was read without anything missing that may still come.
    pub(super) fn settled(&self) -> Reached {
        let from = self
            .floor
            .max(self.newest.saturating_sub(LATE_MAX))
            .saturating_add(1);
        let missing = (from..=self.newest).find(|sequence| !self.seen.contains(sequence));
        Reached {
            sequence: missing.map_or(self.newest, |missing| missing - 1),
            ..self.reached()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repeats_and_late_ones_are_told_apart() {
        let mut stream = Stream::default();
        for (session, sequence, arrival) in [
            ("a", 1, Arrival::Next),
            ("a", 1, Arrival::Repeat),
            ("a", 3, Arrival::Next),
            ("a", 2, Arrival::Late),
            ("a", 2, Arrival::Repeat),
            ("a", 4, Arrival::Next),
            ("b", 1, Arrival::Next),
        ] {
            assert_eq!(
                stream.arrive(session, sequence),
                arrival,
                "{session}:{sequence}"
            );
        }
    }

    #[test]
    fn what_may_still_come_late_is_waited_for_but_not_for_ever() {
        let mut stream = Stream::default();
        for (sequence, settled) in [(1, 1), (3, 1), (4, 1), (2, 4), (6, 4)] {
            stream.arrive("a", sequence);
            assert_eq!(stream.settled().sequence, settled, "{sequence}");
        }
        for sequence in 7..=5 + LATE_MAX {
            stream.arrive("a", sequence);
        }
        assert_eq!(stream.settled().sequence, 5 + LATE_MAX);
    }

    #[test]
    fn a_session_that_was_forsaken_says_nothing_more_and_the_next_is_above_it() {
        let mut stream = Stream::default();
        stream.arrive("a", 1);
        stream.know(9);
        stream.forsake();
        assert_eq!(stream.arrive("a", 2), Arrival::Repeat);
        assert_eq!(stream.reached(), Reached::default());
        assert_eq!(stream.arrive("b", 1), Arrival::Next);
        assert_eq!(stream.reached(), Reached::from((10, 1)));
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut stream = Stream::default();
        for sequence in 1..=5_000 {
            assert_eq!(stream.arrive("a", sequence), Arrival::Next);
        }
        assert_eq!(stream.seen.len(), REMEMBERED);
        assert_eq!(stream.arrive("a", 1), Arrival::Repeat);
        assert_eq!(stream.arrive("a", 4_999), Arrival::Repeat);
    }

    #[test]
    fn sessions_are_numbered_upwards_whoever_had_them() {
        let mut stream = Stream::default();
        stream.know(7);
        stream.arrive("a", 1);
        assert_eq!(stream.reached(), Reached::from((8, 1)));
        let session = GatewaySession {
            number: 20,
            id: "b".to_owned(),
            resume_url: None,
        };
        stream.resume(session, 5);
        assert_eq!(stream.reached(), Reached::from((20, 5)));
        assert_eq!(stream.arrive("b", 5), Arrival::Repeat);
        assert_eq!(stream.arrive("b", 6), Arrival::Next);
        stream.arrive("c", 1);
        assert_eq!(stream.reached(), Reached::from((21, 1)));
    }
}
