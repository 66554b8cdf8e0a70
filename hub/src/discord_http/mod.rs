//! The door for Discord's signed requests: `POST /interactions`.
//!
//! The signature is verified over the raw bytes before anything of them is read; whatever is wrong
//! with it is 401, and nothing more is told. Every truly signed interaction is answered within the
//! 3 s that Discord waits: a command that takes longer answers "thinking", and its result
//! replaces that when it is there.

mod interaction;
mod replay;
mod signature;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::{Bytes, to_bytes};
use axum::extract::{Request, State};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use launch::Secret;
use proto::problem::Code;
use serde_json::Value;
use tokio::sync::watch;
use tokio_util::task::TaskTracker;

pub use self::signature::PublicKey;

use self::interaction::{
    AUTOCOMPLETE, COMMAND, Interaction, PING, content, deferred, message, no_choices, pong,
};
use self::replay::Seen;
use crate::commands::Command;
use crate::discord::{ApplicationId, Discord, DiscordError};
use crate::error::ApiError;
use crate::rooms::Rooms;

/// How often it is tried to replace "thinking" by an answer.
const LATER_ATTEMPTS_MAX: u32 = 3;
/// The pause between two attempts, in ms …
const LATER_PAUSE_MS: u64 = 1_000;
/// … and the longest for which Discord may ask, in ms: nobody looks at the answer any more then.
const LATER_PAUSE_MAX_MS: u64 = 10_000;

/// The bounds of the door.
#[derive(Debug, Clone)]
pub struct InteractionSettings {
    /// The largest body, in bytes.
    pub body_bytes_max: usize,
    /// How old a signature may be, and how far in the future, in ms.
    pub window_ms: u64,
    /// A command that takes longer than this is answered "thinking" first, in ms.
    pub answer_within_ms: u64,
    /// How many interactions are remembered at most, for 15 minutes each, so that a repeat has no
    /// second effect. At the bound the oldest is forgotten.
    pub remembered_max: usize,
}

impl InteractionSettings {
    /// [`InteractionSettings::body_bytes_max`]: Discord's are a few kilobytes.
    pub const BODY_BYTES_MAX: usize = 64 * 1024;
    /// [`InteractionSettings::window_ms`]: clocks differ by less, and no interaction is of use later.
    pub const WINDOW_MS: u64 = 5 * 60 * 1000;
    /// [`InteractionSettings::answer_within_ms`]: Discord waits 3 s, the way there and back included.
    pub const ANSWER_WITHIN_MS: u64 = 2_000;
    /// [`InteractionSettings::remembered_max`]: ten a second, for as long as they are remembered.
    pub const REMEMBERED_MAX: usize = 10_000;
}

impl Default for InteractionSettings {
    fn default() -> Self {
        Self {
            body_bytes_max: Self::BODY_BYTES_MAX,
            window_ms: Self::WINDOW_MS,
            answer_within_ms: Self::ANSWER_WITHIN_MS,
            remembered_max: Self::REMEMBERED_MAX,
        }
    }
}

/// The door. A clone is a reference.
#[derive(Clone)]
pub struct Interactions(Arc<Shared>);

/// Where the answer to an interaction stands as soon as it is there.
type Answer = watch::Receiver<Option<Bytes>>;

struct Shared {
    key: Option<PublicKey>,
    rooms: Rooms,
    discord: Discord,
    settings: InteractionSettings,
    seen: Mutex<Seen<Answer>>,
    /// The zero of the time for which interactions are remembered: a wall clock that is set there
    /// and back would forget one whose signature is still believed.
    started: Instant,
    work: TaskTracker,
}

impl Interactions {
    /// A door for requests that this key signed. Without one it answers 404.
    pub fn new(
        key: Option<PublicKey>,
        rooms: Rooms,
        discord: Discord,
        settings: InteractionSettings,
    ) -> Self {
        Self(Arc::new(Shared {
            key,
            rooms,
            discord,
            seen: Mutex::new(Seen::new(settings.remembered_max)),
            started: Instant::now(),
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

    /// Waits until every command that was begun has been answered. Call it when no new one can come.
    pub async fn settled(&self) {
        self.0.work.close();
        self.0.work.wait().await;
    }

    async fn take(&self, request: Request) -> Result<Bytes, ApiError> {
        let Some(key) = &self.0.key else {
            return Err(ApiError::new(Code::NotFound, "not found"));
        };
        let (parts, body) = request.into_parts();
        let body_bytes_max = self.0.settings.body_bytes_max;
        // (A body can also break off; then nobody reads this.)
        let too_large =
            |_| ApiError::new(Code::TooLarge, format!("at most {body_bytes_max} bytes"));
        let body = to_bytes(body, body_bytes_max).await.map_err(too_large)?;
        let now_ms = launch::clock::now_ms();
        key.verify(&parts.headers, &body, now_ms, self.0.settings.window_ms)
            .map_err(|unsigned| {
                count(unsigned.label());
                tracing::debug!(reason = unsigned.label(), "an interaction is not signed");
                ApiError::new(Code::BadSignature, "not truly signed")
            })?;
        let interaction: Interaction = serde_json::from_slice(&body).map_err(|_| illegible())?;
        if interaction.r#type == PING {
            count("ping");
            return Ok(written(&pong()));
        }
        let id = interaction.id.ok_or_else(illegible)?;
        let mut answer = self.answer(id, interaction);
        let answer = answer
            .wait_for(Option::is_some)
            .await
            .ok()
            .and_then(|answer| answer.clone());
        answer.ok_or_else(|| ApiError::new(Code::Internal, "the command failed"))
    }

    /// The answer to an interaction: what was answered before, or what is done now.
    fn answer(&self, id: u64, interaction: Interaction) -> Answer {
        let (tell, answer) = watch::channel(None);
        let first = || {
            let door = self.clone();
            self.0
                .work
                .spawn(async move { door.act(id, interaction, tell).await });
            answer
        };
        let now_ms = u64::try_from(self.0.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        let mut seen = self.0.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.get_or_insert(id, now_ms, first)
    }

    async fn act(&self, id: u64, interaction: Interaction, tell: watch::Sender<Option<Bytes>>) {
        let say = |answer: Value, outcome: &'static str| {
            count(outcome);
            tell.send_replace(Some(written(&answer)));
        };
        if interaction.r#type == AUTOCOMPLETE {
            return say(no_choices(), "no_choices");
        }
        if interaction.r#type != COMMAND {
            return say(message("Roomwire does not know this."), "unknown");
        }
        let Some((actor, guild)) = interaction.actor() else {
            return say(
                message("Rooms belong to servers: use this command in one."),
                "outside",
            );
        };
        if !self.0.rooms.serves(guild) {
            return say(message("Roomwire does not serve this server."), "outside");
        }
        let Some(command) = Command::read(interaction.data) else {
            return say(
                message("Roomwire does not know this command (any more)."),
                "unknown",
            );
        };
        let result = command.run(&self.0.rooms, &actor, guild, id);
        tokio::pin!(result);
        let within = Duration::from_millis(self.0.settings.answer_within_ms);
        if let Ok(text) = tokio::time::timeout(within, &mut result).await {
            return say(message(&text), "answered");
        }
        say(deferred(), "deferred");
        let text = result.await;
        let (Some(application), Some(token)) = (interaction.application_id, &interaction.token)
        else {
            tracing::warn!(guild_id = %guild, "an interaction without a token can not be answered later");
            return;
        };
        self.answer_later(application, token, &content(&text)).await;
    }

    /// Replaces "thinking". Doing it twice does no harm, so that it is tried a few times; what goes
    /// wrong is logged where Discord is asked, and there is nobody else to tell.
    async fn answer_later(&self, application: ApplicationId, token: &Secret, answer: &Value) {
        for attempt in 1..=LATER_ATTEMPTS_MAX {
            let pause_ms = match self
                .0
                .discord
                .edit_original(application, token, answer)
                .await
            {
                Err(DiscordError::Unavailable) => LATER_PAUSE_MS,
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

fn written(answer: &Value) -> Bytes {
    // Maps, strings and numbers: nothing in it can fail to be written.
    serde_json::to_vec(answer).unwrap_or_default().into()
}

fn illegible() -> ApiError {
    count("illegible");
    ApiError::new(Code::BadRequest, "not an interaction")
}

fn count(outcome: &'static str) {
    metrics::counter!("hub_discord_interactions_total", "outcome" => outcome).increment(1);
}
