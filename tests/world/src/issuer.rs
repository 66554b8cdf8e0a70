//! Tokens of the development issuer.

use reqwest::Client;
use serde_json::Value;

/// A client of the development issuer. A clone is a reference.
#[derive(Debug, Clone)]
pub struct Issuer {
    http: Client,
    /// Its URL, without a slash at the end.
    pub url: String,
}

impl Issuer {
    /// The issuer at this URL.
    pub fn new(http: Client, url: String) -> Self {
        Self { http, url }
    }

    /// The URL of its key set.
    pub fn keys_url(&self) -> String {
        format!("{}/.well-known/jwks.json", self.url)
    }

    /// Issues a token with these claims: `sub`, and what else the issuer documents.
    pub async fn token(&self, claims: Value) -> String {
        let url = format!("{}/token", self.url);
        let answer = self.http.post(url).json(&claims).send().await.unwrap();
        let answer: Value = answer.json().await.unwrap();
        answer["token"]
            .as_str()
            .unwrap_or_else(|| panic!("no token for {claims}: {answer}"))
            .to_owned()
    }
}
