//! Who is asking: bearer tokens, proven against the issuer's key set.
//!
//! [`Verifier::verify`] is the one way in: `token` reads a token and measures it, `jwks` says
//! which keys of the set are good for what, `refresh` gets the set. Tokens are verified each time:
//! nothing about one is remembered, so a key that left the set is refused at once.
//!
//! A token that is wrong in any way is [`AuthError::Unauthorized`], and nothing more is told. The
//! reason is counted (`hub_auth_tokens_total`) and logged at level debug.

mod jwks;
mod principal;
mod refresh;
pub mod settings;
mod token;

use std::sync::Arc;

use metrics::counter;
use tokio_util::sync::CancellationToken;

pub use principal::{Principal, Rights, Subject};
pub use settings::AuthSettings;

use jwks::KeySet;
use refresh::{Keys, Last};
use token::{Refusal, Rules, Unproven};

/// How much of a token's key id goes into the log, in characters; escaped.
const LOGGED_KID_CHARS_MAX: usize = 64;

/// Why nobody is let in. All that anybody is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AuthError {
    /// The token is wrong in some way: 401, close 4401.
    #[error("the token is not good")]
    Unauthorized,
    /// It can not be said now: the token's key is not known, and the last refresh of the keys
    /// failed. 503, close 4503.
    #[error("tokens can not be verified now")]
    Unavailable,
}

/// Verifies tokens. A clone is a handle to the same keys.
#[derive(Clone)]
pub struct Verifier {
    rules: Arc<Rules>,
    keys: Arc<Keys>,
}

impl Verifier {
    /// A verifier without keys. They are fetched by [`Verifier::run`], or when the first token
    /// needs one; an issuer that does not answer does not keep the hub from starting.
    pub fn new(settings: AuthSettings) -> Self {
        // Whoever installed one before chose; without one, the library would choose at first use.
        let _chosen = jsonwebtoken::crypto::aws_lc::DEFAULT_PROVIDER.install_default();
        let rules = Rules {
            issuer: settings.issuer.clone(),
            audience: settings.audience.clone(),
            leeway_s: settings.leeway_s,
            token_bytes_max: settings.token_bytes_max,
        };
        Self {
            rules: Arc::new(rules),
            keys: Arc::new(Keys::new(settings)),
        }
    }

    /// Who a token speaks for. If its key is not known, this may wait for one refresh of the key
    /// set, at most `fetch_timeout_ms`.
    ///
    /// # Errors
    /// [`AuthError`].
    pub async fn verify(&self, token: &str) -> Result<Principal, AuthError> {
        let unproven =
            Unproven::open(token, &self.rules).map_err(|refusal| refused(refusal, None))?;
        let mut known = self.keys.known();
        let mut outcome = self.prove(&unproven, &known.set);
        if outcome == Err(Refusal::UnknownKey) {
            self.keys.ask_again().await;
            known = self.keys.known();
            outcome = self.prove(&unproven, &known.set);
        }
        match outcome {
            Ok(principal) => {
                counter!("hub_auth_tokens_total", "result" => "accepted").increment(1);
                Ok(principal)
            }
            Err(Refusal::UnknownKey) if known.last != Last::Good => {
                counter!("hub_auth_tokens_total", "result" => "unavailable").increment(1);
                tracing::debug!("a token can not be verified: no keys, or not its key");
                Err(AuthError::Unavailable)
            }
            Err(refusal) => Err(refused(refusal, unproven.kid())),
        }
    }

    /// Whether there are keys to verify with. For readiness.
    pub fn keys_loaded(&self) -> bool {
        self.keys.known().set.usable() > 0
    }

    /// Keeps the keys fresh until `shutdown` is cancelled.
    pub async fn run(self, shutdown: CancellationToken) {
        self.keys.keep_fresh(shutdown).await;
    }

    fn prove(&self, unproven: &Unproven<'_>, set: &KeySet) -> Result<Principal, Refusal> {
        unproven.prove(set, &self.rules, launch::clock::now_ms())
    }
}

fn refused(refusal: Refusal, kid: Option<&str>) -> AuthError {
    let reason = refusal.label();
    counter!("hub_auth_tokens_total", "result" => reason).increment(1);
    let kid: Option<String> = kid.map(|kid| kid.chars().take(LOGGED_KID_CHARS_MAX).collect());
    tracing::debug!(reason, ?kid, "a token is refused");
    AuthError::Unauthorized
}

#[cfg(test)]
mod tests;
