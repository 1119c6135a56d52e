//! What a node says of itself in gossip: texts under short keys, and the only ones that this node reads.
//!
//! Facts are about the node itself and change rarely. [`Load`] changes all the time and is kept apart, so that
//! nobody is woken by it.

use std::collections::BTreeMap;

use super::PROTOCOL;
use crate::domain::ids::Region;

/// Longest address or version, in bytes: a DNS name has 253 at most, and a port 5 more.
pub const MAX_TEXT_BYTES: usize = 260;

/// Longest value of a further fact, in bytes: a list of some ten addresses.
pub const MAX_EXTRA_BYTES: usize = 1024;

/// Most further facts of a node. With the others well under the 64 KB of one gossip message.
pub const MAX_EXTRAS: usize = 16;

const GRPC: &str = "grpc";
const CLIENT: &str = "client";
const REGION: &str = "region";
const VERSION: &str = "version";
const PROTOCOL_KEY: &str = "protocol";
const LOAD: &str = "load";
pub(super) const DRAINING: &str = "draining";
pub(super) const LEFT: &str = "left";
pub(super) const EXTRA_PREFIX: &str = "x.";

/// What a node says of itself when it starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// Where other nodes reach it: `host:port`.
    pub grpc: String,
    /// Where clients reach it, if it says so: `host:port` or a URL.
    pub client: Option<String>,
    /// Where it is.
    pub region: Region,
    /// Its release.
    pub version: String,
    /// The version of what it says to other nodes.
    pub protocol: u32,
    /// Whether it is about to leave service.
    pub draining: bool,
    /// Whether it has left for good and only says goodbye.
    pub left: bool,
    /// Further facts by key, which the services publish when they know them.
    pub extras: BTreeMap<String, String>,
}

/// Why a member's facts are of no use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FactError {
    /// None are known yet: gossip has told of the member, but not of its facts.
    #[error("nothing is known of it yet")]
    Unknown,
    /// It speaks another version of what nodes say to one another.
    #[error("it speaks protocol version {0}: upgrade the older nodes")]
    Protocol(u32),
    /// A fact is missing or makes no sense.
    #[error("its fact {0:?} is missing or makes no sense: is it a node of this release?")]
    Bad(&'static str),
}

impl Facts {
    /// What every node says: where other nodes reach it (`host:port`) and where it is, and this release.
    #[must_use]
    pub fn new(grpc: String, region: Region) -> Self {
        Self {
            grpc,
            client: None,
            region,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            protocol: PROTOCOL,
            draining: false,
            left: false,
            extras: BTreeMap::new(),
        }
    }

    /// As pairs for gossip.
    #[must_use]
    pub fn to_pairs(&self) -> Vec<(String, String)> {
        let mut pairs = vec![
            (GRPC, self.grpc.clone()),
            (REGION, self.region.to_string()),
            (VERSION, self.version.clone()),
            (PROTOCOL_KEY, self.protocol.to_string()),
            (DRAINING, flag(self.draining).to_owned()),
            (LEFT, flag(self.left).to_owned()),
        ];
        pairs.extend(self.client.clone().map(|client| (CLIENT, client)));
        let extras = self.extras.iter().map(|(key, value)| (format!("{EXTRA_PREFIX}{key}"), value.clone()));
        pairs.into_iter().map(|(key, value)| (key.to_owned(), value)).chain(extras).collect()
    }

    /// Reads the pairs that another node published. Keys not known here are of a later release and left alone.
    ///
    /// # Errors
    /// [`FactError`].
    pub fn from_pairs<'a>(pairs: impl Iterator<Item = (&'a str, &'a str)>) -> Result<Self, FactError> {
        let pairs: BTreeMap<_, _> = pairs.collect();
        if pairs.is_empty() {
            return Err(FactError::Unknown);
        }
        let text = |key: &'static str| match pairs.get(key) {
            Some(text) if !text.is_empty() && text.len() <= MAX_TEXT_BYTES => Ok(*text),
            _ => Err(FactError::Bad(key)),
        };
        let protocol = text(PROTOCOL_KEY)?.parse().map_err(|_| FactError::Bad(PROTOCOL_KEY))?;
        if protocol != PROTOCOL {
            return Err(FactError::Protocol(protocol));
        }
        let grpc = text(GRPC)?;
        if !is_host_and_port(grpc) {
            return Err(FactError::Bad(GRPC));
        }
        Ok(Self {
            grpc: grpc.to_owned(),
            client: pairs.contains_key(CLIENT).then(|| text(CLIENT)).transpose()?.map(str::to_owned),
            region: text(REGION)?.parse().map_err(|_| FactError::Bad(REGION))?,
            version: text(VERSION)?.to_owned(),
            protocol,
            draining: pairs.get(DRAINING) == Some(&"1"),
            left: pairs.get(LEFT) == Some(&"1"),
            extras: extras(&pairs),
        })
    }
}

/// How much a node has to do, for those who choose between nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Load {
    /// Sessions held, or whatever the node counts as load; only compared.
    pub load: u64,
    /// Bytes stored.
    pub storage_used: u64,
    /// Bytes that may be stored.
    pub storage_max: u64,
}

impl Load {
    /// As a pair for gossip.
    #[must_use]
    pub fn to_pair(self) -> (&'static str, String) {
        (LOAD, format!("{} {} {}", self.load, self.storage_used, self.storage_max))
    }

    /// Reads what another node published; `None` if it did not, or not so.
    #[must_use]
    pub fn from_pairs<'a>(mut pairs: impl Iterator<Item = (&'a str, &'a str)>) -> Option<Self> {
        let (_, text) = pairs.find(|(key, _)| *key == LOAD)?;
        let mut numbers = text.split(' ').map(str::parse);
        let mut next = || numbers.next()?.ok();
        Some(Self { load: next()?, storage_used: next()?, storage_max: next()? })
    }
}

/// Whether a further fact may be published.
#[must_use]
pub fn is_fit_to_publish(key: &str, value: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    !key.is_empty() && key.len() <= 32 && key.bytes().all(plain) && value.len() <= MAX_EXTRA_BYTES
}

pub(super) fn flag(on: bool) -> &'static str {
    if on { "1" } else { "0" }
}

fn extras(pairs: &BTreeMap<&str, &str>) -> BTreeMap<String, String> {
    let further = pairs.iter().filter_map(|(key, value)| Some((key.strip_prefix(EXTRA_PREFIX)?, *value)));
    let fit = further.filter(|(key, value)| is_fit_to_publish(key, value));
    fit.take(MAX_EXTRAS).map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
}

fn is_host_and_port(text: &str) -> bool {
    let Some((host, port)) = text.rsplit_once(':') else { return false };
    let bare = host.strip_prefix('[').and_then(|h| h.strip_suffix(']'));
    let host_fits = match bare {
        Some(v6) => v6.parse::<std::net::Ipv6Addr>().is_ok(),
        None => !host.is_empty() && host.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-')),
    };
    host_fits && port.parse::<u16>().is_ok_and(|port| port != 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn facts() -> Facts {
        Facts {
            grpc: "relay-1.internal:7443".into(),
            client: Some("wss://relay-1.example".into()),
            region: "eu-west".parse().unwrap(),
            version: "0.1.0".into(),
            protocol: PROTOCOL,
            draining: true,
            left: false,
            extras: [("p2p.peer".to_owned(), "12D3".to_owned())].into(),
        }
    }

    fn read(pairs: &[(String, String)]) -> Result<Facts, FactError> {
        Facts::from_pairs(pairs.iter().map(|(k, v)| (k.as_str(), v.as_str())))
    }

    #[test]
    fn what_is_published_is_read() {
        assert_eq!(read(&facts().to_pairs()), Ok(facts()));
        let load = Load { load: 1, storage_used: 2, storage_max: u64::MAX };
        let (key, value) = load.to_pair();
        assert_eq!(Load::from_pairs([(key, value.as_str())].into_iter()), Some(load));
    }

    #[test]
    fn what_makes_no_sense_is_named() {
        let with = |key: &str, value: &str| {
            let mut pairs = facts().to_pairs();
            pairs.retain(|(k, _)| k != key);
            pairs.push((key.to_owned(), value.to_owned()));
            read(&pairs)
        };
        assert_eq!(read(&[]), Err(FactError::Unknown));
        assert_eq!(with("protocol", "99"), Err(FactError::Protocol(99)));
        assert_eq!(with("protocol", "new"), Err(FactError::Bad("protocol")));
        assert_eq!(with("region", "two words"), Err(FactError::Bad("region")));
        assert_eq!(with("version", ""), Err(FactError::Bad("version")));
        for bad in ["", "relay", "relay:", ":1", "relay:0", "relay:70000", "a/b:1", "[::g]:1", "::1:1"] {
            assert_eq!(with("grpc", bad), Err(FactError::Bad("grpc")), "{bad:?}");
        }
        assert!(with("grpc", "[::1]:1").is_ok());
        assert_eq!(with("of-a-later-release", "x"), Ok(facts()));
    }

    #[test]
    fn further_facts_of_others_are_bounded() {
        let mut pairs = facts().to_pairs();
        pairs.extend((0..100).map(|n| (format!("x.{n:03}"), "v".to_owned())));
        pairs.push(("x.000".to_owned(), "v".repeat(MAX_EXTRA_BYTES + 1)));
        let extras = read(&pairs).unwrap().extras;
        assert_eq!(extras.len(), MAX_EXTRAS);
        assert!(!extras.contains_key("000"));
    }

    proptest! {
        #[test]
        fn arbitrary_facts_never_panic(pairs: BTreeMap<String, String>, known: BTreeMap<u8, String>) {
            let names = [GRPC, CLIENT, REGION, VERSION, PROTOCOL_KEY, LOAD, DRAINING, LEFT, "x.a", "x."];
            let mut all = facts().to_pairs();
            all.extend(pairs);
            all.extend(known.into_iter().map(|(n, v)| (names[usize::from(n) % names.len()].to_owned(), v)));
            if let Ok(facts) = read(&all) {
                prop_assert_eq!(read(&facts.to_pairs()), Ok(facts));
            }
            let _any = Load::from_pairs(all.iter().map(|(k, v)| (k.as_str(), v.as_str())));
        }
    }
}
