//! A worker: the real [`Feed`], and of the shell around it what orders its calls.

use std::rc::Rc;

use gateway_worker::dispatch::{Read, Subject};
use gateway_worker::feed::{Batch, Feed, FeedSetting, Finding, Question};
use gateway_worker::outbox::Limits;
use proto::chain::{CLAIM_TYPE, Claim, Claimed, Conflict, Link};
use proto::delivery::{GatewayReport, Receipt, Report};
use proto::event::Event;
use serde::{Deserialize, Serialize};

use crate::bounds::Bounds;
use crate::discord::{
    Discord, GUILDS, Seat, guild_id, guild_of, roster_setting, user_id, user_of, voice,
};
use crate::over_the_wire;

/// The worker's clock stands still: nothing in the chain may depend on it.
const NOW_MS: u64 = 0;
/// How many RESUMEs have no answer before a worker gives the session up.
const RESUMES_MAX: u32 = 2;
/// The one shard.
const SHARD: (u32, u32) = (0, 1);

/// What one signed POST says.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Delivery {
    /// Where it stands in the chain.
    pub link: Link,
    /// The worker's state.
    pub gateway: GatewayReport,
    /// In order.
    pub events: Vec<Event>,
}

/// What Discord's REST answered, before the worker hears it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Asked {
    guild: u8,
    user: u8,
    ticket: u64,
    seat: Option<Seat>,
}

/// A worker that runs.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Worker {
    /// What it knows and has to send.
    pub feed: Feed,
    /// The session that it reads, and how far; none before the first.
    pub session: Option<(u8, u8)>,
    /// The delivery that it waits for.
    pub flight: Option<Rc<Delivery>>,
    /// The answer that it waits for.
    pub asked: Option<Asked>,
    /// The hub does not know its claim.
    pub unclaimed: bool,
    /// Its connection to Discord is lost, and it sends RESUMEs.
    pub cut: bool,
}

impl Worker {
    /// A worker that has claimed, and connects.
    pub fn start(claimed: Claimed, bounds: &Bounds, discord: &mut Discord) -> Self {
        let setting = FeedSetting {
            shard: SHARD,
            guilds: (0..GUILDS).map(guild_id).collect(),
            roster: roster_setting(),
            outbox: Limits {
                events_max: bounds.cap,
                bytes_max: 1 << 20,
                batch_events_max: bounds.batch,
                batch_bytes_max: 1 << 20,
                group_events_max: 100,
                delivery_bytes_max: 1 << 20,
            },
            gaps_max: 4,
            behind_max_ms: 1,
            fingerprint: "f".to_owned(),
        };
        let mut feed = Feed::new(setting);
        feed.claim(claimed, NOW_MS);
        let mut worker = Self {
            feed,
            session: None,
            flight: None,
            asked: None,
            unclaimed: false,
            cut: false,
        };
        worker.connect(discord);
        worker
    }

    /// What every worker claims.
    pub fn claim() -> Claim {
        Claim {
            r#type: CLAIM_TYPE.to_owned(),
            shard: SHARD,
            worker: "w".to_owned(),
            guilds: (0..GUILDS).map(guild_id).collect(),
            memory: true,
        }
    }

    /// Resumes where the feed says, or begins a session.
    pub fn connect(&mut self, discord: &mut Discord) {
        self.give_up_if_due();
        let session = self.feed.resume().and_then(|(session, sequence)| {
            let known = Discord::session_of(&session.id)?;
            Some((known, u8::try_from(sequence).ok()?))
        });
        let Some(session) = session else {
            return self.identify(discord);
        };
        match discord.resume(session.0) {
            Some(true) => self.session = Some(session),
            Some(false) => self.identify(discord),
            // It is tried again.
            None => (self.session, self.cut) = (Some(session), true),
        }
    }

    /// Sends one RESUME more. Returns whether there was any to send.
    pub fn resume_again(&mut self, discord: &mut Discord) -> bool {
        let Some((session, _)) = self.session.filter(|_| self.cut) else {
            return false;
        };
        self.feed.resume_sent();
        match discord.resume(session) {
            Some(true) => self.cut = false,
            // Without a session it identifies next.
            Some(false) => (self.session, self.cut) = (None, false),
            None => self.give_up_if_due(),
        }
        true
    }

    fn give_up_if_due(&mut self) {
        if self.feed.resumes() >= RESUMES_MAX {
            self.feed.lose_session();
            (self.session, self.cut) = (None, false);
        }
    }

    /// Begins a session.
    pub fn identify(&mut self, discord: &mut Discord) {
        self.session = Some((discord.identify(), 0));
        // READY says nothing that depends on when it is read.
        self.read(discord);
        if let (Some((_, number)), Some((session, _))) = (self.numbered(), self.session) {
            discord.numbers.insert(number, session);
        }
    }

    /// Whether there is something to read.
    pub fn can_read(&self, discord: &Discord) -> bool {
        let more = |(session, read)| discord.is_live(session) && read < discord.sent(session);
        !self.cut && self.session.is_some_and(more)
    }

    /// Whether its session is lost, or of no use.
    pub fn must_identify(&self, discord: &Discord) -> bool {
        let lost = |(session, _)| !discord.is_live(session);
        !self.cut && (self.session.is_none_or(lost) || self.feed.wants_identify())
    }

    /// Reads the next dispatch.
    pub fn read(&mut self, discord: &Discord) {
        let Some((session, read)) = &mut self.session else {
            return;
        };
        *read += 1;
        let sequence = u64::from(*read);
        let Some(sent) = discord.at(*session, sequence) else {
            return;
        };
        let read: Read = discord.read(sent);
        let id = Discord::session_id(*session);
        self.feed.receive(&id, sequence, read, NOW_MS);
    }

    /// Discord's REST looks; the answer is on its way.
    pub fn ask(&mut self, discord: &Discord) -> bool {
        let Some(Question {
            guild,
            subject: Subject::Voice(user),
            ticket,
        }) = self.feed.question().filter(|_| self.asked.is_none())
        else {
            return false;
        };
        let (guild, user) = (guild_of(guild), user_of(user));
        self.asked = Some(Asked {
            guild,
            user,
            ticket,
            seat: discord.seat(guild, user, discord.now()),
        });
        true
    }

    /// Discord's REST has answered.
    pub fn hear(&mut self) {
        let Some(asked) = self.asked.take() else {
            return;
        };
        let question = Question {
            guild: guild_id(asked.guild),
            subject: Subject::Voice(user_id(asked.user)),
            ticket: asked.ticket,
        };
        let seat = asked
            .seat
            .map(|seat| voice(asked.guild, asked.user, Some(seat)));
        self.feed.answer(question, Finding::Voice(seat), NOW_MS);
    }

    /// Takes the next delivery out, and waits for its answer.
    pub fn send(&mut self) -> Option<Rc<Delivery>> {
        if self.flight.is_some() || self.unclaimed {
            return None;
        }
        let batch = self.feed.next_batch(true, NOW_MS)?;
        let delivery = Rc::new(over_the_wire(&Delivery {
            link: batch.report.link,
            gateway: batch.report.gateway,
            events: batch.events,
        }));
        self.flight = Some(Rc::clone(&delivery));
        Some(delivery)
    }

    /// No answer came. Returns whether the same delivery goes out again; else the next is made.
    pub fn time_out(&mut self) -> bool {
        let Some(flight) = self.flight.take() else {
            return false;
        };
        let batch = batch(&flight);
        let again = !batch.events.is_empty() && self.feed.is_current(&batch, NOW_MS);
        self.flight = Some(flight).filter(|_| again);
        again
    }

    /// Hears the answer to a delivery, unless it does not wait for it any more. Returns whether it
    /// goes on.
    pub fn answered(&mut self, delivery: &Delivery, answer: &Result<Receipt, Conflict>) -> bool {
        if self.flight.as_deref() != Some(delivery) {
            return true;
        }
        self.flight = None;
        match answer {
            Ok(receipt) => {
                self.feed.delivered(&batch(delivery), receipt, NOW_MS);
            }
            Err(Conflict::Fenced) => return false,
            Err(Conflict::Unclaimed) => self.unclaimed = true,
            Err(Conflict::Gap { reached, taken }) => self.feed.rewind(*reached, *taken, NOW_MS),
        }
        true
    }

    /// Hears the answer to a second claim.
    pub fn claimed_again(&mut self, claimed: Claimed, discord: &mut Discord) {
        self.unclaimed = false;
        self.feed.claim(claimed, NOW_MS);
        if let (Some((_, number)), Some((session, _))) = (self.numbered(), self.session) {
            discord.numbers.insert(number, session);
        }
    }

    /// Whether nothing is left to do but beats.
    pub fn is_at_rest(&self, discord: &Discord) -> bool {
        self.flight.is_none()
            && self.asked.is_none()
            && !self.unclaimed
            && !self.cut
            && self.feed.question().is_none()
            && !self.must_identify(discord)
            && !self.can_read(discord)
    }

    /// The session's id and the number that this worker gave it.
    fn numbered(&self) -> Option<(String, u64)> {
        let (session, _) = self.feed.resume()?;
        Some((session.id.clone(), session.number))
    }
}

fn batch(delivery: &Delivery) -> Batch {
    Batch {
        events: delivery.events.clone(),
        report: Report {
            link: delivery.link.clone(),
            gateway: delivery.gateway.clone(),
        },
    }
}
