//! The frames of one view as bytes: those of an entry, and a snapshot in its parts.
//!
//! Pure but for the nonce of positions and the time of a snapshot.

use bytes::Bytes;
use imbl::Vector;
use proto::GuildId;
use proto::frame::{
    EventFrame, FRAME_VERSION, ServerFrame, SnapshotPayload, SnapshotRoom, ViewEvent,
};
use proto::gateway::GatewayPayload;
use proto::position::UNFINISHED;
use roomlog::{Entry, Position};

use super::frames::{NUMBER_BYTES, encode, strip_closing_brace};
use crate::positions::Positions;
use crate::view::View;

/// Encodes the frames of one view. A clone is a small copy.
#[derive(Clone)]
pub(super) struct FrameEncoder {
    positions: Positions,
    guild: GuildId,
    fingerprint: u32,
}

impl FrameEncoder {
    /// The encoder of this view.
    pub(super) fn new(positions: &Positions, view: &View) -> Self {
        Self {
            positions: positions.clone(),
            guild: view.guild(),
            fingerprint: view.fingerprint(),
        }
    }

    /// The text of a position in this view.
    pub(super) fn position(&self, position: Position, step: u16) -> String {
        self.positions.seal(position, step, self.fingerprint)
    }

    /// An entry's events in this view, one frame each, without a number.
    pub(super) fn entry(&self, events: Vec<ViewEvent>, entry: &Entry) -> Vec<Bytes> {
        let of = events.len();
        let frames = events.into_iter().enumerate().map(|(index, event)| {
            // A viewer has the entry with its last frame. No client continues within an entry that
            // has more frames than a step can count.
            let step = match index + 1 {
                seen if seen == of => 0,
                seen => u16::try_from(seen).unwrap_or(UNFINISHED),
            };
            self.frame(event, entry.position, step, entry.ts)
        });
        frames.collect()
    }

    /// How fresh the guild is: a complete frame, without a number and a position.
    pub(super) fn gateway(guild_id: GuildId, payload: GatewayPayload) -> Bytes {
        encode(&ServerFrame::Event(EventFrame {
            v: FRAME_VERSION,
            event: ViewEvent::GatewayState(payload),
            guild_id,
            pos: None,
            ts: launch::clock::now_ms(),
            n: None,
        }))
        .into()
    }

    /// A snapshot, without a number: one frame, or several where it would exceed `part_bytes`. A
    /// part exceeds that size only if a single member or room does. A room's members may continue
    /// in the next part. Only the last part has a position to continue from: a client without all
    /// parts does not have the guild's state.
    pub(super) fn snapshot(
        &self,
        position: Position,
        rooms: Vec<SnapshotRoom>,
        reason: &str,
        gateway: &GatewayPayload,
        part_bytes: usize,
    ) -> Vector<Bytes> {
        let ts = launch::clock::now_ms();
        let part = |rooms, numbers: Option<(u32, u32)>| {
            let payload = SnapshotPayload {
                guild_id: self.guild,
                reason: reason.to_owned(),
                rooms,
                gateway: gateway.clone(),
                part: numbers.map(|(part, _)| part),
                of: numbers.map(|(_, of)| of),
            };
            let step = match numbers {
                Some((part, of)) if part < of => UNFINISHED,
                _ => 0,
            };
            self.frame(ViewEvent::Snapshot(payload), position, step, ts)
        };
        let whole = part(rooms.clone(), None);
        if whole.len() + NUMBER_BYTES <= part_bytes || rooms.is_empty() {
            return Vector::unit(whole);
        }
        let envelope = part(Vec::new(), Some((u32::MAX, u32::MAX))).len() + NUMBER_BYTES;
        let parts = split(rooms, part_bytes.saturating_sub(envelope));
        let of = u32::try_from(parts.len()).unwrap_or(u32::MAX);
        if of == 1 {
            return Vector::unit(whole);
        }
        (1..)
            .zip(parts)
            .map(|(index, rooms)| part(rooms, Some((index, of))))
            .collect()
    }

    fn frame(&self, event: ViewEvent, position: Position, step: u16, ts: u64) -> Bytes {
        strip_closing_brace(encode(&ServerFrame::Event(EventFrame {
            v: FRAME_VERSION,
            event,
            guild_id: self.guild,
            pos: Some(self.position(position, step)),
            ts,
            n: None,
        })))
    }
}

/// The same rooms in their order, in portions of at most `bytes` of JSON where that is possible.
fn split(rooms: Vec<SnapshotRoom>, bytes: usize) -> Vec<Vec<SnapshotRoom>> {
    let mut parts = Vec::new();
    let (mut part, mut left) = (Vec::new(), bytes);
    for mut room in rooms {
        let members = std::mem::take(&mut room.members);
        let head = json_bytes(&room);
        // A room that does not fit with its first member begins in the next part.
        let first = members.first().map_or(0, json_bytes);
        if head + first > left && !part.is_empty() {
            parts.push(std::mem::take(&mut part));
            left = bytes;
        }
        left = left.saturating_sub(head);
        let mut seated = SnapshotRoom {
            members: Vec::new(),
            ..room.clone()
        };
        for member in members {
            let size = json_bytes(&member);
            if size > left && !seated.members.is_empty() {
                let rest = room.clone();
                part.push(std::mem::replace(&mut seated, rest));
                parts.push(std::mem::take(&mut part));
                left = bytes.saturating_sub(head);
            }
            left = left.saturating_sub(size);
            seated.members.push(member);
        }
        part.push(seated);
    }
    parts.push(part);
    parts
}

/// The size of a list's element, with the comma.
fn json_bytes(value: &impl serde::Serialize) -> usize {
    serde_json::to_vec(value).map_or(0, |json| json.len() + 1)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use proptest::prelude::*;
    use proto::event::{Member, VoiceFlags};
    use proto::frame::{RoomPayload, VoicePayload, join_url};
    use proto::gateway::GatewayState;
    use proto::position::PositionKey;
    use proto::{ChannelId, UserId};
    use serde_json::Value;

    use super::*;
    use crate::view::RoomsShown;

    fn room(id: u64, members: usize, name: usize) -> SnapshotRoom {
        let guild_id = GuildId::new(1).unwrap();
        let channel_id = ChannelId::new(id).unwrap();
        SnapshotRoom {
            room: RoomPayload {
                guild_id,
                channel_id,
                name: "n".repeat(name),
                parent_id: None,
                user_limit: 0,
                join_url: join_url(guild_id, channel_id),
            },
            opening: false,
            members: (1..=members as u64)
                .map(|user| VoicePayload {
                    guild_id,
                    channel_id,
                    user_id: UserId::new(id * 10_000 + user).unwrap(),
                    member: Some(Member {
                        display_name: format!("user {user}"),
                        avatar_url: String::new(),
                    }),
                    flags: VoiceFlags::default(),
                    moved_to: None,
                    moved_from: None,
                })
                .collect(),
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn the_parts_of_a_snapshot_are_small_and_add_up(
            rooms in proptest::collection::vec((0_usize..40, 0_usize..100), 0..30), part_bytes in 1_200_usize..20_000,
        ) {
            let rooms: Vec<_> = (1..).zip(rooms).map(|(id, (members, name))| room(id, members, name)).collect();
            let view = View::new(GuildId::new(1).unwrap(), Arc::new(RoomsShown::Everyone), None);
            let key = Positions::new(PositionKey::derive(b"secret"));
            let encoder = FrameEncoder::new(&key, &view);
            let position = Position { epoch: 5, offset: 6, check: 7 };
            let gateway = GatewayPayload { state: GatewayState::Live, age_ms: 3, reason: None };
            let parts = encoder.snapshot(position, rooms.clone(), "subscribed", &gateway, part_bytes);
            let mut received: BTreeMap<u64, SnapshotRoom> = BTreeMap::new();
            for (index, body) in (1..).zip(&parts) {
                prop_assert!(body.len() + NUMBER_BYTES <= part_bytes, "{} of {part_bytes}", body.len());
                let frame: Value = serde_json::from_slice(&[body, &b"}"[..]].concat()).unwrap();
                let payload = &frame["payload"];
                if parts.len() > 1 {
                    prop_assert_eq!((&payload["part"], &payload["of"]), (&index.into(), &parts.len().into()));
                } else {
                    prop_assert!(payload.get("part").is_none());
                }
                prop_assert_eq!(&payload["gateway"]["state"], "live");
                let position = key.open(frame["pos"].as_str().unwrap()).unwrap();
                prop_assert_eq!(position.step, if index == parts.len() { 0 } else { UNFINISHED });
                for room in serde_json::from_value::<Vec<SnapshotRoom>>(payload["rooms"].clone()).unwrap() {
                    let members = room.members.clone();
                    received.entry(room.room.channel_id.get())
                        .or_insert(SnapshotRoom { members: Vec::new(), ..room })
                        .members
                        .extend(members);
                }
            }
            prop_assert_eq!(received.into_values().collect::<Vec<_>>(), rooms);
        }
    }
}
