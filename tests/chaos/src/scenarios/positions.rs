//! Opens the positions that viewers received, and finds one that stands for two things.

use std::collections::{BTreeMap, HashMap};

use proto::position::{PositionKey, ViewPosition};
use proto::signing::SigningKeys;
use serde_json::Value;

use crate::checker::{Frame, Id, What};
use crate::subscriber::Subscriber;

/// What every position stands for.
pub(super) struct Positions {
    key: PositionKey,
    events: HashMap<(Id, ViewPosition), String>,
    rosters: HashMap<(Id, ViewPosition), String>,
    /// The check of each place: without it a position must name one event only as well.
    checks: HashMap<(Id, u64, u64), u32>,
    /// The epochs of each guild.
    pub(super) epochs: BTreeMap<Id, Vec<u64>>,
    /// Positions that stand for two things.
    pub(super) twice: Vec<String>,
}

impl Positions {
    /// None yet; of a hub with this secret.
    pub(super) fn of(secret: &str) -> Self {
        let keys = SigningKeys::parse(secret).unwrap();
        Self {
            key: PositionKey::derive(keys.first()),
            events: HashMap::new(),
            rosters: HashMap::new(),
            checks: HashMap::new(),
            epochs: BTreeMap::new(),
            twice: Vec::new(),
        }
    }

    /// How many places are known.
    pub(super) fn count(&self) -> usize {
        self.events.len()
    }

    /// Reads every frame that a viewer received.
    pub(super) fn read(&mut self, viewer: &Subscriber) {
        for received in viewer.record().received {
            let What::Frame(text) = received.what else {
                continue;
            };
            let Ok(frame) = serde_json::from_str::<Value>(&text) else {
                continue;
            };
            let Some(position) = frame["pos"].as_str().and_then(|pos| self.key.open(pos)) else {
                continue;
            };
            let guild = viewer.guild().to_owned();
            let epochs = self.epochs.entry(guild.clone()).or_default();
            if !epochs.contains(&position.epoch) {
                epochs.push(position.epoch);
            }
            let place = (guild.clone(), position.epoch, position.offset);
            let check = *self.checks.entry(place).or_insert(position.check);
            if check != position.check {
                self.twice
                    .push(format!("{position:?} was another, {check}"));
            }
            let (known, is) = match Frame::read(&text) {
                Frame::Event { .. } => (
                    &mut self.events,
                    format!("{} {} {}", frame["event"], frame["payload"], frame["ts"]),
                ),
                Frame::Snapshot { roster, of: 1, .. } => (&mut self.rosters, format!("{roster:?}")),
                Frame::Snapshot { .. } | Frame::Subscribed { .. } | Frame::Other => continue,
            };
            let was = known.entry((guild, position)).or_insert_with(|| is.clone());
            if *was != is {
                let line = format!("{position:?} stands for {was} and for {is}");
                self.twice.push(line);
            }
        }
    }
}
