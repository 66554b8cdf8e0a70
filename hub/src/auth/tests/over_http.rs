//! The verifier as a whole, against issuers that behave and issuers that do not.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;
use futures_util::future::join_all;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_util::sync::{CancellationToken, DropGuard};
use url::Url;

use super::*;
use crate::auth::{AuthError, AuthSettings, Verifier};

const DEADLINE: Duration = Duration::from_secs(10);

/// What the key server answers next.
#[derive(Clone)]
pub(in crate::auth) enum Answer {
    Set(Value),
    Page,
    Status(StatusCode),
    Redirect(String),
    Huge,
    /// Nothing, for as long as anybody waits.
    Never,
    /// The set, once the gate has a permit.
    Gated(Arc<Semaphore>, Value),
}

pub(in crate::auth) struct KeyServer {
    pub(in crate::auth) url: Url,
    asked: Arc<AtomicUsize>,
    answer: Arc<Mutex<Answer>>,
    _stop: DropGuard,
}

type Shared = (Arc<AtomicUsize>, Arc<Mutex<Answer>>);

async fn answer((asked, answer): Shared) -> Response {
    asked.fetch_add(1, Ordering::SeqCst);
    let answer = answer.lock().unwrap().clone();
    match answer {
        Answer::Set(set) => axum::Json(set).into_response(),
        Answer::Page => Html("<!doctype html><title>Sign in</title>").into_response(),
        Answer::Status(status) => status.into_response(),
        Answer::Redirect(to) => (StatusCode::FOUND, [(header::LOCATION, to)]).into_response(),
        Answer::Huge => format!("{{\"keys\":[{}]}}", " ".repeat(2 * 1024 * 1024)).into_response(),
        Answer::Never => std::future::pending().await,
        Answer::Gated(gate, set) => {
            gate.acquire().await.unwrap().forget();
            axum::Json(set).into_response()
        }
    }
}

pub(in crate::auth) async fn key_server(first: Answer) -> KeyServer {
    key_server_on(TcpListener::bind("127.0.0.1:0").await.unwrap(), first)
}

fn key_server_on(listener: TcpListener, first: Answer) -> KeyServer {
    let url = format!("http://{}/keys", listener.local_addr().unwrap());
    let shared: Shared = (Arc::default(), Arc::new(Mutex::new(first)));
    let router = Router::new()
        .route("/keys", get(|State(shared): State<Shared>| answer(shared)))
        .with_state(shared.clone());
    let shutdown = CancellationToken::new();
    let stop = shutdown.clone().drop_guard();
    tokio::spawn(async move {
        tokio::select! {
            served = axum::serve(listener, router) => served.unwrap(),
            () = shutdown.cancelled() => {}
        }
    });
    KeyServer {
        url: url.parse().unwrap(),
        asked: shared.0,
        answer: shared.1,
        _stop: stop,
    }
}

impl KeyServer {
    pub(in crate::auth) fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }

    pub(in crate::auth) fn now_answers(&self, answer: Answer) {
        *self.answer.lock().unwrap() = answer;
    }

    /// Settings of which a test changes what it is about; no cool-down.
    fn settings(&self) -> AuthSettings {
        AuthSettings {
            refresh_cooldown_ms: 0,
            ..AuthSettings::new(ISSUER, dev_issuer::AUDIENCE, self.url.clone())
        }
    }
}

/// A token of these keys that is good by the real clock, with these claims.
pub(super) fn good_with(ring: &Ring, claims: &Value) -> String {
    let mut all = json!({"exp": launch::clock::now_ms() / 1000 + 3600});
    for (name, value) in claims.as_object().unwrap() {
        all[name] = value.clone();
    }
    token_of(ring, &json!({"alg": "EdDSA", "claims": all}))
}

fn good(ring: &Ring) -> String {
    good_with(ring, &json!({}))
}

fn unknown(number: usize) -> String {
    token(&json!({"alg": "EdDSA", "header": {"kid": format!("stranger-{number}")}}))
}

pub(super) fn is_unauthorized(outcome: &Result<Principal, AuthError>) -> bool {
    matches!(outcome, Err(AuthError::Unauthorized(_)))
}

async fn until<F: Future<Output = bool>>(what: &str, mut holds: impl FnMut() -> F) {
    let waited = tokio::time::timeout(DEADLINE, async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    assert!(waited.await.is_ok(), "not within {DEADLINE:?}: {what}");
}

#[tokio::test]
async fn a_flood_of_unknown_key_ids_asks_the_issuer_once_in_the_cool_down() {
    let failing = Answer::Status(StatusCode::INTERNAL_SERVER_ERROR);
    for (answer, is_failing) in [(Answer::Set(OURS.key_set()), false), (failing, true)] {
        let server = key_server(answer).await;
        let verifier = Verifier::new(AuthSettings::new(
            ISSUER,
            dev_issuer::AUDIENCE,
            server.url.clone(),
        ));
        if is_failing {
            tokio::spawn(verifier.clone().run(CancellationToken::new()));
        }
        let tokens: Vec<_> = (0..1000).map(unknown).collect();
        for outcome in join_all(tokens.iter().map(|token| verifier.verify(token))).await {
            if is_failing {
                assert_eq!(outcome, Err(AuthError::Unavailable));
            } else {
                assert!(is_unauthorized(&outcome), "{outcome:?}");
            }
        }
        let known = verifier.verify(&good(&OURS)).await;
        assert_eq!(known.err(), is_failing.then_some(AuthError::Unavailable));
        assert_eq!(server.asked(), 1);
    }
}

#[tokio::test]
async fn those_who_come_while_the_keys_are_fetched_wait_for_them_together() {
    let gate = Arc::new(Semaphore::new(0));
    let server = key_server(Answer::Gated(Arc::clone(&gate), OURS.key_set())).await;
    let verifier = Verifier::new(server.settings());
    assert!(!verifier.keys_loaded());
    let token = good(&OURS);
    let all = join_all((0..100).map(|_| verifier.verify(&token)));
    let open = async {
        until("the server is asked", || async { server.asked() > 0 }).await;
        gate.add_permits(1);
    };
    let (outcomes, ()) = tokio::join!(all, open);
    assert!(outcomes.iter().all(Result::is_ok));
    assert_eq!(server.asked(), 1);
    assert!(verifier.keys_loaded());
}

#[tokio::test]
async fn a_stranger_who_hangs_up_does_not_take_the_refresh_back() {
    let gate = Arc::new(Semaphore::new(0));
    let server = key_server(Answer::Gated(Arc::clone(&gate), OURS.key_set())).await;
    let mut settings = server.settings();
    settings.refresh_cooldown_ms = 3_600_000;
    let verifier = Verifier::new(settings);
    let token = unknown(0);
    tokio::select! {
        _ = verifier.verify(&token) => panic!("answered before the keys came"),
        () = until("the server is asked", || async { server.asked() == 1 }) => {}
    }
    gate.add_permits(1);
    until("the keys are there", || async { verifier.keys_loaded() }).await;
    assert!(verifier.verify(&good(&OURS)).await.is_ok());
    assert_eq!(server.asked(), 1);
}

#[tokio::test]
async fn an_issuer_that_answers_nonsense_is_unavailable_until_it_recovers() {
    let elsewhere = key_server(Answer::Set(OURS.key_set())).await;
    for nonsense in [
        Answer::Page,
        Answer::Status(StatusCode::INTERNAL_SERVER_ERROR),
        Answer::Status(StatusCode::NOT_FOUND),
        Answer::Status(StatusCode::NO_CONTENT),
        Answer::Redirect(elsewhere.url.to_string()),
        Answer::Redirect("/keys".to_owned()),
        Answer::Huge,
        Answer::Never,
        Answer::Set(json!({})),
        Answer::Set(json!({"keys": vec![0; 101]})),
    ] {
        let server = key_server(nonsense).await;
        let mut settings = server.settings();
        settings.fetch_timeout_ms = 300;
        let verifier = Verifier::new(settings);
        let token = good(&OURS);
        assert_eq!(verifier.verify(&token).await, Err(AuthError::Unavailable));
        assert!(!verifier.keys_loaded());
        server.now_answers(Answer::Set(OURS.key_set()));
        until("it recovers", || async {
            verifier.verify(&token).await.is_ok()
        })
        .await;
        assert!(verifier.keys_loaded());
    }
    assert_eq!(elsewhere.asked(), 0, "a redirect was followed");
}

#[tokio::test]
async fn known_keys_serve_on_while_the_issuer_fails_and_unknown_ones_are_unavailable() {
    let server = key_server(Answer::Set(OURS.key_set())).await;
    let verifier = Verifier::new(server.settings());
    assert!(verifier.verify(&good(&OURS)).await.is_ok());
    assert!(is_unauthorized(&verifier.verify(&unknown(1)).await));
    server.now_answers(Answer::Page);
    assert_eq!(
        verifier.verify(&unknown(2)).await,
        Err(AuthError::Unavailable)
    );
    assert!(verifier.verify(&good(&OURS)).await.is_ok());
    assert!(is_unauthorized(&verifier.verify("nonsense").await));
    server.now_answers(Answer::Set(FOREIGN.key_set()));
    assert!(is_unauthorized(&verifier.verify(&unknown(3)).await));
    assert!(verifier.verify(&good(&FOREIGN)).await.is_ok());
}

#[tokio::test]
async fn a_key_that_left_the_set_is_refused_within_the_refresh_interval() {
    let server = key_server(Answer::Set(OURS.key_set())).await;
    let mut settings = server.settings();
    settings.refresh_cooldown_ms = 3_600_000;
    settings.refresh_interval_ms = 50;
    let verifier = Verifier::new(settings);
    let shutdown = CancellationToken::new();
    let running = tokio::spawn(verifier.clone().run(shutdown.clone()));
    let (old, new) = (good(&OURS), good(&FOREIGN));
    assert!(verifier.verify(&old).await.is_ok());
    server.now_answers(Answer::Set(FOREIGN.key_set()));
    until("the old key is refused", || async {
        is_unauthorized(&verifier.verify(&old).await)
    })
    .await;
    assert!(verifier.verify(&new).await.is_ok());
    server.now_answers(Answer::Set(json!({"keys": []})));
    until("no key is good", || async { !verifier.keys_loaded() }).await;
    assert!(is_unauthorized(&verifier.verify(&new).await));
    shutdown.cancel();
    tokio::time::timeout(DEADLINE, running)
        .await
        .unwrap()
        .unwrap();
}

#[tokio::test]
async fn an_issuer_that_comes_up_late_is_found_without_anybody_asking() {
    // A port that was free a moment ago.
    let reserved = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = reserved.local_addr().unwrap();
    drop(reserved);
    let url: Url = format!("http://{address}/keys").parse().unwrap();
    let verifier = Verifier::new(AuthSettings::new(ISSUER, dev_issuer::AUDIENCE, url));
    tokio::spawn(verifier.clone().run(CancellationToken::new()));
    let early = verifier.verify(&good(&OURS)).await;
    assert_eq!(early, Err(AuthError::Unavailable));
    let listener = TcpListener::bind(address).await.unwrap();
    let _server = key_server_on(listener, Answer::Set(OURS.key_set()));
    until("the keys are there", || async { verifier.keys_loaded() }).await;
}

#[tokio::test]
async fn a_key_set_at_a_name_is_fetched_where_the_name_resolves_to_this_machine() {
    let server = key_server(Answer::Set(OURS.key_set())).await;
    let mut settings = server.settings();
    let url = &mut settings.issuers[0].jwks_url;
    url.set_host(Some("localhost")).unwrap();
    let verifier = Verifier::new(settings);
    assert!(verifier.verify(&good(&OURS)).await.is_ok());
    assert_eq!(server.asked(), 1);
}
