//! The client address of a connection, also behind reverse proxies.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use axum::http::HeaderMap;
use axum::http::header::{FORWARDED, HeaderName};
use ipnet::{IpNet, Ipv4Net};

use crate::auth::reach::is_internal;

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
/// Providers give a customer at least a /64 of IPv6 (RFC 6177): all of it counts as one address.
const CUSTOMER_PREFIX_V6: u32 = 64;

/// An address or a network, as in `10.0.0.7` or `10.0.0.0/8`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network(IpNet);

impl FromStr for Network {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let network = text
            .parse::<IpNet>()
            .or_else(|_| text.parse::<IpAddr>().map(IpNet::from))
            .map_err(|_| {
                "must be an address or a network, such as 10.0.0.7 or 10.0.0.0/8".to_owned()
            })?;
        // IPv4 inside IPv6 counts as IPv4, here as in the address of a connection.
        if let IpNet::V6(inside) = network
            && let Some(address) = inside.addr().to_ipv4_mapped()
            && let Some(prefix) = inside.prefix_len().checked_sub(96)
            && let Ok(network) = Ipv4Net::new(address, prefix)
        {
            return Ok(Self(IpNet::V4(network)));
        }
        Ok(Self(network))
    }
}

/// The client of a connection, for the limits by address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Client {
    /// An IPv4 address, or the network of an IPv6 address.
    At(IpAddr),
    /// A peer in a private network, and no proxies are configured: its client is unknown.
    Unknown,
}

/// The client of a connection from `peer`, whose request has these headers. Without `proxies`, a
/// peer on loopback or in a private network counts as a proxy without a header.
///
/// A trusted proxy's `X-Forwarded-For` or `Forwarded` (RFC 7239) is read from its right end. The
/// first address that is no trusted proxy is the client. Where an entry is no address, or the two
/// headers name different clients, it is the last trusted hop.
pub fn client(peer: SocketAddr, headers: &HeaderMap, proxies: &[Network]) -> Client {
    let peer = peer.ip().to_canonical();
    if proxies.is_empty() {
        return if is_internal(peer) {
            Client::Unknown
        } else {
            counted(peer)
        };
    }
    let is_proxy = |address: IpAddr| proxies.iter().any(|proxy| proxy.0.contains(&address));
    if !is_proxy(peer) {
        return counted(peer);
    }
    let by_comma = hops(headers, &X_FORWARDED_FOR, |line| {
        line.split(',').map(|entry| address(entry.trim())).collect()
    });
    let by_standard = hops(headers, &FORWARDED, forwarded);
    let walk = |hops: Vec<Option<IpAddr>>| {
        let mut last = peer;
        for hop in hops.into_iter().rev() {
            let Some(hop) = hop else { break };
            last = hop;
            if !is_proxy(hop) {
                break;
            }
        }
        last
    };
    match (by_comma, by_standard) {
        (None, None) => counted(peer),
        (Some(hops), None) | (None, Some(hops)) => counted(walk(hops)),
        (Some(one), Some(other)) => {
            // A proxy writes one of them, and forwards what the client wrote into the other.
            let (one, other) = (walk(one), walk(other));
            counted(if one == other { one } else { peer })
        }
    }
}

/// The entries of a header, in order over all its lines; `None` for one that is no address. `None`
/// for all where the header is absent.
fn hops(
    headers: &HeaderMap,
    name: &HeaderName,
    read: impl Fn(&str) -> Vec<Option<IpAddr>>,
) -> Option<Vec<Option<IpAddr>>> {
    headers.contains_key(name).then(|| {
        let lines = headers.get_all(name).iter();
        lines
            .flat_map(|line| line.to_str().map_or_else(|_| vec![None], &read))
            .collect()
    })
}

/// The `for` of each element of one line of `Forwarded`.
fn forwarded(line: &str) -> Vec<Option<IpAddr>> {
    let elements = split_unquoted(line, ',');
    let Some(elements) = elements else {
        return vec![None];
    };
    let of_element = |element: &str| {
        let pairs = split_unquoted(element, ';')?;
        let mut nodes = pairs.into_iter().filter_map(|pair| {
            let (key, value) = pair.split_once('=')?;
            key.trim().eq_ignore_ascii_case("for").then(|| value.trim())
        });
        let (Some(node), None) = (nodes.next(), nodes.next()) else {
            return None;
        };
        address(
            node.strip_prefix('"')
                .and_then(|node| node.strip_suffix('"'))
                .unwrap_or(node),
        )
    };
    elements.into_iter().map(of_element).collect()
}

/// The parts between separators outside of quotes; `None` where a quote is not closed.
fn split_unquoted(text: &str, separator: char) -> Option<Vec<&str>> {
    let (mut parts, mut start, mut quoted, mut escaped) = (Vec::new(), 0, false, false);
    for (at, character) in text.char_indices() {
        match character {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            _ if character == separator && !quoted => {
                parts.push(&text[start..at]);
                start = at + character.len_utf8();
            }
            _ => {}
        }
    }
    parts.push(&text[start..]);
    (!quoted).then_some(parts)
}

/// An address with or without a port, as proxies write it.
fn address(text: &str) -> Option<IpAddr> {
    let bare = text
        .strip_prefix('[')
        .and_then(|text| text.strip_suffix(']'));
    let address = bare.unwrap_or(text).parse::<IpAddr>().ok();
    let with_port = || text.parse::<SocketAddr>().ok().map(|address| address.ip());
    address
        .or_else(with_port)
        .map(|address| address.to_canonical())
}

fn counted(address: IpAddr) -> Client {
    Client::At(match address.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => {
            let network = u128::from(address) >> (128 - CUSTOMER_PREFIX_V6);
            IpAddr::V6(Ipv6Addr::from(network << (128 - CUSTOMER_PREFIX_V6)))
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const X: &str = "x-forwarded-for";
    const F: &str = "forwarded";

    fn client_of(peer: &str, headers: &[(&str, &str)], proxies: &[&str]) -> String {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(name.parse::<HeaderName>().unwrap(), value.parse().unwrap());
        }
        let proxies: Vec<Network> = proxies.iter().map(|text| text.parse().unwrap()).collect();
        let peer = SocketAddr::new(peer.parse().unwrap(), 1);
        match client(peer, &map, &proxies) {
            Client::At(address) => address.to_string(),
            Client::Unknown => "unknown".to_owned(),
        }
    }

    #[test]
    fn without_proxies_a_private_peer_is_unknown_and_a_public_one_is_the_client() {
        let spoofed = [(X, "203.0.113.9")];
        for (peer, client) in [
            ("127.0.0.1", "unknown"),
            ("::1", "unknown"),
            ("::ffff:127.0.0.1", "unknown"),
            ("10.1.2.3", "unknown"),
            ("172.16.0.1", "unknown"),
            ("192.168.1.1", "unknown"),
            ("169.254.1.1", "unknown"),
            ("100.64.0.1", "unknown"),
            ("fd00::1", "unknown"),
            ("fe80::1", "unknown"),
            ("172.32.0.1", "172.32.0.1"),
            ("100.128.0.1", "100.128.0.1"),
            ("198.51.100.7", "198.51.100.7"),
            ("::ffff:198.51.100.7", "198.51.100.7"),
            ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::"),
        ] {
            assert_eq!(client_of(peer, &spoofed, &[]), client, "{peer}");
        }
    }

    #[test]
    fn the_client_is_the_rightmost_address_that_is_no_trusted_proxy() {
        let proxies = ["::ffff:127.0.0.1", "10.0.0.0/8", "fd00::/8"];
        for (name, value, client) in [
            (X, "203.0.113.9", "203.0.113.9"),
            (X, "203.0.113.9:4711", "203.0.113.9"),
            (X, "6.6.6.6, 203.0.113.9", "203.0.113.9"),
            (X, "6.6.6.6,203.0.113.9, 10.0.0.2,fd00::1", "203.0.113.9"),
            (X, "2001:db8:1:2:3::4", "2001:db8:1:2::"),
            (X, "[2001:db8:1:2:3::4]:443", "2001:db8:1:2::"),
            (X, "::ffff:203.0.113.9", "203.0.113.9"),
            // All of them are trusted: the farthest one.
            (X, "10.0.0.3, 10.0.0.2", "10.0.0.3"),
            // No address: the last trusted hop.
            (X, "unknown", "127.0.0.1"),
            (X, "", "127.0.0.1"),
            (X, "203.0.113.9, nonsense", "127.0.0.1"),
            (X, "nonsense, 10.0.0.2", "10.0.0.2"),
            (F, "for=203.0.113.9", "203.0.113.9"),
            (
                F,
                "for=6.6.6.6, For=\"203.0.113.9:4711\";proto=https;by=10.0.0.1",
                "203.0.113.9",
            ),
            (F, "for=\"[2001:db8:1:2::17]:4711\"", "2001:db8:1:2::"),
            (F, "for=203.0.113.9, for=10.0.0.2", "203.0.113.9"),
            (F, "for=unknown", "127.0.0.1"),
            (F, "for=_hidden, for=10.0.0.2", "10.0.0.2"),
            (F, "proto=https", "127.0.0.1"),
            (F, "for=\", for=203.0.113.9", "127.0.0.1"),
        ] {
            let found = client_of("127.0.0.1", &[(name, value)], &proxies);
            assert_eq!(found, client, "{name}: {value}");
        }
        let lines = [(X, "6.6.6.6"), (X, "203.0.113.9")];
        let disagreeing = [(X, "203.0.113.9"), (F, "for=6.6.6.6")];
        let agreeing = [(X, "203.0.113.9"), (F, "for=203.0.113.9")];
        for (peer, headers, client) in [
            ("127.0.0.1", &[][..], "127.0.0.1"),
            ("127.0.0.1", &lines, "203.0.113.9"),
            ("127.0.0.1", &disagreeing, "127.0.0.1"),
            ("127.0.0.1", &agreeing, "203.0.113.9"),
            // The headers of a peer that is no proxy are ignored.
            ("198.51.100.7", &lines, "198.51.100.7"),
        ] {
            assert_eq!(client_of(peer, headers, &proxies), client, "{headers:?}");
        }
    }

    #[test]
    fn a_network_is_an_address_or_a_network() {
        for text in ["10.0.0.7", " 10.0.0.0/8", "::1", "fd00::/8", "0.0.0.0/0"] {
            assert!(text.parse::<Network>().is_ok(), "{text}");
        }
        for text in ["", "localhost", "10.0.0.0/33", "10.0.0", "*"] {
            assert!(text.parse::<Network>().is_err(), "{text}");
        }
    }
}
