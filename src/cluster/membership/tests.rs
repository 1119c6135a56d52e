use super::*;
use crate::cluster::PROTOCOL;
use crate::domain::placement::KeyHash;
use crate::observe::metrics::{MemberState, Reason};

const SECRET: &[u8] = b"correct horse battery staple";

/// Generous: a busy machine is no failure.
const PATIENCE: Duration = Duration::from_secs(30);

struct Node {
    membership: Membership,
    metrics: Arc<Metrics>,
    cut: Cut,
    supervisor: Supervisor,
}

/// What a test wants to be different of a node.
struct Plan {
    node: &'static str,
    secret: &'static [u8],
    cluster: &'static str,
    generation: u64,
    protocol: u32,
    seeds: Vec<SocketAddr>,
}

fn plan(node: &'static str, seeds: &[&Node]) -> Plan {
    let seeds = seeds.iter().map(|n| n.membership.gossip_address()).collect();
    Plan { node, secret: SECRET, cluster: "c", generation: 1, protocol: PROTOCOL, seeds }
}

fn facts(protocol: u32) -> Facts {
    Facts { protocol, ..Facts::new("127.0.0.1:7443".into(), "here".parse().unwrap()) }
}

async fn start(plan: Plan) -> Node {
    let config = MembershipConfig {
        cluster: plan.cluster.parse().unwrap(),
        node: plan.node.parse().unwrap(),
        generation: Generation(plan.generation),
        listen: ([127, 0, 0, 1], 0).into(),
        advertise: None,
        seeds: plan.seeds.iter().map(ToString::to_string).collect(),
        facts: facts(plan.protocol),
    };
    let secret = ClusterSecret::from_text(plan.secret).unwrap();
    let (metrics, cut, supervisor) = (Metrics::new(), Cut::default(), Supervisor::new());
    let membership = Membership::start(config, &secret, cut.clone(), metrics.clone(), &supervisor).await.unwrap();
    Node { membership, metrics, cut, supervisor }
}

impl Node {
    /// Waits until the view is as `wanted` says.
    async fn sees(&self, what: &str, wanted: impl Fn(&View) -> bool) {
        let mut watch = self.membership.watch();
        let seen = tokio::time::timeout(PATIENCE, watch.wait_for(|view| wanted(view))).await;
        assert!(seen.is_ok(), "{} does not see {what}: {:#?}", self.membership.me(), self.membership.view());
    }

    async fn sees_just(&self, nodes: &[&str]) {
        let names = |view: &View| view.members.keys().map(ToString::to_string).collect::<Vec<_>>();
        self.sees(&format!("just {nodes:?}"), |view| names(view) == nodes).await;
    }

    /// Waits until `wanted` holds of this node's figures.
    async fn counts(&self, what: &str, wanted: impl Fn(&Metrics) -> bool) {
        let looked = async {
            let mut look = tokio::time::interval(Duration::from_millis(10));
            while !wanted(&self.metrics) {
                look.tick().await;
            }
        };
        assert!(tokio::time::timeout(PATIENCE, looked).await.is_ok(), "no {what}: {}", self.metrics.prometheus());
    }

    async fn rejects_gossip_for(&self, reason: &'static str) {
        let rejected = |m: &Metrics| m.cluster.gossip_rejected.get_or_create(&Reason { reason }).get() > 0;
        self.counts(reason, rejected).await;
    }

    async fn counts_members(&self, state: &'static str, number: i64) {
        let counted = |m: &Metrics| m.cluster.members.get_or_create(&MemberState { state }).get() == number;
        self.counts(state, counted).await;
    }

    /// How long `other` may be silent until this node takes it for dead.
    async fn patience_with(&self, other: &Self) -> Option<Duration> {
        let patience = |chitchat: &mut chitchat::Chitchat| {
            let name = other.membership.me().node.as_str();
            let id = chitchat.live_nodes().find(|id| *id.node_id == *name)?;
            chitchat.failure_detection_timeout(id)
        };
        self.membership.shared.handle.with_chitchat(patience).await
    }

    /// Ends gossip without a goodbye.
    fn kill(&self) {
        self.membership.shared.handle.abort();
    }
}

#[tokio::test]
async fn three_nodes_see_one_another_and_what_each_says_of_itself() {
    let a = start(plan("a", &[])).await;
    let b = start(plan("b", &[&a])).await;
    let c = start(plan("c", &[&a])).await;
    for node in [&a, &b, &c] {
        node.sees_just(&["a", "b", "c"]).await;
        node.counts_members("live", 3).await;
    }
    let owners = |n: &Node| n.membership.view().owners(KeyHash(7)).map(|m| m.run.clone()).collect::<Vec<_>>();
    assert_eq!(owners(&a), owners(&b));

    b.membership.publish("p2p.peer", "12D3").await.unwrap();
    a.sees("the peer id of b", |v| v.members["b"].facts.extras.get("p2p.peer").is_some_and(|p| p == "12D3")).await;
    b.membership.set_draining(true).await;
    a.sees("b drain", |v| v.members["b"].facts.draining).await;
    a.counts_members("draining", 1).await;
    assert!(a.membership.view().owners(KeyHash(7)).all(|m| m.run != *b.membership.me()));
}

#[tokio::test]
async fn a_node_that_joins_meets_all_others_and_one_without_others_gives_up() {
    let a = start(plan("a", &[])).await;
    a.membership.meet(INTERVAL).await;
    let b = start(plan("b", &[&a])).await;
    b.sees_just(&["a", "b"]).await;
    let c = start(plan("c", &[&a])).await;
    c.membership.meet(PATIENCE).await;
    assert_eq!(c.membership.view().members.len(), 3);
}

#[tokio::test]
async fn load_is_told_and_wakes_nobody() {
    let a = start(plan("a", &[])).await;
    let b = start(plan("b", &[&a])).await;
    a.sees_just(&["a", "b"]).await;
    let mut watch = a.membership.watch();
    watch.mark_unchanged();
    let load = Load { load: 5, storage_used: 6, storage_max: 7 };
    b.membership.report_load(load).await;
    a.counts("load", |_| a.membership.load_of(b.membership.me()) == Some(load)).await;
    assert!(!watch.has_changed().unwrap());
}

#[tokio::test]
async fn a_wrong_secret_is_counted_and_never_seen() {
    let a = start(plan("a", &[])).await;
    let stranger = start(Plan { secret: b"another secret entirely", ..plan("b", &[&a]) }).await;
    a.rejects_gossip_for("seal").await;
    a.sees_just(&["a"]).await;
    stranger.sees_just(&["b"]).await;
}

#[tokio::test]
async fn another_cluster_is_counted_and_never_seen() {
    let a = start(plan("a", &[])).await;
    let stranger = start(Plan { cluster: "d", ..plan("b", &[&a]) }).await;
    a.rejects_gossip_for("cluster_id").await;
    a.sees_just(&["a"]).await;
    stranger.sees_just(&["b"]).await;
}

#[tokio::test]
async fn a_node_of_another_protocol_is_left_out_and_counted_once() {
    let a = start(plan("a", &[])).await;
    let _later = start(Plan { protocol: PROTOCOL + 1, ..plan("b", &[&a]) }).await;
    let rejected = |m: &Metrics| m.cluster.peer_rejected.get_or_create(&Reason { reason: "version" }).get();
    a.counts("version", |m| rejected(m) > 0).await;
    let _c = start(plan("c", &[&a])).await;
    a.sees_just(&["a", "c"]).await;
    assert_eq!(rejected(&a.metrics), 1);
}

#[tokio::test]
async fn a_killed_node_leaves_the_view_and_its_failure_is_told() {
    let a = start(plan("a", &[])).await;
    let b = start(plan("b", &[&a])).await;
    a.sees_just(&["a", "b"]).await;
    b.kill();
    a.sees_just(&["a"]).await;
    a.counts_members("dead", 1).await;
    assert!(b.supervisor.failed().await.starts_with("membership: gossip ended by itself"));
}

#[tokio::test]
async fn two_seconds_of_silence_are_death_and_one_is_not() {
    let a = start(plan("a", &[])).await;
    let b = start(plan("b", &[&a])).await;
    a.sees_just(&["a", "b"]).await;
    // While few heartbeats have come, and after those that a busy machine has held up, a node is more patient.
    let settled = async {
        let mut look = tokio::time::interval(Duration::from_millis(10));
        loop {
            look.tick().await;
            match a.patience_with(&b).await {
                Some(patience) if patience <= Duration::from_secs(2) => break patience,
                _ => {}
            }
        }
    };
    let patience = tokio::time::timeout(PATIENCE, settled).await.unwrap();
    assert!(patience > Duration::from_millis(1500), "{patience:?}");
}

#[tokio::test]
async fn a_node_that_stops_says_goodbye_and_is_not_counted_dead() {
    let a = start(plan("a", &[])).await;
    let b = start(plan("b", &[&a])).await;
    a.sees_just(&["a", "b"]).await;
    b.sees_just(&["a", "b"]).await;
    b.membership.shutdown().await;
    assert!(b.supervisor.running().is_empty());
    a.sees_just(&["a"]).await;
    a.counts_members("dead", 0).await;
}

#[tokio::test]
async fn nodes_that_were_cut_apart_come_together_again_in_the_same_run() {
    let a = start(plan("a", &[])).await;
    let b = start(plan("b", &[&a])).await;
    for node in [&a, &b] {
        node.sees_just(&["a", "b"]).await;
    }
    a.cut.cut(b.membership.gossip_address());
    a.sees_just(&["a"]).await;
    b.sees_just(&["b"]).await;
    a.cut.mend(b.membership.gossip_address());
    for node in [&a, &b] {
        node.sees_just(&["a", "b"]).await;
        assert!(node.membership.view().is_live(a.membership.me()));
        assert!(node.membership.view().is_live(b.membership.me()));
    }
}

#[tokio::test]
async fn a_restarted_node_replaces_its_earlier_run() {
    let a = start(plan("a", &[])).await;
    let b = start(plan("b", &[&a])).await;
    a.sees_just(&["a", "b"]).await;
    b.kill();
    let again = start(Plan { generation: 2, ..plan("b", &[&a]) }).await;
    a.sees("the later run", |view| view.is_live(again.membership.me())).await;
    assert!(!a.membership.view().is_live(b.membership.me()));
}

#[tokio::test]
async fn an_earlier_run_learns_that_it_is_superseded() {
    let a = start(plan("a", &[])).await;
    let first = start(plan("b", &[&a])).await;
    let second = start(Plan { generation: 2, ..plan("b", &[&a]) }).await;
    let told = tokio::time::timeout(PATIENCE, first.membership.superseded()).await.unwrap();
    assert_eq!((&told.run, told.gossip), (second.membership.me(), second.membership.gossip_address()));
    assert!(told.to_string().contains("an id of its own"));
}

#[tokio::test]
async fn without_a_secret_only_loopback_is_bound() {
    let start = async |listen: SocketAddr| {
        let config = MembershipConfig {
            cluster: "c".parse().unwrap(),
            node: "a".parse().unwrap(),
            generation: Generation(1),
            listen,
            advertise: None,
            seeds: Vec::new(),
            facts: facts(PROTOCOL),
        };
        let secret = ClusterSecret::unprotected();
        Membership::start(config, &secret, Cut::default(), Metrics::new(), &Supervisor::new()).await.err()
    };
    assert!(start(([127, 0, 0, 1], 0).into()).await.is_none());
    let refused = start(([0, 0, 0, 0], 0).into()).await;
    assert!(matches!(refused, Some(MembershipError::Unprotected(_))), "{refused:?}");
}

#[tokio::test]
async fn further_facts_are_bounded() {
    let a = start(plan("a", &[])).await.membership;
    assert_eq!(a.publish("two words", "").await, Err(PublishError::Unfit));
    for n in 0..MAX_EXTRAS {
        a.publish(&n.to_string(), "v").await.unwrap();
    }
    assert_eq!(a.publish("one-more", "v").await, Err(PublishError::TooMany));
    a.publish("0", "changed").await.unwrap();
}
