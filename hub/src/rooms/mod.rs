//! Rooms: create, end, list. Every endpoint calls these methods. The endpoint authenticates the
//! principal; what the principal may do is decided in `create` and `end`.
//!
//! What Discord reports by itself (a channel was created, a channel is gone) is published only when
//! the worker reports it. Until then a new room is in the ledger alone, and lists show it as
//! `opening`. The ledger is a part of the log's state: [`roomlog::ledger`].

pub mod api;
mod create;
mod discord_errors;
mod end;
mod invite;
mod list;
mod name;
mod reconcile;
mod request;

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use proto::problem::Code;
use proto::{ChannelId, GuildId};
use roomlog::Log;
use roomlog::ledger::CreateTicket;
use tokio::sync::Notify;
use tokio_util::task::TaskTracker;

use self::end::Outcome;
pub use self::list::Listed;
use crate::access::Access;
use crate::discord::Discord;
use crate::error::{ApiError, outcome};

/// When to retry while the store cannot be written, in ms: it is probed every second.
const UNAVAILABLE_RETRY_MS: u64 = 1_000;
/// How long to wait before a command that could not be stored is executed again.
const STORE_RETRY: Duration = Duration::from_secs(1);

/// The rooms of this hub. A clone is a reference.
#[derive(Clone)]
pub struct Rooms(Arc<Shared>);

struct Shared {
    log: Log,
    access: Access,
    discord: Discord,
    /// Ends that are in progress, each with its outcome to come.
    ending: Mutex<HashMap<ChannelId, Outcome>>,
    /// Creates that this process works on: any other pending one is reconciled.
    creating: Mutex<BTreeSet<CreateTicket>>,
    /// A create is not worked on any more. It may be pending.
    create_left: Notify,
    /// What was begun at Discord is finished, also when the client has gone.
    work: TaskTracker,
}

impl Rooms {
    /// The rooms of the guilds that `access` names.
    pub fn new(log: Log, access: Access, discord: Discord) -> Self {
        Self(Arc::new(Shared {
            log,
            access,
            discord,
            ending: Mutex::new(HashMap::new()),
            creating: Mutex::new(BTreeSet::new()),
            create_left: Notify::new(),
            work: TaskTracker::new(),
        }))
    }

    /// Whether this hub serves a guild.
    pub fn serves(&self, guild: GuildId) -> bool {
        self.0.access.guilds().contains(&guild)
    }

    /// Notes that an interaction is about to be answered. False: it was noted before, perhaps by a hub
    /// that has ended since, and must not have a second effect.
    ///
    /// # Errors
    /// `UNAVAILABLE`: it cannot be stored.
    pub async fn note_interaction(&self, id: u64) -> Result<bool, ApiError> {
        let noted = self.0.log.note_interaction(id).await;
        noted.map_err(|_| unavailable())
    }

    /// Waits until everything that was begun at Discord is finished. Call it when no request can come
    /// any more.
    pub async fn settled(&self) {
        self.0.work.close();
        self.0.work.wait().await;
    }

    /// Has the log store something that must be stored, again and again in the background if it cannot
    /// be now, until the hub drains. What is missing then, the next start reconciles.
    async fn store_at_last<F: Future<Output = bool> + Send>(
        &self,
        store: impl Fn(Log) -> F + Send + 'static,
    ) {
        if store(self.0.log.clone()).await {
            return;
        }
        let rooms = self.clone();
        self.0
            .work
            .spawn(async move { rooms.retry_store(store).await });
    }

    /// As [`Rooms::store_at_last`], after a first attempt, and not in the background.
    async fn retry_store<F: Future<Output = bool> + Send>(&self, store: impl Fn(Log) -> F) {
        while !self.0.work.is_closed() {
            tokio::time::sleep(STORE_RETRY).await;
            if store(self.0.log.clone()).await {
                return;
            }
        }
    }
}

fn unavailable() -> ApiError {
    ApiError::new(Code::Unavailable, "nothing can be stored right now")
        .retry_after_ms(UNAVAILABLE_RETRY_MS)
}

fn count<T>(name: &'static str, result: &Result<T, ApiError>) {
    metrics::counter!(name, "outcome" => outcome(result)).increment(1);
}

/// A panic in another holder leaves whole entries behind.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
