//! The worker is away while Discord forgets its session: people leave and move, rooms are deleted,
//! and then, another time, the bot is removed from a guild as well.

use std::time::Duration;

use e2e::{GUILD, LOUNGE, STUDY};
use launch::clock::now_ms;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::Size;
use super::house::House;
use super::showing::Showing;
use super::viewer::Viewer;
use crate::checker::{Frame, Reduction, Scene, Step, Subject, Truth, What};
use crate::stage::Side;

/// How soon after its start everything must be right (a promise).
const RIGHT_WITHIN: Duration = Duration::from_secs(30);
/// Somebody who leaves, somebody who moves, somebody in a room that is deleted, somebody who stays.
const PEOPLE: [&str; 4] = [
    "290000000000000021",
    "290000000000000022",
    "290000000000000023",
    "290000000000000024",
];

pub(super) async fn give(size: Size, seed: u64) -> Showing {
    let expires_s = size.of(1, 20);
    // How long Discord wants between two identifies.
    let every_ms = size.of(300, 5_000);
    let house = House {
        guilds: 3,
        sim: vec![
            ("SIM_SESSION_TTL_S", expires_s.to_string()),
            ("SIM_IDENTIFY_EVERY_MS", every_ms.to_string()),
        ],
        worker: vec![
            ("IDENTIFY_EVERY_MS", every_ms.to_string()),
            ("IDENTIFY_AGAIN_MS", every_ms.to_string()),
        ],
        ..House::default()
    };
    let mut showing = Showing::begin(&house, 2, seed).await;
    let body = json!({"guildId": GUILD, "name": "short lived"});
    let made = showing.open.world.control("channels", body).await;
    let room = made["channelId"].as_str().unwrap().to_owned();
    let [leaves, moves, in_it, stays] = PEOPLE;
    for (who, channel) in [
        (leaves, LOUNGE),
        (moves, LOUNGE),
        (in_it, &room),
        (stays, STUDY),
    ] {
        showing.open.world.voice(who, Some(channel)).await;
    }
    showing.go_on(every_ms).await;

    let began_ms = now_ms();
    showing.open.kill(Side::Worker).await;
    showing.open.world.voice(leaves, None).await;
    showing.open.world.voice(moves, Some(STUDY)).await;
    let url = format!("{}/_sim/channels/{room}", showing.open.world.sim_url);
    let deleted = showing.open.world.http.delete(url).send().await.unwrap();
    assert!(deleted.status().is_success(), "the room is not deleted");
    showing.go_on(1_000 * expires_s + 500).await;
    showing.open.start(Side::Worker);
    let started = Instant::now();
    let took = showing.right_again(started).await;
    showing.lasted_since(began_ms);
    showing.go_on(500).await;
    showing.end(RIGHT_WITHIN).await;
    showing.report.say(format!(
        "session expired after {expires_s} s; right again {took:.2?} after the worker's start"
    ));
    showing.judge_time(took, RIGHT_WITHIN);
    let identifies = showing.identifies();
    if identifies != 1 {
        showing
            .report
            .wrong(format!("{identifies} identifies, not 1"));
    }
    showing.judge_snapshots(0, 0);
    without_a_guild(&mut showing).await;
    showing
}

/// Another Discord takes the place of this one: it has no session, nobody sits anywhere but who is
/// told to, no room but the usual ones is there, and the bot is not in the last guild any more.
async fn without_a_guild(showing: &mut Showing) {
    let before: Vec<(Scene, usize)> = showing
        .viewers
        .iter()
        .map(|viewer| (belief(viewer), viewer.heard()))
        .collect();
    showing.open.kill(Side::Worker).await;
    showing.open.another_discord(&[("SIM_GUILDS", "2")]).await;
    let [_, _, _, stays] = PEOPLE;
    showing.open.world.voice(stays, Some(STUDY)).await;
    showing.open.start(Side::Worker);
    let started = Instant::now();
    let state = showing.open.truth().await;
    let gone = showing.open.guilds.last().cloned().unwrap_or_default();
    while let Some(wrong) = who_is_wrong(showing, &state, &gone) {
        if started.elapsed() > RIGHT_WITHIN {
            let line = format!("without a guild: {wrong} is not right");
            showing.report.wrong(line);
            break;
        }
        showing.go_on(100).await;
    }
    let took = started.elapsed();
    let mut leaves = 0;
    let mut wrongs = Vec::new();
    for (viewer, (scene, heard)) in showing.viewers.iter().zip(&before) {
        let truth = seen(&state, viewer);
        let steps = steps_since(viewer, *heard);
        for (user, seat) in &scene.seats {
            // Who sat in a room that is gone left with it.
            if truth.seats.contains_key(user) || !truth.rooms.contains_key(&seat.channel) {
                continue;
            }
            let told = steps.iter().filter(|(subject, step)| {
                *subject == Subject::User(user.clone())
                    && matches!(step, Step::Left { channel, .. } if *channel == seat.channel)
            });
            let told = told.count();
            leaves += told;
            if told != 1 && viewer.guild() != gone {
                let name = viewer.name();
                wrongs.push(format!("{name}: {user} left, told {told} times"));
            }
        }
    }
    if leaves == 0 {
        wrongs.push("nobody was there to leave".to_owned());
    }
    let of_the_gone = showing.viewers.iter().filter(|one| one.guild() == gone);
    let believed = of_the_gone.map(|viewer| {
        let scene = belief(viewer);
        (scene.rooms.len(), scene.seats.len(), freshness(viewer))
    });
    let believed: Vec<_> = believed.collect();
    for (_, _, gateway) in &believed {
        if gateway["state"] != "down" || gateway["reason"] != "removed" {
            wrongs.push(format!("of the guild that is gone it is said: {gateway}"));
        }
    }
    showing.report.say(format!(
        "a guild removed, everybody gone but one: right {took:.2?} after the worker's start, {leaves} leaves told; rooms, people and freshness of the guild that is gone: {:?}",
        believed.first().map(|(rooms, people, gateway)| format!("{rooms}, {people}, {gateway}"))
    ));
    showing.report.wrongs.extend(wrongs);
}

/// The name of somebody who does not believe the truth, or does not know that their guild is gone.
fn who_is_wrong(showing: &Showing, state: &Value, gone: &str) -> Option<String> {
    let wrong = |viewer: &&Viewer| {
        if viewer.guild() == gone {
            freshness(viewer)["reason"] != "removed"
        } else {
            belief(viewer) != seen(state, viewer)
        }
    };
    let found = showing.viewers.iter().find(wrong)?;
    Some(found.name().to_owned())
}

/// What a viewer should see.
fn seen(state: &Value, viewer: &Viewer) -> Scene {
    let only = viewer.record().only;
    let mut story = Truth::new(viewer.guild(), state, &[]).story(only.as_ref());
    story.moments.swap_remove(0).scene
}

/// What a viewer makes of all that it heard.
fn belief(viewer: &Viewer) -> Scene {
    let mut reduction = Reduction::default();
    for heard in viewer.record().heard {
        match heard.what {
            What::Opened { .. } => reduction.opened(),
            What::Frame(text) => drop(reduction.hear(&Frame::read(&text))),
            What::Ended(_) | What::Quiet { .. } => {}
        }
    }
    reduction.scene
}

fn steps_since(viewer: &Viewer, heard: usize) -> Vec<(Subject, Step)> {
    let all = viewer.record().heard.into_iter().skip(heard);
    all.filter_map(|heard| match heard.what {
        What::Frame(text) => match Frame::read(&text) {
            Frame::Event { subject, step, .. } => Some((subject, step)),
            _ => None,
        },
        _ => None,
    })
    .collect()
}

/// The last that a viewer was told of how fresh its guild is.
fn freshness(viewer: &Viewer) -> Value {
    let frames = viewer.frames();
    let mut told = frames.iter().rev().filter_map(|text| {
        let frame: Value = serde_json::from_str(text).ok()?;
        match frame["event"].as_str()? {
            "gateway.state" => Some(frame["payload"].clone()),
            "guild.snapshot" => Some(frame["payload"]["gateway"].clone()),
            _ => None,
        }
    });
    told.next().unwrap_or(Value::Null)
}
