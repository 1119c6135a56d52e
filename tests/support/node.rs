//! A node in this process, on threads of its own, so that it can die as a process would.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::runtime::{Builder, Runtime};
use waystation::config::Config;
use waystation::node::{Node, StartError};

use super::tls::choose_provider;
use super::{LONG_PATIENCE, until, within};

/// Numbers nodes and clusters, so that none meets another one's nodes on a port that is used again.
static NEXT: AtomicUsize = AtomicUsize::new(1);

/// What every test begins with: all in memory, free ports, no limit that a test could hit by the way.
const DEFAULTS: &[(&str, &str)] = &[
    ("RELAY_STORAGE_BACKEND", "memory"),
    ("RELAY_LISTEN_ADDR", "127.0.0.1:0"),
    ("RELAY_GRPC_ADDR", "127.0.0.1:0"),
    ("RELAY_GOSSIP_ADDR", "127.0.0.1:0"),
    ("RELAY_ADMIN_ADDR", "127.0.0.1:0"),
    ("RELAY_VAULT_RATE_LIMIT", "1000000"),
    ("RELAY_RATE_LIMIT", "1000000"),
    ("RELAY_RECOVERY_RATE_LIMIT", "1000000"),
    ("RELAY_ADDRESS_RATE_LIMIT", "1000000"),
    ("RELAY_CONNECTION_RATE_LIMIT", "1000000"),
    ("RELAY_ADDRESS_MAX_CONNECTIONS", "10000"),
    ("RELAY_DRAIN_TIMEOUT_SECS", "10"),
    ("RELAY_P2P_ENABLED", "false"),
];

/// A node that serves on loopback until it is dropped, which kills it.
pub struct TestNode {
    /// Where clients reach it.
    pub public: SocketAddr,
    settings: BTreeMap<String, String>,
    node: Option<Node>,
    runtime: Option<Runtime>,
}

impl TestNode {
    /// A node of a cluster of its own; `settings` win over [`DEFAULTS`].
    pub async fn start(settings: &[(&str, &str)]) -> Self {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let cluster = format!("cluster-{number}");
        Self::named(&format!("node-{number}"), &cluster, "", settings).await
    }

    /// `count` nodes of one cluster, each with `settings`, that all see each other and are linked.
    pub async fn cluster(count: usize, settings: &[(&str, &str)]) -> Vec<Self> {
        let mut nodes = vec![Self::start(settings).await];
        while nodes.len() < count {
            let node = nodes[0].join(settings).await;
            nodes.push(node);
        }
        for node in &nodes {
            node.view_is(count).await;
        }
        for node in &nodes {
            node.links_are(count - 1).await;
        }
        nodes
    }

    /// One more node of this node's cluster. Does not wait until the others see it.
    pub async fn join(&self, settings: &[(&str, &str)]) -> Self {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let seed = self.gossip().to_string();
        Self::named(&format!("node-{number}"), &self.settings["RELAY_CLUSTER_ID"], &seed, settings).await
    }

    /// One more node of this node's cluster, with its settings and these changes.
    pub async fn twin(&self, changes: &[(&str, &str)]) -> Self {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let (node, seed) = (format!("node-{number}"), self.gossip().to_string());
        let own = ["RELAY_NODE_ID", "RELAY_CLUSTER_ID", "RELAY_CLUSTER_SEEDS"];
        let settings = self.settings.iter().filter(|(name, _)| !own.contains(&name.as_str()));
        let settings: Vec<_> = settings.map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let settings = [&settings, changes].concat();
        Self::named(&node, &self.settings["RELAY_CLUSTER_ID"], &seed, &settings).await
    }

    /// A node with all of these as they are.
    pub async fn named(node: &str, cluster: &str, seeds: &str, settings: &[(&str, &str)]) -> Self {
        let named = [("RELAY_NODE_ID", node), ("RELAY_CLUSTER_ID", cluster), ("RELAY_CLUSTER_SEEDS", seeds)];
        let all = DEFAULTS.iter().chain(&named).chain(settings);
        let settings: BTreeMap<_, _> = all.map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        choose_provider();
        let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let config = Config::from_pairs(settings.iter().map(|(name, value)| (name.as_str(), value.as_str()))).unwrap();
        let starting = runtime.spawn(async move { Node::start(&config).await });
        let node =
            within(LONG_PATIENCE, "a node starts", starting).await.unwrap().unwrap_or_else(|error: StartError| {
                panic!("the node did not start: {error}");
            });
        Self { public: node.public, settings, node: Some(node), runtime: Some(runtime) }
    }

    /// The node itself.
    pub fn node(&self) -> &Node {
        self.node.as_ref().unwrap()
    }

    /// Where other nodes gossip with it.
    pub fn gossip(&self) -> SocketAddr {
        self.node().membership.gossip_address()
    }

    /// Lets nothing pass between this node and `other`.
    pub fn cut_from(&self, other: &Self) {
        self.node().cut.cut(other.gossip());
        other.node().cut.cut(self.gossip());
    }

    /// Undoes [`TestNode::cut_from`].
    pub fn mend_with(&self, other: &Self) {
        self.node().cut.mend(other.gossip());
        other.node().cut.mend(self.gossip());
    }

    /// Waits until this node sees `count` live nodes, itself included.
    pub async fn view_is(&self, count: usize) {
        let mut view = self.node().membership.watch();
        let seen = view.wait_for(|view| view.members.len() == count);
        let what = format!("a view of {count} nodes");
        within(LONG_PATIENCE, &what, async { seen.await.map(|_| ()) }).await.unwrap();
    }

    /// Waits until this node has `count` links to others.
    pub async fn links_are(&self, count: usize) {
        let links = &self.node().metrics.cluster.links_up;
        until(&format!("{count} links are up"), || links.get() == i64::try_from(count).unwrap()).await;
    }

    /// Waits until this node carries `count` WebSockets.
    pub async fn websockets_are(&self, count: i64) {
        let open = &self.node().metrics.edge.websockets;
        until(&format!("{count} WebSockets are open"), || open.get() == count).await;
    }

    /// Ends the node without any goodbye: its sockets close as those of a dead process do.
    pub fn kill(self) {
        drop(self);
    }

    /// Takes the node out of service as SIGTERM does; returns when it is gone. Runs on the node's own threads,
    /// so the test may go on meanwhile: spawn it.
    pub async fn drain(mut self) {
        let node = self.node.take().unwrap();
        let work = async move {
            node.drain().await;
            node.stop().await;
        };
        self.runtime.as_ref().unwrap().spawn(work).await.unwrap();
    }

    /// Ends all tasks of the node at once, handing nothing on; nothing of it is left when this returns. Answers which
    /// tasks had to be ended because they did not by themselves.
    pub async fn stop(mut self) -> Vec<&'static str> {
        let (node, runtime) = (self.node.take().unwrap(), self.runtime.take().unwrap());
        let late = runtime.spawn(node.stop()).await.unwrap();
        // Connections that others hold open hold the store open.
        tokio::task::spawn_blocking(move || runtime.shutdown_timeout(LONG_PATIENCE)).await.unwrap();
        late
    }
}

impl Drop for TestNode {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}
