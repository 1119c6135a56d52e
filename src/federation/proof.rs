//! How this node and those of other clusters prove themselves to each other, and for which relay each may speak.
//!
//! By a secret that they share, every node of which is as good as any other. Or by certificates, each of which speaks
//! for certain relays:
//!
//! 1. A relay that the operator lists with keys has one of these, and nothing else counts.
//! 2. Otherwise its certificate names it.
//! 3. A certificate that names no relay speaks for the one that it was first seen with: its key is remembered, durably,
//!    and that relay is met with no other key from then on.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rustls::{ClientConfig, ServerConfig};
use rustls_pki_types::ServerName;

use crate::config::Pins;
use crate::domain::ids::NodeId;
use crate::runtime::time;
use crate::security::peer_tls::{PeerTls, Shown};
use crate::security::relay_certificate::{KeyDigest, Naming, RelayCertificate};
use crate::security::reload::Reloaded;
use crate::security::tls::ClusterTls;
use crate::store::{Record, Records, StoreError};

/// Keys of relays that are remembered, at most: a federation has fewer, and a stranger cannot fill the disk.
const MAX_REMEMBERED: usize = 1000;

const PREFIX: &[u8] = b"relay/";

/// How often it is looked whether the certificate of the other side of a link is still good.
const LOOK: Duration = Duration::from_secs(5);

/// The name that is asked for where the host in a URL cannot be one.
const NO_NAME: &str = "peer.waystation.internal";

/// What clusters prove themselves by.
#[derive(Clone)]
pub enum PeerProof {
    /// Nothing, and without TLS.
    Nothing,
    /// A secret.
    Secret(ClusterTls),
    /// Certificates, and the keys that relays must have.
    Certificates(Reloaded<PeerTls>, Pins),
}

/// Which side of a link this node is on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    Called,
    Calling,
}

/// Why the other side is not spoken to: in one word for figures, and in several.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{detail}")]
pub struct Unfit {
    pub reason: &'static str,
    pub detail: String,
}

impl Unfit {
    pub fn new(reason: &'static str, detail: impl Into<String>) -> Self {
        Self { reason, detail: detail.into() }
    }
}

impl PeerProof {
    /// TLS for being called, as of now.
    pub fn server(&self) -> Option<Arc<ServerConfig>> {
        match self {
            Self::Nothing => None,
            Self::Secret(tls) => Some(tls.server.clone()),
            Self::Certificates(tls, _) => Some(tls.current().server.clone()),
        }
    }

    /// TLS for calling `host`, as of now, and the name to ask for.
    pub fn client(&self, host: &str) -> Option<(Arc<ClientConfig>, ServerName<'static>)> {
        match self {
            Self::Nothing => None,
            // Whichever node answers.
            Self::Secret(tls) => ClusterTls::any_node().ok().map(|name| (tls.client.clone(), name)),
            Self::Certificates(tls, _) => {
                let name = ServerName::try_from(host.to_owned()).or_else(|_| ServerName::try_from(NO_NAME)).ok()?;
                Some((tls.current().client.clone(), name))
            }
        }
    }

    /// Whether who showed this may speak for the relay of that id, now.
    pub async fn judge(
        &self,
        side: Side,
        relay: &NodeId,
        shown: &Shown,
        records: &Arc<dyn Records>,
    ) -> Result<(), Unfit> {
        let Self::Certificates(tls, pins) = self else { return Ok(()) };
        let certificate = certificate(tls, side, shown)?;
        let key = certificate.key;
        if let Some(listed) = pins.get(relay) {
            let other = || format!("relay {relay} has the key {key}, which RELAY_FEDERATION_PINS does not list for it");
            return if listed.contains(&key) { Ok(()) } else { Err(Unfit::new("other_key", other())) };
        }
        match certificate.naming(relay.as_str()) {
            Naming::This => Ok(()),
            Naming::Others => {
                Err(Unfit::new("not_named", format!("it says that it is {relay}, its certificate does not")))
            }
            Naming::None => match remembered(records, relay, key).await {
                Ok(Some(first)) if first == key => Ok(()),
                Ok(Some(first)) => {
                    let text = format!(
                        "relay {relay} has the key {key} and had {first} before: if that is right, list it in \
                         RELAY_FEDERATION_PINS"
                    );
                    Err(Unfit::new("other_key", text))
                }
                Ok(None) => Err(Unfit::new("too_many_keys", "the keys of too many relays are remembered")),
                Err(error) => Err(Unfit::new("store", format!("its key cannot be looked up: {error}"))),
            },
        }
    }

    /// Whether who was called and showed this may speak for any relay: for connections beside a link, on which none is
    /// named.
    pub async fn judge_any(&self, shown: &Shown, records: &Arc<dyn Records>) -> Result<(), Unfit> {
        let Self::Certificates(tls, pins) = self else { return Ok(()) };
        let certificate = certificate(tls, Side::Calling, shown)?;
        let scanned = records.scan(PREFIX, None, MAX_REMEMBERED, time::now()).await;
        let met = scanned.map_err(|error| Unfit::new("store", format!("its key cannot be looked up: {error}")))?;
        let met = met.iter().filter_map(|(row, first)| Some((relay_of(row)?, &*first.value)));
        match speaks_for_any(&certificate, pins, met) {
            true => Ok(()),
            false => Err(Unfit::new("other_key", format!("no relay is known to have the key {}", certificate.key))),
        }
    }

    /// Returns once what the other side showed is no longer good, by the clock or by files that have changed.
    pub async fn lapsed(&self, side: Side, shown: &Shown) -> Unfit {
        let Self::Certificates(tls, _) = self else { return std::future::pending().await };
        loop {
            tokio::time::sleep(LOOK).await;
            if let Err(lapsed) = check(tls, side, shown) {
                return lapsed;
            }
        }
    }
}

fn check(tls: &Reloaded<PeerTls>, side: Side, shown: &Shown) -> Result<(), Unfit> {
    let tls = tls.current();
    let checked = match side {
        Side::Called => tls.check_caller(shown),
        Side::Calling => tls.check_called(shown),
    };
    checked.map_err(|error| Unfit::new("lapsed", format!("its certificate is no longer good: {error}")))
}

/// What the other side showed, if it is good now.
fn certificate(tls: &Reloaded<PeerTls>, side: Side, shown: &Shown) -> Result<RelayCertificate, Unfit> {
    check(tls, side, shown)?;
    let none = || Unfit::new("no_certificate", "it shows no certificate that can be read");
    shown.leaf().and_then(RelayCertificate::read).ok_or_else(none)
}

/// Whether a certificate has a key that is listed for some relay; or, of relays for which none is listed, names one, or
/// has the key with which one was met first.
fn speaks_for_any<'a>(
    certificate: &RelayCertificate,
    pins: &Pins,
    met: impl IntoIterator<Item = (&'a str, &'a [u8])>,
) -> bool {
    let is_listed = |relay: &str| pins.keys().any(|listed| listed.as_str() == relay);
    pins.values().any(|keys| keys.contains(&certificate.key))
        || certificate.relays().any(|relay| !is_listed(relay))
        || met.into_iter().any(|(relay, key)| key == certificate.key.0 && !is_listed(relay))
}

/// The relay whose first key stands in that row.
fn relay_of(row: &[u8]) -> Option<&str> {
    str::from_utf8(row.strip_prefix(PREFIX)?).ok()
}

/// The key that a relay was first seen with, which is this one if there is no other; `None` if there is no room.
async fn remembered(
    records: &Arc<dyn Records>,
    relay: &NodeId,
    key: KeyDigest,
) -> Result<Option<KeyDigest>, StoreError> {
    let (row, now) = (Bytes::from([PREFIX, relay.as_str().as_bytes()].concat()), time::now());
    loop {
        if let Some(first) = records.get(&row, now).await? {
            // What cannot be read is no key that anybody has.
            return Ok(Some(KeyDigest(<[u8; 32]>::try_from(&*first.value).unwrap_or_default())));
        }
        if records.scan(PREFIX, None, MAX_REMEMBERED, now).await?.len() >= MAX_REMEMBERED {
            return Ok(None);
        }
        if records.put_new(row.clone(), Record::lasting(key.0.to_vec()), now).await? {
            tracing::info!(%relay, %key, "remembered the key of a relay");
            return Ok(Some(key));
        }
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair};

    use super::*;
    use crate::store::MemoryRecords;

    fn of(names: &[&str]) -> RelayCertificate {
        let params = CertificateParams::new(names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>()).unwrap();
        RelayCertificate::read(params.self_signed(&KeyPair::generate().unwrap()).unwrap().der()).unwrap()
    }

    #[test]
    fn beside_a_link_answers_only_who_could_speak_for_some_relay() {
        let (named, nameless) = (of(&["eu-1"]), of(&[]));
        let pins = |relay: &str, key| Pins::from([(relay.parse().unwrap(), vec![key])]);
        let other = KeyDigest([7; 32]);
        assert!(speaks_for_any(&named, &Pins::new(), []));
        assert!(!speaks_for_any(&named, &pins("eu-1", other), []));
        assert!(speaks_for_any(&named, &pins("eu-1", named.key), []));
        assert!(!speaks_for_any(&nameless, &Pins::new(), [("eu-1", &other.0[..])]));
        assert!(speaks_for_any(&nameless, &Pins::new(), [("eu-1", &nameless.key.0[..])]));
        assert!(!speaks_for_any(&nameless, &pins("eu-1", other), [("eu-1", &nameless.key.0[..])]));
        assert!(speaks_for_any(&nameless, &pins("us-1", nameless.key), []));
    }

    #[tokio::test]
    async fn the_first_key_of_a_relay_stays_and_there_is_room_for_so_many() {
        let records: Arc<dyn Records> = Arc::new(MemoryRecords::new(16 << 20));
        let relay = |number: usize| format!("relay-{number}").parse::<NodeId>().unwrap();
        for number in 0..MAX_REMEMBERED {
            let key = KeyDigest([number as u8; 32]);
            assert_eq!(remembered(&records, &relay(number), key).await.unwrap(), Some(key));
        }
        let other = KeyDigest([255; 32]);
        assert_eq!(remembered(&records, &relay(7), other).await.unwrap(), Some(KeyDigest([7; 32])));
        assert_eq!(remembered(&records, &relay(MAX_REMEMBERED), other).await.unwrap(), None);
    }
}
