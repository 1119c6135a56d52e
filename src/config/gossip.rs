//! Settings of the gossip of libp2p peers.

use std::num::NonZeroU32;

use super::error::ConfigError;
use super::parse;
use super::setting::Setting;
use super::table;
use super::values::Values;

/// Settings of the gossip of libp2p peers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GossipConfig {
    /// The topics; if there are none, gossip is not spoken.
    pub topics: Vec<String>,
    /// Messages from one peer, per minute.
    pub rate: NonZeroU32,
    /// What they may amount to, in KiB.
    pub kib: NonZeroU32,
    /// Messages from one address, per minute.
    pub address_rate: NonZeroU32,
    /// What they may amount to, in KiB.
    pub address_kib: NonZeroU32,
    /// What is sent to all peers together in a minute, in KiB.
    pub send_kib: NonZeroU32,
    /// Memory for messages that wait to be sent, in KiB.
    pub queue_kib: NonZeroU32,
}

impl GossipConfig {
    pub(super) fn read(values: &Values) -> Result<Self, ConfigError> {
        let kib = |setting: &Setting| -> Result<NonZeroU32, ConfigError> {
            let bytes: u64 = values.integer(setting)?;
            Ok(u32::try_from(bytes >> 10).ok().and_then(NonZeroU32::new).unwrap_or(NonZeroU32::MAX))
        };
        Ok(Self {
            topics: values.required(&table::P2P_GOSSIP_TOPICS, parse::topics)?,
            rate: values.non_zero(&table::P2P_GOSSIP_RATE_LIMIT)?,
            kib: kib(&table::P2P_GOSSIP_BYTES)?,
            address_rate: values.non_zero(&table::P2P_GOSSIP_ADDRESS_RATE_LIMIT)?,
            address_kib: kib(&table::P2P_GOSSIP_ADDRESS_BYTES)?,
            send_kib: kib(&table::P2P_GOSSIP_SEND_BYTES)?,
            queue_kib: kib(&table::P2P_GOSSIP_QUEUE_BYTES)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use crate::config::Config;

    fn topics(text: &str) -> Option<Vec<String>> {
        Config::from_pairs([("RELAY_P2P_GOSSIP_TOPICS", text)]).ok().map(|config| config.p2p.gossip.topics)
    }

    #[test]
    fn topics_are_a_list_or_the_word_that_there_are_none() {
        assert_eq!(topics("").unwrap(), ["dusk/directory", "dusk/sync"]);
        assert_eq!(topics("a b, c").unwrap(), ["a b", "c"]);
        assert!(topics("none").unwrap().is_empty());
        let list = |count: usize| (0..count).map(|n| n.to_string()).collect::<Vec<_>>().join(",");
        assert_eq!(topics(&list(32)).unwrap().len(), 32);
        for bad in [list(33), "a,a".to_owned(), "t".repeat(256), "a,none".to_owned()] {
            assert_eq!(topics(&bad), None, "{bad}");
        }
    }

    #[test]
    fn bytes_are_counted_in_kib() {
        let config = Config::from_pairs([("RELAY_P2P_GOSSIP_BYTES", "131073")]).unwrap();
        assert_eq!(config.p2p.gossip.kib.get(), 128);
        assert!(Config::from_pairs([("RELAY_P2P_GOSSIP_BYTES", "65536")]).is_err(), "no room for the largest message");
    }
}
