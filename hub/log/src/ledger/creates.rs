//! Creates: those that are pending at Discord, and the answers of those that a client has named with
//! a key of its own.

use std::fmt;
use std::sync::Arc;

use imbl::{OrdMap, OrdSet};
use proto::{ChannelId, GuildId};
use serde::{Deserialize, Serialize};

use super::Owner;

/// How long an answer is kept for a repeat of its request, in ms.
pub const ANSWER_AGE_MS: u64 = 24 * 60 * 60 * 1000;

/// Names one create, from before Discord is asked until its outcome is stored. A random number, which
/// the hub that asks draws. The audit log of the guild shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CreateTicket(pub u64);

impl fmt::Display for CreateTicket {
    /// 16 hex digits.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:016x}", self.0)
    }
}

/// A key that a client gave its request, among those of its principal. It is stored as a text.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RequestKey {
    principal: Owner,
    key: Arc<str>,
}

impl RequestKey {
    /// A principal's key. None: it is not 1 to 255 visible characters of ASCII.
    pub fn new(principal: Owner, key: &str) -> Option<Self> {
        let is_visible = key.bytes().all(|byte| byte.is_ascii_graphic());
        (is_visible && (1..=255).contains(&key.len())).then(|| Self {
            principal,
            key: key.into(),
        })
    }
}

impl From<RequestKey> for String {
    fn from(RequestKey { principal, key }: RequestKey) -> Self {
        // No key has a space.
        format!("{key} {}", principal.as_str())
    }
}

impl TryFrom<String> for RequestKey {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.split_once(' ')
            .and_then(|(key, principal)| Self::new(Owner::new(principal), key))
            .ok_or("not a key and its principal")
    }
}

/// What distinguishes one request from another: the SHA-256 of its body in one form.
pub type BodyDigest = [u8; 32];

/// A request that carries a key: repeated, it makes no second room.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct KeyedRequest {
    /// Its key.
    pub key: RequestKey,
    /// What it asks for.
    pub body: BodyDigest,
}

/// The channel that Discord is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct AskedChannel {
    /// Its name.
    pub name: String,
    /// Its category.
    pub parent_id: Option<ChannelId>,
    /// How many people may be in it. 0: no limit.
    pub user_limit: u32,
}

/// A create that is to begin.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct NewCreate {
    /// The guild.
    pub guild_id: GuildId,
    /// Who creates the room.
    pub owner: Owner,
    /// What Discord is asked for.
    pub asked: AskedChannel,
    /// The client's request, if it has a key.
    pub request: Option<KeyedRequest>,
}

/// A room that Discord is asked to create. Its channel is not known before Discord answers. By then
/// the worker may have reported everything that it ever reports of that channel.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct PendingCreate {
    /// What it creates.
    pub create: NewCreate,
    /// The epoch of the guild's log when the create began. In another one, a room that is not there
    /// may have been created and deleted.
    pub epoch: u64,
    /// When it began, in ms since the Unix epoch.
    pub began_ms: u64,
}

impl PendingCreate {
    /// Whether another create asks Discord for the same channel.
    pub fn asks_for_the_same(&self, other: &Self) -> bool {
        self.create.guild_id == other.create.guild_id && self.create.asked == other.create.asked
    }
}

/// A channel as Discord's answer to its creation has it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct CreatedChannel {
    /// The channel.
    pub channel_id: ChannelId,
    /// Its name.
    pub name: String,
    /// Its category.
    pub parent_id: Option<ChannelId>,
    /// How many people may be in it. 0: no limit.
    pub user_limit: u32,
    /// It denies @everyone viewing it.
    pub denies_everyone: bool,
}

/// The answer to a request with a key, for its repeats.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Answer {
    /// What was asked for.
    pub body: BodyDigest,
    /// In which guild the channel is.
    pub guild_id: GuildId,
    /// The channel. It may be gone by now.
    pub channel: CreatedChannel,
    /// When it was answered, in ms since the Unix epoch.
    pub at_ms: u64,
}

/// The answers that are kept, by key.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub(super) struct Answers {
    answers: OrdMap<RequestKey, Arc<Answer>>,
    /// The same, by age.
    by_age: OrdSet<(u64, RequestKey)>,
}

impl Answers {
    pub(super) fn len(&self) -> usize {
        self.answers.len()
    }

    /// An answer that is kept for long enough yet.
    pub(super) fn get(&self, key: &RequestKey, now_ms: u64) -> Option<&Arc<Answer>> {
        let answer = self.answers.get(key)?;
        (now_ms.saturating_sub(answer.at_ms) < ANSWER_AGE_MS).then_some(answer)
    }

    /// Keeps an answer. None: it is forgotten.
    pub(super) fn set(&mut self, key: &RequestKey, answer: Option<&Arc<Answer>>) {
        let before = match answer {
            Some(answer) => self.answers.insert(key.clone(), Arc::clone(answer)),
            None => self.answers.remove(key),
        };
        if let Some(before) = before {
            self.by_age.remove(&(before.at_ms, key.clone()));
        }
        if let Some(answer) = answer {
            self.by_age.insert((answer.at_ms, key.clone()));
        }
    }

    /// The next answer to forget: one that is too old, or the oldest of more than so many. Said of
    /// it: whether its time was not over.
    pub(super) fn next_to_forget(
        &self,
        answers_max: usize,
        now_ms: u64,
    ) -> Option<(RequestKey, bool)> {
        let (at_ms, key) = self.by_age.get_min()?;
        let is_old = now_ms.saturating_sub(*at_ms) >= ANSWER_AGE_MS;
        (is_old || self.len() > answers_max).then(|| (key.clone(), !is_old))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_visible_ascii_and_survives_being_stored_beside_any_principal() {
        for (key, is_key) in [
            ("a", true),
            ("8f14e45f-ceea-467f-9e8b-3a1c", true),
            ("!~", true),
            ("", false),
            ("a b", false),
            ("a\n", false),
            ("é", false),
            (&"k".repeat(255), true),
            (&"k".repeat(256), false),
        ] {
            for principal in ["ada", "", " a  b ", "discord:1", "é\n"] {
                let made = RequestKey::new(Owner::new(principal), key);
                assert_eq!(made.is_some(), is_key, "{key:?}");
                if let Some(made) = made {
                    let text = String::from(made.clone());
                    assert_eq!(RequestKey::try_from(text), Ok(made));
                }
            }
        }
    }

    #[test]
    fn the_oldest_answers_are_forgotten_first_and_the_old_ones_by_themselves() {
        let key = |n: u64| RequestKey::new(Owner::new("ada"), &n.to_string()).unwrap();
        let mut answers = Answers::default();
        for n in 0..3 {
            let channel = CreatedChannel {
                channel_id: crate::fixture::channel_id(1),
                name: String::new(),
                parent_id: None,
                user_limit: 0,
                denies_everyone: false,
            };
            let answer = Answer {
                body: [0; 32],
                guild_id: crate::fixture::guild(1),
                channel,
                at_ms: n * 1_000,
            };
            answers.set(&key(n), Some(&Arc::new(answer)));
        }
        assert_eq!(answers.next_to_forget(3, 2_000), None);
        assert_eq!(answers.next_to_forget(2, 2_000), Some((key(0), true)));
        assert_eq!(
            answers.next_to_forget(3, ANSWER_AGE_MS),
            Some((key(0), false))
        );
        assert!(answers.get(&key(0), ANSWER_AGE_MS - 1).is_some());
        assert!(answers.get(&key(0), ANSWER_AGE_MS).is_none());
        answers.set(&key(0), None);
        assert_eq!((answers.len(), answers.by_age.len()), (2, 2));
        assert_eq!(answers.next_to_forget(3, ANSWER_AGE_MS), None);
    }
}
