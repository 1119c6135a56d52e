//! The first key that proves itself owns its vault's name: on every node, after every loss.

use std::net::SocketAddr;

use serde_json::{Value, json};
use waystation::domain::principal::Principal;

use crate::support::cluster::{all_meet, halves, heal, kill, live_nodes_are, split};
use crate::support::{Process, TestAgent, TestNode, TestVault, registration};

const VAULT: &str = "vault_demo01";

const TAKEN: (&str, &str) = ("RELAY_UNAUTHORIZED", "vault_id is already registered to a different key");

/// Tries to register with the key of `seed`. True if it was granted, false if another key owns the name.
async fn claim(address: SocketAddr, name: &str, seed: u8) -> (TestVault, bool) {
    let mut vault = TestVault::connect(address).await;
    vault.send_frame("register", registration(name, seed)).await;
    let reply = vault.next().await;
    if reply["type"] == "ack" {
        return (vault, true);
    }
    assert_eq!((&reply["payload"]["code"], &reply["payload"]["message"]), (&json!(TAKEN.0), &json!(TAKEN.1)));
    (vault, false)
}

/// Every node lets the owner in, and nobody else.
async fn belongs_to(addresses: impl IntoIterator<Item = SocketAddr>, owner: u8, other: u8) {
    for address in addresses {
        assert!(!claim(address, VAULT, other).await.1, "the key of another");
        assert!(claim(address, VAULT, owner).await.1, "the owner's key");
    }
}

fn addresses(nodes: &[TestNode]) -> Vec<SocketAddr> {
    nodes.iter().map(|node| node.public).collect()
}

#[tokio::test]
async fn of_two_first_claims_at_once_exactly_one_is_granted() {
    let nodes = TestNode::cluster(3, &[]).await;
    let ((one, first), (two, second)) =
        tokio::join!(claim(nodes[0].public, VAULT, 1), claim(nodes[1].public, VAULT, 2));
    assert!(first ^ second, "granted: {first}, {second}");
    let (mut owner, owners_key, others_key) = if first { (one, 1, 2) } else { (two, 2, 1) };
    for node in &nodes {
        let known = node.node().cluster.claims.owner_of(&Principal::vault(VAULT)).await;
        assert_eq!(known.as_deref(), Some(crate::support::vault::key(owners_key).public_key().0.as_slice()));
    }
    let mut agent = TestAgent::connect(nodes[2].public).await;
    agent.ask(VAULT, "req_1").await;
    owner.expect_request("req_1").await;
    belongs_to(addresses(&nodes), owners_key, others_key).await;
}

#[tokio::test]
async fn the_binding_survives_the_loss_of_any_one_node_with_its_disk() {
    let survives = async |lost: usize| {
        let mut nodes = TestNode::cluster(3, &[]).await;
        assert!(claim(nodes[0].public, VAULT, 1).await.1);
        kill(&mut nodes, lost).await;
        belongs_to(addresses(&nodes), 1, 2).await;
    };
    tokio::join!(survives(0), survives(1), survives(2));
}

#[tokio::test]
async fn the_binding_survives_the_loss_of_one_node_after_another() {
    let mut nodes = TestNode::cluster(3, &[]).await;
    assert!(claim(nodes[0].public, VAULT, 1).await.1);
    for _ in 0..3 {
        kill(&mut nodes, 0).await;
        let fresh = nodes[0].join(&[]).await;
        nodes.push(fresh);
        all_meet(&nodes).await;
        belongs_to(addresses(&nodes), 1, 2).await;
    }
}

#[tokio::test]
async fn the_binding_survives_a_restart_of_all_nodes() {
    let disks: Vec<_> = (0..3).map(|_| tempfile::tempdir().unwrap()).collect();
    let start = async || {
        let mut processes: Vec<Process> = Vec::new();
        for disk in &disks {
            let seed = processes.first().map(|first| first.gossip.to_string()).unwrap_or_default();
            let disk = disk.path().to_str().unwrap();
            let settings =
                [("RELAY_STORAGE_BACKEND", "rocksdb"), ("RELAY_DATA_DIR", disk), ("RELAY_CLUSTER_SEEDS", &seed)];
            processes.push(Process::start(&settings).await);
        }
        live_nodes_are(processes.iter().map(|process| process.public), 3).await;
        processes
    };
    let mut processes = start().await;
    assert!(claim(processes[1].public, VAULT, 1).await.1);
    for process in &mut processes {
        process.sigkill();
        process.ended().await;
    }
    let processes = start().await;
    belongs_to(processes.iter().map(|process| process.public), 1, 2).await;
}

#[tokio::test]
async fn a_registration_is_good_once_in_the_whole_cluster() {
    let nodes = TestNode::cluster(3, &[]).await;
    let recorded = registration(VAULT, 7);
    let mut vault = TestVault::connect(nodes[0].public).await;
    vault.send_frame("register", recorded.clone()).await;
    vault.expect("ack").await;
    let mut unpadded = recorded.clone();
    unpadded["nonce"] = Value::String(recorded["nonce"].as_str().unwrap().trim_end_matches('=').to_owned());
    for node in &nodes {
        for replay in [&recorded, &unpadded] {
            let mut thief = TestVault::connect(node.public).await;
            thief.send_frame("register", replay.clone()).await;
            thief.expect_error("RELAY_UNAUTHORIZED", "Nonce already used (replay detected)").await;
        }
    }
    let mut agent = TestAgent::connect(nodes[1].public).await;
    agent.ask(VAULT, "req_1").await;
    vault.expect_request("req_1").await;
}

#[tokio::test]
async fn two_halves_that_each_bound_a_name_agree_on_the_older_binding() {
    // Three nodes a half, so that a name's owners are not the whole half; and names enough that some have their
    // owners in one half when all is healed.
    const NAMES: usize = 9;
    let nodes = TestNode::cluster(6, &[]).await;
    split(&nodes).await;
    let (left, right) = halves(&nodes);
    let (mut owners, mut strangers) = (Vec::new(), Vec::new());
    for n in 0..NAMES {
        let name = format!("vault_{n}");
        let (owner, granted) = claim(left[n % 3].public, &name, 1).await;
        assert!(granted);
        let (stranger, granted) = claim(right[n % 3].public, &name, 2).await;
        assert!(granted, "nobody on this side knows the owner");
        owners.push((name, owner));
        strangers.push(stranger);
    }
    heal(&nodes).await;
    for stranger in &mut strangers {
        stranger.expect_error(TAKEN.0, TAKEN.1).await;
    }
    for (n, (name, owner)) in owners.iter_mut().enumerate() {
        assert!(!claim(nodes[(n + 1) % 6].public, name, 2).await.1);
        let mut agent = TestAgent::connect(nodes[n % 6].public).await;
        agent.ask(name, "req_1").await;
        owner.expect_request("req_1").await;
    }
}

#[tokio::test]
async fn a_node_that_has_stopped_lets_go_of_its_store() {
    let dir = tempfile::tempdir().unwrap();
    let settings = [("RELAY_STORAGE_BACKEND", "rocksdb"), ("RELAY_DATA_DIR", dir.path().to_str().unwrap())];
    for _ in 0..2 {
        let node = TestNode::start(&settings).await;
        TestVault::registered(node.public, "vault_demo01", 7).await.close().await;
        node.stop().await;
    }
}
