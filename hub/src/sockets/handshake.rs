//! The opening handshake (RFC 6455, section 4.2): which requests become a WebSocket.

use axum::Extension;
use axum::extract::Request;
use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Version, header};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hyper::upgrade::{OnUpgrade, Upgraded};
use proto::problem::Code;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use crate::error::ApiError;
use crate::http::only;

/// A checked handshake request (RFC 6455, section 4.2.1).
pub(super) struct Handshake {
    accept: String,
    upgrade: OnUpgrade,
}

impl Handshake {
    /// Reads the handshake of a GET request.
    ///
    /// # Errors
    /// 426 for another version than 13; 400 for anything else that is not a handshake.
    pub(super) fn read(request: &mut Request) -> Result<Self, NoHandshake> {
        let accept = check(request.version(), request.headers())?;
        let upgrade =
            request
                .extensions_mut()
                .remove::<OnUpgrade>()
                .ok_or(NoHandshake::Malformed(
                    "This connection cannot be upgraded.",
                ))?;
        Ok(Self { accept, upgrade })
    }

    /// The answer 101, and the connection once it was written.
    pub(super) fn accept(self) -> (Response, impl Future<Output = Option<Upgraded>>) {
        let response = (
            StatusCode::SWITCHING_PROTOCOLS,
            [
                (header::CONNECTION, HeaderValue::from_static("upgrade")),
                (header::UPGRADE, HeaderValue::from_static("websocket")),
                (
                    header::SEC_WEBSOCKET_ACCEPT,
                    HeaderValue::from_str(&self.accept).unwrap_or(HeaderValue::from_static("")),
                ),
            ],
        );
        let upgraded = async move { self.upgrade.await.ok() };
        (response.into_response(), upgraded)
    }
}

/// Why a request is not a handshake.
#[derive(Debug)]
pub(super) enum NoHandshake {
    /// It asks for another version of the protocol.
    Version,
    /// Another error: 400, with this detail.
    Malformed(&'static str),
}

impl IntoResponse for NoHandshake {
    fn into_response(self) -> Response {
        match self {
            Self::Malformed(detail) => ApiError::new(Code::BadRequest, detail).into_response(),
            Self::Version => {
                let detail = "Use version 13 of the WebSocket protocol.";
                let headers = [
                    (header::SEC_WEBSOCKET_VERSION, "13"),
                    (header::UPGRADE, "websocket"),
                    (header::CONNECTION, "upgrade"),
                ];
                let refusal = Extension(ApiError::new(Code::BadRequest, detail));
                (StatusCode::UPGRADE_REQUIRED, headers, refusal).into_response()
            }
        }
    }
}

/// The value of `Sec-WebSocket-Accept` for a handshake with these headers (RFC 6455, sections 4.2.1
/// and 4.2.2).
fn check(version: Version, headers: &HeaderMap) -> Result<String, NoHandshake> {
    let wrong = |detail| Err(NoHandshake::Malformed(detail));
    if version != Version::HTTP_11 {
        return wrong("A WebSocket handshake needs HTTP/1.1.");
    }
    if !contains_token(headers, &header::CONNECTION, "upgrade")
        || !contains_token(headers, &header::UPGRADE, "websocket")
    {
        return wrong(
            "This endpoint accepts only WebSocket upgrade requests: Connection: Upgrade, Upgrade: websocket.",
        );
    }
    let is_authority = |host: &&str| host.parse::<Authority>().is_ok() && !host.contains('@');
    if only(headers, &header::HOST).filter(is_authority).is_none() {
        return wrong("A WebSocket handshake needs one Host header.");
    }
    // Bytes of a body would be read as frames.
    let length = headers.get(header::CONTENT_LENGTH);
    if headers.contains_key(header::TRANSFER_ENCODING) || length.is_some_and(|length| length != "0")
    {
        return wrong("A WebSocket handshake has no body.");
    }
    if headers
        .get_all(header::SEC_WEBSOCKET_VERSION)
        .iter()
        .count()
        > 1
    {
        return wrong("A WebSocket handshake has one Sec-WebSocket-Version.");
    }
    if only(headers, &header::SEC_WEBSOCKET_VERSION) != Some("13") {
        return Err(NoHandshake::Version);
    }
    let key = only(headers, &header::SEC_WEBSOCKET_KEY).filter(|key| {
        let nonce = STANDARD.decode(key);
        nonce.is_ok_and(|nonce| nonce.len() == 16)
    });
    let Some(key) = key else {
        return wrong("A WebSocket handshake needs one Sec-WebSocket-Key: 16 bytes in base64.");
    };
    Ok(derive_accept_key(key.as_bytes()))
}

/// Whether a header that is a list contains this token, in any case.
fn contains_token(headers: &HeaderMap, name: &HeaderName, token: &str) -> bool {
    let values = headers.get_all(name).iter();
    let mut tokens = values
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','));
    tokens.any(|one| one.trim().eq_ignore_ascii_case(token))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HANDSHAKE: &[(&str, &str)] = &[
        ("host", "hub.example:3000"),
        ("connection", "Upgrade"),
        ("upgrade", "websocket"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ];

    /// The status for the handshake with some of its headers replaced, removed or added.
    fn status_of(version: Version, changes: &[(&str, &[&str])]) -> u16 {
        let mut headers = HeaderMap::new();
        let kept = HANDSHAKE
            .iter()
            .filter(|(name, _)| changes.iter().all(|(changed, _)| changed != name))
            .copied();
        let changed = changes
            .iter()
            .flat_map(|(name, values)| values.iter().map(move |value| (*name, *value)));
        for (name, value) in kept.chain(changed) {
            let name: HeaderName = name.parse().unwrap();
            headers.append(name, value.parse().unwrap());
        }
        match check(version, &headers) {
            // RFC 6455, section 1.3, has the key and what follows from it.
            Ok(accept) => {
                assert_eq!(accept, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
                101
            }
            Err(refusal) => refusal.into_response().status().as_u16(),
        }
    }

    #[test]
    fn a_handshake_is_what_rfc_6455_says() {
        const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
        let rows: &[(&str, &[&str], u16)] = &[
            ("host", &["hub.example"], 101),
            ("host", &["[::1]:3000"], 101),
            ("host", &[], 400),
            ("host", &[""], 400),
            ("host", &["a", "a"], 400),
            ("host", &["a b"], 400),
            ("host", &["user@a"], 400),
            ("connection", &["keep-alive, Upgrade"], 101),
            ("connection", &["keep-alive", "UPGRADE"], 101),
            ("connection", &["keep-alive,upgrade ,x"], 101),
            ("connection", &[], 400),
            ("connection", &["keep-alive"], 400),
            ("connection", &["upgraded"], 400),
            ("upgrade", &["WebSocket"], 101),
            ("upgrade", &["h2c, websocket"], 101),
            ("upgrade", &[], 400),
            ("upgrade", &["h2c"], 400),
            ("upgrade", &["websocket2"], 400),
            ("sec-websocket-version", &[], 426),
            ("sec-websocket-version", &["8"], 426),
            ("sec-websocket-version", &["14"], 426),
            ("sec-websocket-version", &["013"], 426),
            ("sec-websocket-version", &["13, 8"], 426),
            ("sec-websocket-version", &["13", "13"], 400),
            ("sec-websocket-key", &[KEY], 101),
            ("sec-websocket-key", &[], 400),
            ("sec-websocket-key", &[""], 400),
            ("sec-websocket-key", &[KEY, KEY], 400),
            ("sec-websocket-key", &["dGhlIHNhbXBsZSBub25jZQ"], 400),
            ("sec-websocket-key", &["dGhlIHNhbXBsZSBub25j"], 400),
            ("sec-websocket-key", &["dGhlIHNhbXBsZSBub25jZTEyMw=="], 400),
            ("sec-websocket-key", &["dGhlIHNhbXBsZSBub25j!Q=="], 400),
            ("content-length", &["0"], 101),
            ("content-length", &["5"], 400),
            ("transfer-encoding", &["chunked"], 400),
            ("sec-websocket-protocol", &["chat"], 101),
            ("sec-websocket-extensions", &["permessage-deflate"], 101),
        ];
        for (name, values, status) in rows {
            let got = status_of(Version::HTTP_11, &[(*name, *values)]);
            assert_eq!(got, *status, "{name}: {values:?}");
        }
        assert_eq!(status_of(Version::HTTP_10, &[]), 400);
        assert_eq!(status_of(Version::HTTP_11, &[]), 101);
    }
}
