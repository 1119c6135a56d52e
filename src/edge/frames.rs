//! Outgoing frames (RFC 6455, section 5.2), written from their payloads without a copy, many in one call.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use tokio::io::AsyncWrite;

use crate::runtime::outbox::Outgoing;

/// Frames taken from the outbox at a time. Each is two slices of one vectored write.
const MAX_FRAMES: usize = 32;

/// Bytes taken from the outbox at a time: about what a socket's buffer takes in one call.
const MAX_BYTES: usize = 256 * 1024;

const FINAL_TEXT: u8 = 0x81;
const FINAL_BINARY: u8 = 0x82;

/// Longest header of a frame that is not masked: opcode, length, and eight bytes of extended length.
const MAX_HEADER: usize = 10;

#[derive(Debug)]
struct Frame {
    header: [u8; MAX_HEADER],
    header_len: u8,
    payload: Outgoing,
}

impl Frame {
    fn message(payload: Outgoing) -> Self {
        let opcode = match payload {
            Outgoing::Text(_) => FINAL_TEXT,
            Outgoing::Binary(_) => FINAL_BINARY,
        };
        let (header, header_len) = header(opcode, payload.len());
        Self { header, header_len, payload }
    }

    fn parts(&self) -> [&[u8]; 2] {
        let payload = match &self.payload {
            Outgoing::Text(text) => text.as_bytes(),
            Outgoing::Binary(bytes) => bytes,
        };
        [&self.header[..usize::from(self.header_len)], payload]
    }

    fn len(&self) -> usize {
        usize::from(self.header_len) + self.payload.len()
    }
}

/// The header of a whole, unmasked message, and how many of its bytes count.
fn header(opcode: u8, length: usize) -> ([u8; MAX_HEADER], u8) {
    let mut header = [0; MAX_HEADER];
    header[0] = opcode;
    match length {
        0..126 => {
            header[1] = length as u8;
            (header, 2)
        }
        126..0x1_0000 => {
            header[1] = 126;
            header[2..4].copy_from_slice(&(length as u16).to_be_bytes());
            (header, 4)
        }
        _ => {
            header[1] = 127;
            header[2..].copy_from_slice(&(length as u64).to_be_bytes());
            (header, 10)
        }
    }
}

/// The frames that are being written.
#[derive(Debug, Default)]
pub(super) struct FrameQueue {
    frames: VecDeque<Frame>,
    /// Bytes of the first frame that are written already.
    offset: usize,
    bytes: usize,
}

impl FrameQueue {
    /// Whether more should be taken from the outbox.
    pub(super) fn has_room(&self) -> bool {
        self.frames.len() < MAX_FRAMES && self.bytes < MAX_BYTES
    }

    pub(super) fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    /// Bytes not yet written.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn push_message(&mut self, message: Outgoing) {
        self.push(Frame::message(message));
    }

    /// Queues whole frames that are encoded already.
    pub(super) fn push_encoded(&mut self, frames: Vec<u8>) {
        self.push(Frame { header: [0; MAX_HEADER], header_len: 0, payload: Outgoing::Binary(Bytes::from(frames)) });
    }

    fn push(&mut self, frame: Frame) {
        self.bytes += frame.len();
        self.frames.push_back(frame);
    }

    /// Gives the memory back; to be called when nothing is expected to follow soon.
    pub(super) fn rest(&mut self) {
        if self.frames.is_empty() {
            self.frames = VecDeque::new();
        }
    }

    /// Writes what the socket takes in one call, and returns how many bytes those were.
    pub(super) fn poll_write<S: AsyncWrite + Unpin>(
        &mut self,
        stream: &mut S,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        let mut slices = [IoSlice::new(&[]); 2 * MAX_FRAMES];
        let mut count = 0;
        let mut skip = self.offset;
        for part in self.frames.iter().take(MAX_FRAMES).flat_map(Frame::parts) {
            let done = skip.min(part.len());
            skip -= done;
            if done < part.len() {
                slices[count] = IoSlice::new(&part[done..]);
                count += 1;
            }
        }
        let written = ready!(Pin::new(stream).poll_write_vectored(context, &slices[..count]))?;
        if written == 0 {
            return Poll::Ready(Err(ErrorKind::WriteZero.into()));
        }
        self.advance(written);
        Poll::Ready(Ok(written))
    }

    fn advance(&mut self, written: usize) {
        self.bytes -= written;
        self.offset += written;
        while let Some(first) = self.frames.front() {
            if self.offset < first.len() {
                break;
            }
            self.offset -= first.len();
            self.frames.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tokio_tungstenite::tungstenite::Message;
    use tokio_tungstenite::tungstenite::protocol::{Role, WebSocket};

    use super::*;

    /// Takes a few bytes at a time, as a busy socket does.
    struct Dribble {
        taken: Vec<u8>,
        step: usize,
    }

    impl AsyncWrite for Dribble {
        fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
            let count = bytes.len().min(self.step);
            self.taken.extend_from_slice(&bytes[..count]);
            Poll::Ready(Ok(count))
        }

        fn poll_write_vectored(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            slices: &[IoSlice<'_>],
        ) -> Poll<io::Result<usize>> {
            let mut room = self.step;
            for slice in slices {
                let count = slice.len().min(room);
                self.taken.extend_from_slice(&slice[..count]);
                room -= count;
            }
            Poll::Ready(Ok(self.step - room))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    fn send(messages: &[Outgoing], step: usize) -> (Vec<Message>, usize) {
        let mut queue = FrameQueue::default();
        messages.iter().for_each(|message| queue.push_message(message.clone()));
        let mut socket = Dribble { taken: Vec::new(), step };
        let mut context = Context::from_waker(std::task::Waker::noop());
        let mut calls = 0;
        while !queue.is_empty() {
            assert!(matches!(queue.poll_write(&mut socket, &mut context), Poll::Ready(Ok(_))));
            calls += 1;
        }
        assert_eq!((queue.bytes(), queue.offset), (0, 0));
        let mut client = WebSocket::from_raw_socket(io::Cursor::new(socket.taken), Role::Client, None);
        let received = messages.iter().map(|_| client.read().unwrap()).collect();
        (received, calls)
    }

    #[test]
    fn many_small_messages_leave_in_one_call() {
        let messages: Vec<_> = (0..MAX_FRAMES).map(|n| Outgoing::Text(n.to_string().into())).collect();
        assert_eq!(send(&messages, usize::MAX).1, 1);
    }

    #[test]
    fn lengths_are_encoded_in_the_shortest_way() {
        assert_eq!(header(FINAL_TEXT, 125).1, 2);
        assert_eq!(header(FINAL_TEXT, 126).0[..4], [0x81, 126, 0, 126]);
        assert_eq!(header(FINAL_BINARY, 65_535).0[..4], [0x82, 126, 255, 255]);
        assert_eq!(header(FINAL_BINARY, 65_536).0, [0x82, 127, 0, 0, 0, 0, 0, 1, 0, 0]);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        #[test]
        fn however_the_socket_takes_them_the_messages_arrive_whole(
            lengths in prop::collection::vec(prop_oneof![8 => 0usize..300, 1 => 65_530usize..65_540], 1..40),
            step in 100usize..10_000,
        ) {
            let messages: Vec<_> = lengths
                .iter()
                .enumerate()
                .map(|(n, length)| match n % 2 {
                    0 => Outgoing::Binary(Bytes::from(vec![n as u8; *length])),
                    _ => Outgoing::Text("t".repeat(*length).into()),
                })
                .collect();
            let (received, _) = send(&messages, step);
            for (sent, received) in messages.into_iter().zip(received) {
                prop_assert_eq!(received, match sent {
                    Outgoing::Binary(bytes) => Message::Binary(bytes),
                    Outgoing::Text(text) => Message::Text(text),
                });
            }
        }
    }
}
