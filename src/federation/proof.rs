//! How this node and those of other clusters prove themselves to each other, and for which relay each may speak.
//!
//! By a secret that they share, every node of which is as good as any other. Or by certificates, each of which speaks
//! for certain relays:
//!
//! 1. A relay that the operator lists with keys has one of these, and nothing else counts.
//! 2. Otherwise its certificate names it.
//! 3. A certificate that names no relay speaks for the one that it was first seen with: see
//!    [`first_keys`](super::first_keys).

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use rustls::{ClientConfig, ServerConfig};
use rustls_pki_types::ServerName;
use tokio::sync::watch;

use super::first_keys::FirstKeys;
use crate::cluster::links::stream::Origin;
use crate::cluster::shares::Party;
use crate::config::Pins;
use crate::domain::ids::NodeId;
use crate::security::peer_tls::{PeerTls, Shown};
use crate::security::relay_certificate::{KeyDigest, Naming, RelayCertificate};
use crate::security::reload::Reloaded;
use crate::security::tls::ClusterTls;

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

    /// Whose share of what is bounded is taken by whoever calls from there and showed this, before it says which relay it
    /// is.
    pub fn party(&self, address: IpAddr, shown: &Shown) -> Party {
        match self.shown(shown) {
            Some((key, true)) => Party::SomeOf(key),
            Some((key, false)) => Party::Key(key),
            None => Party::at(address),
        }
    }

    /// The same, of one that says that it is this relay, and for which that has been [judged](Self::judge).
    pub fn party_of(&self, relay: &NodeId, origin: &Origin) -> Party {
        // Whoever has gone already shares with all who have.
        let address = origin.address.map_or(Ipv4Addr::UNSPECIFIED.into(), |address| address.ip());
        match self.shown(&origin.shown) {
            Some((key, true)) => Party::OneOf(key, relay.clone()),
            Some((key, false)) => Party::Key(key),
            None => Party::Relay(relay.clone(), address.into()),
        }
    }

    /// The key that was proven, and whether it may speak for several relays: its certificate names them, or the operator
    /// lists it for them. With a secret all have the same, which says nothing of who it is.
    fn shown(&self, shown: &Shown) -> Option<(KeyDigest, bool)> {
        let Self::Certificates(_, pins) = self else { return None };
        let certificate = shown.leaf().and_then(RelayCertificate::read)?;
        let mut listed = pins.values().filter(|keys| keys.contains(&certificate.key));
        Some((certificate.key, certificate.relays().nth(1).is_some() || listed.nth(1).is_some()))
    }

    /// Whether who showed this may speak for the relay of that id, now. On a link all nodes of this cluster are asked who
    /// has met it; `beside` one it is enough that this node has.
    pub async fn judge(
        &self,
        side: Side,
        relay: &NodeId,
        shown: &Shown,
        first_keys: &FirstKeys,
        beside: bool,
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
            Naming::None if beside && first_keys.has_met(relay, key).await? => Ok(()),
            Naming::None => first_keys.meet(relay, key).await,
        }
    }

    /// Whether who was called and showed this may speak for any relay: for connections beside a link, on which none is
    /// named.
    pub async fn judge_any(&self, shown: &Shown, first_keys: &FirstKeys) -> Result<(), Unfit> {
        let Self::Certificates(tls, pins) = self else { return Ok(()) };
        let certificate = certificate(tls, Side::Calling, shown)?;
        let met = match certificate.relays().next() {
            Some(_) => None,
            None => first_keys.relay_of(certificate.key).await?,
        };
        match speaks_for_any(&certificate, pins, met.as_deref()) {
            true => Ok(()),
            false => Err(Unfit::new("other_key", format!("no relay is known to have the key {}", certificate.key))),
        }
    }

    /// Returns once what the other side showed is no longer good, by the clock or by files that have changed.
    pub async fn lapsed(&self, side: Side, shown: &Shown) -> Unfit {
        let Self::Certificates(tls, _) = self else { return std::future::pending().await };
        let mut changes = self.changes();
        loop {
            tokio::select! {
                () = tokio::time::sleep(LOOK) => {}
                () = changes.next() => {}
            }
            if let Err(lapsed) = check(tls, side, shown) {
                return lapsed;
            }
        }
    }

    /// Changes of the files of certificates, from now on.
    pub fn changes(&self) -> Changes {
        Changes(match self {
            Self::Certificates(tls, _) => Some(tls.changes()),
            Self::Nothing | Self::Secret(_) => None,
        })
    }
}

/// Changes of the files of certificates.
pub struct Changes(Option<watch::Receiver<()>>);

impl Changes {
    /// Those until now are none.
    pub fn forget(&mut self) {
        if let Some(changes) = &mut self.0 {
            changes.mark_unchanged();
        }
    }

    /// Returns once there is one that has not been returned for, and is in force.
    pub async fn next(&mut self) {
        if let Some(changes) = &mut self.0
            && changes.changed().await.is_ok()
        {
            return;
        }
        std::future::pending().await
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
fn speaks_for_any(certificate: &RelayCertificate, pins: &Pins, met: Option<&str>) -> bool {
    let is_listed = |relay: &str| pins.keys().any(|listed| listed.as_str() == relay);
    pins.values().any(|keys| keys.contains(&certificate.key))
        || certificate.relays().chain(met).any(|relay| !is_listed(relay))
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair};

    use super::*;

    fn of(names: &[&str]) -> RelayCertificate {
        let params = CertificateParams::new(names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>()).unwrap();
        RelayCertificate::read(params.self_signed(&KeyPair::generate().unwrap()).unwrap().der()).unwrap()
    }

    #[test]
    fn beside_a_link_answers_only_who_could_speak_for_some_relay() {
        let (named, nameless) = (of(&["eu-1"]), of(&[]));
        let pins = |relay: &str, key| Pins::from([(relay.parse().unwrap(), vec![key])]);
        let other = KeyDigest([7; 32]);
        assert!(speaks_for_any(&named, &Pins::new(), None));
        assert!(!speaks_for_any(&named, &pins("eu-1", other), None));
        assert!(speaks_for_any(&named, &pins("eu-1", named.key), None));
        assert!(!speaks_for_any(&nameless, &Pins::new(), None));
        assert!(speaks_for_any(&nameless, &Pins::new(), Some("eu-1")));
        assert!(!speaks_for_any(&nameless, &pins("eu-1", other), Some("eu-1")));
        assert!(speaks_for_any(&nameless, &pins("us-1", nameless.key), None));
    }
}
