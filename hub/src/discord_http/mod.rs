//! The endpoint of Discord's signed requests: `POST /interactions`.
//!
//! The signature is verified over the raw bytes before they are parsed. A wrong one gets 401 without a
//! reason. Discord waits 3 s for a response: a command that takes longer shows "thinking", and its
//! result replaces that later.

mod interaction;
mod signature;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::{Bytes, to_bytes};
use axum::extract::{Request, State};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use launch::Secret;
use launch::clock::Monotonic;
use launch::settings::bounds::{self, bytes, ms};
use proto::problem::Code;
use roomlog::dedup::{Admission, DedupWindow, WindowBounds};
use serde_json::Value;
use tokio::sync::watch;
use tokio_util::task::TaskTracker;

pub use self::signature::PublicKey;

use self::interaction::{
    AUTOCOMPLETE, COMMAND, Interaction, PING, content, deferred, message, no_choices, pong,
};
use crate::commands::Command;
use crate::discord::{ApplicationId, Discord, DiscordError};
use crate::error::ApiError;
use crate::rooms::Rooms;

/// How long an interaction is remembered, in ms: its token lives as long, and no signature is valid
/// that long.
const REMEMBERED_MS: u64 = 15 * 60 * 1000;
/// The most attempts to replace "thinking" by the result.
const LATER_ATTEMPTS_MAX: u32 = 3;
/// The pause between two attempts, in ms …
const LATER_PAUSE_MS: u64 = 1_000;
/// … and the longest for which Discord may ask, in ms.
const LATER_PAUSE_MAX_MS: u64 = 10_000;

/// The bounds of the endpoint.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Discord")]
pub struct InteractionSettings {
    /// The largest interaction [bytes; Discord's are a few kilobytes]
    #[arg(long, env = "INTERACTION_BYTES_MAX", default_value_t = 64 * 1024, value_parser = bytes())]
    pub interaction_bytes_max: usize,
    /// The most time between an interaction's timestamp and now, past or future [ms; clocks differ by less, and no interaction is of use later]
    #[arg(long, env = "INTERACTION_WINDOW_MS", default_value_t = 5 * 60 * 1000, value_parser = ms())]
    pub interaction_window_ms: u64,
    /// A slash command that takes longer shows "thinking" first [ms; Discord waits 3 s, the way there and back included]
    #[arg(long, env = "INTERACTION_ANSWER_MS", default_value_t = 2_000, value_parser = ms())]
    pub interaction_answer_ms: u64,
    /// The most interactions that are stored, so that a repeat has no second effect [count; ten a second, for the 15 minutes of each]
    #[arg(long, env = "INTERACTIONS_REMEMBERED_MAX", default_value_t = 10_000, value_parser = bounds::count())]
    pub interactions_remembered_max: usize,
}

/// The endpoint. A clone is a reference.
#[derive(Clone)]
pub struct Interactions(Arc<Shared>);

/// The response to an interaction, as soon as it exists.
type Answer = watch::Receiver<Option<Bytes>>;

struct Shared {
    key: Option<PublicKey>,
    rooms: Rooms,
    discord: Discord,
    settings: InteractionSettings,
    /// The newest interactions, so that a repeated one has the same answer. Those that create a room
    /// are noted in the log as well.
    answers: Mutex<DedupWindow<u64, Answer>>,
    /// For how long interactions are remembered: a wall clock that is set there and back would forget
    /// one whose signature is still believed.
    clock: Monotonic,
    work: TaskTracker,
}

impl Interactions {
    /// An endpoint for requests that this key signed. Without a key it responds with 404.
    pub fn new(
        key: Option<PublicKey>,
        rooms: Rooms,
        discord: Discord,
        settings: InteractionSettings,
    ) -> Self {
        let window = WindowBounds {
            age_ms: REMEMBERED_MS,
            entries_min: 0,
            entries_max: settings.interactions_remembered_max,
        };
        Self(Arc::new(Shared {
            key,
            rooms,
            discord,
            answers: Mutex::new(DedupWindow::new(window)),
            clock: Monotonic::start(),
            settings,
            work: TaskTracker::new(),
        }))
    }

    /// `POST /interactions`.
    pub fn router(&self) -> Router {
        Router::new()
            .route("/interactions", post(interact))
            .with_state(self.clone())
    }

    /// Waits until every command has its response. Call it after the last request.
    pub async fn settled(&self) {
        self.0.work.close();
        self.0.work.wait().await;
    }

    async fn take(&self, request: Request) -> Result<Bytes, ApiError> {
        let Some(key) = &self.0.key else {
            return Err(ApiError::new(Code::NotFound, "Not found."));
        };
        let (parts, body) = request.into_parts();
        let body_bytes_max = self.0.settings.interaction_bytes_max;
        // Also an interrupted body ends here, and then nobody reads the response.
        let too_large = |_| {
            ApiError::new(
                Code::TooLarge,
                format!("The body is larger than {body_bytes_max} bytes."),
            )
        };
        let body = to_bytes(body, body_bytes_max).await.map_err(too_large)?;
        let now_ms = launch::clock::now_ms();
        key.verify(
            &parts.headers,
            &body,
            now_ms,
            self.0.settings.interaction_window_ms,
        )
        .map_err(|unsigned| {
            count(unsigned.label());
            tracing::debug!(
                reason = unsigned.label(),
                "the signature of an interaction is not valid"
            );
            ApiError::new(Code::BadSignature, "The signature does not match.")
        })?;
        let interaction: Interaction = serde_json::from_slice(&body).map_err(|_| unreadable())?;
        if interaction.r#type == PING {
            count("ping");
            return Ok(json_bytes(&pong()));
        }
        let id = interaction.id.ok_or_else(unreadable)?;
        let mut answer = self.answer(id, interaction);
        let answer = answer
            .wait_for(Option::is_some)
            .await
            .ok()
            .and_then(|answer| answer.clone());
        answer.ok_or_else(|| ApiError::new(Code::Internal, "The command failed."))
    }

    /// The answer to an interaction: what was answered before, or what is done now.
    fn answer(&self, id: u64, interaction: Interaction) -> Answer {
        let mut answers = self
            .0
            .answers
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = answers.get(&id) {
            return known.clone();
        }
        let (sender, answer) = watch::channel(None);
        let admission = answers.admit(id, answer.clone(), self.0.clock.elapsed_ms());
        if let Admission::New { forgotten_early } = admission {
            metrics::counter!("hub_discord_interactions_forgotten_early_total")
                .increment(forgotten_early);
        }
        let interactions = self.clone();
        self.0
            .work
            .spawn(async move { interactions.act(id, interaction, sender).await });
        answer
    }

    async fn act(&self, id: u64, interaction: Interaction, sender: watch::Sender<Option<Bytes>>) {
        let respond = |response: Value, outcome: &'static str| {
            count(outcome);
            sender.send_replace(Some(json_bytes(&response)));
        };
        if interaction.r#type == AUTOCOMPLETE {
            return respond(no_choices(), "no_choices");
        }
        if interaction.r#type != COMMAND {
            return respond(message("Roomwire does not know this."), "unknown");
        }
        let Some((actor, guild)) = interaction.actor() else {
            return respond(
                message("Rooms belong to servers: use this command in one."),
                "outside",
            );
        };
        if !self.0.rooms.serves(guild) {
            return respond(message("Roomwire does not serve this server."), "outside");
        }
        let Some(command) = Command::read(interaction.data) else {
            return respond(
                message("Roomwire does not know this command (any more)."),
                "unknown",
            );
        };
        let result = command.run(&self.0.rooms, &actor, guild, id);
        tokio::pin!(result);
        let within = Duration::from_millis(self.0.settings.interaction_answer_ms);
        if let Ok(text) = tokio::time::timeout(within, &mut result).await {
            return respond(message(&text), "answered");
        }
        respond(deferred(), "deferred");
        let text = result.await;
        let (Some(application), Some(token)) = (interaction.application_id, &interaction.token)
        else {
            tracing::warn!(guild_id = %guild, "an interaction without a token cannot get a later response");
            return;
        };
        self.answer_later(application, token, &content(&text)).await;
    }

    /// Replaces "thinking". A second attempt does no harm, so a failure is retried. The client logs
    /// each failure.
    async fn answer_later(&self, application: ApplicationId, token: &Secret, answer: &Value) {
        for attempt in 1..=LATER_ATTEMPTS_MAX {
            let pause_ms = match self
                .0
                .discord
                .edit_original(application, token, answer)
                .await
            {
                Err(DiscordError::Unreached | DiscordError::Unavailable) => LATER_PAUSE_MS,
                Err(DiscordError::RateLimited { retry_after_ms })
                    if retry_after_ms <= LATER_PAUSE_MAX_MS =>
                {
                    retry_after_ms
                }
                _ => return,
            };
            if attempt < LATER_ATTEMPTS_MAX {
                tokio::time::sleep(Duration::from_millis(pause_ms)).await;
            }
        }
    }
}

async fn interact(
    State(door): State<Interactions>,
    request: Request,
) -> Result<Response, ApiError> {
    let answer = door.take(request).await?;
    Ok(([(header::CONTENT_TYPE, "application/json")], answer).into_response())
}

fn json_bytes(value: &Value) -> Bytes {
    // Maps with string keys, strings and numbers: this cannot fail.
    serde_json::to_vec(value).unwrap_or_default().into()
}

fn unreadable() -> ApiError {
    count("illegible");
    ApiError::new(Code::BadRequest, "The body is not an interaction.")
}

fn count(outcome: &'static str) {
    metrics::counter!("hub_discord_interactions_total", "outcome" => outcome).increment(1);
}
