//! Every way of lying that we know of, against the pure part.

use base64::engine::general_purpose::STANDARD;
use jsonwebtoken::{Algorithm, EncodingKey};
use proptest::prelude::*;
use serde_json::Map;

use super::*;
use crate::auth::error::{Claim, Fault};
use crate::auth::principal::Rights;

const ALGORITHMS: [&str; 3] = ["RS256", "ES256", "EdDSA"];

fn error_of(token: &str) -> TokenError {
    match verify(token) {
        Err(error) => error,
        Ok(principal) => panic!("let in: {principal:?} by {token}"),
    }
}

fn claim(name: &str, value: Value) -> Value {
    let mut claims = Map::new();
    claims.insert(name.to_owned(), value);
    json!({"alg": "EdDSA", "claims": claims})
}

fn header(name: &str, value: Value) -> Value {
    let mut header = Map::new();
    header.insert(name.to_owned(), value);
    json!({"alg": "EdDSA", "header": header})
}

#[test]
fn a_good_token_of_each_algorithm_names_its_principal() {
    for alg in ALGORITHMS {
        let principal = verify(&token(&json!({
            "alg": alg, "guilds": ["7", "5", "7"], "scope": "rooms:read rooms:manage", "ttl": 90,
        })))
        .unwrap();
        assert_eq!(principal.subject.as_str(), "ada");
        let guilds: Vec<u64> = principal
            .guilds
            .unwrap()
            .iter()
            .map(|id| id.get())
            .collect();
        assert_eq!(guilds, [7, 5]);
        assert!(principal.rights.read && principal.rights.manage && !principal.rights.create);
        assert_eq!(principal.expires_at_ms, NOW_MS + 90_000);
    }
    let plain = verify(&token(&json!({}))).unwrap();
    assert_eq!((plain.guilds, plain.rights), (None, Rights::MEMBER));
}

#[test]
fn the_algorithm_is_one_of_three_and_has_both_names_of_ed25519() {
    assert!(verify(&token(&header("alg", json!("Ed25519")))).is_ok());
    for name in [
        "none", "None", "NONE", "nOnE", "", "HS256", "HS384", "HS512", "RS384", "RS512", "PS256",
        "ES384", "ES256K", "ES512", "Ed448", "eddsa", "ED25519", "rs256", "RS256 ", "dir",
    ] {
        let forged = token(&header("alg", json!(name)));
        assert_eq!(error_of(&forged), TokenError::Algorithm, "{name:?}");
        let (message, _) = forged.rsplit_once('.').unwrap();
        assert_eq!(
            error_of(&format!("{message}.")),
            TokenError::Algorithm,
            "{name:?}"
        );
    }
    for alg in [
        json!(null),
        json!(1),
        json!(["EdDSA"]),
        json!({"alg": "EdDSA"}),
    ] {
        assert_eq!(error_of(&token(&header("alg", alg))), TokenError::Algorithm);
    }
}

/// DER: one value with its tag and length.
fn der(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = u16::try_from(content.len()).unwrap().to_be_bytes();
    [&[tag, 0x82][..], &length, content].concat()
}

/// The RSA key of the set, in every form in which a public key lies around.
fn public_key_forms() -> Vec<(&'static str, Vec<u8>)> {
    let jwk = OURS.key_set()["keys"][0].clone();
    let number = |name: &str| {
        let bytes = URL_SAFE_NO_PAD.decode(jwk[name].as_str().unwrap()).unwrap();
        der(2, &[&[0][..], &bytes].concat())
    };
    let pkcs1 = der(0x30, &[number("n"), number("e")].concat());
    // rsaEncryption (RFC 8017, appendix A) and the key as a bit string (RFC 5280).
    let oid = [
        0x30, 0x0d, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01, 0x05, 0x00,
    ];
    let spki = der(
        0x30,
        &[&oid[..], &der(3, &[&[0][..], &pkcs1].concat())].concat(),
    );
    let pem = |name: &str, bytes: &[u8]| {
        let text = STANDARD.encode(bytes);
        let lines: Vec<_> = text
            .as_bytes()
            .chunks(64)
            .map(String::from_utf8_lossy)
            .collect();
        format!(
            "-----BEGIN {name}-----\n{}\n-----END {name}-----\n",
            lines.join("\n")
        )
    };
    let spki_pem = pem("PUBLIC KEY", &spki);
    let modulus = URL_SAFE_NO_PAD.decode(jwk["n"].as_str().unwrap()).unwrap();
    vec![
        ("PKCS #1 PEM", pem("RSA PUBLIC KEY", &pkcs1).into_bytes()),
        ("SPKI PEM, trimmed", spki_pem.trim().as_bytes().to_vec()),
        ("SPKI PEM", spki_pem.into_bytes()),
        ("PKCS #1 DER", pkcs1),
        ("SPKI DER", spki),
        ("JWK", jwk.to_string().into_bytes()),
        ("the set", OURS.key_set().to_string().into_bytes()),
        ("modulus", modulus),
        (
            "modulus as text",
            jwk["n"].as_str().unwrap().as_bytes().to_vec(),
        ),
        ("nothing", Vec::new()),
    ]
}

#[test]
fn a_public_key_is_never_taken_for_an_hmac_secret() {
    let kid = OURS.signing(SigningAlgorithm::RS256).kid();
    let claims = json!({"iss": ISSUER, "aud": "roomwire", "sub": "eve", "exp": NOW_S + 60});
    for (form, secret) in public_key_forms() {
        for (named, mac) in [
            ("HS256", Algorithm::HS256),
            ("HS384", Algorithm::HS384),
            ("HS512", Algorithm::HS512),
            ("RS256", Algorithm::HS256),
        ] {
            for header in [json!({"alg": named, "kid": kid}), json!({ "alg": named })] {
                let message = format!(
                    "{}.{}",
                    encode(header.to_string()),
                    encode(claims.to_string())
                );
                let key = EncodingKey::from_secret(&secret);
                let signature = jsonwebtoken::crypto::sign(message.as_bytes(), &key, mac).unwrap();
                let expected = if named == "RS256" {
                    TokenError::Signature
                } else {
                    TokenError::Algorithm
                };
                let forged = format!("{message}.{signature}");
                assert_eq!(error_of(&forged), expected, "{form} as {named}");
            }
        }
    }
}

#[test]
fn a_key_that_the_token_brings_or_names_is_not_looked_at() {
    let foreign_key = FOREIGN.key_set()["keys"][2].clone();
    let our_kid = OURS.signing(SigningAlgorithm::EdDSA).kid();
    let foreign_kid = foreign_key["kid"].as_str().unwrap();
    for (member, value) in [
        ("jwk", foreign_key.clone()),
        ("jwk", json!(null)),
        ("jku", json!("http://127.0.0.1:1/keys")),
        ("x5u", json!("http://127.0.0.1:1/chain")),
        ("x5c", json!(["MIIB"])),
    ] {
        for kid in [json!(our_kid), json!(foreign_kid)] {
            // As it is written: null, too.
            let header = json!({"alg": "EdDSA", "kid": kid, member: value}).to_string();
            let claims = json!({"iss": ISSUER, "aud": "roomwire", "sub": "eve", "exp": NOW_S + 60});
            let message = format!("{}.{}", encode(&header), encode(claims.to_string()));
            let key = FOREIGN.signing(SigningAlgorithm::EdDSA);
            let forged = format!(
                "{message}.{}",
                encode(key.sign(message.as_bytes()).unwrap())
            );
            assert_eq!(error_of(&forged), TokenError::HeaderMember, "{header}");
        }
        // Even if it is truly signed.
        if !value.is_null() {
            assert_eq!(
                error_of(&token(&header(member, value))),
                TokenError::HeaderMember
            );
        }
    }
}

#[test]
fn a_foreign_key_is_refused_under_our_key_id_and_unknown_under_its_own() {
    for alg in ALGORITHMS {
        let named = token_of(&FOREIGN, &json!({ "alg": alg }));
        assert_eq!(error_of(&named), TokenError::UnknownKey);
        let algorithm: SigningAlgorithm = serde_json::from_value(json!(alg)).unwrap();
        let kid = OURS.signing(algorithm).kid();
        for kid in [json!(kid), json!(null)] {
            let forged = token_of(&FOREIGN, &json!({"alg": alg, "header": {"kid": kid}}));
            assert_eq!(error_of(&forged), TokenError::Signature, "{alg} {kid}");
        }
    }
}

#[test]
fn a_key_serves_no_other_algorithm_than_its_own() {
    for signed in ALGORITHMS {
        for claimed in ALGORITHMS.into_iter().filter(|claimed| *claimed != signed) {
            let forged = token(&json!({"alg": signed, "header": {"alg": claimed}}));
            assert_eq!(
                error_of(&forged),
                TokenError::KeyAlgorithm,
                "{signed} as {claimed}"
            );
            let unnamed = token(&json!({"alg": signed, "header": {"alg": claimed, "kid": null}}));
            assert_eq!(
                error_of(&unnamed),
                TokenError::Signature,
                "{signed} as {claimed}"
            );
        }
    }
}

#[test]
fn a_token_without_a_key_id_needs_the_only_key_that_fits() {
    let unnamed = token(&header("kid", json!(null)));
    assert!(verify(&unnamed).is_ok());
    let mut both = OURS.key_set();
    let foreign = FOREIGN.key_set()["keys"].as_array().unwrap().clone();
    both["keys"].as_array_mut().unwrap().extend(foreign);
    let both = KeySet::parse(both.to_string().as_bytes(), 100).unwrap();
    let unproven = Unproven::open(&unnamed, 8 * 1024).unwrap();
    assert_eq!(
        unproven.prove(&both, &rules_of(&issuer()), NOW_MS),
        Err(TokenError::AmbiguousKey)
    );
    let named = token(&json!({"alg": "EdDSA"}));
    let unproven = Unproven::open(&named, 8 * 1024).unwrap();
    assert!(unproven.prove(&both, &rules_of(&issuer()), NOW_MS).is_ok());
}

#[test]
fn a_key_id_is_only_ever_compared() {
    for kid in [
        "",
        " ",
        "../../../../../../dev/null",
        "/dev/null",
        "' OR 1=1 --",
        "x' UNION SELECT 'k' --",
        "http://127.0.0.1:1/key",
        "file:///etc/passwd",
        "a\r\nb",
        "\0",
        "${jndi:ldap://127.0.0.1:1}",
        "| sleep 9",
        "0",
        "*",
        "\u{1b}[2J",
        &"k".repeat(4000),
    ] {
        assert_eq!(
            error_of(&token(&header("kid", json!(kid)))),
            TokenError::UnknownKey,
            "{kid:?}"
        );
    }
    for kid in [
        json!(0),
        json!(true),
        json!([]),
        json!(["a"]),
        json!({"a": 1}),
    ] {
        assert_eq!(
            error_of(&token(&header("kid", kid.clone()))),
            TokenError::Malformed,
            "{kid}"
        );
    }
}

#[test]
fn extensions_that_change_what_is_signed_are_refused() {
    for (member, value) in [
        ("crit", json!(["exp"])),
        ("crit", json!([])),
        ("crit", json!(["b64"])),
        ("crit", json!("exp")),
        ("b64", json!(false)),
        ("b64", json!(true)),
    ] {
        assert_eq!(
            error_of(&token(&header(member, value))),
            TokenError::HeaderMember
        );
    }
    // What is not understood and not critical is passed over (RFC 7515, section 4).
    assert!(verify(&token(&header("x5t", json!("abc")))).is_ok());
    assert!(verify(&token(&header("http://example.com/x", json!({})))).is_ok());
}

#[test]
fn only_tokens_of_our_types_are_taken() {
    for typ in [
        json!(null),
        json!("JWT"),
        json!("jwt"),
        json!("at+jwt"),
        json!("AT+JWT"),
        json!("application/at+jwt"),
    ] {
        assert!(verify(&token(&header("typ", typ.clone()))).is_ok(), "{typ}");
    }
    for typ in [
        json!(""),
        json!("JWE"),
        json!("id+jwt"),
        json!("logout+jwt"),
        json!("dpop+jwt"),
        json!("secevent+jwt"),
        json!("JWT "),
        json!(1),
        json!(["JWT"]),
    ] {
        assert_eq!(
            error_of(&token(&header("typ", typ.clone()))),
            TokenError::Type,
            "{typ}"
        );
    }
}

#[test]
fn issuer_and_audience_are_compared_as_they_are() {
    for iss in [
        json!(null),
        json!(""),
        json!("http://issuer.example/"),
        json!("HTTP://issuer.example"),
        json!("http://issuer.example.org"),
        json!("http://issuer.example:80"),
        json!([ISSUER]),
        json!(1),
    ] {
        assert_eq!(
            error_of(&token(&claim("iss", iss.clone()))).label(),
            "issuer",
            "{iss}"
        );
    }
    for aud in [
        json!("roomwire"),
        json!(["roomwire"]),
        json!(["a", "roomwire"]),
        json!([1, "roomwire"]),
    ] {
        assert!(verify(&token(&claim("aud", aud.clone()))).is_ok(), "{aud}");
    }
    for aud in [
        json!(null),
        json!(""),
        json!("Roomwire"),
        json!("roomwire "),
        json!("roomwire,a"),
        json!("a roomwire"),
        json!([]),
        json!(["roomwires"]),
        json!([["roomwire"]]),
        json!({"roomwire": 1}),
    ] {
        assert_eq!(
            error_of(&token(&claim("aud", aud.clone()))).label(),
            "audience",
            "{aud}"
        );
    }
}

#[test]
fn a_token_is_good_until_its_expiry_and_the_leeway_have_passed_to_the_millisecond() {
    let token = token(&claim("exp", json!(NOW_S)));
    let end_ms = NOW_MS + 60_000;
    assert!(verify_at(&token, end_ms - 1).is_ok());
    assert_eq!(verify_at(&token, end_ms), Err(TokenError::Expired));
    assert_eq!(verify_at(&token, u64::MAX), Err(TokenError::Expired));
    let fraction = self::token(&claim("exp", json!(1_800_000_000.5)));
    assert_eq!(
        verify_at(&fraction, NOW_MS).unwrap().expires_at_ms,
        NOW_MS + 500
    );
    for exp in [
        json!(null),
        json!("1800000000"),
        json!(-1),
        json!(true),
        json!([NOW_S]),
        json!({}),
        json!(1e300),
        json!(u64::MAX),
        json!(i64::MAX),
        json!("Infinity"),
    ] {
        assert_eq!(
            error_of(&self::token(&claim("exp", exp.clone()))).label(),
            "no_expiry",
            "{exp}"
        );
    }
    for exp in [json!(0), json!(1), json!(0.0)] {
        assert_eq!(
            error_of(&self::token(&claim("exp", exp.clone()))),
            TokenError::Expired,
            "{exp}"
        );
    }
}

#[test]
fn a_token_is_not_good_before_its_time_and_the_leeway() {
    let token = token(&claim("nbf", json!(NOW_S)));
    assert_eq!(
        verify_at(&token, NOW_MS - 60_001),
        Err(TokenError::NotYetValid)
    );
    assert!(verify_at(&token, NOW_MS - 60_000).is_ok());
    for nbf in [
        json!("0"),
        json!(-1),
        json!([]),
        json!(1e300),
        json!(NOW_S + 3600),
    ] {
        assert_eq!(
            error_of(&self::token(&claim("nbf", nbf.clone()))).label(),
            "not_yet_valid",
            "{nbf}"
        );
    }
    let sealed_null = sealed(
        SigningAlgorithm::EdDSA,
        r#"{"alg":"EdDSA"}"#,
        &json!({"iss": ISSUER, "aud": "roomwire", "sub": "a", "exp": NOW_S, "nbf": null})
            .to_string(),
    );
    assert_eq!(error_of(&sealed_null).label(), "not_yet_valid");
}

#[test]
fn subject_guilds_and_scope_are_what_they_should_be_or_nobody_comes_in() {
    for sub in [
        json!(null),
        json!(""),
        json!(7),
        json!(["ada"]),
        json!("a\nb"),
        json!("\0"),
        json!("a".repeat(256)),
    ] {
        assert_eq!(
            error_of(&token(&claim("sub", sub.clone()))).label(),
            "subject",
            "{sub}"
        );
    }
    for guilds in [
        json!("1"),
        json!(1),
        json!([1]),
        json!(["0"]),
        json!(["1", "x"]),
        json!([""]),
        json!(["01"]),
        json!(["9223372036854775808"]),
        json!([null]),
        json!({"1": true}),
        json!([["1"]]),
        json!(false),
    ] {
        assert_eq!(
            error_of(&token(&claim("guilds", guilds.clone()))).label(),
            "claim",
            "{guilds}"
        );
    }
    assert_eq!(
        verify(&token(&claim("guilds", json!([])))).unwrap().guilds,
        Some(Vec::new())
    );
    for scope in [json!(1), json!([1]), json!({}), json!(["rooms:read", null])] {
        assert_eq!(
            error_of(&token(&claim("scope", scope.clone()))).label(),
            "claim",
            "{scope}"
        );
    }
}

#[test]
fn a_member_that_is_named_twice_makes_the_token_unreadable() {
    let good_header = r#"{"alg":"EdDSA"}"#;
    let kid = OURS.signing(SigningAlgorithm::EdDSA).kid();
    let good_claims = format!(r#"{{"iss":"{ISSUER}","aud":"roomwire","sub":"a","exp":{NOW_S}}}"#);
    assert!(verify(&sealed(SigningAlgorithm::EdDSA, good_header, &good_claims)).is_ok());
    for header in [
        r#"{"alg":"EdDSA","alg":"EdDSA"}"#.to_owned(),
        r#"{"alg":"none","alg":"EdDSA"}"#.to_owned(),
        r#"{"alg":"EdDSA","\u0061lg":"EdDSA"}"#.to_owned(),
        format!(r#"{{"alg":"EdDSA","kid":"{kid}","kid":"{kid}"}}"#),
        r#"{"alg":"EdDSA","x":1,"x":1}"#.to_owned(),
    ] {
        let forged = sealed(SigningAlgorithm::EdDSA, &header, &good_claims);
        assert_eq!(error_of(&forged), TokenError::Malformed, "{header}");
    }
    for more in [
        r#""sub":"a""#,
        r#""exp":9999999999"#,
        r#""x":1,"x":2"#,
        r#""s\u0075b":"b""#,
    ] {
        let claims = format!("{},{more}}}", &good_claims[..good_claims.len() - 1]);
        let forged = sealed(SigningAlgorithm::EdDSA, good_header, &claims);
        assert_eq!(error_of(&forged), TokenError::Malformed, "{claims}");
    }
}

#[test]
fn what_has_not_the_form_of_a_token_is_refused() {
    let good = token(&json!({"alg": "EdDSA"}));
    let [header, claims, signature]: [&str; 3] =
        good.split('.').collect::<Vec<_>>().try_into().unwrap();
    let deep = encode(format!("{}{}", "[".repeat(1000), "]".repeat(1000)));
    for shape in [
        String::new(),
        ".".to_owned(),
        "..".to_owned(),
        "...".to_owned(),
        header.to_owned(),
        format!("{header}.{claims}"),
        format!("{good}."),
        format!(".{good}"),
        format!("{good}.{signature}"),
        format!("{header}.{claims}.{claims}.{claims}.{signature}"),
        format!(" {good}"),
        format!("Bearer {good}"),
        format!("{header}=.{claims}.{signature}"),
        format!("{header}\n.{claims}.{signature}"),
        format!("{}.{claims}.{signature}", encode("[]")),
        format!("{}.{claims}.{signature}", encode("null")),
        format!("{}.{claims}.{signature}", encode(r#"{"alg":"EdDSA"} x"#)),
        format!(
            "{}.{claims}.{signature}",
            encode("\u{feff}{\"alg\":\"EdDSA\"}")
        ),
        format!(
            "{}.{claims}.{signature}",
            encode(r#"{"alg":"EdDSA","x":"\ud800"}"#)
        ),
        format!(
            "{}.{claims}.{signature}",
            encode(b"{\"alg\":\"EdDSA\",\"x\":\"\xff\"}")
        ),
        format!("{deep}.{claims}.{signature}"),
        format!(
            "{}.{claims}.{signature}",
            encode(format!(r#"{{"alg":"EdDSA","x":{}}}"#, "[".repeat(900)))
        ),
        json!({"protected": header, "payload": claims, "signature": signature}).to_string(),
        "\u{1f600}.\u{1f600}.\u{1f600}".to_owned(),
    ] {
        // Some are taken apart and then have no good signature; none gets further.
        let error = error_of(&shape);
        assert!(
            matches!(
                error,
                TokenError::Malformed | TokenError::Signature | TokenError::Algorithm
            ),
            "{shape}: {error:?}"
        );
    }
    for claims in ["[]", "null", "\"a\"", "", "{", "{}x"] {
        let forged = sealed(SigningAlgorithm::EdDSA, r#"{"alg":"EdDSA"}"#, claims);
        assert_eq!(error_of(&forged), TokenError::Malformed, "{claims}");
    }
    let long = token(&claim("x", json!("x".repeat(8 * 1024))));
    assert_eq!(error_of(&long), TokenError::TooLong);
}

#[test]
fn a_token_with_any_byte_changed_is_refused() {
    for alg in ALGORITHMS {
        let good = token(&json!({ "alg": alg }));
        assert!(verify(&good).is_ok());
        for position in 0..good.len() {
            let mut bytes = good.clone().into_bytes();
            for change in [1, 2, 4, 8, 16, 32, 64] {
                bytes[position] = good.as_bytes()[position] ^ change;
                // `verify` takes text, as its callers do.
                let Ok(forged) = std::str::from_utf8(&bytes) else {
                    continue;
                };
                assert!(
                    verify(forged).is_err(),
                    "{alg}: byte {position} ^ {change}: {forged}"
                );
            }
        }
        let mut shorter = good.clone();
        while shorter.pop().is_some() {
            assert!(verify(&shorter).is_err(), "{alg}: {shorter}");
        }
        for more in ["A", "AA", "=", "==", " ", "\n", ".", "\0"] {
            assert!(
                verify(&format!("{good}{more}")).is_err(),
                "{alg}: {more:?} behind"
            );
        }
    }
}

/// The order of P-256 (FIPS 186-5), big-endian.
const P256_ORDER: [u8; 32] = [
    0xff, 0xff, 0xff, 0xff, 0x00, 0x00, 0x00, 0x00, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
    0xbc, 0xe6, 0xfa, 0xad, 0xa7, 0x17, 0x9e, 0x84, 0xf3, 0xb9, 0xca, 0xc2, 0xfc, 0x63, 0x25, 0x51,
];

/// Big-endian `a - b`, of which the caller knows that it is positive.
fn minus(a: &[u8; 32], b: &[u8]) -> Vec<u8> {
    let mut difference = vec![0; 32];
    let mut borrow = 0;
    for place in (0..32).rev() {
        let digit = i32::from(a[place]) - i32::from(b[place]) - borrow;
        borrow = i32::from(digit < 0);
        difference[place] = u8::try_from(digit.rem_euclid(256)).unwrap();
    }
    difference
}

#[test]
fn an_ecdsa_signature_has_one_form() {
    let good = token(&json!({"alg": "ES256"}));
    let (message, signature) = good.rsplit_once('.').unwrap();
    let signature = URL_SAFE_NO_PAD.decode(signature).unwrap();
    let (r, s) = signature.split_at(32);
    let with = |signature: &[u8]| format!("{message}.{}", encode(signature));
    // The twin is a signature, too, and says the same.
    let twin = with(&[r, &minus(&P256_ORDER, s)].concat());
    assert_eq!(verify(&twin), verify(&good));
    let integer = |number: &[u8]| [&[2, 33, 0][..], number].concat();
    let as_der = [&[0x30, 70][..], &integer(r), &integer(s)].concat();
    for (form, signature) in [
        ("DER", as_der),
        ("swapped", [s, r].concat()),
        ("zeros", vec![0; 64]),
        ("r zero", [&[0; 32][..], s].concat()),
        ("s zero", [r, &[0; 32][..]].concat()),
        ("r = n, s = n", [P256_ORDER, P256_ORDER].concat()),
        ("r = n", [&P256_ORDER[..], s].concat()),
        ("s = 1", [r, &[0; 31], &[1]].concat()),
        ("ones", vec![0xff; 64]),
        ("a zero before", [&[0][..], r, s].concat()),
        ("a zero behind", [r, s, &[0]].concat()),
        ("zeros before each", [&[0][..], r, &[0], s].concat()),
        ("half", r.to_vec()),
        ("nothing", Vec::new()),
    ] {
        assert_eq!(error_of(&with(&signature)), TokenError::Signature, "{form}");
    }
}

/// The order of edwards25519 (RFC 8032), little-endian.
const ED25519_ORDER: [u8; 32] = [
    0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde, 0x14,
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
];

#[test]
fn an_ed25519_signature_has_no_second_form() {
    let good = token(&json!({"alg": "EdDSA"}));
    let (message, signature) = good.rsplit_once('.').unwrap();
    let mut signature = URL_SAFE_NO_PAD.decode(signature).unwrap();
    // RFC 8032, section 5.1.7: S is below the order. S + L would fit the equation as well.
    for _ in 0..7 {
        let mut carry = 0;
        for (digit, order) in signature[32..].iter_mut().zip(ED25519_ORDER) {
            let sum = u16::from(*digit) + u16::from(order) + carry;
            carry = sum >> 8;
            *digit = sum.to_le_bytes()[0];
        }
        if carry != 0 {
            break;
        }
        let forged = format!("{message}.{}", encode(&signature));
        assert_eq!(error_of(&forged), TokenError::Signature);
    }
    for signature in [vec![0; 64], vec![0; 32], Vec::new()] {
        assert_eq!(
            error_of(&format!("{message}.{}", encode(signature))),
            TokenError::Signature
        );
    }
}

/// The published examples have neither our issuer nor our claims: a good one is one that gets
/// past its signature.
#[test]
fn the_examples_of_the_standards_verify_and_their_changed_twins_do_not() {
    // RFC 7515, appendices A.2 and A.3; RFC 8037, appendix A.
    let keys = json!({"keys": [
        {"kty": "RSA", "e": "AQAB", "n": "ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ"},
        {"kty": "EC", "crv": "P-256", "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU", "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"},
        {"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"},
    ]});
    let keys = KeySet::parse(keys.to_string().as_bytes(), 3).unwrap();
    assert_eq!(keys.usable(), 3);
    let claims = "eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ";
    let outcome =
        |token: &str| Unproven::open(token, 8 * 1024)?.prove(&keys, &rules_of(&issuer()), NOW_MS);
    for (example, past_the_signature) in [
        (format!("eyJhbGciOiJSUzI1NiJ9.{claims}.cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W2Fp5jujGbds9uJdbF9CUAr7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K0GarZRmB_eSN9383LcOLn6_dO--xi12jzDwusC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrBp0igcN_IoypGlUPQGe77Rw"), TokenError::Claim(Claim::Issuer, Fault::Is("a string"))),
        (format!("eyJhbGciOiJFUzI1NiJ9.{claims}.DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q"), TokenError::Claim(Claim::Issuer, Fault::Is("a string"))),
        ("eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc.hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg".to_owned(), TokenError::Malformed),
    ] {
        assert_eq!(outcome(&example), Err(past_the_signature), "{example}");
        let (message, signature) = example.rsplit_once('.').unwrap();
        let mut changed = URL_SAFE_NO_PAD.decode(signature).unwrap();
        for position in 0..changed.len() {
            changed[position] ^= 1;
            let forged = format!("{message}.{}", encode(&changed));
            assert_eq!(outcome(&forged), Err(TokenError::Signature), "{forged}");
            changed[position] ^= 1;
        }
    }
    // RFC 7515, appendices A.1 and A.5: a shared secret, and no signature at all.
    for refused in [
        format!(
            "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9.{claims}.dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"
        ),
        format!("eyJhbGciOiJub25lIn0.{claims}."),
    ] {
        assert_eq!(outcome(&refused), Err(TokenError::Algorithm), "{refused}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn whatever_a_stranger_sends_is_refused_without_a_panic(text in "\\PC{0,200}") {
        prop_assert!(verify(&text).is_err());
    }

    #[test]
    fn whatever_stands_in_an_unsigned_token_is_refused(
        header in "\\{(\"(alg|kid|typ|crit|x)\":(\"(EdDSA|RS256|ES256|none|JWT)\"|1|null|\\[\\]),?){0,4}\\}",
        claims in "\\PC{0,60}",
        signature in proptest::collection::vec(any::<u8>(), 0..300),
    ) {
        let forged = format!("{}.{}.{}", encode(header), encode(claims), encode(signature));
        prop_assert!(verify(&forged).is_err());
    }
}
