//! The command `hub check --reach`: calls the other systems, and changes nothing.

mod permissions;

use std::collections::BTreeSet;

use launch::check::Report;
use proto::{ChannelId, GuildId, UserId};
use url::Url;

use crate::auth::Verifier;
use crate::config::Settings;
use crate::discord::{Application, Discord, ReadError};
use crate::discord_http::PublicKey;
use crate::view::RoomsShown;
use roomlog::reach::{self, Place};

/// Discord's channel types of rooms: voice and stage ("Channel Types").
const ROOMS: [u32; 2] = [2, 13];
/// How many channels a line names.
const NAMED_MAX: usize = 5;

/// Checks the issuers of tokens, the store's directory and Discord: one line for each check.
pub async fn reach(settings: &Settings, report: &mut Report) {
    keys(settings, report).await;
    store(settings, report);
    let discord = match Discord::new(settings.discord.clone()) {
        Ok(discord) => discord,
        Err(error) => {
            report.wrong("Discord", &format!("no request can be made: {error}."));
            return;
        }
    };
    let bot = match discord.bot_user().await {
        Ok(bot) => bot.id,
        Err(why) => {
            report.wrong("Discord", &cannot_be_read(why, settings));
            return;
        }
    };
    report.ok(
        "Discord",
        &format!("it takes DISCORD_BOT_TOKEN, of bot {bot}"),
    );
    let application = match discord.application().await {
        Ok(application) => {
            of_application(settings, &application, report);
            Some(application)
        }
        Err(why) => {
            report.wrong("application", &cannot_be_read(why, settings));
            None
        }
    };
    let access = settings.access();
    let mut seen = BTreeSet::new();
    for guild in access.guilds() {
        let about = format!("guild {guild}");
        match of_guild(&discord, *guild, bot, report).await {
            Ok(channels) => seen.extend(channels),
            Err(ReadError::Hidden) => report.wrong(
                &about,
                "the bot is not in it. Invite the bot, or correct PRIMARY_GUILD_ID and GUILD_IDS.",
            ),
            Err(why) => report.wrong(&about, &cannot_be_read(why, settings)),
        }
        if let (Some(application), true) = (&application, settings.discord_public_key.is_some()) {
            match discord.may_have_commands(application.id, *guild).await {
                Ok(()) => report.ok(&about, "it may have slash commands"),
                Err(ReadError::Hidden) => report.wrong(
                    &about,
                    "it may not have slash commands. Invite the bot once more, with the scope applications.commands.",
                ),
                Err(why) => report.wrong(&about, &cannot_be_read(why, settings)),
            }
        }
    }
    if let RoomsShown::Listed(listed) = &settings.rooms_shown {
        let missing: Vec<ChannelId> = listed.difference(&seen).copied().collect();
        if !missing.is_empty() {
            let missing = named(&missing);
            report.warning(
                "ROOMS_SHOWN",
                &format!("the bot sees no such channel in its guilds: {missing}. Correct the ids, or let the bot view them."),
            );
        }
    }
}

async fn keys(settings: &Settings, report: &mut Report) {
    for (url, found) in Verifier::new(settings.auth()).probe().await {
        let about = format!("key set {url}");
        match found {
            Ok((0, skipped)) => report.wrong(
                &about,
                &format!("none of its {skipped} keys can be used. Publish an RS256, ES256 or Ed25519 key."),
            ),
            Ok((usable, 0)) => report.ok(&about, &format!("{usable} keys can be used")),
            Ok((usable, skipped)) => report.ok(
                &about,
                &format!("{usable} keys can be used, {skipped} of other kinds are passed over"),
            ),
            Err(why) => report.wrong(&about, &why),
        }
    }
}

fn store(settings: &Settings, report: &mut Report) {
    match reach::probe(&settings.store_url) {
        Ok(Place::Memory) => report.warning(
            "store",
            "STORE_URL is memory: nothing outlives the hub, and rooms from before a restart are not Roomwire's any more.",
        ),
        Ok(Place::InUse) => report.ok("store", "a running hub uses it; it is not touched"),
        Ok(Place::Kept) => report.ok("store", "it is a store of Roomwire, and can be written"),
        Ok(Place::Free) => report.ok("store", "none exists yet; it can be made"),
        Err(why) => report.wrong("store", &format!("STORE_URL: {why}")),
    }
}

fn of_application(settings: &Settings, application: &Application, report: &mut Report) {
    let about = "application";
    match settings.discord.discord_application_id {
        Some(id) if id != application.id => report.wrong(
            about,
            &format!(
                "DISCORD_APPLICATION_ID is {id}, and the bot's token is of application {}. Set it to that, or leave it out.",
                application.id
            ),
        ),
        _ => report.ok(about, &format!("the bot belongs to application {}", application.id)),
    }
    let at_discord = application
        .interactions_endpoint_url
        .as_deref()
        .filter(|url| !url.is_empty());
    let Some(key) = &settings.discord_public_key else {
        let text = match at_discord {
            Some(url) => format!(
                "Discord sends interactions to {url}, and DISCORD_PUBLIC_KEY is not set: the hub answers 404. Set it to {}.",
                application.verify_key
            ),
            None => format!(
                "DISCORD_PUBLIC_KEY is not set, so slash commands are disabled. To enable them, set it to {}.",
                application.verify_key
            ),
        };
        report.warning("interactions", &text);
        return;
    };
    if application.verify_key.parse::<PublicKey>().as_ref() == Ok(key) {
        report.ok("interactions", "DISCORD_PUBLIC_KEY is the application's");
    } else {
        report.wrong(
            "interactions",
            &format!(
                "DISCORD_PUBLIC_KEY is another application's. Set it to {}.",
                application.verify_key
            ),
        );
    }
    let same = |at_discord: &str, ours: &Url| Url::parse(at_discord).as_ref() == Ok(ours);
    match (at_discord, &settings.interactions_endpoint_url) {
        (Some(at_discord), Some(ours)) if same(at_discord, ours) => report.ok(
            "interactions",
            "the endpoint at Discord is INTERACTIONS_ENDPOINT_URL",
        ),
        (Some(at_discord), Some(ours)) => report.wrong(
            "interactions",
            &format!(
                "Discord sends them to {at_discord}, and INTERACTIONS_ENDPOINT_URL is {ours}. Change one of them."
            ),
        ),
        (Some(at_discord), None) => {
            report.ok("interactions", &format!("Discord sends them to {at_discord}"));
        }
        (None, ours) => {
            let ours = ours
                .as_ref()
                .map_or("<public address of the hub>/interactions", Url::as_str);
            report.warning(
                "interactions",
                &format!(
                    "no endpoint is entered at Discord, so slash commands do not reach the hub. With the hub running, enter {ours} on the application's page."
                ),
            );
        }
    }
}

/// What the bot may do in a guild; the channels that it sees there.
async fn of_guild(
    discord: &Discord,
    id: GuildId,
    bot: UserId,
    report: &mut Report,
) -> Result<BTreeSet<ChannelId>, ReadError> {
    let about = format!("guild {id}");
    let guild = discord.guild(id).await?;
    let member = discord.member(id, bot).await?;
    let channels = discord.channels(id).await?;
    let bot = bot.to_string();
    let in_guild = permissions::in_guild(&guild, &member, &bot);
    let mut missing = permissions::NEEDED
        .iter()
        .filter(|(bit, _, _)| in_guild & bit == 0)
        .peekable();
    if missing.peek().is_none() {
        report.ok(
            &about,
            "the bot has View Channels, Manage Channels and Connect",
        );
    }
    for (_, permission, without) in missing {
        report.wrong(
            &about,
            &format!("the bot lacks {permission}: {without}. Give it to the bot's role in the server's settings."),
        );
    }
    if in_guild & permissions::CREATE_INSTANT_INVITE == 0 {
        report.warning(
            &about,
            "the bot lacks Create Invite: nobody can make an invite to a room. Give it to the bot's role in the server's settings.",
        );
    }
    if in_guild & permissions::VIEW_AUDIT_LOG == 0 {
        report.warning(
            &about,
            "the bot lacks View Audit Log: when Discord's answer to a create is lost, the hub has to guess which channel it made, and deletes none. Give it to the bot's role in the server's settings.",
        );
    }
    let lacks = permissions::NEEDED.map(|(bit, permission, _)| {
        let rooms = channels.iter().filter(|channel| {
            let may = permissions::in_channel(in_guild, &guild, channel, &member, &bot);
            // What the whole guild lacks is said already.
            ROOMS.contains(&channel.r#type) && may & bit == 0 && in_guild & bit != 0
        });
        (permission, rooms.map(|room| room.id).collect::<Vec<_>>())
    });
    for (permission, rooms) in lacks.iter().filter(|(_, rooms)| !rooms.is_empty()) {
        report.warning(
            &about,
            &format!(
                "{permission} is denied to the bot in {}. Allow it there, or leave these rooms to Discord.",
                named(rooms)
            ),
        );
    }
    Ok(channels.iter().map(|channel| channel.id).collect())
}

fn cannot_be_read(why: ReadError, settings: &Settings) -> String {
    match why {
        ReadError::Token => "it refuses DISCORD_BOT_TOKEN (401). Copy the token from the page Bot of your application, or reset it there.".to_owned(),
        ReadError::Hidden => "the bot may not read it (403 or 404). Is the token that of this application?".to_owned(),
        ReadError::NoResponse => format!(
            "no answer of Discord comes from {}. Can this machine reach it without a proxy?",
            settings.discord.discord_api_url
        ),
        ReadError::Status(status) => format!("it answers with status {status}. Try again later."),
    }
}

fn named(channels: &[ChannelId]) -> String {
    let shown: Vec<_> = channels
        .iter()
        .take(NAMED_MAX)
        .map(ToString::to_string)
        .collect();
    let more = channels.len().saturating_sub(NAMED_MAX);
    let rest = if more > 0 {
        format!(" and {more} more")
    } else {
        String::new()
    };
    format!("{}{rest}", shown.join(", "))
}
