//! Messages, closes, and what happens to those who do not behave.

use super::*;
use crate::runtime::outbox::Outgoing;

#[tokio::test]
async fn text_and_binary_are_carried_both_ways() {
    let server = server().await;
    let mut client = server.connect().await;
    client.send("hello".into()).await.unwrap();
    client.send(Message::Binary(vec![0, 255].into())).await.unwrap();
    assert_eq!(next(&mut client).await, Message::Text("hello".into()));
    assert_eq!(next(&mut client).await, Message::Binary(vec![0, 255].into()));
    assert_eq!(server.edge.metrics.edge.websockets.get(), 1);
    client.close(None).await.unwrap();
    server.until(|edge| edge.metrics.edge.websockets.get() == 0).await;
    server.until(|edge| edge.admission.connections() == 0 && edge.metrics.edge.connections.get() == 0).await;
    assert_eq!(server.edge.metrics.edge.received_bytes.get(), 7);
    assert_eq!(server.edge.metrics.edge.sent_bytes.get(), 7);
}

#[tokio::test]
async fn many_messages_in_a_row_keep_their_order() {
    let server = server().await;
    let (mut sender, mut receiver) = server.connect().await.split();
    let sending = tokio::spawn(async move {
        for n in 0..2_000 {
            sender.feed(Message::Text(n.to_string().into())).await.unwrap();
        }
        sender.flush().await.unwrap();
        sender
    });
    for n in 0..2_000 {
        assert_eq!(receiver.next().await.unwrap().unwrap(), Message::Text(n.to_string().into()));
    }
    drop(sending.await.unwrap());
}

#[tokio::test]
async fn a_message_of_exactly_the_limit_passes_and_a_longer_one_closes() {
    let server = serve(EdgeSettings { max_message_size: 100_000, ..quick() }, limits(), &[]).await;
    let mut client = server.connect().await;
    let longest = Message::Binary(vec![7; 100_000].into());
    client.send(longest.clone()).await.unwrap();
    assert_eq!(next(&mut client).await, longest);
    client.send(Message::Binary(vec![7; 100_001].into())).await.unwrap();
    assert_eq!(close_of(&mut client).await, closed(1009, "message too big"));
    assert_eq!(server.closed("too_big"), 1);
}

async fn close_code_after(server: &Server, bytes: &[u8]) -> u16 {
    let mut stream = savage(server).await;
    stream.write_all(bytes).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    assert_eq!(answer[0], 0x88, "a close frame: {answer:?}");
    u16::from_be_bytes([answer[2], answer[3]])
}

#[tokio::test]
async fn what_is_no_websocket_is_cut_with_the_code_for_it() {
    let server = server().await;
    let unmasked = [0x81, 2, b'h', b'i'];
    assert_eq!(close_code_after(&server, &unmasked).await, 1002);
    assert_eq!(close_code_after(&server, &[0xff; 64]).await, 1002);
    let invalid_utf8 = [0x81, 0x82, 0, 0, 0, 0, 0xff, 0xfe];
    assert_eq!(close_code_after(&server, &invalid_utf8).await, 1007);
    server.until(|edge| edge.metrics.edge.websockets.get() == 0).await;
}

#[tokio::test]
async fn a_ping_is_answered_with_its_payload() {
    let server = server().await;
    let mut client = server.connect().await;
    client.send(Message::Ping(vec![1, 2, 3].into())).await.unwrap();
    assert_eq!(client.next().await.unwrap().unwrap(), Message::Pong(vec![1, 2, 3].into()));
}

#[tokio::test]
async fn a_slow_reader_is_cut_off_and_others_go_on() {
    let settings = EdgeSettings { send_queue_bytes: 1 << 20, ..quick() };
    let mut server = serve(settings, limits(), &[]).await;
    let (_slow, session) = server.session().await;
    let (mut quick, _) = server.session().await;
    let block = Outgoing::Binary(vec![0; 64 * 1024].into());
    while session.outbox.push(block.clone()).is_ok() {
        tokio::task::yield_now().await;
    }
    server.until(|edge| edge.metrics.edge.websockets.get() == 1).await;
    assert_eq!(server.closed("slow_reader"), 1);
    assert_eq!(server.edge.metrics.edge.queued_bytes.get(), 0);
    quick.send("still here".into()).await.unwrap();
    assert_eq!(next(&mut quick).await, Message::Text("still here".into()));
}

#[tokio::test]
async fn a_reader_that_takes_nothing_is_cut_off_in_time() {
    let settings = EdgeSettings { send_queue_bytes: 64 << 20, write_timeout: Duration::from_millis(100), ..quick() };
    let mut server = serve(settings, limits(), &[]).await;
    let (_stuck, session) = server.session().await;
    session.outbox.push(Outgoing::Binary(vec![0; 48 << 20].into())).unwrap();
    server.until(|edge| edge.metrics.edge.websockets.get() == 0).await;
    // The kernel's own time-out (TCP_USER_TIMEOUT) may be the first to end it.
    assert!(session.outbox.is_closed());
}

#[tokio::test]
async fn a_connection_that_is_cut_while_it_can_write_nothing_ends_at_once() {
    // Nothing else wakes it.
    let settings =
        EdgeSettings { tick: Duration::from_secs(3600), send_queue_bytes: 64 << 20, ..EdgeSettings::default() };
    let mut server = serve(settings, limits(), &[]).await;
    let (_stuck, session) = server.session().await;
    let block = Outgoing::Binary(vec![0; 64 << 10].into());
    (0..768).for_each(|_| session.outbox.push(block.clone()).unwrap());
    server.until(|edge| edge.metrics.edge.queued_bytes.get() > 0).await;
    session.outbox.cut("test");
    server.until(|edge| edge.metrics.edge.websockets.get() == 0).await;
    assert_eq!(server.closed("test"), 1);
}

#[tokio::test]
async fn what_was_begun_is_answered_when_it_is_over_and_holds_up_nothing_meanwhile() {
    let mut server = server().await;
    let (mut client, session) = server.session().await;
    client.send("later".into()).await.unwrap();
    client.send("after".into()).await.unwrap();
    assert_eq!(next(&mut client).await, Message::Text("after".into()));
    session.release.send(()).unwrap();
    assert_eq!(next(&mut client).await, Message::Text("late".into()));
}

#[tokio::test]
async fn a_waiting_protocol_holds_back_the_next_message_while_writing_goes_on() {
    let mut server = server().await;
    let (mut client, session) = server.session().await;
    client.send("wait".into()).await.unwrap();
    client.send("after".into()).await.unwrap();
    for n in 0..3 {
        session.outbox.text(n.to_string()).unwrap();
        assert_eq!(next(&mut client).await, Message::Text(n.to_string().into()));
    }
    session.release.send(()).unwrap();
    assert_eq!(next(&mut client).await, Message::Text("after".into()));
}

#[tokio::test]
async fn both_the_protocol_and_others_can_close_after_what_is_queued() {
    let mut server = server().await;
    let (mut client, _) = server.session().await;
    client.send("last words".into()).await.unwrap();
    client.send("bye".into()).await.unwrap();
    client.send("unheard".into()).await.unwrap();
    assert_eq!(next(&mut client).await, Message::Text("last words".into()));
    assert_eq!(close_of(&mut client).await, closed(4000, "as you wish"));
    drop(client);
    let (mut client, session) = server.session().await;
    session.outbox.text("moving").unwrap();
    session.outbox.close(1012, "service restart");
    assert_eq!(next(&mut client).await, Message::Text("moving".into()));
    assert_eq!(close_of(&mut client).await, closed(1012, "service restart"));
    assert!(matches!(client.next().await, None | Some(Err(Error::ConnectionClosed))));
    server.until(|edge| edge.metrics.edge.websockets.get() == 0).await;
    assert_eq!((server.closed("protocol"), server.closed("restart")), (1, 1));
}

#[tokio::test]
async fn whoever_says_too_much_is_closed() {
    let settings = EdgeSettings { messages_per_minute: NonZeroU32::new(3), ..quick() };
    let server = serve(settings, limits(), &[]).await;
    let mut client = server.connect().await;
    for n in 0..4 {
        client.send(Message::Text(n.to_string().into())).await.unwrap();
    }
    for n in 0..3 {
        assert_eq!(next(&mut client).await, Message::Text(n.to_string().into()));
    }
    assert_eq!(close_of(&mut client).await, closed(1008, "rate limit"));
    assert_eq!(server.closed("rate_limit"), 1);
}

#[tokio::test]
async fn an_idle_connection_is_closed_politely() {
    let settings = EdgeSettings { idle_timeout: Duration::from_millis(20), ..quick() };
    let server = serve(settings, limits(), &[]).await;
    let mut client = server.connect().await;
    assert_eq!(close_of(&mut client).await, closed(1000, "Idle timeout"));
    assert_eq!(server.closed("idle"), 1);
}

#[tokio::test]
async fn silence_is_pinged_and_then_cut() {
    let settings =
        EdgeSettings { ping_interval: Duration::from_millis(10), silence_timeout: Duration::from_secs(1), ..quick() };
    let server = serve(settings, limits(), &[]).await;
    let mut stream = savage(&server).await;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    assert_eq!(answer, [0x89, 0], "one ping, then the end");
    assert_eq!(server.closed("silent"), 1);
}

#[tokio::test]
async fn whoever_does_not_answer_a_probe_is_cut_and_whoever_does_is_not() {
    let settings = EdgeSettings { probe_timeout: Duration::from_secs(1), ..quick() };
    let mut server = serve(settings, limits(), &[]).await;
    let (mut client, lively) = server.session().await;
    let mut dead = savage(&server).await;
    let probed = server.sessions.recv().await.unwrap();
    lively.outbox.probe();
    assert_eq!(client.next().await.unwrap().unwrap(), Message::Ping(bytes::Bytes::new()));
    client.send("here".into()).await.unwrap();
    assert_eq!(next(&mut client).await, Message::Text("here".into()));
    probed.outbox.probe();
    let mut answer = Vec::new();
    dead.read_to_end(&mut answer).await.unwrap();
    assert_eq!(answer, [0x89, 0], "one ping, then the end");
    assert_eq!(server.closed("silent"), 1);
    client.send("still here".into()).await.unwrap();
    assert_eq!(next(&mut client).await, Message::Text("still here".into()));
}

#[tokio::test]
async fn a_close_that_is_not_answered_ends_anyway() {
    let settings = EdgeSettings { close_timeout: Duration::from_millis(20), ..quick() };
    let mut server = serve(settings, limits(), &[]).await;
    let _deaf = savage(&server).await;
    server.sessions.recv().await.unwrap().outbox.close(1000, "done");
    server.until(|edge| edge.metrics.edge.websockets.get() == 0).await;
    assert_eq!(server.closed("normal"), 1);
}

#[test]
fn the_task_of_a_websocket_is_small() {
    let bytes = size_of::<socket::Socket<TcpStream>>();
    println!("Socket<TcpStream>: {bytes} bytes");
    assert!(bytes <= 768, "{bytes} bytes");
}
