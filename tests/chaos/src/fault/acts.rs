//! What happens in each fault, and what must be seen while it lasts.

use std::time::Duration;

use e2e::{ADA, BOT_ROLE, GRACE, GUILD, LOUNGE, Process};
use rand::RngExt as _;
use rand::rngs::StdRng;
use rustix::process::Signal;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::Act;
use super::seen::{SOON, alarmed, ready, told};
use crate::proxy::Misdeed;
use crate::stage::{Side, Stage, has_fault_programs};
use crate::subscriber::Subscriber;
use crate::waiting::{LOOK, within};

/// How long everything may take to be right before a fault of which something must be seen.
const RIGHT: Duration = Duration::from_secs(30);
/// How long a process may take to pass its fail point: events come at some ten a second.
const PASSED: Duration = Duration::from_secs(20);
/// An outbox that an outage of the hub fills.
const SMALL_OUTBOX: &str = "40";
/// Somebody who is never seen elsewhere.
const STILL: &str = "290000000000000031";
/// How long the guild's outage lasts.
const OUTAGE: Duration = Duration::from_millis(1_500);

/// Starts this side again. The hub must be ready soon.
async fn start(stage: &mut Stage, side: Side) {
    stage.start(side, &[]);
    if side == Side::Hub {
        ready(stage, true).await;
    }
}

async fn pause(ms: u64) {
    sleep(Duration::from_millis(ms)).await;
}

/// Makes it happen; on return it is over.
pub(super) async fn act(act: Act, stage: &mut Stage, witness: &Subscriber, luck: &mut StdRng) {
    match act {
        Act::FailPoint(side, points) => at_a_fail_point(stage, side, points, luck).await,
        Act::Kill(side) => {
            stage.kill(side).await;
            pause(luck.random_range(0..1_200)).await;
            start(stage, side).await;
        }
        Act::HalfBodyThenKill => {
            let before = stage.proxy.misdeeds();
            stage.proxy.next(Misdeed::HalfBody);
            if !within(RIGHT, || stage.proxy.misdeeds() > before).await {
                stage.complain("no delivery to be killed in");
            }
            stage.kill(Side::Worker).await;
            pause(luck.random_range(0..500)).await;
            stage.start(Side::Worker, &[]);
        }
        Act::Terminate(side) => {
            stage.signal(side, Signal::TERM);
            stage.ends_with(side, 0, Duration::from_secs(10)).await;
            pause(luck.random_range(0..300)).await;
            start(stage, side).await;
        }
        Act::Absent => absent(stage).await,
        Act::Stop(side, ms) => {
            stage.signal(side, Signal::STOP);
            pause(ms).await;
            stage.signal(side, Signal::CONT);
        }
        Act::HubAway {
            outbox_full,
            worker_killed,
        } => {
            if outbox_full {
                deploy(stage, witness, SMALL_OUTBOX).await;
            }
            let before = witness.snapshots();
            stage.kill(Side::Hub).await;
            pause(2_500).await;
            if worker_killed {
                stage.kill(Side::Worker).await;
                stage.start(Side::Worker, &[]);
            }
            start(stage, Side::Hub).await;
            if outbox_full {
                // Killed, it owes nothing any more, and what Discord replays may fit.
                if !worker_killed && !within(RIGHT, || witness.snapshots() > before).await {
                    stage.complain("nobody is told anew what the outbox lost");
                }
                deploy(stage, witness, "").await;
            }
        }
        Act::BadAnswers(kinds) => {
            stage.proxy.mood(50, kinds);
            pause(luck.random_range(1_000..2_500)).await;
            stage.proxy.behave();
            if kinds == super::REFUSED {
                alarmed(stage, Side::Worker, "set aside").await;
            }
        }
        Act::Close(codes) => {
            let code = codes[luck.random_range(0..codes.len())];
            let wish = json!({"action": "close", "code": code});
            stage.gateway(wish).await;
        }
        Act::Refused(codes) => {
            let code = codes[luck.random_range(0..codes.len())];
            refuse(stage, witness, code).await;
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
        Act::BlackHole => {
            stage.cable.swallow();
            pause(luck.random_range(2_000..3_500)).await;
            stage.cable.mend();
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
        Act::Illegible => illegible(stage).await,
        Act::GuildOutage => outage(stage, witness).await,
        Act::TwoWorkers => two_workers(stage).await,
        Act::Zombie => {
            stage.signal(Side::Worker, Signal::STOP);
            let [elsewhere] = e2e::free_addresses();
            let second = stage.another_worker(&elsewhere);
            pause(1_000).await;
            stage.signal(Side::Worker, Signal::CONT);
            first_ends(stage, second, &elsewhere).await;
        }
        Act::Nothing => {}
        Act::DiskFull => disk_full(stage, witness, luck).await,
        Act::StoreDamaged => damage(stage, luck).await,
        Act::StoreOlder => {
            stage.kill(Side::Hub).await;
            stage.store().keep();
            start(stage, Side::Hub).await;
            pause(luck.random_range(800..1_800)).await;
            stage.kill(Side::Hub).await;
            stage.store().restore();
            start(stage, Side::Hub).await;
        }
        Act::StoreGone => {
            stage.kill(Side::Hub).await;
            stage.store().remove();
            start(stage, Side::Hub).await;
        }
        Act::Clock => clocks(stage, witness, luck).await,
        Act::RoomDeleted => delete_a_room(stage).await,
        Act::NeverResumed => never_resumed(stage, witness, luck).await,
        Act::Forgotten => {
            stage.gateway(json!({"action": "forget"})).await;
            stage.gateway(json!({"action": "drop"})).await;
        }
    }
}

/// Once everything is told, a worker with an outbox of so many events takes over (empty: the usual).
async fn deploy(stage: &mut Stage, witness: &Subscriber, outbox: &str) {
    told(stage, witness, "live", "", RIGHT).await;
    let url = format!("{}/health", stage.world.worker_url);
    let until = Instant::now() + RIGHT;
    loop {
        let answer = stage.world.http.get(&url).send().await;
        let health: Value = match answer {
            Ok(answer) => answer.json().await.unwrap_or_default(),
            Err(_) => Value::Null,
        };
        let shard = &health["shards"][0];
        if shard["debts"] == 0 && shard["outboxEvents"] == 0 {
            break;
        }
        if Instant::now() > until {
            stage.complain(format!("the worker owes something after {RIGHT:?}"));
            break;
        }
        sleep(LOOK).await;
    }
    stage.signal(Side::Worker, Signal::TERM);
    stage
        .ends_with(Side::Worker, 0, Duration::from_secs(10))
        .await;
    stage.start(Side::Worker, &[("OUTBOX_EVENTS_MAX", outbox)]);
    told(stage, witness, "live", "", RIGHT).await;
}

/// The process is started anew with a fail point, which ends it. Where none is built in, it is killed
/// at random.
async fn at_a_fail_point(stage: &mut Stage, side: Side, points: &[&str], luck: &mut StdRng) {
    let point = points[luck.random_range(0..points.len())];
    let nth = luck.random_range(5..60);
    if has_fault_programs() {
        stage.kill(side).await;
        stage.start(side, &[("FAIL_POINT", &format!("{point}:{nth}"))]);
        if !stage.ended(side, PASSED).await {
            stage.complain(format!(
                "{side:?} never passed its fail point {point}:{nth}"
            ));
        }
    }
    stage.kill(side).await;
    pause(luck.random_range(0..600)).await;
    stage.disarm(side);
    if side == Side::Hub {
        ready(stage, true).await;
    }
}

/// Discord refuses for good: the worker ends and says what it was; pages are told.
async fn refuse(stage: &mut Stage, witness: &Subscriber, code: u16) {
    told(stage, witness, "live", "", RIGHT).await;
    let wish = json!({"action": "close", "code": code});
    stage.gateway(wish).await;
    stage.ends_with(Side::Worker, 69, SOON).await;
    told(stage, witness, "down", "discord_refused", SOON).await;
    let says = |log: String| {
        log.lines()
            .last()
            .is_some_and(|last| last.contains(&code.to_string()))
    };
    // What it wrote last is read a moment after its end.
    if !within(SOON, || says(stage.log(Side::Worker))).await {
        stage.complain(format!("the worker's last line does not say {code}"));
    }
}

/// Discord greets, and answers each RESUME by something else. In half of the runs the worker is killed
/// after the first. One identify must follow.
async fn never_resumed(stage: &mut Stage, witness: &Subscriber, luck: &mut StdRng) {
    told(stage, witness, "live", "", RIGHT).await;
    let [identified, resumed] = counted(stage).await;
    let code = [1000, 1001, 1011, 4000, 4003, 4006][luck.random_range(0..6)];
    let ways = [
        json!({"action": "resumes", "answer": "close", "code": code}),
        json!({"action": "resumes", "answer": "drop"}),
        json!({"action": "resumes", "answer": "nothing"}),
        json!({"action": "resumes", "answer": "invalidate"}),
    ];
    stage.gateway(ways[luck.random_range(0..4)].clone()).await;
    stage.gateway(json!({"action": "drop"})).await;
    if luck.random_range(0..2) == 0 {
        let until = Instant::now() + RIGHT;
        while counted(stage).await[1] == resumed && Instant::now() < until {
            sleep(LOOK).await;
        }
        stage.kill(Side::Worker).await;
        stage.start(Side::Worker, &[]);
    }
    let until = Instant::now() + RIGHT;
    while counted(stage).await[0] == identified && Instant::now() < until {
        sleep(LOOK).await;
    }
    told(stage, witness, "live", "", RIGHT).await;
    let wish = json!({"action": "resumes", "answer": "resumed"});
    stage.gateway(wish).await;
    let [now, _] = counted(stage).await;
    if now != identified + 1 {
        let more = now - identified;
        stage.complain(format!("{more} identifies for one session that was lost"));
    }
}

/// How often the bot identified, and asked to resume.
async fn counted(stage: &Stage) -> [u64; 2] {
    let counters = &stage.world.truth().await["counters"];
    ["identify", "resume"].map(|name| counters[name].as_u64().unwrap_or(0))
}

/// The guild is away at Discord for a while. Pages are told so; nobody leaves and no room goes.
async fn outage(stage: &mut Stage, witness: &Subscriber) {
    told(stage, witness, "live", "", RIGHT).await;
    let seconds = OUTAGE.as_secs_f64();
    let wish = json!({"action": "outage", "guildId": GUILD, "seconds": seconds});
    stage.gateway(wish).await;
    let began = Instant::now();
    told(stage, witness, "down", "outage", OUTAGE).await;
    // What happened before may still be under way.
    pause(100).await;
    let (steps, rooms) = (witness.steps(), witness.rooms());
    let more = within(OUTAGE / 2, || witness.steps() != steps).await;
    // Whoever looks too late may see the guild come back.
    if more && began.elapsed() < OUTAGE {
        let (now, left) = (witness.steps() - steps, witness.rooms());
        stage.complain(format!(
            "{now} steps told during an outage; {left} rooms, {rooms} before"
        ));
    }
    sleep(OUTAGE.saturating_sub(began.elapsed())).await;
    pause(50).await;
}

/// Dispatches without what is needed to read them, of a room, and of somebody in another, that nobody else
/// touches: what REST says of them fits wherever it comes among the events. The room is denied to @everyone,
/// since one that may have become so is told as if it had, which it never was in truth.
async fn illegible(stage: &mut Stage) {
    let body = json!({"guildId": GUILD, "name": "still"});
    let made = stage.world.control("channels", body).await;
    let room = made["channelId"].as_str().unwrap_or_default().to_owned();
    stage.world.voice(STILL, Some(&room)).await;
    // The bot may view it, so that REST has an answer.
    let deny = json!([{"id": GUILD, "type": 0, "deny": "1024"}, {"id": BOT_ROLE, "type": 0, "allow": "1049600"}]);
    let body = json!({"guildId": GUILD, "name": "denied", "overwrites": deny});
    let made = stage.world.control("channels", body).await;
    let denied = made["channelId"].as_str().unwrap_or_default().to_owned();
    let nameless = json!({"id": denied, "guild_id": GUILD, "type": 2, "name": null});
    let nowhere = json!({"guild_id": GUILD, "user_id": STILL, "mute": null});
    for (event, data) in [
        ("CHANNEL_UPDATE", nameless),
        ("VOICE_STATE_UPDATE", nowhere),
    ] {
        let wish = json!({"action": "dispatch", "event": event, "data": data});
        stage.gateway(wish).await;
    }
    pause(300).await;
}

/// The hub's store can not grow for a while: it takes nothing, is not ready, and says so. In half of
/// the runs it is killed then: what it took must be there.
async fn disk_full(stage: &mut Stage, witness: &Subscriber, luck: &mut StdRng) {
    told(stage, witness, "live", "", RIGHT).await;
    let before = stage.proxy.unavailable();
    stage.limit_files(Some(4_096));
    told(stage, witness, "down", "store_failing", SOON).await;
    ready(stage, false).await;
    if !within(SOON, || stage.proxy.unavailable() > before).await {
        stage.complain("no delivery is answered with 503");
    }
    alarmed(stage, Side::Hub, "store").await;
    pause(luck.random_range(200..1_000)).await;
    if luck.random_range(0..2) == 0 {
        stage.kill(Side::Hub).await;
        start(stage, Side::Hub).await;
    } else {
        stage.limit_files(None);
        ready(stage, true).await;
    }
}

/// Clocks jump, and back. By less than a minute it costs nobody their connection; if only one jumps by
/// more, every signature is stale as long as it lasts.
async fn clocks(stage: &mut Stage, witness: &Subscriber, luck: &mut StdRng) {
    let difference = ["+3600", "-3600", "+50", "-50"][luck.random_range(0..4)];
    let sides: &[Side] = match luck.random_range(0..3) {
        0 => &[Side::Hub, Side::Worker],
        1 => &[Side::Hub],
        _ => &[Side::Worker],
    };
    told(stage, witness, "live", "", RIGHT).await;
    let ends = witness.ends();
    for side in sides {
        stage.set_clock(*side, difference);
    }
    pause(1_500).await;
    for side in sides {
        stage.set_clock(*side, "+0");
    }
    if difference.len() == 3 && witness.ends() != ends {
        stage.complain(format!(
            "a clock that is off by {difference} s ended connections"
        ));
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
    let second = stage.another_worker(&elsewhere);
    first_ends(stage, second, &elsewhere).await;
}

async fn first_ends(stage: &mut Stage, second: Process, elsewhere: &str) {
    stage
        .ends_with(Side::Worker, 75, Duration::from_secs(10))
        .await;
    stage.world.worker_url = format!("http://{elsewhere}");
    stage.replace(Side::Worker, second);
}

/// The store is cut short, some of its bytes flip, or nothing of it is a store any more. Of the first
/// two the journal may know better, or may be what is hit: then the store is whole, or an older one.
async fn damage(stage: &mut Stage, luck: &mut StdRng) {
    stage.kill(Side::Hub).await;
    let how = luck.random_range(0..3);
    for file in stage.store().paths() {
        let mut bytes = std::fs::read(&file).unwrap();
        match how {
            0 => bytes.truncate(bytes.len() / 2),
            1 if !bytes.is_empty() => {
                for _ in 0..8 {
                    let at = luck.random_range(0..bytes.len());
                    bytes[at] ^= 0xff;
                }
            }
            _ => luck.fill(&mut bytes[..]),
        }
        std::fs::write(&file, bytes).unwrap();
    }
    start(stage, Side::Hub).await;
    if how == 2 {
        alarmed(stage, Side::Hub, "set aside").await;
        let mut files = stage.store().paths().into_iter();
        if !files.any(|path| path.to_string_lossy().contains(".damaged-")) {
            stage.complain("what was damaged is not kept");
        }
    }
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
