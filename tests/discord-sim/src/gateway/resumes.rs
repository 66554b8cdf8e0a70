//! A fault at hand: how RESUMEs are answered that Discord would otherwise grant.

use std::time::Duration;

use super::{Gateway, Order, payload};

/// What a RESUME gets instead of RESUMED.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Instead {
    /// A Close with this code.
    Close(u16),
    /// The end of the connection, without a Close.
    Drop,
    /// Nothing. Heartbeats are acknowledged.
    Nothing,
    /// Nothing at all, for so long.
    Silence(Duration),
    /// RECONNECT (op 7).
    Reconnect,
    /// INVALID SESSION (op 9), resumable.
    Invalid,
}

/// The fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ResumeFault {
    /// What comes.
    pub(crate) instead: Instead,
    /// Whether what was missed is replayed before.
    pub(crate) replay: bool,
    /// For how many RESUMEs; none: until another fault replaces this one.
    pub(crate) times: Option<u32>,
}

impl Gateway {
    /// From now on RESUMEs are answered so; none: as Discord does. Returns how many sessions there are.
    pub(crate) fn fail_resumes(&mut self, fault: Option<ResumeFault>) -> usize {
        self.resume_fault = fault;
        self.sessions.len()
    }

    /// The fault that the next RESUME meets, used up once.
    pub(super) fn meet_resume_fault(&mut self) -> Option<ResumeFault> {
        let fault = self.resume_fault?;
        let times = fault.times.map(|times| times.saturating_sub(1));
        self.resume_fault = Some(ResumeFault { times, ..fault }).filter(|_| times != Some(0));
        Some(fault)
    }

    /// Answers a RESUME by the fault. Its session does not change and stays detached.
    pub(super) fn fail_resume(
        &mut self,
        connection: u64,
        fault: ResumeFault,
        missed: Vec<std::sync::Arc<str>>,
    ) {
        if fault.replay {
            self.order(connection, Order::Replay(missed));
        }
        match fault.instead {
            Instead::Close(code) => self.close(connection, code),
            Instead::Drop => self.order(connection, Order::Drop),
            Instead::Nothing => {}
            Instead::Silence(time) => self.order(connection, Order::Silence(time)),
            Instead::Reconnect => self.order(connection, Order::Reconnect),
            Instead::Invalid => self.say(connection, payload::invalid_session(true)),
        }
    }
}
