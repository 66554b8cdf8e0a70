//! The tables of the store.

use super::rows::Table;

/// Which form this file has (`PRAGMA user_version`). A higher one is of a later Roomwire. Of a lower
/// one only the ledger's rooms are kept: their rows lack what later forms added, which has a default.
pub(crate) const VERSION: i64 = 4;
/// Marks a file as one of Roomwire's ("RWIR", `PRAGMA application_id`).
pub(crate) const APPLICATION: i64 = 0x5257_4952;

/// The name of the store, its form, the newest generation, when the bot identified.
pub(super) const META: Table = Table("meta", "key");
/// Who has which shard.
pub(super) const HOLDERS: Table = Table("holders", "shard");
/// How far the worker of each shard is, with its checkpoint.
pub(super) const REACHED: Table = Table("reached", "shard");
/// Where each guild's log stands.
pub(super) const GUILDS: Table = Table("guilds", "guild");
/// The ledger.
pub(super) const ROOMS: Table = Table("rooms", "channel");
/// Its pending creates.
pub(super) const PENDING: Table = Table("pending", "ticket");
/// The answers to requests with a key.
pub(super) const ANSWERS: Table = Table("answers", "request");
/// When each owner's budget is full.
pub(super) const BUDGETS: Table = Table("budgets", "owner");
/// The ids of events that were appended by hand.
pub(super) const EVENT_IDS: &str = "seen";
/// The ids of claims and notices.
pub(super) const REQUEST_IDS: &str = "spent";
/// The ids of interactions that were answered.
pub(super) const INTERACTIONS: &str = "interactions";

/// Makes all tables, in a file that may be of an older form: the rooms of the ledger stay. `bases`:
/// states of guilds. `entries`: what came after the oldest of them. `probe`: what is written to see
/// whether it can be.
pub(super) const BEGIN: &str = "
DROP TABLE IF EXISTS meta;
DROP TABLE IF EXISTS holders;
DROP TABLE IF EXISTS reached;
DROP TABLE IF EXISTS guilds;
DROP TABLE IF EXISTS bases;
DROP TABLE IF EXISTS entries;
DROP TABLE IF EXISTS pending;
DROP TABLE IF EXISTS answers;
DROP TABLE IF EXISTS budgets;
DROP TABLE IF EXISTS interactions;
DROP TABLE IF EXISTS seen;
DROP TABLE IF EXISTS spent;
DROP TABLE IF EXISTS probe;
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
CREATE TABLE IF NOT EXISTS rooms (channel INTEGER PRIMARY KEY, body BLOB NOT NULL, sum BLOB NOT NULL) STRICT;
CREATE TABLE pending (ticket INTEGER PRIMARY KEY, body BLOB NOT NULL, sum BLOB NOT NULL) STRICT;
CREATE TABLE answers (request TEXT PRIMARY KEY, body BLOB NOT NULL, sum BLOB NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE budgets (owner TEXT PRIMARY KEY, body BLOB NOT NULL, sum BLOB NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE seen (number INTEGER PRIMARY KEY, id TEXT NOT NULL, at_ms INTEGER NOT NULL, sum BLOB NOT NULL) STRICT;
CREATE TABLE spent (number INTEGER PRIMARY KEY, id TEXT NOT NULL, at_ms INTEGER NOT NULL, sum BLOB NOT NULL) STRICT;
CREATE TABLE interactions (number INTEGER PRIMARY KEY, id TEXT NOT NULL, at_ms INTEGER NOT NULL, sum BLOB NOT NULL) STRICT;
CREATE TABLE probe (only_one INTEGER PRIMARY KEY, body BLOB NOT NULL) STRICT;
";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tables_of_a_later_form_replace_those_of_this_one_and_the_rooms_stay() {
        let file = rusqlite::Connection::open_in_memory().unwrap();
        file.execute_batch(BEGIN).unwrap();
        file.execute_batch("INSERT INTO rooms VALUES (1, x'00', x'00')")
            .unwrap();
        file.execute_batch(BEGIN).unwrap();
        let count = |row: &rusqlite::Row<'_>| row.get(0);
        let rooms: i64 = file
            .query_row("SELECT count(*) FROM rooms", [], count)
            .unwrap();
        assert_eq!(rooms, 1);
    }
}
