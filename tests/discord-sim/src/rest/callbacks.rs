//! Answers to interactions through the API: the callback, and the messages of its token
//! (`interactions/receiving-and-responding.mdx`).

use serde_json::{Value, json};

use super::Call;
use super::errors::{Problem, Reply, Served};
use super::form::Form;
use crate::interactions::{Interaction, Message};
use crate::state::{APPLICATION_ID, DiscordState};
use crate::timestamp::iso8601;
use crate::{Sim, render};

/// Within which the first answer must come, milliseconds.
const FIRST_ANSWER_MS: u64 = 3_000;
/// The types of a first answer: pong, messages, updates, autocomplete, modal, activity.
const ANSWER_TYPES: [u64; 8] = [1, 4, 5, 6, 7, 8, 9, 12];
/// Follow-up messages of one interaction that are kept.
const FOLLOW_UPS_MAX: usize = 100;

pub(super) fn callback(sim: &Sim, call: &Call) -> Served {
    let fields = call.object()?;
    let mut form = Form::new(&fields);
    form.require("type");
    let kind = form.get("type").and_then(Value::as_u64);
    if !form.errors.contains_key("type") && !kind.is_some_and(|kind| ANSWER_TYPES.contains(&kind)) {
        form.wrong(
            "type",
            "BASE_TYPE_CHOICES",
            "Value must be one of {1, 4, 5, 6, 7, 8, 9, 12}.",
        );
    }
    form.finish(())?;
    let answer = Value::Object(fields);
    if kind == Some(4) {
        check_message(&answer["data"])?;
    }
    let mut world = sim.world();
    let message_id = world.state.next_id(call.now_ms);
    let mut interactions = sim.interactions();
    let interaction = interactions
        .get_mut(call.word(0))
        .filter(|interaction| call.id(0).is_ok_and(|id| id == interaction.id))
        .ok_or_else(|| Problem::unknown(10062, "interaction"))?;
    if interaction.answered.is_some() {
        return Err(Problem::bad(
            40060,
            "Interaction has already been acknowledged.",
        ));
    }
    if call.now_ms > interaction.created_ms.saturating_add(FIRST_ANSWER_MS) {
        return Err(Problem::unknown(10062, "interaction"));
    }
    interaction.answer(&answer, message_id, call.now_ms);
    if !call.asks("with_response") {
        return Reply::no_content();
    }
    let mut answered = json!({"id": interaction.id, "type": interaction.kind});
    let mut whole = json!({});
    if let Some(message) = &interaction.original {
        answered["response_message_id"] = json!(message.id);
        answered["response_message_loading"] = json!(kind == Some(5));
        answered["response_message_ephemeral"] = json!(message.flags & (1 << 6) != 0);
        if kind == Some(4) || kind == Some(7) {
            whole["resource"] = json!({"type": kind, "message": render_message(&world.state, interaction, message)});
        }
    }
    whole["interaction"] = answered;
    Reply::ok(whole)
}

pub(super) fn original(sim: &Sim, call: &Call) -> Served {
    with_interaction(sim, call, |state, interaction| {
        let message = interaction.original.as_ref().ok_or_else(unknown_message)?;
        Reply::ok(render_message(state, interaction, message))
    })
}

pub(super) fn edit_original(sim: &Sim, call: &Call) -> Served {
    let edit = Value::Object(call.object()?);
    check_edit(&edit)?;
    with_interaction(sim, call, |state, interaction| {
        interaction
            .original
            .as_mut()
            .ok_or_else(unknown_message)?
            .edit(&edit, call.now_ms);
        let message = interaction.original.as_ref().ok_or_else(unknown_message)?;
        Reply::ok(render_message(state, interaction, message))
    })
}

pub(super) fn delete_original(sim: &Sim, call: &Call) -> Served {
    with_interaction(sim, call, |_, interaction| {
        interaction.original.take().ok_or_else(unknown_message)?;
        Reply::no_content()
    })
}

pub(super) fn follow_up(sim: &Sim, call: &Call) -> Served {
    let data = Value::Object(call.object()?);
    check_message(&data)?;
    let id = sim.world().state.next_id(call.now_ms);
    with_interaction(sim, call, |state, interaction| {
        if interaction.answered.is_none() {
            return Err(Problem::unknown(10015, "Webhook"));
        }
        let message = Message::read(&data, id, call.now_ms);
        // The first message after a deferred answer takes its place.
        if interaction
            .original
            .as_ref()
            .is_some_and(|held| held.flags & (1 << 7) != 0)
        {
            interaction.original = Some(message.clone());
        } else if interaction.follow_ups.len() < FOLLOW_UPS_MAX {
            interaction.follow_ups.push(message.clone());
        }
        Reply::ok(render_message(state, interaction, &message))
    })
}

fn with_interaction(
    sim: &Sim,
    call: &Call,
    serve: impl FnOnce(&DiscordState, &mut Interaction) -> Served,
) -> Served {
    if call.id(0)? != APPLICATION_ID {
        return Err(Problem::unknown(10015, "Webhook"));
    }
    let world = sim.world();
    let mut interactions = sim.interactions();
    let interaction = interactions
        .get_mut(call.word(0))
        .ok_or_else(Problem::invalid_webhook_token)?;
    if interaction.is_over(call.now_ms) {
        return Err(Problem::invalid_webhook_token());
    }
    serve(&world.state, interaction)
}

fn unknown_message() -> Problem {
    Problem::unknown(10008, "Message")
}

fn check_edit(data: &Value) -> Result<(), Problem> {
    let empty = serde_json::Map::new();
    let mut form = Form::new(data.as_object().unwrap_or(&empty));
    form.text("content", 0, 2_000);
    form.list("embeds", 10);
    form.list("components", 40);
    form.finish(())
}

fn check_message(data: &Value) -> Result<(), Problem> {
    check_edit(data)?;
    let filled = |field: &str| data[field].as_array().is_some_and(|list| !list.is_empty());
    let said = data["content"]
        .as_str()
        .is_some_and(|content| !content.is_empty());
    if said || filled("embeds") || filled("components") {
        Ok(())
    } else {
        Err(Problem::bad(50006, "Cannot send an empty message"))
    }
}

fn render_message(state: &DiscordState, interaction: &Interaction, message: &Message) -> Value {
    let user = |id| state.users.get(&id).map(render::user);
    let mut owners = json!({});
    if let Some(guild) = interaction.guild {
        owners["0"] = json!(guild);
    }
    let mut object = json!({
        "id": message.id,
        "type": if interaction.kind == 2 { 20 } else { 0 },
        "channel_id": interaction.channel,
        "author": user(APPLICATION_ID),
        "content": message.content,
        "timestamp": iso8601(message.created_ms),
        "edited_timestamp": message.edited_ms.map(iso8601),
        "tts": false,
        "mention_everyone": false,
        "mentions": [],
        "mention_roles": [],
        "attachments": [],
        "embeds": message.embeds,
        "components": message.components,
        "pinned": false,
        "flags": message.flags,
        "webhook_id": APPLICATION_ID,
        "application_id": APPLICATION_ID,
    });
    if interaction.kind == 2 {
        object["interaction_metadata"] = json!({
            "id": interaction.id,
            "type": 2,
            "user": user(interaction.user),
            "authorizing_integration_owners": owners,
        });
    }
    object
}
