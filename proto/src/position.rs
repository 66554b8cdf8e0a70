//! A place in a guild's log, as a browser keeps it: opaque.
//!
//! A position says how many events a guild's log holds, and some of them are about rooms that the
//! browser must not even guess at. So a position is written encrypted (AES-128 over two blocks,
//! chained, the first of which begins with a salt): two positions of the same place look unrelated.
//! It is not authenticated, and need not be: a forged one leads at worst to another place
//! in the forger's own view. A text that this key did not seal is recognised all the same, but for
//! one in 65,536: its epoch is beyond [`EPOCH_MAX`].
//!
//! A key may be followed by former ones, which open and do not seal: so the secret can be replaced
//! while browsers hold positions. Which key sealed a text is found by trying.

use std::sync::Arc;

use aes::Aes128;
use aes::cipher::{BlockCipherDecrypt, BlockCipherEncrypt, KeyInit};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, Mac};
use sha2::Sha256;

use crate::signing::SigningKeys;

const BLOCK: usize = 16;
/// How long a written position is, in characters.
pub const SEALED_CHARS: usize = 43;

/// A place in one guild's log, as one view sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Position {
    /// Which continuous history.
    pub epoch: u64,
    /// How many events of it.
    pub offset: u64,
    /// Which event is at `offset`: names another after the store was replaced by an older copy.
    pub check: u32,
    /// An event may be several frames in a view (a room that becomes visible brings its members).
    /// 0: all of those at `offset` were seen; else only so many, or [`UNFINISHED`].
    pub step: u16,
    /// Which view: what was seen up to here differs from view to view.
    pub view: u32,
}

/// The highest offset that a position can name.
pub const OFFSET_MAX: u64 = (1 << 48) - 1;

/// The highest epoch that a position can name. Epochs are about the time of their beginning in ms
/// since the Unix epoch: this one is in the year 10889.
pub const EPOCH_MAX: u64 = (1 << 48) - 1;

/// As a [`Position::step`]: what stands here was not told whole, and can not be continued. Nobody
/// who holds such a position has seen the guild as it was there.
pub const UNFINISHED: u16 = u16::MAX;

/// Seals and opens positions. A clone is a reference.
#[derive(Clone)]
pub struct PositionKey(Arc<Keys>);

struct Keys {
    /// Seals, and opens.
    first: Aes128,
    /// Open what the first did not seal.
    former: Vec<Aes128>,
}

impl PositionKey {
    /// A key that follows from a secret and is of no use for anything else.
    pub fn derive(secret: &[u8]) -> Self {
        Self::of(secret, std::iter::empty())
    }

    /// The key of a door's secrets: the first seals, all open. At most as many are tried for one
    /// text as [`SigningKeys`] takes.
    pub fn derive_all(secrets: &SigningKeys) -> Self {
        Self::of(secrets.first(), secrets.former())
    }

    fn of<'a>(first: &[u8], former: impl Iterator<Item = &'a [u8]>) -> Self {
        Self(Arc::new(Keys {
            first: cipher(first),
            former: former.map(cipher).collect(),
        }))
    }

    /// The position as text. `salt` makes equal positions look different; draw it at random.
    pub fn seal(&self, position: Position, salt: u64) -> String {
        let mut first = [0; BLOCK];
        first[..8].copy_from_slice(&salt.to_be_bytes());
        first[8..].copy_from_slice(&position.epoch.min(EPOCH_MAX).to_be_bytes());
        let mut second = [0; BLOCK];
        let [_, _, offset @ ..] = position.offset.min(OFFSET_MAX).to_be_bytes();
        second[..6].copy_from_slice(&offset);
        second[6..8].copy_from_slice(&position.step.to_be_bytes());
        second[8..12].copy_from_slice(&position.check.to_be_bytes());
        second[12..].copy_from_slice(&position.view.to_be_bytes());

        let mut first = first.into();
        self.0.first.encrypt_block(&mut first);
        for (byte, chained) in second.iter_mut().zip(first.iter()) {
            *byte ^= chained;
        }
        let mut second = second.into();
        self.0.first.encrypt_block(&mut second);

        let mut sealed = [0; 2 * BLOCK];
        sealed[..BLOCK].copy_from_slice(&first);
        sealed[BLOCK..].copy_from_slice(&second);
        URL_SAFE_NO_PAD.encode(sealed)
    }

    /// The position of a text that this key or a former one sealed; `None` for any other text, but
    /// for one in 65,536 (a key) of the right form, which opens as nonsense: its epoch and view
    /// match nothing.
    pub fn open(&self, text: &str) -> Option<Position> {
        if text.len() != SEALED_CHARS {
            return None;
        }
        let sealed = URL_SAFE_NO_PAD.decode(text).ok()?.try_into().ok()?;
        let keys = std::iter::once(&self.0.first).chain(&self.0.former);
        { keys }.find_map(|key| open_with(key, &sealed))
    }
}

fn cipher(secret: &[u8]) -> Aes128 {
    #[expect(
        clippy::expect_used,
        reason = "HMAC takes a key of any length (RFC 2104)"
    )]
    let mut mac = <Hmac<Sha256> as KeyInit>::new_from_slice(secret).expect("any length");
    mac.update(b"roomwire position 1");
    let digest = mac.finalize().into_bytes();
    let mut key = [0; BLOCK];
    key.copy_from_slice(&digest[..BLOCK]);
    Aes128::new(&key.into())
}

fn open_with(key: &Aes128, sealed: &[u8; 2 * BLOCK]) -> Option<Position> {
    let (first, second): (&[u8; BLOCK], &[u8; BLOCK]) =
        (sealed.first_chunk()?, sealed.last_chunk()?);
    let mut head = (*first).into();
    key.decrypt_block(&mut head);
    let epoch = u64::from_be_bytes(*head.last_chunk()?);
    if epoch > EPOCH_MAX {
        return None;
    }
    let mut opened = (*second).into();
    key.decrypt_block(&mut opened);
    for (byte, chained) in opened.iter_mut().zip(first) {
        *byte ^= chained;
    }
    let [a, b, c, d, e, f] = *opened.first_chunk()?;
    Some(Position {
        epoch,
        offset: u64::from_be_bytes([0, 0, a, b, c, d, e, f]),
        step: u16::from_be_bytes(*opened[6..8].first_chunk()?),
        check: u32::from_be_bytes(*opened[8..12].first_chunk()?),
        view: u32::from_be_bytes(*opened.last_chunk()?),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_was_sealed_opens_the_same(
            epoch in 0..=EPOCH_MAX, offset in 0..=OFFSET_MAX, check: u32, step: u16, view: u32, salt: u64,
        ) {
            let key = PositionKey::derive(b"secret");
            let position = Position { epoch, offset, check, step, view };
            let text = key.seal(position, salt);
            prop_assert_eq!(text.len(), SEALED_CHARS);
            prop_assert_eq!(key.open(&text), Some(position));
            prop_assert_ne!(key.seal(position, salt.wrapping_add(1)), text);
        }

        #[test]
        fn any_text_opens_without_a_panic(text in ".{0,60}") {
            PositionKey::derive(b"secret").open(&text);
        }
    }

    #[test]
    fn what_another_key_sealed_is_no_position() {
        let (ours, theirs) = (
            PositionKey::derive(b"secret"),
            PositionKey::derive(b"another"),
        );
        let opened = (0..200).filter(|salt| {
            let position = Position {
                epoch: 1_730_000_000_000,
                offset: 7,
                check: 9,
                step: 0,
                view: 3,
            };
            theirs.open(&ours.seal(position, *salt)).is_some()
        });
        assert_eq!(opened.count(), 0);
    }

    #[test]
    fn a_former_secret_opens_what_it_sealed_and_the_first_one_seals() {
        let [old, new] = ["b2xk", "bmV3"].map(|name| format!("whsec_{}", name.repeat(11)));
        let key = |secrets: String| PositionKey::derive_all(&SigningKeys::parse(&secrets).unwrap());
        let (old_alone, new_alone) = (key(old.clone()), key(new.clone()));
        let both = key(format!("{new},{old}"));
        let position = Position {
            epoch: 1_730_000_000_000,
            offset: 7,
            check: 9,
            step: 0,
            view: 3,
        };
        for salt in 0..50 {
            assert_eq!(both.open(&old_alone.seal(position, salt)), Some(position));
            let sealed = both.seal(position, salt);
            assert_eq!(sealed.len(), SEALED_CHARS);
            assert_eq!(new_alone.open(&sealed), Some(position));
            assert_eq!(old_alone.open(&sealed), None);
        }
    }

    #[test]
    fn neighbouring_positions_share_no_part() {
        let key = PositionKey::derive(b"secret");
        let at = |offset, salt| {
            key.seal(
                Position {
                    epoch: 1,
                    offset,
                    check: 0,
                    step: 0,
                    view: 1,
                },
                salt,
            )
        };
        let (a, b) = (at(1, 10), at(2, 11));
        assert!(a[..21] != b[..21] && a[22..] != b[22..]);
    }
}
