//! Runs against a program that answers as a relay does, without keeping anything.

use std::collections::BTreeMap;

use futures::{SinkExt, StreamExt};
use parking_lot::Mutex;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_tungstenite::accept_async;
use tokio_tungstenite::tungstenite::Message;

use super::*;
use crate::bench::mailbox::client::uuid;
use crate::domain::clock::Millis;
use crate::security::noise::{Responder, StaticKey};
use crate::wire::vauchi::frame::{NOISE_MAGIC, starts_noise};
use crate::wire::vauchi::incoming::Incoming;
use crate::wire::vauchi::outgoing::{Outgoing, RelayPayload};
use crate::wire::vauchi::payload::{ClientPayload, Status};

/// How the program answers an update.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Answers {
    Stored,
    Failed,
    Nothing,
}

/// The program's Noise key.
fn key() -> StaticKey {
    StaticKey::from_private([7; 32]).unwrap()
}

/// Who is connected, by name.
type Boxes = Arc<Mutex<BTreeMap<String, mpsc::UnboundedSender<Message>>>>;

/// The program, at an address of its own, for as long as the set lives.
async fn relay(answers: Answers) -> (MailboxUrl, JoinSet<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("ws://{}", listener.local_addr().unwrap()).parse().unwrap();
    let mut running = JoinSet::new();
    running.spawn(async move {
        let (boxes, mut connections) = (Boxes::default(), JoinSet::new());
        while let Ok((stream, _)) = listener.accept().await {
            connections.spawn(serve(stream, answers, boxes.clone()));
        }
    });
    (url, running)
}

async fn serve(stream: TcpStream, answers: Answers, boxes: Boxes) {
    let mut socket = accept_async(stream).await.unwrap();
    let Some(Ok(Message::Binary(first))) = socket.next().await else { return };
    let (mut first, mut noise) = (Some(first), None);
    if let Some(start) = first.take_if(|first| starts_noise(first)) {
        let Ok((answer, transport)) = Responder::new(key()).respond(&start[NOISE_MAGIC.len()..]) else { return };
        socket.send(Message::Binary([&NOISE_MAGIC[..], &answer].concat().into())).await.unwrap();
        noise = Some(transport);
    }
    let noise = Mutex::new(noise);
    let (mut sink, stream) = socket.split();
    let mut stream = futures::stream::iter(first.map(|first| Ok(Message::Binary(first)))).chain(stream);
    let (outbox, mut waiting) = mpsc::unbounded_channel();
    let say = |to: &mpsc::UnboundedSender<Message>, id: &str, payload: RelayPayload<'_>| {
        let frame = Outgoing { message_id: id, now: Millis(1_771_000_000_000), payload }.encode();
        to.send(Message::Binary(frame)).unwrap_or_default();
    };
    let reading = async {
        while let Some(Ok(Message::Binary(frame))) = stream.next().await {
            let frame = match &mut *noise.lock() {
                Some(noise) => noise.open(&frame).unwrap().into(),
                None => frame,
            };
            let message = Incoming::decode(&frame).unwrap();
            match message.payload {
                ClientPayload::Handshake(handshake) => {
                    assert_eq!(handshake.check(Millis(0)), Ok(None));
                    boxes.lock().insert(handshake.client_id.into_owned(), outbox.clone());
                    say(&outbox, &uuid(), RelayPayload::HandshakeAck { server_version: "1.1.0", noise: false });
                }
                ClientPayload::EncryptedUpdate(update) => {
                    let (recipient_id, sender_id) = (&*update.recipient_id, update.sender_id.unwrap());
                    if let Some(recipient) = boxes.lock().get(recipient_id) {
                        let (sender_id, ciphertext) = (&*sender_id, &update.ciphertext[..]);
                        let delivery = RelayPayload::EncryptedUpdate { recipient_id, sender_id, ciphertext };
                        say(recipient, &uuid(), delivery);
                    }
                    let (message_id, status) = match answers {
                        Answers::Stored => (&*message.message_id, Status::Stored),
                        Answers::Failed => (&*message.message_id, Status::Failed),
                        Answers::Nothing => continue,
                    };
                    say(&outbox, &uuid(), RelayPayload::Acknowledgment { message_id, status });
                    // Says the same again, as a relay does once the recipient has it.
                    let (message_id, status) = (&*message.message_id, Status::Delivered);
                    say(&outbox, &uuid(), RelayPayload::Acknowledgment { message_id, status });
                }
                ClientPayload::Acknowledgment(ack) => assert_eq!(ack.status, Status::ReceivedByRecipient),
                other => panic!("{other:?}"),
            }
        }
    };
    let writing = async {
        while let Some(Message::Binary(frame)) = waiting.recv().await {
            let frame = match &mut *noise.lock() {
                Some(noise) => noise.seal(&frame).unwrap().into(),
                None => frame,
            };
            sink.send(Message::Binary(frame)).await.unwrap_or_default();
        }
    };
    tokio::select! {
        () = reading => {}
        () = writing => {}
    }
}

fn load(url: &MailboxUrl) -> MailboxLoad {
    MailboxLoad {
        url: url.clone(),
        recipient_url: url.clone(),
        clients: 3,
        in_flight: 4,
        payload_bytes: 32,
        mailboxes: 5,
        deliver: false,
        duration: Duration::from_millis(200),
        patience: ANSWER_TIMEOUT,
        processes: vec![std::process::id()],
    }
}

#[tokio::test]
async fn blobs_are_stored_and_counted() {
    let (url, _relay) = relay(Answers::Stored).await;
    let report = load(&url).run().await.unwrap();
    assert!(report.stored > 0 && report.latency.p50_us > 0.0, "{report}");
    assert_eq!(
        (report.failed, report.delivered, report.errors.len(), report.processes.len()),
        (0, 0, 0, 1),
        "{report}"
    );
}

#[tokio::test]
async fn recipients_get_what_is_stored_for_them() {
    let (url, _relay) = relay(Answers::Stored).await;
    let report = MailboxLoad { deliver: true, ..load(&url) }.run().await.unwrap();
    assert!(report.stored > 0 && report.delivered > 0 && report.errors.is_empty(), "{report}");
}

#[tokio::test]
async fn with_the_relays_key_all_of_it_goes_through_noise() {
    let (url, _relay) = relay(Answers::Stored).await;
    let url = MailboxUrl { key: Some(*key().public()), ..url };
    let report = MailboxLoad { deliver: true, ..load(&url) }.run().await.unwrap();
    assert!(report.stored > 0 && report.delivered > 0 && report.errors.is_empty(), "{report}");

    let wrong = MailboxUrl { key: Some([9; 32]), ..url };
    assert!(load(&wrong).run().await.is_err(), "a relay with another key was taken for this one");
}

#[tokio::test]
async fn refusals_are_counted() {
    let (url, _relay) = relay(Answers::Failed).await;
    let report = load(&url).run().await.unwrap();
    assert!(report.stored == 0 && report.failed > 0 && report.errors.is_empty(), "{report}");
}

#[tokio::test]
async fn what_is_never_answered_is_given_up_and_counted() {
    let (url, _relay) = relay(Answers::Nothing).await;
    let patience = Duration::from_millis(10);
    let report = MailboxLoad { duration: Duration::from_secs(1), patience, ..load(&url) }.run().await.unwrap();
    assert_eq!((report.stored, report.failed), (0, 0), "{report}");
    assert!(report.errors.contains_key("TIMED_OUT"), "{report}");
}

#[tokio::test]
async fn a_relay_that_is_not_there_is_named() {
    let (url, mut relay) = relay(Answers::Stored).await;
    relay.shutdown().await;
    let error = load(&url).run().await.unwrap_err().to_string();
    assert!(error.starts_with("client 0:") && error.contains("is the relay running?"), "{error}");
}
