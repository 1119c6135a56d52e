//! What the network brings before any protocol is spoken: forwarding headers, gossip datagrams, and the messages of links.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Instant;

use bolero::check;
use http::{HeaderMap, HeaderName, HeaderValue};
use prost::Message;
use waystation::cluster::links::counted::{self, Undecoded};
use waystation::domain::ids::ClusterId;
use waystation::federation::inflow::Position;
use waystation::federation::proto::Batch;
use waystation::security::proxies::TrustedProxies;
use waystation::wire::gossip::{Joiner, MAX_PAYLOAD_BYTES, Sealer};

use super::ITERATIONS;

const PROXY: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));
const STRANGER: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::new(198, 51, 100, 7));

/// Each line is a header: the first byte says which one, the rest is its value.
#[test]
fn client_address() {
    let proxies = TrustedProxies(vec!["10.0.0.0/8".parse().unwrap(), "fd00::/8".parse().unwrap()]);
    check!().with_iterations(ITERATIONS).for_each(|input: &[u8]| {
        let mut headers = HeaderMap::new();
        for line in input.split(|byte| *byte == b'\n').take(32) {
            let Some((name, value)) = line.split_first() else { continue };
            let name = if *name == b'f' { "forwarded" } else { "x-forwarded-for" };
            if let Ok(value) = HeaderValue::from_bytes(value) {
                headers.append(HeaderName::from_static(name), value);
            }
        }
        assert_eq!(proxies.client_ip(STRANGER, &headers), STRANGER);
        let seen = proxies.client_ip(PROXY, &headers);
        assert_eq!(seen, seen.to_canonical());
        // What the proxy appends counts, whatever stands before it.
        for (name, other, last) in
            [("x-forwarded-for", "forwarded", "198.51.100.7"), ("forwarded", "x-forwarded-for", "for=198.51.100.7")]
        {
            let mut headers = headers.clone();
            headers.remove(other);
            headers.append(name, HeaderValue::from_static(last));
            assert_eq!(proxies.client_ip(PROXY, &headers), CLIENT);
        }
    });
}

#[test]
fn gossip_datagram() {
    let sealer = sealer();
    check!().with_iterations(ITERATIONS).for_each(|input: &[u8]| {
        if let Err(rejected) = sealer.open(input) {
            assert!(!rejected.reason().is_empty());
        }
    });
}

/// The first two bytes say how often the rest is repeated, and which byte is damaged on the way.
#[test]
fn gossip_round_trip() {
    let (sealer, now) = (sealer(), Instant::now());
    let sender = SocketAddr::new(PROXY, 7401);
    check!().with_iterations(ITERATIONS).for_each(|input: &[u8]| {
        let [times, damage, rest @ ..] = input else { return };
        let payload = rest.repeat(1 + usize::from(times % 32));
        let mut calls = 0_u8;
        let nonce = || {
            calls += 1;
            [calls; 12]
        };
        let Ok(datagrams) = sealer.seal(&payload, nonce) else {
            assert!(payload.len() > MAX_PAYLOAD_BYTES);
            return;
        };
        let mut joiner = Joiner::default();
        let mut whole = None;
        for datagram in datagrams.iter().rev() {
            let part = sealer.open(datagram).expect("what was sealed can be opened");
            whole = whole.or(joiner.join(sender, part, now));
            let mut damaged = datagram.clone();
            let at = usize::from(*damage) % damaged.len();
            damaged[at] ^= 1;
            assert!(sealer.open(&damaged).is_err());
        }
        assert!(whole.as_deref() == Some(&payload[..]), "{} bytes came out otherwise", payload.len());
    });
}

/// The first byte says how many parts may be read of the rest. What is read is what protobuf makes of it, and no more.
#[test]
fn counted_message() {
    check!().with_iterations(ITERATIONS).for_each(|input: &[u8]| {
        let [reads, rest @ ..] = input else { return };
        let (reads, whole) = (usize::from(*reads), Batch::decode(rest));
        match counted::decode::<Batch>(rest, reads) {
            Ok(batch) => {
                assert!(2 * batch.frames.len() <= reads);
                assert_eq!(Ok(batch), whole);
            }
            Err(Undecoded::TooMany(_)) => {}
            Err(Undecoded::Malformed(_)) => assert!(whole.is_err()),
        }
        assert_eq!(counted::decode::<Batch>(rest, usize::MAX).ok(), whole.ok());
    });
}

/// The first byte says into parts of which size the rest is cut: the messages in it are as long either way.
#[test]
fn message_lengths() {
    check!().with_iterations(ITERATIONS).for_each(|input: &[u8]| {
        let [part, rest @ ..] = input else { return };
        let lengths = |part: usize| {
            let (mut position, mut lengths) = (Position::default(), Vec::new());
            for mut bytes in rest.chunks(part) {
                while !bytes.is_empty() {
                    let (passed, begun) = position.pass(bytes);
                    bytes = &bytes[passed..];
                    lengths.extend(begun);
                    assert!(passed > 0);
                }
            }
            lengths
        };
        assert_eq!(lengths(usize::from(*part).max(1)), lengths(rest.len().max(1)));
    });
}

fn sealer() -> Sealer {
    let cluster: ClusterId = "waystation".parse().unwrap();
    Sealer::new(&[7; 32], &cluster).unwrap()
}
