//! Messages of gossipsub, as stock peers write them.

use proptest::prelude::*;

use super::*;

fn message() -> PubsubMessage {
    PubsubMessage {
        from: Some(vec![0, 1, 9].into()),
        data: Some(b"hello".to_vec().into()),
        seqno: Some(vec![7; 8].into()),
        topic: vec!["dusk/sync".to_owned()],
        signature: Some(vec![3; 64].into()),
        key: None,
    }
}

fn read_back(message: &PubsubMessage) -> Result<Published, NoMessage> {
    read_message(message.encode_to_vec().into())
}

#[test]
fn subscriptions_and_messages_are_read_and_control_is_passed_over() {
    let control = [0x1a, 0x05, 0x1a, 0x03, 0x0a, 0x01, b'a'];
    let rpc = [&[0x0a, 0x05, 0x08, 0x01, 0x12, 0x01, b'a', 0x0a, 0x03, 0x12, 0x01, b'b'][..], &control].concat();
    let said = |wanted, topic: &str| Subscription { wanted, topic: topic.to_owned() };
    let told = Told { subscriptions: vec![said(true, "a"), said(false, "b")], messages: Vec::new() };
    assert_eq!(read(rpc.clone().into()), Ok(told));
    assert_eq!(read(rpc[..rpc.len() - 1].to_vec().into()), Err(NoRpc), "cut off");
    let written = subscribing(["a", "bc"]);
    assert_eq!(written[..], [15, 0x0a, 5, 8, 1, 0x12, 1, b'a', 0x0a, 6, 8, 1, 0x12, 2, b'b', b'c']);
}

#[test]
fn a_message_is_passed_on_as_it_came() {
    let bytes = Bytes::from(message().encode_to_vec());
    let published = read_message(bytes.clone()).unwrap();
    assert_eq!(published.to_bytes(), bytes);
    let framed = published.framed();
    let told = read(framed.slice(1..)).unwrap();
    assert_eq!((framed[0] as usize, told.messages), (framed.len() - 1, vec![bytes]));
    let unsigned = PubsubMessage { signature: None, ..message() }.encode_to_vec();
    assert_eq!(published.signed_bytes(), [b"libp2p-pubsub:", &unsigned[..]].concat());
}

#[test]
fn what_a_signed_message_lacks_is_told() {
    let bad = [
        (PubsubMessage { from: None, ..message() }, NoMessage::Source),
        (PubsubMessage { from: Some(Bytes::new()), ..message() }, NoMessage::Source),
        (PubsubMessage { seqno: None, ..message() }, NoMessage::Number),
        (PubsubMessage { seqno: Some(vec![7; 7].into()), ..message() }, NoMessage::Number),
        (PubsubMessage { topic: Vec::new(), ..message() }, NoMessage::Topic),
        (PubsubMessage { topic: vec!["a".into(), "b".into()], ..message() }, NoMessage::Topic),
        (PubsubMessage { signature: None, ..message() }, NoMessage::Unsigned),
        (PubsubMessage { signature: Some(Bytes::new()), ..message() }, NoMessage::Unsigned),
        (PubsubMessage { data: Some(vec![0; MAX_RPC_BYTES - 50].into()), ..message() }, NoMessage::TooLarge),
    ];
    for (message, why) in bad {
        assert_eq!(read_back(&message), Err(why));
    }
    assert_eq!(read_message(vec![0x0a, 9].into()), Err(NoMessage::Malformed));
}

#[test]
fn the_largest_message_makes_the_largest_rpc_that_peers_read() {
    let with = |bytes: usize| read_back(&PubsubMessage { data: Some(vec![1; bytes].into()), ..message() });
    let most = (0..=MAX_RPC_BYTES).rev().find(|bytes| with(*bytes).is_ok()).unwrap();
    assert!(most > 65_000, "{most}");
    let framed = with(most).unwrap().framed();
    assert_eq!(framed.len(), 3 + MAX_RPC_BYTES);
    assert_eq!(with(most + 1), Err(NoMessage::TooLarge));
}

#[test]
fn what_nobody_signed_is_not_passed_on() {
    let message = message();
    // A field that nobody knows, and an empty key.
    let unknown = [&message.encode_to_vec()[..], &[0x9a, 0x06, 1, 0], &[0x32, 0]].concat();
    let published = read_message(unknown.into()).unwrap();
    assert_eq!(published.to_bytes(), message.encode_to_vec());
}

proptest! {
    #[test]
    fn what_is_passed_on_is_what_was_signed_with_its_proof(
        source in prop::collection::vec(any::<u8>(), 1..40),
        number: [u8; 8],
        data: Option<Vec<u8>>,
        topic: String,
        signature in prop::collection::vec(any::<u8>(), 1..80),
        key in prop::option::of(prop::collection::vec(any::<u8>(), 1..80)),
        junk in prop::collection::vec(any::<u8>(), 0..20),
    ) {
        let content = PubsubMessage {
            from: Some(source.into()),
            data: data.map(Bytes::from),
            seqno: Some(number.to_vec().into()),
            topic: vec![topic],
            signature: None,
            key: None,
        };
        let signed = [SIGNED_FOR, &content.encode_to_vec()].concat();
        let whole = PubsubMessage { signature: Some(signature.into()), key: key.map(Bytes::from), ..content };
        let whole = whole.encode_to_vec();
        // In another order, and with what nobody knows: field 100, length-delimited.
        let junk = [&[0xa2, 0x06, u8::try_from(junk.len()).unwrap()][..], &junk].concat();
        let published = read_message([&junk[..], &whole].concat().into()).unwrap();
        prop_assert_eq!(published.signed_bytes(), signed);
        prop_assert_eq!(&published.to_bytes()[..], &whole[..]);
        let framed = published.framed();
        let told = read(framed.slice(framed.len() - published.rpc_bytes()..)).unwrap();
        prop_assert_eq!(told.messages, vec![Bytes::from(whole)]);
    }

    #[test]
    fn arbitrary_bytes_are_read_or_refused(bytes: Vec<u8>) {
        let _any = (read(bytes.clone().into()), read_message(bytes.into()));
    }
}
