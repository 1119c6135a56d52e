//! A cluster, or one node of it, leaves service: what its peers hear of that, and where they call then.

use tonic::Code;
use waystation::edge::admin::proto::{DrainRequest, UndrainRequest};

use crate::support::admin::{admin, printed};
use crate::support::cluster::figure;
use crate::support::front::Front;
use crate::support::regions::{federated, linked, peer_of, regions};
use crate::support::{SEED, TestAgent, TestMailbox, TestNode, TestVault, VAULT, id, until};

/// Has a node that drains wait, for an answer that does not come while these are there.
async fn keep_waiting(node: &TestNode, vault: &str) -> (TestVault, TestAgent) {
    let mut of_vault = TestVault::registered(node.public, vault, SEED).await;
    let mut agent = TestAgent::connect(node.public).await;
    agent.ask(vault, "req_1").await;
    of_vault.expect_request("req_1").await;
    (of_vault, agent)
}

#[tokio::test]
async fn peers_of_a_cluster_that_drains_know_it_and_that_it_is_back() {
    let regions = regions(&[2, 1], &[]).await;
    let (us, eu) = (&regions[0], &regions[1][0]);
    let _waited_for = (keep_waiting(&us[0], "vault_demo01").await, keep_waiting(&us[1], "vault_demo02").await);
    let is_draining = || peer_of(eu).capacity.is_some_and(|capacity| capacity.draining);
    admin(&us[1]).await.drain(DrainRequest { timeout_secs: Some(300), evacuate: false }).await.unwrap();
    until("the first knows of the second", || us[0].node().membership.view().others().all(|o| o.facts.draining)).await;
    assert!(!is_draining(), "one of the cluster serves");
    admin(&us[0]).await.drain(DrainRequest { timeout_secs: Some(300), evacuate: false }).await.unwrap();
    until("the peer hears of it", is_draining).await;
    assert!(peer_of(eu).up, "it may still be asked for what it holds");
    let shown = printed(eu.node().admin, &["peers"]).await;
    assert!(shown.contains(" draining "), "{shown}");
    admin(&us[0]).await.undrain(UndrainRequest {}).await.unwrap();
    until("the peer hears of it", || !is_draining()).await;
    let twice = admin(&us[0]).await.undrain(UndrainRequest {}).await.unwrap_err();
    assert_eq!(twice.code(), Code::FailedPrecondition);
}

#[tokio::test]
async fn a_cluster_that_leaves_at_once_says_so_before_its_links_end() {
    let mut regions = regions(&[1, 1], &[]).await;
    let (us, eu) = (regions.remove(0).remove(0), regions.remove(0).remove(0));
    us.drain().await;
    until("the link has ended", || !peer_of(&eu).up).await;
    assert!(peer_of(&eu).capacity.unwrap().draining);
}

#[tokio::test]
async fn callers_of_a_node_that_drains_alone_call_another_at_once() {
    let mut us = vec![TestNode::start(&federated("us", "127.0.0.1:0", "")).await];
    us.push(us[0].join(&federated("us", "127.0.0.1:0", "")).await);
    crate::support::cluster::all_meet(&us).await;
    let addresses: Vec<_> = us.iter().map(|node| node.node().federated.unwrap()).collect();
    let front = Front::of(addresses[0]).await;
    let url = front.url();
    let eu = TestNode::start(&federated("eu", "127.0.0.1:0", &url)).await;
    linked(&eu, 1).await;
    let (first, failed) = (peer_of(&eu).relay_id, format!(r#"waystation_federation_failed_total{{peer="{url}"}}"#));
    let mut recipient = TestMailbox::plain(eu.public, &id('b')).await;
    recipient.settle().await;

    let _waited_for = keep_waiting(&us[0], VAULT).await;
    front.point_to(addresses[1]);
    admin(&us[0]).await.drain(DrainRequest { timeout_secs: Some(300), evacuate: false }).await.unwrap();
    until("the other node answers", || peer_of(&eu).up && peer_of(&eu).relay_id != first).await;
    assert_eq!(figure(eu.public, &failed).await, 0.0, "nothing has failed");
    assert!(!peer_of(&eu).capacity.is_some_and(|capacity| capacity.draining));
    until("the first has no caller", || us[0].node().metrics.federation.callers.get() == 0).await;
    let mut sender = TestMailbox::plain(us[1].public, &id('a')).await;
    sender.store("m", &id('b'), b"x").await;
    recipient.expect_blob(b"x").await;

    // Who calls it all the same is answered as long as it is there.
    front.point_to(addresses[0]);
    front.cut();
    until("the first answers", || peer_of(&eu).up && peer_of(&eu).relay_id == first).await;
    front.point_to(addresses[1]);
    let failures = figure(eu.public, &failed).await;
    admin(&us[0]).await.drain(DrainRequest { timeout_secs: Some(0), evacuate: false }).await.unwrap();
    until("the other node answers", || peer_of(&eu).up && peer_of(&eu).relay_id != first).await;
    assert_eq!(figure(eu.public, &failed).await, failures);
}
