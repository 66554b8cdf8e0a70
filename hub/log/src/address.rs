//! Where the log is kept, and how firmly: the settings `STORE_URL` and `STORE_DURABILITY`.

use std::path::{Path, PathBuf};
use std::str::FromStr;

/// The setting `STORE_URL`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoreAddress {
    /// `memory:`. Nothing outlives the process: after each restart the worker sends every guild
    /// again, browsers get snapshots, and earlier rooms are not Roomwire's own any more.
    Memory,
    /// `sqlite://<path>`: one file, with two beside it while it is open. A path that does not begin
    /// with `/` is taken from the working directory.
    File(PathBuf),
}

/// The setting `STORE_DURABILITY`: what an acknowledged event survives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Durability {
    /// Any death of the process. A power cut may cost the last moments: the store is then an older
    /// one, which the chain notices and snapshots answer.
    Process,
    /// A power cut too: each group of events is on the disk before anybody sees it, which costs
    /// one flush of the disk a group.
    Power,
}

impl FromStr for StoreAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "memory:" {
            return Ok(Self::Memory);
        }
        match text.strip_prefix("sqlite://") {
            Some(path) if Path::new(path).file_name().is_some() && !path.contains(['?', '#']) => {
                Ok(Self::File(PathBuf::from(path)))
            }
            _ => Err("It must be sqlite://<path of a file>, as in sqlite:///var/lib/roomwire/hub.db, or memory:.".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_file_or_memory() {
        let file = |path: &str| Ok(StoreAddress::File(PathBuf::from(path)));
        for (text, address) in [
            ("memory:", Ok(StoreAddress::Memory)),
            ("sqlite://data/hub.db", file("data/hub.db")),
            ("sqlite:///var/lib/hub.db", file("/var/lib/hub.db")),
            ("sqlite://", Err(())),
            ("sqlite:///", Err(())),
            ("sqlite://a/..", Err(())),
            ("sqlite://hub.db?mode=ro", Err(())),
            ("sqlite:data/hub.db", Err(())),
            ("redis://127.0.0.1", Err(())),
            ("data/hub.db", Err(())),
        ] {
            assert_eq!(
                text.parse::<StoreAddress>().map_err(drop),
                address,
                "{text}"
            );
        }
    }
}
