//! A peer that has too much to do has said nothing of what it was asked: that is not taken for a no, and it is asked again.

use std::collections::HashSet;

use bytes::Bytes;
use waystation::cluster::links::asks::busy;
use waystation::cluster::proto::{OwnersFound, frame::Body, reply};

use crate::support::cluster::{figure, figure_is};
use crate::support::far::{FarNode, FarPeer, has_it};
use crate::support::regions::federated;
use crate::support::vault::{key, registration};
use crate::support::{SEED, TestAgent, TestMailbox, TestNode, TestVault, VAULT, envelope, id};

/// A node that calls a peer that is written by hand, and does not lose patience with it.
async fn linked() -> (TestNode, FarPeer, FarNode) {
    let mut peer = FarPeer::listens().await;
    let settings = federated("near", "127.0.0.1:0", &peer.url);
    let node = TestNode::start(&[&settings[..], &[("RELAY_FEDERATION_PEER_TIMEOUT", "3600")]].concat()).await;
    let link = peer.called().await;
    figure_is(node.public, &format!(r#"waystation_federation_up{{peer="{}"}}"#, peer.url), |up| up == 1.0).await;
    (node, peer, link)
}

fn owners(keys: Vec<Bytes>) -> reply::Body {
    reply::Body::Owners(OwnersFound { keys })
}

/// The next question who owns a name.
async fn next_query(link: &mut FarNode) -> (u64, Vec<String>) {
    loop {
        if let (ask, Body::OwnersQuery(query)) = link.next_mail().await {
            return (ask, query.principals.into_iter().map(|principal| principal.name).collect());
        }
    }
}

#[tokio::test]
async fn a_busy_peer_is_not_taken_to_lack_the_vault() {
    let (node, _peer, mut link) = linked().await;
    let mut agent = TestAgent::connect(node.public).await;
    agent.send_frame("request", envelope(VAULT, "req_1")).await;
    let mut asked = 0;
    {
        let text = format!("Vault {VAULT} is not connected");
        let mut told = std::pin::pin!(agent.expect_error("RELAY_VAULT_NOT_CONNECTED", &text));
        loop {
            tokio::select! {
                _ = &mut told => break,
                (ask, _) = link.next() => {
                    asked += 1;
                    link.reply(ask, busy());
                }
            }
        }
    }
    assert!(asked > 1, "it was asked once");
    assert_eq!(figure(node.public, r#"waystation_federation_lookups_total{reason="busy"}"#).await, 1.0);
    // Nor is that remembered.
    agent.send_frame("request", envelope(VAULT, "req_2")).await;
    let (ask, _) = link.next().await;
    link.reply(ask, has_it());
    let (_, Body::Deliver(sent)) = link.next().await else { panic!("it is not sent the request") };
    assert_eq!(sent.request_id, "req_2");
}

#[tokio::test]
async fn a_client_without_proof_reads_nothing_before_a_busy_peer_says_that_nobody_owns_its_name() {
    let (node, _peer, mut link) = linked().await;
    TestMailbox::plain(node.public, &id('a')).await.store("m", &id('b'), b"x").await;
    let mut recipient = TestMailbox::plain(node.public, &id('b')).await;
    let (mut put_off, mut said) = (HashSet::new(), HashSet::new());
    {
        let mut read = std::pin::pin!(recipient.expect_blob(b"x"));
        loop {
            tokio::select! {
                _ = &mut read => break,
                (ask, names) = next_query(&mut link) => {
                    if names.iter().all(|name| !name.ends_with(&id('b'))) || !put_off.insert(names.clone()) {
                        link.reply(ask, owners(vec![Bytes::new(); names.len()]));
                        said.extend(names);
                    } else {
                        link.reply(ask, busy());
                    }
                }
            }
        }
    }
    assert_eq!(said.iter().filter(|name| name.ends_with(&id('b'))).count(), 2, "{said:?}");
}

#[tokio::test]
async fn a_busy_peer_is_asked_again_who_owns_a_vault() {
    let (node, _peer, mut link) = linked().await;
    let mut vault = TestVault::connect(node.public).await;
    vault.send_frame("register", registration(VAULT, SEED)).await;
    let (ask, _) = next_query(&mut link).await;
    link.reply(ask, busy());
    let (ask, _) = next_query(&mut link).await;
    link.reply(ask, owners(vec![key(SEED + 1).public_key().0.to_vec().into()]));
    vault.expect_error("RELAY_UNAUTHORIZED", "vault_id is already registered to a different key").await;
}
