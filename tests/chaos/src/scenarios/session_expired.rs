//! The worker is away while Discord forgets its session: people leave and move, rooms are deleted,
//! and then, another time, the bot is removed from a guild as well.

use std::time::Duration;

use launch::clock::now_ms;
use serde_json::{Value, json};
use tokio::time::Instant;
use world::{GUILD, LOUNGE, STUDY};

use super::Size;
use super::fixture::{Fixture, another_discord};
use super::running::Running;
use crate::checker::{Frame, History, Roster, Step, Subject, What};
use crate::subscriber::Subscriber;
use world::Side;

/// How soon after its start everything must be right (a promise).
const RIGHT_WITHIN: Duration = Duration::from_secs(30);
/// Somebody who leaves, somebody who moves, somebody in a room that is deleted, somebody who stays.
const PEOPLE: [&str; 4] = [
    "290000000000000021",
    "290000000000000022",
    "290000000000000023",
    "290000000000000024",
];

pub(super) async fn run(size: Size, seed: u64) -> Running {
    let expires_s = size.of(1, 20);
    // How long Discord wants between two identifies.
    let every_ms = size.of(300, 5_000);
    let fixture = Fixture {
        guilds: 3,
        sim: vec![
            ("SIM_SESSION_TTL_S", expires_s.to_string()),
            ("SIM_IDENTIFY_EVERY_MS", every_ms.to_string()),
        ],
        worker: vec![
            ("IDENTIFY_EVERY_MS", every_ms.to_string()),
            ("IDENTIFY_AGAIN_MS", every_ms.to_string()),
        ],
        ..Fixture::default()
    };
    let mut running = Running::begin(&fixture, 2, seed).await;
    let body = json!({"guildId": GUILD, "name": "short lived"});
    let room = running.world.discord.create_channel(body).await;
    let [leaves, moves, in_it, stays] = PEOPLE;
    for (who, channel) in [
        (leaves, LOUNGE),
        (moves, LOUNGE),
        (in_it, &room),
        (stays, STUDY),
    ] {
        running.world.voice(who, Some(channel)).await;
    }
    running.go_on(every_ms).await;

    let began_ms = now_ms();
    running.world.kill(Side::Worker).await;
    running.world.voice(leaves, None).await;
    running.world.voice(moves, Some(STUDY)).await;
    running.world.discord.delete_channel(&room).await;
    running.go_on(1_000 * expires_s + 500).await;
    running.world.restart(Side::Worker, &[]);
    let started = Instant::now();
    let took = running.right_again(started).await;
    running.lasted_since(began_ms);
    running.go_on(500).await;
    running.end(RIGHT_WITHIN).await;
    running.report.say(format!(
        "session expired after {expires_s} s; right again {took:.2?} after the worker's start"
    ));
    running.judge_time(took, RIGHT_WITHIN);
    let identifies = running.identifies();
    if identifies != 1 {
        running
            .report
            .wrong(format!("{identifies} identifies, not 1"));
    }
    running.judge_snapshots(0, 0);
    without_a_guild(&mut running).await;
    running
}

/// Another Discord replaces this one: it has no session, only the usual rooms and the people
/// that this function seats, and the bot is not in the last guild any more.
async fn without_a_guild(running: &mut Running) {
    let before: Vec<(Roster, usize)> = running
        .viewers
        .iter()
        .map(|viewer| (viewer.roster(), viewer.received()))
        .collect();
    running.world.kill(Side::Worker).await;
    another_discord(&mut running.world, &[("SIM_GUILDS", "2")]).await;
    let [_, _, _, stays] = PEOPLE;
    running.world.voice(stays, Some(STUDY)).await;
    running.world.restart(Side::Worker, &[]);
    let started = Instant::now();
    let state = running.world.truth().await;
    let gone = running.guilds.last().cloned().unwrap_or_default();
    while let Some(wrong) = who_is_wrong(running, &state, &gone) {
        if started.elapsed() > RIGHT_WITHIN {
            let line = format!("without a guild: {wrong} is not right");
            running.report.wrong(line);
            break;
        }
        running.go_on(100).await;
    }
    let took = started.elapsed();
    let mut leaves = 0;
    let mut wrongs = Vec::new();
    for (viewer, (roster, received)) in running.viewers.iter().zip(&before) {
        let truth = seen(&state, viewer);
        let steps = steps_since(viewer, *received);
        for (user, seat) in &roster.seats {
            // The members of a deleted room left with it.
            if truth.seats.contains_key(user) || !truth.rooms.contains_key(&seat.channel) {
                continue;
            }
            let left = steps.iter().filter(|(subject, step)| {
                *subject == Subject::User(user.clone())
                    && matches!(step, Step::Left { channel, .. } if *channel == seat.channel)
            });
            let left = left.count();
            leaves += left;
            if left != 1 && viewer.guild() != gone {
                let name = viewer.name();
                wrongs.push(format!("{name}: {user} left, published {left} times"));
            }
        }
    }
    if leaves == 0 {
        wrongs.push("nobody was there to leave".to_owned());
    }
    let of_the_gone = running.viewers.iter().filter(|one| one.guild() == gone);
    let believed = of_the_gone.map(|viewer| {
        let roster = viewer.roster();
        (roster.rooms.len(), roster.seats.len(), viewer.freshness())
    });
    let believed: Vec<_> = believed.collect();
    for (_, _, (state, reason)) in &believed {
        if state != "down" || reason != "removed" {
            wrongs.push(format!(
                "the removed guild's gateway state is {state}: {reason}"
            ));
        }
    }
    running.report.say(format!(
        "a guild removed, everybody gone but one: right {took:.2?} after the worker's start, {leaves} leaves published; rooms, people and freshness of the guild that is gone: {:?}",
        believed.first().map(|(rooms, people, gateway)| format!("{rooms}, {people}, {gateway:?}"))
    ));
    running.report.wrongs.extend(wrongs);
}

/// The name of somebody who does not believe the truth, or does not know that their guild is gone.
fn who_is_wrong(running: &Running, state: &Value, gone: &str) -> Option<String> {
    let wrong = |viewer: &&Subscriber| {
        if viewer.guild() == gone {
            viewer.freshness().1 != "removed"
        } else {
            viewer.roster() != seen(state, viewer)
        }
    };
    let found = running.viewers.iter().find(wrong)?;
    Some(found.name().to_owned())
}

/// What a viewer should see.
fn seen(state: &Value, viewer: &Subscriber) -> Roster {
    let mut story = History::new(viewer.guild(), state, &[]).story(viewer.only());
    story.moments.swap_remove(0).roster
}

fn steps_since(viewer: &Subscriber, received: usize) -> Vec<(Subject, Step)> {
    let all = viewer.record().received.into_iter().skip(received);
    all.filter_map(|received| match received.what {
        What::Frame(text) => match Frame::read(&text) {
            Frame::Event { subject, step, .. } => Some((subject, step)),
            _ => None,
        },
        _ => None,
    })
    .collect()
}
