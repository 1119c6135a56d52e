//! Two clusters in one thread: every node of one has a link to some node of the other, over which it may ask.

use std::collections::BTreeMap;

use crate::cluster::ends::End;
use crate::cluster::proto::frame::Body;
use crate::cluster::regions::{Caller, PeerName};
use crate::domain::ids::{NodeRun, RequestId};
use crate::domain::principal::Standing;
use crate::vault::frames;
use crate::vault::state::tests::support::received;
use crate::vault::state::{VaultState, Whereabouts};

use super::Cluster;
use super::network::Item;

/// What is on its way from a node to the other cluster, and back, is on the links to and from this far of it.
pub const FAR: usize = 1_000;

/// The links between the two clusters.
#[derive(Debug, Default)]
pub struct Federation {
    /// The nodes below this number are one cluster, the others another. Zero: there is only one.
    border: usize,
    /// For each node whose link stands: its number as a caller, and the node that answers.
    links: BTreeMap<usize, (u64, usize)>,
    next: u64,
}

impl Federation {
    /// Links between the nodes below `border` and the others.
    pub fn new(border: usize) -> Self {
        Self { border, ..Self::default() }
    }

    /// Which of the two clusters a node is in.
    pub fn region_of(&self, node: usize) -> usize {
        usize::from(node >= self.border)
    }

    fn caller(&self, number: u64) -> Option<usize> {
        self.links.iter().find(|(_, (caller, _))| *caller == number).map(|(node, _)| *node)
    }
}

/// The other cluster, whichever it is.
fn peer() -> NodeRun {
    End::Peer(PeerName("far".into())).run()
}

fn caller(number: u64) -> NodeRun {
    End::Caller(Caller(number)).run()
}

impl Cluster {
    /// Two clusters of so many nodes each, linked.
    pub fn federated(near: usize, far: usize) -> Self {
        let mut this = Self::new(near + far);
        this.federation = Federation::new(near);
        for (number, host) in &mut this.hosts {
            host.view.retain(|other| this.federation.region_of(*other) == this.federation.region_of(*number));
            (host.node.alone, host.node.peers) = (host.view.len() == 1, true);
        }
        this.link_regions();
        this
    }

    /// Links every node that has none to a node of the other cluster.
    pub fn link_regions(&mut self) {
        for at in self.live() {
            let region = self.federation.region_of(at);
            let others: Vec<_> =
                self.live().into_iter().filter(|other| self.federation.region_of(*other) != region).collect();
            if self.federation.border == 0 || others.is_empty() || self.federation.links.contains_key(&at) {
                continue;
            }
            self.federation.next += 1;
            let number = self.federation.next;
            let answers = others[number as usize % others.len()];
            self.federation.links.insert(at, (number, answers));
            self.story.push(format!("{} node {at} is linked to node {answers} as caller {number}", self.clock()));
            self.call(at, VaultState::seen_afar);
        }
    }

    /// The link of a node to the other cluster breaks: what is on its way is lost, and both ends are told.
    pub fn cut_far(&mut self, at: usize) {
        let Some((number, answers)) = self.federation.links.remove(&at) else { return };
        self.links.remove(&(at, FAR + at));
        self.links.remove(&(FAR + at, at));
        self.links_held = false;
        self.agents.calm_since = None;
        self.story.push(format!("{} the link of node {at} to the other cluster breaks", self.clock()));
        self.call(at, |state, context| state.node_lost(&peer(), context));
        self.call(answers, |state, context| state.node_lost(&caller(number), context));
    }

    /// A node has died: so have its links, and those that it answered.
    pub fn bury_links(&mut self, dead: usize) {
        let lost = self.federation.links.iter().filter(|(at, (_, answers))| **at == dead || *answers == dead);
        for at in lost.map(|(at, _)| *at).collect::<Vec<_>>() {
            self.cut_far(at);
        }
    }

    /// Sends a frame over a link between the clusters.
    pub fn send_far(&mut self, from: usize, to: &NodeRun, body: Body) -> Result<(), Box<Body>> {
        let link = match End::of(to) {
            Some(End::Peer(_)) => self.federation.links.contains_key(&from).then_some((from, FAR + from)),
            Some(End::Caller(Caller(number))) => self.federation.caller(number).map(|node| (FAR + node, node)),
            None => None,
        };
        let Some(link) = link else { return Err(Box::new(body)) };
        let body = match body {
            Body::Deliver(deliver) => {
                let crosses_first = deliver.crossings == 0 && self.is_asked_at(&deliver.request_id, from);
                assert!(crosses_first, "crosses twice: {deliver:?}\n{}", self.told());
                Body::Deliver(Box::new(crate::cluster::proto::Deliver { crossings: 1, ..*deliver }))
            }
            body => body,
        };
        self.links.entry(link).or_default().push_back(Item::Frame(Box::new(body)));
        Ok(())
    }

    /// A frame arrives over a link between the clusters.
    pub fn arrive_far(&mut self, from: usize, to: usize, body: Body) {
        match body {
            Body::Deliver(deliver) => {
                let Some((number, answers)) = self.federation.links.get(&from).copied() else { return };
                let caller = caller(number);
                let delivered = frames::delivered(*deliver, &caller).expect("well formed");
                self.call(answers, |state, context| state.deliver_from_afar(&caller, delivered, context));
            }
            body => {
                let (request, id) = match &body {
                    Body::Accepted(word) => (&word.request_id, &word.record_id),
                    Body::Refused(word) => (&word.request_id, &word.record_id),
                    Body::Answer(word) => (&word.request_id, &word.record_id),
                    other => panic!("nothing else crosses: {other:?}"),
                };
                let (request, id) = (RequestId::from(request.as_str()), frames::id_from(id.as_ref()).expect("an id"));
                self.call(to, |state, context| {
                    if state.is_with(&request, id, &peer()) {
                        received(&peer(), body)(state, context);
                    }
                });
            }
        }
    }

    /// A node has asked the other cluster for the vault, and hears.
    pub fn look_afar(&mut self, node: usize) {
        let found = self.federation.links.get(&node).and_then(|(_, answers)| self.standing_at(*answers));
        self.call(node, |state, context| state.found_afar(found.map(|standing| (peer(), standing)), context));
    }

    fn standing_at(&self, answers: usize) -> Option<Standing> {
        match self.hosts.get(&answers)?.held {
            Some((_, standing)) => Some(standing),
            None => self.found(answers, false).map(|(_, standing, whereabouts)| {
                if let Whereabouts::Lost(_) = whereabouts { Standing::Waiting } else { standing }
            }),
        }
    }
}
