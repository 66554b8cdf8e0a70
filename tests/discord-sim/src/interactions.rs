//! Interactions and webhook events: signed as Discord signs, delivered, and what became of them.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use ed25519_dalek::{Signer, SigningKey};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::gateway::Which;
use crate::settings::Settings;
use crate::snowflake::{Id, hash_of};
use crate::timestamp::iso8601;
use crate::truth::permissions;
use crate::truth::{APPLICATION_ID, Guild, OWNER_ID, TEXT_CHANNEL, nth};
use crate::{Sim, render};

/// How long Discord waits for the first answer.
pub(crate) const DELIVERY_TIMEOUT: Duration = Duration::from_secs(3);
/// How long an interaction's token lives, milliseconds.
const TOKEN_TTL_MS: u64 = 15 * 60 * 1_000;
/// The largest answer that is read, in bytes.
const ANSWER_BYTES_MAX: usize = 1 << 20;
/// The flag of a message that only the user sees.
const EPHEMERAL: u64 = 1 << 6;
/// The flag of a message that is still being thought about.
const LOADING: u64 = 1 << 7;

/// The application's key pair: fixed, and known to everybody.
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

/// A wish of the control side: deliver this interaction.
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

/// A wish of the control side: deliver this webhook event.
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

/// A message that answers an interaction.
#[derive(Debug, Clone)]
pub(crate) struct Message {
    pub(crate) id: Id,
    pub(crate) content: String,
    pub(crate) embeds: Value,
    pub(crate) components: Value,
    pub(crate) flags: u64,
    pub(crate) created_ms: u64,
    pub(crate) edited_ms: Option<u64>,
}

/// An interaction, and what became of it.
#[derive(Debug, Clone)]
pub(crate) struct Interaction {
    pub(crate) id: Id,
    pub(crate) token: String,
    pub(crate) kind: u64,
    pub(crate) guild: Option<Id>,
    pub(crate) channel: Id,
    pub(crate) user: Id,
    pub(crate) created_ms: u64,
    /// The type of its first answer, once there is one.
    pub(crate) answered: Option<u64>,
    pub(crate) original: Option<Message>,
    pub(crate) follow_ups: Vec<Message>,
}

impl Interaction {
    /// Takes the first answer: a message is kept, a deferred one is loading.
    pub(crate) fn answer(&mut self, answer: &Value, message_id: Id, now_ms: u64) {
        let kind = answer["type"].as_u64().unwrap_or(0);
        self.answered = Some(kind);
        let data = &answer["data"];
        self.original = match kind {
            4 | 7 => Some(Message::read(data, message_id, now_ms)),
            5 => {
                let ephemeral = data["flags"].as_u64().unwrap_or(0) & EPHEMERAL;
                Some(Message {
                    flags: LOADING | ephemeral,
                    ..Message::read(&Value::Null, message_id, now_ms)
                })
            }
            _ => None,
        };
    }

    /// Whether its token is worth nothing any more.
    pub(crate) fn is_over(&self, now_ms: u64) -> bool {
        now_ms >= self.created_ms.saturating_add(TOKEN_TTL_MS)
    }
}

impl Message {
    pub(crate) fn read(data: &Value, id: Id, now_ms: u64) -> Self {
        let list = |field: &str| {
            if data[field].is_array() {
                data[field].clone()
            } else {
                json!([])
            }
        };
        Self {
            id,
            content: data["content"].as_str().unwrap_or_default().to_owned(),
            embeds: rich(list("embeds")),
            components: numbered(list("components"), &mut 0),
            flags: data["flags"].as_u64().unwrap_or(0),
            created_ms: now_ms,
            edited_ms: None,
        }
    }

    /// Changes what `data` names.
    pub(crate) fn edit(&mut self, data: &Value, now_ms: u64) {
        if let Some(content) = data.get("content") {
            content
                .as_str()
                .unwrap_or_default()
                .clone_into(&mut self.content);
        }
        if data["embeds"].is_array() {
            self.embeds = rich(data["embeds"].clone());
        }
        if data["components"].is_array() {
            self.components = numbered(data["components"].clone(), &mut 0);
        }
        self.flags &= !LOADING;
        self.edited_ms = Some(now_ms);
    }
}

/// Embeds of a webhook are always rich, and their fields say whether they stand in line.
fn rich(mut embeds: Value) -> Value {
    for embed in embeds
        .as_array_mut()
        .into_iter()
        .flatten()
        .filter_map(Value::as_object_mut)
    {
        embed.insert("type".to_owned(), "rich".into());
        let fields = embed.get_mut("fields").and_then(Value::as_array_mut);
        for field in fields
            .into_iter()
            .flatten()
            .filter_map(Value::as_object_mut)
        {
            field.entry("inline").or_insert(Value::Bool(false));
        }
    }
    embeds
}

/// Components without an id get one, counted up.
fn numbered(mut components: Value, last: &mut u64) -> Value {
    for component in components
        .as_array_mut()
        .into_iter()
        .flatten()
        .filter_map(Value::as_object_mut)
    {
        *last += 1;
        component.entry("id").or_insert_with(|| (*last).into());
        if let Some(inner) = component.remove("components") {
            component.insert("components".to_owned(), numbered(inner, last));
        }
    }
    components
}

/// The interactions of the last while, by token.
pub(crate) struct Interactions {
    by_token: BTreeMap<String, Interaction>,
    order: VecDeque<String>,
    most: usize,
}

impl Interactions {
    pub(crate) fn new(settings: &Settings) -> Self {
        Self {
            by_token: BTreeMap::new(),
            order: VecDeque::new(),
            most: usize::try_from(settings.sim_records_max).unwrap_or(usize::MAX),
        }
    }

    fn remember(&mut self, interaction: Interaction) {
        if self.order.len() >= self.most
            && let Some(oldest) = self.order.pop_front()
        {
            self.by_token.remove(&oldest);
        }
        self.order.push_back(interaction.token.clone());
        self.by_token.insert(interaction.token.clone(), interaction);
    }

    pub(crate) fn get_mut(&mut self, token: &str) -> Option<&mut Interaction> {
        self.by_token.get_mut(token)
    }

    /// Every interaction, oldest first, for the control side.
    pub(crate) fn describe(&self) -> Value {
        self.order
            .iter()
            .filter_map(|token| self.by_token.get(token))
            .map(|interaction| {
                let content = |message: &Message| message.content.clone();
                json!({
                    "id": interaction.id,
                    "token": interaction.token,
                    "type": interaction.kind,
                    "answered": interaction.answered,
                    "original": interaction.original.as_ref().map(content),
                    "followUps": interaction.follow_ups.iter().map(content).collect::<Vec<_>>(),
                })
            })
            .collect()
    }
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
        let message = sim.world().truth.next_id(now_ms);
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

/// Fills in what Discord would say, where the wish does not: id, token, version, application, and
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
    let fresh = world.truth.next_id(now_ms);
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
    let truth = &world.truth;
    let id_in = |value: Option<&Value>| {
        value
            .and_then(Value::as_str)
            .and_then(|id| id.parse::<Id>().ok())
    };
    let guild: Option<&Guild> = id_in(fields.get("guild_id")).and_then(|id| truth.guilds.get(&id));
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
            if let Some(mut member) = render::member(truth, guild, user) {
                member["permissions"] = may(user).into();
                fill("member", member);
            }
        } else {
            fill("app_permissions", "0".into());
            fill("authorizing_integration_owners", json!({}));
            if let Some(user) = truth.users.get(&user) {
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

    #[test]
    fn components_are_numbered_in_the_order_they_stand() {
        let row = json!([{"type": 1, "components": [{"type": 2}, {"type": 2, "id": 9}]}, {"type": 1, "components": []}]);
        let numbered = numbered(row, &mut 0);
        assert_eq!(numbered[0]["id"], 1);
        assert_eq!(numbered[0]["components"][0]["id"], 2);
        assert_eq!(numbered[0]["components"][1]["id"], 9);
        assert_eq!(numbered[1]["id"], 4);
    }
}
