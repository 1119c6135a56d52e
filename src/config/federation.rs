//! Settings of this cluster among others.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use http::Uri;

use super::error::ConfigError;
use super::federation_proof::FederationProof;
use super::parse;
use super::table;
use super::values::Values;
use crate::domain::ids::NodeId;

/// Settings of this cluster among others. No link goes farther than its proof reaches.
#[derive(Debug, Clone)]
pub struct FederationConfig {
    /// Whether other clusters are spoken to.
    pub enabled: bool,
    /// The clusters that are called.
    pub peers: Vec<PeerUrl>,
    /// This node's name among them; `None`: one is made once and kept in the data folder.
    pub relay_id: Option<NodeId>,
    /// Where other clusters call; port 0 picks a free one.
    pub listen: SocketAddr,
    /// What clusters prove themselves with.
    pub proof: FederationProof,
    /// Where clients reach this cluster, if it says so.
    pub public_url: Option<String>,
    /// How long a peer may be silent, or take to answer the first word.
    pub peer_timeout: Duration,
    /// How often peers are told how much is stored.
    pub capacity_interval: Duration,
    /// The part of the storage above which blobs move to peers.
    pub offload_threshold: f64,
    /// The part of the storage above which none of peers are taken.
    pub offload_refuse: f64,
}

/// Where another cluster is called.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerUrl {
    /// `host:port`.
    pub address: String,
    /// Whether it asks for TLS in so many words.
    pub tls: bool,
}

impl fmt::Display for PeerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", if self.tls { "https" } else { "http" }, self.address)
    }
}

impl PeerUrl {
    /// An `http`, `https`, `ws` or `wss` URL without a path.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let uri: Uri = text.parse().ok()?;
        let (tls, port) = match uri.scheme_str()? {
            "http" | "ws" => (false, 80),
            "https" | "wss" => (true, 443),
            _ => return None,
        };
        let authority = uri.authority().filter(|authority| !authority.as_str().contains('@'))?;
        let bare = uri.path() == "/" && uri.query().is_none();
        let host = authority.host();
        parse::host(host.trim_start_matches('[').trim_end_matches(']')).filter(|_| bare)?;
        let port = authority.port_u16().unwrap_or(port);
        (port > 0).then(|| Self { address: format!("{host}:{port}"), tls })
    }

    /// The host in its address, without brackets.
    #[must_use]
    pub fn host(&self) -> &str {
        let host = self.address.rsplit_once(':').map_or(self.address.as_str(), |(host, _)| host);
        host.trim_start_matches('[').trim_end_matches(']')
    }

    /// Whether it is on this machine, as far as its text says.
    pub(super) fn is_loopback(&self) -> bool {
        let host = self.host();
        host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
    }
}

impl FederationConfig {
    pub(super) fn read(values: &Values, proof: FederationProof) -> Result<Self, ConfigError> {
        Ok(Self {
            enabled: values.required(&table::FEDERATION_ENABLED, parse::boolean)?,
            peers: values.optional(&table::FEDERATION_PEERS, parse::peers)?.unwrap_or_default(),
            relay_id: values.optional(&table::FEDERATION_RELAY_ID, parse::name)?,
            listen: values.address(&table::FEDERATION_ADDR)?,
            proof,
            public_url: values.optional(&table::PUBLIC_URL, |text| parse::client_url(text).map(str::to_owned))?,
            peer_timeout: values.duration(&table::FEDERATION_PEER_TIMEOUT)?,
            capacity_interval: values.duration(&table::FEDERATION_CAPACITY_INTERVAL)?,
            offload_threshold: values.required(&table::FEDERATION_OFFLOAD_THRESHOLD, parse::ratio)?,
            offload_refuse: values.required(&table::FEDERATION_OFFLOAD_REFUSE, parse::ratio)?,
        })
    }
}

/// What is taken in must not be moved on at once.
pub(super) fn check_ratios(values: &Values) -> Result<(), ConfigError> {
    let ratio = |setting| values.required(setting, parse::ratio);
    match (ratio(&table::FEDERATION_OFFLOAD_THRESHOLD), ratio(&table::FEDERATION_OFFLOAD_REFUSE)) {
        (Ok(threshold), Ok(refuse)) if threshold >= refuse => Err(ConfigError::OffloadRatios),
        // What is wrong with either alone is reported already.
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_is_a_url_without_a_path_in_any_of_four_schemes() {
        for (text, address, tls) in [
            ("http://relay.example:7402", "relay.example:7402", false),
            ("https://relay.example", "relay.example:443", true),
            ("ws://127.0.0.1:1/", "127.0.0.1:1", false),
            ("wss://[::1]:2", "[::1]:2", true),
        ] {
            assert_eq!(PeerUrl::parse(text), Some(PeerUrl { address: address.to_owned(), tls }), "{text}");
        }
        for bad in
            ["relay.example:1", "ftp://a:1", "http://a:0", "http://a/path", "http://u@a", "http://", "http://a?q"]
        {
            assert_eq!(PeerUrl::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn what_is_taken_in_is_not_moved_on_at_once() {
        let config = |threshold, refuse| {
            let ratios =
                [("RELAY_FEDERATION_OFFLOAD_THRESHOLD", threshold), ("RELAY_FEDERATION_OFFLOAD_REFUSE", refuse)];
            super::super::Config::from_pairs(ratios).map(|config| config.federation)
        };
        let given = config("0.1", "0.2").unwrap();
        assert_eq!((given.offload_threshold, given.offload_refuse), (0.1, 0.2));
        for (threshold, refuse) in [("0.2", "0.2"), ("0.96", "0.95")] {
            let error = config(threshold, refuse).unwrap_err().to_string();
            assert!(error.contains("RELAY_FEDERATION_OFFLOAD_THRESHOLD"), "{error}");
        }
    }
}
