//! The tables, and the checksums that guard their rows.

use sha2::{Digest, Sha256};

/// Which form this file has (`PRAGMA user_version`). A higher one is of a later Roomwire. Form 2
/// keeps which denies a guild's channels inherit: in its bases, in entries and in rows of the ledger.
/// Form 3 keeps when an event was appended by hand.
pub(crate) const VERSION: i64 = 3;
/// The oldest form that is read, and made one of [`VERSION`].
pub(super) const OLDEST: i64 = 1;
/// Marks a file as one of Roomwire's ("RWIR", `PRAGMA application_id`).
pub(crate) const APPLICATION: i64 = 0x5257_4952;

/// `bases`: states of guilds. `entries`: what came after the oldest of them. `guilds`: where each
/// stands. `holders`, `reached`: who has which shard, and its checkpoint. `seen`: ids of events
/// appended by hand. `spent`: those of claims and notices. `rooms`: the ledger. `pending`: its
/// pending creates. `budgets`: when each owner's budget is full. `interactions`: those
/// that were answered. `probe`: what is written to see
/// whether it can be.
pub(super) const TABLES: &str = "
CREATE TABLE meta (key TEXT PRIMARY KEY, body BLOB NOT NULL, sum BLOB NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE holders (shard INTEGER PRIMARY KEY, body BLOB NOT NULL, sum BLOB NOT NULL) STRICT;
CREATE TABLE reached (shard INTEGER PRIMARY KEY, body BLOB NOT NULL, sum BLOB NOT NULL) STRICT;
CREATE TABLE guilds (guild INTEGER PRIMARY KEY, body BLOB NOT NULL, sum BLOB NOT NULL) STRICT;
CREATE TABLE bases (guild INTEGER NOT NULL, at_offset INTEGER NOT NULL, epoch INTEGER NOT NULL,
    at_check INTEGER NOT NULL, kept_ms INTEGER NOT NULL, body BLOB NOT NULL, sum BLOB NOT NULL,
    PRIMARY KEY (guild, at_offset)) STRICT;
CREATE TABLE entries (guild INTEGER NOT NULL, at_offset INTEGER NOT NULL, ts INTEGER NOT NULL,
    kept_ms INTEGER NOT NULL, at_check INTEGER NOT NULL, body BLOB NOT NULL, sum BLOB NOT NULL,
    PRIMARY KEY (guild, at_offset)) STRICT, WITHOUT ROWID;
CREATE TABLE seen (number INTEGER PRIMARY KEY, id TEXT NOT NULL, at_ms INTEGER NOT NULL, sum BLOB NOT NULL) STRICT;
CREATE TABLE rooms (channel INTEGER PRIMARY KEY, body BLOB NOT NULL, sum BLOB NOT NULL) STRICT;
CREATE TABLE pending (ticket INTEGER PRIMARY KEY, body BLOB NOT NULL, sum BLOB NOT NULL) STRICT;
CREATE TABLE budgets (owner TEXT PRIMARY KEY, body BLOB NOT NULL, sum BLOB NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE interactions (number INTEGER PRIMARY KEY, id TEXT NOT NULL, at_ms INTEGER NOT NULL, sum BLOB NOT NULL) STRICT;
CREATE TABLE spent (number INTEGER PRIMARY KEY, id TEXT NOT NULL, at_ms INTEGER NOT NULL, sum BLOB NOT NULL) STRICT;
CREATE TABLE probe (only_one INTEGER PRIMARY KEY, body BLOB NOT NULL) STRICT;
";

/// What a store of form 2 or 1 lacks.
pub(super) const TO_FORM_3: &str = "
DROP TABLE seen;
CREATE TABLE seen (number INTEGER PRIMARY KEY, id TEXT NOT NULL, at_ms INTEGER NOT NULL, sum BLOB NOT NULL) STRICT;
CREATE TABLE pending (ticket INTEGER PRIMARY KEY, body BLOB NOT NULL, sum BLOB NOT NULL) STRICT;
CREATE TABLE budgets (owner TEXT PRIMARY KEY, body BLOB NOT NULL, sum BLOB NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE interactions (number INTEGER PRIMARY KEY, id TEXT NOT NULL, at_ms INTEGER NOT NULL, sum BLOB NOT NULL) STRICT;
";

pub(super) const PUT_META: &str =
    "INSERT OR REPLACE INTO meta (key, body, sum) VALUES (?1, ?2, ?3)";
pub(super) const PUT_HOLDER: &str =
    "INSERT OR REPLACE INTO holders (shard, body, sum) VALUES (?1, ?2, ?3)";
pub(super) const PUT_REACHED: &str =
    "INSERT OR REPLACE INTO reached (shard, body, sum) VALUES (?1, ?2, ?3)";
pub(super) const PUT_GUILD: &str =
    "INSERT OR REPLACE INTO guilds (guild, body, sum) VALUES (?1, ?2, ?3)";
pub(super) const PUT_BASE: &str = "INSERT OR REPLACE INTO bases \
     (guild, at_offset, epoch, at_check, kept_ms, body, sum) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
pub(super) const PUT_ENTRY: &str = "INSERT INTO entries \
     (guild, at_offset, ts, kept_ms, at_check, body, sum) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
pub(super) const PUT_ROOM: &str =
    "INSERT OR REPLACE INTO rooms (channel, body, sum) VALUES (?1, ?2, ?3)";
pub(super) const PUT_PENDING: &str =
    "INSERT OR REPLACE INTO pending (ticket, body, sum) VALUES (?1, ?2, ?3)";
pub(super) const PUT_BUDGET: &str =
    "INSERT OR REPLACE INTO budgets (owner, body, sum) VALUES (?1, ?2, ?3)";
pub(super) const DELETE_SHARD: [&str; 2] = [
    "DELETE FROM holders WHERE shard = ?1",
    "DELETE FROM reached WHERE shard = ?1",
];
pub(super) const DELETE_BASES: &str = "DELETE FROM bases WHERE guild = ?1 AND at_offset < ?2";
pub(super) const DELETE_ENTRIES: &str = "DELETE FROM entries WHERE guild = ?1 AND at_offset <= ?2";

/// What guards a row: the digest of its table and its columns, cut to 8 bytes.
pub(super) fn checksum(table: &str, columns: &[&[u8]]) -> [u8; 8] {
    let mut digest = Sha256::new();
    for part in std::iter::once(table.as_bytes()).chain(columns.iter().copied()) {
        digest.update((part.len() as u64).to_be_bytes());
        digest.update(part);
    }
    digest.finalize().first_chunk().copied().unwrap_or_default()
}
