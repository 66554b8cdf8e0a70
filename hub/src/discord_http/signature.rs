//! Discord's signature: Ed25519 over the timestamp and the raw body, before anything is parsed
//! (Discord's documentation, "Setting Up an Endpoint": "Validating Security Request Headers").
//!
//! Strict: a canonical `S`, a canonical `R` of full order, exactly the documented hexadecimal
//! form, each header once. Discord sends wrong signatures on purpose and
//! removes the address of an endpoint that accepts one.

use std::str::FromStr;

use ed25519_dalek::{Signature, VerifyingKey};
use http::{HeaderMap, HeaderName};

use crate::http::only;

const SIGNATURE: HeaderName = HeaderName::from_static("x-signature-ed25519");
const TIMESTAMP: HeaderName = HeaderName::from_static("x-signature-timestamp");

/// The most digits of a timestamp.
const TIMESTAMP_DIGITS_MAX: usize = 20;

/// The setting `DISCORD_PUBLIC_KEY`: what an application's requests are verified with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicKey(VerifyingKey);

impl FromStr for PublicKey {
    type Err = String;

    /// 64 hexadecimal characters that name a point of the curve, in its one spelling, and not one
    /// of the few points for which signatures can be made without a secret.
    fn from_str(text: &str) -> Result<Self, String> {
        let mut bytes = [0; 32];
        hex::decode_to_slice(text, &mut bytes)
            .map_err(|_| "It must be 64 hexadecimal characters: the Public Key on your application's page at Discord.".to_owned())?;
        let key =
            VerifyingKey::from_bytes(&bytes).map_err(|_| "It is not a key of Ed25519. Copy the Public Key from your application's page at Discord.".to_owned())?;
        if key.is_weak() || !is_canonical(&bytes) {
            return Err("It is a weak key: everybody could sign for it. Copy the Public Key from your application's page at Discord.".to_owned());
        }
        Ok(Self(key))
    }
}

/// Whether the y coordinate is below the field's prime, 2^255 - 19 (RFC 8032, section 5.1.3).
fn is_canonical(bytes: &[u8; 32]) -> bool {
    let above = bytes[0] >= 0xed
        && bytes[1..31].iter().all(|byte| *byte == 0xff)
        && bytes[31] & 0x7f == 0x7f;
    !above
}

/// What is wrong with a request. It is logged, and the sender does not see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unsigned {
    /// A header is missing, occurs twice, or does not have the documented form.
    Headers,
    /// The signature does not match.
    Signature,
    /// The signature matches, but the timestamp is outside the window.
    Stale,
}

impl Unsigned {
    pub(super) fn label(self) -> &'static str {
        match self {
            Self::Headers => "headers",
            Self::Signature => "signature",
            Self::Stale => "stale",
        }
    }
}

impl PublicKey {
    /// Whether the application's secret key signed this body, at most `window_ms` before or after now.
    pub(super) fn verify(
        &self,
        headers: &HeaderMap,
        body: &[u8],
        now_ms: u64,
        window_ms: u64,
    ) -> Result<(), Unsigned> {
        let timestamp = only(headers, TIMESTAMP)
            .ok_or(Unsigned::Headers)?
            .as_bytes();
        let digits = (1..=TIMESTAMP_DIGITS_MAX).contains(&timestamp.len())
            && timestamp.iter().all(u8::is_ascii_digit);
        let mut signature = [0; 64];
        let hex = only(headers, SIGNATURE).ok_or(Unsigned::Headers)?;
        if !digits || hex::decode_to_slice(hex, &mut signature).is_err() {
            return Err(Unsigned::Headers);
        }
        let mut message = Vec::with_capacity(timestamp.len() + body.len());
        message.extend_from_slice(timestamp);
        message.extend_from_slice(body);
        self.0
            .verify_strict(&message, &Signature::from_bytes(&signature))
            .map_err(|_| Unsigned::Signature)?;
        let signed_ms = timestamp
            .iter()
            .fold(0_u64, |sum, digit| {
                sum.saturating_mul(10)
                    .saturating_add(u64::from(digit - b'0'))
            })
            .saturating_mul(1000);
        if signed_ms.abs_diff(now_ms) > window_ms {
            return Err(Unsigned::Stale);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use ed25519_dalek::{Signer, SigningKey, Verifier};
    use proptest::prelude::*;

    use super::*;

    /// The order of the base point, little-endian (RFC 8032, section 5.1).
    const ORDER: [u8; 32] = [
        0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde,
        0x14, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
    ];
    /// The points of small order, in every spelling (the list of libsodium's `ge25519_has_small_order`).
    const SMALL_ORDER: [&str; 14] = [
        "0000000000000000000000000000000000000000000000000000000000000000",
        "0000000000000000000000000000000000000000000000000000000000000080",
        "0100000000000000000000000000000000000000000000000000000000000000",
        "0100000000000000000000000000000000000000000000000000000000000080",
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa",
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
        "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
        "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
    ];
    const NOW_MS: u64 = 1_730_000_000_500;
    const WINDOW_MS: u64 = 300_000;

    fn secret() -> SigningKey {
        SigningKey::from_bytes(&[7; 32])
    }

    fn public() -> PublicKey {
        hex::encode(secret().verifying_key().as_bytes())
            .parse()
            .unwrap()
    }

    fn headers(timestamp: &str, signature: &str) -> HeaderMap {
        [(TIMESTAMP, timestamp), (SIGNATURE, signature)]
            .into_iter()
            .map(|(name, value)| (name, value.parse().unwrap()))
            .collect()
    }

    fn sign(timestamp: &str, body: &[u8]) -> [u8; 64] {
        secret()
            .sign(&[timestamp.as_bytes(), body].concat())
            .to_bytes()
    }

    fn verify(timestamp: &str, signature: &str, body: &[u8]) -> Result<(), Unsigned> {
        public().verify(&headers(timestamp, signature), body, NOW_MS, WINDOW_MS)
    }

    #[test]
    fn a_signature_matches_in_upper_and_lower_case() {
        let signature = hex::encode(sign("1730000000", b"{}"));
        assert_eq!(verify("1730000000", &signature, b"{}"), Ok(()));
        assert_eq!(
            verify("1730000000", &signature.to_uppercase(), b"{}"),
            Ok(())
        );
    }

    #[test]
    fn a_published_vector_verifies() {
        // RFC 8032, section 7.1, test 2. Its message is no timestamp, so this checks that key and
        // signature are read in the byte order of the RFC.
        let key: PublicKey = "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c"
            .parse()
            .unwrap();
        let mut signature = [0; 64];
        hex::decode_to_slice(
            "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
            &mut signature,
        )
        .unwrap();
        assert!(
            key.0
                .verify_strict(&[0x72], &Signature::from_bytes(&signature))
                .is_ok()
        );
    }

    #[test]
    fn a_signature_is_accepted_within_the_window_only() {
        for (timestamp, expected) in [
            ("1729999701", Ok(())),
            ("1729999700", Err(Unsigned::Stale)),
            ("1730000300", Ok(())),
            ("1730000301", Err(Unsigned::Stale)),
            ("0", Err(Unsigned::Stale)),
            ("99999999999999999999", Err(Unsigned::Stale)),
        ] {
            let signature = hex::encode(sign(timestamp, b"x"));
            assert_eq!(verify(timestamp, &signature, b"x"), expected, "{timestamp}");
        }
    }

    #[test]
    fn only_the_documented_form_is_verified() {
        let good = hex::encode(sign("1730000000", b""));
        for (timestamp, signature) in [
            ("", good.as_str()),
            ("173000000x", &good),
            ("-1730000000", &good),
            ("1730000000 ", &good),
            ("000000000001730000000", &good),
            ("1730000000", ""),
            ("1730000000", &good[..126]),
            ("1730000000", &format!("{good}00")),
            ("1730000000", &format!("0x{}", &good[2..])),
            ("1730000000", &good.replacen(|_: char| true, "g", 1)),
        ] {
            // (http trims nothing here: the map is made by hand)
            assert_eq!(
                verify(timestamp, signature, b""),
                Err(Unsigned::Headers),
                "{timestamp:?} {signature:?}"
            );
        }
        for name in [TIMESTAMP, SIGNATURE] {
            let mut twice = headers("1730000000", &good);
            twice.append(&name, twice[&name].clone());
            assert_eq!(
                public().verify(&twice, b"", NOW_MS, WINDOW_MS),
                Err(Unsigned::Headers)
            );
            let mut missing = headers("1730000000", &good);
            missing.remove(&name);
            assert_eq!(
                public().verify(&missing, b"", NOW_MS, WINDOW_MS),
                Err(Unsigned::Headers)
            );
        }
    }

    #[test]
    fn another_encoding_of_a_signature_is_rejected() {
        let mut signature = sign("1730000000", b"{}");
        // S + L is the same scalar, and 2^255 > S + L: RFC 8032 wants it refused.
        let mut carry = 0;
        for (byte, order) in signature[32..].iter_mut().zip(ORDER) {
            let sum = u16::from(*byte) + u16::from(order) + carry;
            *byte = (sum & 0xff) as u8;
            carry = sum >> 8;
        }
        assert_eq!(carry, 0);
        assert_eq!(
            verify("1730000000", &hex::encode(signature), b"{}"),
            Err(Unsigned::Signature)
        );
    }

    #[test]
    fn a_signature_whose_r_is_of_small_order_is_refused() {
        // Made with the secret: R is the neutral point, S = k·a, so that S·B = R + k·A holds, and
        // a verifier that looks at the equation alone takes it.
        let r = SMALL_ORDER[2];
        let s = "9343484720fb4dd57607c4326d77738759433af35ad9559c7d5077d97618dc0c";
        let signature: [u8; 64] = hex::decode(format!("{r}{s}")).unwrap().try_into().unwrap();
        let lenient = public()
            .0
            .verify(b"1730000000{}", &Signature::from_bytes(&signature));
        assert!(lenient.is_ok(), "else this test shows nothing");
        assert_eq!(
            verify("1730000000", &hex::encode(signature), b"{}"),
            Err(Unsigned::Signature)
        );
    }

    #[test]
    fn a_signature_without_a_secret_is_refused() {
        // With R of small order and S = 0, R = S·B - k·A holds for a weak A and many messages.
        for point in SMALL_ORDER {
            let signature = format!("{point}{}", "00".repeat(32));
            assert_eq!(
                verify("1730000000", &signature, b"{}"),
                Err(Unsigned::Signature),
                "{point}"
            );
        }
    }

    #[test]
    fn an_invalid_or_weak_key_is_rejected_at_the_start() {
        for text in SMALL_ORDER {
            assert!(text.parse::<PublicKey>().is_err(), "{text}");
        }
        let good = hex::encode(secret().verifying_key().as_bytes());
        for text in [
            "",
            "00",
            &good[..62],
            &format!("{good}00"),
            &format!("zz{}", &good[2..]),
        ] {
            assert!(text.parse::<PublicKey>().is_err(), "{text}");
        }
        // y = p + 3 is y = 3 spelled twice.
        let twice = format!("f0{}7f", "ff".repeat(30));
        assert!(twice.parse::<PublicKey>().is_err());
        assert!(
            good.parse::<PublicKey>().is_ok() && good.to_uppercase().parse::<PublicKey>().is_ok()
        );
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(5))]
        #[test]
        fn a_wrong_bit_anywhere_is_refused(body in prop::collection::vec(any::<u8>(), 1..32), bit in 0_u8..8) {
            let timestamp = "1730000000";
            let signature = sign(timestamp, &body);
            prop_assert_eq!(verify(timestamp, &hex::encode(signature), &body), Ok(()));
            for at in 0..signature.len() {
                let mut wrong = signature;
                wrong[at] ^= 1 << bit;
                prop_assert_eq!(verify(timestamp, &hex::encode(wrong), &body), Err(Unsigned::Signature));
            }
            for at in 0..body.len() {
                let mut wrong = body.clone();
                wrong[at] ^= 1 << bit;
                prop_assert_eq!(verify(timestamp, &hex::encode(signature), &wrong), Err(Unsigned::Signature));
            }
            for at in 0..timestamp.len() {
                let mut wrong = timestamp.as_bytes().to_vec();
                wrong[at] = if wrong[at] == b'9' { b'0' } else { wrong[at] + 1 };
                let wrong = String::from_utf8(wrong).unwrap();
                prop_assert_eq!(verify(&wrong, &hex::encode(signature), &body), Err(Unsigned::Signature));
            }
            // A byte that moves from the body to the timestamp makes the same message.
            let digits = [timestamp.as_bytes(), b"7"].concat();
            let moved = secret().sign(&[&digits[..], &body].concat()).to_bytes();
            let with_seven = [b"7", &body[..]].concat();
            prop_assert_eq!(verify(timestamp, &hex::encode(moved), &with_seven), Ok(()), "as Discord defines it");
        }
    }
}
