//! Things that happen to clusters: nodes die, and the network between them breaks.

use std::net::SocketAddr;
use std::time::Duration;

use futures::future::join_all;

use super::http::get;
use super::{LONG_PATIENCE, TestNode, TestVault, within};

/// A secret for the nodes of a cluster: their gossip is sealed, and their links are TLS.
pub const SECRET: (&str, &str) = ("RELAY_CLUSTER_SECRET", "a secret that only these nodes know");

/// How often a figure of a process is looked at.
const LOOK: Duration = Duration::from_millis(50);

/// Kills the node at that place in the list, and waits until the others know.
pub async fn kill(nodes: &mut Vec<TestNode>, at: usize) {
    nodes.remove(at).kill();
    for node in &*nodes {
        node.view_is(nodes.len()).await;
    }
}

/// Waits until all nodes see each other and are linked.
pub async fn all_meet(nodes: &[TestNode]) {
    for node in nodes {
        node.view_is(nodes.len()).await;
    }
    for node in nodes {
        node.links_are(nodes.len() - 1).await;
    }
}

/// The two halves of a list of nodes.
pub fn halves(nodes: &[TestNode]) -> (&[TestNode], &[TestNode]) {
    nodes.split_at(nodes.len() / 2)
}

/// Lets nothing pass between the two halves, and waits until each takes the other for dead.
pub async fn split(nodes: &[TestNode]) {
    let (left, right) = halves(nodes);
    for (one, other) in pairs(left, right) {
        one.cut_from(other);
    }
    for half in [left, right] {
        for node in half {
            node.view_is(half.len()).await;
        }
    }
}

/// Undoes [`split`], and waits until all nodes are linked again.
pub async fn heal(nodes: &[TestNode]) {
    let (left, right) = halves(nodes);
    for (one, other) in pairs(left, right) {
        one.mend_with(other);
    }
    all_meet(nodes).await;
}

fn pairs<'a>(left: &'a [TestNode], right: &'a [TestNode]) -> impl Iterator<Item = (&'a TestNode, &'a TestNode)> {
    left.iter().flat_map(move |one| right.iter().map(move |other| (one, other)))
}

/// A figure of a node, with its labels as they are printed; zero while it is not there.
pub async fn figure(address: SocketAddr, name: &str) -> f64 {
    let text = get(address, "/metrics?format=prometheus").await.text;
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    value.map_or(0.0, |value| value.parse().unwrap())
}

/// Waits until `wanted` holds of a figure.
pub async fn figure_is(address: SocketAddr, name: &str, wanted: impl Fn(f64) -> bool) {
    within(LONG_PATIENCE, name, async {
        while !wanted(figure(address, name).await) {
            tokio::time::sleep(LOOK).await;
        }
    })
    .await;
}

/// Waits until a figure of all these nodes adds up to `sum`.
pub async fn figures_sum_to(addresses: &[SocketAddr], name: &str, sum: f64) {
    within(LONG_PATIENCE, name, async {
        while join_all(addresses.iter().map(|address| figure(*address, name))).await.iter().sum::<f64>() != sum {
            tokio::time::sleep(LOOK).await;
        }
    })
    .await;
}

/// Waits until each of these nodes sees `count` live nodes, itself included.
pub async fn live_nodes_are(addresses: impl IntoIterator<Item = SocketAddr>, count: u32) {
    for address in addresses {
        figure_is(address, r#"waystation_cluster_members{state="live"}"#, |live| live == f64::from(count)).await;
    }
}

/// The ids of the next `count` frames, which must all be requests; sorted, because requests that come by way of
/// several nodes have no order.
pub async fn expect_requests(vault: &mut TestVault, count: usize) -> Vec<String> {
    let mut ids = Vec::new();
    while ids.len() < count {
        let request = vault.expect("request").await;
        ids.push(request["request_id"].as_str().unwrap().to_owned());
    }
    ids.sort();
    ids
}
