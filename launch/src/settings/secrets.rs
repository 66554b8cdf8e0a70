//! Which values look like secrets. A secret in the wrong place must not be printed either.

/// From this length on, letters and digits in one run look random, in bytes.
const RUN_BYTES_MIN: usize = 20;
/// The shortest value with the form of a bot's token or a JWT, in bytes.
const TOKEN_BYTES_MIN: usize = 16;
/// How secrets begin: ours, and JSON Web Tokens (`{"` in base64url).
const BEGINNINGS: [&str; 2] = ["whsec_", "eyJ"];

/// Whether a text may hold a secret. It errs on the side of secrecy, except for addresses and
/// paths, whose parts are often long.
pub(super) fn may_hold_one(text: &str) -> bool {
    let is_place = text.contains("://") || text.starts_with(['/', '.']);
    text.split(|letter: char| !(letter.is_ascii_alphanumeric() || "_-.".contains(letter)))
        .any(|word| {
            BEGINNINGS.iter().any(|begin| word.contains(begin))
                || is_token(word)
                || (!is_place && word.split('.').any(is_run))
        })
}

/// Three parts with dots between, as in tokens of Discord and in JWTs. A host's name has no capital
/// letters beside digits.
fn is_token(word: &str) -> bool {
    let has = |test: fn(&u8) -> bool| word.as_bytes().iter().any(test);
    word.len() >= TOKEN_BYTES_MIN
        && word.split('.').count() == 3
        && word.split('.').all(|part| !part.is_empty())
        && has(u8::is_ascii_uppercase)
        && has(u8::is_ascii_lowercase)
        && (has(u8::is_ascii_digit) || word.len() > RUN_BYTES_MIN)
}

fn is_run(part: &str) -> bool {
    let has = |test: fn(&u8) -> bool| part.as_bytes().iter().any(test);
    part.len() >= RUN_BYTES_MIN && has(u8::is_ascii_digit) && has(u8::is_ascii_alphabetic)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_and_keys_look_like_secrets_and_common_mistakes_do_not() {
        for secret in [
            "MTk4NjIyNDgzNDcxOTI1MjQ4.Cl2FMQ.ZnCjm1XVW7vRze4b7Cq4se7kKWs",
            "Bot MTk4NjIyNDgzNDcxOTI1MjQ4.Cl2FMQ.ZnCjm1XVW7vRze4b7Cq4se7kKWs",
            "https://MTk4NjIyNDgzNDcxOTI1MjQ4.Cl2FMQ.ZnCjm1XVW7vRze4b7Cq4se7kKWs/",
            "whsec_MDEyMw==",
            "/whsec_MDEyMw==",
            "eyJhbGciOiJub25lIn0.e30.",
            "0123456789abcdef0123456789abcdef",
            "d2h5LWRvLXlvdS1yZWFkLXRoaXM",
        ] {
            assert!(may_hold_one(secret), "{secret}");
        }
        for mistake in [
            "x",
            "example.org",
            "login.example.org",
            "https://login.microsoftonline.com/aaaabbbb-0000-cccc-1111-dddd2222eeee/v2.0",
            "/run/secrets/discord_bot_token_2026_11",
            "99999999999999999999999",
            "https://Example.org/Some.Page.html",
            "10.0.0.7/8",
            "sqlite://data/hub.db",
            "1,2,x",
        ] {
            assert!(!may_hold_one(mistake), "{mistake}");
        }
    }
}
