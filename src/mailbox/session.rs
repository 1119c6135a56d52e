//! What is known of a connection once it has said who it is.

use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::channel::Channel;
use super::flow::Flow;
use super::lane::Lane;
use crate::domain::clock::Millis;
use crate::domain::digest;
use crate::domain::mailbox::{MailboxKey, SenderKey};
use crate::runtime::time;
use crate::security::address::AddressKey;
use crate::security::ed25519::PublicKey;
use crate::security::limiter::{ConnectionLimiter, DigestKey};
use crate::wire::vauchi::handshake::Handshake;

/// Who is on a connection.
#[derive(Debug, Clone)]
pub(super) struct Identity {
    /// Its `client_id`.
    pub client_id: String,
    /// The name of its mailbox: the routing token if it has one, else the `client_id`.
    pub routing_id: String,
    /// Its device.
    pub device_id: Option<String>,
    /// The key that it proved; that of its `client_id`.
    pub key: Option<PublicKey>,
    /// Where it comes from.
    pub address: IpAddr,
    /// Whether senders are told nothing of what it receives.
    pub suppress_presence: bool,
    /// Whether it fetches what lies at other relays itself.
    pub accept_hints: bool,
}

impl Identity {
    /// Of a handshake that was checked.
    pub fn new(handshake: &Handshake<'_>, key: Option<PublicKey>, address: IpAddr) -> Self {
        Self {
            client_id: handshake.client_id.to_string(),
            routing_id: handshake.routing_id().to_owned(),
            device_id: handshake.device_id.as_deref().map(str::to_owned),
            key,
            address,
            suppress_presence: handshake.suppress_presence,
            accept_hints: handshake.accept_hints,
        }
    }

    /// Whether the mailbox is named by a routing token of its own.
    pub fn has_token(&self) -> bool {
        self.routing_id != self.client_id
    }
}

/// Acknowledgments of one session in a minute, and at once, for which every node is asked: those of messages that it is
/// not known to have been sent. More wait.
const ASKS: NonZeroU32 = NonZeroU32::new(3600).unwrap();

/// Most notices that are held until it is decided whether a session may be told.
const MAX_HELD: usize = 64;

/// Whether a session may read, acknowledge and purge, or only send.
#[derive(Debug, Default)]
pub(super) struct Right(AtomicU8);

const OPEN: u8 = 0;
const GRANTED: u8 = 1;
const DENIED: u8 = 2;
const DOUBTED: u8 = 3;

impl Right {
    /// What it is now, in doubt too; `None` while it is still to be found out.
    fn get(&self) -> Option<bool> {
        match self.0.load(Ordering::Acquire) {
            OPEN => None,
            right => Some(right == GRANTED),
        }
    }

    fn is_decided(&self) -> bool {
        matches!(self.0.load(Ordering::Acquire), GRANTED | DENIED)
    }

    /// From one to another; false if it was not that one.
    fn turn(&self, from: u8, to: u8) -> bool {
        self.0.compare_exchange(from, to, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }
}

/// Which right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Over {
    /// Over the mailbox of the routing id.
    Blobs,
    /// Over what the devices of the client tell each other.
    Devices,
}

/// A connection that has said who it is.
pub(super) struct Session {
    /// Tells it from the other sessions of this node.
    pub number: u64,
    /// When it began.
    pub opened: Millis,
    /// Who it is.
    pub who: Identity,
    /// Its mailbox.
    pub blobs: MailboxKey,
    /// The mailbox of its device.
    pub device: Option<MailboxKey>,
    /// Whose share of a mailbox counts what it sends.
    pub from: SenderKey,
    /// Its address, for the limits at the door.
    pub door: AddressKey,
    /// What its messages are limited by.
    pub bucket: DigestKey,
    /// What its recovery proofs are limited by.
    pub recovery_bucket: DigestKey,
    /// Where its frames go.
    pub channel: Channel,
    /// What is being done for it.
    pub lane: Lane,
    /// How far its mailboxes have been delivered.
    pub flow: Mutex<Flow>,
    /// Held while senders are told that this session was sent their blobs, so that they are told of its
    /// acknowledgments afterwards.
    pub notices: tokio::sync::Mutex<()>,
    /// How often it may have every node asked.
    pub asks: ConnectionLimiter,
    over_blobs: Right,
    over_devices: Right,
    decided: Notify,
    /// What it may be told of what it has sent, before it is decided whether it may be told.
    held: Mutex<Vec<Bytes>>,
    /// When something was last said on it, either way, in milliseconds since 1970.
    active: AtomicU64,
}

impl Session {
    /// A session that may not read before it is decided.
    pub fn new(number: u64, who: Identity, channel: Channel) -> Self {
        let door = AddressKey::from(who.address);
        let address = format!("{door:?}");
        let (identity, bucket) = match &who.key {
            Some(key) => (short(&[b"key", &key.0]), short(&[b"key", &key.0])),
            None => (
                short(&[b"address", address.as_bytes()]),
                short(&[b"name", address.as_bytes(), who.routing_id.as_bytes()]),
            ),
        };
        Self {
            number,
            opened: time::now(),
            blobs: MailboxKey::blobs(&who.routing_id),
            device: who.device_id.as_ref().map(|device| MailboxKey::device(&who.client_id, device)),
            who,
            from: SenderKey(identity),
            door,
            bucket: DigestKey(bucket),
            recovery_bucket: DigestKey(identity),
            channel,
            lane: Lane::default(),
            flow: Mutex::default(),
            notices: tokio::sync::Mutex::default(),
            asks: ConnectionLimiter::new(ASKS),
            over_blobs: Right::default(),
            over_devices: Right::default(),
            decided: Notify::new(),
            held: Mutex::default(),
            active: AtomicU64::new(time::now().0),
        }
    }

    /// One of its mailboxes; it may have no device.
    pub fn mailbox(&self, over: Over) -> Option<MailboxKey> {
        match over {
            Over::Blobs => Some(self.blobs),
            Over::Devices => self.device,
        }
    }

    /// Whether a mailbox is one of its own.
    pub fn reads(&self, mailbox: &MailboxKey) -> bool {
        self.blobs == *mailbox || self.device == Some(*mailbox)
    }

    fn right(&self, over: Over) -> &Right {
        match over {
            Over::Blobs => &self.over_blobs,
            Over::Devices => &self.over_devices,
        }
    }

    /// Grants a right, unless it was denied meanwhile. True if it was in doubt, and nobody waits for it any more.
    pub fn grant(&self, over: Over) -> bool {
        // What is told meanwhile waits, and comes after what was held.
        let mut held = self.held.lock();
        let right = self.right(over);
        // Where it was denied already, that stands.
        let was_doubted = !right.turn(OPEN, GRANTED) && right.turn(DOUBTED, GRANTED);
        self.decided.notify_waiters();
        if over == Over::Blobs {
            for notice in std::mem::take(&mut *held) {
                self.tell_now(notice);
            }
        }
        was_doubted
    }

    /// Whether the session has a right cannot be found out now: until it is, it has not. True if it was still open.
    pub fn doubt(&self, over: Over) -> bool {
        let is_new = self.right(over).turn(OPEN, DOUBTED);
        self.decided.notify_waiters();
        is_new
    }

    /// Tells it what became of a message that it has sent, as soon as it is decided that it may be told. False if it is
    /// not told.
    pub fn tell(&self, notice: Bytes) -> bool {
        let mut held = self.held.lock();
        if self.right(Over::Blobs).is_decided() {
            return self.tell_now(notice);
        }
        let has_room = held.len() < MAX_HELD;
        if has_room {
            held.push(notice);
        }
        has_room
    }

    /// Nobody asked for it, so it must not be what cuts a slow reader off.
    fn tell_now(&self, notice: Bytes) -> bool {
        self.may_now(Over::Blobs) && self.channel.outbox.has_room(notice.len()) && self.send(notice)
    }

    /// Takes a right away, for good. False if it was taken before.
    pub fn deny(&self, over: Over) -> bool {
        let before = self.right(over).0.swap(DENIED, Ordering::AcqRel);
        self.decided.notify_waiters();
        before != DENIED
    }

    /// Whether no right is open or in doubt.
    pub fn is_decided(&self) -> bool {
        self.over_blobs.is_decided() && self.over_devices.is_decided()
    }

    /// Waits until a right is decided, or in doubt; what it is then.
    pub async fn may(&self, over: Over) -> bool {
        loop {
            let decided = self.decided.notified();
            tokio::pin!(decided);
            decided.as_mut().enable();
            if let Some(granted) = self.right(over).get() {
                return granted;
            }
            decided.await;
        }
    }

    /// Whether a right is granted now.
    pub fn may_now(&self, over: Over) -> bool {
        self.right(over).get() == Some(true)
    }

    /// Something was said on the connection.
    pub fn touch(&self) {
        self.active.store(time::now().0, Ordering::Relaxed);
    }

    /// How long nothing has been said.
    pub fn idle(&self) -> std::time::Duration {
        time::now().since(Millis(self.active.load(Ordering::Relaxed)))
    }

    /// Queues a frame, whatever waits. False if the connection takes nothing more.
    pub fn send(&self, frame: Bytes) -> bool {
        self.touch();
        self.channel.send(frame)
    }
}

pub(super) fn short(parts: &[&[u8]]) -> [u8; 16] {
    let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, ..] = digest(parts);
    [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p]
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use crate::runtime::outbox::Outbox;

    fn session(address: u8, token: Option<&str>, key: Option<u8>) -> Session {
        let handshake = Handshake { routing_token: token.map(Into::into), ..Handshake::plain("client", None) };
        let key = key.map(|byte| PublicKey([byte; 32]));
        Session::new(
            0,
            Identity::new(&handshake, key, Ipv4Addr::new(10, 0, 0, address).into()),
            Channel::plain(Outbox::new(100)),
        )
    }

    #[test]
    fn a_stranger_is_known_by_its_address_and_a_proven_client_by_its_key() {
        let stranger = session(1, None, None);
        assert_eq!(stranger.from, session(1, Some("other"), None).from);
        assert_ne!(stranger.from, session(2, None, None).from);
        assert_ne!(stranger.bucket, session(1, Some("other"), None).bucket);
        assert_ne!(stranger.bucket, session(2, None, None).bucket, "a stranger cannot use up another's rate");
        let proven = session(1, None, Some(1));
        assert_eq!(proven.from, session(2, Some("other"), Some(1)).from);
        assert_eq!(proven.bucket, session(2, Some("other"), Some(1)).bucket);
        assert_ne!(proven.from, session(1, None, Some(2)).from);
    }

    #[test]
    fn every_node_is_asked_for_it_only_so_often() {
        let session = session(1, None, None);
        let asked = (0..2 * ASKS.get()).filter(|_| session.asks.check()).count();
        // Some come back while this runs.
        assert!((3600..4600).contains(&asked), "{asked}");
    }

    #[tokio::test]
    async fn what_became_of_its_messages_is_told_in_order_once_it_may_be_told() {
        let (granted, denied) = (session(1, None, None), session(1, None, None));
        for session in [&granted, &denied] {
            assert!(session.tell("1".into()) && session.tell("2".into()));
            assert!(session.channel.outbox.queued_bytes() == 0);
        }
        granted.grant(Over::Blobs);
        denied.deny(Over::Blobs);
        assert!(granted.channel.outbox.queued_bytes() > 0 && granted.tell("3".into()));
        assert!(denied.channel.outbox.queued_bytes() == 0 && !denied.tell("3".into()));
        let full = session(1, None, None);
        assert_eq!((0..100).filter(|_| full.tell("x".into())).count(), MAX_HELD);
    }

    #[tokio::test]
    async fn a_right_that_was_taken_is_not_granted_again() {
        let session = session(1, None, None);
        assert!(session.deny(Over::Blobs));
        session.grant(Over::Blobs);
        session.grant(Over::Devices);
        assert!(!session.may(Over::Blobs).await && session.may(Over::Devices).await);
        assert!(session.deny(Over::Devices) && !session.deny(Over::Devices));
        assert!(!session.may_now(Over::Devices));
    }

    #[tokio::test]
    async fn a_right_in_doubt_is_none_until_it_is_granted_and_what_is_told_meanwhile_is_kept() {
        let (free, owned) = (session(1, None, None), session(1, None, None));
        for session in [&free, &owned] {
            assert!(session.doubt(Over::Blobs) && !session.doubt(Over::Blobs));
            assert!(!session.may(Over::Blobs).await && session.tell("1".into()));
        }
        assert!(owned.deny(Over::Blobs) && !owned.doubt(Over::Blobs) && !owned.grant(Over::Blobs));
        assert!(!owned.may_now(Over::Blobs) && owned.channel.outbox.queued_bytes() == 0);
        assert!(free.grant(Over::Blobs) && !free.grant(Over::Blobs) && !free.grant(Over::Devices));
        assert!(free.may(Over::Blobs).await && free.channel.outbox.queued_bytes() > 0);
        assert!(!free.doubt(Over::Blobs) && free.may_now(Over::Blobs));
        assert!(free.is_decided() && !owned.is_decided());
    }
}
