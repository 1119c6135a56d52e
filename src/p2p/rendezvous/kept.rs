//! Registrations on disk and between nodes: one form for both.

use std::time::Duration;

use bytes::Bytes;
use libp2p::PeerId;
use sha2::{Digest, Sha256};

use crate::cluster::proto::{RendezvousEntry, RendezvousPage, RendezvousPull, RendezvousPut, frame::Body, reply};
use crate::cluster::{Cluster, Frames};
use crate::domain::clock::{Epoch, Millis};
use crate::observe::metrics::P2pMetrics;
use crate::p2p::gauge;
use crate::p2p::spread::{Account, Kind, Said};
use crate::runtime::slot::Slot;
use crate::wire::p2p::peer_record::FORMS;
use crate::wire::p2p::rendezvous::{MAX_NAMESPACE_BYTES, MAX_RECORD_BYTES};

use super::book::{Namespaces, Registration};
use super::limits::MAX_TTL;

/// Registrations.
pub struct Registrations;

impl Kind for Registrations {
    type Entry = Registration;
    type Index = Namespaces;
    type Told = RendezvousEntry;

    const NAME: &'static str = "rendezvous";
    const PREFIX: &'static [u8] = b"rendezvous/";
    const LONGEST: Duration = MAX_TTL;

    fn slot(cluster: &Cluster) -> &Slot<dyn Frames> {
        &cluster.services.rendezvous
    }

    fn key(registration: &Registration) -> Vec<u8> {
        let namespace = Sha256::digest(registration.namespace.as_bytes());
        [&namespace[..16], &registration.peer.to_bytes()].concat()
    }

    fn tell(registration: &Registration) -> RendezvousEntry {
        RendezvousEntry {
            namespace: registration.namespace.to_string(),
            peer: registration.peer.to_bytes().into(),
            record: registration.record.clone(),
            ttl_seconds: registration.ttl,
            until_ms: registration.until.0,
            stamp: registration.stamp.0,
            form: u32::try_from(registration.form).unwrap_or_default(),
            account: Account::tell(registration.account),
        }
    }

    fn heard(told: RendezvousEntry) -> Option<Registration> {
        let form = usize::try_from(told.form).ok().filter(|form| *form < FORMS.len())?;
        let fits = told.namespace.len() <= MAX_NAMESPACE_BYTES && told.record.len() <= MAX_RECORD_BYTES;
        let peer = PeerId::from_bytes(&told.peer).ok()?;
        fits.then(|| Registration {
            namespace: told.namespace.into(),
            peer,
            // What comes from another node is a part of all that came with it.
            record: Bytes::copy_from_slice(&told.record),
            ttl: told.ttl_seconds,
            until: Millis(told.until_ms),
            stamp: Epoch(told.stamp),
            form,
            account: Account::heard(told.account),
        })
    }

    fn stamp(told: &RendezvousEntry) -> Epoch {
        Epoch(told.stamp)
    }

    fn put(entries: Vec<RendezvousEntry>) -> Body {
        Body::RendezvousPut(RendezvousPut { entries })
    }

    fn pull(after: Epoch) -> Body {
        Body::RendezvousPull(RendezvousPull { after: after.0 })
    }

    fn page(entries: Vec<RendezvousEntry>) -> reply::Body {
        reply::Body::Rendezvous(RendezvousPage { entries })
    }

    fn said(body: Body) -> Option<Said<RendezvousEntry>> {
        match body {
            Body::RendezvousPut(put) => Some(Said::Put(put.entries)),
            Body::RendezvousPull(pull) => Some(Said::Pull(Epoch(pull.after))),
            _ => None,
        }
    }

    fn answered(body: reply::Body) -> Option<Vec<RendezvousEntry>> {
        match body {
            reply::Body::Rendezvous(page) => Some(page.entries),
            _ => None,
        }
    }

    fn report(metrics: &P2pMetrics, entries: usize, bytes: usize) {
        metrics.registrations.set(gauge(entries));
        metrics.registration_bytes.set(gauge(bytes));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::p2p::spread::{read, write};
    use crate::store::Write;

    #[test]
    fn what_was_written_is_read() {
        let written = Registration {
            namespace: "dusk/peers".into(),
            peer: PeerId::random(),
            record: vec![1; 300].into(),
            ttl: 7200,
            until: Millis(9),
            stamp: Epoch(7),
            form: 1,
            account: Account::heard(5),
        };
        let Write::Put { key, record } = write::<Registrations>(&written) else { panic!("not put") };
        assert!(key.starts_with(Registrations::PREFIX) && record.expires == Some(Millis(9)));
        assert_eq!(read::<Registrations>(&record), Some(written.clone()));
        for bad in [
            RendezvousEntry { namespace: "n".repeat(256), ..Registrations::tell(&written) },
            RendezvousEntry { record: vec![1; MAX_RECORD_BYTES + 1].into(), ..Registrations::tell(&written) },
            RendezvousEntry { peer: vec![1].into(), ..Registrations::tell(&written) },
            RendezvousEntry { form: 2, ..Registrations::tell(&written) },
        ] {
            assert_eq!(Registrations::heard(bad), None);
        }
    }
}
