//! Interactions: what was asked, what became of it, and the messages that answered.

mod delivery;

use std::collections::{BTreeMap, VecDeque};

use serde_json::{Value, json};

pub(crate) use delivery::{DELIVERY_TIMEOUT, deliver, deliver_event, public_key};

use crate::settings::Settings;
use crate::snowflake::Id;

/// How long an interaction's token lives, milliseconds.
const TOKEN_TTL_MS: u64 = 15 * 60 * 1_000;
/// The flag of a message that only the user sees.
const EPHEMERAL: u64 = 1 << 6;
/// The flag of a message that is still being thought about.
const LOADING: u64 = 1 << 7;

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

#[cfg(test)]
mod tests {
    use super::*;

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
