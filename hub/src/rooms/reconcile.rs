//! Creates whose outcome is not known: the hub ended in the middle, or Discord's answer was lost.
//!
//! Each create writes a random marker into the guild's audit log. With the permission View Audit Log
//! the bot finds the channel by it. A request with a key gets its channel, for the client repeats the
//! request; the channel of any other one is deleted, for its client was answered that there is no room.
//!
//! Without the permission no channel is certain, and none is deleted. The only channel that fits what
//! was asked for, and was made in the time of the request, becomes a room of its owner. If more than
//! one channel fits, or one fits several creates, none is touched, and the log names them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use proto::{ChannelId, GuildId};
use roomlog::ledger::{CreateOutcome, CreateTicket, CreatedChannel, PendingCreate};
use tokio_util::sync::CancellationToken;

use super::create::{created_channel, marker};
use super::{Rooms, lock};
use crate::discord::{Creation, Deleted, DiscordError, Missing, made_ms};

/// The first pause between two looks at creates of unknown outcome, and the longest: each pause is
/// twice the one before.
const PAUSE_FIRST: Duration = Duration::from_millis(500);
const PAUSE_MAX: Duration = Duration::from_secs(30);
/// How far the clocks of the hub and of Discord may differ, in ms.
const CLOCKS_DIFFER_MAX_MS: u64 = 2_000;

/// A create whose outcome is not known.
type Unknown = (CreateTicket, Arc<PendingCreate>);

/// What Discord says of a guild.
struct Evidence {
    /// The channels that the bot created. None: it may not read the audit log.
    creations: Option<Vec<Creation>>,
    channels: Vec<CreatedChannel>,
}

/// What became of a create.
#[derive(Debug, PartialEq, Eq)]
enum Finding<'a> {
    /// It made this channel, which Discord lists.
    Made(&'a CreatedChannel),
    /// It made this channel, which Discord does not list: it is gone, or the bot may not view it.
    MadeUnlisted(ChannelId),
    /// It made no channel, as far as that can be seen yet.
    Nothing,
    /// It may have made one of these.
    Uncertain(Vec<ChannelId>),
}

impl Rooms {
    /// Finds out what became of creates of unknown outcome, until `shutdown`.
    pub async fn reconcile_creates(self, shutdown: CancellationToken) {
        let mut pause = PAUSE_FIRST;
        while !shutdown.is_cancelled() {
            let mut unknown = BTreeMap::<GuildId, Vec<Unknown>>::new();
            for (ticket, pending) in self.unknown_creates() {
                let of_guild = unknown.entry(pending.create.guild_id).or_default();
                of_guild.push((ticket, pending));
            }
            let is_idle = unknown.is_empty();
            if self.0.log.is_storing() {
                for (guild, creates) in unknown {
                    let looked = shutdown.run_until_cancelled(self.reconcile_guild(guild, creates));
                    looked.await;
                }
            }
            tokio::select! {
                () = shutdown.cancelled() => {}
                () = self.0.create_left.notified() => pause = PAUSE_FIRST,
                () = tokio::time::sleep(pause), if !is_idle => pause = (pause * 2).min(PAUSE_MAX),
            }
        }
    }

    fn unknown_creates(&self) -> Vec<Unknown> {
        // Read before the ledger: a create is pending only while, or after, it is worked on.
        let creating = lock(&self.0.creating).clone();
        let ledger = self.0.log.ledger();
        let unknown = ledger
            .pending()
            .filter(|(ticket, _)| !creating.contains(ticket));
        unknown
            .map(|(ticket, pending)| (ticket, Arc::clone(pending)))
            .collect()
    }

    async fn reconcile_guild(&self, guild: GuildId, creates: Vec<Unknown>) {
        let since_ms = creates.iter().map(|(_, pending)| pending.began_ms).min();
        let since_ms = since_ms
            .unwrap_or_default()
            .saturating_sub(CLOCKS_DIFFER_MAX_MS);
        let evidence = match self.evidence(guild, since_ms).await {
            Ok(evidence) => evidence,
            Err(error) => {
                let creates = creates.len();
                tracing::warn!(%guild, creates, %error, "what became of these creates is not known yet");
                return;
            }
        };
        let timeout_ms = u64::try_from(self.0.discord.timeout().as_millis()).unwrap_or(u64::MAX);
        for (ticket, pending) in &creates {
            let others = creates.iter().filter(|(other, _)| other != ticket);
            let others = others.map(|(_, pending)| &**pending).collect::<Vec<_>>();
            let finding = evidence.finding(*ticket, pending, &others, timeout_ms, |channel| {
                self.0.log.room(channel).is_some()
            });
            // The clock may be set back.
            let age_ms = launch::clock::now_ms().abs_diff(pending.began_ms);
            let is_settled = age_ms >= self.0.discord.settle_ms();
            self.act(
                *ticket,
                pending,
                &finding,
                evidence.is_certain(),
                is_settled,
            )
            .await;
        }
    }

    async fn evidence(&self, guild: GuildId, since_ms: u64) -> Result<Evidence, DiscordError> {
        let creations = match self.0.discord.creations(guild, since_ms).await {
            Ok(creations) => Some(creations),
            Err(DiscordError::Forbidden(Missing::Permissions | Missing::Access)) => None,
            Err(error) => return Err(error),
        };
        let channels = self.0.discord.voice_channels(guild).await?;
        Ok(Evidence {
            creations,
            channels: channels.into_iter().map(created_channel).collect(),
        })
    }

    /// Acts on what was found. `is_certain`: by the marker. `is_settled`: nothing more can come.
    async fn act(
        &self,
        ticket: CreateTicket,
        pending: &PendingCreate,
        finding: &Finding<'_>,
        is_certain: bool,
        is_settled: bool,
    ) {
        let guild_id = pending.create.guild_id;
        let name = &*pending.create.asked.name;
        match finding {
            Finding::Made(channel) if is_certain && pending.create.request.is_none() => {
                self.delete_withdrawn(ticket, channel).await;
            }
            Finding::Made(channel) if is_certain || is_settled => {
                self.adopt(ticket, guild_id, CreatedChannel::clone(channel))
                    .await;
            }
            Finding::MadeUnlisted(channel_id) => {
                match self.0.discord.channel_exists(*channel_id).await {
                    Ok(true) => {
                        let asked = pending.create.asked.clone();
                        let channel = CreatedChannel {
                            channel_id: *channel_id,
                            name: asked.name,
                            parent_id: asked.parent_id,
                            user_limit: asked.user_limit,
                            denies_everyone: false,
                        };
                        self.adopt(ticket, guild_id, channel).await;
                    }
                    Ok(false) => self.conclude(ticket, "gone").await,
                    Err(error) => {
                        tracing::warn!(%guild_id, %channel_id, %error, "whether a created channel exists is not known yet");
                    }
                }
            }
            Finding::Nothing if is_settled => {
                tracing::info!(%guild_id, name, "a create of unknown outcome made no channel");
                self.conclude(ticket, "nothing").await;
            }
            Finding::Uncertain(channels) if is_settled => {
                tracing::warn!(
                    %guild_id,
                    name,
                    ?channels,
                    "a create of unknown outcome may have made one of these channels: none is touched. Give the bot the permission View Audit Log, and Roomwire will know"
                );
                self.conclude(ticket, "uncertain").await;
            }
            Finding::Made(_) | Finding::Nothing | Finding::Uncertain(_) => {}
        }
    }

    async fn adopt(&self, ticket: CreateTicket, guild_id: GuildId, channel: CreatedChannel) {
        let channel_id = channel.channel_id;
        launch::mutation::pass("reconcile_found");
        let outcome = CreateOutcome::Created(channel);
        // What is not stored now is looked at again.
        if let Ok(Ok(())) = self.0.log.finish_create(ticket, outcome).await {
            count("adopted");
            launch::mutation::pass("reconcile_stored");
            tracing::info!(%guild_id, %channel_id, "the channel of a create of unknown outcome is a room");
        }
    }

    /// Deletes the channel of a request without a key, whose client was answered that there is no room. One
    /// that cannot be deleted becomes a room, so that it can be ended later.
    async fn delete_withdrawn(&self, ticket: CreateTicket, channel: &CreatedChannel) {
        let Some(guild_id) = self.0.log.ledger().guild_of(ticket) else {
            return;
        };
        let channel_id = channel.channel_id;
        let reason = format!("{}create-room, withdrawn", marker(ticket));
        launch::mutation::pass("reconcile_found");
        match self.0.discord.delete_channel(channel_id, &reason).await {
            Ok(Deleted::Now | Deleted::Before) => {
                launch::mutation::pass("reconcile_deleted");
                tracing::info!(%guild_id, %channel_id, "the channel of a create of unknown outcome is deleted");
                self.conclude(ticket, "deleted").await;
            }
            Err(DiscordError::Forbidden(_)) => self.adopt(ticket, guild_id, channel.clone()).await,
            Err(error) => {
                tracing::warn!(%guild_id, %channel_id, %error, "the channel of a create of unknown outcome is not deleted yet");
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

fn count(outcome: &'static str) {
    metrics::counter!("hub_creates_reconciled_total", "outcome" => outcome).increment(1);
}

impl Evidence {
    /// Whether a channel belongs to its create beyond doubt.
    fn is_certain(&self) -> bool {
        self.creations.is_some()
    }

    /// What became of a create. `others`: the other creates of the guild whose outcome is not known.
    /// `timeout_ms`: how long Discord was given. `is_known`: whether a channel is of the ledger.
    fn finding(
        &self,
        ticket: CreateTicket,
        pending: &PendingCreate,
        others: &[&PendingCreate],
        timeout_ms: u64,
        is_known: impl Fn(ChannelId) -> bool,
    ) -> Finding<'_> {
        if let Some(creations) = &self.creations {
            let marker = marker(ticket);
            let made = creations
                .iter()
                .filter(|creation| creation.reason.starts_with(&marker));
            let made: BTreeSet<_> = made.map(|creation| creation.channel_id).collect();
            return self.one_of(&made);
        }
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
        let fitting = self
            .channels
            .iter()
            .filter(|channel| fits(pending, channel) && !is_known(channel.channel_id));
        let made: BTreeSet<_> = fitting.map(|channel| channel.channel_id).collect();
        match self.one_of(&made) {
            Finding::Made(channel) if others.iter().any(|other| fits(other, channel)) => {
                Finding::Uncertain(vec![channel.channel_id])
            }
            finding => finding,
        }
    }

    fn one_of(&self, made: &BTreeSet<ChannelId>) -> Finding<'_> {
        let Some(first) = made.first().filter(|_| made.len() <= 1) else {
            return if made.is_empty() {
                Finding::Nothing
            } else {
                Finding::Uncertain(made.iter().copied().collect())
            };
        };
        let listed = self
            .channels
            .iter()
            .find(|channel| channel.channel_id == *first);
        listed.map_or(Finding::MadeUnlisted(*first), Finding::Made)
    }
}

#[cfg(test)]
mod tests {
    use roomlog::ledger::{AskedChannel, NewCreate, Owner};

    use super::*;

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
        let (listed, unlisted) = (id(5, 1), id(5, 2));
        for (entries, expected) in [
            (vec![], "nothing"),
            (vec![(listed, format!("{ours}create-room by ada"))], "made"),
            (vec![(unlisted, ours.clone())], "unlisted"),
            // A subject that contains the marker, and the marker of another create.
            (
                vec![(
                    listed,
                    format!("{}create-room by {ours}", marker(CreateTicket(1))),
                )],
                "nothing",
            ),
            (vec![(listed, ours.clone()), (listed, ours.clone())], "made"),
            (vec![(listed, ours.clone()), (unlisted, ours)], "uncertain"),
        ] {
            let creations = entries.iter();
            let creations = creations.map(|(channel, reason)| creation(*channel, reason));
            let evidence = Evidence {
                creations: Some(creations.collect()),
                // Another channel that fits does not matter.
                channels: vec![channel(listed, "x", 9, 4), channel(id(6, 3), "a", 9, 4)],
            };
            let finding = evidence.finding(ticket, &pending("a"), &[], TIMEOUT_MS, |_| false);
            let found = match finding {
                Finding::Nothing => "nothing",
                Finding::Made(channel) if channel.channel_id == listed => "made",
                Finding::MadeUnlisted(channel) if channel == unlisted => "unlisted",
                Finding::Uncertain(_) => "uncertain",
                _ => "another",
            };
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
            let evidence = Evidence {
                creations: None,
                channels,
            };
            let find = |others: &[&PendingCreate], known: &[ChannelId]| {
                let (ticket, pending) = (CreateTicket(1), pending("a"));
                let is_known = |channel| known.contains(&channel);
                match evidence.finding(ticket, &pending, others, TIMEOUT_MS, is_known) {
                    Finding::Nothing => 0,
                    Finding::Made(_) => 1,
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
