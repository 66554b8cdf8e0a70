//! A request whose answer is read whole: what measurements time.

use anyhow::Context as _;
use serde::de::DeserializeOwned;

/// A request that is ready to be sent.
pub(crate) struct Request(pub(crate) reqwest::RequestBuilder);

impl Request {
    /// Sends it and reads the whole answer.
    ///
    /// # Errors
    /// Any answer but a success, with its beginning.
    pub(crate) async fn answer<T: DeserializeOwned>(self) -> anyhow::Result<T> {
        const SHOWN_CHARS_MAX: usize = 300;
        let answer = self.0.send().await?;
        let (status, url) = (answer.status(), answer.url().clone());
        let body = answer.bytes().await?;
        if !status.is_success() {
            let shown: String = String::from_utf8_lossy(&body)
                .chars()
                .take(SHOWN_CHARS_MAX)
                .collect();
            anyhow::bail!("{url} answered {status}: {shown}");
        }
        serde_json::from_slice(&body).with_context(|| format!("the answer of {url}"))
    }
}
