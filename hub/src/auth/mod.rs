//! Who is asking: bearer tokens, proven against the issuer's key set.
//!
//! [`Verifier::verify`] is the one way in: `token` reads a token and measures it, `issuers` says
//! whose tokens are accepted and which subjects they may name, `jwks` which keys of a set are good for what,
//! `refresh` gets the set, `reach` from where. Tokens are verified each time: nothing about one is
//! remembered, so a key that left the set is refused at once.
//!
//! A token that is wrong in any way is [`AuthError::Unauthorized`], and its sender gets one answer
//! for every reason. The reason is counted (`hub_auth_tokens_total`) and goes into the log with the
//! request's id.

mod claims;
mod error;
mod issuers;
mod jwks;
mod principal;
pub mod reach;
mod refresh;
pub mod settings;
mod token;

use std::sync::Arc;

use futures_util::future::join_all;
use metrics::counter;
use tokio_util::sync::CancellationToken;
use url::Url;

pub use claims::ClaimPath;
pub use issuers::{
    AudienceClaim, Audiences, Issuer, IssuersFile, claim_warning, parse_issuer, read_issuers,
};
pub use principal::{Principal, Rights, Subject};
pub use settings::AuthSettings;

use error::{Claim, Fault, TokenError};
use issuers::SubjectRule;
use reach::system_lookup;
use refresh::{Keys, Last};
use token::{Rules, Unproven};

/// How much of a token's key id goes into the log, in characters; escaped.
const LOGGED_KID_CHARS_MAX: usize = 64;

/// Why nobody is let in.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AuthError {
    /// The token is wrong in some way: 401, close 4401. The reason, in words, is for the log alone:
    /// the token's sender must not see it.
    #[error("the token is invalid")]
    Unauthorized(String),
    /// It cannot be said now: the token's key is not known, and the last refresh of the keys
    /// failed. 503, close 4503.
    #[error("tokens cannot be verified now")]
    Unavailable,
}

/// Verifies tokens. A clone is a handle to the same keys.
#[derive(Clone)]
pub struct Verifier {
    issuers: Arc<[Trusted]>,
    token_bytes_max: usize,
}

/// An issuer whose tokens are accepted.
struct Trusted {
    rules: Rules,
    keys: Arc<Keys>,
}

impl Verifier {
    /// A verifier without keys. They are fetched by [`Verifier::run`], or when the first token
    /// needs one; an issuer that does not answer does not keep the hub from starting.
    pub fn new(settings: AuthSettings) -> Self {
        // An earlier installation stays. Without one, the library would choose at the first use.
        let _installed = jsonwebtoken::crypto::aws_lc::DEFAULT_PROVIDER.install_default();
        let settings = Arc::new(settings);
        let trusted = settings.issuers.iter().map(|issuer| Trusted {
            rules: Rules {
                issuer: issuer.clone(),
                subjects: SubjectRule::of(issuer, &settings.issuers),
                leeway_s: settings.leeway_s,
            },
            keys: Arc::new(Keys::new(
                issuer.clone(),
                Arc::clone(&settings),
                system_lookup(),
            )),
        });
        Self {
            issuers: trusted.collect(),
            token_bytes_max: settings.token_bytes_max,
        }
    }

    /// Who a token speaks for. If its key is not known, this may wait for one refresh of the key
    /// set of its issuer, at most `fetch_timeout_ms`.
    ///
    /// # Errors
    /// [`AuthError`].
    pub async fn verify(&self, token: &str) -> Result<Principal, AuthError> {
        let unproven = Unproven::open(token, self.token_bytes_max)
            .map_err(|error| unauthorized(error, None, None))?;
        let trusted = self
            .select(&unproven)
            .map_err(|error| unauthorized(error, None, unproven.kid()))?;
        let prove = |set: &_| unproven.prove(set, &trusted.rules, launch::clock::now_ms());
        let mut known = trusted.keys.known();
        let mut outcome = prove(&known.set);
        if outcome == Err(TokenError::UnknownKey) {
            trusted.keys.ask_again().await;
            known = trusted.keys.known();
            outcome = prove(&known.set);
        }
        match outcome {
            Ok(principal) => {
                counter!("hub_auth_tokens_total", "result" => "accepted").increment(1);
                Ok(principal)
            }
            Err(TokenError::UnknownKey) if known.last != Last::Good => {
                counter!("hub_auth_tokens_total", "result" => "unavailable").increment(1);
                tracing::debug!("a token cannot be verified: no keys, or not its key");
                Err(AuthError::Unavailable)
            }
            Err(error) => Err(unauthorized(
                error,
                Some(&trusted.rules.issuer),
                unproven.kid(),
            )),
        }
    }

    /// Whether tokens of some issuer can be verified. For readiness: one issuer that is away does
    /// not take the hub from the people of the others.
    pub fn keys_loaded(&self) -> bool {
        self.issuers.iter().any(Trusted::has_keys)
    }

    /// Whether tokens of every issuer can be verified.
    pub fn all_keys_loaded(&self) -> bool {
        self.issuers.iter().all(Trusted::has_keys)
    }

    /// Fetches each key set once: its address, how many of its keys are usable and how many are
    /// not, or why there is no set.
    pub async fn probe(&self) -> Vec<(Url, Result<(usize, usize), String>)> {
        let probes = self
            .issuers
            .iter()
            .map(|trusted| async move { (trusted.keys.url().clone(), trusted.keys.probe().await) });
        join_all(probes).await
    }

    /// Keeps the keys fresh until `shutdown` is cancelled.
    pub async fn run(self, shutdown: CancellationToken) {
        let fresh = self
            .issuers
            .iter()
            .map(|trusted| Arc::clone(&trusted.keys).keep_fresh(shutdown.clone()));
        join_all(fresh).await;
    }

    /// The issuer whose keys and rules decide on a token. Its own `iss` selects among several, and
    /// is checked again behind the signature.
    fn select(&self, unproven: &Unproven<'_>) -> Result<&Trusted, TokenError> {
        if let [only] = &*self.issuers {
            return Ok(only);
        }
        let name = unproven.claimed_issuer()?;
        self.issuers
            .iter()
            .find(|trusted| trusted.rules.issuer.issuer == name)
            .ok_or(TokenError::Claim(Claim::Issuer, Fault::Is("a string")))
    }
}

impl Trusted {
    fn has_keys(&self) -> bool {
        self.keys.known().set.usable() > 0
    }
}

fn unauthorized(error: TokenError, issuer: Option<&Issuer>, kid: Option<&str>) -> AuthError {
    let label = error.label();
    counter!("hub_auth_tokens_total", "result" => label).increment(1);
    let kid: Option<String> = kid.map(|kid| kid.chars().take(LOGGED_KID_CHARS_MAX).collect());
    tracing::debug!(reason = label, ?kid, "a token is refused");
    AuthError::Unauthorized(error.describe(issuer))
}

#[cfg(test)]
mod tests;
