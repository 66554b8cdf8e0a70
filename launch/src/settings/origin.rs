//! Origins of pages in settings, as browsers write them in the header `Origin` (RFC 6454, section
//! 6.2): they are compared letter by letter.

use url::{Host, Url};

/// Schemes whose pages have the origin `null`, or that name no page.
const NOT_OF_PAGES: [&str; 7] = ["file", "data", "blob", "about", "javascript", "ws", "wss"];

/// Reads an origin. Besides `https` and `http` it may have the scheme of an app's shell, as in
/// `capacitor://localhost`, `tauri://localhost` or `chrome-extension://<id>`.
///
/// # Errors
/// A sentence or two: what is wrong, and how to write it.
pub fn parse(text: &str) -> Result<String, String> {
    if text == "*" {
        return Err("This would let every page on the Internet ask. List each origin, as in https://rooms.example.org.".to_owned());
    }
    if text.contains('*') {
        return Err("A wildcard is not an origin: origins are compared letter by letter. List each origin, as in https://a.example.org,https://b.example.org.".to_owned());
    }
    if text.eq_ignore_ascii_case("null") {
        return Err("Pages of files and of sandboxed frames have this origin, of any author. Serve the page over http or https, and list its origin.".to_owned());
    }
    let Some((scheme, rest)) = text.split_once("://") else {
        return Err(without_scheme(text));
    };
    let lower = scheme.to_ascii_lowercase();
    let is_scheme = lower.starts_with(|first: char| first.is_ascii_lowercase())
        && lower
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"+.-".contains(&byte));
    if !is_scheme {
        return Err(without_scheme(text));
    }
    if NOT_OF_PAGES.contains(&lower.as_str()) {
        return Err(match lower.as_str() {
            "ws" | "wss" => {
                "An origin is the address of the page and not of the WebSocket. Write the page's origin, as in https://rooms.example.org.".to_owned()
            }
            _ => format!(
                "A page of {lower}: has the origin null, as every such page has. Serve it over http or https, and list that origin."
            ),
        });
    }
    let written = if matches!(lower.as_str(), "http" | "https") {
        of_web_page(text)?
    } else {
        of_shell(&lower, rest)?
    };
    if written == text {
        Ok(written)
    } else {
        Err(format!("{} Write {written}.", difference(text, &written)))
    }
}

/// The origin of a page of the web, as browsers write it.
fn of_web_page(text: &str) -> Result<String, String> {
    let invalid = || {
        "It is not an origin. Write scheme and host, as in https://rooms.example.org.".to_owned()
    };
    if text.contains(char::is_whitespace) {
        return Err(invalid());
    }
    let url = Url::parse(text).map_err(|_| invalid())?;
    if url.port() == Some(0) || url.host_str().is_none_or(str::is_empty) {
        return Err(invalid());
    }
    Ok(url.origin().ascii_serialization())
}

/// The origin of an app's shell: browsers leave the host of such a scheme as it is.
fn of_shell(scheme: &str, rest: &str) -> Result<String, String> {
    let host_and_port = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let host_and_port = host_and_port.rsplit('@').next().unwrap_or_default();
    let (host, port) = host_and_port
        .split_once(':')
        .map_or((host_and_port, None), |(host, port)| (host, Some(port)));
    let is_host = !host.is_empty()
        && host
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte));
    let is_port = port.is_none_or(|port| port.parse::<u16>().is_ok_and(|port| port > 0));
    if is_host && is_port {
        Ok(format!("{scheme}://{host_and_port}"))
    } else {
        Err(format!(
            "It is not an origin. Write scheme and host, as in {scheme}://localhost."
        ))
    }
}

fn without_scheme(text: &str) -> String {
    let host = text.split(['/', '?', '#']).next().unwrap_or_default();
    let host = host.rsplit('@').next().unwrap_or_default();
    let local = Url::parse(&format!("http://{host}")).is_ok_and(|url| match url.host() {
        Some(Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        Some(Host::Ipv4(ip)) => ip.is_loopback(),
        Some(Host::Ipv6(ip)) => ip.is_loopback(),
        None => false,
    });
    let scheme = if local { "http" } else { "https" };
    match of_web_page(&format!("{scheme}://{host}")) {
        Ok(written) if local || host.contains('.') => {
            format!("The scheme is missing. Write {written}.")
        }
        _ => "It is not an origin. Write scheme and host, as in https://rooms.example.org."
            .to_owned(),
    }
}

/// Why two forms of one origin differ.
fn difference(text: &str, written: &str) -> &'static str {
    let after = text.split_once("://").map_or("", |(_, rest)| rest);
    let authority = after.split(['/', '?', '#']).next().unwrap_or_default();
    let has_more = authority.len() < after.len();
    if authority.contains('@') {
        "An origin has no user name and no password."
    } else if has_more && after.get(authority.len()..) == Some("/") {
        "An origin has no slash at its end."
    } else if has_more {
        "An origin has no path."
    } else if text.eq_ignore_ascii_case(written) {
        "Browsers write scheme and host in small letters."
    } else if authority.is_ascii() && text.len() > written.len() {
        "Browsers leave out the port that is the scheme's own."
    } else {
        "Browsers write it in another form."
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_of_the_web_and_of_app_shells_have_origins() {
        for origin in [
            "https://rooms.example.org",
            "http://localhost:3000",
            "http://127.0.0.1:3000",
            "https://[::1]:8443",
            "https://xn--rume-loa.example",
            "https://tauri.localhost",
            "http://tauri.localhost",
            "capacitor://localhost",
            "ionic://localhost",
            "tauri://localhost",
            "app://localhost",
            "app://obsidian.md",
            "vscode-webview://1a2b3c",
            "chrome-extension://aapbdbdomjkkjkaonfhkkikfgjllcleb",
            "moz-extension://7a1d0f0c-5f0a-4f0e-9c53-2d3f1b7a9e11",
            "safari-web-extension://E7B2A0A1-0C7B-4A53-9F2C-0E6D1B0C9A77",
        ] {
            assert_eq!(parse(origin).as_deref(), Ok(origin));
        }
    }

    #[test]
    fn what_no_browser_sends_is_refused() {
        for (words, texts) in [
            ("This would let every page on the Internet ask.", &["*"][..]),
            (
                "A wildcard is not an origin",
                &["https://*.example.org", "https://*", "chrome-extension://*"],
            ),
            ("Pages of files and of sandboxed frames", &["null"]),
            (
                "A page of file: has the origin null",
                &["file:///index.html"],
            ),
            ("A page of data: has the origin null", &["data://x"]),
            (
                "An origin is the address of the page",
                &["wss://example.org"],
            ),
            (
                "It is not an origin. Write scheme and host, as in https://rooms.example.org.",
                &[
                    "nonsense",
                    "://example.org",
                    "https://",
                    "https://exa mple.org",
                    "https://example.org:99999",
                ],
            ),
            (
                "It is not an origin. Write scheme and host, as in tauri://localhost.",
                &["tauri://", "tauri://local host", "tauri://localhost:0"],
            ),
        ] {
            for text in texts {
                let why = parse(text).unwrap_err();
                assert!(
                    why.starts_with(words) && why.ends_with('.'),
                    "{text}: {why}"
                );
            }
        }
    }

    #[test]
    fn another_form_of_an_origin_is_refused_with_the_right_one() {
        const MISSING: &str = "The scheme is missing.";
        const SMALL: &str = "Browsers write scheme and host in small letters.";
        const PORT: &str = "Browsers leave out the port that is the scheme's own.";
        const USER: &str = "An origin has no user name and no password.";
        for (text, words, form) in [
            ("example.org", MISSING, "https://example.org"),
            ("example.org/app", MISSING, "https://example.org"),
            ("localhost:5173", MISSING, "http://localhost:5173"),
            ("127.0.0.1:5173", MISSING, "http://127.0.0.1:5173"),
            (
                "https://a.org/",
                "An origin has no slash at its end.",
                "https://a.org",
            ),
            (
                "tauri://a/",
                "An origin has no slash at its end.",
                "tauri://a",
            ),
            (
                "https://a.org/app/",
                "An origin has no path.",
                "https://a.org",
            ),
            (
                "https://a.org?x=1",
                "An origin has no path.",
                "https://a.org",
            ),
            ("https://me:word@a.org", USER, "https://a.org"),
            ("https://A.org", SMALL, "https://a.org"),
            ("HTTPS://a.org", SMALL, "https://a.org"),
            ("Tauri://localhost", SMALL, "tauri://localhost"),
            ("https://a.org:443", PORT, "https://a.org"),
            ("http://a.org:80", PORT, "http://a.org"),
            (
                "https://r\u{e4}ume.example",
                "Browsers write it in another form.",
                "https://xn--rume-loa.example",
            ),
        ] {
            let why = parse(text).unwrap_err();
            assert_eq!(why, format!("{words} Write {form}."), "{text}");
        }
    }
}
