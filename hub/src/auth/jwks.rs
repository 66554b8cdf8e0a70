//! The issuer's key set (RFC 7517): which of its keys can be used, and for what. Pure.
//!
//! A set may hold keys of kinds that we do not know, and broken ones: those are skipped and
//! counted, so that one of them does not lock everybody out. What makes a key unusable is decided
//! here, once, and not again at each token.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::DecodingKey;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::error::TokenError;

/// RSA keys below this many bits are skipped (RFC 7518, section 3.3).
const RSA_BITS_MIN: usize = 2048;
/// RSA keys above this many bits are skipped: verifying with them would cost a stranger little
/// and us much.
const RSA_BITS_MAX: usize = 8192;
/// The longest key id that is kept, in bytes.
const KID_BYTES_MAX: usize = 256;

/// The signature algorithms that are accepted, and no others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SignatureAlgorithm {
    /// RSASSA-PKCS1-v1_5 with SHA-256 (RFC 7518).
    RS256,
    /// ECDSA on P-256 with SHA-256 (RFC 7518).
    ES256,
    /// Ed25519: `EdDSA` by RFC 8037, `Ed25519` by RFC 9864.
    Ed25519,
}

impl SignatureAlgorithm {
    /// The algorithm of an `alg`, of a token or of a key.
    pub(super) fn named(name: &str) -> Option<Self> {
        match name {
            "RS256" => Some(Self::RS256),
            "ES256" => Some(Self::ES256),
            "EdDSA" | "Ed25519" => Some(Self::Ed25519),
            _ => None,
        }
    }

    fn primitive(self) -> jsonwebtoken::Algorithm {
        match self {
            Self::RS256 => jsonwebtoken::Algorithm::RS256,
            Self::ES256 => jsonwebtoken::Algorithm::ES256,
            Self::Ed25519 => jsonwebtoken::Algorithm::EdDSA,
        }
    }
}

/// One public key, good for one algorithm.
#[derive(Clone)]
pub(super) struct Key {
    kid: Option<String>,
    algorithm: SignatureAlgorithm,
    public: DecodingKey,
}

impl Key {
    /// Whether `signature` (base64url, as in a token) is this key's over `message`.
    pub(super) fn verifies(&self, message: &[u8], signature: &str) -> bool {
        // The algorithm is the key's, never the token's alone.
        let algorithm = self.algorithm.primitive();
        jsonwebtoken::crypto::verify(signature, message, &self.public, algorithm).unwrap_or(false)
    }
}

/// Why a body is not taken as a key set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum SetError {
    /// Not a JSON object with an array `keys`.
    #[error("not a JSON Web Key Set")]
    NotASet,
    /// More entries than the bound.
    #[error("more keys than the bound")]
    TooManyKeys,
}

/// The usable keys of one set.
#[derive(Clone, Default)]
pub(super) struct KeySet {
    keys: Vec<Key>,
    skipped: usize,
}

impl KeySet {
    /// Reads a set of at most `keys_max` entries.
    ///
    /// # Errors
    /// [`SetError`], when it is not a set at all. A set without usable keys is one: if an issuer
    /// takes out all its keys, none is good.
    pub(super) fn parse(body: &[u8], keys_max: usize) -> Result<Self, SetError> {
        #[derive(Deserialize)]
        struct Document {
            keys: Vec<Value>,
        }
        let document: Document = serde_json::from_slice(body).map_err(|_| SetError::NotASet)?;
        let entries = document.keys.len();
        if entries > keys_max {
            return Err(SetError::TooManyKeys);
        }
        let keys: Vec<_> = document.keys.iter().filter_map(usable).collect();
        let skipped = entries - keys.len();
        Ok(Self { keys, skipped })
    }

    /// How many keys can be used.
    pub(super) fn usable(&self) -> usize {
        self.keys.len()
    }

    /// How many entries were passed over.
    pub(super) fn skipped(&self) -> usize {
        self.skipped
    }

    /// The keys that may have signed a token with this key id and algorithm: one, unless the issuer
    /// gave one id to several. A token without a key id needs exactly one key that fits its
    /// algorithm.
    ///
    /// # Errors
    /// There is no such key, or several fit.
    pub(super) fn look_up(
        &self,
        kid: Option<&str>,
        algorithm: SignatureAlgorithm,
    ) -> Result<Vec<&Key>, TokenError> {
        let is_named = |key: &&Key| kid.is_none() || key.kid.as_deref() == kid;
        let named: Vec<_> = self.keys.iter().filter(is_named).collect();
        let fits = |key: &&Key| key.algorithm == algorithm;
        let fitting: Vec<_> = named.iter().copied().filter(fits).collect();
        match (fitting.len(), kid) {
            (0, Some(_)) if !named.is_empty() => Err(TokenError::KeyAlgorithm),
            (0, _) => Err(TokenError::UnknownKey),
            (1, _) | (_, Some(_)) => Ok(fitting),
            (_, None) => Err(TokenError::AmbiguousKey),
        }
    }
}

/// The key of one entry, if everything that the entry says of itself agrees.
fn usable(entry: &Value) -> Option<Key> {
    let entry = entry.as_object()?;
    let kid = match entry.get("kid") {
        None => None,
        Some(Value::String(kid)) if kid.len() <= KID_BYTES_MAX => Some(kid.clone()),
        Some(_) => return None,
    };
    // A published private key is no longer secret.
    if entry.contains_key("d") || !is_for_verifying(entry) {
        return None;
    }
    let (algorithm, public) = match text(entry, "kty")? {
        "RSA" => (SignatureAlgorithm::RS256, rsa(entry)?),
        "EC" if text(entry, "crv")? == "P-256" => (SignatureAlgorithm::ES256, p256(entry)?),
        "OKP" if text(entry, "crv")? == "Ed25519" => (SignatureAlgorithm::Ed25519, ed25519(entry)?),
        // Above all "oct": a secret has no place in a public set.
        _ => return None,
    };
    match entry.get("alg") {
        None => {}
        Some(Value::String(name)) if SignatureAlgorithm::named(name) == Some(algorithm) => {}
        Some(_) => return None,
    }
    Some(Key {
        kid,
        algorithm,
        public,
    })
}

/// RFC 7517, sections 4.2 and 4.3: what `use` and `key_ops` say, if they are there.
fn is_for_verifying(entry: &Map<String, Value>) -> bool {
    let by_use = entry.get("use").is_none_or(|usage| usage == "sig");
    let by_operations = match entry.get("key_ops") {
        None => true,
        Some(Value::Array(operations)) => operations.iter().any(|operation| operation == "verify"),
        Some(_) => false,
    };
    by_use && by_operations
}

fn text<'a>(entry: &'a Map<String, Value>, name: &str) -> Option<&'a str> {
    entry.get(name)?.as_str()
}

fn bytes(entry: &Map<String, Value>, name: &str) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(text(entry, name)?).ok()
}

/// RFC 7518, section 6.3. Some issuers put a zero in front of the modulus; that is let pass.
fn rsa(entry: &Map<String, Value>) -> Option<DecodingKey> {
    let (modulus, exponent) = (bytes(entry, "n")?, bytes(entry, "e")?);
    let (modulus, exponent) = (without_zeros(&modulus), without_zeros(&exponent));
    let bits = modulus.len() * 8 - usize::try_from(modulus.first()?.leading_zeros()).ok()?;
    let is_odd = |number: &[u8]| number.last().is_some_and(|byte| byte & 1 == 1);
    // An exponent of 1 would make every message its own signature; above 2^32 it is only slow.
    let exponent_fits = exponent != [1] && exponent.len() <= 4 && is_odd(exponent);
    let modulus_fits =
        (RSA_BITS_MIN..=RSA_BITS_MAX).contains(&bits) && is_odd(modulus) && !is_factorable(modulus);
    (modulus_fits && exponent_fits).then(|| DecodingKey::from_rsa_raw_components(modulus, exponent))
}

/// Whether a modulus has the mark of keys that a flawed library made (CVE-2017-15361, "ROCA"):
/// modulo each of these primes it is a power of 65537, and so it can be factored. Of other moduli,
/// fewer than one in a hundred million has the mark (Nemec et al., "The Return of Coppersmith's
/// Attack", 2017).
fn is_factorable(modulus: &[u8]) -> bool {
    const PRIMES: [u32; 38] = [
        3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47, 53, 59, 61, 67, 71, 73, 79, 83, 89,
        97, 101, 103, 107, 109, 113, 127, 131, 137, 139, 149, 151, 157, 163, 167,
    ];
    PRIMES.into_iter().all(|prime| {
        let residue = modulus
            .iter()
            .fold(0, |rest, byte| (rest * 256 + u32::from(*byte)) % prime);
        // The powers come round to 1 again, since 65537 is itself a prime and none of these.
        let next = |power: &u32| Some(power * 65_537 % prime).filter(|power| *power != 1);
        std::iter::successors(Some(1), next).any(|power| power == residue)
    })
}

fn without_zeros(number: &[u8]) -> &[u8] {
    let zeros = number.iter().take_while(|byte| **byte == 0).count();
    number.get(zeros..).unwrap_or_default()
}

/// RFC 7518, section 6.2: both coordinates in full length.
fn p256(entry: &Map<String, Value>) -> Option<DecodingKey> {
    let (x, y) = (bytes(entry, "x")?, bytes(entry, "y")?);
    // SEC 1, section 2.3.3: 4 stands for an uncompressed point.
    (x.len() == 32 && y.len() == 32).then(|| DecodingKey::from_ec_der(&[&[4][..], &x, &y].concat()))
}

/// RFC 8037, section 2. Points of small order are skipped: under them one signature fits many
/// messages.
fn ed25519(entry: &Map<String, Value>) -> Option<DecodingKey> {
    let point: [u8; 32] = bytes(entry, "x")?.try_into().ok()?;
    let key = ed25519_dalek::VerifyingKey::from_bytes(&point).ok()?;
    (!key.is_weak()).then(|| DecodingKey::from_ed_der(&point))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// RFC 8037, appendix A.2.
    const ED25519_X: &str = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo";
    /// RFC 7515, appendix A.3.
    const P256_X: &str = "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU";
    const P256_Y: &str = "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0";

    fn ed() -> Value {
        json!({"kty": "OKP", "crv": "Ed25519", "x": ED25519_X})
    }

    fn ec() -> Value {
        json!({"kty": "EC", "crv": "P-256", "x": P256_X, "y": P256_Y})
    }

    /// Not a real modulus, but one of this many bits.
    fn rsa_of(bits: usize) -> Value {
        let mut modulus = vec![0xff; bits.div_ceil(8)];
        modulus[0] >>= modulus.len() * 8 - bits;
        json!({"kty": "RSA", "n": URL_SAFE_NO_PAD.encode(modulus), "e": "AQAB"})
    }

    fn with(mut key: Value, changes: &Value) -> Value {
        for (name, value) in changes.as_object().unwrap() {
            key[name] = value.clone();
        }
        key
    }

    fn set(keys: &[Value]) -> KeySet {
        KeySet::parse(json!({ "keys": keys }).to_string().as_bytes(), 100).unwrap()
    }

    #[test]
    fn keys_that_agree_with_themselves_are_usable() {
        for key in [
            ed(),
            ec(),
            rsa_of(2048),
            rsa_of(8192),
            with(ed(), &json!({"alg": "EdDSA", "use": "sig", "kid": "a"})),
            with(ed(), &json!({"alg": "Ed25519", "key_ops": ["verify"]})),
            with(
                ec(),
                &json!({"alg": "ES256", "key_ops": ["sign", "verify"]}),
            ),
            with(
                rsa_of(2048),
                &json!({"alg": "RS256", "x5t": "a", "x5c": ["b"], "new": {}}),
            ),
            // A zero in front of the modulus, as some issuers write it.
            json!({"kty": "RSA", "e": "AQAB", "n": URL_SAFE_NO_PAD.encode([&[0][..], &[0xff; 256]].concat())}),
            json!({"kty": "RSA", "e": "Aw", "n": rsa_of(2048)["n"]}),
        ] {
            let set = set(std::slice::from_ref(&key));
            assert_eq!((set.usable(), set.skipped()), (1, 0), "{key}");
        }
    }

    #[test]
    fn unknown_broken_and_weak_keys_are_skipped_and_counted() {
        let small_order = URL_SAFE_NO_PAD.encode([&[1][..], &[0; 31]].concat());
        let unusable = [
            json!(null),
            json!("key"),
            json!([]),
            json!({}),
            json!({"kty": "oct", "k": "c2VjcmV0", "alg": "HS256"}),
            json!({"kty": "new"}),
            json!({"kty": 7}),
            json!({"kty": "OKP", "crv": "X25519", "x": ED25519_X}),
            json!({"kty": "OKP", "crv": "Ed448", "x": ED25519_X}),
            json!({"kty": "EC", "crv": "Ed25519", "x": ED25519_X}),
            json!({"kty": "EC", "crv": "P-384", "x": P256_X, "y": P256_Y}),
            json!({"kty": "EC", "crv": "secp256k1", "x": P256_X, "y": P256_Y}),
            json!({"kty": "EC", "crv": "P-256", "x": P256_X}),
            with(
                ec(),
                &json!({"y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5Q"}),
            ),
            with(ed(), &json!({"x": small_order})),
            with(ed(), &json!({"x": "AA"})),
            with(ed(), &json!({"x": format!("{ED25519_X}=")})),
            with(ed(), &json!({"x": 5})),
            rsa_of(1024),
            rsa_of(2047),
            rsa_of(8200),
            with(rsa_of(2048), &json!({"e": "AQ"})),
            with(rsa_of(2048), &json!({"e": "Ag"})),
            with(rsa_of(2048), &json!({"e": ""})),
            with(rsa_of(2048), &json!({"e": "AAAA"})),
            with(rsa_of(2048), &json!({"e": "AQAAAAE"})),
            with(rsa_of(2048), &json!({"n": ""})),
            with(rsa_of(2048), &json!({"n": "AAAA"})),
            with(rsa_of(2048), &json!({"alg": "PS256"})),
            with(rsa_of(2048), &json!({"alg": "RSA-OAEP"})),
            with(rsa_of(2048), &json!({"alg": "HS256"})),
            with(rsa_of(2048), &json!({"d": "AQAB"})),
            with(ed(), &json!({"alg": "ES256"})),
            with(ed(), &json!({"alg": null})),
            with(ed(), &json!({"use": "enc"})),
            with(ed(), &json!({"use": null})),
            with(ed(), &json!({"key_ops": ["sign"]})),
            with(ed(), &json!({"key_ops": "verify"})),
            with(ed(), &json!({"key_ops": []})),
            with(ed(), &json!({"kid": 7})),
            with(ed(), &json!({"kid": "k".repeat(257)})),
        ];
        for key in &unusable {
            let set = set(std::slice::from_ref(key));
            assert_eq!((set.usable(), set.skipped()), (0, 1), "{key}");
        }
        let mut mixed = unusable.to_vec();
        mixed.insert(3, ed());
        mixed.push(ec());
        assert_eq!(set(&mixed).usable(), 2);
        assert_eq!(set(&mixed).skipped(), unusable.len());
    }

    #[test]
    fn an_rsa_key_that_can_be_factored_is_skipped() {
        // 65537^128, big-endian: times 65537 is to add the number to itself, two bytes on.
        let mut marked = vec![1];
        for _ in 0..128 {
            let shifted = [&marked[..], &[0, 0]].concat();
            let mut carry = 0_u16;
            marked.splice(0..0, [0, 0]);
            for (digit, other) in marked.iter_mut().zip(shifted).rev() {
                let sum = u16::from(*digit) + u16::from(other) + carry;
                carry = sum >> 8;
                *digit = sum.to_le_bytes()[0];
            }
        }
        let key = |modulus: &[u8]| json!({"kty": "RSA", "e": "AQAB", "n": URL_SAFE_NO_PAD.encode(modulus)});
        assert_eq!(set(&[key(&marked)]).usable(), 0);
        *marked.last_mut().unwrap() ^= 2;
        assert_eq!(set(&[key(&marked)]).usable(), 1);
    }

    #[test]
    fn what_is_not_a_set_is_not_taken_for_an_empty_one() {
        for body in [
            "",
            "<!doctype html><html>Sign in</html>",
            "null",
            "[]",
            "{}",
            r#"{"keys":{}}"#,
            r#"{"keys":null}"#,
            r#"{"keys":[]"#,
            r#"{"keys":[]} x"#,
            "\u{0}",
        ] {
            let outcome = KeySet::parse(body.as_bytes(), 100).map(|set| set.usable());
            assert_eq!(outcome, Err(SetError::NotASet), "{body}");
        }
        let deep = format!("{{\"keys\":{}{}}}", "[".repeat(5000), "]".repeat(5000));
        assert!(KeySet::parse(deep.as_bytes(), 100).is_err());
        assert_eq!(set(&[]).usable(), 0);
        let three = json!({"keys": [1, 2, 3]}).to_string();
        assert!(KeySet::parse(three.as_bytes(), 3).is_ok());
        let outcome = KeySet::parse(three.as_bytes(), 2).map(|set| set.usable());
        assert_eq!(outcome, Err(SetError::TooManyKeys));
    }

    #[test]
    fn a_key_is_found_by_its_id_and_its_algorithm_together() {
        use SignatureAlgorithm::{ES256, Ed25519, RS256};
        use TokenError::{AmbiguousKey, KeyAlgorithm, UnknownKey};
        let kid = |key: Value, kid: &str| with(key, &json!({ "kid": kid }));
        let set = set(&[
            kid(ed(), "a"),
            kid(ec(), "b"),
            kid(rsa_of(2048), "b"),
            kid(ed(), "c"),
            kid(ed(), "c"),
            ec(),
            kid(ed(), ""),
        ]);
        for (key_id, algorithm, expected) in [
            (Some("a"), Ed25519, Ok(1)),
            (Some("a"), RS256, Err(KeyAlgorithm)),
            (Some("b"), ES256, Ok(1)),
            (Some("b"), RS256, Ok(1)),
            (Some("b"), Ed25519, Err(KeyAlgorithm)),
            (Some("c"), Ed25519, Ok(2)),
            (Some("A"), Ed25519, Err(UnknownKey)),
            (Some(""), Ed25519, Ok(1)),
            (Some(""), ES256, Err(KeyAlgorithm)),
            (Some("a "), Ed25519, Err(UnknownKey)),
            (None, RS256, Ok(1)),
            (None, ES256, Err(AmbiguousKey)),
            (None, Ed25519, Err(AmbiguousKey)),
        ] {
            let found = set.look_up(key_id, algorithm).map(|keys| keys.len());
            assert_eq!(found, expected, "{key_id:?} {algorithm:?}");
        }
        let none = KeySet::default();
        assert_eq!(none.look_up(None, RS256).err(), Some(UnknownKey));
    }
}
