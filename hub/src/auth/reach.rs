//! Where a key set may be fetched from.
//!
//! Anybody who can change the answer on its way can sign in as anybody. So a key set comes by
//! https, or over plain http from this machine, or, where `JWKS_ALLOW_HTTP` allows it, from the
//! private network. Link-local addresses are refused: clouds keep their machines' credentials
//! there. A name is judged by the addresses that it resolves to, at each connection.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use futures_util::future::BoxFuture;
use launch::settings::address;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use url::{Host, Url};

/// From where a key set may come over plain http.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PlainHttp {
    /// From this machine alone.
    #[default]
    Loopback,
    /// From this machine and from the private network (`JWKS_ALLOW_HTTP=true`).
    PrivateNetwork,
}

/// Reads the address of a key set, by its form alone: see [`plain_http_problem`] for the rest.
///
/// # Errors
/// A sentence that says what is wrong.
pub fn parse_key_set_url(text: &str) -> Result<Url, String> {
    let url = address::parse(text, address::HTTP)?;
    if literal(&url).is_some_and(is_for_machines) {
        return Err("It must not be a link-local address or another one at which clouds keep their machines' credentials. Name the issuer's own host.".to_owned());
    }
    Ok(url)
}

/// Why this address is refused because of plain http, if it is.
pub fn plain_http_problem(url: &Url, plain_http: PlainHttp) -> Option<&'static str> {
    if url.scheme() == "https" {
        return None;
    }
    let is_allowed = match (literal(url), plain_http) {
        (Some(address), _) => may_be_asked(address, "http", plain_http),
        (None, PlainHttp::Loopback) => url.host_str() == Some("localhost"),
        // What the name resolves to is checked at each connection.
        (None, PlainHttp::PrivateNetwork) => true,
    };
    match plain_http {
        _ if is_allowed => None,
        PlainHttp::Loopback => Some(
            "Plain http is allowed on loopback alone. Write https://, or set JWKS_ALLOW_HTTP to true for an issuer in your private network.",
        ),
        PlainHttp::PrivateNetwork => Some(
            "Plain http is allowed on loopback and in a private network alone. Write https://.",
        ),
    }
}

/// The address that a URL names by number.
fn literal(url: &Url) -> Option<IpAddr> {
    match url.host()? {
        Host::Domain(_) => None,
        Host::Ipv4(address) => Some(address.into()),
        Host::Ipv6(address) => Some(IpAddr::from(address).to_canonical()),
    }
}

/// Whether a connection to this address may be made.
fn may_be_asked(address: IpAddr, scheme: &str, plain_http: PlainHttp) -> bool {
    let address = address.to_canonical();
    if is_for_machines(address) {
        return false;
    }
    match plain_http {
        _ if scheme == "https" => true,
        PlainHttp::Loopback => address.is_loopback(),
        PlainHttp::PrivateNetwork => address.is_loopback() || is_private(address),
    }
}

/// Outside of the link-local ones, the addresses of IPv6 at which clouds serve a machine's
/// credentials: AWS (`fd00:ec2::254`), Google Cloud (`fd20:ce::254`) and Scaleway (`fd00:42::42`).
const FOR_MACHINES: [[u16; 8]; 3] = [
    [0xfd00, 0x0ec2, 0, 0, 0, 0, 0, 0x254],
    [0xfd20, 0x00ce, 0, 0, 0, 0, 0, 0x254],
    [0xfd00, 0x0042, 0, 0, 0, 0, 0, 0x42],
];

/// Link-local addresses, [`FOR_MACHINES`], and 100.100.100.200 (Alibaba Cloud).
fn is_for_machines(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(address) => address.is_link_local() || address.octets() == [100, 100, 100, 200],
        IpAddr::V6(address) => {
            address.is_unicast_link_local() || FOR_MACHINES.contains(&address.segments())
        }
    }
}

/// Whether an address is on this machine, in a private network or link-local: not of the Internet.
pub fn is_internal(address: IpAddr) -> bool {
    address.is_loopback() || is_private(address) || is_for_machines(address)
}

/// RFC 1918, RFC 6598 (100.64.0.0/10, which clouds and overlay networks use inside) and RFC 4193.
fn is_private(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => {
            let [a, b, ..] = address.octets();
            address.is_private() || (a == 100 && b & 0xc0 == 64)
        }
        IpAddr::V6(address) => address.is_unique_local(),
    }
}

/// None of a name's addresses may be asked. The words say which ones may, and what to do.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("{0}")]
pub(super) struct NoAllowedAddress(pub(super) &'static str);

/// The addresses of a name, as the system or a test knows them.
pub(super) type Lookup =
    Arc<dyn Fn(String) -> BoxFuture<'static, io::Result<Vec<IpAddr>>> + Send + Sync>;

/// Asks the system.
pub(super) fn system_lookup() -> Lookup {
    Arc::new(|name| {
        Box::pin(async move {
            let found = tokio::net::lookup_host((name, 0)).await?;
            Ok(found.map(|address| address.ip()).collect())
        })
    })
}

/// Resolves names to the addresses that may be asked.
pub(super) struct AllowedAddresses {
    /// The scheme of the key set's URL.
    pub(super) scheme: String,
    pub(super) plain_http: PlainHttp,
    pub(super) lookup: Lookup,
}

impl AllowedAddresses {
    fn none_of_them(&self) -> NoAllowedAddress {
        NoAllowedAddress(match self.plain_http {
            _ if self.scheme == "https" => {
                "the name of its host resolves to nothing but addresses at which clouds keep their machines' credentials. Name the issuer's own host, or correct the name's entry in DNS"
            }
            PlainHttp::Loopback => {
                "the name of its host does not resolve to this machine, and plain http is allowed on loopback alone. Write https://, or set JWKS_ALLOW_HTTP to true for an issuer in your private network"
            }
            PlainHttp::PrivateNetwork => {
                "the name of its host resolves to no address on loopback or in a private network (10.0.0.0/8, 172.16.0.0/12, 192.168.0.0/16, 100.64.0.0/10, fc00::/7), and plain http is allowed there alone. Write https://, or correct the name's entry in DNS"
            }
        })
    }
}

impl Resolve for AllowedAddresses {
    fn resolve(&self, name: Name) -> Resolving {
        let (scheme, plain_http) = (self.scheme.clone(), self.plain_http);
        let none_of_them = self.none_of_them();
        let found = (self.lookup)(name.as_str().to_owned());
        Box::pin(async move {
            let allowed: Vec<SocketAddr> = found
                .await?
                .into_iter()
                .filter(|address| may_be_asked(*address, &scheme, plain_http))
                // The port is the URL's: the client puts it in.
                .map(|address| SocketAddr::new(address, 0))
                .collect();
            if allowed.is_empty() {
                return Err(none_of_them.into());
            }
            let addresses: Addrs = Box::new(allowed.into_iter());
            Ok(addresses)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed(text: &str, plain_http: PlainHttp) -> bool {
        parse_key_set_url(text).is_ok_and(|url| plain_http_problem(&url, plain_http).is_none())
    }

    #[test]
    fn a_key_set_comes_by_https_or_from_this_machine_or_where_allowed_from_the_private_network() {
        let always = [
            "https://issuer.example/.well-known/jwks.json",
            "http://127.0.0.1:3901/.well-known/jwks.json",
            "http://localhost:3901/a",
            "http://[::1]:3901/a",
            "https://10.0.0.7/keys",
        ];
        let in_private = [
            "http://10.0.0.7/keys",
            "http://192.168.1.1:8080/",
            "http://[fd00::7]/",
            "http://[::ffff:10.0.0.7]/",
            "http://keycloak:8080/realms/app/protocol/openid-connect/certs",
            // A name that may be public is judged at each connection.
            "http://issuer.example/",
            "http://localhost.example.org/",
        ];
        let never = [
            "",
            "issuer.example",
            "http://127.0.0.1@issuer.example/",
            "https://user:word@issuer.example/",
            "https://169.254.169.254/latest",
            "http://169.254.169.254/latest",
            "https://[fe80::1]/",
            "https://[::ffff:169.254.169.254]/",
            "http://8.8.8.8/",
            "http://[2001:db8::1]/",
            "http://[::ffff:8.8.8.8]/",
            "file:///etc/passwd",
            "data:application/json,{}",
        ];
        for text in always {
            assert!(allowed(text, PlainHttp::Loopback), "{text}");
            assert!(allowed(text, PlainHttp::PrivateNetwork), "{text}");
        }
        for text in in_private {
            assert!(!allowed(text, PlainHttp::Loopback), "{text}");
            assert!(allowed(text, PlainHttp::PrivateNetwork), "{text}");
        }
        for text in never {
            assert!(!allowed(text, PlainHttp::PrivateNetwork), "{text}");
        }
    }

    #[test]
    fn a_name_is_judged_by_the_addresses_that_it_resolves_to() {
        for (address, https, loopback, private) in [
            ("8.8.8.8", true, false, false),
            ("0.0.0.0", true, false, false),
            ("10.1.2.3", true, false, true),
            ("100.64.0.1", true, false, true),
            ("100.128.0.1", true, false, false),
            ("172.31.255.1", true, false, true),
            ("172.32.0.1", true, false, false),
            ("127.0.0.1", true, true, true),
            ("::1", true, true, true),
            ("fd00::1", true, false, true),
            ("2001:db8::1", true, false, false),
            ("::ffff:10.0.0.1", true, false, true),
            ("::ffff:8.8.8.8", true, false, false),
            ("169.254.169.254", false, false, false),
            ("::ffff:169.254.169.254", false, false, false),
            ("fe80::1", false, false, false),
            ("fd00:ec2::254", false, false, false),
            ("fd20:ce::254", false, false, false),
            ("fd00:42::42", false, false, false),
            ("100.100.100.200", false, false, false),
        ] {
            let address: IpAddr = address.parse().unwrap();
            let http = |plain_http| may_be_asked(address, "http", plain_http);
            assert_eq!(
                may_be_asked(address, "https", PlainHttp::Loopback),
                https,
                "{address}"
            );
            assert_eq!(http(PlainHttp::Loopback), loopback, "{address}");
            assert_eq!(http(PlainHttp::PrivateNetwork), private, "{address}");
        }
    }
}
