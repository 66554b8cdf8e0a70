//! Web addresses in settings: which are allowed, and what is wrong with others, in our words.

use std::str::FromStr as _;

use url::{ParseError, Url};

/// What an address may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rules {
    /// The allowed schemes, the usual one first.
    pub schemes: &'static [&'static str],
    /// Whether a path and a query may follow the host.
    pub path: bool,
}

/// Addresses of pages and of APIs, with a path.
pub const HTTP: Rules = Rules {
    schemes: &["https", "http"],
    path: true,
};
/// Scheme, host and perhaps a port of a server.
pub const HTTP_SERVER: Rules = Rules {
    schemes: &["https", "http"],
    path: false,
};
/// Addresses of WebSockets.
pub const WEB_SOCKET: Rules = Rules {
    schemes: &["wss", "ws"],
    path: true,
};

/// Reads an address.
///
/// # Errors
/// A sentence or two: what is wrong, and how to write it.
pub fn parse(text: &str, rules: Rules) -> Result<Url, String> {
    let usual = rules.schemes.first().copied().unwrap_or("https");
    let schemes = rules.schemes.join(":// or ");
    let Some((scheme, rest)) = text.split_once("://") else {
        let completed = Url::from_str(&format!("{usual}://{text}"));
        let host = text.split('/').next().unwrap_or_default();
        let host = host.rsplit('@').next().unwrap_or_default();
        let host = host.split(':').next().unwrap_or_default();
        return Err(match completed {
            Ok(url) if host.contains('.') || host == "localhost" => format!(
                "The scheme is missing. Write {}.",
                written(&without_user(url), rules)
            ),
            _ => format!("It must begin with {schemes}://."),
        });
    };
    if !rules
        .schemes
        .contains(&scheme.to_ascii_lowercase().as_str())
    {
        return Err(format!("It must begin with {schemes}://."));
    }
    if rest.contains(|letter: char| letter.is_whitespace() || letter == '\\') {
        return Err("It must not contain white space or a backslash.".to_owned());
    }
    if rest.starts_with('/') {
        return Err(format!("The host is missing. Write {usual}://<host>."));
    }
    let url = Url::parse(text).map_err(|error| match error {
        ParseError::EmptyHost => format!("The host is missing. Write {usual}://<host>."),
        ParseError::InvalidPort => "The port must be a number from 1 to 65535.".to_owned(),
        ParseError::InvalidIpv4Address | ParseError::InvalidIpv6Address => {
            "The host is not a valid IP address. Write an IPv6 address in brackets, as in [::1]."
                .to_owned()
        }
        _ => "The host is not valid. It must be a name such as www.example.org, or an IP address."
            .to_owned(),
    })?;
    if !url.has_host() {
        return Err(format!("The host is missing. Write {usual}://<host>."));
    }
    if url.port() == Some(0) {
        return Err("The port must be a number from 1 to 65535.".to_owned());
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(format!(
            "It must not contain a user name or a password. Write {}.",
            written(&without_user(url), rules)
        ));
    }
    if url.fragment().is_some() {
        return Err(format!(
            "It must not contain a fragment (the part from # on). Write {}.",
            written(&url, rules)
        ));
    }
    let bare = url.path() == "/" && url.query().is_none();
    if !rules.path && !bare {
        return Err(format!(
            "It must be a scheme and a host, without a path. Write {}.",
            written(&url, rules)
        ));
    }
    Ok(url)
}

/// The nearest allowed form of an address.
fn written(url: &Url, rules: Rules) -> String {
    let mut url = url.clone();
    url.set_fragment(None);
    if !rules.path {
        url.set_query(None);
        url.set_path("");
    }
    let text = url.to_string();
    // The crate ends a bare host with a slash, which nobody writes.
    if url.path() == "/" && url.query().is_none() {
        text.trim_end_matches('/').to_owned()
    } else {
        text
    }
}

fn without_user(mut url: Url) -> Url {
    // Both fail only for addresses without a host, which have neither.
    let _none = url.set_username("");
    let _none = url.set_password(None);
    url
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_taken_in_every_usual_form() {
        for (text, rules) in [
            ("https://discord.com", HTTP_SERVER),
            ("http://127.0.0.1:3900/", HTTP_SERVER),
            ("https://[::1]:8443", HTTP_SERVER),
            ("HTTPS://Discord.com", HTTP_SERVER),
            ("https://login.example.org/.well-known/jwks.json?v=1", HTTP),
            ("wss://gateway.discord.gg/?v=10", WEB_SOCKET),
        ] {
            let parsed = parse(text, rules);
            assert!(parsed.is_ok(), "{text}: {parsed:?}");
        }
    }

    #[test]
    fn what_is_wrong_with_an_address_is_said_with_the_right_form() {
        const SCHEMES: &str = "It must begin with https:// or http://.";
        const NO_USER: &str =
            "It must not contain a user name or a password. Write https://a.org/x.";
        const NO_PATH: &str =
            "It must be a scheme and a host, without a path. Write https://a.org.";
        for (rules, texts, words) in [
            (
                HTTP,
                &["nowhere", "", "//a.org", "ftp://a.org"][..],
                SCHEMES,
            ),
            (
                WEB_SOCKET,
                &["https://a.org"],
                "It must begin with wss:// or ws://.",
            ),
            (
                HTTP,
                &["a.org/x", "me:hunter2@a.org/x"],
                "The scheme is missing. Write https://a.org/x.",
            ),
            (
                HTTP,
                &["localhost:3901/jwks"],
                "The scheme is missing. Write https://localhost:3901/jwks.",
            ),
            (HTTP, &["https://", "https:///keys"], "The host is missing."),
            (HTTP, &["https://a .org"], "It must not contain white space"),
            (
                HTTP,
                &["https://a.org:99999", "https://a.org:port"],
                "The port must be a number from 1 to 65535.",
            ),
            (
                HTTP,
                &["https://1.2.3.999", "https://[::1"],
                "The host is not a valid IP address.",
            ),
            (HTTP, &["https://a%20b.org"], "The host is not valid."),
            (HTTP, &["https://me:hunter2@a.org/x"], NO_USER),
            (
                HTTP,
                &["https://a.org/x#top"],
                "It must not contain a fragment (the part from # on). Write https://a.org/x.",
            ),
            (
                HTTP_SERVER,
                &["https://a.org/v10", "https://a.org?a=b"],
                NO_PATH,
            ),
        ] {
            for text in texts {
                let why = parse(text, rules).unwrap_err();
                assert!(
                    why.starts_with(words) && why.ends_with('.'),
                    "{text}: {why}"
                );
                assert!(!why.contains("hunter2"), "{why}");
            }
        }
    }
}
