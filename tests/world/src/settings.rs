//! The settings with which the programs of a world start.

use crate::simulator::{BOT_TOKEN, GUILD};

/// Signs what the worker delivers.
pub const SECRET: &str = "whsec_ZTJlLWUyZS1lMmUtZTJlLWUyZS1lMmUtZTJlLWUyZS0=";

/// Where the programs of a world listen.
#[derive(Debug, Clone)]
pub struct Addresses {
    /// The simulator.
    pub sim: String,
    /// The issuer.
    pub issuer: String,
    /// The hub's public listener.
    pub hub: String,
    /// The hub's internal listener.
    pub internal: String,
    /// The worker.
    pub worker: String,
}

type Settings = Vec<(&'static str, String)>;

/// Settings as the processes take them.
pub fn borrowed<'a>(settings: &'a [(&'static str, String)]) -> Vec<(&'a str, &'a str)> {
    let pairs = settings.iter().map(|(name, value)| (*name, &**value));
    pairs.collect()
}

fn url(address: &str) -> String {
    format!("http://{address}")
}

/// The hub's.
pub fn hub_settings(at: &Addresses, store_url: &str) -> Settings {
    vec![
        ("STORE_URL", store_url.to_owned()),
        ("HUB_LISTEN", at.hub.clone()),
        ("INTERNAL_LISTEN", at.internal.clone()),
        ("HUB_SECRET", SECRET.to_owned()),
        ("JWT_ISSUER", url(&at.issuer)),
        ("JWT_AUDIENCE", "roomwire".to_owned()),
        (
            "JWT_PUBLIC_JWK_URL",
            format!("http://{}/.well-known/jwks.json", at.issuer),
        ),
        ("WEB_ORIGIN", url(&at.hub)),
        ("PRIMARY_GUILD_ID", GUILD.to_owned()),
        ("DISCORD_BOT_TOKEN", BOT_TOKEN.to_owned()),
        ("DISCORD_API_URL", url(&at.sim)),
        ("LOG_LEVEL", "debug".to_owned()),
    ]
}

/// The worker's.
pub(crate) fn worker_settings(at: &Addresses) -> Settings {
    vec![
        ("HUB_SECRET", SECRET.to_owned()),
        ("PRIMARY_GUILD_ID", GUILD.to_owned()),
        ("DISCORD_BOT_TOKEN", BOT_TOKEN.to_owned()),
        (
            "HUB_ENDPOINT",
            format!("http://{}/api/internal/events", at.internal),
        ),
        ("WORKER_LISTEN", at.worker.clone()),
        ("DISCORD_API_URL", url(&at.sim)),
        ("LOG_LEVEL", "debug".to_owned()),
    ]
}

/// The simulator's: nobody moves unless a test asks for it.
pub(crate) fn sim_settings(at: &Addresses) -> Settings {
    vec![
        ("SIM_LISTEN", at.sim.clone()),
        ("SIM_QUIET", "1".to_owned()),
        ("SIM_SEED", "1".to_owned()),
        (
            "SIM_INTERACTIONS_URL",
            format!("http://{}/interactions", at.hub),
        ),
        ("LOG_LEVEL", "info".to_owned()),
    ]
}
