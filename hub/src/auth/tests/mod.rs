//! Tokens that are good, and many that are not.

mod claims;
mod forgeries;
mod identity_providers;
pub(super) mod over_http;
mod several;

use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use dev_issuer::keys::{Ring, SigningAlgorithm};
use dev_issuer::token::TokenRequest;
use serde_json::{Value, json};

use super::error::TokenError;
use super::issuers::{Issuer, SubjectRule};
use super::jwks::KeySet;
use super::principal::Principal;
use super::token::{Rules, Unproven};

const NOW_MS: u64 = 1_800_000_000_000;
const NOW_S: u64 = NOW_MS / 1000;
const ISSUER: &str = "http://issuer.example";

/// The issuer's keys; and those of somebody else.
static OURS: LazyLock<Ring> = LazyLock::new(|| Ring::generate(0).unwrap());
static FOREIGN: LazyLock<Ring> = LazyLock::new(|| Ring::generate(0).unwrap());

/// The issuer of the tests, with every other setting as it is without a word.
fn issuer() -> Issuer {
    let url = "http://127.0.0.1:1/keys".parse().unwrap();
    Issuer::new(ISSUER, dev_issuer::AUDIENCE, url)
}

fn rules_of(issuer: &Issuer) -> Rules {
    Rules {
        issuer: issuer.clone(),
        subjects: SubjectRule::of(issuer, std::slice::from_ref(issuer)),
        leeway_s: 60,
    }
}

fn key_set(ring: &Ring) -> KeySet {
    KeySet::parse(ring.key_set().to_string().as_bytes(), 100).unwrap()
}

fn verify_at(token: &str, now_ms: u64) -> Result<Principal, TokenError> {
    verify_by(&issuer(), token, now_ms)
}

fn verify_by(issuer: &Issuer, token: &str, now_ms: u64) -> Result<Principal, TokenError> {
    Unproven::open(token, 8 * 1024)?.prove(&key_set(&OURS), &rules_of(issuer), now_ms)
}

fn verify(token: &str) -> Result<Principal, TokenError> {
    verify_at(token, NOW_MS)
}

/// A token of this ring, with what the request says beyond the subject.
fn token_of(ring: &Ring, more: &Value) -> String {
    let mut request = json!({"sub": "ada"});
    for (name, value) in more.as_object().unwrap() {
        request[name] = value.clone();
    }
    let request: TokenRequest = serde_json::from_value(request).unwrap();
    request.issue(ISSUER, ring, NOW_MS).unwrap()
}

fn token(more: &Value) -> String {
    token_of(&OURS, more)
}

/// A truly signed token of header and claims as they are written.
fn sealed(algorithm: SigningAlgorithm, header: &str, claims: &str) -> String {
    let message = format!("{}.{}", encode(header), encode(claims));
    let signature = OURS.signing(algorithm).sign(message.as_bytes()).unwrap();
    format!("{message}.{}", encode(signature))
}

fn encode(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}
