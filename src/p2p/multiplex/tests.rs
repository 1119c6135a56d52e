use futures::future::poll_fn;
use futures::io::Cursor;
use futures::{AsyncReadExt, AsyncWriteExt};
use libp2p::core::muxing::StreamMuxerExt;
use tokio::io::duplex;
use tokio_util::compat::TokioAsyncReadCompatExt;

use super::*;

const DATA: u8 = 0;
const WINDOW: u8 = 1;
const PING: u8 = 2;
const SYN: u8 = 1;
const ACK: u8 = 2;
const FIN: u8 = 4;

/// What every stream may send before it is told that it may send more.
const FIRST_WINDOW: u32 = 256 << 10;

/// Largest frame that rust-yamux reads.
const LARGEST: u32 = 1 << 20;

fn header(kind: u8, flags: u8, stream: u8, length: u32) -> [u8; HEADER_BYTES] {
    let [a, b, c, d] = length.to_be_bytes();
    [0, kind, 0, flags, 0, 0, 0, stream, a, b, c, d]
}

#[tokio::test]
async fn frames_come_small_and_whole() {
    let large: Vec<u8> = (0..3 * MOST + 5).map(|n| (n % 251) as u8).collect();
    let sent = [
        &header(WINDOW, SYN, 1, u32::MAX)[..],
        &header(DATA, ACK | FIN, 1, 3 * MOST + 5),
        &large,
        &header(DATA, 0, 1, MOST),
        &large[..MOST as usize],
        &header(PING, SYN, 0, 9),
    ]
    .concat();
    let mut frames = SmallFrames::new(Cursor::new(sent));
    let mut next = async || {
        let mut header = [0; HEADER_BYTES];
        frames.read_exact(&mut header).await.unwrap();
        let mut body = vec![0; Header::new(header).body() as usize];
        frames.read_exact(&mut body).await.unwrap();
        (header, body)
    };
    assert_eq!(next().await.0, header(WINDOW, SYN, 1, u32::MAX));
    let mut came = Vec::new();
    for (flags, length) in [(ACK, MOST), (0, MOST), (0, MOST), (FIN, 5)] {
        let (part, body) = next().await;
        assert_eq!(part, header(DATA, flags, 1, length));
        came.extend(body);
    }
    assert!(came == large);
    assert_eq!(next().await, (header(DATA, 0, 1, MOST), large[..MOST as usize].to_vec()));
    assert_eq!(next().await, (header(PING, SYN, 0, 9), Vec::new()));
    assert_eq!(frames.read(&mut [0]).await.unwrap(), 0, "it ends where a frame would begin");
}

#[tokio::test]
async fn a_connection_that_breaks_off_in_a_header_has_not_ended_well() {
    let mut frames = SmallFrames::new(Cursor::new(header(PING, SYN, 0, 9)[..7].to_vec()));
    assert_eq!(frames.read(&mut [0; 64]).await.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
}

/// A peer that sends as js-libp2p does: each time as much as it may, in one frame. It answers the first ping late, so that
/// the relay takes the way to it for long and widens the window.
#[tokio::test]
async fn a_frame_as_large_as_a_wide_window_is_read() {
    let (near, far) = duplex(64 << 10);
    let mut muxer = Multiplex(Config::default()).upgrade_inbound(near.compat(), "/yamux/1.0.0").await.unwrap();
    let relay = tokio::spawn(async move {
        let mut stream = poll_fn(|context| muxer.poll_inbound_unpin(context)).await.unwrap();
        let driving = tokio::spawn(async move { poll_fn(|context| muxer.poll_unpin(context)).await.map(|_| ()) });
        let (mut came, mut block) = (0, vec![0; 64 << 10]);
        loop {
            match stream.read(&mut block).await.unwrap() {
                0 => break driving.abort(),
                more => came += more,
            }
        }
        came
    });

    let (mut from_relay, mut to_relay) = far.compat().split();
    let (mut sent, mut largest, mut may, mut flags) = (0, 0, FIRST_WINDOW, SYN);
    let (mut told, mut pinged) = (0, None);
    while largest <= LARGEST {
        assert!(told < 1_000, "the window stays too small for such a frame");
        to_relay.write_all(&header(DATA, flags, 1, may)).await.unwrap();
        to_relay.write_all(&vec![7; may as usize]).await.unwrap();
        (sent, largest, may, flags) = (sent + may as usize, largest.max(may), 0, 0);
        while may == 0 {
            let mut came = [0; HEADER_BYTES];
            from_relay.read_exact(&mut came).await.unwrap();
            let length = u32::from_be_bytes([came[8], came[9], came[10], came[11]]);
            match (came[1], came[3]) {
                (WINDOW, _) => (may, told) = (may + length, told + 1),
                (PING, SYN) => pinged = Some(length),
                _ => {}
            }
            if told >= 32
                && let Some(number) = pinged.take()
            {
                to_relay.write_all(&header(PING, ACK, 0, number)).await.unwrap();
            }
        }
    }
    to_relay.write_all(&header(DATA, FIN, 1, 0)).await.unwrap();
    assert_eq!(relay.await.unwrap(), sent);
}
