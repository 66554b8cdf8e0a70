//! Signed deliveries: [Standard Webhooks](https://www.standardwebhooks.com), symmetric (`v1`).
//!
//! The MAC covers `id.timestamp.body`, over the raw bytes. That an id may hold a dot is harmless:
//! to move the border, a body would have to begin with digits and a dot, and ours begin with `{`.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use subtle::{Choice, ConstantTimeEq};

/// The header that names a delivery; the same over its retries.
pub const ID_HEADER: &str = "webhook-id";
/// The header with the time of this attempt, in whole seconds since the Unix epoch.
pub const TIMESTAMP_HEADER: &str = "webhook-timestamp";
/// The header with the signatures.
pub const SIGNATURE_HEADER: &str = "webhook-signature";

/// How far a timestamp may be from the receiver's clock, either way, in seconds.
pub const WINDOW_S: u64 = 60;

const SECRET_PREFIX: &str = "whsec_";
const SECRET_BYTES_MIN: usize = 32;
const SECRETS_MAX: usize = 8;
const SIGNATURES_MAX: usize = 16;
const ID_BYTES_MAX: usize = 256;
const MAC_BYTES: usize = 32;

/// A list of secrets that cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadSecret {
    /// Without `whsec_`, or what follows is not base64.
    #[error("Each secret must be whsec_ and base64 behind it.")]
    Form,
    /// Fewer than 32 bytes.
    #[error("Each secret must be at least 32 bytes, in base64 behind whsec_.")]
    Short,
    /// None, or too many.
    #[error("It must be a list of one to eight secrets.")]
    Count,
}

/// The secrets of one endpoint: the first signs, all verify, so that a secret can be replaced without a
/// pause.
#[derive(Clone)]
pub struct SigningKeys(Vec<Vec<u8>>);

impl SigningKeys {
    /// Reads `whsec_<base64>[,whsec_<base64>…]`.
    ///
    /// # Errors
    /// [`BadSecret`] says what is wrong, without the secret.
    pub fn parse(text: &str) -> Result<Self, BadSecret> {
        let keys = text
            .split(',')
            .map(|secret| {
                let encoded = secret
                    .trim()
                    .strip_prefix(SECRET_PREFIX)
                    .ok_or(BadSecret::Form)?;
                let key = STANDARD.decode(encoded).map_err(|_| BadSecret::Form)?;
                if key.len() < SECRET_BYTES_MIN {
                    Err(BadSecret::Short)
                } else {
                    Ok(key)
                }
            })
            .collect::<Result<Vec<_>, _>>()?;
        if keys.is_empty() || keys.len() > SECRETS_MAX {
            return Err(BadSecret::Count);
        }
        Ok(Self(keys))
    }

    /// The secret that signs; other keys are derived from it.
    pub fn first(&self) -> &[u8] {
        self.0.first().map_or(&[], Vec::as_slice)
    }

    /// The other secrets, which sign nothing any more.
    pub fn former(&self) -> impl Iterator<Item = &[u8]> {
        self.0.iter().skip(1).map(Vec::as_slice)
    }

    /// The value of [`SIGNATURE_HEADER`] for one attempt at `timestamp_s`.
    pub fn sign(&self, id: &str, timestamp_s: u64, body: &[u8]) -> String {
        let mac = mac(self.first(), id, &timestamp_s.to_string(), body);
        format!("v1,{}", STANDARD.encode(mac))
    }

    /// Whether a request was signed by one of these secrets within the window around `now_s`.
    ///
    /// # Errors
    /// [`Refused::StaleTimestamp`] only if the signature matches; everything else is
    /// [`Refused::BadSignature`], without the reason.
    pub fn verify(&self, signed: Signed<'_>, body: &[u8], now_s: u64) -> Result<(), Refused> {
        let (id, timestamp, signatures) = signed.parts().ok_or(Refused::BadSignature)?;
        let timestamp_s: u64 = timestamp.parse().map_err(|_| Refused::BadSignature)?;
        // Every secret is tried with every signature, so that the time does not reveal which matched.
        let mut held = Choice::from(0);
        for key in &self.0 {
            let expected = mac(key, id, timestamp, body);
            for signature in &signatures {
                held |= expected.ct_eq(signature);
            }
        }
        if !bool::from(held) {
            return Err(Refused::BadSignature);
        }
        if timestamp_s.abs_diff(now_s) > WINDOW_S {
            return Err(Refused::StaleTimestamp);
        }
        Ok(())
    }
}

impl std::fmt::Debug for SigningKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "[{} secrets]", self.0.len())
    }
}

/// Why a request is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// The signature does not match.
    BadSignature,
    /// The signature matches, but the time is outside the window: the sender signs the request again.
    StaleTimestamp,
}

/// The three headers of a signed request, as they came; absent is `None`.
#[derive(Debug, Clone, Copy, Default)]
pub struct Signed<'a> {
    /// [`ID_HEADER`].
    pub id: Option<&'a str>,
    /// [`TIMESTAMP_HEADER`].
    pub timestamp: Option<&'a str>,
    /// [`SIGNATURE_HEADER`].
    pub signature: Option<&'a str>,
}

impl<'a> Signed<'a> {
    fn parts(self) -> Option<(&'a str, &'a str, Vec<[u8; MAC_BYTES]>)> {
        let id = self.id.filter(|id| {
            !id.is_empty()
                && id.len() <= ID_BYTES_MAX
                && id.bytes().all(|byte| byte.is_ascii_graphic())
        })?;
        let timestamp = self.timestamp.filter(|text| {
            (1..=12).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit())
        })?;
        let mut signatures = Vec::new();
        for (index, signature) in self.signature?.split(' ').enumerate() {
            if index == SIGNATURES_MAX {
                return None;
            }
            // Other versions may stand beside ours and are none of our business; what is no MAC
            // matches nothing, and does not take the right one beside it along.
            let encoded = signature.strip_prefix("v1,");
            let mac = encoded.and_then(|encoded| STANDARD.decode(encoded).ok());
            signatures.extend(mac.and_then(|mac| <[u8; MAC_BYTES]>::try_from(mac).ok()));
        }
        Some((id, timestamp, signatures))
    }
}

fn mac(key: &[u8], id: &str, timestamp: &str, body: &[u8]) -> [u8; MAC_BYTES] {
    #[expect(
        clippy::expect_used,
        reason = "HMAC takes a key of any length (RFC 2104)"
    )]
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("any length");
    for part in [id.as_bytes(), b".", timestamp.as_bytes(), b".", body] {
        mac.update(part);
    }
    mac.finalize().into_bytes().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";
    const OTHER: &str = "whsec_ZmVkY2JhOTg3NjU0MzIxMGZlZGNiYTk4NzY1NDMyMTA=";
    const NOW: u64 = 1_730_000_000;
    const BODY: &[u8] = br#"{"events":[]}"#;

    fn keys(text: &str) -> SigningKeys {
        SigningKeys::parse(text).unwrap()
    }

    fn verify(
        keys: &SigningKeys,
        id: &str,
        timestamp: &str,
        signature: &str,
        body: &[u8],
    ) -> Result<(), Refused> {
        let signed = Signed {
            id: Some(id),
            timestamp: Some(timestamp),
            signature: Some(signature),
        };
        keys.verify(signed, body, NOW)
    }

    #[test]
    fn the_vector_of_the_standard_holds() {
        // The example of the Standard Webhooks reference libraries; its secret is shorter than
        // this hub would take, so the MAC alone is compared.
        let key = STANDARD.decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let mac = mac(
            &key,
            "msg_p5jXN8AQM9LWM0D4loKWxJek",
            "1614265330",
            br#"{"test": 2432232314}"#,
        );
        assert_eq!(
            STANDARD.encode(mac),
            "g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
        );
    }

    #[test]
    fn what_was_signed_verifies_and_any_other_byte_does_not() {
        let keys = keys(SECRET);
        let signature = keys.sign("msg_1", NOW, BODY);
        let timestamp = NOW.to_string();
        assert_eq!(verify(&keys, "msg_1", &timestamp, &signature, BODY), Ok(()));
        for index in 0..BODY.len() {
            let mut body = BODY.to_vec();
            body[index] ^= 1;
            assert_eq!(
                verify(&keys, "msg_1", &timestamp, &signature, &body),
                Err(Refused::BadSignature)
            );
        }
        for index in 0..signature.len() {
            let mut wrong = signature.clone().into_bytes();
            wrong[index] ^= 1;
            let wrong = String::from_utf8(wrong).unwrap();
            assert_eq!(
                verify(&keys, "msg_1", &timestamp, &wrong, BODY),
                Err(Refused::BadSignature),
                "{wrong}"
            );
        }
        assert_eq!(
            verify(&keys, "msg_2", &timestamp, &signature, BODY),
            Err(Refused::BadSignature)
        );
        let later = (NOW + 1).to_string();
        assert_eq!(
            verify(&keys, "msg_1", &later, &signature, BODY),
            Err(Refused::BadSignature)
        );
    }

    #[test]
    fn a_timestamp_is_stale_only_if_it_is_truly_signed() {
        let keys = keys(SECRET);
        for (at, expected) in [
            (NOW - 60, Ok(())),
            (NOW + 60, Ok(())),
            (NOW - 61, Err(Refused::StaleTimestamp)),
            (NOW + 61, Err(Refused::StaleTimestamp)),
        ] {
            let signature = keys.sign("a", at, BODY);
            assert_eq!(
                verify(&keys, "a", &at.to_string(), &signature, BODY),
                expected,
                "{at}"
            );
            assert_eq!(
                verify(&keys, "b", &at.to_string(), &signature, BODY),
                Err(Refused::BadSignature)
            );
        }
    }

    #[test]
    fn headers_are_read_strictly() {
        let keys = keys(SECRET);
        let good = keys.sign("a", NOW, BODY);
        let now = NOW.to_string();
        for timestamp in [
            "",
            " 1730000000",
            "1730000000 ",
            "+1730000000",
            "1730000000.0",
            "0x10",
            "1234567890123",
        ] {
            assert_eq!(
                verify(&keys, "a", timestamp, &good, BODY),
                Err(Refused::BadSignature),
                "{timestamp:?}"
            );
        }
        for signature in [
            "",
            "v1",
            "v1,",
            "v2,AAAA",
            &good[3..],
            &format!("{good},"),
            &good.replace('=', ""),
            "v1,AAAA",
        ] {
            assert_eq!(
                verify(&keys, "a", &now, signature, BODY),
                Err(Refused::BadSignature),
                "{signature:?}"
            );
        }
        for id in ["", "a b", "ä", &"a".repeat(257)] {
            let signature = keys.sign(id, NOW, BODY);
            assert_eq!(
                verify(&keys, id, &now, &signature, BODY),
                Err(Refused::BadSignature),
                "{id:?}"
            );
        }
        let many = vec![good.as_str(); 17].join(" ");
        assert_eq!(
            verify(&keys, "a", &now, &many, BODY),
            Err(Refused::BadSignature)
        );
        assert_eq!(
            keys.verify(Signed::default(), BODY, NOW),
            Err(Refused::BadSignature)
        );
    }

    #[test]
    fn a_secret_is_replaced_without_a_pause() {
        let (old, both, new) = (
            keys(OTHER),
            keys(&format!("{SECRET},{OTHER}")),
            keys(SECRET),
        );
        let now = NOW.to_string();
        assert_eq!(
            verify(&both, "a", &now, &old.sign("a", NOW, BODY), BODY),
            Ok(())
        );
        assert_eq!(
            verify(&new, "a", &now, &both.sign("a", NOW, BODY), BODY),
            Ok(())
        );
        let two = format!(
            "v1a,xyz {} {}",
            old.sign("a", NOW, BODY),
            new.sign("a", NOW, BODY)
        );
        assert_eq!(verify(&new, "a", &now, &two, BODY), Ok(()));
        let beside_garbage = format!("v1,AAAA v1,? {}", new.sign("a", NOW, BODY));
        assert_eq!(verify(&new, "a", &now, &beside_garbage, BODY), Ok(()));
    }

    #[test]
    fn weak_and_malformed_secrets_are_refused_at_start() {
        for (text, why) in [
            ("", BadSecret::Form),
            (
                "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=",
                BadSecret::Form,
            ),
            ("whsec_!!", BadSecret::Form),
            ("whsec_MDEyMw==", BadSecret::Short),
            (&format!("{SECRET},"), BadSecret::Form),
            (&[SECRET; 9].join(","), BadSecret::Count),
        ] {
            assert_eq!(SigningKeys::parse(text).err(), Some(why), "{text:?}");
        }
        assert_eq!(format!("{:?}", keys(SECRET)), "[1 secrets]");
    }
}
