//! Frames on a connection: as they are, or each sealed by Noise (section 8).

use std::borrow::Cow;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;

use crate::runtime::outbox::{Outbox, Outgoing};
use crate::security::noise::{MAX_FRAME_BYTES, Transport};

/// Both ways of one connection; clones share them.
#[derive(Clone)]
pub(super) struct Channel {
    /// What waits to be written.
    pub outbox: Outbox,
    noise: Option<Arc<Mutex<Transport>>>,
}

impl Channel {
    /// Frames go as they are.
    pub fn plain(outbox: Outbox) -> Self {
        Self { outbox, noise: None }
    }

    /// Frames are sealed from now on.
    pub fn sealed(outbox: Outbox, transport: Transport) -> Self {
        Self { outbox, noise: Some(Arc::new(Mutex::new(transport))) }
    }

    /// Whether frames are sealed.
    pub fn is_sealed(&self) -> bool {
        self.noise.is_some()
    }

    /// The largest frame that can be sent, in bytes.
    pub fn limit(&self) -> usize {
        let limit = self.outbox.limit();
        if self.is_sealed() { limit.min(MAX_FRAME_BYTES) } else { limit }
    }

    /// Queues a frame. False if the connection takes nothing more, or none so large.
    pub fn send(&self, frame: Bytes) -> bool {
        let Some(noise) = &self.noise else { return self.outbox.push(Outgoing::Binary(frame)).is_ok() };
        // Queued under the lock: the client opens messages in the order in which they were sealed.
        let mut noise = noise.lock();
        noise.seal(&frame).is_ok_and(|message| self.outbox.push(Outgoing::Binary(message.into())).is_ok())
    }

    /// The frame in a message that has come; `None` if it cannot be opened.
    pub fn receive<'a>(&self, message: &'a [u8]) -> Option<Cow<'a, [u8]>> {
        match &self.noise {
            None => Some(Cow::Borrowed(message)),
            Some(noise) => noise.lock().open(message).ok().map(Cow::Owned),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::task::{Context, Poll};

    use super::*;
    use crate::runtime::outbox::Next;
    use crate::security::noise::{Initiator, Responder, StaticKey};

    fn written(outbox: &Outbox) -> Vec<Vec<u8>> {
        let mut context = Context::from_waker(futures::task::noop_waker_ref());
        std::iter::from_fn(|| match outbox.poll_next(&mut context) {
            Poll::Ready(Next::Write(Outgoing::Binary(bytes))) => Some(bytes.to_vec()),
            _ => None,
        })
        .collect()
    }

    #[test]
    fn sealed_frames_are_opened_in_their_order_and_what_is_too_large_is_left_out() {
        let relay = Responder::new(StaticKey::from_private([7; 32]).unwrap());
        let (client, start) = Initiator::start(relay.key().public()).unwrap();
        let (answer, transport) = relay.respond(&start).unwrap();
        let mut client = client.finish(&answer).unwrap();
        let channel = Channel::sealed(Outbox::new(1 << 20), transport);
        assert!(channel.send(Bytes::from_static(b"one")));
        assert!(!channel.send(vec![0; channel.limit() + 1].into()));
        assert!(channel.send(vec![2; channel.limit()].into()));
        let opened: Vec<_> = written(&channel.outbox).iter().map(|message| client.open(message).unwrap()).collect();
        assert_eq!(opened, [b"one".to_vec(), vec![2; MAX_FRAME_BYTES]]);
        assert!(channel.receive(b"no message of the client's").is_none());
        assert_eq!(channel.receive(&client.seal(b"three").unwrap()).as_deref(), Some(b"three".as_slice()));
    }

    #[test]
    fn plain_frames_go_as_they_are() {
        let channel = Channel::plain(Outbox::new(10));
        assert!(channel.send(Bytes::from_static(b"one")));
        assert_eq!(written(&channel.outbox), [b"one".to_vec()]);
        assert_eq!(channel.receive(b"two").as_deref(), Some(b"two".as_slice()));
    }
}
