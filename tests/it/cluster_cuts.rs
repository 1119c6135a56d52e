//! Nodes that die, stand still, or cannot reach each other for a while.

use std::time::Duration;

use waystation::cluster::links::AskError;
use waystation::cluster::presence::Located;
use waystation::cluster::proto::{MailHolds, frame::Body};
use waystation::domain::principal::Principal;

use crate::support::cluster::{SECRET, all_meet, expect_requests, figure_is, heal, kill, live_nodes_are, split};
use crate::support::{Process, TestAgent, TestNode, TestVault, envelope, in_time};

const VAULT: &str = "vault_demo01";

/// One round trip.
async fn answers(vault: &mut TestVault, agent: &mut TestAgent, id: &str) {
    agent.ask(VAULT, id).await;
    vault.expect_request(id).await;
    vault.respond(id, "EjRW").await;
    agent.expect_response(id).await;
}

#[tokio::test]
async fn a_killed_node_leaves_the_cluster() {
    let mut nodes = TestNode::cluster(3, &[SECRET]).await;
    kill(&mut nodes, 1).await;
    all_meet(&nodes).await;
}

#[tokio::test]
async fn a_vault_behind_a_broken_link_is_never_said_to_be_absent() {
    let nodes = TestNode::cluster(3, &[]).await;
    let mut vault = TestVault::registered(nodes[1].public, VAULT, 7).await;
    nodes[0].cut_from(&nodes[1]);
    nodes[0].links_are(1).await;
    let mut agent = TestAgent::connect(nodes[0].public).await;
    agent.send_frame("request", envelope(VAULT, "req_1")).await;
    let presence = &nodes[0].node().cluster.presence;
    for located in
        [presence.locate(&Principal::vault(VAULT)).await, presence.locate_anew(&Principal::vault(VAULT)).await]
    {
        assert_ne!(located, Located::Absent);
    }

    nodes[0].mend_with(&nodes[1]);
    nodes[0].links_are(2).await;
    nodes[1].links_are(2).await;
    let told = agent.next().await;
    if told["type"] == "error" {
        assert_eq!(told["payload"]["code"], "RELAY_UNAVAILABLE", "{told}");
    } else {
        assert_eq!(told["type"], "ack", "{told}");
        vault.expect_request("req_1").await;
        vault.respond("req_1", "EjRW").await;
        agent.expect_response("req_1").await;
    }
    answers(&mut vault, &mut agent, "req_2").await;
}

#[tokio::test]
async fn a_request_made_while_the_cluster_was_split_is_answered_once_it_is_whole() {
    let nodes = TestNode::cluster(4, &[]).await;
    let mut vault = TestVault::registered(nodes[0].public, VAULT, 7).await;
    let mut agents = Vec::new();
    for node in &nodes {
        agents.push(TestAgent::connect(node.public).await);
    }
    // So that every node has heard of the vault.
    for (n, agent) in agents.iter_mut().enumerate() {
        answers(&mut vault, agent, &format!("before_{n}")).await;
    }
    split(&nodes).await;
    answers(&mut vault, &mut agents[1], "same_half").await;
    for (n, agent) in agents.iter_mut().enumerate().skip(2) {
        agent.ask(VAULT, &format!("split_{n}")).await;
    }
    heal(&nodes).await;
    assert_eq!(expect_requests(&mut vault, 2).await, ["split_2", "split_3"]);
    for id in ["split_2", "split_3"] {
        vault.respond(id, "EjRW").await;
    }
    for (n, agent) in agents.iter_mut().enumerate().skip(2) {
        agent.expect_response(&format!("split_{n}")).await;
        answers(&mut vault, agent, &format!("after_{n}")).await;
    }
}

#[tokio::test]
async fn a_node_that_has_lost_all_others_does_not_take_their_vaults_for_absent() {
    let nodes = TestNode::cluster(3, &[]).await;
    let mut vaults = Vec::new();
    for n in 0..12 {
        let name = format!("vault_{n}");
        vaults.push((TestVault::registered(nodes[1].public, &name, 7).await, name));
    }
    for other in &nodes[1..] {
        nodes[0].cut_from(other);
    }
    nodes[0].view_is(1).await;
    let mut agent = TestAgent::connect(nodes[0].public).await;
    for (_, name) in &vaults {
        agent.ask(name, &format!("req_{name}")).await;
    }
    for other in &nodes[1..] {
        nodes[0].mend_with(other);
    }
    for (vault, name) in &mut vaults {
        let id = format!("req_{name}");
        vault.expect_request(&id).await;
        vault.respond(&id, "EjRW").await;
    }
    for _ in &vaults {
        agent.expect("response").await;
    }
}

#[tokio::test]
async fn a_node_that_stood_still_is_accepted_again_and_its_vault_reached() {
    let first = Process::start(&[SECRET]).await;
    let seed = first.gossip.to_string();
    let settings = [SECRET, ("RELAY_CLUSTER_SEEDS", seed.as_str())];
    let (second, third) = tokio::join!(Process::start(&settings), Process::start(&settings));
    let all = [first.public, second.public, third.public];
    live_nodes_are(all, 3).await;
    let mut vault = TestVault::registered(third.public, VAULT, 7).await;
    let mut agent = TestAgent::connect(first.public).await;
    answers(&mut vault, &mut agent, "before").await;

    third.sigstop();
    live_nodes_are([first.public, second.public], 2).await;
    agent.ask(VAULT, "meanwhile").await;
    for other in [first.public, second.public] {
        figure_is(other, "waystation_links_up", |links| links == 1.0).await;
    }
    third.sigcont();
    live_nodes_are(all, 3).await;

    vault.expect_request("meanwhile").await;
    vault.respond("meanwhile", "EjRW").await;
    agent.expect_response("meanwhile").await;
    let mut other = TestAgent::connect(second.public).await;
    answers(&mut vault, &mut other, "after").await;
}

#[tokio::test]
async fn what_is_asked_of_a_node_that_dies_is_not_waited_for() {
    let node = TestNode::named("asker", "a-question", "", &[]).await;
    let seed = node.gossip().to_string();
    let settings = [("RELAY_NODE_ID", "asked"), ("RELAY_CLUSTER_ID", "a-question"), ("RELAY_CLUSTER_SEEDS", &seed)];
    let asked = Process::start(&settings).await;
    node.view_is(2).await;
    node.links_are(1).await;
    let cluster = &node.node().cluster;
    let run = cluster.nodes().others().next().unwrap().run.clone();
    asked.sigstop();
    let question = Body::MailHolds(MailHolds::default());
    let asking = cluster.links.ask(&run, question, Duration::from_secs(3600));
    let (answer, ()) = tokio::join!(in_time("the question ends", asking), async { asked.sigkill() });
    assert_eq!(answer, Err(AskError::Broken));
}
