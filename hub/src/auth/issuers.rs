//! Whose tokens are accepted, and which subjects each issuer may name. Pure.
//!
//! Nothing is shared between issuers: each has its own key set, and the subjects of one can never
//! be those of another.

mod file;

use std::str::FromStr;

use launch::settings::list;
use proto::UserId;
use url::Url;

use super::claims::ClaimPath;
use super::principal::Subject;

pub use file::{IssuersFile, read_issuers};

/// Subjects of service tokens: no JWT may claim one.
const SERVICE: &str = "service:";
/// Subjects that are Discord users.
const DISCORD: &str = "discord:";

/// The token claim that must name one of the audiences.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum AudienceClaim {
    /// `aud` (RFC 7519, section 4.1.3).
    #[default]
    Aud,
    /// `client_id` (RFC 9068, section 2.2), as in access tokens of Amazon Cognito.
    ClientId,
    /// `azp`, the authorized party (`OpenID` Connect Core 1.0, section 2), as in tokens of Clerk.
    Azp,
}

impl AudienceClaim {
    /// The claim's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Aud => "aud",
            Self::ClientId => "client_id",
            Self::Azp => "azp",
        }
    }
}

impl FromStr for AudienceClaim {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, &'static str> {
        [Self::Aud, Self::ClientId, Self::Azp]
            .into_iter()
            .find(|claim| claim.name() == text)
            .ok_or("It must be aud, client_id or azp.")
    }
}

/// The audiences of `JWT_AUDIENCE`; at least one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Audiences(Vec<String>);

impl Audiences {
    /// The audiences, in their order.
    pub fn as_slice(&self) -> &[String] {
        &self.0
    }
}

impl FromStr for Audiences {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let audiences: Vec<_> = list::items(text).map(str::to_owned).collect();
        if audiences.is_empty() {
            return Err("It must be a list of at least one audience.".to_owned());
        }
        // Written as code writes lists: each mark would be a part of an audience.
        if audiences.iter().any(|audience| has_marks(audience)) {
            return Err(format!(
                "{WITHOUT_MARKS} Separate several audiences with commas or spaces, as in one, two."
            ));
        }
        Ok(Self(audiences))
    }
}

/// What is wrong with a value that [`has_marks`].
const WITHOUT_MARKS: &str =
    "It must not contain quotation marks, and not stand in brackets. Write it without them.";

/// Whether an issuer or an audience has the marks of code around it. An IPv6 address in a URL has
/// brackets too.
fn has_marks(text: &str) -> bool {
    text.contains(['"', '\'', '`'])
        || text.starts_with(['[', '{', '(', '<'])
        || (text.ends_with([']', '}', ')', '>']) && !text.contains("://"))
}

/// Reads `JWT_ISSUER`.
///
/// # Errors
/// A sentence that says what is wrong.
pub fn parse_issuer(text: &str) -> Result<String, &'static str> {
    if has_marks(text) {
        return Err(WITHOUT_MARKS);
    }
    Ok(text.to_owned())
}

/// One issuer: what its tokens look like, and where its keys are. Also an entry of
/// `JWT_ISSUERS_FILE`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Issuer {
    /// What `iss` must be, compared as a string.
    pub issuer: String,
    /// The audiences of which a token must name one.
    pub audiences: Vec<String>,
    /// Where the key set is. Nothing else is ever asked.
    pub jwks_url: Url,
    /// The claim that names the audience.
    pub audience_claim: AudienceClaim,
    /// The claim that lists the guilds.
    pub guilds_claim: ClaimPath,
    /// The claim that names the rights.
    pub scope_claim: ClaimPath,
    /// The claim with the person's Discord user id. Where a token has it, the subject is
    /// `discord:<id>` instead of `sub`.
    pub discord_id_claim: Option<ClaimPath>,
    /// Stands before this issuer's subjects.
    pub subject_prefix: Option<String>,
    /// Whether only subjects `discord:<id>` are accepted from this issuer.
    pub discord_subjects: bool,
}

impl Issuer {
    /// An issuer whose tokens have the usual claims.
    pub fn new(issuer: impl Into<String>, audience: impl Into<String>, jwks_url: Url) -> Self {
        Self {
            issuer: issuer.into(),
            audiences: vec![audience.into()],
            jwks_url,
            audience_claim: AudienceClaim::Aud,
            guilds_claim: ClaimPath::guilds(),
            scope_claim: ClaimPath::scope(),
            discord_id_claim: None,
            subject_prefix: None,
            discord_subjects: false,
        }
    }
}

/// Which subjects one issuer may name, and the subjects as which they act.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SubjectRule {
    prefix: String,
    discord: DiscordSubjects,
    /// The prefixes of the other issuers.
    taken: Vec<String>,
}

/// What an issuer may say of Discord users.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum DiscordSubjects {
    /// It may name them, like any other subject: there is no other issuer.
    Allowed,
    /// It names nobody else.
    Only,
    /// It may not name them.
    Refused,
}

impl SubjectRule {
    /// The rule of one of these issuers.
    pub(super) fn of(issuer: &Issuer, all: &[Issuer]) -> Self {
        let others = all.iter().filter(|other| other.issuer != issuer.issuer);
        Self {
            prefix: issuer.subject_prefix.clone().unwrap_or_default(),
            discord: match (issuer.discord_subjects, all.len()) {
                (true, _) => DiscordSubjects::Only,
                (false, 0 | 1) => DiscordSubjects::Allowed,
                (false, _) => DiscordSubjects::Refused,
            },
            taken: others
                .filter_map(|other| other.subject_prefix.clone())
                .collect(),
        }
    }

    /// The subject that acts for a token with this `sub`; `None` if it may not be named so.
    pub(super) fn subject(&self, sub: &str) -> Option<Subject> {
        let own = Subject::new(sub)?;
        if Self::is_service(sub) {
            return None;
        }
        match self.discord {
            DiscordSubjects::Allowed => {}
            DiscordSubjects::Only => {
                let id = sub.strip_prefix(DISCORD)?;
                return Self::discord(id);
            }
            DiscordSubjects::Refused if sub.starts_with(DISCORD) => return None,
            DiscordSubjects::Refused => {}
        }
        if self.prefix.is_empty() {
            let is_taken = self.taken.iter().any(|prefix| sub.starts_with(prefix));
            return (!is_taken).then_some(own);
        }
        let whole = format!("{}{sub}", self.prefix);
        // A prefix such as "disc" and a `sub` such as "ord:1" make a reserved name together.
        let is_reserved = [SERVICE, DISCORD]
            .iter()
            .any(|kept| whole.starts_with(kept));
        if is_reserved {
            None
        } else {
            Subject::new(whole)
        }
    }

    /// Whether a `sub` is that of a service token, which no JWT may claim.
    pub(super) fn is_service(sub: &str) -> bool {
        sub.starts_with(SERVICE)
    }

    /// The subject that is a Discord user, by the user's id.
    pub(super) fn discord(id: &str) -> Option<Subject> {
        let id: UserId = id.parse().ok()?;
        Subject::new(format!("{DISCORD}{id}"))
    }
}

/// What an operator should know of the claims that decide about the tokens of an issuer: one that
/// the person can write decides nothing that matters. A sentence or two, if so.
///
/// `what` the claim decides, and whose tokens they are (`of`).
pub fn claim_warning(what: &str, of: &str, path: &ClaimPath) -> Option<String> {
    let part = path.written_by_the_person()?;
    Some(format!(
        "The {what} of tokens from {of} come from the claim \"{path}\". People can write \
         \"{part}\" themselves at their provider, and give themselves any {what}. Use a \
         claim that only your server can write, such as app_metadata or public_metadata."
    ))
}

#[cfg(test)]
mod tests;
