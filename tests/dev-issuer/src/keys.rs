//! Key pairs in generations: the newest signs, some before it stay published.

use std::collections::VecDeque;

use anyhow::{Context as _, anyhow};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeyPair as RsaKeyPair, KeySize};
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _, RSA_PKCS1_SHA256,
};
use jsonwebtoken::jwk::{Jwk, PublicKeyUse, ThumbprintHash};
use jsonwebtoken::{Algorithm, DecodingKey};
use serde::Deserialize;
use serde_json::{Value, json};

/// What a token can be signed with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
pub enum SigningAlgorithm {
    /// RSASSA-PKCS1-v1_5 with SHA-256 (RFC 7518), a 2048 bit key.
    #[default]
    RS256,
    /// ECDSA on P-256 with SHA-256 (RFC 7518).
    ES256,
    /// Ed25519 (RFC 8037).
    EdDSA,
}

impl SigningAlgorithm {
    /// All of them, in the order of the key set.
    pub const ALL: [Self; 3] = [Self::RS256, Self::ES256, Self::EdDSA];

    /// The name for the token's header.
    pub fn name(self) -> &'static str {
        match self {
            Self::RS256 => "RS256",
            Self::ES256 => "ES256",
            Self::EdDSA => "EdDSA",
        }
    }
}

enum Private {
    Rsa(RsaKeyPair),
    P256(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
}

/// One key pair with its public description.
pub struct Key {
    private: Private,
    public: Jwk,
    kid: String,
}

impl Key {
    fn generate(algorithm: SigningAlgorithm) -> anyhow::Result<Self> {
        let failed = |_| anyhow!("cannot make a key for {}", algorithm.name());
        let (private, public, named) = match algorithm {
            SigningAlgorithm::RS256 => {
                let pair = RsaKeyPair::generate(KeySize::Rsa2048).map_err(failed)?;
                let public = DecodingKey::from_rsa_der(pair.public_key().as_ref());
                (Private::Rsa(pair), public, Algorithm::RS256)
            }
            SigningAlgorithm::ES256 => {
                let pair =
                    EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).map_err(failed)?;
                let public = DecodingKey::from_ec_der(pair.public_key().as_ref());
                (Private::P256(pair), public, Algorithm::ES256)
            }
            SigningAlgorithm::EdDSA => {
                let pair = Ed25519KeyPair::generate().map_err(failed)?;
                let public = DecodingKey::from_ed_der(pair.public_key().as_ref());
                (Private::Ed25519(pair), public, Algorithm::EdDSA)
            }
        };
        let mut public = Jwk::from_decoding_key(&public, Some(named)).context("public key")?;
        let kid = public
            .thumbprint(ThumbprintHash::SHA256)
            .context("thumbprint")?;
        public.common.key_id = Some(kid.clone());
        public.common.public_key_use = Some(PublicKeyUse::Signature);
        Ok(Self {
            private,
            public,
            kid,
        })
    }

    /// The key id: the RFC 7638 thumbprint.
    pub fn kid(&self) -> &str {
        &self.kid
    }

    /// Signs a message, in the form that JWS wants.
    ///
    /// # Errors
    /// When the cryptographic library fails, which it does not for keys that it made itself.
    pub fn sign(&self, message: &[u8]) -> anyhow::Result<Vec<u8>> {
        let failed = |_| anyhow!("signing failed");
        let random = SystemRandom::new();
        match &self.private {
            Private::Rsa(pair) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &random, message, &mut signature)
                    .map_err(failed)?;
                Ok(signature)
            }
            Private::P256(pair) => Ok(pair
                .sign(&random, message)
                .map_err(failed)?
                .as_ref()
                .to_vec()),
            Private::Ed25519(pair) => Ok(pair.sign(message).as_ref().to_vec()),
        }
    }
}

/// One key for each algorithm, made together.
pub struct Generation([Key; 3]);

impl Generation {
    /// Makes a key for each algorithm. Takes up to a second: RSA needs primes.
    ///
    /// # Errors
    /// When the cryptographic library cannot make a key.
    pub fn generate() -> anyhow::Result<Self> {
        let [rsa, p256, ed25519] = SigningAlgorithm::ALL;
        Ok(Self([
            Key::generate(rsa)?,
            Key::generate(p256)?,
            Key::generate(ed25519)?,
        ]))
    }

    /// The key that signs with this algorithm.
    pub fn key(&self, algorithm: SigningAlgorithm) -> &Key {
        let [rsa, p256, ed25519] = &self.0;
        match algorithm {
            SigningAlgorithm::RS256 => rsa,
            SigningAlgorithm::ES256 => p256,
            SigningAlgorithm::EdDSA => ed25519,
        }
    }

    fn kids(&self) -> impl Iterator<Item = String> {
        self.0.iter().map(|key| key.kid.clone())
    }
}

/// What a rotation changed, as key ids.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Rotation {
    /// The keys that sign from now on.
    pub signing: Vec<String>,
    /// All keys of the set, the newest first.
    pub published: Vec<String>,
    /// The keys that left the set.
    pub removed: Vec<String>,
}

/// The published generations; bounded by `kept + 1`.
pub struct Ring {
    newest: Generation,
    older: VecDeque<Generation>,
    kept: usize,
}

impl Ring {
    /// A ring with one generation, that keeps `kept` older ones published.
    ///
    /// # Errors
    /// When the cryptographic library cannot make a key.
    pub fn generate(kept: usize) -> anyhow::Result<Self> {
        Ok(Self {
            newest: Generation::generate()?,
            older: VecDeque::new(),
            kept,
        })
    }

    /// The key that signs tokens of this algorithm now.
    pub fn signing(&self, algorithm: SigningAlgorithm) -> &Key {
        self.newest.key(algorithm)
    }

    /// Puts a new generation in front; what is beyond the bound leaves the set.
    pub fn rotate(&mut self, next: Generation) -> Rotation {
        self.older
            .push_front(std::mem::replace(&mut self.newest, next));
        let removed = self
            .older
            .drain(self.kept.min(self.older.len())..)
            .flat_map(|generation| generation.kids().collect::<Vec<_>>())
            .collect();
        Rotation {
            signing: self.newest.kids().collect(),
            published: self.published().map(|key| key.kid.clone()).collect(),
            removed,
        }
    }

    /// The key set (RFC 7517), public parts only.
    pub fn key_set(&self) -> Value {
        json!({ "keys": self.published().map(|key| &key.public).collect::<Vec<_>>() })
    }

    fn published(&self) -> impl Iterator<Item = &Key> {
        std::iter::once(&self.newest)
            .chain(&self.older)
            .flat_map(|generation| &generation.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rotation_keeps_the_requested_number_of_generations() {
        for kept in [0, 2] {
            let mut ring = Ring::generate(kept).unwrap();
            let mut signing: Vec<Vec<String>> = vec![ring.newest.kids().collect()];
            for _ in 0..3 {
                let rotation = ring.rotate(Generation::generate().unwrap());
                let before = signing.clone();
                signing.insert(0, rotation.signing.clone());
                signing.truncate(kept + 1);
                assert_eq!(rotation.published, signing.concat());
                let removed: Vec<String> = before
                    .concat()
                    .into_iter()
                    .filter(|kid| !rotation.published.contains(kid))
                    .collect();
                assert_eq!(rotation.removed, removed);
            }
        }
    }

    #[test]
    fn the_key_set_holds_no_private_part() {
        let set = Ring::generate(0).unwrap().key_set();
        let keys = set["keys"].as_array().unwrap();
        assert_eq!(keys.len(), 3);
        for key in keys {
            for private in ["d", "p", "q", "dp", "dq", "qi", "k"] {
                assert!(key.get(private).is_none(), "{private} in {key}");
            }
            assert_eq!(key["use"], "sig");
            assert_eq!(key["kid"].as_str().unwrap().len(), 43);
        }
    }
}
