//! The course of each fault, and the facts that must be seen meanwhile.

use std::time::Duration;

use rand::RngExt as _;
use rand::rngs::StdRng;
use reqwest::Method;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};
use world::{
    ADA, BOT_ROLE, GRACE, GUILD, LOUNGE, Process, Side, Signal, free_addresses, within,
    within_async,
};

use super::seen::{PASSED, SOON, alarmed, pause, ready, shown};
use super::{Act, rooms};
use crate::environment::{Environment, has_fault_programs};
use crate::proxy::ProxyFault;
use crate::subscriber::Subscriber;

/// How long everything may take to become right before a fault.
const RIGHT: Duration = Duration::from_secs(30);
/// An outbox that an outage of the hub fills.
const SMALL_OUTBOX: &str = "40";
/// A user who is never seen elsewhere.
const STILL: &str = "290000000000000031";
/// How long the guild's outage lasts.
const OUTAGE: Duration = Duration::from_millis(1_500);

/// Starts this side again. The hub must be ready soon.
async fn start(environment: &mut Environment, side: Side) {
    environment.restart(side, &[]);
    if side == Side::Hub {
        ready(environment, true).await;
    }
}

/// Makes it happen; on return it is over.
pub(super) async fn act(
    act: Act,
    environment: &mut Environment,
    witness: &Subscriber,
    rng: &mut StdRng,
) {
    match act {
        Act::FailPoint(side, points) => at_a_fail_point(environment, side, points, rng).await,
        Act::Kill(side) => {
            environment.kill(side).await;
            pause(rng.random_range(0..1_200)).await;
            start(environment, side).await;
        }
        Act::HalfBodyThenKill => {
            let before = environment.proxy.faults();
            environment.proxy.next(ProxyFault::HalfBody);
            if !within(RIGHT, || environment.proxy.faults() > before).await {
                environment.complain("no delivery to be killed in");
            }
            environment.kill(Side::Worker).await;
            pause(rng.random_range(0..500)).await;
            environment.restart(Side::Worker, &[]);
        }
        Act::Terminate(side) => {
            environment.signal(side, Signal::TERM);
            environment
                .ends_with(side, 0, Duration::from_secs(10))
                .await;
            pause(rng.random_range(0..300)).await;
            start(environment, side).await;
        }
        Act::Absent => absent(environment).await,
        Act::Stop(side, ms) => {
            environment.signal(side, Signal::STOP);
            pause(ms).await;
            environment.signal(side, Signal::CONT);
        }
        Act::HubAway {
            outbox_full,
            worker_killed,
        } => {
            if outbox_full {
                deploy(environment, witness, SMALL_OUTBOX).await;
            }
            let before = witness.snapshots();
            environment.kill(Side::Hub).await;
            pause(2_500).await;
            if worker_killed {
                environment.kill(Side::Worker).await;
                environment.restart(Side::Worker, &[]);
            }
            start(environment, Side::Hub).await;
            if outbox_full {
                // A killed worker owes nothing any more, and Discord's replay may fit into its outbox.
                if !worker_killed && !within(RIGHT, || witness.snapshots() > before).await {
                    environment.complain("no snapshot covers what the outbox lost");
                }
                deploy(environment, witness, "").await;
            }
        }
        Act::BadAnswers(kinds) => {
            environment.proxy.fail_randomly(50, kinds);
            pause(rng.random_range(1_000..2_500)).await;
            environment.proxy.behave();
            if kinds == super::REFUSED {
                alarmed(environment, Side::Worker, "they are dropped").await;
            }
        }
        Act::Close(codes) => {
            let code = codes[rng.random_range(0..codes.len())];
            let request = json!({"action": "close", "code": code});
            environment.gateway(request).await;
        }
        Act::Refused(codes) => {
            let code = codes[rng.random_range(0..codes.len())];
            refuse(environment, witness, code).await;
            pause(rng.random_range(0..300)).await;
            environment.restart(Side::Worker, &[]);
        }
        Act::Invalid => {
            let request = json!({"action": "invalidate", "resumable": false});
            environment.gateway(request).await;
        }
        Act::Reconnect => {
            let request = [
                json!({"action": "reconnect"}),
                json!({"action": "invalidate", "resumable": true}),
                json!({"action": "drop"}),
            ][rng.random_range(0..3)]
            .clone();
            environment.gateway(request).await;
        }
        Act::Silence => {
            environment
                .gateway(json!({"action": "silence", "seconds": 2.5}))
                .await;
            pause(2_500).await;
        }
        Act::BlackHole => {
            environment.cable.swallow();
            pause(rng.random_range(2_000..3_500)).await;
            environment.cable.mend();
        }
        Act::ResumeAddressDead => {
            environment.cable.cut();
            environment.gateway(json!({"action": "drop"})).await;
            pause(1_500).await;
        }
        Act::GatewayAway => {
            environment.cable.cut();
            pause(rng.random_range(1_500..3_500)).await;
            environment.cable.mend();
        }
        Act::Odd => environment.gateway(json!({"action": "odd"})).await,
        Act::Unreadable => unreadable(environment).await,
        Act::GuildOutage => outage(environment, witness).await,
        Act::TwoWorkers => two_workers(environment).await,
        Act::Zombie => {
            environment.signal(Side::Worker, Signal::STOP);
            let [elsewhere] = free_addresses();
            let second = environment.another_worker(&elsewhere);
            pause(1_000).await;
            environment.signal(Side::Worker, Signal::CONT);
            first_ends(environment, second, &elsewhere).await;
        }
        Act::Nothing => {}
        Act::DiskFull => disk_full(environment, witness, rng).await,
        Act::StoreDamaged => damage(environment, rng).await,
        Act::StoreOlder => {
            environment.kill(Side::Hub).await;
            environment.store().keep();
            start(environment, Side::Hub).await;
            pause(rng.random_range(800..1_800)).await;
            environment.kill(Side::Hub).await;
            environment.store().restore();
            start(environment, Side::Hub).await;
        }
        Act::StoreGone => {
            environment.kill(Side::Hub).await;
            environment.store().remove();
            start(environment, Side::Hub).await;
        }
        Act::Clock => clocks(environment, witness, rng).await,
        Act::RoomDeleted => delete_a_room(environment).await,
        Act::RoomHalfDone(steps) => rooms::killed_at(environment, steps, rng).await,
        Act::NeverResumed => never_resumed(environment, witness, rng).await,
        Act::Forgotten => {
            environment.gateway(json!({"action": "forget"})).await;
            environment.gateway(json!({"action": "drop"})).await;
        }
    }
}

/// Once everything is delivered, a worker with an outbox of so many events takes over (empty: the
/// usual).
async fn deploy(environment: &mut Environment, witness: &Subscriber, outbox: &str) {
    shown(environment, witness, "live", "", RIGHT).await;
    let url = format!("{}/health", environment.world.worker_url);
    let http = environment.world.http.clone();
    let owes_nothing = || async {
        let Ok(answer) = http.get(&url).send().await else {
            return false;
        };
        let health: Value = answer.json().await.unwrap_or_default();
        let shard = &health["shards"][0];
        shard["debts"] == 0 && shard["outboxEvents"] == 0
    };
    if !within_async(RIGHT, owes_nothing).await {
        environment.complain(format!("the worker owes something after {RIGHT:?}"));
    }
    environment.signal(Side::Worker, Signal::TERM);
    environment
        .ends_with(Side::Worker, 0, Duration::from_secs(10))
        .await;
    environment.restart(Side::Worker, &[("OUTBOX_EVENTS_MAX", outbox)]);
    shown(environment, witness, "live", "", RIGHT).await;
}

/// The process is started again with a fail point, which ends it. Without fail points in the program,
/// it is killed at random.
async fn at_a_fail_point(
    environment: &mut Environment,
    side: Side,
    points: &[&str],
    rng: &mut StdRng,
) {
    let point = points[rng.random_range(0..points.len())];
    let nth = rng.random_range(5..60);
    if has_fault_programs() {
        environment.kill(side).await;
        environment.restart(side, &[("FAIL_POINT", &format!("{point}:{nth}"))]);
        if !environment.ended(side, PASSED).await {
            environment.complain(format!(
                "{side:?} never passed its fail point {point}:{nth}"
            ));
        }
    }
    environment.kill(side).await;
    pause(rng.random_range(0..600)).await;
    environment.disarm(side);
    if side == Side::Hub {
        ready(environment, true).await;
    }
}

/// Discord refuses permanently: the worker ends and logs the code; pages get `down`.
async fn refuse(environment: &mut Environment, witness: &Subscriber, code: u16) {
    shown(environment, witness, "live", "", RIGHT).await;
    let request = json!({"action": "close", "code": code});
    environment.gateway(request).await;
    environment.ends_with(Side::Worker, 69, SOON).await;
    shown(environment, witness, "down", "discord_refused", SOON).await;
    let says = |log: String| {
        log.lines()
            .last()
            .is_some_and(|last| last.contains(&code.to_string()))
    };
    // Its last line is read a moment after its end.
    if !within(SOON, || says(environment.world.log(Side::Worker))).await {
        environment.complain(format!("the worker's last line does not say {code}"));
    }
}

/// Discord greets, and answers each RESUME by something else. In half of the runs the worker is killed
/// after the first. One identify must follow.
async fn never_resumed(environment: &mut Environment, witness: &Subscriber, rng: &mut StdRng) {
    shown(environment, witness, "live", "", RIGHT).await;
    let [identified, resumed] = counted(environment).await;
    let code = [1000, 1001, 1011, 4000, 4003, 4006][rng.random_range(0..6)];
    let ways = [
        json!({"action": "resumes", "answer": "close", "code": code}),
        json!({"action": "resumes", "answer": "drop"}),
        json!({"action": "resumes", "answer": "nothing"}),
        json!({"action": "resumes", "answer": "invalidate"}),
    ];
    environment
        .gateway(ways[rng.random_range(0..4)].clone())
        .await;
    environment.gateway(json!({"action": "drop"})).await;
    if rng.random_range(0..2) == 0 {
        let asked = || async { counted(environment).await[1] > resumed };
        within_async(RIGHT, asked).await;
        environment.kill(Side::Worker).await;
        environment.restart(Side::Worker, &[]);
    }
    let again = || async { counted(environment).await[0] > identified };
    within_async(RIGHT, again).await;
    shown(environment, witness, "live", "", RIGHT).await;
    let request = json!({"action": "resumes", "answer": "resumed"});
    environment.gateway(request).await;
    let [now, _] = counted(environment).await;
    if now != identified + 1 {
        let more = now - identified;
        environment.complain(format!("{more} identifies for one session that was lost"));
    }
}

/// How often the bot identified, and asked to resume.
async fn counted(environment: &Environment) -> [u64; 2] {
    let counters = &environment.world.truth().await["counters"];
    ["identify", "resume"].map(|name| counters[name].as_u64().unwrap_or(0))
}

/// The guild has an outage at Discord for a while. Pages get `down`; no user and no room disappears.
async fn outage(environment: &mut Environment, witness: &Subscriber) {
    shown(environment, witness, "live", "", RIGHT).await;
    let seconds = OUTAGE.as_secs_f64();
    let request = json!({"action": "outage", "guildId": GUILD, "seconds": seconds});
    environment.gateway(request).await;
    let began = Instant::now();
    shown(environment, witness, "down", "outage", OUTAGE).await;
    // What happened before may still be under way.
    pause(100).await;
    let (steps, rooms) = (witness.steps(), witness.rooms());
    let more = within(OUTAGE / 2, || witness.steps() != steps).await;
    // A step that is seen too late may be one of the guild's return.
    if more && began.elapsed() < OUTAGE {
        let (now, left) = (witness.steps() - steps, witness.rooms());
        environment.complain(format!(
            "{now} steps published during an outage; {left} rooms, {rooms} before"
        ));
    }
    sleep(OUTAGE.saturating_sub(began.elapsed())).await;
    pause(50).await;
}

/// Dispatches without the fields that are needed to read them: of a room, and of a user in another
/// room. Nothing else touches these, so REST's answer fits at any place among the events. The room is
/// denied to @everyone: the worker treats an unreadable room as hidden, and this one truly is.
async fn unreadable(environment: &mut Environment) {
    let body = json!({"guildId": GUILD, "name": "still"});
    let room = environment.world.discord.create_channel(body).await;
    environment.world.voice(STILL, Some(&room)).await;
    // The bot may view it, so that REST has an answer.
    let deny = json!([{"id": GUILD, "type": 0, "deny": "1024"}, {"id": BOT_ROLE, "type": 0, "allow": "1049600"}]);
    let body = json!({"guildId": GUILD, "name": "denied", "overwrites": deny});
    let denied = environment.world.discord.create_channel(body).await;
    let nameless = json!({"id": denied, "guild_id": GUILD, "type": 2, "name": null});
    let nowhere = json!({"guild_id": GUILD, "user_id": STILL, "mute": null});
    for (event, data) in [
        ("CHANNEL_UPDATE", nameless),
        ("VOICE_STATE_UPDATE", nowhere),
    ] {
        let request = json!({"action": "dispatch", "event": event, "data": data});
        environment.gateway(request).await;
    }
    pause(300).await;
}

/// The hub's store cannot grow for a while: it accepts nothing, is not ready, and pages get `down`. In
/// half of the runs it is killed then: what it acknowledged must be there.
async fn disk_full(environment: &mut Environment, witness: &Subscriber, rng: &mut StdRng) {
    shown(environment, witness, "live", "", RIGHT).await;
    let before = environment.proxy.unavailable();
    environment.limit_files(Some(4_096));
    shown(environment, witness, "down", "store_failing", SOON).await;
    ready(environment, false).await;
    if !within(SOON, || environment.proxy.unavailable() > before).await {
        environment.complain("no delivery is answered with 503");
    }
    alarmed(environment, Side::Hub, "store").await;
    pause(rng.random_range(200..1_000)).await;
    if rng.random_range(0..2) == 0 {
        environment.kill(Side::Hub).await;
        start(environment, Side::Hub).await;
    } else {
        environment.limit_files(None);
        ready(environment, true).await;
    }
}

/// Clocks jump forth and back. A jump of less than a minute ends no connection. If only one clock
/// jumps by more, every signature is stale meanwhile.
async fn clocks(environment: &mut Environment, witness: &Subscriber, rng: &mut StdRng) {
    let difference = ["+3600", "-3600", "+50", "-50"][rng.random_range(0..4)];
    let sides: &[Side] = match rng.random_range(0..3) {
        0 => &[Side::Hub, Side::Worker],
        1 => &[Side::Hub],
        _ => &[Side::Worker],
    };
    shown(environment, witness, "live", "", RIGHT).await;
    let ends = witness.ends();
    for side in sides {
        environment.set_clock(*side, difference);
    }
    pause(1_500).await;
    for side in sides {
        environment.set_clock(*side, "+0");
    }
    if difference.len() == 3 && witness.ends() != ends {
        environment.complain(format!(
            "a clock that is off by {difference} s ended connections"
        ));
    }
}

/// The worker is away; the session dies; somebody leaves, somebody moves, a room is deleted.
async fn absent(environment: &mut Environment) {
    let world = &environment.world;
    let body = json!({"guildId": GUILD, "name": "short lived"});
    let room = world.discord.create_channel(body).await;
    world.voice("290000000000000011", Some(&room)).await;
    world.voice("290000000000000012", Some(LOUNGE)).await;
    pause(300).await;
    environment.kill(Side::Worker).await;
    environment.gateway(json!({"action": "forget"})).await;
    environment.world.voice("290000000000000012", None).await;
    environment
        .world
        .voice("290000000000000011", Some(LOUNGE))
        .await;
    environment.world.discord.delete_channel(&room).await;
    pause(500).await;
    environment.restart(Side::Worker, &[]);
}

/// A second worker takes over, as in a rolling deploy: the first must end by itself with 75.
async fn two_workers(environment: &mut Environment) {
    let [elsewhere] = free_addresses();
    let second = environment.another_worker(&elsewhere);
    first_ends(environment, second, &elsewhere).await;
}

async fn first_ends(environment: &mut Environment, second: Process, elsewhere: &str) {
    environment
        .ends_with(Side::Worker, 75, Duration::from_secs(10))
        .await;
    environment.world.worker_url = format!("http://{elsewhere}");
    environment.world.replace(Side::Worker, second);
}

/// The store is cut short, some of its bytes flip, or it becomes rubbish. In the first two cases the
/// journal may repair it, or may be the damaged file: then the store is whole, or an older one.
async fn damage(environment: &mut Environment, rng: &mut StdRng) {
    environment.kill(Side::Hub).await;
    let how = rng.random_range(0..3);
    for file in environment.store().paths() {
        let mut bytes = std::fs::read(&file).unwrap();
        match how {
            0 => bytes.truncate(bytes.len() / 2),
            1 if !bytes.is_empty() => {
                for _ in 0..8 {
                    let at = rng.random_range(0..bytes.len());
                    bytes[at] ^= 0xff;
                }
            }
            _ => rng.fill(&mut bytes[..]),
        }
        std::fs::write(&file, bytes).unwrap();
    }
    start(environment, Side::Hub).await;
    if how == 2 {
        alarmed(environment, Side::Hub, "set aside").await;
        let mut files = environment.store().paths().into_iter();
        if !files.any(|path| path.to_string_lossy().contains(".damaged-")) {
            environment.complain("what was damaged is not kept");
        }
    }
}

/// A room is made, filled, and deleted while somebody comes in.
async fn delete_a_room(environment: &Environment) {
    for _ in 0..5 {
        let body = json!({"guildId": GUILD, "name": "doomed"});
        let discord = &environment.world.discord;
        let room = discord.create_channel(body).await;
        let sit = async |user: &str| {
            let body = json!({"guildId": GUILD, "userId": user, "channelId": room});
            // A user who comes too late is refused.
            let _answer = discord.ask(Method::POST, "voice", &body).await;
        };
        tokio::join!(sit(ADA), sit(GRACE), discord.delete_channel(&room));
    }
}
