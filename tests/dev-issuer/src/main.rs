//! `dev-issuer`: settings, then logs, then bind, then run.

use std::net::SocketAddr;
use std::process::ExitCode;

use clap::Parser;
use launch::logs::LogSettings;
use launch::settings::{Problem, Program};
use tokio_util::sync::CancellationToken;

/// Issues signed tokens for development and tests, to every client. Loopback only.
///
/// POST /token takes JSON: {"sub":"ada"} and, if wanted, "guilds" (array of ids), "scope" (words
/// with spaces between), "ttl" (seconds, 3600; negative: expired already), "alg" (RS256, ES256 or
/// `EdDSA`). For tests, "claims" and "header" are objects whose members are added to the token's
/// claims and header last, so that they win; a null there leaves a member out.
/// GET /token?sub=ada answers with the token alone, as text; guilds (ids with commas between),
/// scope and ttl may follow.
/// POST /rotate makes new keys. GET /.well-known/jwks.json is the key set.
#[derive(Debug, Parser)]
#[command(name = "dev-issuer", version)]
struct Config {
    /// Where to listen; must be a loopback address. The tokens' issuer is http://<this address>
    #[arg(long, env = "ISSUER_LISTEN", default_value = "127.0.0.1:3901")]
    issuer_listen: SocketAddr,
    #[command(flatten)]
    settings: dev_issuer::Settings,
    #[command(flatten)]
    logs: LogSettings,
}

impl Program for Config {
    fn problems(&self) -> Vec<Problem> {
        if dev_issuer::is_allowed(self.issuer_listen) {
            return Vec::new();
        }
        let text = format!(
            "ISSUER_LISTEN is {}, which is not a loopback address. Use one, as in 127.0.0.1:3901: everybody who asks gets a token.",
            self.issuer_listen
        );
        vec![Problem::new(&["ISSUER_LISTEN"], text)]
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    let parsed = launch::settings::parse::<Config>();
    launch::logs::init(&parsed.settings.logs);
    parsed.log_warnings();
    match serve(parsed.settings).await {
        Ok(()) => ExitCode::from(launch::exit::CLEAN),
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::from(launch::exit::FAILED)
        }
    }
}

async fn serve(config: Config) -> anyhow::Result<()> {
    let shutdown: CancellationToken = launch::shutdown::on_signals()?;
    let listener = launch::bind("ISSUER_LISTEN", config.issuer_listen).await?;
    dev_issuer::run(listener, config.settings, shutdown).await
}
