//! The faults, by the names of `make chaos --fault`: what each does, and what it may cost.

use std::time::Duration;

use e2e::{ADA, GRACE, GUILD, LOUNGE, Process};
use launch::clock::now_ms;
use rand::RngExt as _;
use rand::rngs::StdRng;
use rustix::process::Signal;
use serde_json::json;
use tokio::time::sleep;

use crate::proxy::Misdeed;
use crate::stage::{Needs, Side, Stage, faketime, has_fault_programs};

/// What a fault may cost a subscriber.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Price {
    /// Identifies that it needs at most.
    pub identifies: u64,
    /// Snapshots may come to those who recover.
    pub snapshots: bool,
    /// The guild's order may be broken before such a snapshot.
    pub disorder: bool,
}

/// Nothing at all: no identify, no snapshot.
const FREE: Price = Price {
    identifies: 0,
    snapshots: false,
    disorder: false,
};
/// Discord's session is lost: one identify, told as a difference.
const IDENTIFY: Price = Price {
    identifies: 1,
    ..FREE
};
/// What one side knew is lost: a snapshot with a reason.
const SNAPSHOT: Price = Price {
    snapshots: true,
    ..FREE
};

/// A fault of `PROMISES.md`'s table, or one beside it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fault {
    /// What it is called on the command line.
    pub name: &'static str,
    /// What happens.
    pub about: &'static str,
    /// What it may cost.
    pub price: Price,
    /// How soon after its end everything must be right, in seconds.
    pub right_within_s: u64,
    act: Act,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Act {
    FailPoint(Side, &'static [&'static str]),
    Kill(Side),
    HalfBodyThenKill,
    Terminate(Side),
    Absent,
    Stop(Side, u64),
    LongOutage,
    LongOutageThenKill,
    BadAnswers(&'static [Misdeed]),
    Close(&'static [u16]),
    Refused(&'static [u16]),
    Invalid,
    Reconnect,
    Silence,
    ResumeAddressDead,
    GatewayAway,
    Odd,
    GuildOutage,
    TwoWorkers,
    DiskFull,
    StoreDamaged,
    StoreOlder,
    StoreGone,
    Clock,
    RoomDeleted,
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
const RETRIED: [Misdeed; 9] = [
    Misdeed::Status(500),
    Misdeed::Status(503),
    Misdeed::Status(429),
    Misdeed::Status(401),
    Misdeed::HalfAnswer,
    Misdeed::Reset,
    Misdeed::HalfBody,
    Misdeed::Delay(150),
    Misdeed::Repeat(400),
];

/// Every fault.
#[rustfmt::skip]
pub const FAULTS: [Fault; 38] = [
    fault("F1", Act::FailPoint(Side::Worker, &["received"]), FREE, 10, "worker killed before the event is in its outbox"),
    fault("F2", Act::FailPoint(Side::Worker, &["queued"]), FREE, 10, "worker killed with the event in its outbox"),
    fault("F3", Act::FailPoint(Side::Worker, &["posted", "acknowledged"]), FREE, 10, "worker killed around the hub's reply"),
    fault("F4", Act::HalfBodyThenKill, FREE, 10, "worker killed in the middle of a delivery"),
    fault("F5", Act::Terminate(Side::Worker), FREE, 5, "worker deployed anew (SIGTERM)"),
    fault("F6", Act::Absent, IDENTIFY, 30, "worker away until the session is forgotten; members leave, a room is deleted"),
    fault("F7", Act::Stop(Side::Worker, 2_800), Price { snapshots: true, ..IDENTIFY }, 30, "worker stopped past its heartbeats, then continued"),
    fault("F8", Act::FailPoint(Side::Hub, &["verified", "stored", "published"]), FREE, 15, "hub killed at a fail point"),
    fault("F9", Act::LongOutage, SNAPSHOT, 30, "hub away for longer than the outbox lasts"),
    fault("F9b", Act::LongOutageThenKill, SNAPSHOT, 30, "the same, and the worker killed while it owes"),
    fault("F10", Act::BadAnswers(&RETRIED), FREE, 15, "hub answers 500, 503, 429, stale, half, late, twice or not at all"),
    fault("F10b", Act::BadAnswers(&[Misdeed::Hang]), FREE, 15, "hub never answers some requests"),
    fault("F10c", Act::BadAnswers(&[Misdeed::Status(400), Misdeed::Status(413)]), Price { disorder: true, ..SNAPSHOT }, 15, "hub refuses deliveries as malformed or too large"),
    fault("F11", Act::Stop(Side::Hub, 2_500), FREE, 10, "hub stopped, then continued"),
    fault("F17", Act::Close(&[4000, 4001, 4002, 4003, 4005, 4008]), FREE, 10, "Discord closes with a code that allows resuming"),
    fault("F18", Act::Close(&[4007, 4009]), IDENTIFY, 30, "Discord closes and ends the session"),
    fault("F18b", Act::Invalid, IDENTIFY, 30, "Discord invalidates the session (op 9 false)"),
    fault("F19", Act::Refused(&[4004, 4010, 4013, 4014]), IDENTIFY, 30, "Discord refuses for good; an operator starts the worker again"),
    fault("F20", Act::Reconnect, FREE, 15, "Discord asks to reconnect (op 7, op 9 true), or the connection is cut"),
    fault("F20b", Act::Silence, FREE, 45, "Discord falls silent: no acknowledged heartbeat, no event"),
    fault("F21", Act::ResumeAddressDead, IDENTIFY, 60, "the address for resuming is dead"),
    fault("F22", Act::GatewayAway, FREE, 40, "the gateway is away for a while"),
    fault("F23", Act::Odd, FREE, 30, "duplicates, nulls, missing fields, unknown events"),
    fault("F24", Act::GuildOutage, FREE, 10, "the guild has an outage at Discord"),
    fault("F25", Act::TwoWorkers, FREE, 15, "a second worker of the same shard is started; the first ends with 75"),
    fault("F25b", Act::Zombie, FREE, 15, "the worker is stopped, another takes over, the first goes on: it ends with 75"),
    fault("F27", Act::DiskFull, FREE, 30, "the hub's store can not grow"),
    fault("F28", Act::StoreDamaged, SNAPSHOT, 30, "the store file is cut short, or bits of it flip"),
    fault("F29", Act::Clock, FREE, 30, "the clock of the hub, of the worker, or of both jumps by an hour, and back"),
    fault("F33", Act::RoomDeleted, FREE, 5, "a room is deleted while people come in"),
    fault("worker-kill", Act::Kill(Side::Worker), FREE, 10, "worker killed at random"),
    fault("hub-kill", Act::Kill(Side::Hub), FREE, 15, "hub killed at random"),
    fault("hub-term", Act::Terminate(Side::Hub), FREE, 15, "hub deployed anew (SIGTERM)"),
    fault("store-older", Act::StoreOlder, SNAPSHOT, 15, "the store replaced by an older copy of itself"),
    fault("store-gone", Act::StoreGone, SNAPSHOT, 15, "the store replaced by none"),
    fault("forgotten", Act::Forgotten, IDENTIFY, 30, "Discord forgets the session while the worker is connected no more"),
    fault("worker-stop", Act::Stop(Side::Worker, 500), FREE, 10, "worker stopped for a moment"),
    fault("none", Act::Nothing, FREE, 10, "nothing: the control"),
];

/// The fault of this name.
pub fn named(name: &str) -> Option<Fault> {
    FAULTS.into_iter().find(|fault| fault.name == name)
}

impl Fault {
    /// Why it can not be done here, if so.
    pub fn lacks(&self) -> Option<&'static str> {
        (self.act == Act::Clock && faketime().is_none())
            .then_some("libfaketime is not installed (Debian's package faketime)")
    }

    /// Whether the hub forgets what it knew: a worker that is lost too has nothing to resume from.
    pub fn loses_store(&self) -> bool {
        matches!(
            self.act,
            Act::StoreDamaged | Act::StoreOlder | Act::StoreGone
        )
    }

    /// What the stage must have for it.
    pub fn needs(&self, luck: &mut StdRng) -> Needs {
        let mut needs = Needs::default();
        let set = |name: &str, value: String| (name.to_owned(), value);
        match self.act {
            Act::FailPoint(side, points) if has_fault_programs() => {
                let point = points[luck.random_range(0..points.len())];
                let nth = luck.random_range(20..90);
                let setting = set("FAIL_POINT", format!("{point}:{nth}"));
                match side {
                    Side::Worker => needs.worker.push(setting),
                    Side::Hub => needs.hub.push(setting),
                }
            }
            Act::LongOutage | Act::LongOutageThenKill => {
                needs.worker.push(set("OUTBOX_EVENTS_MAX", "40".to_owned()));
            }
            Act::Clock => needs.clock = true,
            Act::ResumeAddressDead => needs.resume_address = true,
            _ => {}
        }
        needs
    }

    /// Makes it happen; on return it is over.
    pub async fn happen(&self, stage: &mut Stage, luck: &mut StdRng) {
        let began_ms = now_ms();
        act(self.act, stage, luck).await;
        stage.lasted_since(began_ms);
    }
}

async fn pause(ms: u64) {
    sleep(Duration::from_millis(ms)).await;
}

async fn act(act: Act, stage: &mut Stage, luck: &mut StdRng) {
    match act {
        Act::FailPoint(side, _) => {
            // Where no fail point is built in, or it is never passed, at random.
            let most = if has_fault_programs() { 4_000 } else { 0 };
            stage.ended(side, Duration::from_millis(most)).await;
            stage.kill(side).await;
            pause(luck.random_range(0..600)).await;
            stage.start(side, &[("FAIL_POINT", "")]);
        }
        Act::Kill(side) => {
            stage.kill(side).await;
            pause(luck.random_range(0..1_200)).await;
            stage.start(side, &[]);
        }
        Act::HalfBodyThenKill => {
            let before = stage.proxy.misdeeds();
            stage.proxy.next(Misdeed::HalfBody);
            while stage.proxy.misdeeds() == before {
                pause(2).await;
            }
            stage.kill(Side::Worker).await;
            pause(luck.random_range(0..500)).await;
            stage.start(Side::Worker, &[]);
        }
        Act::Terminate(side) => {
            stage.signal(side, Signal::TERM);
            stage.ends_with(side, 0, Duration::from_secs(10)).await;
            pause(luck.random_range(0..300)).await;
            stage.start(side, &[]);
        }
        Act::Absent => absent(stage).await,
        Act::Stop(side, ms) => {
            stage.signal(side, Signal::STOP);
            pause(ms).await;
            stage.signal(side, Signal::CONT);
        }
        Act::LongOutage | Act::LongOutageThenKill => {
            stage.kill(Side::Hub).await;
            pause(2_500).await;
            if act == Act::LongOutageThenKill {
                stage.kill(Side::Worker).await;
                stage.start(Side::Worker, &[]);
            }
            stage.start(Side::Hub, &[]);
        }
        Act::BadAnswers(kinds) => {
            stage.proxy.mood(50, kinds);
            pause(luck.random_range(1_000..2_500)).await;
            stage.proxy.behave();
        }
        Act::Close(codes) => {
            let code = codes[luck.random_range(0..codes.len())];
            let wish = json!({"action": "close", "code": code});
            stage.gateway(wish).await;
        }
        Act::Refused(codes) => {
            let code = codes[luck.random_range(0..codes.len())];
            stage
                .gateway(json!({"action": "close", "code": code}))
                .await;
            stage
                .ends_with(Side::Worker, 69, Duration::from_secs(5))
                .await;
            pause(luck.random_range(0..300)).await;
            stage.start(Side::Worker, &[]);
        }
        Act::Invalid => {
            let wish = json!({"action": "invalidate", "resumable": false});
            stage.gateway(wish).await;
        }
        Act::Reconnect => {
            let wish = [
                json!({"action": "reconnect"}),
                json!({"action": "invalidate", "resumable": true}),
                json!({"action": "drop"}),
            ][luck.random_range(0..3)]
            .clone();
            stage.gateway(wish).await;
        }
        Act::Silence => {
            stage
                .gateway(json!({"action": "silence", "seconds": 2.5}))
                .await;
            pause(2_500).await;
        }
        Act::ResumeAddressDead => {
            stage.cable.cut();
            stage.gateway(json!({"action": "drop"})).await;
            pause(1_500).await;
        }
        Act::GatewayAway => {
            stage.cable.cut();
            pause(luck.random_range(1_500..3_500)).await;
            stage.cable.mend();
        }
        Act::Odd => stage.gateway(json!({"action": "odd"})).await,
        Act::GuildOutage => {
            let wish = json!({"action": "outage", "guildId": GUILD, "seconds": 1.2});
            stage.gateway(wish).await;
            pause(1_250).await;
        }
        Act::TwoWorkers => two_workers(stage).await,
        Act::Zombie => {
            stage.signal(Side::Worker, Signal::STOP);
            let [elsewhere] = e2e::free_addresses();
            let second = another_worker(stage, &elsewhere);
            pause(1_000).await;
            stage.signal(Side::Worker, Signal::CONT);
            first_ends(stage, second, &elsewhere).await;
        }
        Act::Nothing => {}
        Act::DiskFull => {
            stage.limit_files(Some(4_096));
            pause(luck.random_range(800..2_000)).await;
            stage.limit_files(None);
        }
        Act::StoreDamaged => damage(stage, luck).await,
        Act::StoreOlder => {
            stage.kill(Side::Hub).await;
            stage.keep_store();
            stage.start(Side::Hub, &[]);
            pause(luck.random_range(800..1_800)).await;
            stage.kill(Side::Hub).await;
            stage.restore_store();
            stage.start(Side::Hub, &[]);
        }
        Act::StoreGone => {
            stage.kill(Side::Hub).await;
            stage.remove_store();
            stage.start(Side::Hub, &[]);
        }
        Act::Clock => {
            let difference = ["+3600", "-3600"][luck.random_range(0..2)];
            // If only one jumps, every signature is stale as long as it lasts.
            let sides: &[Side] = match luck.random_range(0..3) {
                0 => &[Side::Hub, Side::Worker],
                1 => &[Side::Hub],
                _ => &[Side::Worker],
            };
            for side in sides {
                stage.set_clock(*side, difference);
            }
            pause(1_500).await;
            for side in sides {
                stage.set_clock(*side, "+0");
            }
        }
        Act::RoomDeleted => delete_a_room(stage).await,
        Act::Forgotten => {
            stage.gateway(json!({"action": "forget"})).await;
            stage.gateway(json!({"action": "drop"})).await;
        }
    }
}

/// The worker is away; the session dies; somebody leaves, somebody moves, a room is deleted.
async fn absent(stage: &mut Stage) {
    let world = &stage.world;
    let body = json!({"guildId": GUILD, "name": "short lived"});
    let room = world.control("channels", body).await["channelId"]
        .as_str()
        .unwrap_or_default()
        .to_owned();
    world.voice("290000000000000011", Some(&room)).await;
    world.voice("290000000000000012", Some(LOUNGE)).await;
    pause(300).await;
    stage.kill(Side::Worker).await;
    stage.gateway(json!({"action": "forget"})).await;
    stage.world.voice("290000000000000012", None).await;
    stage.world.voice("290000000000000011", Some(LOUNGE)).await;
    forget_room(stage, &room).await;
    pause(500).await;
    stage.start(Side::Worker, &[]);
}

async fn forget_room(stage: &Stage, room: &str) {
    let url = format!("{}/_sim/channels/{room}", stage.world.sim_url);
    stage.world.http.delete(url).send().await.unwrap();
}

/// A second worker takes over, as in a rolling deploy: the first must end by itself with 75.
async fn two_workers(stage: &mut Stage) {
    let [elsewhere] = e2e::free_addresses();
    let second = another_worker(stage, &elsewhere);
    first_ends(stage, second, &elsewhere).await;
}

fn another_worker(stage: &Stage, elsewhere: &str) -> Process {
    let changes = [("WORKER_LISTEN", elsewhere), ("FAIL_POINT", "")];
    stage.world.worker.again_with(&changes)
}

async fn first_ends(stage: &mut Stage, second: Process, elsewhere: &str) {
    stage
        .ends_with(Side::Worker, 75, Duration::from_secs(10))
        .await;
    stage.world.worker_url = format!("http://{elsewhere}");
    stage.replace(Side::Worker, second);
}

async fn damage(stage: &mut Stage, luck: &mut StdRng) {
    stage.kill(Side::Hub).await;
    let cut = luck.random_range(0..2) == 0;
    for file in stage.store_files() {
        let mut bytes = std::fs::read(&file).unwrap();
        if cut {
            bytes.truncate(bytes.len() / 2);
        } else {
            for _ in 0..8 {
                if !bytes.is_empty() {
                    let at = luck.random_range(0..bytes.len());
                    bytes[at] ^= 0xff;
                }
            }
        }
        std::fs::write(&file, bytes).unwrap();
    }
    stage.start(Side::Hub, &[]);
}

/// A room is made, filled, and deleted while somebody comes in.
async fn delete_a_room(stage: &Stage) {
    for _ in 0..5 {
        let body = json!({"guildId": GUILD, "name": "doomed"});
        let made = stage.world.control("channels", body).await;
        let room = made["channelId"].as_str().unwrap_or_default().to_owned();
        let url = format!("{}/_sim/voice", stage.world.sim_url);
        let sit = |user: &str| {
            let body = json!({"guildId": GUILD, "userId": user, "channelId": room});
            stage.world.http.post(&url).json(&body).send()
        };
        let (ada, grace, ()) = tokio::join!(sit(ADA), sit(GRACE), forget_room(stage, &room));
        // Whoever came too late was refused.
        drop((ada, grace));
    }
}
