//! One connection, as those who serve its streams know it.

use std::collections::VecDeque;
use std::fmt;
use std::net::IpAddr;
use std::sync::atomic::AtomicUsize;
use std::task::Waker;
use std::time::Duration;

use futures::future::BoxFuture;
use libp2p::multiaddr::Protocol;
use libp2p::swarm::ConnectionId;
use libp2p::{Multiaddr, PeerId, Stream, StreamProtocol};
use parking_lot::Mutex;
use sha2::{Digest, Sha256};
use tokio::sync::{oneshot, watch};

use crate::security::address::AddressKey;
use crate::security::limiter::DigestKey;
use crate::wire::p2p::peer_record::LEGACY;

use super::hold::Work;

/// Streams that may wait on one connection to be opened.
const MAX_WANTED: usize = 256;

/// How long a peer may take to say what it is, before it is taken for one that does not.
const INTRODUCTION: Duration = Duration::from_secs(2);

/// Why a stream was not opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// The connection has ended.
    #[error("the connection has ended")]
    Closed,
    /// Too many are being opened on it.
    #[error("too many streams are being opened on the connection")]
    Busy,
    /// The peer does not speak the protocol, or did not answer.
    #[error("the peer does not take the stream")]
    Refused,
}

/// What a connection's own task does besides.
pub type Carried = BoxFuture<'static, ()>;

/// Where a stream that was asked for goes.
pub(super) type Reply = oneshot::Sender<Result<Stream, OpenError>>;

/// A connection with a peer that has proven its id.
pub struct Connection {
    /// The peer.
    pub peer: PeerId,
    /// Its number in this process.
    pub id: ConnectionId,
    /// Where the peer is, as seen from here.
    pub remote: Multiaddr,
    /// What limits by address go by; nothing if the peer was not seen to come from an address.
    pub address: Option<AddressKey>,
    /// Whether it runs over a circuit, of this relay or another.
    pub relayed: bool,
    pub(super) holds: AtomicUsize,
    pub(super) serving: [AtomicUsize; Work::COUNT],
    /// In which form the peer signs peer records, once it has shown that: see [`crate::wire::p2p::peer_record::FORMS`].
    record_form: watch::Sender<Option<usize>>,
    wanted: Mutex<Wanted>,
}

#[derive(Default)]
struct Wanted {
    streams: VecDeque<(StreamProtocol, Reply)>,
    carried: Vec<Carried>,
    waker: Option<Waker>,
    closed: bool,
}

impl Connection {
    /// One that the peer made.
    pub(in crate::p2p) fn incoming(peer: PeerId, id: ConnectionId, remote: &Multiaddr) -> Self {
        let this = Self::outgoing(peer, id, remote);
        let address = if this.relayed { None } else { ip_of(remote).map(AddressKey::from) };
        Self { address, ..this }
    }

    /// One that this relay made: what it uses is not put on the account of where it leads to.
    pub(super) fn outgoing(peer: PeerId, id: ConnectionId, remote: &Multiaddr) -> Self {
        Self {
            peer,
            id,
            remote: remote.clone(),
            address: None,
            relayed: remote.iter().any(|part| part == Protocol::P2pCircuit),
            holds: AtomicUsize::new(0),
            serving: Default::default(),
            record_form: watch::Sender::new(None),
            wanted: Mutex::default(),
        }
    }

    /// Opens a stream to the peer. Bounded in time by the swarm, which gives a negotiation ten seconds.
    ///
    /// # Errors
    /// [`OpenError`].
    pub async fn open(&self, protocol: StreamProtocol) -> Result<Stream, OpenError> {
        let (reply, opened) = oneshot::channel();
        let waker = {
            let mut wanted = self.wanted.lock();
            if wanted.closed {
                return Err(OpenError::Closed);
            }
            if wanted.streams.len() >= MAX_WANTED {
                return Err(OpenError::Busy);
            }
            wanted.streams.push_back((protocol, reply));
            wanted.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
        opened.await.unwrap_or(Err(OpenError::Closed))
    }

    /// Has the connection's own task carry on `work`, which reads and writes streams of it: so what comes goes on without
    /// waking another task. When the connection ends it goes on in a task of its own: what came before can still be read.
    ///
    /// # Errors
    /// The work, if the connection has ended.
    pub fn carry(&self, work: Carried) -> Result<(), Carried> {
        let waker = {
            let mut wanted = self.wanted.lock();
            if wanted.closed {
                return Err(work);
            }
            wanted.carried.push(work);
            wanted.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
        Ok(())
    }

    /// What is to be carried on from now on.
    pub(super) fn newly_carried(&self) -> Vec<Carried> {
        std::mem::take(&mut self.wanted.lock().carried)
    }

    /// What limits by peer go by.
    #[must_use]
    pub fn peer_key(&self) -> DigestKey {
        let digest: [u8; 32] = Sha256::digest(self.peer.to_bytes()).into();
        DigestKey(std::array::from_fn(|at| digest[at]))
    }

    /// Whether it has ended. What its peer said before may still be read.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.wanted.lock().closed
    }

    /// The peer has signed a peer record in the form of that number, and reads no others.
    pub fn signs_in(&self, form: usize) {
        self.record_form.send_replace(Some(form));
    }

    /// By what it says that it is, the peer signs in the form of that number. What it has shown counts for more.
    pub fn seems_to_sign_in(&self, form: usize) {
        self.record_form.send_if_modified(|known| {
            let first = known.is_none();
            known.get_or_insert(form);
            first
        });
    }

    /// In which form it is told the records of others. Peers may ask before they have said what they are: that is waited
    /// for, but not for long.
    pub async fn record_form(&self) -> usize {
        let mut known = self.record_form.subscribe();
        let shown = tokio::time::timeout(INTRODUCTION, known.wait_for(Option::is_some)).await;
        if let Ok(Ok(form)) = shown {
            return form.unwrap_or(LEGACY);
        }
        self.seems_to_sign_in(LEGACY);
        LEGACY
    }

    /// The next stream to be opened; if there is none, `waker` is woken when there is, or when a hold ends.
    pub(super) fn next_wanted(&self, waker: &Waker) -> Option<(StreamProtocol, Reply)> {
        let mut wanted = self.wanted.lock();
        let next = wanted.streams.pop_front();
        if next.is_none() && !wanted.waker.as_ref().is_some_and(|known| known.will_wake(waker)) {
            wanted.waker = Some(waker.clone());
        }
        next
    }

    pub(super) fn wake(&self) {
        let waker = self.wanted.lock().waker.take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// No stream is opened any more; what was to be carried.
    pub(super) fn close(&self) -> Vec<Carried> {
        let (streams, carried) = {
            let mut wanted = self.wanted.lock();
            wanted.closed = true;
            wanted.waker = None;
            (std::mem::take(&mut wanted.streams), std::mem::take(&mut wanted.carried))
        };
        // Dropped outside of the lock: each tells who waits.
        drop(streams);
        carried
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").field("peer", &self.peer).field("id", &self.id).finish_non_exhaustive()
    }
}

/// The address at which a peer is, if it is known by one.
pub(in crate::p2p) fn ip_of(address: &Multiaddr) -> Option<IpAddr> {
    address.iter().find_map(|part| match part {
        Protocol::Ip4(v4) => Some(IpAddr::V4(v4)),
        Protocol::Ip6(v6) => Some(IpAddr::V6(v6)),
        _ => None,
    })
}
