//! The command `gateway-worker check --reach`: asks the hub and Discord, and changes nothing.

use bytes::Bytes;
use launch::check::Report;
use proto::problem::Code;
use proto::signing::WINDOW_S;
use reqwest::Url;

use crate::config::{Config, ms};
use crate::hub::{ANSWER_BYTES_MAX, Endpoint, Hub, Problem};
use crate::shards::{Found, inspect};

/// A signed body that no endpoint of the hub acts on: its type does not exist. The hub verifies the
/// signature before it reads the type, so its answer says whether the secret is right.
const NOTHING: &[u8] = br#"{"type":"check"}"#;

/// Asks the hub, Discord and its gateway: one line for each check.
pub async fn reach(config: &Config, report: &mut Report) {
    // An earlier installation would have made the same choice.
    let _installed = rustls::crypto::aws_lc_rs::default_provider().install_default();
    hub(config, report).await;
    match inspect(config).await {
        Ok(found) => {
            discord(config, &found, report);
            let url = config.discord.discord_gateway_url.clone();
            gateway(config, url.or_else(|| Url::parse(&found.gateway).ok()), report).await;
        }
        Err(why) => report.wrong(
            "Discord",
            &format!(
                "{why}, at {}. Is DISCORD_BOT_TOKEN the token on the page Bot of your application, and can this machine reach Discord without a proxy?",
                config.discord.discord_api_url
            ),
        ),
    }
}

async fn hub(config: &Config, report: &mut Report) {
    let about = format!("hub {}", config.hub_endpoint);
    let hub = match Hub::new(config) {
        Ok(hub) => hub,
        Err(error) => {
            let why = error.without_url();
            report.wrong(&about, &format!("no request can be made: {why}."));
            return;
        }
    };
    let body = Bytes::from_static(NOTHING);
    let reply = match hub
        .post(Endpoint::Identify, &Hub::id(), body, ANSWER_BYTES_MAX)
        .await
    {
        Ok(reply) => reply,
        Err(why) => {
            report.wrong(
                &about,
                &format!(
                    "no answer ({}). Start the hub, and let HUB_ENDPOINT name its INTERNAL_LISTEN.",
                    why.label()
                ),
            );
            return;
        }
    };
    let code = serde_json::from_slice::<Problem>(&reply.body)
        .ok()
        .and_then(|problem| problem.code);
    match (reply.status, code) {
        (400, Some(Code::BadRequest)) => {
            report.ok(&about, "it answers, and takes HUB_SECRET");
        }
        (401, Some(Code::StaleTimestamp)) => report.wrong(
            &about,
            &format!("its clock and this one differ by more than {WINDOW_S} s. Run NTP on both machines."),
        ),
        (401, _) => report.wrong(
            &about,
            "it refuses HUB_SECRET. The first secret here must be one of the hub's.",
        ),
        (status, _) => report.wrong(
            &about,
            &format!(
                "something answers with status {status}, and it is not a hub's internal listener. Let HUB_ENDPOINT name the hub's INTERNAL_LISTEN."
            ),
        ),
    }
    let now_s = launch::clock::now_ms() / 1_000;
    let apart_s = reply.clock_s.map_or(0, |clock_s| clock_s.abs_diff(now_s));
    if apart_s.saturating_mul(1_000) > config.delivery.clock_skew_alarm_ms {
        report.warning(
            &about,
            &format!("its clock and this one differ by {apart_s} s. Run NTP on both machines."),
        );
    }
}

fn discord(config: &Config, found: &Found, report: &mut Report) {
    report.ok("Discord", "it takes DISCORD_BOT_TOKEN");
    let shards = found.shards;
    match config.discord.shard_count {
        Some(count) if count < shards => report.warning(
            "shards",
            &format!("SHARD_COUNT is {count}, and Discord recommends {shards}. Raise it before Discord refuses the shards."),
        ),
        Some(count) => report.ok("shards", &format!("SHARD_COUNT is {count}; Discord recommends {shards}")),
        None => report.ok("shards", &format!("{shards}, as Discord recommends")),
    }
    let (used, most) = (found.identifies, config.gateway.identifies_per_day_max);
    let used_of = format!("{used} of {most} identifies are used, in 24 hours");
    if found.exhausted {
        report.wrong(
            "identify budget",
            &format!("{used_of}: the worker waits for the next window. Find what restarts it."),
        );
    } else if used > config.gateway.identifies_free {
        report.warning(
            "identify budget",
            &format!("{used_of}: the worker waits before each. Find what restarts it."),
        );
    } else {
        report.ok("identify budget", &used_of);
    }
    for (guild, is_in) in &found.guilds {
        let about = format!("guild {guild}");
        match is_in {
            Ok(true) => report.ok(&about, "the bot is in it"),
            Ok(false) => report.wrong(
                &about,
                "the bot is not in it. Invite the bot, or correct PRIMARY_GUILD_ID and GUILD_IDS.",
            ),
            Err(why) => report.wrong(&about, &format!("{why}. Try again later.")),
        }
    }
}

/// Asks the gateway's server over plain HTTP: any answer shows that it can be reached. No gateway
/// session begins, and no identify is used.
async fn gateway(config: &Config, url: Option<Url>, report: &mut Report) {
    let Some(url) = url else {
        let text = "Discord's answer has no valid gateway address. Try again later.";
        report.wrong("gateway", text);
        return;
    };
    let about = format!("gateway {url}");
    let http = url.as_str().replacen("ws", "http", 1);
    let client = reqwest::Client::builder()
        .timeout(ms(config.discord.discord_timeout_ms))
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .build();
    let answered = match client {
        Ok(client) => client.get(http).send().await.is_ok(),
        Err(_) => false,
    };
    if answered {
        report.ok(&about, "it can be reached");
    } else {
        report.wrong(
            &about,
            "no answer. Look at DNS and the firewall; Roomwire uses no outbound proxy.",
        );
    }
}
