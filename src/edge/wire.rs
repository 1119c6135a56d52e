//! What tungstenite sees as its stream: it reads from the socket, and its control frames are kept aside.
//!
//! tungstenite decodes what comes in and answers pings and closes. It would also copy every outgoing message
//! into a buffer that never shrinks, so messages are written by [`frames`](super::frames) instead, straight
//! from their payloads; the few bytes of control frames join them at a frame boundary.

use std::cell::RefCell;
use std::io::{self, ErrorKind, Read, Write};
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use tokio::io::{AsyncRead, ReadBuf};

/// Most bytes read from the socket at once. One buffer of this size serves all connections of a thread: what a
/// connection's own buffer has no room for is kept aside until it has, so that an idle connection owns little and
/// a busy one needs few system calls.
const SCRATCH_BYTES: usize = 16 * 1024;

thread_local! {
    static SCRATCH: RefCell<Vec<u8>> = RefCell::new(vec![0; SCRATCH_BYTES]);
}

/// Bytes of control frames that may wait for the socket. A frame has 127 at most; a peer that keeps sending
/// pings without reading the answers is then answered the last ones only (RFC 6455, section 5.5.3).
const MAX_CONTROL_BYTES: usize = 1024;

/// A socket, and control frames on their way to it.
#[derive(Debug)]
pub(super) struct Wire<S> {
    pub(super) stream: S,
    waker: Waker,
    control: Vec<u8>,
    /// Read from the socket, and not yet by tungstenite: what lies from `taken` on.
    aside: Vec<u8>,
    taken: usize,
    received: u64,
}

impl<S> Wire<S> {
    pub(super) fn new(stream: S) -> Self {
        let (control, aside) = (Vec::new(), Vec::new());
        Self { stream, waker: Waker::noop().clone(), control, aside, taken: 0, received: 0 }
    }

    /// Wakes this task when the socket has something to read.
    pub(super) fn register(&mut self, waker: &Waker) {
        self.waker.clone_from(waker);
    }

    /// Control frames to be written, whole ones.
    pub(super) fn take_control(&mut self) -> Option<Vec<u8>> {
        (!self.control.is_empty()).then(|| std::mem::take(&mut self.control))
    }

    /// Bytes read from the socket so far.
    pub(super) fn received(&self) -> u64 {
        self.received
    }
}

impl<S: AsyncRead + Unpin> Read for Wire<S> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.aside.is_empty() {
            return SCRATCH.with_borrow_mut(|scratch| self.receive(scratch, buffer));
        }
        let rest = &self.aside[self.taken..];
        let count = rest.len().min(buffer.len());
        buffer[..count].copy_from_slice(&rest[..count]);
        self.taken += count;
        if self.taken == self.aside.len() {
            (self.aside, self.taken) = (Vec::new(), 0);
        }
        Ok(count)
    }
}

impl<S: AsyncRead + Unpin> Wire<S> {
    fn receive(&mut self, scratch: &mut [u8], buffer: &mut [u8]) -> io::Result<usize> {
        let mut read = ReadBuf::new(scratch);
        match Pin::new(&mut self.stream).poll_read(&mut Context::from_waker(&self.waker), &mut read) {
            Poll::Ready(result) => result?,
            Poll::Pending => return Err(ErrorKind::WouldBlock.into()),
        }
        let read = read.filled();
        let count = read.len().min(buffer.len());
        buffer[..count].copy_from_slice(&read[..count]);
        if count < read.len() {
            (self.aside, self.taken) = (read[count..].to_vec(), 0);
        }
        self.received += read.len() as u64;
        Ok(count)
    }
}

impl<S> Write for Wire<S> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.control.len() + bytes.len() > MAX_CONTROL_BYTES.max(bytes.len()) {
            return Err(ErrorKind::WouldBlock.into());
        }
        self.control.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
