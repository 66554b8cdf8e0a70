//! The shard's stream of dispatches: its session, how far it was read, and which sequences came.

use std::collections::BTreeSet;

use proto::chain::{GatewaySession, Reached};

/// How many sequence numbers are remembered, to distinguish a repeat from a late dispatch.
const REMEMBERED: usize = 1_024;

/// How far a dispatch may come late: a sequence that is missing for longer is not waited for. Discord
/// sends them in order; this is for the day that it does not.
const LATE_MAX: u64 = 16;

/// How a dispatch stands to those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Arrival {
    /// The newest so far.
    Next,
    /// It was read before, is older than what is remembered, or belongs to an abandoned session.
    Repeat,
    /// It was not read before, but something newer was.
    Late,
}

/// A gateway session, as far as it was read.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub(super) struct Stream {
    session: Option<GatewaySession>,
    newest: u64,
    /// Sequences up to this one were read by the worker that had the session before.
    floor: u64,
    seen: BTreeSet<u64>,
    /// The next session's number is above it.
    last_number: u64,
    /// The id of a session that is not read any more, although it may still be connected.
    abandoned: Option<String>,
    /// RESUMEs of this session that were sent since RESUMED last came.
    resumes: u32,
    /// Sessions up to this number cannot be resumed. 0: none is known.
    lost: u64,
}

impl Stream {
    /// Sessions up to this number already existed.
    pub(super) fn observe(&mut self, last_number: u64) {
        self.last_number = self.last_number.max(last_number);
    }

    /// Resumes another worker's session behind this sequence.
    pub(super) fn resume(&mut self, session: GatewaySession, sequence: u64) {
        self.observe(session.number);
        *self = Self {
            session: Some(session),
            newest: sequence,
            floor: sequence,
            seen: BTreeSet::new(),
            last_number: self.last_number,
            abandoned: None,
            resumes: 0,
            lost: self.lost,
        };
    }

    /// Continues without a session: only one that begins from now on is read.
    pub(super) fn abandon(&mut self) {
        *self = Self {
            abandoned: self.session.take().map(|session| session.id),
            last_number: self.last_number,
            lost: self.lost,
            ..Self::default()
        };
    }

    /// Whether the session that may still be connected is not read any more.
    pub(super) fn is_abandoned(&self) -> bool {
        self.abandoned.is_some()
    }

    /// Notes a dispatch of the session with this id.
    pub(super) fn arrive(&mut self, id: &str, sequence: u64) -> Arrival {
        if self.abandoned.as_deref() == Some(id) {
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

    /// An earlier worker had sent so many RESUMEs without RESUMED.
    pub(super) fn set_resumes(&mut self, resumes: u32) {
        self.resumes = resumes;
    }

    /// A RESUME is sent: it counts until RESUMED comes. A replay alone does not end the count, or a
    /// session with traffic that is cut behind each replay would be resumed forever.
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

    /// The point up to which it was read with nothing missing that may still come.
    pub(super) fn contiguous(&self) -> Reached {
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
    fn repeats_and_late_dispatches_are_distinguished() {
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
    fn a_late_dispatch_is_waited_for_but_not_forever() {
        let mut stream = Stream::default();
        for (sequence, contiguous) in [(1, 1), (3, 1), (4, 1), (2, 4), (6, 4)] {
            stream.arrive("a", sequence);
            assert_eq!(stream.contiguous().sequence, contiguous, "{sequence}");
        }
        for sequence in 7..=5 + LATE_MAX {
            stream.arrive("a", sequence);
        }
        assert_eq!(stream.contiguous().sequence, 5 + LATE_MAX);
    }

    #[test]
    fn an_abandoned_session_is_not_read_and_the_next_number_is_higher() {
        let mut stream = Stream::default();
        stream.arrive("a", 1);
        stream.observe(9);
        stream.abandon();
        assert_eq!(stream.arrive("a", 2), Arrival::Repeat);
        assert_eq!(stream.reached(), Reached::default());
        assert_eq!(stream.arrive("b", 1), Arrival::Next);
        assert_eq!(stream.reached(), Reached::from((10, 1)));
    }

    #[test]
    fn remembered_sequences_are_bounded() {
        let mut stream = Stream::default();
        for sequence in 1..=5_000 {
            assert_eq!(stream.arrive("a", sequence), Arrival::Next);
        }
        assert_eq!(stream.seen.len(), REMEMBERED);
        assert_eq!(stream.arrive("a", 1), Arrival::Repeat);
        assert_eq!(stream.arrive("a", 4_999), Arrival::Repeat);
    }

    #[test]
    fn session_numbers_rise_over_all_workers() {
        let mut stream = Stream::default();
        stream.observe(7);
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
