//! The hub alone, with an issuer for its key set and no worker.

use reqwest::Client;
use world::{
    Addresses, Folder, Launch, Output, Process, borrowed, free_addresses, hub_settings, pooled,
};

use crate::system::hub_limits;

/// The hub has no worker while its endpoint is measured: that is no warning.
const LOG_LEVEL: &str = "error";
/// Nothing listens there: a hub that only receives deliveries asks Discord nothing.
const NO_DISCORD: &str = "127.0.0.1:9";

/// A hub of some guilds, over a store. Dropping it ends it.
pub(super) struct Hub {
    /// The address of its internal listener.
    pub(super) internal: String,
    process: Process,
    http: Client,
    _issuer: Process,
}

impl Hub {
    /// Starts it and waits until it is ready; the first guild is the primary one.
    pub(super) async fn start(guilds: &[String], durability: &str, store: &Folder) -> Self {
        let [issuer, hub, internal] = free_addresses();
        let at = Addresses {
            sim: NO_DISCORD.to_owned(),
            worker: NO_DISCORD.to_owned(),
            issuer,
            hub,
            internal,
        };
        let http = pooled();
        let launch = |name: &str, settings: &[(&'static str, String)]| {
            let launch = Launch::of(name).with(&borrowed(settings));
            let launch = launch.with(&[("LOG_LEVEL", LOG_LEVEL)]);
            launch.writing_to(Output::Inherited).start()
        };
        let mut issuer = launch("dev-issuer", &[("ISSUER_LISTEN", at.issuer.clone())]);
        let keys = format!("http://{}/.well-known/jwks.json", at.issuer);
        issuer.ready(&http, &keys).await;
        let mut settings = hub_settings(&at, &store.store_url());
        settings.extend(hub_limits());
        settings.extend([
            (
                "PRIMARY_GUILD_ID",
                guilds.first().cloned().unwrap_or_default(),
            ),
            ("GUILD_IDS", guilds.join(",")),
            ("STORE_DURABILITY", durability.to_owned()),
        ]);
        let mut hub = Self {
            process: launch("hub", &settings),
            internal: at.internal,
            http,
            _issuer: issuer,
        };
        hub.ready().await;
        hub
    }

    async fn ready(&mut self) {
        let url = format!("http://{}/readyz", self.internal);
        self.process.ready(&self.http, &url).await;
    }

    /// Kills it as `kill -9` does, and starts it again on its store.
    pub(super) async fn kill_and_restart(&mut self) {
        self.process.assert_running();
        self.process.kill().await;
        self.process = self.process.again();
        self.ready().await;
    }

    /// Ends it.
    pub(super) async fn stop(mut self) {
        self.process.kill().await;
    }
}
