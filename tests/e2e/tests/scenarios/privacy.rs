//! No output shows that the staff channel exists.

use std::time::Duration;

use reqwest::{Method, StatusCode};
use serde_json::json;
use world::reducer::Mirror;
use world::{ADA, BOT_ROLE, GRACE, GUILD, LOUNGE, STAFF, STUDY, World, eventually};

/// A user who is never anywhere but with the staff.
const BOSS: &str = "299999999999999999";

/// Whether the bot itself may view the staff's channel.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Bot {
    Views,
    DoesNot,
}

/// The bot's role may view the staff's channel and connect to it.
async fn let_the_bot_in(world: &World) {
    let channels = world.channels().await;
    let mut overwrites = channels[STAFF]["overwrites"].as_array().unwrap().clone();
    overwrites.push(json!({"id": BOT_ROLE, "type": 0, "allow": "1049600", "deny": "0"}));
    world
        .change_channel(STAFF, json!({ "overwrites": overwrites }))
        .await;
}

#[tokio::test]
async fn nothing_of_the_staff_channel_is_in_any_frame_answer_log_line_or_metric() {
    no_output_names_the_staff(Bot::Views).await;
}

#[tokio::test]
async fn nothing_of_a_staff_channel_is_published_that_the_bot_itself_may_not_view() {
    no_output_names_the_staff(Bot::DoesNot).await;
}

async fn no_output_names_the_staff(bot: Bot) {
    let world = World::start().await;
    if bot == Bot::Views {
        let_the_bot_in(&world).await;
    }
    let mut browser = world.browser("ada").await;
    let channels = world.channels().await;
    let staff_name = channels[STAFF]["name"].as_str().unwrap().to_owned();

    world.voice(BOSS, Some(STAFF)).await;
    world
        .control(
            "voice",
            json!({ "guildId": GUILD, "userId": BOSS, "selfMute": true }),
        )
        .await;
    world.voice(ADA, Some(STAFF)).await;
    world.voice(ADA, Some(LOUNGE)).await;
    world.voice(ADA, Some(STAFF)).await;
    world.voice(GRACE, Some(LOUNGE)).await;
    eventually("Grace came, Ada left", || async {
        let (_, list) = world
            .rest(Method::GET, "/api/rooms", json!({ "sub": "ada" }), None)
            .await;
        let text = list.to_string();
        (text.contains(GRACE) && !text.contains(ADA)).then_some(())
    })
    .await;
    let mut late = world.browser("grace").await;
    late.settle(Duration::from_millis(200)).await;
    browser.settle(Duration::from_millis(200)).await;

    let manage = json!({ "sub": "mo", "scope": "rooms:read rooms:manage" });
    let (absent, nothing) = world
        .rest(Method::GET, "/api/rooms/123456789", manage.clone(), None)
        .await;
    let (hidden, staff) = world
        .rest(
            Method::GET,
            &format!("/api/rooms/{STAFF}"),
            manage.clone(),
            None,
        )
        .await;
    assert_eq!(
        (absent, hidden),
        (StatusCode::NOT_FOUND, StatusCode::NOT_FOUND)
    );
    assert_eq!(
        (&nothing["detail"], &nothing["code"]),
        (&staff["detail"], &staff["code"]),
        "a hidden room is as good as none"
    );
    let (status, _) = world
        .rest(
            Method::DELETE,
            &format!("/api/end-room/{STAFF}"),
            manage,
            None,
        )
        .await;
    assert_eq!(status, StatusCode::NOT_FOUND);

    let (_, list) = world
        .rest(Method::GET, "/api/rooms", json!({ "sub": "ada" }), None)
        .await;
    let mut everything = world.outputs().await;
    everything.push_str(&list.to_string());
    for heard in [&browser.received, &late.received] {
        assert!(heard.iter().any(|frame| frame.contains(LOUNGE)));
        everything.push_str(&heard.join("\n"));
    }
    for secret in [STAFF, BOSS, staff_name.as_str()] {
        assert!(
            !everything.contains(secret),
            "{secret} is in {}",
            around(&everything, secret)
        );
    }
}

#[tokio::test]
async fn a_room_that_is_hidden_or_shown_by_an_overwrite_goes_and_comes() {
    let world = World::start().await;
    let mut browser = world.browser("ada").await;
    world.voice(ADA, Some(LOUNGE)).await;
    browser.event("voice.joined").await;

    let deny = json!([{ "id": GUILD, "type": 0, "allow": "0", "deny": "1024" }]);
    world
        .change_channel(LOUNGE, json!({ "overwrites": deny }))
        .await;
    let gone = browser.event("room.deleted").await;
    assert_eq!(gone["payload"]["channelId"], LOUNGE);
    world.voice(GRACE, Some(LOUNGE)).await;
    world
        .change_channel(LOUNGE, json!({ "overwrites": [] }))
        .await;
    let back = browser.event("room.created").await;
    assert_eq!(back["payload"]["channelId"], LOUNGE);
    let mut users = [browser.frame().await, browser.frame().await].map(|frame| {
        assert_eq!(frame["event"], "voice.joined");
        frame["payload"]["userId"].as_str().unwrap().to_owned()
    });
    users.sort();
    assert_eq!(users, [ADA, GRACE]);
    let unseen = browser
        .received
        .iter()
        .position(|frame| frame.contains("room.deleted"))
        .unwrap();
    let seen = browser
        .received
        .iter()
        .position(|frame| frame.contains("room.created"))
        .unwrap();
    assert!(
        browser.received[unseen + 1..seen]
            .iter()
            .all(|frame| !frame.contains(GRACE))
    );
}

/// Small and repeatable: xorshift64* (Vigna, 2016).
struct Luck(u64);

impl Luck {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        usize::try_from(self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33).unwrap() % end
    }

    fn one<'a, T: ?Sized>(&mut self, of: &[&'a T]) -> &'a T {
        of[self.below(of.len())]
    }
}

/// The permissions of @everyone with and without "View Channels", and those of an unrelated role.
const ROLES: [(&str, &str); 4] = [
    (GUILD, "6546640449"),
    (GUILD, "6546639425"),
    ("100000000000000020", "1024"),
    ("100000000000000020", "8"),
];

#[tokio::test]
async fn after_any_change_of_roles_and_overwrites_a_browser_has_exactly_what_everyone_may_view() {
    let world = World::start().await;
    let_the_bot_in(&world).await;
    let staff_name = world.channels().await[STAFF]["name"]
        .as_str()
        .unwrap()
        .to_owned();
    let mut browser = world.browser("ada").await;
    let mut mirror = Mirror::default();
    let mut luck = Luck(0x5eed);
    for round in 0..40 {
        world
            .voice(
                BOSS,
                if luck.below(2) == 0 {
                    Some(STAFF)
                } else {
                    None
                },
            )
            .await;
        for _ in 0..6 {
            let user = luck.one(&[ADA, GRACE, "200000000000000003"]);
            let room = luck.one(&[LOUNGE, STUDY]);
            match luck.below(6) {
                0 => {
                    let (role, permissions) = ROLES[luck.below(ROLES.len())];
                    world
                        .control(
                            "roles",
                            json!({ "guildId": GUILD, "roleId": role, "permissions": permissions }),
                        )
                        .await;
                }
                1 => {
                    let (allow, deny) = luck.one(&[&("0", "1024"), &("1024", "0"), &("0", "0")]);
                    let overwrites =
                        json!([{ "id": GUILD, "type": 0, "allow": allow, "deny": deny }]);
                    world
                        .change_channel(room, json!({ "overwrites": overwrites }))
                        .await;
                }
                2 => world.voice(user, None).await,
                3 => world.voice(user, Some(STAFF)).await,
                _ => world.voice(user, Some(room)).await,
            }
        }
        mirror.converge(&world, &mut browser).await;
        let (_, list) = world
            .rest(Method::GET, "/api/rooms", json!({ "sub": "ada" }), None)
            .await;
        for secret in [STAFF, BOSS, staff_name.as_str()] {
            assert!(
                !list.to_string().contains(secret),
                "{secret} in round {round}"
            );
        }
    }
    assert!(
        browser.received.len() > 60,
        "much happened: {} frames",
        browser.received.len()
    );
    let everything = format!("{}{}", world.outputs().await, browser.received.join("\n"));
    for secret in [STAFF, BOSS, staff_name.as_str()] {
        assert!(
            !everything.contains(secret),
            "{secret} is in {}",
            around(&everything, secret)
        );
    }
}

#[tokio::test]
async fn only_the_rooms_of_the_setting_are_shown() {
    let world = World::with(&[("ROOMS_SHOWN", "owned")]).await;
    let mut browser = world.browser("ada").await;
    assert!(browser.received.last().unwrap().contains("\"rooms\":[]"));
    world.voice(ADA, Some(LOUNGE)).await;
    let (status, created) = world
        .rest(
            Method::POST,
            "/api/create-room",
            json!({ "sub": "ada" }),
            Some(json!({ "name": "Ours" })),
        )
        .await;
    assert_eq!(status, StatusCode::CREATED, "{created}");
    let seen = browser.event("room.created").await;
    assert_eq!(seen["payload"]["channelId"], created["channelId"]);
    assert!(browser.received.iter().all(|frame| !frame.contains(LOUNGE)));
}

fn around<'a>(text: &'a str, what: &str) -> &'a str {
    let at = text.find(what).unwrap_or(0);
    let from = text[..at].rfind('\n').map_or(0, |end| end + 1);
    let to = text[at..].find('\n').map_or(text.len(), |end| at + end);
    &text[from..to]
}
