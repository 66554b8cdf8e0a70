//! The deliveries of one measured shard, and what the hub must know after them.
//!
//! Pure. Everything follows from the number of events: each is about the next guild and its next
//! member, who mutes or unmutes. So a delivery can be made before it is sent, and the state after all
//! of them can be computed and compared.

use std::collections::BTreeMap;
use std::sync::Arc;

use proto::chain::{CLAIM_TYPE, Claim, GatewaySession, KnownGuild, Link, Mark, Reached};
use proto::delivery::{DELIVERY_TYPE, Delivery, GatewayReport, Report};
use proto::event::{Event, Everyone, Fact, Member, Room, Roster, Voice, VoiceFlags};
use proto::gateway::GatewayState;
use proto::{ChannelId, GuildId, UserId};

/// People who are in voice in each guild.
const MEMBERS: u64 = 8;
/// What the rosters depend on; the same in all deliveries.
const FINGERPRINT: &str = "load";
/// The sequence of the dispatch behind every guild's snapshot.
const SNAPSHOT_SEQUENCE: u64 = 1;

/// Below an id's time part (Discord's API reference, "Snowflakes").
const TIME_BITS: u32 = 22;

/// The deliveries of one shard. A clone makes the same deliveries as the original.
#[derive(Debug, Clone)]
pub(crate) struct Source {
    shard: (u32, u32),
    generation: u64,
    session: GatewaySession,
    guilds: Arc<[GuildId]>,
    from: Reached,
    /// Events so far, besides the snapshots.
    made: u64,
}

/// The guilds of a measurement: as many as asked for, with ids as Discord makes them, so that its
/// formula spreads them over the shards (the id's time part modulo the number of shards).
pub(crate) fn guilds(count: usize) -> Vec<GuildId> {
    const FIRST: u64 = 1_000_000;
    (0..count as u64)
        .filter_map(|nth| GuildId::new((FIRST + nth) << TIME_BITS | 1).ok())
        .collect()
}

/// Those of them that are on a shard, by Discord's formula.
pub(crate) fn of_shard(guilds: &[GuildId], shard: u32, shards: u32) -> Vec<GuildId> {
    guilds
        .iter()
        .copied()
        .filter(|guild| (guild.get() >> TIME_BITS) % u64::from(shards) == u64::from(shard))
        .collect()
}

/// The claim of a worker of this name.
pub(crate) fn claim(shard: (u32, u32), worker: &str, guilds: &[GuildId]) -> Claim {
    Claim {
        r#type: CLAIM_TYPE.to_owned(),
        shard,
        worker: worker.to_owned(),
        guilds: guilds.to_vec(),
        memory: true,
    }
}

impl Source {
    /// A worker whose claim was answered with this generation by a hub that knew nothing.
    pub(crate) fn new(shard: (u32, u32), generation: u64, guilds: Vec<GuildId>) -> Self {
        Self {
            shard,
            generation,
            session: GatewaySession {
                number: generation,
                id: format!("load-{}", shard.0),
                resume_url: None,
            },
            guilds: guilds.into(),
            from: Reached::default(),
            made: 0,
        }
    }

    /// The first delivery: every guild as a whole. How many events it has, and its body.
    ///
    /// # Errors
    /// It cannot be written as JSON.
    pub(crate) fn snapshots(&mut self, now_ms: u64) -> serde_json::Result<(u64, Vec<u8>)> {
        let events: Vec<Event> = (0..)
            .zip(self.guilds.iter())
            .map(|(n, guild)| {
                self.event(SNAPSHOT_SEQUENCE, n, Fact::Snapshot(roster(*guild)), now_ms)
            })
            .collect();
        self.deliver(SNAPSHOT_SEQUENCE, &events)
    }

    /// The next delivery, of this many events, and its body.
    ///
    /// # Errors
    /// It cannot be written as JSON.
    pub(crate) fn events(&mut self, count: u64, now_ms: u64) -> serde_json::Result<(u64, Vec<u8>)> {
        let first = self.made;
        let events: Vec<Event> = (first..first + count)
            .filter_map(|nth| {
                let fact = Fact::VoiceStateChanged(self.change(nth)?);
                Some(self.event(sequence(nth), 0, fact, now_ms))
            })
            .collect();
        self.made += count;
        self.deliver(sequence(self.made - 1), &events)
    }

    /// The first difference between the hub's knowledge and these deliveries.
    pub(crate) fn differs(&self, reached: Reached, known: &[KnownGuild]) -> Option<String> {
        if reached != self.from {
            return Some(format!("reached {reached:?} instead of {:?}", self.from));
        }
        for (nth, guild) in (0..).zip(self.guilds.iter()) {
            let Some(known) = known.iter().find(|known| known.roster.guild_id == *guild) else {
                return Some(format!("guild {guild} is not known"));
            };
            let events = self.events_of(nth);
            let sequence = match events {
                0 => SNAPSHOT_SEQUENCE,
                events => sequence((events - 1) * self.guilds.len() as u64 + nth),
            };
            let mark = Mark::from((self.session.number, sequence, 0));
            if known.mark != mark {
                return Some(format!(
                    "guild {guild} is at {:?} instead of {mark:?}",
                    known.mark
                ));
            }
            let muted = |member: u64| {
                let voice = known
                    .roster
                    .voices
                    .iter()
                    .find(|voice| voice.user_id.get() == user(member));
                voice.map(|voice| voice.flags.self_mute)
            };
            if let Some(member) =
                (0..MEMBERS).find(|member| muted(*member) != Some(is_muted(events, *member)))
            {
                return Some(format!(
                    "member {member} of guild {guild} is not as delivered"
                ));
            }
        }
        None
    }

    /// The number of events about the guild in this place of the list.
    fn events_of(&self, nth: u64) -> u64 {
        let guilds = self.guilds.len() as u64;
        self.made / guilds + u64::from(self.made % guilds > nth)
    }

    fn change(&self, nth: u64) -> Option<Voice> {
        let guilds = self.guilds.len() as u64;
        let guild = *self.guilds.get(usize::try_from(nth % guilds).ok()?)?;
        let round = nth / guilds;
        voice(guild, round % MEMBERS, is_muted(round + 1, round % MEMBERS))
    }

    /// The `n` of its id distinguishes the events of several guilds behind one dispatch.
    fn event(&self, sequence: u64, n: u64, fact: Fact, now_ms: u64) -> Event {
        Event {
            id: format!("{}:{}:{sequence}:{n}", self.session.id, self.session.number),
            fact,
            ts: now_ms,
            at: Some(Mark::from((self.session.number, sequence, 0))),
        }
    }

    fn deliver(&mut self, sequence: u64, events: &[Event]) -> serde_json::Result<(u64, Vec<u8>)> {
        let to = Reached {
            session: self.session.number,
            sequence,
        };
        let delivery = Delivery {
            r#type: DELIVERY_TYPE,
            report: Report {
                link: Link {
                    shard: self.shard,
                    generation: self.generation,
                    from: self.from,
                    taken: 0,
                    to,
                    session: Some(self.session.clone()),
                    fingerprint: FINGERPRINT.to_owned(),
                    resumes: 0,
                    lost: 0,
                    absent: BTreeMap::new(),
                },
                gateway: GatewayReport {
                    state: GatewayState::Live,
                    reason: None,
                    guilds: BTreeMap::new(),
                },
            },
            events,
        };
        let body = serde_json::to_vec(&delivery)?;
        self.from = to;
        Ok((events.len() as u64, body))
    }
}

/// The dispatch of event `nth` of a shard.
fn sequence(nth: u64) -> u64 {
    SNAPSHOT_SEQUENCE + 1 + nth
}

/// Whether a member is muted after so many events of the guild.
fn is_muted(events: u64, member: u64) -> bool {
    let changes = events / MEMBERS + u64::from(events % MEMBERS > member);
    changes % 2 == 1
}

fn user(member: u64) -> u64 {
    200_000_000_000_000_001 + member
}

fn room(guild: GuildId) -> Option<ChannelId> {
    ChannelId::new(guild.get() + 1).ok()
}

fn voice(guild_id: GuildId, member: u64, self_mute: bool) -> Option<Voice> {
    Some(Voice {
        guild_id,
        channel_id: room(guild_id)?,
        user_id: UserId::new(user(member)).ok()?,
        member: Some(Member {
            display_name: format!("Member number {member}"),
            avatar_url: format!("https://cdn.discordapp.com/embed/avatars/{member}.png"),
        }),
        flags: VoiceFlags {
            self_mute,
            ..VoiceFlags::default()
        },
        moved_to: None,
        moved_from: None,
    })
}

fn roster(guild_id: GuildId) -> Roster {
    let room = room(guild_id).map(|channel_id| Room {
        guild_id,
        channel_id,
        name: "Lounge".to_owned(),
        parent_id: None,
        user_limit: 0,
        kind: proto::event::RoomKind::Voice,
        audience: proto::event::Audience::Everyone,
        overwrite: proto::event::Overwrite::None,
    });
    Roster {
        guild_id,
        rooms: room.into_iter().collect(),
        voices: (0..MEMBERS)
            .filter_map(|member| voice(guild_id, member, false))
            .collect(),
        reason: "worker_started".to_owned(),
        everyone: Everyone::View,
        tombstones: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW_MS: u64 = 1_730_000_000_000;

    fn delivered(body: &[u8]) -> (Report, Vec<Event>) {
        #[derive(serde::Deserialize)]
        struct Read {
            #[serde(flatten)]
            report: Report,
            events: Vec<Event>,
        }
        let read: Read = serde_json::from_slice(body).unwrap();
        (read.report, read.events)
    }

    #[test]
    fn guilds_spread_evenly_over_the_shards() {
        let all = guilds(1_000);
        let sizes: Vec<usize> = (0..16)
            .map(|shard| of_shard(&all, shard, 16).len())
            .collect();
        assert_eq!(sizes.iter().sum::<usize>(), 1_000);
        assert!(
            sizes.iter().all(|size| (62..=63).contains(size)),
            "{sizes:?}"
        );
        assert_eq!(of_shard(&all[..1], 0, 1).len(), 1);
    }

    #[test]
    fn deliveries_continue_one_another_and_every_event_changes_something() {
        let mut source = Source::new((0, 1), 7, guilds(3));
        let (count, body) = source.snapshots(NOW_MS).unwrap();
        let (mut before, events) = delivered(&body);
        assert_eq!((count, events.len()), (3, 3));
        let mut marks: BTreeMap<GuildId, Mark> = BTreeMap::new();
        let mut voices = BTreeMap::new();
        for event in events {
            marks.insert(event.fact.guild_id(), event.at.unwrap());
        }
        for size in [1, 5, 60, 1] {
            let (_, body) = source.events(size, NOW_MS).unwrap();
            let (report, events) = delivered(&body);
            assert_eq!(report.link.from, before.link.to);
            assert_eq!(events.last().unwrap().at.unwrap().reached, report.link.to);
            for event in events {
                let at = event.at.unwrap();
                assert!(marks.insert(event.fact.guild_id(), at).unwrap() < at);
                let Fact::VoiceStateChanged(voice) = event.fact else {
                    panic!("something else");
                };
                let muted = voice.flags.self_mute;
                let was = voices.insert((voice.guild_id, voice.user_id), muted);
                assert_ne!(was.unwrap_or(false), muted);
            }
            before = report;
        }
    }

    #[test]
    fn a_hub_that_lost_the_last_event_or_knows_another_is_detected() {
        for count in [0, 1, 2, 50] {
            let mut source = Source::new((0, 1), 7, guilds(3));
            let mut bodies = vec![source.snapshots(NOW_MS).unwrap().1];
            if count > 0 {
                bodies.push(source.events(count, NOW_MS).unwrap().1);
            }
            let mut known: BTreeMap<GuildId, KnownGuild> = BTreeMap::new();
            for event in bodies.iter().flat_map(|body| delivered(body).1) {
                let mark = event.at.unwrap();
                match event.fact {
                    Fact::Snapshot(roster) => {
                        let guild = KnownGuild {
                            mark,
                            absent: None,
                            roster,
                        };
                        known.insert(guild.roster.guild_id, guild);
                    }
                    Fact::VoiceStateChanged(voice) => {
                        let guild = known.get_mut(&voice.guild_id).unwrap();
                        guild.mark = mark;
                        let mut kept = guild.roster.voices.iter_mut();
                        let user = voice.user_id;
                        *kept.find(|kept| kept.user_id == user).unwrap() = voice;
                    }
                    _ => panic!("something else"),
                }
            }
            let known: Vec<KnownGuild> = known.into_values().collect();
            assert_eq!(source.differs(source.from, &known), None, "{count}");
            assert!(source.differs(Reached::default(), &known).is_some());
            assert!(source.differs(source.from, &known[1..]).is_some());
            let mut behind = known.clone();
            behind[0].mark = Mark::default();
            assert!(source.differs(source.from, &behind).is_some());
            let mut other = known;
            other[1].roster.voices[3].flags.self_mute ^= true;
            assert!(source.differs(source.from, &other).is_some());
        }
    }
}
