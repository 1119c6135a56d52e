//! From the text of a setting to its value. Texts are trimmed and not empty; `None`: not accepted.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;

use http::Uri;
use ipnet::IpNet;
use multiaddr::{Multiaddr, PeerId};
use tracing_subscriber::EnvFilter;

use super::federation::PeerUrl;
use super::federation_proof::Pins;
use super::secret::Secret;
use crate::domain::limits::{MAX_TOPIC_BYTES, MAX_TOPICS};
use crate::security::noise::StaticKey;

/// Shortest shared secret, in bytes: 128 bits, if they are random.
pub const MIN_SECRET_BYTES: usize = 16;

/// Longest host name, in bytes (RFC 1035, section 2.3.4).
const MAX_HOST_BYTES: usize = 253;

/// Says that there are no topics: an empty value is none at all.
pub(super) const NO_TOPICS: &str = "none";

const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

pub(super) fn integer(text: &str, min: u64, max: u64) -> Option<u64> {
    text.parse().ok().filter(|n| (min..=max).contains(n))
}

pub(super) fn ratio(text: &str) -> Option<f64> {
    text.parse().ok().filter(|n| (0.0..=1.0).contains(n))
}

pub(super) fn boolean(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "1" => Some(true),
        "false" | "0" => Some(false),
        _ => None,
    }
}

pub(super) fn path(text: &str) -> Option<PathBuf> {
    (!text.contains('\0')).then(|| text.into())
}

pub(super) fn name<T: FromStr>(text: &str) -> Option<T> {
    text.parse().ok()
}

/// An address to listen on; `localhost` is 127.0.0.1, because nothing is looked up before the start.
pub(super) fn ip(text: &str) -> Option<IpAddr> {
    if text.eq_ignore_ascii_case("localhost") {
        return Some(Ipv4Addr::LOCALHOST.into());
    }
    text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text).parse().ok()
}

pub(super) fn port(text: &str) -> Option<u16> {
    text.parse().ok()
}

pub(super) fn address(text: &str) -> Option<SocketAddr> {
    text.parse().ok().or_else(|| {
        let (host, number) = text.rsplit_once(':')?;
        let ip = ip(host).filter(|_| host.eq_ignore_ascii_case("localhost"))?;
        Some(SocketAddr::new(ip, port(number)?))
    })
}

pub(super) fn host(text: &str) -> Option<String> {
    if let Ok(ip) = text.parse::<IpAddr>() {
        return (!ip.is_unspecified()).then(|| ip.to_string());
    }
    let label = |label: &str| {
        let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
        (1..=63).contains(&label.len()) && label.bytes().all(plain)
    };
    let numeric = text.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    let known = text.len() <= MAX_HOST_BYTES && !numeric && text.trim_end_matches('.').split('.').all(label);
    known.then(|| text.to_owned())
}

/// A level or directives. A bare word that is no level would be taken for a module name and turn everything
/// else off, so it is refused: it is nearly always a misspelt level.
pub(super) fn log_filter(text: &str) -> Option<String> {
    let meant = |part: &str| {
        part.contains('=') || part.contains('[') || LEVELS.iter().any(|level| part.eq_ignore_ascii_case(level))
    };
    let valid = text.split(',').all(|part| meant(part.trim())) && EnvFilter::try_new(text).is_ok();
    valid.then(|| text.to_owned())
}

pub(super) fn url(text: &str) -> Option<Uri> {
    let uri: Uri = text.parse().ok()?;
    let web = matches!(uri.scheme_str(), Some("http" | "https"));
    (web && uri.host().is_some_and(|host| !host.is_empty())).then_some(uri)
}

pub(super) fn networks(text: &str) -> Option<Vec<IpNet>> {
    items(text).map(|item| item.parse::<IpAddr>().map_or_else(|_| item.parse().ok(), |ip| Some(ip.into()))).collect()
}

/// Origins in lower case, as browsers send them: scheme, host and port, no path (RFC 6454, section 6.2).
pub(super) fn origins(text: &str) -> Option<Vec<String>> {
    if text == "*" {
        return Some(vec![text.to_owned()]);
    }
    items(text).map(origin).collect()
}

fn origin(text: &str) -> Option<String> {
    let (scheme, authority) = text.split_once("://")?;
    let scheme_ok = scheme.starts_with(|c: char| c.is_ascii_alphabetic())
        && scheme.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.'));
    let authority: http::uri::Authority = authority.parse().ok()?;
    let authority_ok = !authority.host().is_empty() && !authority.as_str().contains(['@', '*']);
    (scheme_ok && authority_ok).then(|| text.to_ascii_lowercase())
}

pub(super) fn seeds(text: &str) -> Option<Vec<String>> {
    items(text).map(|item| seed(item).then(|| item.to_owned())).collect()
}

fn seed(text: &str) -> bool {
    if let Ok(address) = text.parse::<SocketAddr>() {
        return address.port() != 0 && !address.ip().is_unspecified();
    }
    text.rsplit_once(':').is_some_and(|(name, number)| {
        !name.contains(':') && host(name).is_some() && port(number).is_some_and(|n| n > 0)
    })
}

pub(super) fn peers(text: &str) -> Option<Vec<PeerUrl>> {
    items(text).map(PeerUrl::parse).collect()
}

pub(super) fn multiaddrs(text: &str) -> Option<Vec<Multiaddr>> {
    items(text).map(|item| item.parse().ok().filter(|address: &Multiaddr| !address.is_empty())).collect()
}

pub(super) fn peer_ids(text: &str) -> Option<Vec<PeerId>> {
    items(text).map(|item| item.parse().ok()).collect()
}

/// Topics, each once; none, if the word says so.
pub(super) fn topics(text: &str) -> Option<Vec<String>> {
    if text == NO_TOPICS {
        return Some(Vec::new());
    }
    let topics: Vec<_> = items(text).map(str::to_owned).collect();
    let is_name = |topic: &String| topic.len() <= MAX_TOPIC_BYTES && topic != NO_TOPICS;
    let differ = topics.iter().collect::<BTreeSet<_>>().len() == topics.len();
    (topics.len() <= MAX_TOPICS && differ && topics.iter().all(is_name)).then_some(topics)
}

/// The keys that relays must have, `id=key` each; an id may have several.
pub(super) fn pins(text: &str) -> Option<Pins> {
    let mut pins = Pins::new();
    for item in items(text) {
        let (relay, key) = item.split_once('=')?;
        pins.entry(name(relay.trim())?).or_default().push(key.trim().parse().ok()?);
    }
    Some(pins)
}

/// What a client may be told to connect to.
pub(super) fn client_url(text: &str) -> Option<&str> {
    let uri: Uri = text.parse().ok()?;
    let known = matches!(uri.scheme_str(), Some("ws" | "wss" | "http" | "https"));
    (known && text.len() <= MAX_HOST_BYTES && uri.host().is_some_and(|host| !host.is_empty())).then_some(text)
}

/// The secret without the white space around it, such as the line end of a file.
pub(super) fn secret(bytes: &[u8]) -> Option<Secret> {
    let bytes = bytes.trim_ascii();
    (bytes.len() >= MIN_SECRET_BYTES).then(|| Secret::new(bytes))
}

/// What can stand behind `Bearer` in a header.
pub(super) fn token(text: &str) -> Option<Secret> {
    text.bytes().all(|byte| byte.is_ascii_graphic()).then(|| Secret::new(text.as_bytes()))
}

pub(super) fn noise_key(text: &str) -> Option<StaticKey> {
    StaticKey::parse(text)
}

fn items(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').map(str::trim).filter(|item| !item.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn numbers_stay_in_their_range() {
        assert_eq!(integer("1", 1, 9), Some(1));
        assert_eq!(integer("9", 1, 9), Some(9));
        for bad in ["0", "10", "-1", "1.0", "1e1", "many", "99999999999999999999999"] {
            assert_eq!(integer(bad, 1, 9), None, "{bad}");
        }
        for bad in ["-0.1", "1.01", "NaN", "inf", "half"] {
            assert_eq!(ratio(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_misspelt_level_is_no_filter() {
        for good in ["info", "WARN", "off", "waystation=debug", "info,hyper=off", "waystation[session]=trace"] {
            assert_eq!(log_filter(good).as_deref(), Some(good));
        }
        for bad in ["loud", "inf", "info,verbos", "waystation=loud"] {
            assert_eq!(log_filter(bad), None, "{bad}");
        }
    }

    #[test]
    fn addresses_need_no_look_up() {
        assert_eq!(address("localhost:0"), "127.0.0.1:0".parse().ok());
        assert_eq!(address("[::]:80"), "[::]:80".parse().ok());
        for bad in ["8080", ":8080", "relay.example:80", "1.2.3.4", "1.2.3.4:99999", "localhost:"] {
            assert_eq!(address(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_host_to_be_reached_at_is_a_name_or_a_specified_address() {
        for good in ["relay-1.internal", "10.0.0.7", "::1", "node_1"] {
            assert!(host(good).is_some(), "{good}");
        }
        for bad in ["0.0.0.0", "::", "a b", "a..b", "10.0.0", "relay:80", "http://relay"] {
            assert!(host(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn lists_are_taken_whole_or_not_at_all() {
        let nets = networks("10.0.0.0/8, 192.168.1.1 ,::1").map(|nets| nets.iter().map(IpNet::to_string).collect());
        assert_eq!(nets, Some(vec!["10.0.0.0/8".to_owned(), "192.168.1.1/32".into(), "::1/128".into()]));
        assert_eq!(networks("10.0.0.0/8,10.0.0.0/33"), None);
        let key = "0a".repeat(32);
        assert_eq!(pins(&format!("a={key}, b = {key},a={key}")).map(|pins| pins.len()), Some(2));
        for bad in ["a", "a=", "=00", &format!("a b={key}"), &format!("a={key}0"), &format!("a={key},b")] {
            assert_eq!(pins(bad), None, "{bad}");
        }
        assert_eq!(seeds("a:1, [::1]:2"), Some(vec!["a:1".to_owned(), "[::1]:2".into()]));
        for bad in ["a", "a:", ":1", "a:0", "::1:2", "http://a:1"] {
            assert_eq!(seeds(bad), None, "{bad}");
        }
    }

    #[test]
    fn an_origin_has_no_path() {
        assert_eq!(origins("https://App.example, capacitor://localhost").map(|o| o.len()), Some(2));
        assert_eq!(origins("*"), Some(vec!["*".to_owned()]));
        for bad in ["https://a.example/", "a.example", "*,https://a.example", "https://*.example", "https://u@a"] {
            assert_eq!(origins(bad), None, "{bad}");
        }
    }

    #[test]
    fn only_the_web_is_a_url() {
        for good in ["http://push.example/v2", "https://push.example", "HTTPS://[::1]:4317"] {
            assert!(url(good).is_some(), "{good}");
        }
        for bad in ["ftp://a", "push.example", "/v2", "http://", "http:// a"] {
            assert_eq!(url(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_secret_counts_without_white_space() {
        assert!(secret(b"0123456789abcdef\n").is_some());
        assert!(secret(b" 0123456789abcde \n").is_none());
    }

    #[test]
    fn a_token_can_stand_in_a_header() {
        assert_eq!(token("s3cret!").map(|token| token.expose().to_vec()), Some(b"s3cret!".to_vec()));
        for bad in ["two words", "line\nend", "\u{e4}"] {
            assert!(token(bad).is_none(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(text: String) {
            for setting in super::super::table::SETTINGS {
                let trimmed = text.trim();
                if !setting.kind.accepts(trimmed) {
                    prop_assert!(!setting.kind.correction(trimmed).is_empty());
                }
            }
        }

        #[test]
        fn every_address_is_accepted_as_it_prints(ip: IpAddr, port: u16) {
            let address_given = SocketAddr::new(ip, port);
            prop_assert_eq!(address(&address_given.to_string()), Some(address_given));
        }
    }
}
