//! Whose word about a client's address counts.
//!
//! `X-Forwarded-For` and `Forwarded` (RFC 7239) are believed from trusted proxies only, and only as far as
//! each hop was reached through a trusted one: they are read from the right, where the nearest proxy writes.
//! What lies further left was sent by the client and may say anything.

use std::net::{IpAddr, SocketAddr};

use http::header::{FORWARDED, HeaderMap, HeaderName};
use ipnet::IpNet;

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// Proxies walked through at most: real chains have two or three.
const MAX_HOPS: usize = 16;

/// The networks of the proxies that stand before this node.
#[derive(Debug, Clone, Default)]
pub struct TrustedProxies(pub Vec<IpNet>);

impl TrustedProxies {
    /// Whether `address` is one of them.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.0.iter().any(|net| net.contains(&address))
    }

    /// The client's address: `peer` unless that is a trusted proxy; then what the proxies say.
    ///
    /// Where they say something unreadable, the address of the last trusted hop. The same if both headers
    /// are there and disagree: the proxy wrote one of them, the client may have written the other.
    #[must_use]
    pub fn client_ip(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        let peer = peer.to_canonical();
        if !self.contains(peer) {
            return peer;
        }
        match (headers.contains_key(X_FORWARDED_FOR), headers.contains_key(FORWARDED)) {
            (true, false) => self.walk(peer, headers, &X_FORWARDED_FOR, parse_address),
            (false, true) => self.walk(peer, headers, &FORWARDED, parse_forwarded),
            (false, false) => peer,
            (true, true) => {
                let one = self.walk(peer, headers, &X_FORWARDED_FOR, parse_address);
                let other = self.walk(peer, headers, &FORWARDED, parse_forwarded);
                if one == other { one } else { peer }
            }
        }
    }

    fn walk(&self, peer: IpAddr, headers: &HeaderMap, name: &HeaderName, parse: fn(&str) -> Option<IpAddr>) -> IpAddr {
        // Split at every comma, quoted or not: an unfinished quote on the client's side must not swallow
        // what the proxy appended to it.
        let values: Vec<_> = headers.get_all(name).iter().collect();
        let hops = values.iter().rev().flat_map(|value| value.to_str().unwrap_or("").rsplit(','));
        let mut client = peer;
        for hop in hops.take(MAX_HOPS) {
            if !self.contains(client) {
                break;
            }
            match parse(hop.trim()) {
                Some(address) => client = address,
                None => break,
            }
        }
        client
    }
}

/// One element of `Forwarded`: the value of its `for` parameter.
fn parse_forwarded(element: &str) -> Option<IpAddr> {
    let node = element.split(';').find_map(|pair| {
        let (name, value) = pair.trim().split_once('=')?;
        name.trim().eq_ignore_ascii_case("for").then(|| value.trim())
    })?;
    parse_address(node.strip_prefix('"').and_then(|node| node.strip_suffix('"')).unwrap_or(node))
}

/// An address, with or without a port, IPv6 with or without brackets.
fn parse_address(text: &str) -> Option<IpAddr> {
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    let address = bare.parse::<IpAddr>().ok().or_else(|| Some(text.parse::<SocketAddr>().ok()?.ip()))?;
    Some(address.to_canonical())
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    fn client(peer: &str, headers: &[(HeaderName, &str)]) -> String {
        let proxies = TrustedProxies(vec!["10.0.0.0/8".parse().unwrap(), "fd00::/8".parse().unwrap()]);
        let headers = headers.iter().map(|(n, v)| (n.clone(), HeaderValue::from_str(v).unwrap())).collect();
        proxies.client_ip(peer.parse().unwrap(), &headers).to_string()
    }

    fn xff(peer: &str, value: &str) -> String {
        client(peer, &[(X_FORWARDED_FOR, value)])
    }

    fn forwarded(peer: &str, value: &str) -> String {
        client(peer, &[(FORWARDED, value)])
    }

    #[test]
    fn strangers_are_not_believed() {
        assert_eq!(xff("192.0.2.1", "198.51.100.7"), "192.0.2.1");
        assert_eq!(forwarded("192.0.2.1", "for=198.51.100.7"), "192.0.2.1");
    }

    #[test]
    fn the_walk_ends_at_the_first_hop_that_is_not_trusted() {
        assert_eq!(xff("10.0.0.1", "203.0.113.9, 198.51.100.7, 10.0.0.2"), "198.51.100.7");
        assert_eq!(xff("::ffff:10.0.0.1", "198.51.100.7"), "198.51.100.7");
        assert_eq!(xff("10.0.0.1", "10.0.0.3, 10.0.0.2"), "10.0.0.3");
        assert_eq!(client("10.0.0.1", &[(X_FORWARDED_FOR, "203.0.113.9"), (FORWARDED, "for=1.2.3.4")]), "10.0.0.1");
    }

    #[test]
    fn headers_on_several_lines_are_one_list() {
        let lines = [(X_FORWARDED_FOR, "203.0.113.9, 198.51.100.7"), (X_FORWARDED_FOR, "10.0.0.2")];
        assert_eq!(client("10.0.0.1", &lines), "198.51.100.7");
    }

    #[test]
    fn garbage_leads_to_the_last_trusted_hop() {
        assert_eq!(xff("10.0.0.1", "203.0.113.9, unknown, 10.0.0.2"), "10.0.0.2");
        assert_eq!(xff("10.0.0.1", ""), "10.0.0.1");
        assert_eq!(forwarded("10.0.0.1", "for=_hidden"), "10.0.0.1");
        assert_eq!(forwarded("10.0.0.1", "proto=https"), "10.0.0.1");
    }

    #[test]
    fn ports_brackets_and_quotes_are_understood() {
        assert_eq!(xff("10.0.0.1", "198.51.100.7:4711"), "198.51.100.7");
        assert_eq!(xff("10.0.0.1", "[2001:db8::1]:4711"), "2001:db8::1");
        assert_eq!(xff("fd00::1", "2001:db8::1"), "2001:db8::1");
        assert_eq!(forwarded("10.0.0.1", "For=\"[2001:db8::1]:4711\";proto=https;by=10.0.0.1"), "2001:db8::1");
        assert_eq!(forwarded("10.0.0.1", "for=\"open, for=198.51.100.7"), "198.51.100.7");
    }

    proptest! {
        #[test]
        fn whatever_the_client_writes_the_proxys_last_word_counts(noise in "[ -~]{0,80}") {
            prop_assert_eq!(xff("10.0.0.1", &format!("{noise},198.51.100.7")), "198.51.100.7");
            prop_assert_eq!(forwarded("10.0.0.1", &format!("{noise},for=198.51.100.7")), "198.51.100.7");
            prop_assert_eq!(xff("192.0.2.1", &noise), "192.0.2.1");
        }
    }
}
