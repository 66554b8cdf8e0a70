//! Why a token is refused: for the log and the metrics, never for its sender.
//!
//! What is logged names a claim and its JSON type, and nothing else of the token.

use serde_json::Value;

use super::claims::kind;
use super::issuers::Issuer;

/// Why a token is refused, in words. [`TokenError::describe`] has the words for a claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum TokenError {
    #[error("the token is longer than JWT_BYTES_MAX")]
    TooLong,
    #[error(
        "the token is not a signed JWT: three parts of base64url, the first two JSON objects without duplicate names"
    )]
    Malformed,
    /// RFC 7516: only its own app can read it.
    #[error("the token is encrypted (JWE). A signed token is needed")]
    Encrypted,
    #[error("the token's header has jwk, jku, x5u, x5c, crit or b64")]
    HeaderMember,
    #[error("the token's alg is not RS256, ES256, EdDSA or Ed25519")]
    Algorithm,
    #[error("the token's typ is not JWT or at+jwt")]
    Type,
    /// A newer set might have it.
    #[error("the key set has no key with the token's kid")]
    UnknownKey,
    #[error("the key with the token's kid is for another alg")]
    KeyAlgorithm,
    #[error("the token has no kid, and several keys fit its alg")]
    AmbiguousKey,
    #[error("the signature is not that of the issuer's key")]
    Signature,
    #[error("the token has expired")]
    Expired,
    #[error("the token is not valid yet")]
    NotYetValid,
    #[error("a token claim is missing, or not what it must be")]
    Claim(Claim, Fault),
}

/// A token claim that the hub reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Claim {
    /// `iss`.
    Issuer,
    /// `aud`, or the claim of `JWT_AUDIENCE_CLAIM`.
    Audience,
    /// `exp`.
    Expiry,
    /// `nbf`.
    NotBefore,
    /// `sub`.
    Subject,
    /// The claim of `discordIdClaim`.
    DiscordId,
    /// `guilds`, or the claim of `JWT_GUILDS_CLAIM`.
    Guilds,
    /// `scope`, or the claim of `JWT_SCOPE_CLAIM`.
    Scope,
}

/// What is wrong with a claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// The token has no such claim.
    Missing,
    /// A value of this JSON type, which is not allowed or not this one.
    Is(&'static str),
    /// The array has an entry of this JSON type, which is not allowed or not this one.
    Entry(&'static str),
}

impl Fault {
    /// The fault of a claim with this value.
    pub(super) fn of(value: Option<&Value>) -> Self {
        value.map_or(Self::Missing, |value| Self::Is(kind(value)))
    }
}

impl TokenError {
    /// A short name, from a fixed set, for a metric's label.
    pub(super) fn label(self) -> &'static str {
        match self {
            Self::TooLong => "too_long",
            Self::Malformed => "malformed",
            Self::Encrypted => "encrypted",
            Self::HeaderMember => "header_member",
            Self::Algorithm => "algorithm",
            Self::Type => "type",
            Self::UnknownKey => "unknown_key",
            Self::KeyAlgorithm => "key_algorithm",
            Self::AmbiguousKey => "ambiguous_key",
            Self::Signature => "signature",
            Self::Expired => "expired",
            Self::NotYetValid | Self::Claim(Claim::NotBefore, _) => "not_yet_valid",
            Self::Claim(Claim::Issuer, _) => "issuer",
            Self::Claim(Claim::Audience, _) => "audience",
            Self::Claim(Claim::Expiry, _) => "no_expiry",
            Self::Claim(Claim::Subject | Claim::DiscordId, _) => "subject",
            Self::Claim(Claim::Guilds | Claim::Scope, _) => "claim",
        }
    }

    /// The reason in words. `issuer` is the one whose rules were applied, if one was found.
    pub(super) fn describe(self, issuer: Option<&Issuer>) -> String {
        let Self::Claim(claim, fault) = self else {
            return self.to_string();
        };
        let (name, allowed) = claim.name_and_form(issuer);
        let what = match fault {
            Fault::Missing => format!("the token claim \"{name}\" is missing"),
            Fault::Is(kind) => format!("the token claim \"{name}\" is {kind} that is not allowed"),
            Fault::Entry(kind) => {
                format!("the token claim \"{name}\" has an entry that is {kind} and not allowed")
            }
        };
        format!("{what}. Allowed is {allowed}")
    }
}

impl Claim {
    /// The claim's name in the settings, and what it must be.
    fn name_and_form(self, issuer: Option<&Issuer>) -> (&str, String) {
        let date = || "a number: seconds since 1970".to_owned();
        match self {
            Self::Issuer => (
                "iss",
                issuer.map_or_else(
                    || "an issuer of JWT_ISSUERS_FILE, as the same string".to_owned(),
                    |issuer| format!("{:?}, as the same string", issuer.issuer),
                ),
            ),
            Self::Audience => (
                issuer.map_or("aud", |issuer| issuer.audience_claim.name()),
                format!(
                    "one of {:?}, or an array with one of them",
                    issuer.map_or(&[][..], |issuer| &issuer.audiences)
                ),
            ),
            Self::Expiry => ("exp", date()),
            Self::NotBefore => ("nbf", date()),
            Self::Subject => (
                "sub",
                "a string of 1 to 255 printable characters that this issuer may name".to_owned(),
            ),
            Self::DiscordId => (
                issuer
                    .and_then(|issuer| issuer.discord_id_claim.as_ref())
                    .map_or("discord id", |path| path.as_str()),
                "a Discord user id, as a string of digits".to_owned(),
            ),
            Self::Guilds => (
                issuer.map_or("guilds", |issuer| issuer.guilds_claim.as_str()),
                "an array of guild ids, each a string of digits".to_owned(),
            ),
            Self::Scope => (
                issuer.map_or("scope", |issuer| issuer.scope_claim.as_str()),
                "a string of words with spaces between, or an array of strings".to_owned(),
            ),
        }
    }
}
