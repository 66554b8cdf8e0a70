//! The rows of the tables, each with the checksum that guards it.

use std::sync::Arc;

use proto::GuildId;
use rusqlite::types::FromSql;
use rusqlite::{Connection, Row, ToSql, params};
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};

use crate::backend::Failure;
use crate::dedup::{DedupWindow, StoredIds};
use crate::entry::{Entry, Position};
use crate::log_state::chained;
use crate::state::{Change, GuildState};
use crate::tail::Known;

/// A table of keys and bodies: its name, and the name of its key.
#[derive(Debug, Clone, Copy)]
pub(super) struct Table(pub(super) &'static str, pub(super) &'static str);

/// The key of a [`Table`].
pub(super) trait Key: ToSql + FromSql {
    /// What the checksum covers.
    fn bytes(&self) -> Vec<u8>;
}

impl Key for i64 {
    fn bytes(&self) -> Vec<u8> {
        self.to_be_bytes().into()
    }
}

impl Key for String {
    fn bytes(&self) -> Vec<u8> {
        self.as_bytes().into()
    }
}

impl Table {
    pub(super) fn put(
        self,
        connection: &Connection,
        key: &impl Key,
        body: &[u8],
    ) -> Result<(), Failure> {
        let Self(table, _) = self;
        let digest = checksum(table, &[&key.bytes(), body]);
        connection
            .prepare_cached(&format!(
                "INSERT OR REPLACE INTO {table} VALUES (?1, ?2, ?3)"
            ))?
            .execute(params![key, body, digest])?;
        Ok(())
    }

    pub(super) fn delete(self, connection: &Connection, key: &impl Key) -> Result<(), Failure> {
        let Self(table, column) = self;
        connection
            .prepare_cached(&format!("DELETE FROM {table} WHERE {column} = ?1"))?
            .execute([key])?;
        Ok(())
    }

    /// Every row, by key.
    pub(super) fn rows<K: Key>(
        self,
        connection: &Connection,
    ) -> Result<Vec<(K, Vec<u8>)>, Failure> {
        let Self(table, column) = self;
        let select = format!("SELECT {column}, body, sum FROM {table} ORDER BY {column}");
        let mut statement = connection.prepare(&select)?;
        let mut rows = statement.query([])?;
        let mut found = Vec::new();
        while let Some(row) = rows.next()? {
            let (key, body): (K, Vec<u8>) = (row.get(0)?, row.get(1)?);
            check(row, 2, table, checksum(table, &[&key.bytes(), &body]))?;
            found.push((key, body));
        }
        Ok(found)
    }

    /// Every row, its body read as JSON.
    pub(super) fn read<K: Key, T: DeserializeOwned>(
        self,
        connection: &Connection,
    ) -> Result<Vec<(K, T)>, Failure> {
        let rows = self.rows(connection)?.into_iter();
        rows.map(|(key, body)| Ok((key, from_json(self.0, &body)?)))
            .collect()
    }
}

/// Adds an entry of a guild. Its check, which the checksum covers, covers `json`.
pub(super) fn put_entry(
    connection: &Connection,
    guild: GuildId,
    entry: &Entry,
    json: &[u8],
    kept_ms: u64,
) -> Result<(), Failure> {
    let Position { offset, check, .. } = entry.position;
    connection
        .prepare_cached(
            "INSERT INTO entries (guild, at_offset, ts, kept_ms, at_check, body, sum)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        )?
        .execute(params![
            guild.get().cast_signed(),
            offset.cast_signed(),
            entry.ts.cast_signed(),
            kept_ms.cast_signed(),
            check,
            json,
            entry_checksum(guild, offset, kept_ms, check)
        ])?;
    Ok(())
}

/// Gives every entry of a guild that comes after a position, each with when it was kept.
pub(super) fn read_entries(
    connection: &Connection,
    guild: GuildId,
    mut position: Position,
    mut give: impl FnMut(Entry, u64) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let mut statement = connection.prepare_cached(
        "SELECT at_offset, ts, kept_ms, at_check, body, sum FROM entries
         WHERE guild = ?1 ORDER BY at_offset",
    )?;
    let mut rows = statement.query([guild.get().cast_signed()])?;
    while let Some(row) = rows.next()? {
        let (ts, kept_ms) = (number(row, 1)?, number(row, 2)?);
        let body = row.get_ref(4)?.as_blob().map_err(rusqlite::Error::from)?;
        position.offset += 1;
        position.check = chained(position, body, ts);
        if number(row, 0)? != position.offset || row.get::<_, u32>(3)? != position.check {
            let why = format!("guild {guild}: its entries do not follow one another");
            return Err(Failure::Damaged(why));
        }
        let expected = entry_checksum(guild, position.offset, kept_ms, position.check);
        check(row, 5, "entries", expected)?;
        let change: Change = from_json("entries", body)?;
        let entry = Entry {
            position,
            change,
            ts,
        };
        give(entry, kept_ms)?;
    }
    Ok(())
}

fn entry_checksum(guild: GuildId, offset: u64, kept_ms: u64, check: u32) -> [u8; 8] {
    let columns = [
        &guild.get().to_be_bytes()[..],
        &offset.to_be_bytes(),
        &kept_ms.to_be_bytes(),
        &check.to_be_bytes(),
    ];
    checksum("entries", &columns)
}

/// Adds a base of a guild.
pub(super) fn put_base(
    connection: &Connection,
    guild: GuildId,
    position: Position,
    body: &[u8],
    kept_ms: u64,
) -> Result<(), Failure> {
    connection
        .prepare_cached(
            "INSERT OR REPLACE INTO bases (guild, at_offset, epoch, at_check, kept_ms, body, sum)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        )?
        .execute(params![
            guild.get().cast_signed(),
            position.offset.cast_signed(),
            position.epoch.cast_signed(),
            position.check,
            kept_ms.cast_signed(),
            body,
            base_checksum(guild, position, kept_ms, body)
        ])?;
    Ok(())
}

/// The bases of a guild, oldest first, each with when it was kept.
pub(super) fn read_bases(
    connection: &Connection,
    guild: GuildId,
) -> Result<Vec<(Known, u64)>, Failure> {
    let mut statement = connection.prepare_cached(
        "SELECT at_offset, epoch, at_check, kept_ms, body, sum FROM bases
         WHERE guild = ?1 ORDER BY at_offset",
    )?;
    let mut rows = statement.query([guild.get().cast_signed()])?;
    let mut bases = Vec::new();
    while let Some(row) = rows.next()? {
        let position = Position {
            offset: number(row, 0)?,
            epoch: number(row, 1)?,
            check: row.get(2)?,
        };
        let (kept_ms, body) = (number(row, 3)?, row.get::<_, Vec<u8>>(4)?);
        let expected = base_checksum(guild, position, kept_ms, &body);
        check(row, 5, "bases", expected)?;
        let state: GuildState = from_json("bases", &body)?;
        bases.push((Known { position, state }, kept_ms));
    }
    Ok(bases)
}

fn base_checksum(guild: GuildId, position: Position, kept_ms: u64, body: &[u8]) -> [u8; 8] {
    let columns = [
        &guild.get().to_be_bytes()[..],
        &position.offset.to_be_bytes(),
        &position.epoch.to_be_bytes(),
        &position.check.to_be_bytes(),
        &kept_ms.to_be_bytes(),
        body,
    ];
    checksum("bases", &columns)
}

/// Deletes the bases of a guild before an offset, and the entries up to it.
pub(super) fn delete_before(
    connection: &Connection,
    guild: GuildId,
    first: u64,
) -> Result<(), Failure> {
    let first = i64::try_from(first).unwrap_or(i64::MAX);
    for delete in [
        "DELETE FROM bases WHERE guild = ?1 AND at_offset < ?2",
        "DELETE FROM entries WHERE guild = ?1 AND at_offset <= ?2",
    ] {
        connection
            .prepare_cached(delete)?
            .execute(params![guild.get().cast_signed(), first])?;
    }
    Ok(())
}

/// Adds the newest `added` ids of a window to its table, and deletes those that the window has
/// forgotten. Returns how many bytes the new ones have.
pub(super) fn put_ids(
    connection: &Connection,
    table: &str,
    window: &DedupWindow<Arc<str>>,
    added: usize,
) -> Result<u64, Failure> {
    let put = format!("INSERT OR REPLACE INTO {table} VALUES (?1, ?2, ?3, ?4)");
    let mut bytes = 0;
    for (number, at_ms, id) in window.since(window.next().saturating_sub(added as u64)) {
        let digest = id_checksum(table, number, id, at_ms);
        let (number, at_ms) = (number.cast_signed(), at_ms.cast_signed());
        connection
            .prepare_cached(&put)?
            .execute(params![number, &**id, at_ms, digest])?;
        bytes += id.len() as u64;
    }
    connection
        .prepare_cached(&format!("DELETE FROM {table} WHERE number < ?1"))?
        .execute([window.first().cast_signed()])?;
    Ok(bytes)
}

/// The ids of a window.
pub(super) fn read_ids(
    connection: &Connection,
    table: &str,
) -> Result<StoredIds<Arc<str>>, Failure> {
    let select = format!("SELECT number, id, at_ms, sum FROM {table} ORDER BY number");
    let mut statement = connection.prepare(&select)?;
    let mut rows = statement.query([])?;
    let mut stored = StoredIds::default();
    while let Some(row) = rows.next()? {
        let (number, at_ms) = (number(row, 0)?, number(row, 2)?);
        let id: Arc<str> = row.get(1)?;
        check(row, 3, table, id_checksum(table, number, &id, at_ms))?;
        if !stored.ids.is_empty() && number != stored.next {
            return Err(Failure::Damaged(format!("an id is missing in {table}")));
        }
        stored.ids.push((at_ms, id));
        stored.next = number + 1;
    }
    Ok(stored)
}

fn id_checksum(table: &str, number: u64, id: &str, at_ms: u64) -> [u8; 8] {
    let columns = [
        &number.to_be_bytes()[..],
        id.as_bytes(),
        &at_ms.to_be_bytes(),
    ];
    checksum(table, &columns)
}

/// What guards a row: the digest of its table and its columns, cut to 8 bytes.
pub(super) fn checksum(table: &str, columns: &[&[u8]]) -> [u8; 8] {
    let mut digest = Sha256::new();
    for part in std::iter::once(table.as_bytes()).chain(columns.iter().copied()) {
        digest.update((part.len() as u64).to_be_bytes());
        digest.update(part);
    }
    digest.finalize().first_chunk().copied().unwrap_or_default()
}

/// Whether a row has the checksum that it was written with.
fn check(row: &Row<'_>, column: usize, table: &str, expected: [u8; 8]) -> Result<(), Failure> {
    if row.get_ref(column)?.as_blob().ok() == Some(&expected[..]) {
        return Ok(());
    }
    let why = format!("a row of {table} is not what was written");
    Err(Failure::Damaged(why))
}

fn number(row: &Row<'_>, column: usize) -> Result<u64, Failure> {
    Ok(row.get::<_, i64>(column)?.cast_unsigned())
}

fn from_json<T: DeserializeOwned>(table: &str, body: &[u8]) -> Result<T, Failure> {
    serde_json::from_slice(body)
        .map_err(|_| Failure::Damaged(format!("a row of {table} cannot be read")))
}
