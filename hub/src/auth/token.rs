//! Verifies a token: its header, its signature, its claims, in that order. Pure: the keys and the
//! time are given.
//!
//! A JSON Web Signature in compact form (RFC 7515) over JSON claims (RFC 7519), read by the rules
//! of RFC 8725: nothing in the token selects a key or an algorithm outside of the issuer's
//! set. Of several issuers, the unproven `iss` selects the one whose keys and rules must then hold.
//! The sender of a refused token does not learn the reason; the log does.
//!
//! One thing may look like an omission: of an ECDSA signature (r, s), (r, n − s) is a signature
//! too. RFC 7518 does not ask for the lower one, and honest signers give out either (the example
//! of RFC 7515, appendix A.3, is the higher one), so both pass. Nothing here takes the bytes of a
//! token for its identity.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use proto::GuildId;
use serde_json::{Map, Value};

use super::claims::{kind, read_object};
use super::error::{Claim, Fault, TokenError};
use super::issuers::{Issuer, SubjectRule};
use super::jwks::{KeySet, SignatureAlgorithm};
use super::principal::{Principal, Rights, Subject};

/// Types (`typ`) of tokens that are meant for us: plain ones, and access tokens (RFC 9068,
/// section 4). Compared without case (RFC 7515, section 4.1.9).
const TYPES: [&str; 3] = ["jwt", "at+jwt", "application/at+jwt"];

/// Header members that no token of ours needs: keys that the token brings itself (`jwk`, `x5c`)
/// or wants fetched (`jku`, `x5u`), and extensions that would change what is signed (`crit`,
/// RFC 7515, section 4.1.11; `b64`, RFC 7797). A token with one of them is rejected, so that
/// nothing can depend on them.
const REFUSED_MEMBERS: [&str; 6] = ["jwk", "jku", "x5u", "x5c", "crit", "b64"];

/// The latest time that is accepted in a claim, in seconds (in the year 9999), so that arithmetic
/// with it cannot overflow.
const DATE_S_MAX: f64 = 253_402_300_799.0;

/// The rules for the tokens of one issuer.
#[derive(Debug, Clone)]
pub(super) struct Rules {
    /// The issuer, with the names of the claims.
    pub(super) issuer: Issuer,
    /// Which subjects the issuer may name.
    pub(super) subjects: SubjectRule,
    /// Leeway on `exp` and `nbf`, in seconds.
    pub(super) leeway_s: u64,
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
    /// Takes a token of at most `bytes_max` bytes apart and reads its header.
    ///
    /// # Errors
    /// [`TokenError`], for a token that no key could make good.
    pub(super) fn open(token: &'a str, bytes_max: usize) -> Result<Self, TokenError> {
        if token.len() > bytes_max {
            return Err(TokenError::TooLong);
        }
        let (message, signature) = token.rsplit_once('.').ok_or(TokenError::Malformed)?;
        let (header, payload) = message.split_once('.').ok_or(TokenError::Malformed)?;
        let header = object(header)?;
        if REFUSED_MEMBERS
            .iter()
            .any(|member| header.contains_key(*member))
        {
            return Err(TokenError::HeaderMember);
        }
        // RFC 7516, section 9: an encrypted token has this member, and a signed one has not.
        if header.contains_key("enc") {
            return Err(TokenError::Encrypted);
        }
        let algorithm = header
            .get("alg")
            .and_then(Value::as_str)
            .and_then(SignatureAlgorithm::named)
            .ok_or(TokenError::Algorithm)?;
        match header.get("typ") {
            None => {}
            Some(Value::String(name)) if TYPES.contains(&&*name.to_ascii_lowercase()) => {}
            Some(_) => return Err(TokenError::Type),
        }
        let kid = match header.get("kid") {
            None => None,
            Some(Value::String(kid)) => Some(kid.clone()),
            Some(_) => return Err(TokenError::Malformed),
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

    /// The `iss` that the token claims. It may select whose keys and rules must hold, and nothing
    /// else.
    ///
    /// # Errors
    /// [`TokenError`], where the payload has no `iss` that is a string.
    pub(super) fn claimed_issuer(&self) -> Result<String, TokenError> {
        match object(self.payload)?.get("iss") {
            Some(Value::String(issuer)) => Ok(issuer.clone()),
            other => Err(TokenError::Claim(Claim::Issuer, Fault::of(other))),
        }
    }

    /// Proves the signature, then reads the claims, as of `now_ms` (milliseconds since the epoch).
    ///
    /// # Errors
    /// [`TokenError`]; [`TokenError::UnknownKey`] is the one that another key set could change.
    pub(super) fn prove(
        &self,
        keys: &KeySet,
        rules: &Rules,
        now_ms: u64,
    ) -> Result<Principal, TokenError> {
        let candidates = keys.look_up(self.kid(), self.algorithm)?;
        let mut candidates = candidates.into_iter();
        if !candidates.any(|key| key.verifies(self.message, self.signature)) {
            return Err(TokenError::Signature);
        }
        principal(&object(self.payload)?, rules, now_ms)
    }
}

fn principal(
    claims: &Map<String, Value>,
    rules: &Rules,
    now_ms: u64,
) -> Result<Principal, TokenError> {
    let issuer = &rules.issuer;
    let wrong = |claim| move |value| TokenError::Claim(claim, Fault::of(value));
    match claims.get("iss") {
        Some(Value::String(name)) if *name == issuer.issuer => {}
        other => return Err(wrong(Claim::Issuer)(other)),
    }
    let audience = claims.get(issuer.audience_claim.name());
    let is_ours = |name: &Value| issuer.audiences.iter().any(|ours| name == ours.as_str());
    let is_for_us = match audience {
        Some(Value::Array(names)) => names.iter().any(is_ours),
        Some(name) => is_ours(name),
        None => false,
    };
    if !is_for_us {
        return Err(wrong(Claim::Audience)(audience));
    }
    let expiry = claims.get("exp");
    let expires_at_ms = expiry
        .and_then(date_ms)
        .ok_or_else(|| wrong(Claim::Expiry)(expiry))?;
    let leeway_ms = rules.leeway_s.saturating_mul(1000);
    // RFC 7519, section 4.1.4: the time must be *before* the expiry.
    if now_ms >= expires_at_ms.saturating_add(leeway_ms) {
        return Err(TokenError::Expired);
    }
    if let Some(not_before) = claims.get("nbf") {
        let not_before_ms =
            date_ms(not_before).ok_or_else(|| wrong(Claim::NotBefore)(Some(not_before)))?;
        if now_ms.saturating_add(leeway_ms) < not_before_ms {
            return Err(TokenError::NotYetValid);
        }
    }
    let subject = subject(claims, rules)?;
    let guilds = issuer.guilds_claim.find(claims);
    let scope = issuer.scope_claim.find(claims);
    Ok(Principal {
        subject,
        guilds: guilds.map(guild_ids).transpose()?,
        rights: scope.map_or(Ok(Rights::MEMBER), rights)?,
        expires_at_ms,
    })
}

/// Who acts: the Discord user of `discordIdClaim` where the token has that claim, else `sub`.
fn subject(claims: &Map<String, Value>, rules: &Rules) -> Result<Subject, TokenError> {
    let sub = claims.get("sub");
    let wrong = |claim| move |value| TokenError::Claim(claim, Fault::of(value));
    let named = sub
        .and_then(Value::as_str)
        .filter(|sub| Subject::new(*sub).is_some())
        .ok_or_else(|| wrong(Claim::Subject)(sub))?;
    let discord_id = rules.issuer.discord_id_claim.as_ref();
    if let Some(id) = discord_id.and_then(|path| path.find(claims)) {
        return id
            .as_str()
            .filter(|_| !SubjectRule::is_service(named))
            .and_then(SubjectRule::discord)
            .ok_or_else(|| wrong(Claim::DiscordId)(Some(id)));
    }
    rules
        .subjects
        .subject(named)
        .ok_or_else(|| wrong(Claim::Subject)(sub))
}

/// The guilds of the claim, each once. An entry that is no id makes the token unreadable rather
/// than narrower: what its issuer meant cannot be known.
fn guild_ids(claim: &Value) -> Result<Vec<GuildId>, TokenError> {
    let wrong = |fault| TokenError::Claim(Claim::Guilds, fault);
    let mut guilds = Vec::new();
    for entry in claim
        .as_array()
        .ok_or_else(|| wrong(Fault::of(Some(claim))))?
    {
        let guild = entry
            .as_str()
            .and_then(|id| id.parse().ok())
            .ok_or_else(|| wrong(Fault::Entry(kind(entry))))?;
        if !guilds.contains(&guild) {
            guilds.push(guild);
        }
    }
    Ok(guilds)
}

/// The rights of the claim: words with spaces between (RFC 6749, section 3.3), or an array of
/// words.
fn rights<'a>(claim: &'a Value) -> Result<Rights, TokenError> {
    let wrong = |fault| TokenError::Claim(Claim::Scope, fault);
    match claim {
        Value::String(scope) => Ok(Rights::of_scope(scope)),
        Value::Array(entries) => {
            let word = |entry: &'a Value| {
                let word = entry.as_str();
                word.ok_or_else(|| wrong(Fault::Entry(kind(entry))))
            };
            let words: Vec<_> = entries.iter().map(word).collect::<Result<_, _>>()?;
            Ok(Rights::of_words(words.into_iter()))
        }
        _ => Err(wrong(Fault::of(Some(claim)))),
    }
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
fn object(part: &str) -> Result<Map<String, Value>, TokenError> {
    let json = URL_SAFE_NO_PAD
        .decode(part)
        .map_err(|_| TokenError::Malformed)?;
    read_object(&json).map_err(|_| TokenError::Malformed)
}
