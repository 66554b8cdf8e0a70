//! Claims by the names that a provider gives them, and the reasons that the log states.

use super::*;
use crate::auth::issuers::AudienceClaim::{Aud, Azp, ClientId};
use crate::auth::principal::Rights;

fn signed(claims: &Value) -> String {
    token(&json!({"alg": "EdDSA", "claims": claims}))
}

fn verify_as(issuer: &Issuer, claims: &Value) -> Result<Principal, TokenError> {
    verify_by(issuer, &signed(claims), NOW_MS)
}

#[test]
fn the_audience_is_one_of_the_list_in_the_claim_of_the_settings() {
    let mut of_two = issuer();
    of_two.audiences = vec!["rooms".to_owned(), "more".to_owned()];
    for (claim, claims, is_accepted) in [
        (Aud, json!({"aud": "more"}), true),
        (Aud, json!({"aud": ["x", "rooms"]}), true),
        (Aud, json!({"aud": "rooms more"}), false),
        (Aud, json!({"aud": []}), false),
        (Aud, json!({"aud": null, "client_id": "rooms"}), false),
        (ClientId, json!({"aud": null, "client_id": "rooms"}), true),
        (ClientId, json!({"aud": "rooms", "client_id": "x"}), false),
        (ClientId, json!({"aud": "rooms"}), false),
        (Azp, json!({"aud": null, "azp": "more"}), true),
        (Azp, json!({"aud": "more", "azp": 7}), false),
    ] {
        of_two.audience_claim = claim;
        assert_eq!(
            verify_as(&of_two, &claims).is_ok(),
            is_accepted,
            "{claim:?} {claims}"
        );
    }
}

#[test]
fn guilds_and_rights_come_from_the_claims_of_the_settings_and_from_no_others() {
    let mut nested = issuer();
    nested.guilds_claim = "app_metadata.guilds".parse().unwrap();
    nested.scope_claim = "https://example.org/rights".parse().unwrap();
    let principal = verify_as(
        &nested,
        &json!({
            "app_metadata": {"guilds": ["7"]}, "https://example.org/rights": ["rooms:read", "other"],
            "guilds": ["8"], "scope": "rooms:manage",
        }),
    )
    .unwrap();
    assert_eq!(principal.guilds.unwrap()[0].get(), 7);
    assert!(principal.rights.read && !principal.rights.create && !principal.rights.manage);
    let absent = verify_as(&nested, &json!({"guilds": ["8"], "scope": "rooms:manage"})).unwrap();
    assert_eq!((absent.guilds, absent.rights), (None, Rights::MEMBER));
}

#[test]
fn rights_may_be_an_array_of_words() {
    for (scope, manage, read) in [
        (json!(["rooms:read", "rooms:manage"]), true, true),
        (json!(["openid"]), false, true),
        (json!([]), false, true),
        (json!(["rooms:manage"]), true, false),
        (json!(["rooms:read rooms:manage"]), false, false),
    ] {
        let rights = verify_as(&issuer(), &json!({ "scope": scope }))
            .unwrap()
            .rights;
        assert_eq!((rights.manage, rights.read), (manage, read), "{scope}");
    }
}

#[test]
fn the_discord_user_of_a_claim_acts_instead_of_sub() {
    let mut linked = issuer();
    linked.discord_id_claim = Some("app_metadata.discord".parse().unwrap());
    let acts =
        |claims: &Value| verify_as(&linked, claims).map(|principal| principal.subject.to_string());
    assert_eq!(
        acts(&json!({"app_metadata": {"discord": "42"}})).unwrap(),
        "discord:42"
    );
    assert_eq!(acts(&json!({})).unwrap(), "ada");
    for wrong in [
        json!(42),
        json!("042"),
        json!(""),
        json!("ada"),
        json!(null),
        json!(["42"]),
    ] {
        let error = acts(&json!({"app_metadata": {"discord": wrong}})).unwrap_err();
        assert_eq!(error.label(), "subject", "{wrong}");
    }
    let service = json!({"sub": "service:x", "app_metadata": {"discord": "42"}});
    assert_eq!(acts(&service).unwrap_err().label(), "subject");
}

#[test]
fn the_reason_for_the_log_has_the_json_type_and_nothing_else_of_the_token() {
    let mut named = issuer();
    named.guilds_claim = "app_metadata.guilds".parse().unwrap();
    for (guilds, what) in [
        (json!([4_711_000]), "an entry that is a number"),
        (json!(["4711000", "0"]), "an entry that is a string"),
        (json!("4711000"), "is a string"),
        (json!({"4711000": true}), "is an object"),
    ] {
        let error = verify_as(&named, &json!({"app_metadata": {"guilds": guilds}})).unwrap_err();
        let reason = error.describe(Some(&named));
        assert!(
            reason.contains("app_metadata.guilds") && reason.contains(what),
            "{reason}"
        );
        assert!(!reason.contains("4711"), "{reason}");
    }
}

#[test]
fn an_encrypted_token_is_refused_and_the_reason_says_that_it_is_encrypted() {
    // The header of a session token of next-auth, and four parts more.
    let header = encode(r#"{"alg":"dir","enc":"A256CBC-HS512","kid":"k"}"#);
    let error = verify(&format!("{header}..aXY.Y2lwaGVy.dGFn")).unwrap_err();
    assert_eq!(error, TokenError::Encrypted);
    assert!(error.describe(None).contains("JWE"));
}
