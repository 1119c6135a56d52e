//! Messages between the devices of one client (section 4.5).
//!
//! Each device has a mailbox of its own, ordered by version. Which devices a client has had messages for is kept
//! with the records, so that a purge finds all their mailboxes.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::labels::DeviceHeader;
use super::session::{Over, Session};
use super::updates::message_key;
use super::{MAX_NAME_BYTES, MailboxService};
use crate::domain::mailbox::MailboxKey;
use crate::runtime::time;
use crate::store::{NewBlob, Record, StoreError};
use crate::wire::vauchi::payload::DeviceSyncMessage;

/// Most devices that a client may have messages for at one time.
const MAX_DEVICES: usize = 64;

/// A device is known this much longer than its messages, so that it need not be noted with each.
const NOTE_MARGIN: Duration = Duration::from_secs(24 * 3600);

impl MailboxService {
    /// Stores a message for another device of the connection's client.
    pub(super) fn device_message(
        &self,
        session: &Arc<Session>,
        id: &str,
        message: DeviceSyncMessage<'_>,
        frame_bytes: usize,
    ) {
        if message.identity_id != session.who.client_id {
            return self.inner.metrics.mailbox.ignore("identity");
        }
        if message.target_device_id.len() > MAX_NAME_BYTES || message.sender_device_id.len() > MAX_NAME_BYTES {
            return self.refuse(session, id, "name", frame_bytes);
        }
        let (client, device) = (&session.who.client_id, message.target_device_id.to_string());
        let blob = NewBlob {
            mailbox: MailboxKey::device(client, &device),
            message: message_key(client, &device, id),
            rank: message.version,
            from: session.from,
            header: DeviceHeader::encode(&device, &message.sender_device_id),
            receipt: Bytes::new(),
            body: message.encrypted_payload,
        };
        let (this, of, id, begun) = (self.clone(), session.clone(), id.to_owned(), Instant::now());
        self.work(session, false, frame_bytes, async move {
            if !of.may(Over::Devices).await {
                return this.failed(&id, "unproven");
            }
            match this.note_device(&of.who.client_id, &device).await {
                Ok(true) => this.put(&id, blob, this.inner.settings.quota, begun).await,
                Ok(false) => this.failed(&id, "devices"),
                Err(error) => {
                    this.store_failed("device", &error);
                    this.failed(&id, "store")
                }
            }
        });
    }

    /// Remembers that a client has messages for a device; false if it has them for too many.
    pub(super) async fn note_device(&self, client: &str, device: &str) -> Result<bool, StoreError> {
        let (now, records) = (time::now(), &self.inner.records);
        let (prefix, ttl) = (prefix(client), self.inner.settings.ttl);
        let key = Bytes::from([&*prefix, device.as_bytes()].concat());
        let known = records.get(&key, now).await?;
        let lasts = known.as_ref().and_then(|note| note.expires).is_some_and(|expires| expires > now.plus(ttl));
        if lasts {
            return Ok(true);
        }
        if known.is_none() && records.scan(&prefix, None, MAX_DEVICES, now).await?.len() >= MAX_DEVICES {
            return Ok(false);
        }
        records.put(key, Record::until(Bytes::new(), now.plus(ttl + NOTE_MARGIN)), now).await?;
        Ok(true)
    }

    /// The client and the device of each mailbox of a device that this node has had messages for.
    ///
    /// # Errors
    /// When the store fails.
    pub(super) async fn devices(&self) -> Result<HashMap<MailboxKey, (String, String)>, StoreError> {
        let (mut devices, mut after) = (HashMap::new(), None::<Bytes>);
        loop {
            let notes = self.inner.records.scan(DEVICES, after.as_deref(), 2 * MAX_DEVICES, time::now()).await?;
            let Some((last, _)) = notes.last() else { return Ok(devices) };
            after = Some(last.clone());
            for (key, _) in &notes {
                let named = std::str::from_utf8(&key[DEVICES.len()..]).ok().and_then(|rest| rest.split_once('/'));
                if let Some((client, device)) = named {
                    devices.insert(MailboxKey::device(client, device), (client.to_owned(), device.to_owned()));
                }
            }
        }
    }

    /// The mailboxes of all devices that a client has messages for at this node.
    ///
    /// # Errors
    /// When the store fails.
    pub(super) async fn device_mailboxes(&self, client: &str) -> Result<Vec<MailboxKey>, StoreError> {
        let prefix = prefix(client);
        let notes = self.inner.records.scan(&prefix, None, 2 * MAX_DEVICES, time::now()).await?;
        let device = |key: &Bytes| std::str::from_utf8(&key[prefix.len()..]).ok().map(str::to_owned);
        let devices = notes.iter().filter_map(|(key, _)| device(key));
        Ok(devices.map(|device| MailboxKey::device(client, &device)).collect())
    }
}

/// Where it is noted which devices clients have messages for.
const DEVICES: &[u8] = b"device/";

/// Client ids are of one length, so none is the beginning of another.
fn prefix(client: &str) -> Bytes {
    format!("device/{client}/").into()
}
