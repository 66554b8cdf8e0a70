//! Several issuers: nothing is shared between them.

use super::over_http::{Answer, KeyServer, good_with, is_unauthorized, key_server};
use super::*;
use crate::auth::{AuthSettings, Verifier};

const OTHER: &str = "http://other.example";

struct Two {
    verifier: Verifier,
    ours: KeyServer,
    theirs: KeyServer,
}

/// Our issuer, and another one with keys of its own and the prefix `o:`.
async fn two() -> Two {
    let ours = key_server(Answer::Set(OURS.key_set())).await;
    let theirs = key_server(Answer::Set(FOREIGN.key_set())).await;
    let mut settings = AuthSettings::new(ISSUER, dev_issuer::AUDIENCE, ours.url.clone());
    let mut other = Issuer::new(OTHER, "elsewhere", theirs.url.clone());
    other.subject_prefix = Some("o:".to_owned());
    settings.issuers.push(other);
    Two {
        verifier: Verifier::new(settings),
        ours,
        theirs,
    }
}

#[tokio::test]
async fn each_issuer_has_its_own_keys_audience_and_subjects() {
    let two = two().await;
    let verifier = &two.verifier;
    let acts = async |token: String| {
        let principal = verifier.verify(&token).await;
        principal.map(|principal| principal.subject.to_string())
    };
    assert_eq!(acts(good_with(&OURS, &json!({}))).await.unwrap(), "ada");
    let theirs = json!({ "iss": OTHER, "aud": "elsewhere" });
    assert_eq!(acts(good_with(&FOREIGN, &theirs)).await.unwrap(), "o:ada");
    for (ring, claims) in [
        // The key of the one, and the name of the other.
        (&*OURS, json!({ "iss": OTHER, "aud": "elsewhere" })),
        (&*FOREIGN, json!({})),
        // The audience of the other.
        (&*OURS, json!({ "aud": "elsewhere" })),
        (&*FOREIGN, json!({ "iss": OTHER })),
        // Subjects of the other, and reserved ones.
        (&*OURS, json!({ "sub": "o:ada" })),
        (&*OURS, json!({ "sub": "discord:1" })),
        (
            &*FOREIGN,
            json!({ "iss": OTHER, "aud": "elsewhere", "sub": "discord:1" }),
        ),
        (
            &*FOREIGN,
            json!({ "iss": OTHER, "aud": "elsewhere", "sub": "service:x" }),
        ),
        // Nobody's.
        (&*OURS, json!({ "iss": "http://third.example" })),
        (&*OURS, json!({ "iss": format!("{ISSUER}/") })),
        (&*OURS, json!({ "iss": [ISSUER, OTHER] })),
        (&*OURS, json!({ "iss": null })),
    ] {
        let outcome = verifier.verify(&good_with(ring, &claims)).await;
        assert!(is_unauthorized(&outcome), "{claims}: {outcome:?}");
    }
}

#[tokio::test]
async fn an_issuer_that_is_not_configured_causes_no_request_and_one_that_is_away_stops_no_other() {
    let Two {
        verifier,
        ours,
        theirs,
    } = two().await;
    for iss in [
        json!("http://third.example"),
        json!(ours.url.as_str()),
        json!(null),
    ] {
        let outcome = verifier
            .verify(&good_with(&OURS, &json!({ "iss": iss })))
            .await;
        assert!(is_unauthorized(&outcome));
    }
    assert_eq!((ours.asked(), theirs.asked()), (0, 0));
    theirs.now_answers(Answer::Page);
    assert!(verifier.verify(&good_with(&OURS, &json!({}))).await.is_ok());
    let of_theirs = good_with(&FOREIGN, &json!({ "iss": OTHER, "aud": "elsewhere" }));
    let outcome = verifier.verify(&of_theirs).await;
    assert_eq!(outcome, Err(crate::auth::AuthError::Unavailable));
    assert!(verifier.keys_loaded() && !verifier.all_keys_loaded());
    assert_eq!((ours.asked(), theirs.asked()), (1, 1));
}
