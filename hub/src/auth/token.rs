//! What a token has to be: header, signature, claims, in that order. Pure: the keys and the time
//! are given.
//!
//! A JSON Web Signature in compact form (RFC 7515) over JSON claims (RFC 7519), read by the rules
//! of RFC 8725: nothing that the token says chooses a key or an algorithm outside of the issuer's
//! set, and whoever is not let in learns nothing of why.
//!
//! One thing may look like an omission: of an ECDSA signature (r, s), (r, n − s) is a signature
//! too. RFC 7518 does not ask for the lower one, and honest signers give out either (the example
//! of RFC 7515, appendix A.3, is the higher one), so both pass. Nothing here takes the bytes of a
//! token for its identity.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use proto::GuildId;
use serde::Deserialize;
use serde::de::{self, Deserializer, MapAccess, Visitor};
use serde_json::{Map, Value};

use super::jwks::{KeySet, Lookup, SignatureAlgorithm};
use super::principal::{Principal, Rights, Subject};

/// Types (`typ`) of tokens that are meant for us: plain ones, and access tokens (RFC 9068,
/// section 4). Compared without case (RFC 7515, section 4.1.9).
const TYPES: [&str; 3] = ["jwt", "at+jwt", "application/at+jwt"];

/// Header members that no token of ours needs: keys that the token brings itself (`jwk`, `x5c`)
/// or wants fetched (`jku`, `x5u`), and extensions that would change what is signed (`crit`,
/// RFC 7515, section 4.1.11; `b64`, RFC 7797). A token with one of them is refused, whatever else
/// it says, so that nothing can ever come to depend on them.
const REFUSED_MEMBERS: [&str; 6] = ["jwk", "jku", "x5u", "x5c", "crit", "b64"];

/// The latest time in a claim that is taken, in seconds (it lies in the year 9999): whoever
/// reckons with it further can not overflow.
const DATE_S_MAX: f64 = 253_402_300_799.0;

/// What tokens are measured against.
#[derive(Debug, Clone)]
pub(super) struct Rules {
    /// What `iss` must be, compared as a string.
    pub(super) issuer: String,
    /// What `aud` must be or contain.
    pub(super) audience: String,
    /// Leeway on `exp` and `nbf`, in seconds.
    pub(super) leeway_s: u64,
    /// The largest token that is looked at, in bytes.
    pub(super) token_bytes_max: usize,
}

/// Why a token is refused. For logs and metrics; whoever sent the token is not told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    /// Longer than the bound.
    TooLong,
    /// Not three parts of base64url, or the first two not JSON objects with unique members.
    Malformed,
    /// The header has a member that is never accepted.
    HeaderMember,
    /// `alg` is missing, or not one of ours.
    Algorithm,
    /// `typ` says that the token is meant for something else.
    Type,
    /// The set has no key of this id; a newer one might.
    UnknownKey,
    /// The key of this id is for another algorithm.
    KeyAlgorithm,
    /// There is no key id, and more than one key would fit.
    AmbiguousKey,
    /// The signature is not that of the key.
    Signature,
    /// `iss` is missing or another.
    Issuer,
    /// `aud` is missing or does not name us.
    Audience,
    /// `exp` is missing, or not a time.
    NoExpiry,
    /// `exp` has passed.
    Expired,
    /// `nbf` has not come, or is not a time.
    NotYetValid,
    /// `sub` is missing, or not a subject.
    Subject,
    /// `guilds` is not an array of ids, or `scope` not a text.
    Claim,
}

impl Refusal {
    /// A short name, from a fixed set, for a metric's label.
    pub(super) fn label(self) -> &'static str {
        match self {
            Self::TooLong => "too_long",
            Self::Malformed => "malformed",
            Self::HeaderMember => "header_member",
            Self::Algorithm => "algorithm",
            Self::Type => "type",
            Self::UnknownKey => "unknown_key",
            Self::KeyAlgorithm => "key_algorithm",
            Self::AmbiguousKey => "ambiguous_key",
            Self::Signature => "signature",
            Self::Issuer => "issuer",
            Self::Audience => "audience",
            Self::NoExpiry => "no_expiry",
            Self::Expired => "expired",
            Self::NotYetValid => "not_yet_valid",
            Self::Subject => "subject",
            Self::Claim => "claim",
        }
    }
}

/// A token whose header is acceptable; nothing of it is proven.
#[derive(Debug)]
pub(super) struct Unproven<'a> {
    message: &'a [u8],
    payload: &'a str,
    signature: &'a str,
    algorithm: SignatureAlgorithm,
    kid: Option<String>,
}

impl<'a> Unproven<'a> {
    /// Takes a token apart and reads its header.
    ///
    /// # Errors
    /// [`Refusal`], for a token that no key could make good.
    pub(super) fn open(token: &'a str, rules: &Rules) -> Result<Self, Refusal> {
        if token.len() > rules.token_bytes_max {
            return Err(Refusal::TooLong);
        }
        let (message, signature) = token.rsplit_once('.').ok_or(Refusal::Malformed)?;
        let (header, payload) = message.split_once('.').ok_or(Refusal::Malformed)?;
        let header = object(header)?;
        if REFUSED_MEMBERS
            .iter()
            .any(|member| header.contains_key(*member))
        {
            return Err(Refusal::HeaderMember);
        }
        let algorithm = header
            .get("alg")
            .and_then(Value::as_str)
            .and_then(SignatureAlgorithm::named)
            .ok_or(Refusal::Algorithm)?;
        match header.get("typ") {
            None => {}
            Some(Value::String(name)) if TYPES.contains(&&*name.to_ascii_lowercase()) => {}
            Some(_) => return Err(Refusal::Type),
        }
        let kid = match header.get("kid") {
            None => None,
            Some(Value::String(kid)) => Some(kid.clone()),
            Some(_) => return Err(Refusal::Malformed),
        };
        Ok(Self {
            message: message.as_bytes(),
            payload,
            signature,
            algorithm,
            kid,
        })
    }

    /// The key id that the token claims. Strangers choose it: not for output as it is.
    pub(super) fn kid(&self) -> Option<&str> {
        self.kid.as_deref()
    }

    /// Proves the signature, then reads the claims, as of `now_ms` (milliseconds since the epoch).
    ///
    /// # Errors
    /// [`Refusal`]; [`Refusal::UnknownKey`] is the one that another key set could change.
    pub(super) fn prove(
        &self,
        keys: &KeySet,
        rules: &Rules,
        now_ms: u64,
    ) -> Result<Principal, Refusal> {
        let candidates = match keys.look_up(self.kid(), self.algorithm) {
            Lookup::Found(candidates) => candidates,
            Lookup::Unknown => return Err(Refusal::UnknownKey),
            Lookup::OtherAlgorithm => return Err(Refusal::KeyAlgorithm),
            Lookup::Ambiguous => return Err(Refusal::AmbiguousKey),
        };
        if !candidates
            .iter()
            .any(|key| key.verifies(self.message, self.signature))
        {
            return Err(Refusal::Signature);
        }
        principal(&object(self.payload)?, rules, now_ms)
    }
}

fn principal(
    claims: &Map<String, Value>,
    rules: &Rules,
    now_ms: u64,
) -> Result<Principal, Refusal> {
    if claims.get("iss").and_then(Value::as_str) != Some(&rules.issuer) {
        return Err(Refusal::Issuer);
    }
    let for_us = match claims.get("aud") {
        Some(Value::String(audience)) => *audience == rules.audience,
        Some(Value::Array(audiences)) => audiences
            .iter()
            .any(|audience| audience.as_str() == Some(&rules.audience)),
        _ => false,
    };
    if !for_us {
        return Err(Refusal::Audience);
    }
    let expires_at_ms = claims
        .get("exp")
        .and_then(date_ms)
        .ok_or(Refusal::NoExpiry)?;
    let leeway_ms = rules.leeway_s.saturating_mul(1000);
    // RFC 7519, section 4.1.4: the time must be *before* the expiry.
    if now_ms >= expires_at_ms.saturating_add(leeway_ms) {
        return Err(Refusal::Expired);
    }
    if let Some(not_before) = claims.get("nbf") {
        let not_before_ms = date_ms(not_before).ok_or(Refusal::NotYetValid)?;
        if now_ms.saturating_add(leeway_ms) < not_before_ms {
            return Err(Refusal::NotYetValid);
        }
    }
    let subject = claims
        .get("sub")
        .and_then(Value::as_str)
        .and_then(Subject::new)
        .ok_or(Refusal::Subject)?;
    let guilds = claims.get("guilds").map(guilds).transpose()?;
    let rights = match claims.get("scope") {
        None => Rights::MEMBER,
        Some(Value::String(scope)) => Rights::of_scope(scope),
        Some(_) => return Err(Refusal::Claim),
    };
    Ok(Principal {
        subject,
        guilds,
        rights,
        expires_at_ms,
    })
}

/// The guilds of the claim, each once. One that is no id makes the token unreadable rather than
/// narrower: what its issuer meant can not be known.
fn guilds(claim: &Value) -> Result<Vec<GuildId>, Refusal> {
    let mut guilds = Vec::new();
    for entry in claim.as_array().ok_or(Refusal::Claim)? {
        let guild = entry
            .as_str()
            .and_then(|id| id.parse().ok())
            .ok_or(Refusal::Claim)?;
        if !guilds.contains(&guild) {
            guilds.push(guild);
        }
    }
    Ok(guilds)
}

/// A `NumericDate` (RFC 7519, section 2), in milliseconds: seconds since the epoch, perhaps with a
/// fraction.
fn date_ms(claim: &Value) -> Option<u64> {
    let seconds = claim.as_f64()?;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "checked to be in range just before; what is below a millisecond is meant to go"
    )]
    (0.0..=DATE_S_MAX)
        .contains(&seconds)
        .then_some((seconds * 1000.0) as u64)
}

/// A part of the token that is a JSON object.
fn object(part: &str) -> Result<Map<String, Value>, Refusal> {
    let json = URL_SAFE_NO_PAD
        .decode(part)
        .map_err(|_| Refusal::Malformed)?;
    serde_json::from_slice(&json)
        .map(|UniqueMembers(members)| members)
        .map_err(|_| Refusal::Malformed)
}

/// A JSON object in which every member is named once: of two readers of `{"sub":"a","sub":"b"}`,
/// one may see `a` and the other `b` (RFC 7519, section 4).
struct UniqueMembers(Map<String, Value>);

impl<'de> Deserialize<'de> for UniqueMembers {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;

        impl<'de> Visitor<'de> for Members {
            type Value = UniqueMembers;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object in which every member is named once")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<UniqueMembers, A::Error> {
                let mut members = Map::new();
                while let Some((name, value)) = map.next_entry::<String, Value>()? {
                    if members.insert(name, value).is_some() {
                        return Err(de::Error::custom("a member is named twice"));
                    }
                }
                Ok(UniqueMembers(members))
            }
        }

        deserializer.deserialize_map(Members)
    }
}
