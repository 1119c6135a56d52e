//! What operators see of a node, and do to its sessions and mailboxes.

use std::collections::BTreeSet;

use tonic::{Code, Streaming};
use waystation::domain::mailbox::MailboxKey;
use waystation::edge::admin::proto::purge_mailbox_request::Mailbox as Which;
use waystation::edge::admin::proto::{
    ClusterStatusRequest, DisconnectSessionRequest, GetConfigRequest, ListMailboxesRequest, ListMembersRequest,
    ListSessionsRequest, ListTasksRequest, MemberChange, MemberEvent, NodeStatusRequest, Phase, PurgeMailboxRequest,
    Service, Session, WatchMembersRequest,
};

use crate::support::admin::{admin, printed};
use crate::support::cluster::{SECRET, figure};
use crate::support::peer::TestPeer;
use crate::support::{LONG_PATIENCE, TestMailbox, TestNode, TestVault, id, in_time, until, within};

use super::p2p_circuits::{P2P, relay};

const VAULT: &str = "vault_demo01";

/// All sessions, in pages of so many.
async fn sessions(node: &TestNode, page_size: u32, reveal_ids: bool) -> (Vec<Session>, usize) {
    let (mut client, mut all, mut page_token, mut pages) = (admin(node).await, Vec::new(), String::new(), 0);
    loop {
        let request = ListSessionsRequest { page_size, page_token, service: 0, reveal_ids };
        let page = client.list_sessions(request).await.unwrap().into_inner();
        assert!(page.sessions.len() <= page_size as usize);
        all.extend(page.sessions);
        pages += 1;
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return (all, pages);
        }
    }
}

#[tokio::test]
async fn a_node_and_its_cluster_tell_how_they_are() {
    let nodes = TestNode::cluster(2, &[SECRET, ("RELAY_REGION", "north")]).await;
    let mut mailbox = TestMailbox::plain(nodes[0].public, &id('a')).await;
    mailbox.store("m1", &id('b'), b"twelve bytes").await;
    let mut client = admin(&nodes[0]).await;
    let status = client.node_status(NodeStatusRequest {}).await.unwrap().into_inner();
    assert_eq!((status.phase(), status.websockets, status.mailbox_sessions), (Phase::Serving, 1, 1));
    assert_eq!((status.blobs, status.blob_bytes), (1, 12 + 512));
    assert_eq!((status.listen, status.region.as_str()), (nodes[0].public.to_string(), "north"));
    assert_eq!(status.node_id, nodes[0].node().cluster.me.node.to_string());
    let cluster = client.cluster_status(ClusterStatusRequest {}).await.unwrap().into_inner();
    assert_eq!((cluster.serving, cluster.draining, cluster.links_up, cluster.secured), (2, 0, 1, true));
    assert_eq!((cluster.regions["north"], cluster.versions[env!("CARGO_PKG_VERSION")]), (2, 2));
    let members = client.list_members(ListMembersRequest {}).await.unwrap().into_inner().members;
    assert_eq!(members.iter().filter(|member| member.is_self).count(), 1);
    assert_eq!(members.len(), 2);
    let calls = figure(nodes[0].public, r#"waystation_admin_calls_total{call="NodeStatus"}"#).await;
    assert_eq!(calls, 1.0);
}

async fn next(events: &mut Streaming<MemberEvent>) -> (MemberChange, String) {
    let event = within(LONG_PATIENCE, "a member changes", events.message()).await.unwrap().unwrap();
    (event.change(), event.member.unwrap().node_id)
}

#[tokio::test]
async fn who_watches_sees_members_come_drain_and_leave() {
    let mut nodes = vec![TestNode::start(&[]).await];
    let name = |node: &TestNode| node.node().cluster.me.node.to_string();
    let mut events = admin(&nodes[0]).await.watch_members(WatchMembersRequest {}).await.unwrap().into_inner();
    assert_eq!(next(&mut events).await, (MemberChange::Present, name(&nodes[0])));
    nodes.push(nodes[0].join(&[]).await);
    nodes.push(nodes[0].join(&[]).await);
    let (second, third) = (name(&nodes[1]), name(&nodes[2]));
    let joined: BTreeSet<_> = [next(&mut events).await, next(&mut events).await].into();
    let expected = [(MemberChange::Joined, second.clone()), (MemberChange::Joined, third.clone())];
    assert_eq!(joined, expected.into());
    nodes.remove(2).kill();
    assert_eq!(next(&mut events).await, (MemberChange::Left, third));
    let second_node = nodes.remove(1);
    // It has nothing to wait for, so that it drains may be over before anybody hears of it.
    in_time("the node leaves", second_node.drain()).await;
    let mut told = next(&mut events).await;
    if told.0 == MemberChange::Changed {
        told = next(&mut events).await;
    }
    assert_eq!(told, (MemberChange::Left, second));
}

#[tokio::test]
async fn sessions_come_in_pages_each_once_and_without_names_unless_they_are_asked_for() {
    let node = TestNode::start(&[]).await;
    let mut vaults = Vec::new();
    for n in 0..12 {
        vaults.push(TestVault::registered(node.public, &format!("vault_{n:02}"), 7).await);
    }
    let mut mailboxes = Vec::new();
    for digit in "0123456789abcdef".chars() {
        mailboxes.push(TestMailbox::device(node.public, &id(digit), &id('d')).await);
    }
    mailboxes.push(TestMailbox::proven(node.public, 3).await);

    let (revealed, _) = sessions(&node, 1000, true).await;
    let names: BTreeSet<_> = revealed.iter().map(|s| s.name.clone()).collect();
    assert_eq!((revealed.len(), names.len()), (29, 29));
    assert!(names.contains("vault_07") && names.contains(&id('e')));
    let of = |service: Service| revealed.iter().filter(|s| s.service() == service).collect::<Vec<_>>();
    assert!(of(Service::Vault).iter().all(|s| s.proven && s.since_ms > 0 && s.address.is_empty()));
    assert_eq!(of(Service::Mailbox).iter().filter(|s| s.proven).count(), 1);
    assert!(of(Service::Mailbox).iter().all(|s| s.address == "127.0.0.1" && s.mailbox == s.name));

    for size in [1, 2, 7, 29] {
        let (hidden, pages) = sessions(&node, size, false).await;
        assert_eq!(hidden.iter().map(|s| &s.id).collect::<BTreeSet<_>>().len(), 29, "pages of {size}");
        assert_eq!((hidden.len(), pages), (29, 29usize.div_ceil(size as usize)), "pages of {size}");
        let told = format!("{hidden:?}");
        assert!(!names.iter().any(|name| told.contains(name.as_str())) && !told.contains("127.0.0.1"), "{told}");
        assert_eq!(hidden.iter().map(|s| &s.name).collect::<BTreeSet<_>>().len(), 29, "they are told apart");
    }
    let request = ListSessionsRequest { service: Service::Vault.into(), ..ListSessionsRequest::default() };
    let only = admin(&node).await.list_sessions(request).await.unwrap().into_inner();
    assert_eq!((only.sessions.len(), only.next_page_token.as_str()), (12, ""));
    let request = ListSessionsRequest { page_token: "nonsense".to_owned(), ..ListSessionsRequest::default() };
    assert_eq!(admin(&node).await.list_sessions(request).await.unwrap_err().code(), Code::InvalidArgument);
}

#[tokio::test]
async fn who_is_disconnected_loses_its_socket_and_nobody_else_does() {
    let node = TestNode::start(&[]).await;
    let mut vault = TestVault::registered(node.public, VAULT, 7).await;
    let mut plain = TestVault::connect(node.public).await;
    plain.send(&serde_json::json!({"type": "register", "vault_id": "plain"})).await;
    plain.next().await;
    let mut mailbox = TestMailbox::plain(node.public, &id('a')).await;
    let mut other = TestMailbox::plain(node.public, &id('b')).await;
    let (all, _) = sessions(&node, 100, true).await;
    let named = |name: &str| all.iter().find(|session| session.name == name).unwrap().id.clone();
    let mut client = admin(&node).await;
    let mut end = async |id: String, cut| client.disconnect_session(DisconnectSessionRequest { id, cut }).await;
    end(named(VAULT), false).await.unwrap();
    assert_eq!(vault.closed().await, (1008, "closed by the operator".to_owned()));
    vault.ended().await;
    end(named("plain"), false).await.unwrap();
    assert_eq!(plain.closed().await.0, 1008);
    plain.ended().await;
    end(named(&id('a')), true).await.unwrap();
    mailbox.ended().await;
    node.websockets_are(1).await;
    other.settle().await;
    for (gone, code) in [("vault-999", Code::NotFound), ("nonsense", Code::InvalidArgument)] {
        assert_eq!(end(gone.to_owned(), false).await.unwrap_err().code(), code, "{gone}");
    }
}

#[tokio::test]
async fn the_largest_mailboxes_are_listed_and_purged_on_all_nodes() {
    let nodes = TestNode::cluster(2, &[]).await;
    let (large, small) = (id('a'), id('b'));
    for (n, node) in nodes.iter().enumerate() {
        let mut sender = TestMailbox::plain(node.public, &id('c')).await;
        for blob in 0..3 {
            sender.store(&format!("{n}-{blob}"), &large, &[7; 1000]).await;
        }
        sender.store(&format!("{n}-small"), &small, b"x").await;
    }
    let mut client = admin(&nodes[0]).await;
    let listed = client.list_mailboxes(ListMailboxesRequest::default()).await.unwrap().into_inner();
    let hash = |name: &str| hex::encode(MailboxKey::blobs(name).0);
    let seen: Vec<_> = listed.mailboxes.iter().map(|m| (m.hash.clone(), m.blobs, m.bytes)).collect();
    assert_eq!(seen, [(hash(&large), 3, 3 * 1512), (hash(&small), 1, 513)]);
    assert!(listed.counted == 2 && listed.counted_ms > 0 && !listed.counting);
    let one = client.list_mailboxes(ListMailboxesRequest { limit: 1, fresh: false }).await.unwrap().into_inner();
    assert_eq!((one.mailboxes.len(), one.counted_ms), (1, listed.counted_ms), "counted anew within a minute");

    let purge = PurgeMailboxRequest { mailbox: Some(Which::Hash(hash(&large))) };
    assert_eq!(client.purge_mailbox(purge).await.unwrap().into_inner().deleted, 6);
    let mut reader = TestMailbox::plain(nodes[1].public, &large).await;
    reader.settle().await;
    for node in &nodes {
        assert_eq!(node.node().mailbox.blobs().await.unwrap(), 1, "the other mailbox is left alone");
    }
    let purge = PurgeMailboxRequest { mailbox: Some(Which::RoutingId(small.clone())) };
    let purged = client.purge_mailbox(purge).await.unwrap().into_inner();
    assert_eq!((purged.deleted, purged.hash), (2, hash(&small)));
    let fresh = ListMailboxesRequest { fresh: true, ..ListMailboxesRequest::default() };
    let listed = client.list_mailboxes(fresh).await.unwrap().into_inner();
    assert_eq!((listed.mailboxes.len(), listed.counted), (0, 0));
    for bad in [None, Some(Which::Hash("12".to_owned())), Some(Which::RoutingId(String::new()))] {
        let refused = client.purge_mailbox(PurgeMailboxRequest { mailbox: bad }).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument);
    }
}

#[tokio::test]
async fn tasks_are_listed_with_their_state() {
    let node = TestNode::start(&[]).await;
    let mut client = admin(&node).await;
    client.list_mailboxes(ListMailboxesRequest::default()).await.unwrap();
    let tasks = client.list_tasks(ListTasksRequest {}).await.unwrap().into_inner().tasks;
    let named = |name: &str| tasks.iter().find(|task| task.name == name).unwrap_or_else(|| panic!("{tasks:?}"));
    for name in ["public port", "membership", "mailbox sweep", "record sweep", "operators' port"] {
        assert_eq!((named(name).running, named(name).errors), (1, 0), "{name}");
        assert!(named(name).since_ms > 0, "{name}");
    }
    assert_eq!(named("mailbox census").started, 1);
    let ended = async || client.clone().list_tasks(ListTasksRequest {}).await.unwrap().into_inner().tasks;
    in_time("the walk ends", async {
        while ended().await.iter().any(|task| task.name == "mailbox census" && task.running > 0) {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn settings_are_told_with_their_origin_and_secrets_are_not() {
    let token = ("RELAY_METRICS_TOKEN", "a-token-for-figures");
    let node = TestNode::start(&[SECRET, token, ("PORT", "0"), ("RELAY_LISTEN_ADDR", ""), ("HOST", "127.0.0.1")]).await;
    let settings = admin(&node).await.get_config(GetConfigRequest {}).await.unwrap().into_inner().settings;
    let named = |name: &str| settings.iter().find(|setting| setting.name == name).unwrap();
    let told = |name: &str| (named(name).value.as_str(), named(name).origin.as_str(), named(name).hidden);
    assert_eq!(told(SECRET.0), ("(hidden)", "environment RELAY_CLUSTER_SECRET", true));
    assert_eq!(told(token.0), ("(hidden)", "environment RELAY_METRICS_TOKEN", true));
    assert_eq!(told("RELAY_LISTEN_ADDR"), ("127.0.0.1:0", "environment PORT", false));
    assert_eq!(told("RELAY_REGION"), ("default", "default RELAY_REGION", false));
    assert_eq!(told("RELAY_NOISE_STATIC_KEY"), ("", "", false));
    assert!(settings.iter().all(|setting| !setting.meaning.is_empty()));
    let all = format!("{settings:?}") + &printed(node.node().admin, &["config", "--json"]).await;
    assert!(!all.contains(SECRET.1) && !all.contains(token.1));
}

#[tokio::test]
async fn a_node_that_dies_takes_its_port_along() {
    let node = TestNode::start(&[]).await;
    let mut events = admin(&node).await.watch_members(WatchMembersRequest {}).await.unwrap().into_inner();
    next(&mut events).await;
    let stopping = tokio::spawn(node.stop());
    let ended = in_time("the stream ends", events.message()).await;
    assert!(matches!(ended, Ok(None) | Err(_)));
    in_time("the node stops", stopping).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_of_libp2p_peers_are_listed_and_ended() {
    let node = TestNode::start(P2P).await;
    let (target, source) = (TestPeer::start(), TestPeer::start());
    target.reserve(&relay(&node)).await.unwrap();
    source.dial_through(&relay(&node), target.id).await.unwrap();
    let mut client = admin(&node).await;
    let status = client.node_status(NodeStatusRequest {}).await.unwrap().into_inner();
    assert_eq!((status.p2p_connections, status.reservations, status.circuits), (2, 1, 1));
    let (listed, pages) = sessions(&node, 1, true).await;
    assert_eq!((listed.len(), pages), (2, 2));
    let of = |peer: &TestPeer| listed.iter().find(|session| session.name == peer.id.to_base58()).unwrap();
    let shown = |peer: &TestPeer| (of(peer).reserved, of(peer).circuits, of(peer).address.clone());
    assert_eq!(shown(&target), (true, 1, "127.0.0.1".to_owned()));
    assert_eq!(shown(&source), (false, 1, "127.0.0.1".to_owned()));
    let request = DisconnectSessionRequest { id: of(&target).id.clone(), cut: false };
    client.disconnect_session(request.clone()).await.unwrap();
    until("its connection has ended", || node.node().metrics.p2p.connections.get() == 1).await;
    assert_eq!(node.node().metrics.p2p.reservations.get(), 0);
    assert_eq!(client.disconnect_session(request).await.unwrap_err().code(), Code::NotFound);
}
