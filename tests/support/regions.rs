//! Clusters that are peers of one another, each in a region of its own.

use waystation::federation::PeerStatus;

use super::{TestNode, Way, free_port, until};

/// What proves clusters to one another.
pub const FEDERATION_SECRET: (&str, &str) = ("RELAY_FEDERATION_SECRET", "a secret that only these clusters know");

/// Clusters of so many nodes each, all peers of one another, linked; each with `settings`.
pub async fn regions(sizes: &[usize], settings: &[(&str, &str)]) -> Vec<Vec<TestNode>> {
    let each: Vec<_> = sizes.iter().map(|_| Vec::new()).collect();
    regions_with(sizes, settings, &each).await
}

/// The same, where each cluster has settings of its own besides.
pub async fn regions_with(
    sizes: &[usize],
    settings: &[(&str, &str)],
    each: &[Vec<(&str, &str)>],
) -> Vec<Vec<TestNode>> {
    let ports: Vec<_> = sizes.iter().map(|_| free_port()).collect();
    let mut regions = Vec::new();
    for (region, size) in sizes.iter().enumerate() {
        let others = ports.iter().enumerate().filter(|(other, _)| *other != region);
        let peers: Vec<_> = others.map(|(_, port)| format!("http://127.0.0.1:{port}")).collect();
        let (settings, address) = ([settings, &each[region]].concat(), format!("127.0.0.1:{}", ports[region]));
        regions.push(region_of(region, &address, &peers, *size, &settings).await);
    }
    for (region, node) in regions.iter().enumerate().flat_map(|(n, nodes)| nodes.iter().map(move |node| (n, node))) {
        let calls = each[region].iter().all(|(name, _)| *name != "RELAY_FEDERATION_PEERS");
        linked(node, if calls { sizes.len() - 1 } else { 0 }).await;
    }
    regions
}

/// The same, but they call one another by ways, each of which leads to the first node of its cluster.
pub async fn regions_by_ways(sizes: &[usize], settings: &[(&str, &str)]) -> (Vec<Vec<TestNode>>, Vec<Way>) {
    let mut ways = Vec::new();
    for _ in sizes {
        ways.push(Way::new().await);
    }
    let mut regions = Vec::new();
    for (region, size) in sizes.iter().enumerate() {
        let others = ways.iter().enumerate().filter(|(other, _)| *other != region);
        let peers: Vec<_> = others.map(|(_, way)| way.url.clone()).collect();
        let nodes = region_of(region, "127.0.0.1:0", &peers, *size, settings).await;
        ways[region].lead_to(nodes[0].node().federated.unwrap());
        regions.push(nodes);
    }
    for node in regions.iter().flatten() {
        linked(node, sizes.len() - 1).await;
    }
    (regions, ways)
}

/// What a node of a region of its own is told, that others call at `address` and that calls `peers`.
pub fn federated<'a>(region: &'a str, address: &'a str, peers: &'a str) -> Vec<(&'static str, &'a str)> {
    vec![
        ("RELAY_FEDERATION_ENABLED", "true"),
        ("RELAY_REGION", region),
        ("RELAY_FEDERATION_ADDR", address),
        ("RELAY_FEDERATION_PEERS", peers),
        ("RELAY_FEDERATION_PEER_TIMEOUT", "3"),
        ("RELAY_FEDERATION_CAPACITY_INTERVAL", "1"),
    ]
}

/// What a node knows of its only peer.
pub fn peer_of(node: &TestNode) -> PeerStatus {
    node.node().federation.as_ref().unwrap().peers().remove(0)
}

/// Settings of a cluster that calls nobody.
pub const CALLS_NOBODY: (&str, &str) = ("RELAY_FEDERATION_PEERS", "");

/// A cluster whose first node is called by others at `address`.
pub async fn region_of(
    region: usize,
    address: &str,
    peers: &[String],
    size: usize,
    settings: &[(&str, &str)],
) -> Vec<TestNode> {
    let (name, peers) = (format!("region-{region}"), peers.join(","));
    let mut nodes: Vec<TestNode> = Vec::new();
    for number in 0..size {
        let address = if number == 0 { address } else { "127.0.0.1:0" };
        let settings = [&federated(&name, address, &peers), settings].concat();
        let node = match nodes.first() {
            None => TestNode::start(&settings).await,
            Some(first) => first.join(&settings).await,
        };
        nodes.push(node);
    }
    super::cluster::all_meet(&nodes).await;
    nodes
}

/// Waits until a node is linked to so many peers.
pub async fn linked(node: &TestNode, peers: usize) {
    let federation = node.node().federation.as_ref().unwrap();
    until("peers are linked", || federation.peers().iter().filter(|peer| peer.up).count() == peers).await;
}
