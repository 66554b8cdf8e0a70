//! What a token says, and how it is put together.

use anyhow::Context as _;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::AUDIENCE;
use crate::keys::{Ring, SigningAlgorithm};

/// The body of `POST /token`. Members that are not listed here are refused, so that a misspelt
/// one is noticed.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenRequest {
    /// The subject of the token.
    pub sub: String,
    /// The ids of the guilds that the token allows; absent: the token says nothing of guilds.
    #[serde(default)]
    pub guilds: Option<Vec<String>>,
    /// Words with spaces between, as `rooms:read rooms:create`; absent: no `scope` in the token.
    #[serde(default)]
    pub scope: Option<String>,
    /// How long the token is good, in seconds; a negative number makes an expired one.
    #[serde(default = "an_hour")]
    pub ttl: i64,
    /// Which of the newest keys signs.
    #[serde(default)]
    pub alg: SigningAlgorithm,
    /// For tests: claims that are added last and so win (`iss`, `aud`, `exp`, `nbf`, …). A null
    /// leaves the claim out.
    #[serde(default)]
    pub claims: Map<String, Value>,
    /// For tests: the same for the header (`kid`, `typ`, `jku`, …). The signature is always that
    /// of `alg`'s key, whatever the header says.
    #[serde(default)]
    pub header: Map<String, Value>,
}

/// The query of `GET /token`, the short form of a [`TokenRequest`] for a page's `getToken`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenQuery {
    /// The token's subject.
    sub: String,
    /// Guild ids, with commas between. Absent: the token has no `guilds`. Empty: it allows none.
    guilds: Option<String>,
    /// As in [`TokenRequest`].
    scope: Option<String>,
    /// Seconds, as in [`TokenRequest`].
    #[serde(default = "an_hour")]
    ttl: i64,
}

impl From<TokenQuery> for TokenRequest {
    fn from(query: TokenQuery) -> Self {
        let ids = |guilds: String| {
            let ids = guilds.split(',').map(str::trim);
            ids.filter(|id| !id.is_empty()).map(str::to_owned).collect()
        };
        Self {
            sub: query.sub,
            guilds: query.guilds.map(ids),
            scope: query.scope,
            ttl: query.ttl,
            alg: SigningAlgorithm::default(),
            claims: Map::new(),
            header: Map::new(),
        }
    }
}

fn an_hour() -> i64 {
    3600
}

impl TokenRequest {
    /// The signed token, as of `now_ms` (milliseconds since the Unix epoch).
    ///
    /// # Errors
    /// When signing fails.
    pub fn issue(&self, issuer: &str, ring: &Ring, now_ms: u64) -> anyhow::Result<String> {
        let key = ring.signing(self.alg);
        let now_s = i64::try_from(now_ms / 1000).context("the clock")?;
        let mut header = object(json!({"alg": self.alg.name(), "kid": key.kid(), "typ": "JWT"}));
        override_members(&mut header, &self.header);
        let mut claims = object(json!({
            "iss": issuer,
            "aud": AUDIENCE,
            "sub": self.sub,
            "iat": now_s,
            "exp": now_s.saturating_add(self.ttl),
        }));
        if let Some(guilds) = &self.guilds {
            claims.insert("guilds".to_owned(), json!(guilds));
        }
        if let Some(scope) = &self.scope {
            claims.insert("scope".to_owned(), json!(scope));
        }
        override_members(&mut claims, &self.claims);
        let message = format!("{}.{}", encode(&header), encode(&claims));
        let signature = key.sign(message.as_bytes())?;
        Ok(format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature)))
    }
}

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(members) => members,
        _ => Map::new(),
    }
}

fn override_members(members: &mut Map<String, Value>, with: &Map<String, Value>) {
    for (name, value) in with {
        if value.is_null() {
            members.remove(name);
        } else {
            members.insert(name.clone(), value.clone());
        }
    }
}

fn encode(members: &Map<String, Value>) -> String {
    URL_SAFE_NO_PAD.encode(Value::Object(members.clone()).to_string())
}
