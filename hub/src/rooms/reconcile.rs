//! Creates whose outcome is not known: the hub ended in the middle, or Discord's answer was lost.
//!
//! Each create writes a random marker into the guild's audit log. With the permission View Audit Log
//! the bot finds the channel by it. A request with a key gets its channel, for the client repeats the
//! request; the channel of any other one is deleted, for its client was answered that there is no room.
//!
//! Without the permission no channel is certain, and none is deleted. The only channel that fits what
//! was asked for, and was made in the time of the request, becomes a room of its owner. If more than
//! one channel fits, or one fits several creates, none is touched, and the log names them.
//!
//! A create is judged as settled by how long this process has known it, so that no clock that is set
//! ends it too early.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use proto::{ChannelId, GuildId};
use roomlog::ledger::{CreateOutcome, CreateTicket, CreatedChannel, PendingCreate};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::create::{created_channel, marker};
use super::{Rooms, lock};
use crate::discord::{Creations, Deleted, DiscordError, Missing, Unknown, made_ms};

/// The first pause between two looks at a guild, and the longest: each pause is twice the one before.
const PAUSE_FIRST: Duration = Duration::from_millis(500);
const PAUSE_MAX: Duration = Duration::from_secs(10);
/// How long a refused audit log is not asked for again. Discord counts refusals.
const AUDIT_PAUSE: Duration = Duration::from_secs(10 * 60);
/// How far the clocks of the hub and of Discord may differ, in ms.
const CLOCKS_DIFFER_MAX_MS: u64 = 2_000;

/// What this process remembers of a guild with creates of unknown outcome.
#[derive(Default)]
struct Watch {
    /// Since when each of them is known.
    since: BTreeMap<CreateTicket, Instant>,
    /// When Discord is asked next, and the pause after that.
    next: Option<(Instant, Duration)>,
    /// Until when the audit log is not asked for.
    no_audit_until: Option<Instant>,
}

/// What Discord says of a guild.
enum Evidence {
    /// What the bot created, with the markers.
    AuditLog(Creations),
    /// The voice channels, without the audit log.
    Channels(Vec<CreatedChannel>),
}

/// The outcome of a create, as far as it can be seen.
#[derive(Debug, PartialEq, Eq)]
enum Finding {
    /// It made this channel, by its marker.
    Marked(ChannelId),
    /// It made this channel, for no other fits.
    Fits(CreatedChannel),
    /// It made no channel yet.
    Nothing,
    /// It may have made one of these, or one that is not listed.
    Uncertain(Vec<ChannelId>),
}

/// A create whose outcome is not known.
type UnknownCreate = (CreateTicket, Arc<PendingCreate>);

impl Rooms {
    /// Finds out the outcomes that are not known, until `shutdown`.
    pub async fn reconcile_creates(self, shutdown: CancellationToken) {
        let mut watched = BTreeMap::<GuildId, Watch>::new();
        while !shutdown.is_cancelled() {
            let unknown = self.unknown_creates();
            watched.retain(|guild, watch| {
                unknown.contains_key(guild) || watch.no_audit_until > Some(Instant::now())
            });
            for (guild, creates) in &unknown {
                let watch = watched.entry(*guild).or_default();
                if watch.is_due(creates) && self.0.log.is_storing() {
                    let looked = self.reconcile_guild(*guild, creates, watch);
                    shutdown.run_until_cancelled(looked).await;
                }
            }
            let next = unknown.keys().filter_map(|guild| watched.get(guild)?.next);
            let next = next.map(|(at, _)| at).min();
            // While nothing can be stored, nothing is looked at, and no time is set.
            let until = next.unwrap_or_else(Instant::now) + Duration::from_millis(1);
            let until = until.max(Instant::now() + PAUSE_FIRST / 5);
            tokio::select! {
                () = shutdown.cancelled() => {}
                () = self.0.create_left.notified() => {}
                () = tokio::time::sleep_until(until), if !unknown.is_empty() => {}
            }
        }
    }

    /// The creates that are pending and that nobody works on.
    fn unknown_creates(&self) -> BTreeMap<GuildId, Vec<UnknownCreate>> {
        // Read first: a create that is finished meanwhile is not pending any more when it is acted on.
        let ledger = self.0.log.ledger();
        let creating = lock(&self.0.creating).clone();
        let mut unknown = BTreeMap::<GuildId, Vec<_>>::new();
        for (ticket, pending) in ledger.pending() {
            if !creating.contains(&ticket) {
                let of_guild = unknown.entry(pending.create.guild_id).or_default();
                of_guild.push((ticket, Arc::clone(pending)));
            }
        }
        unknown
    }

    async fn reconcile_guild(&self, guild: GuildId, creates: &[UnknownCreate], watch: &mut Watch) {
        let looked = Instant::now();
        let evidence = match self.evidence(guild, creates, watch).await {
            Ok(evidence) => evidence,
            Err(error) => {
                let is_out = matches!(
                    error,
                    DiscordError::NotFound(Unknown::Guild) | DiscordError::Forbidden(_)
                );
                let creates_count = creates.len();
                tracing::warn!(%guild, creates = creates_count, is_out, %error, "the outcome of these creates is not known yet");
                for (ticket, _) in creates.iter().filter(|_| is_out) {
                    // The bot is not in the guild any more, or sees nothing of it.
                    if self.is_settled(watch, *ticket, looked) {
                        self.conclude(*ticket, "uncertain").await;
                    }
                }
                return;
            }
        };
        let ledger = self.0.log.ledger();
        // Those that are worked on are rivals for a channel, too.
        let rivals: Vec<_> = ledger
            .pending()
            .filter(|(_, pending)| pending.create.guild_id == guild)
            .map(|(ticket, pending)| (ticket, Arc::clone(pending)))
            .collect();
        let timeout_ms = u64::try_from(self.0.discord.timeout().as_millis()).unwrap_or(u64::MAX);
        let is_known = |channel| ledger.room(channel).is_some();
        // All are judged before the first is acted on: each is a rival of the others.
        let findings = creates.iter().map(|(ticket, pending)| {
            let others: Vec<_> = rivals
                .iter()
                .filter(|(other, rival)| other != ticket && rival.asks_for_the_same(pending))
                .collect();
            let are_settled = others
                .iter()
                .map(|(other, _)| other)
                .chain([ticket])
                .all(|one| self.is_settled(watch, *one, looked));
            let finding = match &evidence {
                Evidence::AuditLog(creations) => marked(creations, *ticket),
                Evidence::Channels(channels) => {
                    let others = others.iter().map(|(_, rival)| &**rival).collect::<Vec<_>>();
                    fitting(channels, pending, &others, timeout_ms, is_known)
                }
            };
            (*ticket, pending, finding, are_settled)
        });
        for (ticket, pending, finding, is_settled) in findings.collect::<Vec<_>>() {
            // The request that it was for may have finished it meanwhile.
            if self.0.log.ledger().guild_of(ticket).is_some() {
                self.act(ticket, pending, finding, is_settled).await;
            }
        }
    }

    /// Whether a create has been known for so long that its channel cannot appear any more.
    fn is_settled(&self, watch: &Watch, ticket: CreateTicket, looked: Instant) -> bool {
        let settle = Duration::from_millis(self.0.discord.settle_ms());
        let since = watch.since.get(&ticket);
        since.is_some_and(|since| looked.saturating_duration_since(*since) >= settle)
    }

    async fn evidence(
        &self,
        guild: GuildId,
        creates: &[UnknownCreate],
        watch: &mut Watch,
    ) -> Result<Evidence, DiscordError> {
        if watch.no_audit_until <= Some(Instant::now()) {
            let since_ms = creates.iter().map(|(_, pending)| pending.began_ms).min();
            let creations = self
                .0
                .discord
                .creations(guild, since_ms.unwrap_or_default());
            match creations.await {
                Ok(creations) => return Ok(Evidence::AuditLog(creations)),
                Err(DiscordError::Forbidden(Missing::Permissions | Missing::Access)) => {
                    watch.no_audit_until = Some(Instant::now() + AUDIT_PAUSE);
                }
                Err(error) => return Err(error),
            }
        }
        let channels = self.0.discord.voice_channels(guild).await?;
        let channels = channels.into_iter().map(created_channel);
        Ok(Evidence::Channels(channels.collect()))
    }

    /// Acts on a finding. `is_settled`: nothing more can come.
    async fn act(
        &self,
        ticket: CreateTicket,
        pending: &PendingCreate,
        finding: Finding,
        is_settled: bool,
    ) {
        let guild_id = pending.create.guild_id;
        let name = &*pending.create.asked.name;
        match finding {
            Finding::Marked(channel) if pending.create.request.is_none() => {
                self.delete_withdrawn(ticket, pending, channel).await;
            }
            Finding::Marked(channel) => self.adopt_marked(ticket, pending, channel).await,
            Finding::Fits(channel) if is_settled => self.adopt(ticket, guild_id, channel).await,
            Finding::Nothing if is_settled => {
                tracing::info!(%guild_id, name, "a create of unknown outcome made no channel");
                self.conclude(ticket, "nothing").await;
            }
            Finding::Uncertain(channels) if is_settled => {
                tracing::warn!(
                    %guild_id,
                    name,
                    ?channels,
                    "a create of unknown outcome may have made one of these channels: none is touched. With the permission View Audit Log the bot finds the right one"
                );
                self.conclude(ticket, "uncertain").await;
            }
            Finding::Fits(_) | Finding::Nothing | Finding::Uncertain(_) => {}
        }
    }

    /// Makes the marked channel a room, if it still exists.
    async fn adopt_marked(&self, ticket: CreateTicket, pending: &PendingCreate, id: ChannelId) {
        let guild_id = pending.create.guild_id;
        match self.0.discord.voice_channel(guild_id, id).await {
            Ok(Some(channel)) => self.adopt(ticket, guild_id, created_channel(channel)).await,
            Ok(None) => self.conclude(ticket, "gone").await,
            // It exists, and the bot may not view it.
            Err(DiscordError::Forbidden(Missing::Access)) => {
                let asked = pending.create.asked.clone();
                let channel = CreatedChannel {
                    channel_id: id,
                    name: asked.name,
                    parent_id: asked.parent_id,
                    user_limit: asked.user_limit,
                    denies_everyone: false,
                };
                self.adopt(ticket, guild_id, channel).await;
            }
            Err(error) => {
                tracing::warn!(%guild_id, channel_id = %id, %error, "whether a created channel exists is not known yet");
            }
        }
    }

    async fn adopt(&self, ticket: CreateTicket, guild_id: GuildId, channel: CreatedChannel) {
        let channel_id = channel.channel_id;
        launch::mutation::pass("reconcile_found");
        let outcome = CreateOutcome::Created(channel);
        // If it cannot be stored now, the next look stores it.
        if let Ok(Ok(())) = self.0.log.finish_create(ticket, outcome).await {
            count("adopted");
            launch::mutation::pass("reconcile_stored");
            tracing::info!(%guild_id, %channel_id, "the channel of a create of unknown outcome is a room");
        }
    }

    /// Deletes the channel of a request without a key, whose client was answered that there is no room.
    /// One that cannot be deleted becomes a room, so that it can be ended later.
    async fn delete_withdrawn(&self, ticket: CreateTicket, pending: &PendingCreate, id: ChannelId) {
        let guild_id = pending.create.guild_id;
        let reason = format!("{}create-room, withdrawn", marker(ticket));
        launch::mutation::pass("reconcile_found");
        match self.0.discord.delete_channel(id, &reason).await {
            Ok(Deleted::Now | Deleted::Before) => {
                launch::mutation::pass("reconcile_deleted");
                tracing::info!(%guild_id, channel_id = %id, "the channel of a create of unknown outcome is deleted");
                self.conclude(ticket, "deleted").await;
            }
            Err(DiscordError::Forbidden(_)) => self.adopt_marked(ticket, pending, id).await,
            Err(error) => {
                tracing::warn!(%guild_id, channel_id = %id, %error, "the channel of a create of unknown outcome is not deleted yet");
            }
        }
    }

    async fn conclude(&self, ticket: CreateTicket, outcome: &'static str) {
        let withdrawn = CreateOutcome::Withdrawn;
        if let Ok(Ok(())) = self.0.log.finish_create(ticket, withdrawn).await {
            count(outcome);
        }
    }
}

impl Watch {
    /// Whether Discord is to be asked now: it is time, or a create is new. Sets the next time.
    fn is_due(&mut self, creates: &[UnknownCreate]) -> bool {
        let now = Instant::now();
        let tickets: BTreeSet<_> = creates.iter().map(|(ticket, _)| *ticket).collect();
        self.since.retain(|ticket, _| tickets.contains(ticket));
        let known = self.since.len();
        for ticket in &tickets {
            self.since.entry(*ticket).or_insert(now);
        }
        let pause = match self.next {
            _ if self.since.len() > known => PAUSE_FIRST,
            Some((at, _)) if at > now => return false,
            Some((_, pause)) => (pause * 2).min(PAUSE_MAX),
            None => PAUSE_FIRST,
        };
        self.next = Some((now + pause, pause));
        true
    }
}

fn count(outcome: &'static str) {
    metrics::counter!("hub_creates_reconciled_total", "outcome" => outcome).increment(1);
}

/// The channel with the marker of a create.
fn marked(creations: &Creations, ticket: CreateTicket) -> Finding {
    let marker = marker(ticket);
    let made = creations
        .found
        .iter()
        .filter(|creation| creation.reason.starts_with(&marker));
    let made: BTreeSet<_> = made.map(|creation| creation.channel_id).collect();
    match made.first() {
        Some(channel) if made.len() == 1 => Finding::Marked(*channel),
        None if creations.is_complete => Finding::Nothing,
        _ => Finding::Uncertain(made.into_iter().collect()),
    }
}

/// The only channel that fits a create. `others`: other pending creates that ask for the same.
/// `timeout_ms`: how long Discord was given. `is_known`: whether a channel is of the ledger.
fn fitting(
    channels: &[CreatedChannel],
    pending: &PendingCreate,
    others: &[&PendingCreate],
    timeout_ms: u64,
    is_known: impl Fn(ChannelId) -> bool,
) -> Finding {
    let fits = |pending: &PendingCreate, channel: &CreatedChannel| {
        let asked = &pending.create.asked;
        let made_ms = made_ms(channel.channel_id.get());
        let first_ms = pending.began_ms.saturating_sub(CLOCKS_DIFFER_MAX_MS);
        let last_ms = pending.began_ms + timeout_ms + CLOCKS_DIFFER_MAX_MS;
        asked.name == channel.name
            && asked.parent_id == channel.parent_id
            && asked.user_limit == channel.user_limit
            && (first_ms..=last_ms).contains(&made_ms)
    };
    let made: Vec<_> = channels
        .iter()
        .filter(|channel| fits(pending, channel) && !is_known(channel.channel_id))
        .collect();
    match &*made {
        [] => Finding::Nothing,
        [only] if !others.iter().any(|other| fits(other, only)) => {
            Finding::Fits(CreatedChannel::clone(only))
        }
        _ => Finding::Uncertain(made.iter().map(|channel| channel.channel_id).collect()),
    }
}

#[cfg(test)]
mod tests {
    use roomlog::ledger::{AskedChannel, NewCreate, Owner};

    use super::*;
    use crate::discord::Creation;

    const BEGAN_MS: u64 = 1_700_000_000_000;
    const TIMEOUT_MS: u64 = 10_000;

    /// The `n`th channel that Discord made so many ms after the create began.
    fn id(after_ms: i64, n: u64) -> ChannelId {
        const DISCORD_EPOCH_MS: u64 = 1_420_070_400_000;
        let at_ms = BEGAN_MS.checked_add_signed(after_ms).unwrap();
        ChannelId::new(((at_ms - DISCORD_EPOCH_MS) << 22) + n).unwrap()
    }

    fn pending(name: &str) -> PendingCreate {
        PendingCreate {
            create: NewCreate {
                guild_id: GuildId::new(1).unwrap(),
                owner: Owner::new("ada"),
                asked: AskedChannel {
                    name: name.to_owned(),
                    parent_id: ChannelId::new(9).ok(),
                    user_limit: 4,
                },
                request: None,
            },
            epoch: 1,
            began_ms: BEGAN_MS,
        }
    }

    fn channel(channel_id: ChannelId, name: &str, parent: u64, user_limit: u32) -> CreatedChannel {
        CreatedChannel {
            channel_id,
            name: name.to_owned(),
            parent_id: ChannelId::new(parent).ok(),
            user_limit,
            denies_everyone: false,
        }
    }

    #[test]
    fn with_the_audit_log_the_channel_of_the_marker_is_found_and_no_other() {
        let ticket = CreateTicket(0xABC);
        let creation = |channel_id, reason: &str| Creation {
            channel_id,
            reason: reason.to_owned(),
        };
        let ours = marker(ticket);
        assert_eq!(ours, "Roomwire 0000000000000abc: ");
        let (made, other) = (id(5, 1), id(5, 2));
        for (entries, expected) in [
            (vec![], "nothing"),
            (vec![(made, format!("{ours}create-room by ada"))], "made"),
            // A subject that contains the marker, and the marker of another create.
            (
                vec![(
                    made,
                    format!("{}create-room by {ours}", marker(CreateTicket(1))),
                )],
                "nothing",
            ),
            (vec![(made, ours.clone()), (made, ours.clone())], "made"),
            (vec![(made, ours.clone()), (other, ours)], "uncertain"),
        ] {
            let found = entries
                .iter()
                .map(|(channel, reason)| creation(*channel, reason))
                .collect();
            let mut creations = Creations {
                found,
                is_complete: true,
            };
            let found = match marked(&creations, ticket) {
                Finding::Nothing => "nothing",
                Finding::Marked(channel) if channel == made => "made",
                Finding::Uncertain(_) => "uncertain",
                _ => "another",
            };
            creations.is_complete = false;
            let is_nothing = marked(&creations, ticket) == Finding::Nothing;
            assert!(!is_nothing, "what is not read may have the marker");
            assert_eq!(found, expected, "{entries:?}");
        }
    }

    #[test]
    fn without_it_the_only_channel_that_fits_in_time_is_found() {
        let fits = channel(id(100, 1), "a", 9, 4);
        let also = channel(id(200, 2), "a", 9, 4);
        let alone = |channel: &CreatedChannel| (vec![channel.clone()], 1);
        let last_ms = i64::try_from(TIMEOUT_MS + CLOCKS_DIFFER_MAX_MS).unwrap();
        for (why, (channels, expected)) in [
            ("none", (vec![], 0)),
            ("one", alone(&fits)),
            ("two", (vec![fits.clone(), also.clone()], 2)),
            ("another name", (vec![channel(id(100, 1), "b", 9, 4)], 0)),
            (
                "another category",
                (vec![channel(id(100, 1), "a", 8, 4)], 0),
            ),
            ("another limit", (vec![channel(id(100, 1), "a", 9, 5)], 0)),
            ("too early", (vec![channel(id(-2_001, 1), "a", 9, 4)], 0)),
            ("just in time", alone(&channel(id(-2_000, 1), "a", 9, 4))),
            ("in time", alone(&channel(id(last_ms, 1), "a", 9, 4))),
            (
                "too late",
                (vec![channel(id(last_ms + 1, 1), "a", 9, 4)], 0),
            ),
        ] {
            let find = |others: &[&PendingCreate], known: &[ChannelId]| {
                let is_known = |channel| known.contains(&channel);
                match fitting(&channels, &pending("a"), others, TIMEOUT_MS, is_known) {
                    Finding::Nothing => 0,
                    Finding::Fits(_) => 1,
                    _ => 2,
                }
            };
            assert_eq!(find(&[], &[]), expected, "{why}");
            if why == "one" {
                assert_eq!(find(&[], &[fits.channel_id]), 0, "a room of the ledger");
                assert_eq!(find(&[&pending("b")], &[]), 1);
                assert_eq!(find(&[&pending("a")], &[]), 2, "it fits two creates");
            }
            if why == "two" {
                assert_eq!(find(&[], &[also.channel_id]), 1, "the other is known");
            }
        }
    }
}
