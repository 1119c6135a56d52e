//! Where vaults are, while nodes join and die, links break, and vaults move.

use proptest::prelude::*;
use proptest::test_runner::{Config, TestCaseError, TestRunner};
use waystation::cluster::presence::Located;
use waystation::cluster::proto::reply;
use waystation::domain::clock::Epoch;
use waystation::domain::principal::{Principal, Standing};

use crate::support::cluster::{all_meet, kill};
use crate::support::{TestNode, until};

/// Most nodes at one time; the first one stays.
const NODES: usize = 4;

/// What happens to the cluster. Numbers choose among what there is.
#[derive(Debug, Clone)]
enum Event {
    /// The wandering vault opens a session on a node, and the one before closes.
    Move(usize),
    /// The wandering vault closes its session, and opens none.
    Leave,
    /// A node joins, if there is room.
    Join,
    /// A node dies.
    Die(usize),
    /// The link between two nodes breaks; others may still reach both.
    Cut(usize, usize),
    /// All links are whole again.
    Mend,
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        4 => any::<usize>().prop_map(Event::Move),
        1 => Just(Event::Leave),
        2 => Just(Event::Join),
        1 => any::<usize>().prop_map(Event::Die),
        2 => any::<(usize, usize)>().prop_map(|(one, other)| Event::Cut(one, other)),
        2 => Just(Event::Mend),
    ]
}

/// A cluster with a vault that stays on the first node, and one that wanders.
struct World {
    nodes: Vec<TestNode>,
    stays: Principal,
    wanders: Principal,
    /// Where the wandering vault is, and since when.
    place: Option<(usize, Epoch)>,
}

impl World {
    async fn new() -> Self {
        let nodes = TestNode::cluster(3, &[]).await;
        let this = Self { nodes, stays: Principal::vault("stays"), wanders: Principal::vault("wanders"), place: None };
        this.hold(0, &this.stays, Epoch::default());
        this
    }

    fn hold(&self, at: usize, principal: &Principal, seen: Epoch) -> Epoch {
        let cluster = &self.nodes[at].node().cluster;
        let epoch = cluster.claims.next_epoch(seen);
        cluster.presence.hold(principal, epoch, Standing::Live);
        epoch
    }

    fn leave(&mut self) -> Epoch {
        let Some((at, epoch)) = self.place.take() else { return Epoch::default() };
        self.nodes[at].node().cluster.presence.release(&self.wanders, epoch);
        epoch
    }

    async fn happens(&mut self, event: &Event) {
        match *event {
            Event::Move(to) => {
                let to = to % self.nodes.len();
                let seen = self.place.map_or(Epoch::default(), |(_, epoch)| epoch);
                let epoch = self.hold(to, &self.wanders, seen);
                match self.place.replace((to, epoch)) {
                    Some((from, before)) if from != to => {
                        self.nodes[from].node().cluster.presence.release(&self.wanders, before);
                    }
                    _ => {}
                }
            }
            Event::Leave => drop(self.leave()),
            Event::Join if self.nodes.len() < NODES => {
                let fresh = self.nodes[0].join(&[]).await;
                self.nodes.push(fresh);
            }
            Event::Die(which) if self.nodes.len() > 2 => {
                let which = 1 + which % (self.nodes.len() - 1);
                self.place = match self.place {
                    Some((at, _)) if at == which => None,
                    Some((at, epoch)) if at > which => Some((at - 1, epoch)),
                    place => place,
                };
                self.nodes.remove(which).kill();
            }
            Event::Cut(one, other) => {
                let (one, other) = (one % self.nodes.len(), other % self.nodes.len());
                if one != other {
                    self.nodes[one].cut_from(&self.nodes[other]);
                }
            }
            Event::Mend => self.mend(),
            Event::Join | Event::Die(_) => {}
        }
    }

    fn mend(&self) {
        for one in &self.nodes {
            for other in &self.nodes {
                one.mend_with(other);
            }
        }
    }

    /// No node says that the vault that stays is absent.
    async fn nobody_is_wrong(&self) -> Result<(), TestCaseError> {
        let asked = self.nodes[1..].iter().map(|node| node.node().cluster.presence.locate(&self.stays));
        for (n, located) in futures::future::join_all(asked).await.into_iter().enumerate() {
            prop_assert_ne!(located, Located::Absent, "asked node {} of {}", n + 2, self.nodes.len());
        }
        Ok(())
    }

    /// In the end, both owners of each vault tell where it is.
    async fn owners_agree(&self) {
        let wanders = self.place.map(|(at, _)| at);
        for (vault, place) in [(&self.stays, Some(0)), (&self.wanders, wanders)] {
            let expected = place.map_or(String::new(), |at| self.nodes[at].node().cluster.me.node.to_string());
            for node in &self.nodes {
                let cluster = &node.node().cluster;
                let agrees = || {
                    let view = cluster.nodes();
                    let owns = view.owners(vault.hash()).any(|owner| owner.run == cluster.me);
                    let told = cluster.presence.answer_locate(vault);
                    !owns || matches!(told, reply::Body::Located(located) if located.node_id == expected)
                };
                until(&format!("{} knows that {vault:?} is at {expected:?}", cluster.me), agrees).await;
            }
        }
    }
}

async fn run(events: Vec<Event>) -> Result<(), TestCaseError> {
    let mut world = World::new().await;
    for event in &events {
        world.happens(event).await;
        world.nobody_is_wrong().await?;
    }
    world.mend();
    all_meet(&world.nodes).await;
    world.owners_agree().await;
    world.nobody_is_wrong().await
}

#[test]
fn one_who_stays_is_never_absent_and_owners_agree_in_the_end() {
    // A cluster a case: few of them, and none for a smaller example.
    let config = Config { cases: 4, max_shrink_iters: 0, failure_persistence: None, ..Config::default() };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let ran =
        TestRunner::new(config).run(&prop::collection::vec(event(), 3..10), |events| runtime.block_on(run(events)));
    if let Err(failure) = ran {
        panic!("{failure}");
    }
}

#[tokio::test]
async fn a_withdrawal_that_was_lost_with_its_link_is_made_up_for() {
    let all = |one: usize, other: usize| [Event::Cut(one, other), Event::Leave, Event::Mend];
    for place in 0..3 {
        let mut events = vec![Event::Move(place)];
        for other in (0..3).filter(|other| *other != place) {
            events.extend(all(place, other).into_iter().filter(|event| matches!(event, Event::Cut(..))));
        }
        events.extend([Event::Leave, Event::Mend]);
        run(events).await.unwrap();
    }
}

#[tokio::test]
async fn requests_wait_for_what_a_dead_node_held_even_if_its_link_comes_again() {
    let mut nodes = TestNode::cluster(3, &[]).await;
    let vaults: Vec<_> = (0..8).map(|n| Principal::vault(&format!("vault_{n}"))).collect();
    let cluster = nodes[0].node().cluster.clone();
    for vault in &vaults {
        cluster.presence.hold(vault, cluster.claims.next_epoch(Epoch::default()), Standing::Live);
    }
    for node in &nodes[1..] {
        for vault in &vaults {
            let owner = &node.node().cluster;
            let hears = || {
                let owns = owner.nodes().owners(vault.hash()).any(|member| member.run == owner.me);
                !owns || owner.presence.newest_epoch(vault) > Epoch::default()
            };
            until("the owner hears of the vault", hears).await;
        }
    }
    kill(&mut nodes, 0).await;
    for node in &nodes {
        node.node().cluster.presence.stream_opened(&cluster.me);
    }
    for node in &nodes {
        for vault in &vaults {
            let located = node.node().cluster.presence.locate(vault).await;
            assert!(matches!(located, Located::Lost(_)), "{vault:?} is {located:?}");
        }
    }
}
