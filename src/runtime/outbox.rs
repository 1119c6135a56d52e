//! What waits to be written to one client: bounded by bytes, empty at no cost.
//!
//! A relay has many connections and few that are busy, so an outbox that is empty owns no buffer. Whoever
//! pushes never waits: a reader too slow to keep its outbox below the bound is cut off, and counted.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures::task::AtomicWaker;
use parking_lot::Mutex;
use tokio_tungstenite::tungstenite::Utf8Bytes;

/// One message to a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outgoing {
    /// A text message.
    Text(Utf8Bytes),
    /// A binary message.
    Binary(Bytes),
}

impl Outgoing {
    /// Its payload's length in bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Self::Text(text) => text.len(),
            Self::Binary(bytes) => bytes.len(),
        }
    }

    /// Whether the payload is empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Why a message was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The reader is too slow; its connection is being cut off.
    #[error("the reader is too slow")]
    Full,
    /// The connection is closing or closed.
    #[error("the connection is closed")]
    Closed,
}

/// What the connection shall do next.
#[derive(Debug, PartialEq, Eq)]
pub enum Next {
    /// Write this.
    Write(Outgoing),
    /// Ask the other side for a sign of life.
    Probe,
    /// Everything is written: close with this code and reason.
    Close(u16, &'static str),
    /// The reader was too slow: cut the connection off.
    Overflow,
    /// Cut the connection off without a word, for this reason.
    Cut(&'static str),
}

/// The writing end's handle; clones share one queue.
#[derive(Debug, Clone)]
pub struct Outbox {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    queue: Mutex<Queue>,
    waker: AtomicWaker,
    /// Whoever waits for room, or for what it queued to be written.
    progress: AtomicWaker,
    limit: usize,
}

#[derive(Debug, Default)]
struct Queue {
    messages: VecDeque<Outgoing>,
    bytes: usize,
    /// Bytes that were queued, taken by the connection, and written by it, since the beginning.
    queued: u64,
    taken: u64,
    written: u64,
    probe: bool,
    end: Option<Next>,
    gone: bool,
}

/// What a queue may keep allocated while it is empty, in messages.
const SPARE_SLOTS: usize = 64;

impl Outbox {
    /// An outbox that holds at most `limit` bytes.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self {
            inner: Arc::new(Inner {
                queue: Mutex::default(),
                waker: AtomicWaker::new(),
                progress: AtomicWaker::new(),
                limit,
            }),
        }
    }

    /// Queues a message behind those that wait.
    ///
    /// # Errors
    /// [`Refused::Full`] ends the connection; [`Refused::Closed`] once it is closing.
    pub fn push(&self, message: Outgoing) -> Result<(), Refused> {
        let result = {
            let mut queue = self.inner.queue.lock();
            if queue.gone || queue.end.is_some() {
                return Err(Refused::Closed);
            }
            if queue.bytes + message.len() > self.inner.limit {
                queue.messages = VecDeque::new();
                queue.bytes = 0;
                queue.end = Some(Next::Overflow);
                Err(Refused::Full)
            } else {
                queue.bytes += message.len();
                queue.queued += message.len() as u64;
                queue.messages.push_back(message);
                Ok(())
            }
        };
        self.inner.waker.wake();
        if result.is_err() {
            self.inner.progress.wake();
        }
        result
    }

    /// Queues a text message.
    ///
    /// # Errors
    /// As [`Outbox::push`].
    pub fn text(&self, text: impl Into<Utf8Bytes>) -> Result<(), Refused> {
        self.push(Outgoing::Text(text.into()))
    }

    /// Whether a message of `bytes` that can wait should be queued now: half of the bound stays free for those
    /// that cannot. When nothing waits, any message should; a connection that has ended refuses it anyway.
    #[must_use]
    pub fn has_room(&self, bytes: usize) -> bool {
        let queue = self.inner.queue.lock();
        queue.gone || queue.end.is_some() || queue.bytes == 0 || queue.bytes + bytes <= self.inner.limit / 2
    }

    /// Waits until a message of `bytes` that can wait should be queued: when nothing else waits, or when with it at
    /// most `window` bytes do (and never more than half of the bound). At once if the connection has ended.
    ///
    /// One task at a time may wait here or in [`Outbox::written`].
    pub async fn room(&self, bytes: usize, window: usize) {
        let window = window.min(self.inner.limit / 2);
        let has_room =
            |queue: &Queue| queue.gone || queue.end.is_some() || queue.bytes == 0 || queue.bytes + bytes <= window;
        poll_fn(|context| self.poll_progress(context, |queue| has_room(queue).then_some(()))).await;
    }

    /// Waits until everything queued so far is written to the socket; false if the connection ended before.
    pub async fn written(&self) -> bool {
        let position = self.inner.queue.lock().queued;
        let known = |queue: &Queue| match queue.written >= position {
            true => Some(true),
            false => (queue.gone || matches!(queue.end, Some(Next::Overflow | Next::Cut(_)))).then_some(false),
        };
        poll_fn(|context| self.poll_progress(context, known)).await
    }

    fn poll_progress<T>(&self, context: &mut Context<'_>, known: impl Fn(&Queue) -> Option<T>) -> Poll<T> {
        self.inner.progress.register(context.waker());
        known(&self.inner.queue.lock()).map_or(Poll::Pending, Poll::Ready)
    }

    /// The connection's side: everything taken so far is written.
    pub fn wrote_all(&self) {
        let mut queue = self.inner.queue.lock();
        queue.written = queue.taken;
        drop(queue);
        self.inner.progress.wake();
    }

    /// The most bytes that it holds.
    #[must_use]
    pub fn limit(&self) -> usize {
        self.inner.limit
    }

    /// Cuts the connection off without a word; what waits is forgotten. Counts even after [`Outbox::close`].
    pub fn cut(&self, reason: &'static str) {
        let mut queue = self.inner.queue.lock();
        queue.messages = VecDeque::new();
        queue.bytes = 0;
        queue.end = Some(Next::Cut(reason));
        drop(queue);
        self.inner.waker.wake();
        self.inner.progress.wake();
    }

    /// Has the other side asked for a sign of life once everything queued is written; without one the connection is
    /// cut off.
    pub fn probe(&self) {
        self.inner.queue.lock().probe = true;
        self.inner.waker.wake();
    }

    /// Closes the connection once everything queued before is written. The first call counts.
    pub fn close(&self, code: u16, reason: &'static str) {
        self.inner.queue.lock().end.get_or_insert(Next::Close(code, reason));
        self.inner.waker.wake();
    }

    /// Bytes that wait.
    #[must_use]
    pub fn queued_bytes(&self) -> usize {
        self.inner.queue.lock().bytes
    }

    /// Whether nothing more is taken.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        let queue = self.inner.queue.lock();
        queue.gone || queue.end.is_some()
    }

    /// The connection has ended: whatever waits is forgotten, and nothing more is taken.
    pub fn abandon(&self) {
        let mut queue = self.inner.queue.lock();
        queue.gone = true;
        queue.messages = VecDeque::new();
        queue.bytes = 0;
        drop(queue);
        self.inner.progress.wake();
    }

    /// The connection's side: its task runs, and need not be woken before it has asked again what to do next, or
    /// whether this is closed.
    pub fn attend(&self) {
        self.inner.waker.take();
    }

    /// The connection's side, while it has no room for messages: whether nothing more is taken.
    pub fn poll_closed(&self, context: &mut Context<'_>) -> Poll<()> {
        self.inner.waker.register(context.waker());
        if self.is_closed() { Poll::Ready(()) } else { Poll::Pending }
    }

    /// The connection's side: what to do next. One task at a time may wait here.
    pub fn poll_next(&self, context: &mut Context<'_>) -> Poll<Next> {
        self.inner.waker.register(context.waker());
        let mut queue = self.inner.queue.lock();
        if let Some(message) = queue.messages.pop_front() {
            queue.bytes -= message.len();
            queue.taken += message.len() as u64;
            self.inner.progress.wake();
            if queue.messages.is_empty() && queue.messages.capacity() > SPARE_SLOTS {
                queue.messages = VecDeque::new();
            }
            return Poll::Ready(Next::Write(message));
        }
        match &queue.end {
            Some(Next::Close(code, reason)) => Poll::Ready(Next::Close(*code, reason)),
            Some(Next::Cut(reason)) => Poll::Ready(Next::Cut(reason)),
            Some(_) => Poll::Ready(Next::Overflow),
            None => {
                if std::mem::take(&mut queue.probe) {
                    return Poll::Ready(Next::Probe);
                }
                queue.messages = VecDeque::new();
                Poll::Pending
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn next(outbox: &Outbox) -> Poll<Next> {
        outbox.poll_next(&mut Context::from_waker(futures::task::noop_waker_ref()))
    }

    fn text(s: &str) -> Poll<Next> {
        Poll::Ready(Next::Write(Outgoing::Text(s.into())))
    }

    #[test]
    fn messages_leave_in_order_and_the_close_is_last() {
        let outbox = Outbox::new(100);
        outbox.text("one").unwrap();
        outbox.text("two").unwrap();
        outbox.close(1012, "service restart");
        assert_eq!(outbox.text("three"), Err(Refused::Closed));
        assert_eq!(next(&outbox), text("one"));
        assert_eq!(next(&outbox), text("two"));
        assert_eq!(next(&outbox), Poll::Ready(Next::Close(1012, "service restart")));
    }

    #[test]
    fn however_often_it_is_asked_for_a_probe_comes_once_behind_what_waits() {
        let outbox = Outbox::new(100);
        outbox.probe();
        outbox.text("one").unwrap();
        outbox.probe();
        assert_eq!(
            (next(&outbox), next(&outbox), next(&outbox)),
            (text("one"), Poll::Ready(Next::Probe), Poll::Pending)
        );
    }

    #[test]
    fn a_slow_reader_is_cut_off_and_its_queue_freed() {
        let outbox = Outbox::new(5);
        outbox.text("12345").unwrap();
        assert_eq!(outbox.text("6"), Err(Refused::Full));
        assert_eq!(outbox.queued_bytes(), 0);
        assert_eq!(next(&outbox), Poll::Ready(Next::Overflow));
    }

    #[test]
    fn what_can_wait_leaves_half_of_the_room() {
        let outbox = Outbox::new(10);
        assert!(outbox.has_room(10), "nothing waits");
        outbox.text("123").unwrap();
        assert!(outbox.has_room(2));
        assert!(!outbox.has_room(3));
        outbox.abandon();
        assert!(outbox.has_room(3), "whoever pushes learns that it is closed");
    }

    #[tokio::test]
    async fn what_can_wait_waits_for_room_and_is_told_when_it_is_written() {
        let outbox = Outbox::new(20);
        outbox.room(100, 100).await;
        outbox.text("123456").unwrap();
        let waiting = tokio::spawn({
            let outbox = outbox.clone();
            async move {
                outbox.room(5, 10).await;
                outbox.text("78901").unwrap();
                outbox.written().await
            }
        });
        tokio::task::yield_now().await;
        assert_eq!(next(&outbox), text("123456"));
        while next(&outbox) != text("78901") {
            tokio::task::yield_now().await;
        }
        assert!(!waiting.is_finished(), "taken is not written");
        outbox.wrote_all();
        assert!(waiting.await.unwrap());
    }

    #[tokio::test]
    async fn nobody_waits_for_a_connection_that_has_ended() {
        for end in [Outbox::abandon, |outbox: &Outbox| outbox.cut("test")] {
            let outbox = Outbox::new(20);
            outbox.text("123456").unwrap();
            end(&outbox);
            outbox.room(10, 10).await;
            assert!(!outbox.written().await);
        }
    }

    #[test]
    fn a_connection_that_is_cut_says_nothing_more() {
        let outbox = Outbox::new(20);
        outbox.text("123456").unwrap();
        outbox.close(1000, "bye");
        outbox.cut("test");
        assert_eq!(next(&outbox), Poll::Ready(Next::Cut("test")));
    }

    #[test]
    fn an_empty_outbox_keeps_no_buffer() {
        let outbox = Outbox::new(1 << 20);
        for _ in 0..1000 {
            outbox.text("x").unwrap();
        }
        while next(&outbox).is_ready() {}
        assert_eq!(outbox.inner.queue.lock().messages.capacity(), 0);
    }
}
