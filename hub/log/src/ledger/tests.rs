//! The ledger over the lives of its rooms, beside the guild's state that they are reported into.

use std::time::Instant;

use proptest::prelude::*;
use proto::event::{Audience, Overwrite, RoomGone, RoomKind, Roster};

use super::*;
use crate::Source;
use crate::fixture::{channel_id as channel, create};

const EPOCH: u64 = 1;

/// One guild with its ledger, as the log's state keeps them.
#[derive(Clone)]
struct Guild {
    ledger: Ledger,
    state: GuildState,
    epoch: u64,
    tickets: u64,
    now_ms: u64,
}

impl Guild {
    fn new(rooms_max: usize, past_max: usize) -> Self {
        Self {
            ledger: Ledger::new(LedgerBounds {
                rooms_max,
                past_max,
                ..LedgerBounds::default()
            }),
            state: GuildState::default(),
            epoch: EPOCH,
            tickets: 0,
            now_ms: 0,
        }
    }

    fn begin(&mut self) -> Result<CreateTicket, CreateRefused> {
        self.tickets += 1;
        let ticket = CreateTicket(self.tickets);
        // Each room has another owner: the budget is tested by itself.
        let pending = PendingCreate {
            create: create(1, &self.tickets.to_string(), None),
            epoch: self.epoch,
            began_ms: 0,
        };
        let begun = self
            .ledger
            .begin_create(ticket, pending, 0, &mut Vec::new())?;
        assert_eq!(begun, Begun::Now);
        Ok(ticket)
    }

    fn finish(&mut self, ticket: CreateTicket, outcome: &CreateOutcome) -> Result<(), NotPending> {
        let step =
            self.ledger
                .finish_create(ticket, outcome, &self.state, self.epoch, self.now_ms)?;
        self.publish(step);
        Ok(())
    }

    fn add(&mut self, id: u64) {
        let ticket = self.begin().unwrap();
        self.finish(ticket, &created(id, false)).unwrap();
    }

    fn end(&mut self, id: u64) {
        self.now_ms += 1;
        let step = self.ledger.end(channel(id), &self.state, self.now_ms);
        self.publish(step);
    }

    fn report(&mut self, fact: Fact) {
        self.now_ms += 1;
        for change in self.state.admit(fact, Source::Worker) {
            if matches!(change, Change::Fact(Fact::Snapshot(_))) {
                self.epoch += 1;
            }
            self.state.apply(&change);
            let step = self
                .ledger
                .observe(guild_id(), &change, &self.state, self.now_ms);
            self.publish(step);
        }
    }

    fn publish(&mut self, step: LedgerStep) {
        for change in step.guild {
            self.state.apply(&change);
        }
    }

    fn report_room(&mut self, id: u64) {
        self.report(Fact::RoomCreated(reported(id, Overwrite::None)));
    }

    fn report_deleted(&mut self, id: u64) {
        self.report(Fact::RoomDeleted(RoomGone {
            guild_id: guild_id(),
            channel_id: channel(id),
        }));
    }

    fn report_all(&mut self, ids: &[u64]) {
        let rooms = ids.iter().map(|id| reported(*id, Overwrite::None));
        self.report(Fact::Snapshot(Roster {
            guild_id: guild_id(),
            rooms: rooms.collect(),
            voices: Vec::new(),
            reason: "test".to_owned(),
            everyone: Default::default(),
            tombstones: Vec::new(),
        }));
    }

    fn status(&self, id: u64) -> Option<RoomStatus> {
        self.ledger.room(channel(id)).map(|room| room.status)
    }

    fn open(&self) -> Vec<u64> {
        let open = self.ledger.open_rooms(guild_id());
        open.map(|room| room.channel_id.get()).collect()
    }

    fn owned(&self) -> Vec<u64> {
        self.state
            .owned
            .iter()
            .map(|channel| channel.get())
            .collect()
    }
}

fn guild_id() -> GuildId {
    GuildId::new(1).unwrap()
}

fn created(id: u64, denies_everyone: bool) -> CreateOutcome {
    CreateOutcome::Created(CreatedChannel {
        channel_id: channel(id),
        name: "a".to_owned(),
        parent_id: None,
        user_limit: 4,
        denies_everyone,
    })
}

fn reported(id: u64, overwrite: Overwrite) -> Room {
    Room {
        guild_id: guild_id(),
        channel_id: channel(id),
        name: "a".to_owned(),
        parent_id: None,
        user_limit: 4,
        kind: RoomKind::Voice,
        audience: Audience::Restricted,
        overwrite,
    }
}

#[test]
fn pending_creates_count_and_one_without_a_channel_gives_its_place_back() {
    let mut guild = Guild::new(2, 10);
    guild.add(1);
    let ticket = guild.begin().unwrap();
    assert_eq!(guild.begin(), Err(CreateRefused::Full));
    guild.finish(ticket, &CreateOutcome::Withdrawn).unwrap();
    assert_eq!(
        guild.finish(ticket, &created(2, false)),
        Err(NotPending),
        "a channel without a pending create is not ours"
    );
    assert!(guild.begin().is_ok());
    assert_eq!(guild.open(), [1]);
}

#[test]
fn a_ticket_that_begins_twice_takes_one_place_and_one_room_of_the_budget() {
    let mut ledger = Ledger::new(LedgerBounds {
        creates_per_minute: 1,
        ..LedgerBounds::default()
    });
    let pending = PendingCreate {
        create: create(1, "ada", None),
        epoch: EPOCH,
        began_ms: 0,
    };
    let mut begin = |ticket| {
        let ticket = CreateTicket(ticket);
        ledger.begin_create(ticket, pending.clone(), 0, &mut Vec::new())
    };
    assert_eq!((begin(1), begin(1)), (Ok(Begun::Now), Ok(Begun::Now)));
    let wait_ms = 60_000;
    assert_eq!(begin(2), Err(CreateRefused::TooMany { wait_ms }));
    assert_eq!(ledger.pending().count(), 1);
}

#[test]
fn a_request_with_a_key_makes_one_room_and_its_repeats_get_the_same_answer() {
    let mut guild = Guild::new(10, 0);
    let begin = |guild: &mut Guild, ticket, owner, request, now_ms| {
        let pending = PendingCreate {
            create: create(1, owner, Some(request)),
            epoch: EPOCH,
            began_ms: now_ms,
        };
        let (ticket, mut changes) = (CreateTicket(ticket), Vec::new());
        let begun = guild
            .ledger
            .begin_create(ticket, pending, now_ms, &mut changes);
        assert_eq!(begun == Ok(Begun::Now), !changes.is_empty(), "at no budget");
        begun
    };
    assert_eq!(begin(&mut guild, 1, "ada", ("k", 1), 0), Ok(Begun::Now));
    for (ticket, owner, request, expected) in [
        (2, "ada", ("k", 1), Err(CreateRefused::InProgress)),
        (2, "ada", ("k", 2), Err(CreateRefused::OtherBody)),
        (2, "bob", ("k", 1), Ok(Begun::Now)),
        (3, "ada", ("l", 1), Ok(Begun::Now)),
        (4, "ada", ("m", 1), Ok(Begun::Now)),
    ] {
        let begun = begin(&mut guild, ticket, owner, request, 0);
        assert_eq!(begun, expected, "{owner} {request:?}");
    }
    guild.now_ms = 5;
    guild.finish(CreateTicket(1), &created(1, false)).unwrap();
    // A create without a room frees its key.
    guild
        .finish(CreateTicket(4), &CreateOutcome::Withdrawn)
        .unwrap();
    assert_eq!(begin(&mut guild, 5, "ada", ("m", 2), 0), Ok(Begun::Now));
    guild.end(1);
    assert_eq!(guild.status(1), None, "ended and forgotten");
    for (request, now_ms, expected) in [
        (("k", 1), 6, Ok(true)),
        (("k", 2), 6, Err(CreateRefused::OtherBody)),
        (("k", 1), ANSWER_AGE_MS + 4, Ok(true)),
        // Its day is over: another request may have the key.
        (("k", 2), ANSWER_AGE_MS + 5, Ok(false)),
    ] {
        let begun = begin(&mut guild, 6, "ada", request, now_ms);
        let is_repeat = begun.map(|begun| match begun {
            Begun::Before(answer) => {
                assert_eq!(answer.channel.channel_id, channel(1));
                true
            }
            Begun::Now => false,
        });
        assert_eq!(is_repeat, expected, "{request:?} at {now_ms}");
    }
}

#[test]
fn at_the_bound_the_oldest_answer_is_forgotten_and_counted() {
    let mut guild = Guild::new(10, 10);
    guild.ledger.bounds.answers_max = 1;
    for (n, early) in [(1, 0), (2, 1)] {
        let pending = PendingCreate {
            create: create(1, "ada", Some((&n.to_string(), 0))),
            epoch: EPOCH,
            began_ms: 0,
        };
        let ticket = CreateTicket(n);
        let begun = guild
            .ledger
            .begin_create(ticket, pending, 0, &mut Vec::new());
        assert_eq!(begun, Ok(Begun::Now));
        let (outcome, state) = (created(n, false), guild.state.clone());
        let step = guild
            .ledger
            .finish_create(ticket, &outcome, &state, EPOCH, n);
        assert_eq!(step.unwrap().forgotten_early, early);
        assert_eq!(guild.ledger.answer_count(), 1);
    }
}

#[test]
fn a_past_room_frees_its_place_and_is_kept_up_to_the_bound() {
    let mut guild = Guild::new(1, 2);
    for id in 1..=3 {
        guild.add(id);
        guild.end(id);
        guild.end(id);
    }
    assert_eq!(guild.status(1), None, "forgotten");
    assert_eq!(guild.status(2), Some(RoomStatus::Ended));
    assert_eq!(guild.status(3), Some(RoomStatus::Ended));
    assert_eq!((guild.open(), guild.ledger.open_count()), (vec![], 0));
    assert!(guild.begin().is_ok());
}

#[test]
fn a_room_that_was_reported_as_deleted_before_discord_answered_is_missing_and_keeps_no_place() {
    let gone = |guild: &mut Guild| {
        guild.report_room(1);
        guild.report_deleted(1);
    };
    let another_gone = |guild: &mut Guild| {
        guild.report_room(2);
        guild.report_deleted(2);
    };
    let (open, missing) = (RoomStatus::Open, RoomStatus::Missing);
    type Report<'a> = &'a dyn Fn(&mut Guild);
    let cases: [(&str, Report<'_>, RoomStatus); 8] = [
        ("nothing", &|_| {}, open),
        ("the room", &|guild| guild.report_room(1), open),
        ("it is deleted", &gone, missing),
        (
            "it is deleted and comes back",
            &|guild| {
                gone(guild);
                guild.report_room(1);
            },
            open,
        ),
        ("another is deleted", &another_gone, open),
        ("the guild", &|guild| guild.report_all(&[]), missing),
        ("the guild with it", &|guild| guild.report_all(&[1]), open),
        (
            "the guild with it, then deleted",
            &|guild| {
                guild.report_all(&[1]);
                guild.report_deleted(1);
            },
            missing,
        ),
    ];
    for (what, report, status) in cases {
        let mut guild = Guild::new(1, 10);
        let ticket = guild.begin().unwrap();
        report(&mut guild);
        guild.finish(ticket, &created(1, false)).unwrap();
        assert_eq!(guild.status(1), Some(status), "{what}");
        let is_open = status == open;
        assert_eq!(guild.owned().contains(&1), is_open, "{what}");
        assert_eq!(guild.begin().is_err(), is_open, "{what}: its place");
        guild.report_room(1);
        assert_eq!(guild.status(1), Some(open), "{what}: it may still come");
        assert_eq!(guild.owned(), [1], "{what}");
    }
}

#[test]
fn a_room_that_a_snapshot_lacks_is_missing_until_it_is_reported() {
    let mut guild = Guild::new(10, 10);
    for id in 1..=3 {
        guild.add(id);
    }
    guild.end(3);
    guild.report_all(&[2]);
    assert_eq!(guild.open(), [2]);
    assert_eq!(guild.status(1), Some(RoomStatus::Missing));
    assert_eq!(guild.owned(), [2], "the missing and the ended one are not");
    guild.report_room(1);
    assert_eq!((guild.open(), guild.owned()), (vec![1, 2], vec![1, 2]));
    guild.report_deleted(1);
    guild.report_deleted(2);
    assert_eq!((guild.open(), guild.owned()), (vec![], vec![]));
    guild.report_all(&[1, 3]);
    assert_eq!((guild.open(), guild.owned()), (vec![1], vec![1]));
    assert_eq!(
        guild.status(3),
        Some(RoomStatus::Ended),
        "Discord uses no channel id twice"
    );
}

#[test]
fn a_room_that_ended_is_published_as_ours_until_it_is_reported_as_deleted() {
    let mut guild = Guild::new(10, 10);
    guild.add(1);
    guild.report_room(1);
    guild.end(1);
    assert_eq!((guild.open(), guild.owned()), (vec![], vec![1]));
    guild.report_deleted(1);
    assert!(guild.owned().is_empty());
    assert_eq!(guild.status(1), Some(RoomStatus::Ended));
}

#[test]
fn a_room_that_ends_before_it_is_reported_is_not_published_as_ours() {
    let mut guild = Guild::new(10, 10);
    guild.add(1);
    guild.end(1);
    assert_eq!((guild.open(), guild.owned()), (vec![], vec![]));
    // The report of its creation may still be on its way.
    guild.report_room(1);
    assert!(guild.owned().is_empty());
    guild.report_deleted(1);
    assert!(guild.owned().is_empty());
}

#[test]
fn a_room_that_is_no_longer_kept_is_not_published_as_ours_for_good() {
    let mut guild = Guild::new(10, 1);
    for id in 1..=3 {
        guild.add(id);
        guild.report_room(id);
        guild.end(id);
    }
    assert_eq!((guild.status(1), guild.status(2)), (None, None));
    assert_eq!(guild.owned(), [1, 2, 3]);
    guild.report_deleted(1);
    assert_eq!(guild.owned(), [2, 3]);
    guild.report_all(&[]);
    assert!(guild.owned().is_empty());
}

#[test]
fn at_a_start_an_unreported_room_is_missing_only_if_it_may_have_been_deleted() {
    let older = |exists: bool, was_deleted: bool, epoch: u64, known: bool| {
        let mut guild = Guild::new(10, 10);
        guild.add(1);
        // What an older version stored before the ledger followed.
        guild.epoch = epoch;
        guild.state.known = known;
        if exists || was_deleted {
            let room = Fact::RoomCreated(reported(1, Overwrite::None));
            guild.state.apply(&Change::Fact(room));
        }
        if was_deleted {
            let gone = RoomGone {
                guild_id: guild_id(),
                channel_id: channel(1),
            };
            guild.state.apply(&Change::Fact(Fact::RoomDeleted(gone)));
        }
        let step = guild
            .ledger
            .reconcile(guild_id(), &guild.state, guild.epoch, 0);
        guild.publish(step);
        (guild.status(1).unwrap(), guild.owned())
    };
    let (open, missing) = (RoomStatus::Open, RoomStatus::Missing);
    assert_eq!(older(false, false, EPOCH, true), (open, vec![1]));
    assert_eq!(older(true, false, EPOCH, true), (open, vec![1]));
    assert_eq!(older(false, true, EPOCH, true), (missing, vec![]));
    assert_eq!(older(false, false, EPOCH + 1, true), (missing, vec![]));
    assert_eq!(older(true, false, EPOCH + 1, true), (open, vec![1]));
    assert_eq!(older(false, false, EPOCH + 1, false), (open, vec![1]));
}

#[test]
fn an_inherited_deny_is_kept_until_the_channel_is_reported_without_it() {
    let (deny, none) = (Overwrite::Deny, Overwrite::None);
    // What Discord's answer said, what was reported before it and after it, and whether the deny that
    // the channel has at last is inherited.
    for (answered, before, after, inherits) in [
        (false, &[][..], &[deny][..], false),
        (false, &[deny], &[], false),
        (true, &[], &[], true),
        (true, &[], &[deny], true),
        (true, &[deny], &[], true),
        (true, &[deny], &[deny], true),
        (true, &[deny, none], &[], false),
        (true, &[deny, none], &[deny], false),
        (true, &[], &[deny, none, deny], false),
    ] {
        let case = format!("{answered} {before:?} {after:?}");
        let mut guild = Guild::new(10, 10);
        let ticket = guild.begin().unwrap();
        for overwrite in before {
            guild.report(Fact::RoomUpdated(reported(1, *overwrite)));
        }
        guild.finish(ticket, &created(1, answered)).unwrap();
        for overwrite in after {
            guild.report(Fact::RoomUpdated(reported(1, *overwrite)));
        }
        let now = |guild: &Guild| guild.ledger.room(channel(1)).unwrap().inherits_deny;
        assert_eq!(now(&guild), inherits, "{case}");
        assert_eq!(guild.state.inherits_deny(channel(1)), inherits, "{case}");
        // It comes back as it was, with its deny.
        guild.report_all(&[]);
        assert_eq!(guild.status(1), Some(RoomStatus::Missing), "{case}");
        guild.report(Fact::RoomCreated(reported(1, deny)));
        assert_eq!(now(&guild), inherits, "{case}");
        assert_eq!(guild.state.inherits_deny(channel(1)), inherits, "{case}");
    }
}

#[derive(Debug, Clone)]
enum Step {
    Begin,
    Created(usize, u64, bool),
    Withdrawn(usize),
    End(u64),
    Report(u64, Overwrite),
    Delete(u64),
    Snapshot(Vec<u64>),
}

fn step() -> impl Strategy<Value = Step> {
    let id = || 1..8_u64;
    let overwrite = prop::sample::select(vec![Overwrite::None, Overwrite::Deny]);
    prop_oneof![
        3 => Just(Step::Begin),
        3 => (0..4_usize, id(), any::<bool>()).prop_map(|(at, id, deny)| Step::Created(at, id, deny)),
        1 => (0..4_usize).prop_map(Step::Withdrawn),
        2 => id().prop_map(Step::End),
        3 => (id(), overwrite).prop_map(|(id, overwrite)| Step::Report(id, overwrite)),
        2 => id().prop_map(Step::Delete),
        1 => prop::collection::vec(id(), 0..4).prop_map(Step::Snapshot),
    ]
}

proptest! {
    #[test]
    fn the_ledger_and_the_guilds_log_agree_after_every_step(
        steps in prop::collection::vec(step(), 0..60)
    ) {
        let mut guild = Guild::new(4, 3);
        let mut made = std::collections::BTreeSet::new();
        for step in steps {
            let pending: Vec<_> = guild.ledger.pending().map(|(ticket, _)| ticket).collect();
            let full = guild.ledger.open_count() + pending.len() >= 4;
            match step {
                Step::Begin => prop_assert_eq!(guild.begin().is_err(), full),
                // Discord gives no channel id twice.
                Step::Created(at, id, deny) => {
                    if let Some(ticket) = pending.get(at) && made.insert(id) {
                        guild.finish(*ticket, &created(id, deny)).unwrap();
                    }
                }
                Step::Withdrawn(at) => {
                    if let Some(ticket) = pending.get(at) {
                        guild.finish(*ticket, &CreateOutcome::Withdrawn).unwrap();
                    }
                }
                Step::End(id) => guild.end(id),
                Step::Report(id, overwrite) => guild.report(Fact::RoomCreated(reported(id, overwrite))),
                Step::Delete(id) => guild.report_deleted(id),
                Step::Snapshot(ids) => guild.report_all(&ids),
            }
            prop_assert!(guild.ledger.rooms().count() - guild.ledger.open_count() <= 3);
            for id in 1..8 {
                let owned = guild.state.owned.contains(&channel(id));
                let there = guild.state.rooms.contains_key(&channel(id));
                let status = guild.status(id);
                prop_assert!(status.is_none() || made.contains(&id));
                match status {
                    Some(RoomStatus::Open) => prop_assert!(owned),
                    Some(RoomStatus::Missing) => prop_assert!(!owned && !there),
                    Some(RoomStatus::Ended) | None => prop_assert!(!owned || there),
                }
                if let Some(room) = guild.ledger.room(channel(id))
                    && room.status == RoomStatus::Open
                {
                    prop_assert_eq!(room.inherits_deny, guild.state.inherits_deny(channel(id)));
                }
            }
            // A start finds nothing to do, but for rooms that ended before they were reported.
            let step = guild.ledger.clone().reconcile(guild_id(), &guild.state, guild.epoch, 0);
            prop_assert_eq!(step.ledger, []);
        }
    }
}

#[test]
fn a_snapshot_costs_nothing_for_the_rooms_of_other_guilds() {
    let other = GuildId::new(2).unwrap();
    let snapshot = Change::Fact(Fact::Snapshot(GuildState::default().roster(other, "test")));
    let seconds = |rooms: u64| {
        let mut guild = Guild::new(10_000, 10);
        (1..=rooms).for_each(|id| guild.add(id));
        let attempt = |_| {
            let began = Instant::now();
            for _ in 0..200 {
                let state = GuildState::default();
                let step = guild.ledger.observe(other, &snapshot, &state, 0);
                assert_eq!(step, LedgerStep::default());
            }
            began.elapsed()
        };
        (0..5).map(attempt).min().unwrap().as_secs_f64()
    };
    let (few, many) = (seconds(10), seconds(10_000));
    assert!(many < 50.0 * few, "{many} s instead of {few} s");
}

#[test]
fn an_event_that_names_a_room_of_another_guild_changes_nothing() {
    let mut guild = Guild::new(10, 10);
    guild.add(1);
    guild.report_room(1);
    let before = guild.ledger.clone();
    let another = GuildId::new(77).unwrap();
    let gone = Fact::RoomDeleted(RoomGone {
        guild_id: another,
        channel_id: channel(1),
    });
    let created = Fact::RoomCreated(Room {
        guild_id: another,
        ..reported(1, Overwrite::None)
    });
    for fact in [created, gone] {
        let step = guild
            .ledger
            .observe(another, &Change::Fact(fact), &GuildState::default(), 1);
        assert_eq!(step, LedgerStep::default());
    }
    assert_eq!(guild.ledger, before);
}
