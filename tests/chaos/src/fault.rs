//! The faults, by the names of `make chaos --fault`: what each does, and what it may cost.

mod acts;
mod rooms;
mod seen;

use launch::clock::now_ms;
use rand::rngs::StdRng;
use world::Side;

use crate::environment::{Environment, Needs, faketime};
use crate::proxy::ProxyFault;
use crate::sessions::{Facts, Span};
use crate::subscriber::Subscriber;

/// What a fault may cost a subscriber. Identifies are not here: each must be explained by what
/// Discord did, or by one of the facts that [`Fault::explain`] adds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Price {
    /// Snapshots that may come to each of those who recover, at most.
    pub snapshots: u64,
    /// The guild's order may be broken before such a snapshot.
    pub disorder: bool,
}

/// Nothing at all.
const FREE: Price = Price {
    snapshots: 0,
    disorder: false,
};
/// What one side knew is lost: a snapshot with a reason.
const SNAPSHOT: Price = Price {
    snapshots: 1,
    ..FREE
};
/// Each delivery that is refused for good owes a snapshot.
const SNAPSHOTS: Price = Price {
    snapshots: u64::MAX,
    disorder: true,
};

/// A fault of the table F1 to F33, or one beside it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fault {
    /// What it is called on the command line.
    pub name: &'static str,
    /// Its course, in words.
    pub about: &'static str,
    /// What it may cost.
    pub price: Price,
    /// How soon after its end everything must be right, in seconds.
    pub right_within_s: u64,
    act: Act,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Act {
    /// At one of these points.
    FailPoint(Side, &'static [&'static str]),
    Kill(Side),
    HalfBodyThenKill,
    Terminate(Side),
    Absent,
    Stop(Side, u64),
    /// The outbox is small meanwhile, or large enough; the worker is killed as well.
    HubAway {
        outbox_full: bool,
        worker_killed: bool,
    },
    BadAnswers(&'static [ProxyFault]),
    Close(&'static [u16]),
    Refused(&'static [u16]),
    Invalid,
    Reconnect,
    Silence,
    BlackHole,
    ResumeAddressDead,
    GatewayAway,
    Odd,
    Unreadable,
    GuildOutage,
    TwoWorkers,
    DiskFull,
    StoreDamaged,
    StoreOlder,
    StoreGone,
    Clock,
    RoomDeleted,
    /// The hub is killed at one of these steps of creating or ending a room.
    RoomHalfDone(&'static [&'static str]),
    NeverResumed,
    Forgotten,
    Zombie,
    Nothing,
}

const fn fault(
    name: &'static str,
    act: Act,
    price: Price,
    right_within_s: u64,
    about: &'static str,
) -> Fault {
    Fault {
        name,
        about,
        price,
        right_within_s,
        act,
    }
}

/// Bad answers that cost nothing: each is a reason to send the same again.
const RETRIED: [ProxyFault; 9] = [
    ProxyFault::Status(500),
    ProxyFault::Status(503),
    ProxyFault::Status(429),
    ProxyFault::Status(401),
    ProxyFault::HalfAnswer,
    ProxyFault::Reset,
    ProxyFault::HalfBody,
    ProxyFault::Delay(150),
    ProxyFault::Repeat(400),
];

/// Bad answers that say that the delivery itself is wrong.
const REFUSED: [ProxyFault; 2] = [ProxyFault::Status(400), ProxyFault::Status(413)];

/// Every fault. Its time is the one that is promised, or a shorter one, since every wait is shorter
/// here than in production.
#[rustfmt::skip]
pub const FAULTS: [Fault; 44] = [
    fault("F1", Act::FailPoint(Side::Worker, &["received"]), FREE, 10, "worker killed before the event is in its outbox"),
    fault("F2", Act::FailPoint(Side::Worker, &["queued"]), FREE, 10, "worker killed with the event in its outbox"),
    fault("F3", Act::FailPoint(Side::Worker, &["posted", "acknowledged"]), FREE, 10, "worker killed around the hub's reply"),
    fault("F4", Act::HalfBodyThenKill, FREE, 10, "worker killed in the middle of a delivery"),
    fault("F5", Act::Terminate(Side::Worker), FREE, 5, "worker deployed again (SIGTERM): it ends with 0"),
    fault("F6", Act::Absent, FREE, 15, "worker away until the session is forgotten; members leave, a room is deleted"),
    fault("F7", Act::Stop(Side::Worker, 2_800), SNAPSHOT, 15, "worker stopped past its heartbeats, then continued"),
    fault("F8", Act::FailPoint(Side::Hub, &["verified", "stored", "published"]), FREE, 15, "hub killed at a fail point: it is ready again within 5 s"),
    fault("F9", Act::HubAway { outbox_full: true, worker_killed: false }, SNAPSHOT, 30, "hub away for longer than the outbox lasts: one snapshot"),
    fault("F9a", Act::HubAway { outbox_full: false, worker_killed: false }, FREE, 15, "hub away while the outbox lasts: nothing is missing"),
    fault("F9b", Act::HubAway { outbox_full: true, worker_killed: true }, SNAPSHOT, 30, "as F9, and the worker killed while it owes"),
    fault("F10", Act::BadAnswers(&RETRIED), FREE, 15, "hub answers 500, 503, 429, stale, half, late, twice or not at all"),
    fault("F10b", Act::BadAnswers(&[ProxyFault::Hang]), FREE, 15, "hub never answers some requests"),
    fault("F10c", Act::BadAnswers(&REFUSED), SNAPSHOTS, 15, "hub refuses deliveries as malformed or too large: set aside with an alarm"),
    fault("F11", Act::Stop(Side::Hub, 2_500), FREE, 10, "hub stopped, then continued"),
    fault("F17", Act::Close(&[4000, 4001, 4002, 4003, 4005, 4008]), FREE, 5, "Discord closes with a code that allows resuming"),
    fault("F18", Act::Close(&[4007, 4009]), FREE, 15, "Discord closes and ends the session"),
    fault("F18b", Act::Invalid, FREE, 15, "Discord invalidates the session (op 9 false)"),
    fault("F19", Act::Refused(&[4004, 4010, 4011, 4012, 4013, 4014]), FREE, 15, "Discord refuses for good: the worker ends with 69 and says why, pages get `down`; an operator starts it again"),
    fault("F20", Act::Reconnect, FREE, 15, "Discord asks to reconnect (op 7, op 9 true), or the connection is cut"),
    fault("F20b", Act::Silence, FREE, 15, "Discord falls silent: no acknowledged heartbeat, no event"),
    fault("F20c", Act::BlackHole, FREE, 15, "the way to the gateway swallows everything: no event, no HELLO, no end"),
    fault("F21", Act::ResumeAddressDead, FREE, 15, "the address for resuming is dead"),
    fault("F22", Act::GatewayAway, FREE, 15, "the gateway is away for a while"),
    fault("F23", Act::Odd, FREE, 15, "duplicates, nulls, missing fields, unknown events"),
    fault("F23b", Act::Unreadable, FREE, 15, "dispatches without what is needed: the worker asks REST"),
    fault("F24", Act::GuildOutage, FREE, 5, "the guild has an outage at Discord: pages get `down`, and keep its rooms"),
    fault("F25", Act::TwoWorkers, FREE, 15, "a second worker of the same shard is started; the first ends with 75"),
    fault("F25b", Act::Zombie, FREE, 15, "the worker is stopped, another takes over, the first goes on: it ends with 75"),
    fault("F27", Act::DiskFull, FREE, 30, "the hub's store cannot grow: 503, not ready, pages get `down`; what it acknowledged survives a kill"),
    fault("F28", Act::StoreDamaged, SNAPSHOT, 30, "the store file is cut short, bits of it flip, or it is rubbish: set aside"),
    fault("F29", Act::Clock, FREE, 30, "the clock of the hub, of the worker, or of both jumps by an hour or less, and back"),
    fault("F32", Act::RoomHalfDone(rooms::CREATE), FREE, 15, "hub killed at a step of creating a room: a repeat of its request gets the one room, or no channel is left"),
    fault("F32b", Act::RoomHalfDone(rooms::END), FREE, 15, "hub killed at a step of ending a room: it can be ended again"),
    fault("F33", Act::RoomDeleted, FREE, 2, "a room is deleted while people come in"),
    fault("F37", Act::NeverResumed, FREE, 30, "Discord greets and never resumes the session: one identify, also if the worker is killed meanwhile"),
    fault("worker-kill", Act::Kill(Side::Worker), FREE, 10, "worker killed at random"),
    fault("hub-kill", Act::Kill(Side::Hub), FREE, 15, "hub killed at random"),
    fault("hub-term", Act::Terminate(Side::Hub), FREE, 15, "hub deployed again (SIGTERM)"),
    fault("store-older", Act::StoreOlder, SNAPSHOT, 15, "the store replaced by an older copy of itself"),
    fault("store-gone", Act::StoreGone, SNAPSHOT, 15, "the store replaced by none"),
    fault("forgotten", Act::Forgotten, FREE, 15, "Discord forgets the session while the worker is connected no more"),
    fault("worker-stop", Act::Stop(Side::Worker, 500), FREE, 10, "worker stopped for a moment"),
    fault("none", Act::Nothing, FREE, 10, "nothing: the control"),
];

/// The fault of this name.
pub fn named(name: &str) -> Option<Fault> {
    FAULTS.into_iter().find(|fault| fault.name == name)
}

impl Fault {
    /// Why it cannot be caused here, if so.
    pub fn lacks(&self) -> Option<&'static str> {
        (self.act == Act::Clock && faketime().is_none())
            .then_some("libfaketime is not installed (Debian's package faketime)")
    }

    /// Whether the role of @everyone has to stay as it is. The checker's truth is Discord's, which
    /// does not say that a room is Roomwire's own: it is visible although the role hides the others.
    pub fn keeps_role(&self) -> bool {
        matches!(self.act, Act::RoomHalfDone(_))
    }

    /// What the environment must have for it.
    pub fn needs(&self) -> Needs {
        let mut needs = Needs::default();
        match self.act {
            Act::Clock => needs.clock = true,
            Act::ResumeAddressDead => needs.resume_address = true,
            _ => {}
        }
        needs
    }

    /// Causes it; on return it is over. The witness is a subscriber that never leaves. A promise of the
    /// fault that is not kept is among the environment's complaints.
    pub async fn happen(
        &self,
        environment: &mut Environment,
        witness: &Subscriber,
        rng: &mut StdRng,
    ) {
        let began_ms = now_ms();
        acts::act(self.act, environment, witness, rng).await;
        environment.lasted_since(began_ms);
    }

    /// Adds what it explains, having lasted so long.
    pub fn explain(&self, span: Span, facts: &mut Facts) {
        match self.act {
            Act::StoreDamaged | Act::StoreOlder | Act::StoreGone => facts.store_losses.push(span),
            Act::Stop(Side::Worker, _) | Act::Zombie => facts.held_up.push(span),
            Act::Reconnect | Act::Silence | Act::BlackHole | Act::GatewayAway => {
                facts.swallowed.push(span);
            }
            Act::NeverResumed => facts.never_resumed.push(span),
            Act::ResumeAddressDead => {
                facts.swallowed.push(span);
                facts.address_dead.push(span);
            }
            _ => {}
        }
    }
}
