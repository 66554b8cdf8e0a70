//! Every way of lying that we know of, against the pure part.

use jsonwebtoken::{Algorithm, EncodingKey};
use proptest::prelude::*;

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

/// What the hub answers to truly signed tokens with these values of one member. A null leaves the
/// member out.
fn values() -> Value {
    json!({
        "header alg": {
            "accepted": ["Ed25519"],
            "algorithm": [
                "none", "None", "NONE", "nOnE", "", "HS256", "HS384", "HS512", "RS384", "RS512", "PS256",
                "ES384", "ES256K", "ES512", "Ed448", "eddsa", "ED25519", "rs256", "RS256 ", "dir",
                null, 1, ["EdDSA"], {"alg": "EdDSA"},
            ],
        },
        // A key id is only ever compared.
        "header kid": {
            "accepted": [null],
            "unknown_key": [
                "", " ", "../../../../../../dev/null", "/dev/null", "' OR 1=1 --",
                "x' UNION SELECT 'k' --", "http://127.0.0.1:1/key", "file:///etc/passwd", "a\r\nb", "\0",
                "${jndi:ldap://127.0.0.1:1}", "| sleep 9", "0", "*", "\u{1b}[2J", "k".repeat(4000),
            ],
            "malformed": [0, true, [], ["a"], {"a": 1}],
        },
        "header typ": {
            "accepted": [null, "JWT", "jwt", "at+jwt", "AT+JWT", "application/at+jwt"],
            "type": [
                "", "JWE", "id+jwt", "logout+jwt", "dpop+jwt", "secevent+jwt", "JWT ", 1, ["JWT"],
            ],
        },
        // A key that the token brings or names is not looked at.
        "header jwk": {"header_member": [FOREIGN.key_set()["keys"][2]]},
        "header jku": {"header_member": ["http://127.0.0.1:1/keys"]},
        "header x5u": {"header_member": ["http://127.0.0.1:1/chain"]},
        "header x5c": {"header_member": [["MIIB"]]},
        // Extensions that change what is signed.
        "header crit": {"header_member": [["exp"], [], ["b64"], "exp"]},
        "header b64": {"header_member": [false, true]},
        // Members that are neither understood nor critical are ignored (RFC 7515, section 4).
        "header x5t": {"accepted": ["abc"]},
        "header http://example.com/x": {"accepted": [{}]},
        "claims iss": {
            "issuer": [
                null, "", "http://issuer.example/", "HTTP://issuer.example", "http://issuer.example.org",
                "http://issuer.example:80", [ISSUER], 1,
            ],
        },
        "claims aud": {
            "accepted": ["roomwire", ["roomwire"], ["a", "roomwire"], [1, "roomwire"]],
            "audience": [
                null, "", "Roomwire", "roomwire ", "roomwire,a", "a roomwire", [], ["roomwires"],
                [["roomwire"]], {"roomwire": 1},
            ],
        },
        "claims exp": {
            "no_expiry": [
                null, "1800000000", -1, true, [NOW_S], {}, 1e300, u64::MAX, i64::MAX, "Infinity",
            ],
            "expired": [0, 1, 0.0],
        },
        "claims nbf": {"not_yet_valid": ["0", -1, [], 1e300, NOW_S + 3600]},
        "claims sub": {
            "accepted": ["services:x", "my service:x", "discord:1"],
            "subject": [
                null, "", 7, ["ada"], "a\nb", "\0", "a".repeat(256), "service:", "service:x",
                "service:discord:1",
            ],
        },
        "claims guilds": {
            "accepted": [[]],
            "claim": [
                "1", 1, [1], ["0"], ["1", "x"], [""], ["01"], ["9223372036854775808"], [null],
                {"1": true}, [["1"]], false,
            ],
        },
        "claims scope": {"claim": [1, [1], {}, ["rooms:read", null]]},
        "claims x": {"too_long": ["x".repeat(8 * 1024)]},
    })
}

#[test]
fn every_member_has_its_values_and_the_reason_for_the_log_names_the_claim() {
    for (member, outcomes) in values().as_object().unwrap() {
        let (part, name) = member.split_once(' ').unwrap();
        for (expected, values) in outcomes.as_object().unwrap() {
            for value in values.as_array().unwrap() {
                let outcome = verify(&token(&json!({"alg": "EdDSA", part: {name: value}})));
                let label = outcome
                    .as_ref()
                    .err()
                    .map_or("accepted", |error| error.label());
                assert_eq!(label, expected, "{member} {value}");
                if let Err(error @ TokenError::Claim(..)) = outcome {
                    let reason = error.describe(Some(&issuer()));
                    assert!(reason.contains(&format!("\"{name}\"")), "{reason}");
                }
            }
        }
    }
}

#[test]
fn a_null_in_the_token_is_a_value() {
    let claims = json!({"iss": ISSUER, "aud": "roomwire", "sub": "a", "exp": NOW_S, "nbf": null});
    for (header, label) in [
        (r#"{"alg":"EdDSA"}"#, "not_yet_valid"),
        (r#"{"alg":"EdDSA","jwk":null}"#, "header_member"),
    ] {
        let token = sealed(SigningAlgorithm::EdDSA, header, &claims.to_string());
        assert_eq!(error_of(&token).label(), label, "{header}");
    }
}

/// The RSA key of the set, as secrets of a forger.
fn public_key_forms() -> Vec<(&'static str, Vec<u8>)> {
    let set = OURS.key_set();
    let jwk = &set["keys"][0];
    let modulus = jwk["n"].as_str().unwrap();
    vec![
        ("JWK", jwk.to_string().into_bytes()),
        ("the set", set.to_string().into_bytes()),
        ("modulus", URL_SAFE_NO_PAD.decode(modulus).unwrap()),
        ("modulus as text", modulus.as_bytes().to_vec()),
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
    let unnamed = token(&json!({"alg": "EdDSA", "header": {"kid": null}}));
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
fn a_token_is_good_until_its_expiry_and_the_leeway_have_passed_to_the_millisecond() {
    let token = token(&json!({"alg": "EdDSA", "claims": {"exp": NOW_S}}));
    let end_ms = NOW_MS + 60_000;
    assert!(verify_at(&token, end_ms - 1).is_ok());
    assert_eq!(verify_at(&token, end_ms), Err(TokenError::Expired));
    assert_eq!(verify_at(&token, u64::MAX), Err(TokenError::Expired));
    let fraction = self::token(&json!({"alg": "EdDSA", "claims": {"exp": 1_800_000_000.5}}));
    assert_eq!(
        verify_at(&fraction, NOW_MS).unwrap().expires_at_ms,
        NOW_MS + 500
    );
}

#[test]
fn a_token_is_not_good_before_its_time_and_the_leeway() {
    let token = token(&json!({"alg": "EdDSA", "claims": {"nbf": NOW_S}}));
    assert_eq!(
        verify_at(&token, NOW_MS - 60_001),
        Err(TokenError::NotYetValid)
    );
    assert!(verify_at(&token, NOW_MS - 60_000).is_ok());
}

#[test]
fn what_has_not_the_form_of_a_token_is_refused() {
    let good = token(&json!({"alg": "EdDSA"}));
    let [header, claims, signature]: [&str; 3] =
        good.split('.').collect::<Vec<_>>().try_into().unwrap();
    for shape in [
        "",
        ".",
        "..",
        "...",
        header,
        &format!("{header}.{claims}"),
        &format!("{good}."),
        &format!(".{good}"),
        &format!("{good}.{signature}"),
        &format!("{header}.{claims}.{claims}.{claims}.{signature}"),
        &format!(" {good}"),
        &format!("Bearer {good}"),
        &format!("{header}=.{claims}.{signature}"),
        &format!("{header}\n.{claims}.{signature}"),
        &json!({"protected": header, "payload": claims, "signature": signature}).to_string(),
        "\u{1f600}.\u{1f600}.\u{1f600}",
    ] {
        // Some are taken apart and then have no good signature; none gets further.
        let error = error_of(shape);
        let stopped = [TokenError::Malformed, TokenError::Signature];
        assert!(stopped.contains(&error), "{shape}: {error:?}");
    }
    let deep = format!("{}{}", "[".repeat(1000), "]".repeat(1000));
    let unclosed = format!(r#"{{"alg":"EdDSA","x":{}}}"#, "[".repeat(900));
    for header in [
        &b"[]"[..],
        b"null",
        br#"{"alg":"EdDSA"} x"#,
        b"\xef\xbb\xbf{\"alg\":\"EdDSA\"}",
        br#"{"alg":"EdDSA","x":"\ud800"}"#,
        b"{\"alg\":\"EdDSA\",\"x\":\"\xff\"}",
        deep.as_bytes(),
        unclosed.as_bytes(),
        // A member that is named twice.
        br#"{"alg":"EdDSA","alg":"EdDSA"}"#,
        br#"{"alg":"none","alg":"EdDSA"}"#,
        br#"{"alg":"EdDSA","\u0061lg":"EdDSA"}"#,
        br#"{"alg":"EdDSA","x":1,"x":1}"#,
    ] {
        let forged = format!("{}.{claims}.{signature}", encode(header));
        let header = String::from_utf8_lossy(header);
        assert_eq!(error_of(&forged), TokenError::Malformed, "{header}");
    }
    for claims in [
        "[]",
        "null",
        "\"a\"",
        "",
        "{",
        "{}x",
        r#"{"sub":"a","sub":"a"}"#,
        r#"{"sub":"a","s\u0075b":"b"}"#,
    ] {
        let forged = sealed(SigningAlgorithm::EdDSA, r#"{"alg":"EdDSA"}"#, claims);
        assert_eq!(error_of(&forged), TokenError::Malformed, "{claims}");
    }
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
fn the_examples_of_the_standards_verify() {
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
