//! The ledger over the lives of its rooms.

use super::*;
use crate::auth::Subject;
use roomlog::Change;

fn ledger(rooms_max: usize, past_max: usize) -> Ledger {
    Ledger::new(LedgerSettings {
        rooms_max,
        past_max,
    })
}

fn channel(id: u64) -> ChannelId {
    ChannelId::new(id).unwrap()
}

fn guild() -> GuildId {
    GuildId::new(1).unwrap()
}

fn room(id: u64) -> OwnedRoom {
    OwnedRoom {
        guild_id: guild(),
        channel_id: channel(id),
        creator: Subject::new("ada").unwrap(),
        name: "a".to_owned(),
        parent_id: None,
        user_limit: 4,
        standing: Standing::Open,
        epoch: 1,
        inherits_deny: false,
    }
}

fn add(ledger: &Ledger, id: u64) {
    let pending = ledger.begin(guild()).unwrap();
    assert_eq!(ledger.made(pending, room(id), false), Standing::Open);
}

fn standing(ledger: &Ledger, id: u64) -> Option<Standing> {
    ledger.room(channel(id)).map(|room| room.standing)
}

#[test]
fn rooms_that_discord_is_making_count_and_a_refusal_gives_the_place_back() {
    let ledger = ledger(2, 10);
    add(&ledger, 1);
    let pending = ledger.begin(guild()).unwrap();
    assert_eq!(ledger.begin(guild()), Err(LedgerFull));
    ledger.abandon(pending);
    let pending = ledger.begin(guild()).unwrap();
    ledger.abandon(pending);
    assert_eq!(ledger.open_rooms(guild()).len(), 1);
}

#[test]
fn a_past_room_frees_its_place_and_is_remembered_up_to_the_bound() {
    let ledger = ledger(1, 2);
    for id in 1..=3 {
        add(&ledger, id);
        ledger.ended(channel(id));
        ledger.ended(channel(id));
    }
    assert_eq!(standing(&ledger, 1), None, "forgotten");
    assert_eq!(standing(&ledger, 2), Some(Standing::Ended));
    assert_eq!(standing(&ledger, 3), Some(Standing::Ended));
    assert!(ledger.open_rooms(guild()).is_empty());
    assert!(ledger.begin(guild()).is_ok());
}

#[test]
fn a_room_that_was_told_to_be_gone_before_discord_answered_is_missing_and_keeps_no_place() {
    let other = GuildId::new(2).unwrap();
    let gone_before = |ledger: &Ledger| ledger.missing(channel(1));
    let another_gone = |ledger: &Ledger| ledger.missing(channel(2));
    let whole = |ledger: &Ledger| drop(ledger.compare(guild(), &OrdSet::new()));
    let other_whole = |ledger: &Ledger| drop(ledger.compare(other, &OrdSet::new()));
    let many_gone = |ledger: &Ledger| {
        (2..=GONE_MAX as u64 + 2).for_each(|id| ledger.missing(channel(id)));
    };
    type Tell<'a> = &'a dyn Fn(&Ledger);
    let cases: [(&str, Tell<'_>, bool, Standing); 8] = [
        ("nothing", &|_| {}, false, Standing::Open),
        ("it is gone", &gone_before, false, Standing::Missing),
        ("it is gone and back", &gone_before, true, Standing::Open),
        ("another is gone", &another_gone, false, Standing::Open),
        ("the guild", &whole, false, Standing::Missing),
        ("the guild, with it", &whole, true, Standing::Open),
        ("another guild", &other_whole, false, Standing::Open),
        ("too many are gone", &many_gone, false, Standing::Missing),
    ];
    for (told, tell, there, standing) in cases {
        let ledger = ledger(1, 10);
        ledger.missing(channel(1));
        let pending = ledger.begin(guild()).unwrap();
        tell(&ledger);
        assert_eq!(ledger.made(pending, room(1), there), standing, "{told}");
        let open = standing == Standing::Open;
        assert_eq!(
            ledger.open_rooms(guild()).len(),
            usize::from(open),
            "{told}"
        );
        assert_eq!(ledger.begin(guild()).is_err(), open, "{told}");
        assert_eq!(ledger.found(channel(1)), !open, "{told}: it may come");
    }
}

#[test]
fn a_room_that_a_whole_telling_lacks_is_missing_until_it_is_told_of() {
    let ledger = ledger(10, 10);
    add(&ledger, 1);
    add(&ledger, 2);
    add(&ledger, 3);
    ledger.ended(channel(3));
    let compared = ledger.compare(guild(), &OrdSet::from_iter([channel(2)]));
    assert_eq!(
        compared,
        Compared {
            missing: vec![channel(1)],
            found: vec![]
        }
    );
    assert_eq!(standing(&ledger, 1), Some(Standing::Missing));
    assert!(ledger.found(channel(1)) && !ledger.found(channel(1)) && !ledger.found(channel(2)));
    assert_eq!(standing(&ledger, 1), Some(Standing::Open));
    for id in 1..=3 {
        ledger.missing(channel(id));
    }
    assert_eq!(standing(&ledger, 3), Some(Standing::Ended));
    let compared = ledger.compare(guild(), &OrdSet::from_iter([channel(1), channel(3)]));
    assert_eq!(
        compared,
        Compared {
            missing: vec![],
            found: vec![channel(1)]
        }
    );
    assert!(
        !ledger.found(channel(3)),
        "what ended stays so: channel ids are not used twice"
    );
    let other = GuildId::new(2).unwrap();
    assert_eq!(ledger.compare(other, &OrdSet::new()), Compared::default());
}

#[test]
fn a_ledger_that_is_restored_goes_on_where_its_rows_say() {
    let before = ledger(10, 2);
    for id in 1..=5 {
        let row = room(id).row();
        add(&before, id);
        assert_eq!(
            before.unsaved(),
            [],
            "a new room is kept before it stands here"
        );
        assert_eq!(OwnedRoom::read(&row), Some(room(id)));
    }
    before.missing(channel(2));
    for id in [3, 4] {
        before.ended(channel(id));
    }
    let rows = before.unsaved();
    assert!(
        rows.iter()
            .map(|row| row.room.is_some())
            .eq([false, true, true]),
        "2 is forgotten"
    );
    before.not_saved(rows.iter().map(|row| row.channel));
    assert_eq!(before.unsaved(), rows);
    let all: Vec<_> = [room(1).row(), room(5).row()]
        .into_iter()
        .chain(rows)
        .collect();
    let after = Ledger::restored(
        LedgerSettings {
            rooms_max: 2,
            past_max: 2,
        },
        &all[..2]
            .iter()
            .chain(&all[3..])
            .cloned()
            .collect::<Vec<_>>(),
    );
    for id in 1..=5 {
        assert_eq!(after.room(channel(id)), before.room(channel(id)), "{id}");
    }
    assert_eq!(after.begin(guild()), Err(LedgerFull));
    after.ended(channel(1));
    assert!(after.begin(guild()).is_ok());
}

#[test]
fn a_room_that_was_not_told_of_is_missing_only_if_it_may_have_been_there() {
    for (there, gone, standing) in [
        (false, false, Standing::Open),
        (false, true, Standing::Missing),
        (true, true, Standing::Open),
    ] {
        let ledger = ledger(10, 10);
        add(&ledger, 1);
        let epoch_of = |_, epoch| {
            assert_eq!(epoch, 1);
            gone
        };
        ledger.catch_up(guild(), |_| there, epoch_of);
        assert_eq!(ledger.room(channel(1)).unwrap().standing, standing);
    }
}

#[test]
fn an_inherited_deny_is_kept_until_the_channel_is_told_without_it() {
    let ledger = ledger(10, 10);
    let pending = ledger.begin(guild()).unwrap();
    let room = OwnedRoom {
        inherits_deny: true,
        ..room(1)
    };
    assert_eq!(OwnedRoom::read(&room.row()), Some(room.clone()));
    assert_eq!(room.owned(), Change::OwnedUnderDeny(channel(1)));
    let row = room.row();
    let _open = ledger.made(pending, room, true);
    assert_eq!(ledger.unsaved(), []);
    assert!(ledger.lost_inherited_deny(channel(1)));
    assert!(!ledger.lost_inherited_deny(channel(1)), "once");
    assert!(!ledger.lost_inherited_deny(channel(2)), "no room of ours");
    let now = ledger.room(channel(1)).unwrap();
    assert_eq!(now.owned(), Change::Owned(channel(1)));
    assert_eq!(ledger.unsaved(), [now.row()]);

    // As a hub kept it that did not know of denies.
    let mut kept: serde_json::Value = serde_json::from_slice(&row.room.unwrap()).unwrap();
    assert_eq!(
        kept.as_object_mut().unwrap().remove("inherits_deny"),
        Some(true.into())
    );
    let older = LedgerRow {
        channel: channel(1),
        room: serde_json::to_vec(&kept).ok(),
    };
    assert!(!OwnedRoom::read(&older).unwrap().inherits_deny);
}
