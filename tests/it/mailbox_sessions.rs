//! Mailboxes: connections, how they begin, what they are sent while they are open, and how they end.

use serde_json::json;
use tokio_tungstenite::tungstenite::Message;

use crate::support::mailbox::{frame, prefixed};
use crate::support::{Socket, TestMailbox, TestNode, get, id, until};

#[tokio::test]
async fn whatever_is_no_handshake_ends_the_connection() {
    let node = TestNode::start(&[]).await;
    let handshake = |client: &str| json!({"type": "Handshake", "client_id": client});
    for first in [
        vec![0, 0, 0],
        prefixed("{}"),
        frame("m", &json!({"type": "PurgeRequest"})),
        frame("m", &handshake(&id('a')[1..])),
        frame("m", &handshake(&id('g'))),
        frame("m", &json!({"type": "Handshake", "client_id": id('a'), "device_id": "d"})),
        frame("m", &json!({"type": "Handshake", "client_id": id('a'), "routing_token": ""})),
        frame("m", &json!({"Handshake": {"client_id": id('a')}})),
    ] {
        let mut client = TestMailbox::silent(node.public).await;
        client.send_bytes(first).await;
        client.ended().await;
    }
    let mut client = Socket::open(node.public, "/a/path", None).await.unwrap();
    client.send_raw(Message::text("{}")).await;
    client.ended().await;
    assert_eq!(node.node().metrics.mailbox.handshake_errors.get(), 9);
    assert_eq!(node.node().metrics.mailbox.sessions_opened.get(), 0);
}

#[tokio::test]
async fn any_path_is_a_clients_unless_it_is_another_route() {
    let node = TestNode::start(&[]).await;
    for path in ["/", "/anything/here", "/ws/", "/relay"] {
        let mut socket = Socket::open(node.public, path, None).await.unwrap();
        let handshake = json!({"type": "Handshake", "client_id": id('a'), "device_id": null, "more": 1});
        socket.send_raw(Message::Binary(frame("", &handshake).into())).await;
        socket.next_binary().await;
    }
    assert!(Socket::open(node.public, "/federation", None).await.is_err());
    assert_eq!(get(node.public, "/anything/here").await.status, 404);
}

#[tokio::test]
async fn version_length_and_unknown_members_are_not_looked_at() {
    let node = TestNode::start(&[]).await;
    let mut client = TestMailbox::silent(node.public).await;
    let mut bytes = prefixed(&format!(
        r#"{{"version":9,"message_id":"","timestamp":0,"x":[],"payload":{{"y":{{}},"client_id":"{}","type":"Handshake"}}}}"#,
        id('a')
    ));
    bytes[..4].fill(0xff);
    client.send_bytes(bytes).await;
    client.expect_type("HandshakeAck").await;
}

#[tokio::test]
async fn a_client_that_says_nothing_is_cut_off() {
    let node = TestNode::start(&[("RELAY_HANDSHAKE_TIMEOUT_SECS", "1")]).await;
    let mut silent = Socket::open(node.public, "/mailbox", None).await.unwrap();
    silent.ended().await;
    assert_eq!(node.node().metrics.mailbox.handshake_errors.get(), 1);
}

#[tokio::test]
async fn a_connection_on_which_nothing_is_said_is_closed() {
    for name in ["RELAY_IDLE_TIMEOUT", "RELAY_IDLE_TIMEOUT_MS"] {
        let value = if name.ends_with("MS") { "1000" } else { "1" };
        let node = TestNode::start(&[(name, value)]).await;
        let mut client = TestMailbox::plain(node.public, &id('a')).await;
        assert_eq!(client.closed().await, (1000, "Idle timeout".to_owned()));
    }
}

#[tokio::test]
async fn what_cannot_be_understood_is_passed_over_in_silence_and_counted() {
    let node = TestNode::start(&[]).await;
    let mut client = TestMailbox::plain(node.public, &id('a')).await;
    let long = "m".repeat(257);
    for bytes in [
        vec![],
        vec![0, 0],
        prefixed("{"),
        frame("m", &json!({"type": "EncryptedUpdate", "recipient_id": id('b')})),
        frame("m", &json!({"type": "EncryptedUpdate", "recipient_id": id('b'), "ciphertext": [256]})),
        frame("m", &json!({"type": "SomethingNew"})),
        frame("m", &json!({"type": "HandshakeAck"})),
        frame("m", &json!({"type": "Handshake", "client_id": id('c')})),
        frame(&long, &json!({"type": "PurgeRequest"})),
    ] {
        client.send_bytes(bytes).await;
    }
    client.send_raw(Message::text("text")).await;
    client.settle().await;
    assert_eq!(node.node().metrics.mailbox.rejected.get(), 10);
}

#[tokio::test]
async fn a_connected_recipient_is_sent_what_comes_and_each_of_its_connections_is() {
    let node = TestNode::start(&[]).await;
    let mut sender = TestMailbox::plain(node.public, &id('a')).await;
    let mut first = TestMailbox::plain(node.public, &id('b')).await;
    let mut second = TestMailbox::plain(node.public, &id('b')).await;
    sender.store("1", &id('b'), b"one").await;
    first.expect_blob(b"one").await;
    second.expect_blob(b"one").await;
    sender.expect_status("1", "Delivered").await;
    // The newer of them goes, and the older one is told as before.
    second.close().await;
    sender.store("2", &id('b'), b"two").await;
    first.expect_blob(b"two").await;
    sender.expect_status("2", "Delivered").await;
    sender.settle().await;
}

#[tokio::test]
async fn two_connections_of_a_sender_are_both_told_and_one_that_goes_takes_nothing_with_it() {
    let node = TestNode::start(&[]).await;
    let mut sender = TestMailbox::plain(node.public, &id('a')).await;
    let older = TestMailbox::plain(node.public, &id('a')).await;
    sender.store("1", &id('b'), b"one").await;
    older.close().await;
    let mut recipient = TestMailbox::plain(node.public, &id('b')).await;
    recipient.expect_blob(b"one").await;
    sender.expect_status("1", "Delivered").await;
}

#[tokio::test]
async fn a_backlog_of_many_pages_comes_whole_and_in_order() {
    let node = TestNode::start(&[("RELAY_SEND_QUEUE_BYTES", "2000000")]).await;
    let mut sender = TestMailbox::plain(node.public, &id('a')).await;
    let blob = |n: u8| vec![n; 20_000];
    for n in 0..200 {
        sender.update(&n.to_string(), &id('b'), &blob(n)).await;
    }
    for n in 0..200 {
        sender.expect_status(&n.to_string(), "Stored").await;
    }
    let mut recipient = TestMailbox::plain(node.public, &id('b')).await;
    let mut ids = Vec::new();
    for n in 0..200 {
        ids.push(recipient.expect_blob(&blob(n)).await);
    }
    assert!(ids.is_sorted());
    for id in &ids {
        recipient.acknowledge(id, "ReceivedByRecipient").await;
    }
    assert_eq!(recipient.purge().await, 0);
}

#[tokio::test]
async fn who_sends_and_goes_without_reading_its_backlog_has_sent() {
    let node = TestNode::start(&[]).await;
    let mut sender = TestMailbox::plain(node.public, &id('a')).await;
    for n in 0..200 {
        sender.store(&n.to_string(), &id('b'), &[n; 20_000]).await;
    }
    // As the shipped client does: a handshake, an update, and the end, without reading.
    let mut hasty = TestMailbox::silent(node.public).await;
    hasty.say("h", &json!({"type": "Handshake", "client_id": id('b')})).await;
    hasty.update("last words", &id('c'), b"x").await;
    drop(hasty);
    let mut contact = TestMailbox::plain(node.public, &id('c')).await;
    contact.expect_blob(b"x").await;
}

#[tokio::test]
async fn what_was_said_is_done_in_its_order_though_the_connection_has_gone() {
    let folder = tempfile::tempdir().unwrap();
    let settings = [("RELAY_STORAGE_BACKEND", "rocksdb"), ("RELAY_DATA_DIR", folder.path().to_str().unwrap())];
    let node = TestNode::start(&settings).await;
    // Nobody is told of deliveries meanwhile.
    let quiet = |client| json!({"type": "Handshake", "client_id": id(client), "suppress_presence": true});
    let mut hasty = TestMailbox::with(node.public, &quiet('a')).await;
    hasty.update("own", &id('a'), b"x").await;
    // Begins once the blob is stored. By then nobody is there to be answered.
    hasty.say("p", &json!({"type": "PurgeRequest"})).await;
    hasty.update("last words", &id('b'), b"y").await;
    hasty.close().await;
    let mut contact = TestMailbox::with(node.public, &quiet('b')).await;
    contact.expect_blob(b"y").await;
    let mut back = TestMailbox::plain(node.public, &id('a')).await;
    assert_eq!(back.purge().await, 0, "what was said last is done, and the purge is not");
}

#[tokio::test]
async fn who_does_not_read_is_cut_off_and_its_backlog_stays() {
    let node = TestNode::start(&[("RELAY_WRITE_TIMEOUT_SECS", "1")]).await;
    let mut sender = TestMailbox::plain(node.public, &id('a')).await;
    for n in 0..100 {
        sender.store(&n.to_string(), &id('b'), &[200; 100_000]).await;
    }
    let stalled = TestMailbox::plain(node.public, &id('b')).await;
    let sessions = &node.node().metrics.mailbox.sessions;
    until("the stalled one is cut off", || sessions.get() == 1).await;
    drop(stalled);
    let mut recipient = TestMailbox::plain(node.public, &id('b')).await;
    recipient.expect_blob(&[200; 100_000]).await;
}

#[tokio::test]
async fn what_was_stored_is_there_after_a_restart_and_what_was_acknowledged_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let settings = [("RELAY_STORAGE_BACKEND", "rocksdb"), ("RELAY_DATA_DIR", folder.path().to_str().unwrap())];
    let node = TestNode::start(&settings).await;
    let mut sender = TestMailbox::plain(node.public, &id('a')).await;
    let mut recipient = TestMailbox::plain(node.public, &id('b')).await;
    sender.store("1", &id('b'), b"one").await;
    let one = recipient.expect_blob(b"one").await;
    sender.expect_status("1", "Delivered").await;
    sender.store("2", &id('b'), b"two").await;
    recipient.acknowledge(&one, "ReceivedByRecipient").await;
    let two = recipient.expect_blob(b"two").await;
    recipient.settle().await;
    drop((sender, recipient));
    node.stop().await;

    let node = TestNode::start(&settings).await;
    assert_eq!(node.node().metrics.mailbox.blobs.get(), 1);
    let mut recipient = TestMailbox::plain(node.public, &id('b')).await;
    assert_eq!(recipient.expect_blob(b"two").await, two);
    let mut sender = TestMailbox::plain(node.public, &id('a')).await;
    sender.store("2", &id('b'), b"two").await;
    sender.store("1", &id('b'), b"one").await;
    assert_eq!(recipient.purge().await, 1, "repeats are known over the restart");
}

#[tokio::test]
async fn a_node_that_leaves_closes_its_clients_once_they_are_answered() {
    let node = TestNode::start(&[]).await;
    let mut client = TestMailbox::plain(node.public, &id('a')).await;
    client.store("m", &id('b'), b"x").await;
    let leaving = tokio::spawn(node.drain());
    assert_eq!(client.closed().await.0, 1012);
    client.ended().await;
    leaving.await.unwrap();
}
