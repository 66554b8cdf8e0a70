//! When the key set of an issuer is fetched, and how long it is used.
//!
//! One request at a time, to one address. The last good set is used while no new one is available,
//! up to a limit. Unknown keys may cause a refresh, but at most one in the cool-down, however many
//! they are. A request that finds a refresh in progress waits for it.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use anyhow::Chain;
use metrics::{counter, gauge};
use reqwest::header::ACCEPT;
use reqwest::{Client, StatusCode, redirect};
use tokio::sync::{Mutex, OwnedMutexGuard};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use url::Url;

use super::issuers::Issuer;
use super::jwks::{KeySet, SetError};
use super::reach::{AllowedAddresses, Lookup, NoAllowedAddress};
use super::settings::AuthSettings;

/// The first pause after a refused connection at start, in milliseconds; it doubles up to the
/// cool-down. A refused connection costs the issuer nothing, and an issuer that starts together
/// with us should not keep everybody out for a whole cool-down.
const START_PAUSE_MS: u64 = 500;

/// The key set of one issuer, as fresh as possible.
pub(super) struct Keys {
    issuer: Issuer,
    settings: Arc<AuthSettings>,
    state: RwLock<State>,
    /// Locked by the refresh in progress.
    flight: Arc<Mutex<()>>,
    lookup: Lookup,
}

/// What is known of the keys at one moment.
pub(super) struct Known {
    /// The keys that are good now.
    pub(super) set: Arc<KeySet>,
    /// How the last refresh ended.
    pub(super) last: Last,
}

/// How the last refresh ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Last {
    /// No refresh has ended yet.
    Never,
    /// With a set.
    Good,
    /// Without a connection: the issuer saw nothing of it.
    Refused,
    /// Without a set, though the issuer, or something at its address, was asked.
    Failed,
}

/// When things happened, and what holds since. Pure: the time is given.
struct State {
    set: Arc<KeySet>,
    good_at: Option<Instant>,
    tried_at: Option<Instant>,
    last: Last,
    refused_in_a_row: u32,
}

impl State {
    fn new() -> Self {
        Self {
            set: Arc::default(),
            good_at: None,
            tried_at: None,
            last: Last::Never,
            refused_in_a_row: 0,
        }
    }

    /// A refresh begins: from here on the cool-down runs, even if nobody sees it end.
    fn begin(&mut self, now: Instant) {
        self.tried_at = Some(now);
    }

    fn end(&mut self, now: Instant, outcome: &Result<Arc<KeySet>, FetchError>) {
        self.tried_at = Some(now);
        self.refused_in_a_row = match outcome {
            Err(error) if error.is_refusal() => self.refused_in_a_row.saturating_add(1),
            _ => 0,
        };
        self.last = match outcome {
            Ok(set) => {
                self.set = Arc::clone(set);
                self.good_at = Some(now);
                Last::Good
            }
            Err(_) if self.refused_in_a_row > 0 => Last::Refused,
            Err(_) => Last::Failed,
        };
    }

    fn known(&self, now: Instant, stale_max: Duration) -> Known {
        let fresh = self.good_at.is_some_and(|at| now < at + stale_max);
        Known {
            set: if fresh {
                Arc::clone(&self.set)
            } else {
                Arc::default()
            },
            last: self.last,
        }
    }

    fn may_ask(&self, now: Instant, cooldown: Duration) -> bool {
        self.tried_at.is_none_or(|at| now >= at + cooldown)
    }

    /// When the next refresh is due, of those that come by themselves.
    fn due(&self, now: Instant, cooldown: Duration, interval: Duration) -> Instant {
        let tried_at = self.tried_at.unwrap_or(now);
        match self.last {
            Last::Never => now,
            Last::Good => tried_at + interval,
            Last::Refused if self.good_at.is_none() => {
                let doubled = 1_u64 << self.refused_in_a_row.saturating_sub(1).min(16);
                let pause = Duration::from_millis(START_PAUSE_MS.saturating_mul(doubled));
                tried_at + pause.min(cooldown)
            }
            Last::Refused | Last::Failed => tried_at + cooldown.min(interval),
        }
    }
}

/// Why a refresh brought no set.
#[derive(Debug, thiserror::Error)]
enum FetchError {
    #[error("the HTTP client cannot be made")]
    Client(#[source] reqwest::Error),
    /// Nothing was asked.
    #[error(transparent)]
    NotAllowed(NoAllowedAddress),
    #[error("nothing answers")]
    Refused(#[source] reqwest::Error),
    #[error("no whole answer")]
    Broken(#[source] reqwest::Error),
    /// A redirect, too: none is followed, so that only the configured address is ever asked.
    #[error("the answer's status is {0}")]
    Status(StatusCode),
    #[error("the answer is longer than {0} bytes")]
    TooLong(usize),
    #[error(transparent)]
    Set(#[from] SetError),
}

impl FetchError {
    fn label(&self) -> &'static str {
        match self {
            Self::Client(_) => "client",
            Self::NotAllowed(_) => "not_allowed",
            Self::Refused(_) => "refused",
            Self::Broken(error) if error.is_timeout() => "timeout",
            Self::Broken(_) => "broken",
            Self::Status(_) => "status",
            Self::TooLong(_) => "too_long",
            Self::Set(_) => "set",
        }
    }

    /// Whether the issuer saw nothing of the refresh.
    fn is_refusal(&self) -> bool {
        matches!(
            self,
            Self::Client(_) | Self::NotAllowed(_) | Self::Refused(_)
        )
    }
}

impl Keys {
    /// No keys yet. The names of their addresses are resolved by `lookup`.
    pub(super) fn new(issuer: Issuer, settings: Arc<AuthSettings>, lookup: Lookup) -> Self {
        Self {
            issuer,
            settings,
            state: RwLock::new(State::new()),
            flight: Arc::default(),
            lookup,
        }
    }

    /// The keys that are known now.
    pub(super) fn known(&self) -> Known {
        let stale_max = Duration::from_millis(self.settings.stale_max_ms);
        self.read(|state| state.known(Instant::now(), stale_max))
    }

    /// Fetches a newer set for an unknown key, unless a fetch began within the cool-down. Waits for
    /// the fetch, or for the one in progress.
    pub(super) async fn ask_again(self: &Arc<Self>) {
        let Ok(flight) = Arc::clone(&self.flight).try_lock_owned() else {
            // The refresh in progress brings the newer set.
            drop(self.flight.lock().await);
            return;
        };
        let cooldown = Duration::from_millis(self.settings.refresh_cooldown_ms);
        if self.read(|state| state.may_ask(Instant::now(), cooldown)) {
            self.refresh(flight).await;
        }
    }

    /// Keeps the set fresh until `shutdown` is cancelled.
    pub(super) async fn keep_fresh(self: Arc<Self>, shutdown: CancellationToken) {
        let cooldown = Duration::from_millis(self.settings.refresh_cooldown_ms);
        let interval = Duration::from_millis(self.settings.refresh_interval_ms);
        loop {
            let due = self.read(|state| state.due(Instant::now(), cooldown, interval));
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = tokio::time::sleep_until(due) => {}
            }
            let flight = Arc::clone(&self.flight).lock_owned().await;
            // Somebody's unknown key may have been quicker.
            let now = Instant::now();
            if self.read(|state| state.due(now, cooldown, interval)) <= now {
                tokio::select! {
                    () = shutdown.cancelled() => return,
                    () = self.refresh(flight) => {}
                }
            }
        }
    }

    /// Makes one refresh, in a task of its own: a stranger who hangs up must not be able to take
    /// it back, since its cool-down has begun.
    async fn refresh(self: &Arc<Self>, flight: OwnedMutexGuard<()>) {
        self.write(|state| state.begin(Instant::now()));
        let keys = Arc::clone(self);
        let task = tokio::spawn(async move {
            let outcome = keys.fetch().await;
            keys.settle(outcome.map(Arc::new));
            drop(flight);
        });
        // It fails only if the runtime is going down, and then nobody waits for keys.
        let _ended = task.await;
    }

    fn settle(&self, outcome: Result<Arc<KeySet>, FetchError>) {
        self.write(|state| state.end(Instant::now(), &outcome));
        let label = outcome.as_ref().map_or_else(FetchError::label, |_| "good");
        // The label is one of the settings, and never from a token.
        let issuer = &self.issuer.issuer;
        counter!("hub_auth_refreshes_total", "issuer" => issuer.clone(), "result" => label)
            .increment(1);
        match outcome {
            Ok(set) => {
                let (usable, skipped) = (set.usable(), set.skipped());
                gauge!("hub_auth_keys", "issuer" => issuer.clone()).set(as_gauge(usable));
                gauge!("hub_auth_keys_skipped", "issuer" => issuer.clone()).set(as_gauge(skipped));
                if usable == 0 {
                    tracing::warn!(issuer, skipped, "the key set has no usable key");
                } else {
                    tracing::debug!(issuer, usable, skipped, "the key set is fresh");
                }
            }
            Err(error) => {
                let why = anyhow::Error::new(error);
                tracing::warn!(issuer, "the key set cannot be refreshed: {why:#}");
            }
        }
    }

    async fn fetch(&self) -> Result<KeySet, FetchError> {
        let mut answer = self
            .client()
            .map_err(FetchError::Client)?
            .get(self.issuer.jwks_url.clone())
            .header(ACCEPT, "application/jwk-set+json, application/json")
            .timeout(Duration::from_millis(self.settings.fetch_timeout_ms))
            .send()
            .await
            .map_err(|error| {
                let not_allowed = Chain::new(&error).find_map(|cause| cause.downcast_ref());
                match not_allowed {
                    Some(why) => FetchError::NotAllowed(*why),
                    None if error.is_connect() => FetchError::Refused(error),
                    None => FetchError::Broken(error),
                }
            })?;
        if answer.status() != StatusCode::OK {
            return Err(FetchError::Status(answer.status()));
        }
        let bytes_max = self.settings.jwks_bytes_max;
        let mut body = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(FetchError::Broken)? {
            if body.len() + chunk.len() > bytes_max {
                return Err(FetchError::TooLong(bytes_max));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(KeySet::parse(&body, self.settings.keys_max)?)
    }

    /// A client for one fetch: its next fetch is minutes away.
    fn client(&self) -> reqwest::Result<Client> {
        let addresses = AllowedAddresses {
            scheme: self.issuer.jwks_url.scheme().to_owned(),
            plain_http: self.settings.plain_http,
            lookup: Arc::clone(&self.lookup),
        };
        Client::builder()
            .redirect(redirect::Policy::none())
            // Only the configured address is asked, not what the environment puts before it.
            .no_proxy()
            .dns_resolver(Arc::new(addresses))
            .build()
    }

    /// Where the set is.
    pub(super) fn url(&self) -> &Url {
        &self.issuer.jwks_url
    }

    /// Fetches the set once, for nobody's use: how many of its keys are usable, and how many are not.
    ///
    /// # Errors
    /// Why there is no set, and what to do, in sentences.
    pub(super) async fn probe(&self) -> Result<(usize, usize), String> {
        match self.fetch().await {
            Ok(set) => Ok((set.usable(), set.skipped())),
            Err(error) if is_about_certificate(&error) => Err("its certificate is not trusted here. Trust its authority: in the system's store, or by SSL_CERT_FILE.".to_owned()),
            Err(error @ FetchError::NotAllowed(_)) => Err(format!("{error}.")),
            Err(error) => Err(format!("{error}. Is the address the \"jwks_uri\" of your issuer, and can this machine reach it?")),
        }
    }

    fn read<T>(&self, look: impl FnOnce(&State) -> T) -> T {
        look(&self.state.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn write(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state.write().unwrap_or_else(PoisonError::into_inner));
    }
}

fn is_about_certificate(error: &FetchError) -> bool {
    Chain::new(error).any(|cause| cause.to_string().contains("certificate"))
}

#[expect(clippy::cast_precision_loss, reason = "bounded by KEYS_MAX")]
fn as_gauge(count: usize) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::reach::PlainHttp;
    use crate::auth::tests::over_http::{Answer, key_server};

    const COOLDOWN: Duration = Duration::from_secs(30);
    const INTERVAL: Duration = Duration::from_secs(300);
    const STALE_MAX: Duration = Duration::from_secs(3600);

    /// The outcomes of a refresh.
    fn one_key() -> Result<Arc<KeySet>, FetchError> {
        let set = br#"{"keys":[{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}"#;
        Ok(Arc::new(KeySet::parse(set, 10).unwrap()))
    }

    const FAILED: Result<Arc<KeySet>, FetchError> = Err(FetchError::TooLong(0));
    const REFUSED: Result<Arc<KeySet>, FetchError> =
        Err(FetchError::NotAllowed(NoAllowedAddress("")));

    /// Keys at this URL, where every name has these addresses.
    fn keys_at(url: &str, plain_http: PlainHttp, addresses: &'static [&'static str]) -> Keys {
        let settings = AuthSettings {
            plain_http,
            ..AuthSettings::new("issuer", "audience", url.parse().unwrap())
        };
        let lookup: Lookup = Arc::new(move |_| {
            let addresses = addresses.iter().map(|address| address.parse().unwrap());
            let addresses: Vec<std::net::IpAddr> = addresses.collect();
            Box::pin(async move { Ok(addresses) })
        });
        Keys::new(settings.issuers[0].clone(), Arc::new(settings), lookup)
    }

    #[tokio::test]
    async fn a_name_with_no_allowed_address_is_not_asked_and_the_reason_says_what_is_allowed() {
        let server = key_server(Answer::Page).await;
        // Without the guard the system resolves this name, and the server is asked.
        let mut url = server.url.clone();
        url.set_host(Some("localhost")).unwrap();
        for (plain_http, addresses, words) in [
            (
                PlainHttp::PrivateNetwork,
                &["8.8.8.8", "169.254.169.254"][..],
                "resolves to no address on loopback or in a private network",
            ),
            (
                PlainHttp::PrivateNetwork,
                &["fd20:ce::254", "fd00:42::42", "fd00:ec2::254"],
                "Write https://",
            ),
            (
                PlainHttp::Loopback,
                &["10.0.0.7", "8.8.8.8"],
                "JWKS_ALLOW_HTTP",
            ),
        ] {
            let keys = keys_at(url.as_str(), plain_http, addresses);
            let why = keys.probe().await.unwrap_err();
            assert!(why.contains(words) && why.ends_with('.'), "{why}");
            let error = keys.fetch().await.err().unwrap();
            assert!(matches!(error, FetchError::NotAllowed(_)), "{error:?}");
        }
        let secure = keys_at(
            "https://issuer.test/",
            PlainHttp::Loopback,
            &["169.254.169.254"],
        );
        let why = secure.probe().await.unwrap_err();
        assert!(why.contains("credentials"), "{why}");
        assert_eq!(server.asked(), 0);
        // Of several addresses, the allowed ones are asked.
        let mixed = keys_at(url.as_str(), PlainHttp::Loopback, &["8.8.8.8", "127.0.0.1"]);
        let why = mixed.probe().await.unwrap_err();
        assert!(why.contains("not a JSON Web Key Set"), "{why}");
        assert_eq!(server.asked(), 1);
    }

    #[test]
    fn unknown_keys_may_ask_once_in_the_cool_down_counted_from_begin_and_end() {
        let start = Instant::now();
        let mut state = State::new();
        assert!(state.may_ask(start, COOLDOWN), "nothing was asked yet");
        state.begin(start);
        assert!(!state.may_ask(start + COOLDOWN - Duration::from_millis(1), COOLDOWN));
        let end = start + Duration::from_secs(5);
        state.end(end, &FAILED);
        assert!(!state.may_ask(start + COOLDOWN, COOLDOWN));
        assert!(state.may_ask(end + COOLDOWN, COOLDOWN));
    }

    #[test]
    fn the_last_good_set_is_kept_over_failures_until_it_is_too_old() {
        let start = Instant::now();
        let mut state = State::new();
        state.end(start, &one_key());
        let failed_at = start + Duration::from_secs(60);
        state.end(failed_at, &FAILED);
        let known = state.known(start + STALE_MAX - Duration::from_millis(1), STALE_MAX);
        assert_eq!(known.set.usable(), 1);
        assert_eq!(known.last, Last::Failed);
        assert_eq!(state.known(start + STALE_MAX, STALE_MAX).set.usable(), 0);
        // A good set without keys is no failure.
        state.end(start, &Ok(Arc::default()));
        assert_eq!(state.known(start, STALE_MAX).set.usable(), 0);
    }

    #[test]
    fn refreshes_come_by_themselves_at_the_interval_or_after_the_cool_down() {
        let start = Instant::now();
        let mut state = State::new();
        assert_eq!(state.due(start, COOLDOWN, INTERVAL), start);
        state.end(start, &one_key());
        assert_eq!(state.due(start, COOLDOWN, INTERVAL), start + INTERVAL);
        state.end(start, &REFUSED);
        assert_eq!(state.due(start, COOLDOWN, INTERVAL), start + COOLDOWN);
        state.end(start, &FAILED);
        assert_eq!(state.due(start, COOLDOWN, INTERVAL), start + COOLDOWN);
    }

    #[test]
    fn before_the_first_set_an_unreachable_issuer_is_tried_again_soon_then_less_often() {
        let start = Instant::now();
        let mut state = State::new();
        let mut pauses = Vec::new();
        for _ in 0..9 {
            state.end(start, &REFUSED);
            pauses.push((state.due(start, COOLDOWN, INTERVAL) - start).as_millis());
        }
        assert_eq!(
            pauses,
            [500, 1000, 2000, 4000, 8000, 16000, 30000, 30000, 30000]
        );
        state.end(start, &FAILED);
        let asked = state.due(start, COOLDOWN, INTERVAL);
        assert_eq!(asked, start + COOLDOWN, "one that answers is left alone");
    }
}
