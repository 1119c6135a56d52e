//! Registrations on disk and between nodes: one form for both.

use bytes::Bytes;
use libp2p::PeerId;
use prost::Message;
use sha2::{Digest, Sha256};

use crate::cluster::proto::RendezvousEntry;
use crate::domain::clock::{Epoch, MAX_CLOCK_LEAD, Millis};
use crate::store::{Record, Write};
use crate::wire::p2p::peer_record::FORMS;
use crate::wire::p2p::rendezvous::{MAX_NAMESPACE_BYTES, MAX_RECORD_BYTES};

use super::book::Registration;
use super::limits::MAX_TTL;

/// What keys begin with.
pub const PREFIX: &[u8] = b"rendezvous/";

/// As it is told to other nodes.
#[must_use]
pub fn entry(registration: &Registration) -> RendezvousEntry {
    RendezvousEntry {
        namespace: registration.namespace.to_string(),
        peer: registration.peer.to_bytes().into(),
        record: registration.record.clone(),
        ttl_seconds: registration.ttl,
        until_ms: registration.until.0,
        stamp: registration.stamp.0,
        form: u32::try_from(registration.form).unwrap_or_default(),
    }
}

/// What another node, or the disk, tells; nothing, if it makes no sense: what a wild clock has made must not stand before
/// all that comes after it.
#[must_use]
pub fn registration(entry: RendezvousEntry, now: Millis) -> Option<Registration> {
    let latest = now.plus(MAX_CLOCK_LEAD);
    let timely = entry.stamp >> 16 <= latest.0 && entry.until_ms <= latest.plus(MAX_TTL).0;
    let form = usize::try_from(entry.form).ok().filter(|form| *form < FORMS.len())?;
    let fits = timely && entry.namespace.len() <= MAX_NAMESPACE_BYTES && entry.record.len() <= MAX_RECORD_BYTES;
    let peer = PeerId::from_bytes(&entry.peer).ok()?;
    fits.then(|| Registration {
        namespace: entry.namespace.into(),
        peer,
        // What comes from another node is a part of all that came with it.
        record: Bytes::copy_from_slice(&entry.record),
        ttl: entry.ttl_seconds,
        until: Millis(entry.until_ms),
        stamp: Epoch(entry.stamp),
        form,
        account: None,
    })
}

/// What makes it durable.
#[must_use]
pub fn write(registration: &Registration) -> Write {
    let namespace = Sha256::digest(registration.namespace.as_bytes());
    let key = [PREFIX, &namespace[..16], &registration.peer.to_bytes()].concat();
    Write::Put { key: key.into(), record: Record::until(entry(registration).encode_to_vec(), registration.until) }
}

/// What was made durable.
#[must_use]
pub fn read(record: &Record, now: Millis) -> Option<Registration> {
    registration(RendezvousEntry::decode(record.value.clone()).ok()?, now)
}

#[cfg(test)]
mod tests {
    use super::*;

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
            account: None,
        };
        let Write::Put { key, record } = write(&written) else { panic!("not put") };
        assert!(key.starts_with(PREFIX) && record.expires == Some(Millis(9)));
        assert_eq!(read(&record, Millis(1)), Some(written.clone()));
        let long = RendezvousEntry { namespace: "n".repeat(256), ..entry(&written) };
        assert_eq!(registration(long, Millis(1)), None);
        let lead = u64::try_from(MAX_CLOCK_LEAD.as_millis()).unwrap();
        let early = RendezvousEntry { stamp: (lead + 2) << 16, ..entry(&written) };
        assert_eq!(registration(early.clone(), Millis(1)), None);
        assert!(registration(early, Millis(2)).is_some());
        assert_eq!(registration(RendezvousEntry { until_ms: u64::MAX, ..entry(&written) }, Millis(1)), None);
        assert_eq!(registration(RendezvousEntry { form: 2, ..entry(&written) }, Millis(1)), None);
    }
}
