//! What libp2p peers send.

use bolero::check;
use waystation::wire::p2p::circuit::{HopRequest, MAX_PEER_BYTES, Status, read_hop, read_stop};
use waystation::wire::p2p::delimited::Length;
use waystation::wire::p2p::directory;
use waystation::wire::p2p::gif;
use waystation::wire::p2p::pubsub::{self, MAX_RPC_BYTES};
use waystation::wire::p2p::rendezvous::{MAX_NAMESPACE_BYTES, MAX_RECORD_BYTES, NoRequest, Request, read};
use waystation::wire::p2p::turn_credentials;
use waystation::wire::p2p::yamux::{HEADER_BYTES, Header};

use super::ITERATIONS;

#[test]
fn hop_request() {
    check!().with_iterations(ITERATIONS).for_each(|input: &[u8]| match read_hop(input) {
        // Nothing but what says that it is a request is one.
        Ok(HopRequest::Reserve) => assert!(input.contains(&0x08)),
        Ok(HopRequest::Connect { target }) => {
            assert!(!target.is_empty() && target.len() <= MAX_PEER_BYTES && target.len() < input.len());
        }
        Err(status) => assert!(matches!(status, Status::MalformedMessage | Status::UnexpectedMessage)),
    });
}

#[test]
fn stop_answer() {
    check!().with_iterations(ITERATIONS).for_each(|input: &[u8]| {
        let refusals = [
            Status::ResourceLimitExceeded,
            Status::PermissionDenied,
            Status::MalformedMessage,
            Status::UnexpectedMessage,
        ];
        assert!(
            read_stop(input).is_ok_and(|()| input.len() >= 4) || read_stop(input).is_err_and(|e| refusals.contains(&e))
        );
    });
}

#[test]
fn message_length() {
    check!().with_iterations(ITERATIONS).for_each(|input: &[u8]| {
        let mut length = Length::at_most(4096);
        for (read, byte) in input.iter().enumerate() {
            match length.push(*byte) {
                Ok(None) => assert_eq!(read, 0, "a length has two bytes at most"),
                Ok(Some(whole)) => return assert!(whole <= 4096),
                Err(_) => return,
            }
        }
    });
}

#[test]
fn rendezvous_request() {
    check!().with_iterations(ITERATIONS).for_each(|input: &[u8]| match read(input) {
        Ok(Request::Register { namespace, record, .. }) => {
            assert!(
                !namespace.is_empty() && namespace.len() <= MAX_NAMESPACE_BYTES && record.len() <= MAX_RECORD_BYTES
            );
        }
        Ok(Request::Unregister { namespace }) => assert!(!namespace.is_empty()),
        Ok(Request::Discover { namespace, limit, cookie }) => {
            assert!(namespace.is_none_or(|namespace| !namespace.is_empty()));
            assert!(limit != Some(0) && cookie.is_none_or(|cookie| !cookie.is_empty()));
        }
        Err(NoRequest(answer)) => assert!(answer.is_none_or(|answer| answer.len() > 4)),
    });
}

#[test]
fn pubsub_rpc() {
    check!().with_iterations(ITERATIONS).for_each(|input: &[u8]| {
        let Ok(told) = pubsub::read(input.to_vec().into()) else { return };
        let bytes: usize = told.subscriptions.iter().map(|subscription| subscription.topic.len()).sum();
        assert!(bytes + told.messages.iter().map(bytes::Bytes::len).sum::<usize>() <= input.len());
    });
}

#[test]
fn pubsub_message() {
    check!().with_iterations(ITERATIONS).for_each(|input: &[u8]| {
        let Ok(message) = pubsub::read_message(input.to_vec().into()) else { return };
        // What is passed on is no longer than what came, fits what peers read, and is read as the same.
        let bytes = message.to_bytes();
        assert!(bytes.len() <= input.len() && message.framed().len() <= MAX_RPC_BYTES + 3);
        assert_eq!(pubsub::read_message(bytes), Ok(message));
    });
}

#[test]
fn gif_request() {
    check!().with_iterations(ITERATIONS).for_each(|input: &[u8]| {
        let Ok(wanted) = gif::read(input) else { return };
        assert!((1..=gif::MAX_FOUND).contains(&wanted.most));
        assert!(wanted.query.is_none_or(|query| !query.is_empty() && query.len() <= gif::MAX_QUERY_BYTES));
    });
}

#[test]
fn gif_answer() {
    check!().with_iterations(ITERATIONS).for_each(|input: &[u8]| {
        let Ok(gifs) = gif::read_answer(input, 3) else { return };
        assert!(gifs.len() <= 3);
        assert!(gifs.iter().all(|gif| gif.url.starts_with("https://") && gif.preview.starts_with("https://")));
    });
}

#[test]
fn directory_request() {
    check!().with_iterations(ITERATIONS).for_each(|input: &[u8]| {
        use directory::Request;

        let texts = match Request::read(input) {
            Ok(Request::Register { display_name, relay_addr }) => [display_name, relay_addr],
            Ok(Request::Search { query }) => [query, String::new()],
            Ok(Request::Remove) => ["Remove".to_owned(), String::new()],
            Err(_) => return,
        };
        // Nothing is made of nothing.
        assert!(texts.iter().map(String::len).sum::<usize>() < input.len());
    });
}

#[test]
fn turn_credentials_request() {
    check!().with_iterations(ITERATIONS).for_each(|input: &[u8]| {
        if let Ok(request) = turn_credentials::Request::read(input) {
            assert!(request.peer_id.len() < input.len());
        }
    });
}

#[test]
fn yamux_frame() {
    check!().with_iterations(ITERATIONS).with_type::<[u8; HEADER_BYTES]>().cloned().for_each(|bytes| {
        let (most, whole) = (1 << 20, Header::new(bytes));
        let (mut bodies, mut flags, mut left) = (0, 0, Some(whole));
        while let Some(header) = left {
            let (part, more) = header.split(most);
            assert!(part.body() <= most, "a part is small");
            bodies += u64::from(part.body());
            flags |= part.bytes()[3];
            left = more;
        }
        assert_eq!((bodies, flags), (u64::from(whole.body()), bytes[3]), "the parts are the whole");
    });
}
