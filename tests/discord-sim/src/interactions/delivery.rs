//! Deliveries: interactions and webhook events, signed as Discord signs them.

use std::time::{Duration, Instant};

use ed25519_dalek::{Signer, SigningKey};
use serde::Deserialize;
use serde_json::{Value, json};

use super::Interaction;
use crate::gateway::Which;
use crate::snowflake::{Id, hash_of};
use crate::state::permissions;
use crate::state::{APPLICATION_ID, Guild, OWNER_ID, TEXT_CHANNEL, nth};
use crate::timestamp::iso8601;
use crate::{Sim, render};

/// How long Discord waits for the first answer.
pub(crate) const DELIVERY_TIMEOUT: Duration = Duration::from_secs(3);
/// The largest answer that is read, in bytes.
const ANSWER_BYTES_MAX: usize = 1 << 20;

/// The application's key pair: fixed, and public.
fn key() -> SigningKey {
    SigningKey::from_bytes(b"discord-sim fixed signing key 01")
}

/// The application's public key, in hexadecimal, as the developer portal shows it.
pub(crate) fn public_key() -> String {
    hex::encode(key().verifying_key().to_bytes())
}

/// What the signature of a delivery is to be.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Signature {
    /// Right.
    #[default]
    Good,
    /// Wrong in one bit, as Discord sends them on purpose.
    Bad,
    /// Left out.
    Missing,
}

/// A control request: deliver this interaction.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct InteractionWish {
    interaction: serde_json::Map<String, Value>,
    #[serde(default)]
    signature: Signature,
    /// Unix seconds to sign with, instead of now.
    #[serde(default)]
    timestamp: Option<u64>,
}

/// A control request: deliver this webhook event.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct EventWish {
    event: Value,
    #[serde(default)]
    signature: Signature,
    /// Unix seconds to sign with, instead of now.
    #[serde(default)]
    timestamp: Option<u64>,
}

/// Delivers an interaction: to `SIM_INTERACTIONS_URL` if it is set, else over the gateway. The
/// two exclude each other, as with Discord.
pub(crate) async fn deliver(sim: &Sim, wish: InteractionWish) -> Result<Value, String> {
    let now_ms = sim.now_ms();
    let (interaction, body) = prepare(sim, wish.interaction, now_ms)?;
    let token = interaction.token.clone();
    sim.interactions().remember(interaction);
    let Some(url) = sim.settings().sim_interactions_url.clone() else {
        let guild = body["guild_id"]
            .as_str()
            .and_then(|id| id.parse::<Id>().ok());
        let shard = guild.map_or(0, |guild| {
            u32::try_from(guild.shard(sim.settings().sim_shards)).unwrap_or(0)
        });
        let which = Which {
            shard: Some(shard),
            session: None,
        };
        let sessions = sim
            .world()
            .gateway
            .dispatch_all(&which, "INTERACTION_CREATE", &body);
        return Ok(
            json!({"status": null, "body": null, "ms": 0, "gatewaySessions": sessions, "token": token}),
        );
    };
    let answer = post(sim, &url, &body, wish.signature, wish.timestamp).await;
    if answer["status"] == 200 && wish.signature == Signature::Good {
        let message = sim.world().state.next_id(now_ms);
        if let Some(interaction) = sim.interactions().get_mut(&token)
            // An answer through the API may have come first.
            && interaction.answered.is_none()
        {
            interaction.answer(&answer["body"], message, sim.now_ms());
        }
    }
    let mut answer = answer;
    answer["token"] = token.into();
    Ok(answer)
}

/// Delivers a webhook event (`events/webhook-events.mdx`), once.
pub(crate) async fn deliver_event(sim: &Sim, wish: EventWish) -> Result<Value, String> {
    let Some(url) = sim.settings().sim_webhook_events_url.clone() else {
        return Err("SIM_WEBHOOK_EVENTS_URL is not set".to_owned());
    };
    let mut body = json!({"version": 1, "application_id": APPLICATION_ID});
    if wish.event["type"] == 0 {
        body["type"] = 0.into();
    } else {
        let mut event = wish.event;
        let Some(fields) = event.as_object_mut() else {
            return Err("event: an object".to_owned());
        };
        fields
            .entry("timestamp")
            .or_insert_with(|| iso8601(sim.now_ms()).into());
        body["type"] = 1.into();
        body["event"] = event;
    }
    Ok(post(sim, &url, &body, wish.signature, wish.timestamp).await)
}

/// POSTs a signed body, and reports `{status, body, ms}`; without an answer the status is null.
async fn post(
    sim: &Sim,
    url: &str,
    body: &Value,
    signature: Signature,
    at_s: Option<u64>,
) -> Value {
    let bytes = body.to_string();
    let timestamp = at_s.unwrap_or_else(|| sim.now_ms() / 1_000).to_string();
    let mut request = sim
        .shared
        .outbound
        .post(url)
        .header("content-type", "application/json")
        .header(
            "user-agent",
            "Discord-Interactions/1.0 (+https://discord.com)",
        );
    if signature != Signature::Missing {
        let mut signed = key()
            .sign([timestamp.as_bytes(), bytes.as_bytes()].concat().as_slice())
            .to_bytes();
        if signature == Signature::Bad {
            signed[7] ^= 1;
        }
        request = request
            .header("x-signature-ed25519", hex::encode(signed))
            .header("x-signature-timestamp", timestamp);
    }
    let begun = Instant::now();
    let answered = async {
        let mut response = request.body(bytes).send().await?;
        let status = response.status().as_u16();
        let kind = response
            .headers()
            .get("content-type")
            .and_then(|value| value.to_str().ok())
            .map(str::to_owned);
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await? {
            if body.len() + chunk.len() > ANSWER_BYTES_MAX {
                break;
            }
            body.extend_from_slice(&chunk);
        }
        Ok::<_, reqwest::Error>((status, kind, body))
    }
    .await;
    let ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
    match answered {
        Ok((status, kind, body)) => {
            let body = serde_json::from_slice(&body)
                .unwrap_or_else(|_| Value::String(String::from_utf8_lossy(&body).into_owned()));
            json!({"status": status, "body": body, "ms": ms, "contentType": kind})
        }
        Err(error) => {
            let why = if error.is_timeout() {
                "no answer within 3 s"
            } else {
                "not reachable"
            };
            json!({"status": null, "body": null, "ms": ms, "error": why})
        }
    }
}

/// Adds what the request leaves out: id, token, version, application, and
/// who and where.
fn prepare(
    sim: &Sim,
    mut fields: serde_json::Map<String, Value>,
    now_ms: u64,
) -> Result<(Interaction, Value), String> {
    let kind = fields
        .get("type")
        .and_then(Value::as_u64)
        .ok_or("interaction.type: a number")?;
    let mut world = sim.world();
    let fresh = world.state.next_id(now_ms);
    let id = match fields.get("id") {
        None => fresh,
        Some(id) => id
            .as_str()
            .and_then(|id| id.parse().ok())
            .ok_or("interaction.id: a snowflake")?,
    };
    let mut fill = |key: &str, value: Value| {
        fields.entry(key).or_insert(value);
    };
    fill("id", json!(id));
    fill(
        "token",
        hash_of(&[id.get(), sim.settings().sim_seed]).into(),
    );
    fill("version", 1.into());
    fill("application_id", json!(APPLICATION_ID));
    fill("entitlements", json!([]));
    let state = &world.state;
    let id_in = |value: Option<&Value>| {
        value
            .and_then(Value::as_str)
            .and_then(|id| id.parse::<Id>().ok())
    };
    let guild: Option<&Guild> = id_in(fields.get("guild_id")).and_then(|id| state.guilds.get(&id));
    let user = id_in(fields.get("member").map(|member| &member["user"]["id"]))
        .or_else(|| id_in(fields.get("user").map(|user| &user["id"])))
        .unwrap_or(OWNER_ID);
    let channel = id_in(fields.get("channel_id"))
        .or_else(|| guild.map(|guild| nth(guild.id, TEXT_CHANNEL)))
        .unwrap_or(APPLICATION_ID);
    let mut fill = |key: &str, value: Value| {
        fields.entry(key).or_insert(value);
    };
    if kind != 1 {
        fill("locale", "en-US".into());
        fill("attachment_size_limit", (10 * 1_024 * 1_024).into());
        if let Some(guild) = guild {
            let place = guild.channels.get(&channel);
            let may = |user| {
                place
                    .map_or(0, |place| permissions::in_channel(guild, place, user))
                    .to_string()
            };
            fill("channel_id", json!(channel));
            fill("guild_locale", "en-US".into());
            fill(
                "guild",
                json!({"id": guild.id, "features": [], "locale": "en-US"}),
            );
            fill("context", 0.into());
            fill("app_permissions", may(APPLICATION_ID).into());
            fill("authorizing_integration_owners", json!({"0": guild.id}));
            if let Some(place) = place {
                fill("channel", render::channel(guild, place));
            }
            if let Some(mut member) = render::member(state, guild, user) {
                member["permissions"] = may(user).into();
                fill("member", member);
            }
        } else {
            fill("app_permissions", "0".into());
            fill("authorizing_integration_owners", json!({}));
            if let Some(user) = state.users.get(&user) {
                fill("user", render::user(user));
            }
        }
    }
    let token = fields
        .get("token")
        .and_then(Value::as_str)
        .filter(|token| !token.is_empty() && !token.contains('/'))
        .ok_or("interaction.token: a string")?
        .to_owned();
    let interaction = Interaction {
        id,
        token,
        kind,
        guild: guild.map(|guild| guild.id),
        channel,
        user,
        created_ms: now_ms,
        answered: None,
        original: None,
        follow_ups: Vec::new(),
    };
    drop(world);
    Ok((interaction, Value::Object(fields)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_public_key_is_fixed() {
        assert_eq!(public_key().len(), 64);
        assert_eq!(public_key(), public_key());
    }
}
