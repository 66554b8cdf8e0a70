use std::collections::BTreeMap;

use proptest::collection::vec;
use proptest::prelude::*;
use proto::UserId;
use proto::event::{Member, Overwrite, RoomGone, VoiceFlags};

use super::*;
use roomlog::Source;

const GUILD: u64 = 1;
/// Ids that cannot be part of any other text of a frame.
pub(crate) const ROOMS: [u64; 4] = [771_000_011, 771_000_012, 771_000_013, 771_000_014];
pub(crate) const CATEGORY: u64 = 771_000_010;

pub(crate) fn guild() -> GuildId {
    GuildId::new(GUILD).unwrap()
}

pub(crate) fn channel(id: u64) -> ChannelId {
    ChannelId::new(id).unwrap()
}

/// What a browser keeps, by the documented meaning of each event alone.
#[derive(Default, Debug, PartialEq, Eq)]
pub(crate) struct Browser(BTreeMap<ChannelId, (RoomPayload, BTreeMap<UserId, VoicePayload>)>);

impl Browser {
    pub(crate) fn of(rooms: Vec<SnapshotRoom>) -> Self {
        let members = |room: SnapshotRoom| {
            room.members
                .into_iter()
                .map(|voice| (voice.user_id, voice))
                .collect()
        };
        Self(
            rooms
                .into_iter()
                .map(|room| (room.room.channel_id, (room.room.clone(), members(room))))
                .collect(),
        )
    }

    pub(crate) fn apply(&mut self, event: ViewEvent) {
        match event {
            ViewEvent::RoomCreated(room) | ViewEvent::RoomUpdated(room) => {
                let members = self.0.remove(&room.channel_id).map(|(_, members)| members);
                self.0
                    .insert(room.channel_id, (room, members.unwrap_or_default()));
            }
            ViewEvent::RoomDeleted(room) => {
                assert!(self.0.remove(&room.channel_id).is_some(), "deleted twice");
            }
            ViewEvent::VoiceJoined(mut voice) | ViewEvent::VoiceStateChanged(mut voice) => {
                (voice.moved_from, voice.moved_to) = (None, None);
                for (_, members) in self.0.values_mut() {
                    members.remove(&voice.user_id);
                }
                let room = self
                    .0
                    .get_mut(&voice.channel_id)
                    .expect("a room exists before its members");
                room.1.insert(voice.user_id, voice);
            }
            ViewEvent::VoiceLeft(voice) => {
                self.0
                    .get_mut(&voice.channel_id)
                    .expect("a member leaves a known room")
                    .1
                    .remove(&voice.user_id);
            }
            ViewEvent::Snapshot(_) | ViewEvent::GatewayState(_) => panic!("not projected"),
        }
    }
}

fn room(id: u64) -> impl Strategy<Value = Room> {
    let audience = prop_oneof![
        Just(Audience::Everyone),
        Just(Audience::Restricted),
        Just(Audience::Obfuscated)
    ];
    let overwrite = prop_oneof![
        Just(Overwrite::None),
        Just(Overwrite::Allow),
        Just(Overwrite::Deny)
    ];
    let parent = prop_oneof![Just(None), Just(Some(channel(CATEGORY)))];
    ("[a-c]", audience, overwrite, parent, 0..3_u32).prop_map(
        move |(name, audience, overwrite, parent_id, user_limit)| Room {
            guild_id: guild(),
            channel_id: channel(id),
            name,
            parent_id,
            user_limit,
            kind: if id == CATEGORY {
                RoomKind::Category
            } else {
                RoomKind::Voice
            },
            audience,
            overwrite,
        },
    )
}

fn any_room() -> impl Strategy<Value = Room> {
    prop::sample::select([&ROOMS[..], &[CATEGORY]].concat()).prop_flat_map(room)
}

fn voice() -> impl Strategy<Value = Voice> {
    (
        prop::sample::select(ROOMS.to_vec()),
        1..4_u64,
        any::<bool>(),
    )
        .prop_map(|(room, user, mute)| Voice {
            guild_id: guild(),
            channel_id: channel(room),
            user_id: UserId::new(user).unwrap(),
            member: Some(Member {
                display_name: format!("in {room}"),
                avatar_url: String::new(),
            }),
            flags: VoiceFlags {
                mute,
                ..VoiceFlags::default()
            },
            moved_to: None,
            moved_from: None,
        })
}

/// Any fact of a worker, in any order, and any change of ownership.
pub(crate) fn changes() -> impl Strategy<Value = Result<Fact, Change>> {
    let gone = prop::sample::select(ROOMS.to_vec()).prop_map(|id| {
        Fact::RoomDeleted(RoomGone {
            guild_id: guild(),
            channel_id: channel(id),
        })
    });
    prop_oneof![
        2 => any_room().prop_map(|room| Ok(Fact::RoomCreated(room))),
        3 => any_room().prop_map(|room| Ok(Fact::RoomUpdated(room))),
        1 => gone.prop_map(Ok),
        4 => voice().prop_map(|voice| Ok(Fact::VoiceJoined(voice))),
        2 => voice().prop_map(|voice| Ok(Fact::VoiceLeft(voice))),
        2 => voice().prop_map(|voice| Ok(Fact::VoiceStateChanged(voice))),
        1 => prop::sample::select(ROOMS.to_vec()).prop_map(|id| Err(Change::Owned(channel(id)))),
        1 => prop::sample::select(ROOMS.to_vec()).prop_map(|id| Err(Change::OwnedUnderDeny(channel(id)))),
        1 => prop::sample::select(ROOMS.to_vec()).prop_map(|id| Err(Change::Disowned(channel(id)))),
    ]
}

pub(crate) fn view() -> impl Strategy<Value = View> {
    let listed = vec![channel(ROOMS[0]), channel(CATEGORY)]
        .into_iter()
        .collect();
    let shown = prop_oneof![
        2 => Just(RoomsShown::Everyone),
        1 => Just(RoomsShown::Owned),
        1 => Just(RoomsShown::Listed(listed)),
    ];
    let only = prop_oneof![2 => Just(None), 1 => Just(Some([channel(ROOMS[1]), channel(ROOMS[2])].into()))];
    (shown, only).prop_map(|(shown, only)| View::new(guild(), Arc::new(shown), only))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    /// After any changes of rooms, overwrites and roles, a browser that gets the view's events has
    /// exactly the view's rooms, and has received nothing of any other.
    #[test]
    fn a_view_shows_all_of_its_rooms_and_nothing_of_others(view in view(), script in vec(changes(), 0..40)) {
        let mut state = GuildState::default();
        let mut browser = Browser::of(view.rooms(&state));
        for step in script {
            let changes = match step {
                Ok(fact) => state.admit(fact, Source::Worker),
                Err(change) => vec![change],
            };
            for change in changes {
                let hidden_before: Vec<_> = ROOMS.iter().filter(|id| !view.sees(&state, channel(**id))).collect();
                let before = state.clone();
                state.apply(&change);
                let events = view.project(&before, &state, &change);
                let text = serde_json::to_string(&events).unwrap();
                for id in hidden_before {
                    prop_assert!(view.sees(&state, channel(*id)) || !text.contains(&id.to_string()), "{id} in {text}");
                }
                for event in events {
                    browser.apply(event);
                }
                prop_assert_eq!(&browser, &Browser::of(view.rooms(&state)));
            }
        }
    }
}

pub(crate) fn public(id: u64) -> Room {
    Room {
        guild_id: guild(),
        channel_id: channel(id),
        name: "Lounge".to_owned(),
        parent_id: None,
        user_limit: 0,
        kind: RoomKind::Voice,
        audience: Audience::Everyone,
        overwrite: Overwrite::None,
    }
}

pub(crate) fn here(id: u64) -> Voice {
    Voice {
        guild_id: guild(),
        channel_id: channel(id),
        user_id: UserId::new(3).unwrap(),
        member: None,
        flags: VoiceFlags::default(),
        moved_to: None,
        moved_from: None,
    }
}

/// What a view is sent of a fact that the worker reports.
fn happen(state: &mut GuildState, view: &View, fact: Fact) -> Vec<ViewEvent> {
    happen_by(Source::Worker, state, view, fact)
}

fn happen_by(source: Source, state: &mut GuildState, view: &View, fact: Fact) -> Vec<ViewEvent> {
    let mut events = Vec::new();
    for change in state.admit(fact, source) {
        let before = state.clone();
        state.apply(&change);
        events.extend(view.project(&before, state, &change));
    }
    events
}

#[test]
fn a_move_names_both_rooms_only_to_those_who_see_both() {
    let view = View::new(guild(), Arc::new(RoomsShown::Everyone), None);
    let mut state = GuildState::default();
    let staff = Room {
        audience: Audience::Restricted,
        ..public(ROOMS[2])
    };
    for room in [public(ROOMS[0]), public(ROOMS[1]), staff] {
        happen(&mut state, &view, Fact::RoomCreated(room));
    }
    happen(&mut state, &view, Fact::VoiceJoined(here(ROOMS[0])));
    let seen = happen(&mut state, &view, Fact::VoiceJoined(here(ROOMS[1])));
    let [ViewEvent::VoiceLeft(left), ViewEvent::VoiceJoined(joined)] = &seen[..] else {
        panic!("{seen:?}")
    };
    assert_eq!(
        (left.moved_to, joined.moved_from),
        (Some(channel(ROOMS[1])), Some(channel(ROOMS[0])))
    );
    let seen = happen(&mut state, &view, Fact::VoiceJoined(here(ROOMS[2])));
    let [ViewEvent::VoiceLeft(left)] = &seen[..] else {
        panic!("{seen:?}")
    };
    assert_eq!((left.channel_id, left.moved_to), (channel(ROOMS[1]), None));
    let seen = happen(&mut state, &view, Fact::VoiceJoined(here(ROOMS[0])));
    let [ViewEvent::VoiceJoined(joined)] = &seen[..] else {
        panic!("{seen:?}")
    };
    assert_eq!(joined.moved_from, None);
}

#[test]
fn a_manual_event_makes_its_room_known_and_one_of_a_worker_does_not_show_it() {
    let view = View::new(guild(), Arc::new(RoomsShown::Everyone), None);
    // The room, and its member.
    for (source, events, rooms) in [(Source::Manual, 2, 1), (Source::Worker, 0, 0)] {
        let mut state = GuildState::default();
        let joined = Fact::VoiceJoined(here(ROOMS[0]));
        let seen = happen_by(source, &mut state, &view, joined);
        assert_eq!(seen.len(), events, "{source:?} {seen:?}");
        assert_eq!(view.rooms(&state).len(), rooms);
    }
}

/// What happens to one channel, in order.
#[derive(Debug, Clone, Copy)]
enum Step {
    /// It is reported: what its overwrite says of @everyone viewing it.
    Reported(Overwrite),
    /// It is reported as one that the bot may not view.
    Obfuscated,
    /// The whole guild is reported, the channel with this overwrite in it.
    Whole(Overwrite),
    /// The whole guild is reported, without it.
    WholeWithout,
    /// It is reported to be gone.
    Gone,
    /// It is published as Roomwire's own: created without a deny …
    Own,
    /// … and with one.
    OwnUnderDeny,
    Disown,
}

fn take(state: &mut GuildState, step: Step) {
    let room = |overwrite| Room {
        audience: match overwrite {
            Overwrite::Allow => Audience::Everyone,
            // As in a guild whose @everyone role lacks View Channel.
            Overwrite::None | Overwrite::Deny => Audience::Restricted,
        },
        overwrite,
        parent_id: Some(channel(CATEGORY)),
        ..public(ROOMS[0])
    };
    let whole = |rooms| {
        Ok(Fact::Snapshot(proto::event::Roster {
            guild_id: guild(),
            rooms,
            voices: Vec::new(),
            reason: "worker_started".to_owned(),
            everyone: proto::event::Everyone::Nothing,
            tombstones: Vec::new(),
        }))
    };
    let happened = match step {
        Step::Reported(overwrite) => Ok(Fact::RoomUpdated(room(overwrite))),
        Step::Obfuscated => Ok(Fact::RoomUpdated(Room {
            audience: Audience::Obfuscated,
            overwrite: Overwrite::None,
            ..room(Overwrite::None)
        })),
        Step::Whole(overwrite) => whole(vec![room(overwrite)]),
        Step::WholeWithout => whole(Vec::new()),
        Step::Gone => Ok(Fact::RoomDeleted(RoomGone {
            guild_id: guild(),
            channel_id: channel(ROOMS[0]),
        })),
        Step::Own => Err(Change::Owned(channel(ROOMS[0]))),
        Step::OwnUnderDeny => Err(Change::OwnedUnderDeny(channel(ROOMS[0]))),
        Step::Disown => Err(Change::Disowned(channel(ROOMS[0]))),
    };
    let changes = match happened {
        Ok(fact) => state.admit(fact, Source::Worker),
        Err(change) => vec![change],
    };
    changes.iter().for_each(|change| state.apply(change));
}

#[test]
fn a_room_of_ours_is_hidden_by_a_deny_that_was_added_after_its_channel_was_created() {
    use Step::{Disown, Gone, Obfuscated, Own, OwnUnderDeny, Reported, Whole, WholeWithout};
    const NONE: Step = Reported(Overwrite::None);
    const ALLOW: Step = Reported(Overwrite::Allow);
    const DENY: Step = Reported(Overwrite::Deny);
    const ALL_ALLOW: Step = Whole(Overwrite::Allow);
    const ALL_DENY: Step = Whole(Overwrite::Deny);
    const SHOWN: bool = true;
    const HIDDEN: bool = false;
    let cases: &[(&[Step], bool)] = &[
        // Created without a deny, in a guild whose @everyone role may view nothing.
        (&[Own, NONE], SHOWN),
        (&[NONE, Own], SHOWN),
        (&[Own, ALLOW], SHOWN),
        (&[Own, NONE, DENY], HIDDEN),
        (&[Own, NONE, DENY, NONE], SHOWN),
        (&[Own, NONE, DENY, ALLOW], SHOWN),
        (&[Own, NONE, ALL_DENY], HIDDEN),
        (&[Own, DENY, ALL_DENY], HIDDEN),
        // The deny came between Discord's answer and its first event of the channel …
        (&[Own, DENY], HIDDEN),
        (&[Own, ALL_DENY], HIDDEN),
        // … or all of that before the answer.
        (&[NONE, DENY, Own], HIDDEN),
        (&[DENY, Own], HIDDEN),
        (&[ALL_DENY, Own], HIDDEN),
        // Created under its category's deny.
        (&[OwnUnderDeny, DENY], SHOWN),
        (&[DENY, OwnUnderDeny], SHOWN),
        (&[ALL_DENY, OwnUnderDeny], SHOWN),
        (&[OwnUnderDeny, DENY, ALL_DENY, DENY], SHOWN),
        (&[OwnUnderDeny, DENY, NONE], SHOWN),
        // Removed and added again, it is one that was added.
        (&[OwnUnderDeny, DENY, NONE, DENY], HIDDEN),
        (&[OwnUnderDeny, DENY, ALL_ALLOW, ALL_DENY], HIDDEN),
        (&[OwnUnderDeny, NONE, DENY], HIDDEN),
        (&[DENY, NONE, DENY, OwnUnderDeny], HIDDEN),
        (&[NONE, DENY, OwnUnderDeny], HIDDEN),
        // A channel that the bot may not view is in no view, and does not show the deny.
        (&[Own, NONE, Obfuscated], HIDDEN),
        (&[Own, NONE, Obfuscated, NONE], SHOWN),
        (&[Own, NONE, Obfuscated, DENY], HIDDEN),
        (&[OwnUnderDeny, Obfuscated], HIDDEN),
        (&[OwnUnderDeny, DENY, Obfuscated, DENY], SHOWN),
        (&[OwnUnderDeny, Obfuscated, DENY], SHOWN),
        (&[Obfuscated, OwnUnderDeny, DENY], SHOWN),
        (&[Obfuscated, Own, DENY], HIDDEN),
        (&[NONE, Obfuscated, OwnUnderDeny, DENY], HIDDEN),
        // Gone and back: the deny is judged as before.
        (&[Own, NONE, Gone, DENY], HIDDEN),
        (&[Own, NONE, WholeWithout, ALL_DENY], HIDDEN),
        (&[OwnUnderDeny, DENY, Gone, DENY], SHOWN),
        (&[OwnUnderDeny, DENY, WholeWithout, ALL_DENY], SHOWN),
        (
            &[OwnUnderDeny, DENY, WholeWithout, Disown, DENY, OwnUnderDeny],
            SHOWN,
        ),
        (&[OwnUnderDeny, DENY, NONE, Gone, DENY], HIDDEN),
        (&[Own, DENY, Gone, Disown, DENY, Own], HIDDEN),
    ];
    for (steps, shown) in cases {
        let mut state = GuildState::default();
        steps.iter().for_each(|step| take(&mut state, *step));
        let bytes = serde_json::to_vec(&state).unwrap();
        let restored: GuildState = serde_json::from_slice(&bytes).unwrap();
        assert_eq!(restored, state, "{steps:?}");
        for rooms_shown in ["everyone", "owned"] {
            let view = View::new(guild(), Arc::new(rooms_shown.parse().unwrap()), None);
            let sees = view.sees(&state, channel(ROOMS[0]));
            assert_eq!(sees, *shown, "{rooms_shown}: {steps:?}");
            assert_eq!(view.rooms(&state).len(), usize::from(*shown));
        }
        for listed in [CATEGORY, ROOMS[0]] {
            let shown_ids = RoomsShown::Listed([channel(listed)].into());
            let view = View::new(guild(), Arc::new(shown_ids), None);
            let sees = view.sees(&state, channel(ROOMS[0]));
            assert_eq!(sees, *shown, "a list with {listed}: {steps:?}");
        }
    }
}

#[test]
fn the_change_that_hides_a_room_of_ours_takes_it_away_and_names_nothing_new() {
    let view = View::new(guild(), Arc::new(RoomsShown::Everyone), None);
    let mut state = GuildState::default();
    state.apply(&Change::Owned(channel(ROOMS[0])));
    let ours = public(ROOMS[0]);
    happen(&mut state, &view, Fact::RoomCreated(ours.clone()));
    happen(&mut state, &view, Fact::VoiceJoined(here(ROOMS[0])));
    let hidden = Room {
        name: "renamed in the same change".to_owned(),
        overwrite: Overwrite::Deny,
        // @everyone is an administrator, so that the deny has no effect in Discord.
        audience: Audience::Everyone,
        ..ours
    };
    let seen = happen(&mut state, &view, Fact::RoomUpdated(hidden.clone()));
    let [ViewEvent::VoiceLeft(left), ViewEvent::RoomDeleted(gone)] = &seen[..] else {
        panic!("{seen:?}")
    };
    assert_eq!((left.moved_to, &gone.name), (None, &ours.name));
    for fact in [
        Fact::RoomUpdated(Room {
            name: "again".to_owned(),
            ..hidden
        }),
        Fact::VoiceLeft(here(ROOMS[0])),
        Fact::VoiceJoined(here(ROOMS[0])),
        Fact::VoiceStateChanged(here(ROOMS[0])),
    ] {
        assert_eq!(happen(&mut state, &view, fact), []);
    }
    let back = happen(&mut state, &view, Fact::RoomUpdated(ours));
    assert!(
        matches!(
            &back[..],
            [ViewEvent::RoomCreated(_), ViewEvent::VoiceJoined(_)]
        ),
        "{back:?}"
    );
}

#[test]
fn a_new_room_may_be_put_into_a_category_of_the_view_and_without_one_into_the_first_listed() {
    const HIDDEN: u64 = CATEGORY - 1;
    let category = |id, audience| Room {
        kind: RoomKind::Category,
        audience,
        ..public(id)
    };
    let rooms = [
        category(HIDDEN, Audience::Restricted),
        category(CATEGORY, Audience::Everyone),
        public(ROOMS[0]),
    ];
    let mut state = GuildState::default();
    for room in rooms {
        state.apply(&Change::Fact(Fact::RoomCreated(room)));
    }
    // The setting, which of the categories a request may name, and the category of the others.
    for (shown, may_be_named, default) in [
        ("everyone".to_owned(), [false, true], None),
        ("owned".to_owned(), [false, true], None),
        (format!("{},9", ROOMS[0]), [false, true], None),
        (
            format!("{},{CATEGORY}", ROOMS[0]),
            [false, true],
            Some(CATEGORY),
        ),
        (format!("{CATEGORY},{HIDDEN}"), [true, true], Some(HIDDEN)),
    ] {
        let view = View::new(guild(), Arc::new(shown.parse().unwrap()), None);
        let sees = [HIDDEN, CATEGORY].map(|id| view.sees_category(&state, channel(id)));
        assert_eq!(sees, may_be_named, "{shown}");
        assert!(!view.sees_category(&state, channel(ROOMS[0])), "{shown}");
        assert_eq!(
            view.default_category(&state),
            default.map(channel),
            "{shown}"
        );
        assert_eq!(
            view.default_category(&GuildState::default()),
            None,
            "{shown}"
        );
    }
}

/// A position outlives its hub: the fingerprint must mean the same to the next one.
#[test]
fn the_fingerprint_of_a_view_never_changes() {
    let view = |id, shown: &str, only: Option<&[u64]>| {
        let only = only.map(|ids| ids.iter().map(|id| channel(*id)).collect());
        View::new(
            GuildId::new(id).unwrap(),
            Arc::new(shown.parse().unwrap()),
            only,
        )
        .fingerprint()
    };
    // printf 'roomwire view 2\0\0\0\0\0\0\0\1\0\0' | sha256sum, and so on.
    let known = [
        (view(1, "everyone", None), 0xa135_7079),
        (view(2, "everyone", None), 0x270e_4b82),
        (view(1, "owned", None), 0x6f1c_1064),
        (view(1, "2,3", None), 0xb3f0_9608),
        (view(1, "2", Some(&[3])), 0xe2ac_aeed),
        (view(1, "everyone", Some(&[])), 0x48c9_355d),
        (view(1, "everyone", Some(&[2, 3])), 0xd00f_787b),
        (view(1, "everyone", Some(&[3, 2])), 0xd00f_787b),
    ];
    for (found, expected) in known {
        assert_eq!(found, expected, "{found:#010x}");
    }
}

#[test]
fn rooms_shown_is_read_strictly() {
    assert_eq!("everyone".parse(), Ok(RoomsShown::Everyone));
    assert_eq!("owned".parse(), Ok(RoomsShown::Owned));
    for list in ["1, 2", "1 2", "2\n1,", "1,,2"] {
        let listed = RoomsShown::Listed([channel(1), channel(2)].into());
        assert_eq!(list.parse(), Ok(listed), "{list:?}");
    }
    for wrong in ["", ",", "Everyone", "1;2", "staff", "everyone 1"] {
        assert!(wrong.parse::<RoomsShown>().is_err(), "{wrong:?}");
    }
}
