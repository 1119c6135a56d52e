//! The sealed gossip datagram.
//!
//! ```text
//! magic 2 | version 1 | cluster tag 4 | nonce 12 | message 4 | part 1 | parts 1 | ciphertext | tag 16
//! ```
//!
//! ChaCha20-Poly1305 (RFC 8439) with a key that only nodes of the cluster know; everything before the
//! ciphertext is authenticated with it. A payload that is too long for one UDP datagram travels in two parts
//! of one message number, joined again by [`Joiner`].
//!
//! Nonces are random. All nodes seal with one key; 20 nodes that each send 100 datagrams a second send 2^36 a
//! year, and the chance that any two of those share a nonce is 2^-25.
//!
//! A recorded datagram can be sent again. Gossip survives that: its heartbeats and versions only grow, so what
//! was taken in once changes nothing the second time.

use std::collections::VecDeque;
use std::fmt;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use aws_lc_rs::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use sha2::{Digest, Sha256};

use crate::domain::ids::ClusterId;

/// Longest UDP payload over IPv4: 65,535 less 20 bytes of IP header and 8 of UDP.
pub const MAX_DATAGRAM_BYTES: usize = 65_507;

/// Longest payload that is sealed: as long as the gossip library's own datagrams get.
pub const MAX_PAYLOAD_BYTES: usize = MAX_DATAGRAM_BYTES;

/// Longest payload of one datagram.
pub const MAX_PART_BYTES: usize = MAX_DATAGRAM_BYTES - HEADER_BYTES - TAG_BYTES;

/// Most parts of one payload. Two suffice: see [`MAX_PAYLOAD_BYTES`] and [`MAX_PART_BYTES`].
pub const MAX_PARTS: u8 = 2;

/// Most messages of which a part is awaited.
pub const MAX_UNFINISHED: usize = 64;

/// Most of them from one address.
pub const MAX_UNFINISHED_PER_SENDER: usize = 4;

/// How long the other part is awaited.
pub const UNFINISHED_LIFE: Duration = Duration::from_secs(2);

const MAGIC: [u8; 2] = [0x57, 0xa7];
const VERSION: u8 = 1;
const NONCE_BYTES: usize = 12;
const HEADER_BYTES: usize = 2 + 1 + 4 + NONCE_BYTES + 4 + 1 + 1;
const TAG_BYTES: usize = 16;

const _: () = assert!(MAX_PAYLOAD_BYTES <= MAX_PART_BYTES * MAX_PARTS as usize);

/// Why a datagram was thrown away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Rejected {
    /// Not of this protocol.
    #[error("not a gossip datagram: something else sends to the gossip port")]
    Malformed,
    /// Of a later or earlier release.
    #[error("gossip of another version: upgrade the older nodes")]
    Version,
    /// Of another cluster.
    #[error("gossip of another cluster: compare the cluster ids and the seeds")]
    ClusterId,
    /// Not sealed with our key, or damaged on the way.
    #[error("gossip that is not sealed with our key: compare the cluster secrets")]
    Seal,
}

impl Rejected {
    /// One word for the metric.
    #[must_use]
    pub fn reason(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::Version => "version",
            Self::ClusterId => "cluster_id",
            Self::Seal => "seal",
        }
    }
}

/// Why a payload was not sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// Longer than [`MAX_PAYLOAD_BYTES`].
    #[error("a gossip message of {0} bytes is too long: publish fewer or shorter facts")]
    TooLong(usize),
    /// The cryptographic library refused; it does so for lengths only, which are fixed here.
    #[error("a gossip message could not be sealed: report this as a bug")]
    Refused,
}

/// One part of a payload, opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    message: [u8; 4],
    index: u8,
    parts: u8,
    payload: Vec<u8>,
}

/// Seals and opens the datagrams of one cluster.
pub struct Sealer {
    key: LessSafeKey,
    cluster: [u8; 4],
}

impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sealer").field("cluster", &self.cluster).finish_non_exhaustive()
    }
}

impl Sealer {
    /// With the cluster's gossip key.
    ///
    /// # Errors
    /// [`SealError::Refused`], which no key of 32 bytes causes.
    pub fn new(key: &[u8; 32], cluster: &ClusterId) -> Result<Self, SealError> {
        let hash = Sha256::new().chain_update(b"waystation gossip\0").chain_update(cluster.as_str());
        let [a, b, c, d, ..]: [u8; 32] = hash.finalize().into();
        let key = UnboundKey::new(&CHACHA20_POLY1305, key).map_err(|_| SealError::Refused)?;
        Ok(Self { key: LessSafeKey::new(key), cluster: [a, b, c, d] })
    }

    /// The datagrams that carry `payload`: one, or two if it is long. `nonce` must give another random number
    /// at each call.
    ///
    /// # Errors
    /// [`SealError`].
    pub fn seal(&self, payload: &[u8], mut nonce: impl FnMut() -> [u8; 12]) -> Result<Vec<Vec<u8>>, SealError> {
        if payload.len() > MAX_PAYLOAD_BYTES {
            return Err(SealError::TooLong(payload.len()));
        }
        let [a, b, c, d, ..] = nonce();
        let message = [a, b, c, d];
        if payload.len() <= MAX_PART_BYTES {
            return Ok(vec![self.seal_part(payload, nonce(), message, 0, 1)?]);
        }
        let (first, second) = payload.split_at(payload.len() / 2);
        Ok(vec![self.seal_part(first, nonce(), message, 0, 2)?, self.seal_part(second, nonce(), message, 1, 2)?])
    }

    fn seal_part(&self, part: &[u8], nonce: [u8; 12], message: [u8; 4], i: u8, of: u8) -> Result<Vec<u8>, SealError> {
        let mut out = Vec::with_capacity(HEADER_BYTES + part.len() + TAG_BYTES);
        out.extend_from_slice(&MAGIC);
        out.push(VERSION);
        out.extend_from_slice(&self.cluster);
        out.extend_from_slice(&nonce);
        out.extend_from_slice(&message);
        out.extend_from_slice(&[i, of]);
        out.extend_from_slice(part);
        let (header, text) = out.split_at_mut(HEADER_BYTES);
        let tag = self
            .key
            .seal_in_place_separate_tag(Nonce::assume_unique_for_key(nonce), Aad::from(&*header), text)
            .map_err(|_| SealError::Refused)?;
        out.extend_from_slice(tag.as_ref());
        Ok(out)
    }

    /// Opens one datagram.
    ///
    /// # Errors
    /// [`Rejected`]; the seal is looked at last, so that a node of another release or cluster is told from an
    /// intruder.
    pub fn open(&self, datagram: &[u8]) -> Result<Part, Rejected> {
        let (header, sealed) = datagram.split_first_chunk::<HEADER_BYTES>().ok_or(Rejected::Malformed)?;
        let [m0, m1, version, c0, c1, c2, c3, rest @ ..] = header;
        if [*m0, *m1] != MAGIC || sealed.len() < TAG_BYTES {
            return Err(Rejected::Malformed);
        }
        if *version != VERSION {
            return Err(Rejected::Version);
        }
        if [*c0, *c1, *c2, *c3] != self.cluster {
            return Err(Rejected::ClusterId);
        }
        let (nonce, info) = rest.split_first_chunk::<NONCE_BYTES>().ok_or(Rejected::Malformed)?;
        let &[n0, n1, n2, n3, index, parts] = info else { return Err(Rejected::Malformed) };
        let mut payload = sealed.to_vec();
        let length = self
            .key
            .open_in_place(Nonce::assume_unique_for_key(*nonce), Aad::from(header), &mut payload)
            .map_err(|_| Rejected::Seal)?
            .len();
        payload.truncate(length);
        if parts == 0 || parts > MAX_PARTS || index >= parts {
            return Err(Rejected::Malformed);
        }
        Ok(Part { message: [n0, n1, n2, n3], index, parts, payload })
    }
}

/// Puts the parts of a payload together. Bounded in number and time; when there is no room the oldest goes.
#[derive(Debug, Default)]
pub struct Joiner {
    /// Oldest first: all are kept for the same time.
    waiting: VecDeque<Waiting>,
    lost: u64,
}

#[derive(Debug)]
struct Waiting {
    from: SocketAddr,
    since: Instant,
    part: Part,
}

impl Joiner {
    /// Takes in a part that came from `from` at `now`; gives the payload once it is whole.
    pub fn join(&mut self, from: SocketAddr, part: Part, now: Instant) -> Option<Vec<u8>> {
        self.expire(now);
        if part.parts == 1 {
            return Some(part.payload);
        }
        let same = |w: &Waiting| w.from == from && w.part.message == part.message && w.part.parts == part.parts;
        let Some(at) = self.waiting.iter().position(same) else {
            self.wait(Waiting { from, since: now, part });
            return None;
        };
        if self.waiting.get(at).is_some_and(|w| w.part.index == part.index) {
            return None;
        }
        let other = self.waiting.remove(at)?.part;
        let (first, second) = if other.index < part.index { (other, part) } else { (part, other) };
        let mut whole = first.payload;
        whole.extend_from_slice(&second.payload);
        Some(whole)
    }

    /// How many parts were given up since the last call, because the other one did not come or for want of room.
    pub fn take_lost(&mut self) -> u64 {
        std::mem::take(&mut self.lost)
    }

    fn expire(&mut self, now: Instant) {
        while self.waiting.front().is_some_and(|w| now.saturating_duration_since(w.since) >= UNFINISHED_LIFE) {
            self.give_up(0);
        }
    }

    fn wait(&mut self, new: Waiting) {
        let mut of_sender = self.waiting.iter().enumerate().filter(|(_, w)| w.from == new.from).map(|(i, _)| i);
        let oldest = of_sender.next();
        if let Some(oldest) = oldest.filter(|_| 1 + of_sender.count() >= MAX_UNFINISHED_PER_SENDER) {
            self.give_up(oldest);
        } else if self.waiting.len() >= MAX_UNFINISHED {
            self.give_up(0);
        }
        self.waiting.push_back(new);
    }

    fn give_up(&mut self, at: usize) {
        self.lost += u64::from(self.waiting.remove(at).is_some());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sealer(key: u8, cluster: &str) -> Sealer {
        Sealer::new(&[key; 32], &cluster.parse().unwrap()).unwrap()
    }

    /// Another nonce at each call.
    fn nonces() -> impl FnMut() -> [u8; 12] {
        let mut next = 0u64;
        move || {
            next += 1;
            let mut nonce = [0; 12];
            nonce[..8].copy_from_slice(&next.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes());
            nonce
        }
    }

    fn from(port: u16) -> SocketAddr {
        ([127, 0, 0, 1], port).into()
    }

    fn half(message: u8, index: u8) -> Part {
        Part { message: [message; 4], index, parts: 2, payload: vec![index; 3] }
    }

    #[test]
    fn a_long_payload_travels_in_two_datagrams_in_any_order() {
        let (sealer, payload) = (sealer(1, "c"), vec![9; MAX_PAYLOAD_BYTES]);
        let mut parts = sealer.seal(&payload, nonces()).unwrap();
        assert_eq!(parts.len(), 2);
        assert!(parts.iter().all(|p| p.len() <= MAX_DATAGRAM_BYTES));
        parts.reverse();
        let (mut joiner, now) = (Joiner::default(), Instant::now());
        let joined: Vec<_> = parts.iter().map(|p| joiner.join(from(1), sealer.open(p).unwrap(), now)).collect();
        assert_eq!(joined, [None, Some(payload)]);
        assert!(sealer.seal(&vec![9; MAX_PAYLOAD_BYTES + 1], nonces()).is_err());
    }

    #[test]
    fn the_reason_is_told() {
        let ours = sealer(1, "c");
        let open = |from: &Sealer| ours.open(&from.seal(b"hello", nonces()).unwrap()[0]);
        assert_eq!(open(&sealer(1, "d")), Err(Rejected::ClusterId));
        assert_eq!(open(&sealer(2, "c")), Err(Rejected::Seal));
        assert_eq!(ours.open(b"GET / HTTP/1.1"), Err(Rejected::Malformed));
        let mut later = ours.seal(b"hello", nonces()).unwrap().remove(0);
        later[2] = 2;
        assert_eq!(ours.open(&later), Err(Rejected::Version));
        later.truncate(HEADER_BYTES + TAG_BYTES - 1);
        assert_eq!(ours.open(&later), Err(Rejected::Malformed));
    }

    #[test]
    fn parts_of_different_senders_or_messages_are_not_mixed() {
        let (mut joiner, now) = (Joiner::default(), Instant::now());
        assert_eq!(joiner.join(from(1), half(1, 0), now), None);
        assert_eq!(joiner.join(from(2), half(1, 1), now), None);
        assert_eq!(joiner.join(from(1), half(2, 1), now), None);
        assert_eq!(joiner.join(from(1), half(1, 0), now), None, "a part that comes twice does not finish it");
        assert_eq!(joiner.join(from(1), half(1, 1), now), Some(vec![0, 0, 0, 1, 1, 1]));
    }

    #[test]
    fn a_part_is_given_up_after_its_life() {
        let (mut joiner, start) = (Joiner::default(), Instant::now());
        assert_eq!(joiner.join(from(1), half(1, 0), start), None);
        assert_eq!(joiner.join(from(1), half(1, 1), start + UNFINISHED_LIFE), None);
        assert_eq!(joiner.take_lost(), 1);
        assert_eq!(joiner.take_lost(), 0);
    }

    #[test]
    fn what_waits_is_bounded_per_sender_and_in_all() {
        let (mut joiner, now) = (Joiner::default(), Instant::now());
        for message in 0..10 {
            joiner.join(from(1), half(message, 0), now);
        }
        assert_eq!(joiner.waiting.len(), MAX_UNFINISHED_PER_SENDER);
        assert_eq!(joiner.join(from(1), half(9, 1), now), Some(vec![0, 0, 0, 1, 1, 1]), "the newest are kept");
        for port in 2..200 {
            joiner.join(from(port), half(0, 0), now);
        }
        assert_eq!(joiner.waiting.len(), MAX_UNFINISHED);
        assert_eq!(joiner.take_lost(), 10 + 198 - 1 - MAX_UNFINISHED as u64);
    }

    proptest! {
        #[test]
        fn what_is_sealed_opens(payload in prop::collection::vec(any::<u8>(), 0..2000), long in 0usize..2) {
            let mut payload = payload;
            payload.resize(payload.len() + long * 63_500, 5);
            let (sealer, mut joiner, mut whole) = (sealer(1, "c"), Joiner::default(), None);
            for datagram in sealer.seal(&payload, nonces()).unwrap() {
                whole = joiner.join(from(1), sealer.open(&datagram).unwrap(), Instant::now());
            }
            prop_assert_eq!(whole, Some(payload));
        }

        #[test]
        fn any_bit_flipped_is_refused(payload in prop::collection::vec(any::<u8>(), 0..100), at: prop::sample::Index) {
            let sealer = sealer(1, "c");
            let mut datagram = sealer.seal(&payload, nonces()).unwrap().remove(0);
            let bit = at.index(datagram.len() * 8);
            datagram[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(sealer.open(&datagram).is_err());
        }

        #[test]
        fn arbitrary_bytes_are_refused(bytes in prop::collection::vec(any::<u8>(), 0..300), as_ours: bool) {
            let sealer = sealer(1, "c");
            let mut bytes = bytes;
            if as_ours {
                let real = sealer.seal(b"", nonces()).unwrap().remove(0);
                let head = bytes.len().min(7);
                bytes[..head].copy_from_slice(&real[..head]);
            }
            prop_assert!(sealer.open(&bytes).is_err());
        }
    }
}
