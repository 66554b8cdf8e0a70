//! A place in a guild's log, as a browser keeps it: opaque.
//!
//! A position counts the events of a guild's log, and some of them concern rooms that the viewer
//! must not see. So a position is sealed with AES-128-GCM-SIV (RFC 8452) under a key of the hub,
//! with a random nonce for each text:
//!
//! - The text does not reveal the count.
//! - Two texts of the same place differ. With a nonce derived from the place, equal texts would show
//!   that nothing happened between two requests, and different texts that a hidden event did.
//! - A nonce that repeats reveals only that the same place was sealed twice. This is why the mode is
//!   GCM-SIV and not GCM: 96 random bits need no counter that survives a restart.
//! - A text that this key did not seal does not open.
//!
//! Former keys may follow the key. They open and do not seal, so the secret can be replaced while
//! browsers hold positions. [`PositionKey::open`] tries each key.

use std::sync::Arc;

use aes_gcm_siv::{AeadInOut, Aes128GcmSiv, KeyInit};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, Mac};
use sha2::Sha256;

use crate::signing::SigningKeys;

/// The length of the random part of a text, in bytes.
pub const NONCE_BYTES: usize = 12;
const BODY_BYTES: usize = 26;
const TAG_BYTES: usize = 16;
const SEALED_BYTES: usize = NONCE_BYTES + BODY_BYTES + TAG_BYTES;
/// The length of a sealed position, in characters. Browsers may rely on 96 at most.
pub const SEALED_CHARS: usize = SEALED_BYTES.div_ceil(3) * 4;
const _: () = assert!(SEALED_CHARS <= 96 && SEALED_BYTES.is_multiple_of(3));

/// A place in one guild's log, as one view sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ViewPosition {
    /// Which continuous history.
    pub epoch: u64,
    /// How many events of it.
    pub offset: u64,
    /// Identifies the event at `offset`: another one stands there after the store was replaced by
    /// an older copy.
    pub check: u32,
    /// An event may be several frames in a view (a room that becomes visible brings its members).
    /// 0: the viewer has all frames of the event at `offset`. Otherwise the number of its frames
    /// that the viewer has, or [`UNFINISHED`].
    pub step: u16,
    /// The fingerprint of the view: the events up to here differ from view to view.
    pub view: u32,
}

/// As a [`ViewPosition::step`]: the viewer has only a part of a snapshot, and cannot continue here.
pub const UNFINISHED: u16 = u16::MAX;

/// Seals and opens positions. A clone is a reference.
#[derive(Clone)]
pub struct PositionKey(Arc<Keys>);

struct Keys {
    /// Seals, and opens.
    first: Aes128GcmSiv,
    /// Open what the first did not seal.
    former: Vec<Aes128GcmSiv>,
}

impl PositionKey {
    /// Derives the key from a secret. The key serves no other purpose.
    pub fn derive(secret: &[u8]) -> Self {
        Self::of(secret, std::iter::empty())
    }

    /// Derives one key from each secret: the first seals, all open. [`SigningKeys`] bounds their
    /// number.
    pub fn derive_all(secrets: &SigningKeys) -> Self {
        Self::of(secrets.first(), secrets.former())
    }

    fn of<'a>(first: &[u8], former: impl Iterator<Item = &'a [u8]>) -> Self {
        Self(Arc::new(Keys {
            first: cipher(first),
            former: former.map(cipher).collect(),
        }))
    }

    /// The position as text. `nonce` makes equal positions look different: draw it at random.
    pub fn seal(&self, position: ViewPosition, nonce: [u8; NONCE_BYTES]) -> String {
        let mut body = write(position);
        #[expect(
            clippy::expect_used,
            reason = "the mode takes up to 2^36 bytes (RFC 8452, section 6)"
        )]
        let tag = self
            .0
            .first
            .encrypt_inout_detached(&nonce.into(), &[], body.as_mut_slice().into())
            .expect("a short body");
        let mut sealed = [0; SEALED_BYTES];
        sealed[..NONCE_BYTES].copy_from_slice(&nonce);
        sealed[NONCE_BYTES..][..BODY_BYTES].copy_from_slice(&body);
        sealed[NONCE_BYTES + BODY_BYTES..].copy_from_slice(&tag);
        URL_SAFE_NO_PAD.encode(sealed)
    }

    /// The position of a text that this key or a former one sealed; `None` for any other text.
    pub fn open(&self, text: &str) -> Option<ViewPosition> {
        if text.len() != SEALED_CHARS {
            return None;
        }
        let sealed = URL_SAFE_NO_PAD.decode(text).ok()?;
        let (nonce, rest) = sealed.split_first_chunk::<NONCE_BYTES>()?;
        let (sealed, tag) = rest.split_first_chunk::<BODY_BYTES>()?;
        let (nonce, tag) = ((*nonce).into(), tag.try_into().ok()?);
        let keys = std::iter::once(&self.0.first).chain(&self.0.former);
        { keys }.find_map(|key| {
            let mut body = *sealed;
            key.decrypt_inout_detached(&nonce, &[], body.as_mut_slice().into(), &tag)
                .ok()?;
            read(&body)
        })
    }
}

fn cipher(secret: &[u8]) -> Aes128GcmSiv {
    #[expect(
        clippy::expect_used,
        reason = "HMAC takes a key of any length (RFC 2104)"
    )]
    let mut mac = <Hmac<Sha256> as KeyInit>::new_from_slice(secret).expect("any length");
    mac.update(b"roomwire position 2");
    let digest: [u8; 32] = mac.finalize().into_bytes().into();
    let (key, _) = digest.split_at(16);
    let mut first = [0; 16];
    first.copy_from_slice(key);
    Aes128GcmSiv::new(&first.into())
}

fn write(position: ViewPosition) -> [u8; BODY_BYTES] {
    let mut body = [0; BODY_BYTES];
    body[..8].copy_from_slice(&position.epoch.to_be_bytes());
    body[8..16].copy_from_slice(&position.offset.to_be_bytes());
    body[16..20].copy_from_slice(&position.check.to_be_bytes());
    body[20..22].copy_from_slice(&position.step.to_be_bytes());
    body[22..].copy_from_slice(&position.view.to_be_bytes());
    body
}

fn read(body: &[u8; BODY_BYTES]) -> Option<ViewPosition> {
    let (epoch, rest) = body.split_first_chunk()?;
    let (offset, rest) = rest.split_first_chunk()?;
    let (check, rest) = rest.split_first_chunk()?;
    let (step, view) = rest.split_first_chunk()?;
    Some(ViewPosition {
        epoch: u64::from_be_bytes(*epoch),
        offset: u64::from_be_bytes(*offset),
        check: u32::from_be_bytes(*check),
        step: u16::from_be_bytes(*step),
        view: u32::from_be_bytes(view.try_into().ok()?),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SOMEWHERE: ViewPosition = ViewPosition {
        epoch: 1_730_000_000_000,
        offset: 7,
        check: 9,
        step: 0,
        view: 3,
    };

    fn nonce(first: u8) -> [u8; NONCE_BYTES] {
        let mut nonce = [0; NONCE_BYTES];
        nonce[0] = first;
        nonce
    }

    proptest! {
        #[test]
        fn a_sealed_position_opens_the_same(
            epoch: u64, offset: u64, check: u32, step: u16, view: u32, nonce: [u8; NONCE_BYTES],
        ) {
            let key = PositionKey::derive(b"secret");
            let position = ViewPosition { epoch, offset, check, step, view };
            let text = key.seal(position, nonce);
            prop_assert_eq!(text.len(), SEALED_CHARS);
            prop_assert_eq!(key.open(&text), Some(position));
            let mut other = nonce;
            other[0] ^= 1;
            prop_assert_ne!(key.seal(position, other), text);
        }

        #[test]
        fn any_text_opens_without_a_panic(text in ".{0,100}") {
            PositionKey::derive(b"secret").open(&text);
        }

        #[test]
        fn a_changed_text_does_not_open(index in 0..SEALED_CHARS, by in 1..64_usize) {
            const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
            let key = PositionKey::derive(b"secret");
            let mut text = key.seal(SOMEWHERE, nonce(5)).into_bytes();
            let at = ALPHABET.iter().position(|letter| *letter == text[index]).unwrap();
            text[index] = ALPHABET[(at + by) % 64];
            prop_assert_eq!(key.open(&String::from_utf8(text).unwrap()), None);
        }
    }

    #[test]
    fn another_key_does_not_open_a_position() {
        let (ours, theirs) = (
            PositionKey::derive(b"secret"),
            PositionKey::derive(b"another"),
        );
        for first in 0..=255 {
            assert_eq!(theirs.open(&ours.seal(SOMEWHERE, nonce(first))), None);
        }
    }

    #[test]
    fn a_former_secret_opens_what_it_sealed_and_the_first_one_seals() {
        let [old, new] = ["b2xk", "bmV3"].map(|name| format!("whsec_{}", name.repeat(11)));
        let key = |secrets: String| PositionKey::derive_all(&SigningKeys::parse(&secrets).unwrap());
        let (old_alone, new_alone) = (key(old.clone()), key(new.clone()));
        let both = key(format!("{new},{old}"));
        let by_the_former = old_alone.seal(SOMEWHERE, nonce(1));
        assert_eq!(both.open(&by_the_former), Some(SOMEWHERE));
        let sealed = both.seal(SOMEWHERE, nonce(2));
        assert_eq!(new_alone.open(&sealed), Some(SOMEWHERE));
        assert_eq!(old_alone.open(&sealed), None);
    }

    #[test]
    fn neighbouring_positions_share_no_part() {
        let key = PositionKey::derive(b"secret");
        let at = |offset, first| {
            let position = ViewPosition {
                offset,
                ..SOMEWHERE
            };
            let sealed = key.seal(position, [first; NONCE_BYTES]);
            URL_SAFE_NO_PAD.decode(sealed).unwrap()
        };
        let (a, b) = (at(1, 10), at(2, 11));
        assert!(a.iter().zip(&b).filter(|(a, b)| a == b).count() < 4);
    }
}
