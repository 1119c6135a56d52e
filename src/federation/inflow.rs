//! What is read of another cluster before it is known who it is, and how much at a time from then on.
//!
//! gRPC makes room for a message when it has seen its first five bytes, and hands it out when it is whole. So they are
//! looked at before gRPC sees them: of a sender that is not admitted one short message is read, and nothing behind it; from
//! then on one may be as long as a legal one is, and long ones wait until there is room for them in their sender's share.

use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use futures::task::AtomicWaker;
use hyper::body::{Body, Frame, SizeHint};
use tokio::time::Sleep;
use tonic::Status;

use crate::cluster::links::counted::Counted;
use crate::cluster::shares::{Limits, Party, Place, Places};

/// Longest message of whoever is not admitted, in bytes: one says who it is, or asks for a page.
pub const FIRST_LIMIT: usize = 64 << 10;

/// Longest message of a link: a frame with a message of the largest configurable size, and what stands around it.
pub const BATCH_LIMIT: usize = 80 << 20;

/// Most bytes in a batch of more than one frame.
pub const BATCH_BYTES: usize = 64 << 10;

/// A message up to this long needs no room of its own.
const SHORT: usize = 1 << 20;

/// Bytes of longer ones that are read at a time: room for one of the largest from each party.
pub const READING: Limits = Limits { party: BATCH_LIMIT, group: 2 * BATCH_LIMIT, all: 4 * BATCH_LIMIT };

/// How often it is looked whether there is room.
const LOOK: Duration = Duration::from_millis(20);

/// What stands before a message: whether it is compressed, and how long it is.
const HEADER_BYTES: usize = 5;

/// Of messages between clusters: one part for each byte of the largest batch of more than one frame.
pub type PeerCodec<T, U> = Counted<T, U, BATCH_BYTES>;

/// Whether the sender of a stream of messages has been admitted; clones are of the same stream.
#[derive(Debug, Clone, Default)]
pub struct Admission(Arc<Decision>);

#[derive(Debug, Default)]
struct Decision {
    admitted: OnceLock<Admitted>,
    /// Of whoever waits for it.
    waker: AtomicWaker,
}

/// How much may be read at a time.
#[derive(Debug)]
struct Admitted {
    limit: usize,
    room: Places,
    party: Party,
}

impl Admission {
    /// From now on messages have up to `limit` bytes, and the long ones take `room` of that party.
    pub fn admit(&self, limit: usize, room: &Places, party: &Party) {
        // Said once.
        self.0.admitted.get_or_init(|| Admitted { limit, room: room.clone(), party: party.clone() });
        self.0.waker.wake();
    }

    fn poll(&self, cx: &mut Context<'_>) -> Poll<&Admitted> {
        self.0.waker.register(cx.waker());
        self.0.admitted.get().map_or(Poll::Pending, Poll::Ready)
    }
}

/// How far a stream of messages has been read.
#[derive(Debug, Default)]
pub struct Position {
    header: [u8; HEADER_BYTES],
    /// Of the header.
    have: usize,
    /// Of the message.
    left: usize,
}

impl Position {
    /// Goes on over `bytes`, up to the end of the next header: how many of them are behind, and the length of the message
    /// that begins there, if one does.
    pub fn pass(&mut self, bytes: &[u8]) -> (usize, Option<usize>) {
        let skipped = self.left.min(bytes.len());
        self.left -= skipped;
        let taken = (HEADER_BYTES - self.have).min(bytes.len() - skipped);
        self.header[self.have..self.have + taken].copy_from_slice(&bytes[skipped..skipped + taken]);
        self.have += taken;
        if self.have < HEADER_BYTES {
            return (skipped + taken, None);
        }
        let [_, length @ ..] = self.header;
        (self.have, self.left) = (0, u32::from_be_bytes(length) as usize);
        (skipped + taken, Some(self.left))
    }

    fn is_between(&self) -> bool {
        self.left == 0
    }
}

/// A body that is read so far as its sender may be read.
pub struct Inflow<B> {
    body: B,
    admission: Admission,
    position: Position,
    is_first: bool,
    /// For the message that is being read.
    room: Option<Place>,
    held: Option<Held>,
    look: Pin<Box<Sleep>>,
    refused: Arc<Refused>,
}

/// Told of whoever sends too long a message.
pub type Refused = dyn Fn(&str) + Send + Sync;

/// What has been read, but may not be handed on yet.
struct Held {
    bytes: Bytes,
    /// How far it has been gone over: to the end of a header.
    at: usize,
    /// How long the message is that begins there.
    length: usize,
}

impl<B> Inflow<B> {
    /// Whoever sends too long a message is reported to `refused`.
    pub fn new(body: B, admission: Admission, refused: Arc<Refused>) -> Self {
        let look = Box::pin(tokio::time::sleep(Duration::ZERO));
        let position = Position::default();
        Self { body, admission, position, is_first: true, room: None, held: None, look, refused }
    }

    /// Hands `bytes` on, from `at` on as far as messages begin that may be read.
    fn hand_on(&mut self, mut bytes: Bytes, mut at: usize, cx: &mut Context<'_>) -> Poll<Result<Bytes, Status>> {
        while at < bytes.len() {
            let begins = at + self.position.left.min(bytes.len() - at);
            let (passed, begun) = self.position.pass(&bytes[at..]);
            at += passed;
            let Some(length) = begun else { continue };
            match self.may_begin(length, cx) {
                Poll::Ready(may) => may?,
                Poll::Pending => {
                    let held = bytes.split_off(begins);
                    self.held = Some(Held { bytes: held, at: at - begins, length });
                    return if bytes.is_empty() { Poll::Pending } else { Poll::Ready(Ok(bytes)) };
                }
            }
        }
        Poll::Ready(Ok(bytes))
    }

    /// Whether a message of `length` bytes may be read; pending while that is not known, or there is no room.
    fn may_begin(&mut self, length: usize, cx: &mut Context<'_>) -> Poll<Result<(), Status>> {
        // What came before has been read to its end.
        self.room = None;
        let too_long = |limit: usize| {
            let text = format!("a message of {length} bytes, where {limit} may be");
            (self.refused)(&text);
            Poll::Ready(Err(Status::out_of_range(text)))
        };
        let admitted = match self.admission.poll(cx) {
            Poll::Ready(admitted) => admitted,
            Poll::Pending if !self.is_first => return Poll::Pending,
            Poll::Pending if length > FIRST_LIMIT => return too_long(FIRST_LIMIT),
            Poll::Pending => {
                self.is_first = false;
                return Poll::Ready(Ok(()));
            }
        };
        if length > admitted.limit {
            return too_long(admitted.limit);
        }
        if length > SHORT {
            loop {
                self.room = admitted.room.take(&admitted.party, length);
                if self.room.is_some() {
                    break;
                }
                self.look.as_mut().reset(tokio::time::Instant::now() + LOOK);
                ready!(self.look.poll_unpin(cx));
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl<B: Body<Data = Bytes, Error = Status> + Unpin> Body for Inflow<B> {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = &mut *self;
        let handed_on = if let Some(Held { bytes, at, length }) = this.held.take() {
            match this.may_begin(length, cx) {
                Poll::Ready(Ok(())) => this.hand_on(bytes, at, cx),
                Poll::Ready(Err(status)) => Poll::Ready(Err(status)),
                Poll::Pending => {
                    this.held = Some(Held { bytes, at, length });
                    Poll::Pending
                }
            }
        } else {
            if this.position.is_between() {
                this.room = None;
            }
            match ready!(Pin::new(&mut this.body).poll_frame(cx)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(bytes) => this.hand_on(bytes, 0, cx),
                    Err(trailers) => return Poll::Ready(Some(Ok(trailers))),
                },
                ended => return Poll::Ready(ended),
            }
        };
        handed_on.map(|bytes| Some(bytes.map(Frame::data)))
    }

    fn is_end_stream(&self) -> bool {
        self.held.is_none() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use http_body_util::{BodyExt, StreamBody};
    use tonic::Code;

    use super::*;

    fn message(length: usize) -> Vec<u8> {
        [&[0][..], &u32::try_from(length).unwrap().to_be_bytes(), &vec![7; length]].concat()
    }

    fn party(n: u8) -> Party {
        Party::at([10, 0, 0, n].into())
    }

    /// `messages` in parts of that many bytes, and who was refused.
    fn inflow(
        messages: &[u8],
        part: usize,
        admission: &Admission,
    ) -> (impl Body<Data = Bytes, Error = Status> + Unpin + use<>, Arc<AtomicUsize>) {
        let parts: Vec<_> = messages.chunks(part).map(|part| Ok(Frame::data(Bytes::copy_from_slice(part)))).collect();
        let refused = Arc::new(AtomicUsize::new(0));
        let count = refused.clone();
        let count = move |_: &str| {
            count.fetch_add(1, Ordering::Relaxed);
        };
        let body = StreamBody::new(futures::stream::iter(parts));
        (Inflow::new(body, admission.clone(), Arc::new(count)), refused)
    }

    #[tokio::test]
    async fn of_whoever_is_not_admitted_one_short_message_is_read() {
        for part in [1, 3, 4096, 1 << 20] {
            let (first, second) = (message(FIRST_LIMIT), message(2 * FIRST_LIMIT));
            let both = [first.clone(), second].concat();
            let admission = Admission::default();
            let (body, refused) = inflow(&both, part, &admission);
            let (mut body, mut read) = (std::pin::pin!(body), Vec::new());
            while let Poll::Ready(frame) = futures::poll!(body.frame()) {
                read.extend(frame.unwrap().unwrap().into_data().unwrap());
            }
            assert!(read.starts_with(&first) && read.len() < first.len() + HEADER_BYTES, "the second waits");
            admission.admit(2 * FIRST_LIMIT, &Places::new(READING), &party(1));
            read.extend(body.collect().await.unwrap().to_bytes());
            assert_eq!((read == both, refused.load(Ordering::Relaxed)), (true, 0));

            let (body, refused) = inflow(&message(FIRST_LIMIT + 1), part, &Admission::default());
            let status = body.collect().await.unwrap_err();
            assert_eq!((status.code(), refused.load(Ordering::Relaxed)), (Code::OutOfRange, 1));
        }
    }

    #[tokio::test]
    async fn who_is_admitted_may_send_long_ones_one_after_the_other() {
        let (admission, room) =
            (Admission::default(), Places::new(Limits { party: 3 << 20, group: 3 << 20, all: 3 << 20 }));
        admission.admit(2 << 20, &room, &party(1));
        let long = [message(2 << 20), message(2 << 20), message(1)].concat();
        let (body, _) = inflow(&long, 5000, &admission);
        assert_eq!(body.collect().await.unwrap().to_bytes().len(), long.len());
        assert_eq!(room.used(), 0);
        let (body, refused) = inflow(&message((2 << 20) + 1), 5000, &admission);
        assert_eq!(body.collect().await.unwrap_err().code(), Code::OutOfRange);
        assert_eq!(refused.load(Ordering::Relaxed), 1);
    }

    #[tokio::test]
    async fn a_long_message_waits_for_room_of_its_own_party_only() {
        let (mine, other) = (Admission::default(), Admission::default());
        let room = Places::new(Limits { party: 2 << 20, group: 2 << 20, all: 8 << 20 });
        mine.admit(2 << 20, &room, &party(1));
        other.admit(2 << 20, &room, &party(2));
        let taken = room.take(&party(1), 1).unwrap();
        let long = message(2 << 20);
        let (body, _) = inflow(&long, 4096, &mine);
        let mut waits = std::pin::pin!(body.collect());
        assert!(futures::poll!(&mut waits).is_pending());
        let (body, _) = inflow(&long, 4096, &other);
        assert_eq!(body.collect().await.unwrap().to_bytes(), long);
        drop(taken);
        assert_eq!(waits.await.unwrap().to_bytes(), long);
    }
}
