//! A cluster in one thread, for one vault: nodes with a state each, links that lose, clocks that are turned by hand.
//!
//! Whatever could happen next (a frame at the head of a link, a lookup, a client that reads) waits in
//! [`Cluster::choices`]; the test says which one happens. Nothing happens by itself but time.

mod clients;
mod federation;
mod network;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use crate::cluster::proto::frame::Body;
use crate::domain::clock::{Epoch, Millis};
use crate::domain::ids::RequestId;
use crate::domain::principal::Standing;
use crate::vault::state::{Context, Effect, VaultState, Whereabouts};
use crate::wire::dcp::envelope::RecordId;

use super::support::{GRACE, Node, START, number_of};
use clients::{AgentSockets, VaultSockets};
use federation::{FAR, Federation};
use network::{Ask, Item};

/// Most effects of one event, beside those of each record: far above what any rule needs.
const EFFECTS_ALLOWED: usize = 24;

/// Whatever may happen next.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Choice {
    /// The frame at the head of the link from the first to the second.
    Link(usize, usize),
    /// The lookup of that number.
    Task(usize),
}

/// Work beside the frames of a node.
#[derive(Debug, Clone)]
enum Task {
    Locate { node: usize, anew: bool },
    LookAfar { node: usize },
}

/// A node and what it has outside the state.
struct Host {
    node: Node,
    /// The nodes that it believes alive, itself among them.
    view: BTreeSet<usize>,
    /// What it has said that it holds.
    held: Option<(Epoch, Standing)>,
    /// Dead nodes that held the vault as far as it knows, and when it noticed their death.
    lost: Vec<(usize, Millis)>,
    timers: Vec<Millis>,
    kept: Vec<(Millis, RequestId, RecordId)>,
    indexed: BTreeSet<String>,
}

/// All nodes, links and clients.
pub struct Cluster {
    pub now: Millis,
    hosts: BTreeMap<usize, Host>,
    /// What dead nodes held.
    buried: BTreeMap<usize, (Epoch, Standing)>,
    /// Who will notice whose death, and when.
    notices: Vec<(Millis, usize, usize)>,
    links: BTreeMap<(usize, usize), VecDeque<Item>>,
    federation: Federation,
    /// Links that are broken; what is sent waits.
    down: BTreeSet<(usize, usize)>,
    /// Whether no link has ever broken.
    links_held: bool,
    asks: BTreeMap<u64, Ask>,
    next_ask: u64,
    tasks: Vec<Task>,
    next_epoch: u64,
    next_socket: u64,
    pub vaults: VaultSockets,
    pub agents: AgentSockets,
    /// What happened, for the message of a test that fails.
    pub story: Vec<String>,
}

impl Cluster {
    pub fn new(nodes: usize) -> Self {
        let view: BTreeSet<usize> = (0..nodes).collect();
        let host = |number| Host {
            node: Node { alone: nodes == 1, ..Node::new(number) },
            view: view.clone(),
            held: None,
            lost: Vec::new(),
            timers: Vec::new(),
            kept: Vec::new(),
            indexed: BTreeSet::new(),
        };
        Self {
            now: START,
            hosts: view.iter().map(|number| (*number, host(*number))).collect(),
            buried: BTreeMap::new(),
            notices: Vec::new(),
            links: BTreeMap::new(),
            federation: Federation::default(),
            down: BTreeSet::new(),
            links_held: true,
            asks: BTreeMap::new(),
            next_ask: 1,
            tasks: Vec::new(),
            next_epoch: START.0 << 16,
            next_socket: 1,
            vaults: VaultSockets::default(),
            agents: AgentSockets::default(),
            story: Vec::new(),
        }
    }

    /// The nodes that live.
    pub fn live(&self) -> Vec<usize> {
        self.hosts.keys().copied().collect()
    }

    /// Applies a rule at a node and sees to its effects.
    fn call<R>(&mut self, at: usize, rule: impl FnOnce(&mut VaultState, &mut Context<'_>) -> R) -> Option<R> {
        let host = self.hosts.get_mut(&at)?;
        host.node.now = self.now;
        let records = host.node.metrics.vault.records.get() as usize;
        let (result, mut effects) = host.node.apply(rule);
        let (mut seen, mut rounds) = (0, 0);
        while !effects.is_empty() {
            seen += effects.len();
            rounds += 1;
            let allowed = EFFECTS_ALLOWED + 8 * records;
            assert!(seen <= allowed && rounds < 8, "{seen} effects of one event in {rounds} rounds: {effects:?}");
            let mut more = Vec::new();
            for effect in effects {
                self.see_to(at, effect, &mut more);
            }
            effects = more;
        }
        Some(result)
    }

    fn see_to(&mut self, at: usize, effect: Effect, more: &mut Vec<Effect>) {
        if !matches!(effect, Effect::Index(_) | Effect::Unindex(_) | Effect::Push(_)) {
            self.story.push(format!("{} node {at}: {}", self.clock(), told(&effect)));
        }
        let now = self.now;
        let Some(host) = self.hosts.get_mut(&at) else { return };
        match effect {
            Effect::Send(to, body) => {
                if let Body::Deliver(deliver) = &body {
                    assert_eq!(deliver.hops, 1, "forwarded more than once: {deliver:?}");
                }
                let sent = if to.is_afar() {
                    self.send_far(at, &to, body)
                } else {
                    let to = number_of(&to);
                    assert_ne!(to, at, "a node sends to itself: {body:?}");
                    self.send(at, to, body)
                };
                if let Err(body) = sent
                    && let Some(host) = self.hosts.get_mut(&at)
                {
                    more.extend(host.node.call(|state, context| state.unsent(&to, &body, context)));
                }
            }
            // There is no third cluster.
            Effect::LookFurther(_) | Effect::Lapsed(_) => {}
            Effect::LookAfar => self.tasks.push(Task::LookAfar { node: at }),
            Effect::Locate { anew } => self.tasks.push(Task::Locate { node: at, anew }),
            Effect::Find(request, id) => self.find(at, request, id),
            Effect::Hold(epoch, standing) => host.held = Some((epoch, standing)),
            Effect::Release(epoch) => {
                if host.held.is_some_and(|(held, _)| held <= epoch) {
                    host.held = None;
                }
            }
            Effect::Wake(after) => host.timers.push(now.plus(after)),
            Effect::Index(request) => drop(host.indexed.insert(request.to_string())),
            Effect::Unindex(request) => drop(host.indexed.remove(request.as_str())),
            Effect::Push(_) => {}
            Effect::Keep(request, id, until) => host.kept.push((until, request, id)),
        }
    }

    /// What may happen next, always in the same order.
    fn choices(&self) -> Vec<Choice> {
        let links = self.links.iter().filter(|(link, queue)| !queue.is_empty() && !self.down.contains(link));
        let links = links.map(|((from, to), _)| Choice::Link(*from, *to));
        let tasks = (0..self.tasks.len()).filter(|task| self.can_run(&self.tasks[*task])).map(Choice::Task);
        links.chain(tasks).collect()
    }

    /// One of the things that may happen next happens; whether there was one.
    pub fn step(&mut self, pick: usize) -> bool {
        let choices = self.choices();
        if choices.is_empty() {
            return false;
        }
        match choices[pick % choices.len()] {
            Choice::Link(from, to) => self.arrive(from, to),
            Choice::Task(number) => self.perform(number),
        }
        true
    }

    /// Everything happens that may, until nothing is left.
    pub fn settle(&mut self) {
        for steps in 0.. {
            assert!(steps < 20_000, "the cluster does not come to rest:\n{}", self.told());
            if !self.step(steps) {
                if self.asks.is_empty() && self.down.is_empty() {
                    self.agents.calm();
                }
                return;
            }
        }
    }

    /// A lookup ends only when every node that is believed alive has answered.
    fn can_run(&self, task: &Task) -> bool {
        let Task::Locate { node, anew } = task else { return true };
        let Some(host) = self.hosts.get(node) else { return true };
        let silent = host.view.iter().any(|other| !self.hosts.contains_key(other));
        !silent || self.found(*node, *anew).is_some()
    }

    fn perform(&mut self, number: usize) {
        let (node, anew) = match self.tasks.remove(number) {
            Task::Locate { node, anew } => (node, anew),
            Task::LookAfar { node } => return self.look_afar(node),
        };
        let found = self.found(node, anew);
        self.call(node, |state, context| {
            let whereabouts = match found {
                // Two nodes that both only wait for the vault do not send requests to each other.
                Some((_, Standing::Waiting, _)) if state.is_waiting() => Whereabouts::Absent,
                Some((.., whereabouts)) => whereabouts,
                None => Whereabouts::Absent,
            };
            state.located(whereabouts, context);
        });
    }

    /// What presence says to `asker`: the firmest and newest holder; without `anew`, also of the dead.
    fn found(&self, asker: usize, anew: bool) -> Option<(Epoch, Standing, Whereabouts)> {
        let host = self.hosts.get(&asker)?;
        let at = |number: usize, (epoch, standing): (Epoch, Standing)| {
            (standing, epoch, Whereabouts::At(super::support::run(number), standing, epoch))
        };
        let others = self.hosts.iter().filter(|(number, _)| **number != asker && host.view.contains(number));
        let holders = others.filter_map(|(number, other)| Some(at(*number, other.held?)));
        let unnoticed =
            self.buried.iter().filter(|(number, _)| !anew && host.view.contains(number)).map(|(n, held)| at(*n, *held));
        let best = holders.chain(unnoticed).max_by_key(|(standing, epoch, _)| (*standing, *epoch));
        if let Some((standing, epoch, whereabouts)) = best {
            return Some((epoch, standing, whereabouts));
        }
        let until = host.lost.iter().map(|(_, at)| at.plus(GRACE)).max().filter(|until| *until > self.now)?;
        Some((Epoch::default(), Standing::Live, Whereabouts::Lost(until.since(self.now))))
    }

    /// Time passes, a quarter of a second at a time: timers fire, deaths are noticed, requests expire.
    pub fn pass(&mut self, time: Duration) {
        let end = self.now.plus(time);
        while self.now < end {
            self.now = end.min(self.now.plus(Duration::from_millis(250)));
            self.link_regions();
            self.notice_deaths();
            self.end_asks();
            for at in self.live() {
                let now = self.now;
                let Some(host) = self.hosts.get_mut(&at) else { continue };
                let due = host.timers.iter().filter(|timer| **timer <= now).count();
                host.timers.retain(|timer| *timer > now);
                let (over, kept): (Vec<_>, Vec<_>) = host.kept.drain(..).partition(|(until, ..)| *until <= now);
                host.kept = kept;
                for _ in 0..due {
                    self.call(at, VaultState::wake);
                }
                self.call(at, VaultState::expire);
                for (_, request, id) in over {
                    self.call(at, |state, context| state.forget(&request, id, context));
                }
            }
        }
    }

    /// A node dies, with all its sockets. The others notice `delays` later.
    pub fn kill(&mut self, at: usize, delays: &[Duration]) {
        let Some(host) = self.hosts.remove(&at) else { return };
        self.agents.calm_since = None;
        self.story.push(format!("{} node {at} dies", self.clock()));
        if let Some(held) = host.held {
            self.buried.insert(at, held);
        }
        self.bury_links(at);
        self.links.retain(|(from, to), _| *from != at && *to != at);
        self.lose_answers(at);
        self.lose_stored(at);
        self.asks.retain(|_, ask| ask.asker != at);
        let others = self.hosts.iter().filter(|(_, host)| host.view.contains(&at)).map(|(other, _)| other);
        for (other, delay) in others.zip(delays.iter().cycle()) {
            self.notices.push((self.now.plus(*delay), *other, at));
        }
        self.vaults.node_died(at);
        self.agents.node_died(at);
    }

    fn notice_deaths(&mut self) {
        let now = self.now;
        let (due, later) = self.notices.drain(..).partition(|(at, ..)| *at <= now);
        self.notices = later;
        let due: Vec<(Millis, usize, usize)> = due;
        for (_, at, dead) in due {
            let Some(host) = self.hosts.get_mut(&at) else { continue };
            host.view.remove(&dead);
            host.node.alone = host.view.len() == 1;
            if self.buried.contains_key(&dead) {
                host.lost.push((dead, now));
            }
            self.story.push(format!("{} node {at} notices that node {dead} is dead", self.clock()));
            self.call(at, |state, context| state.node_lost(&super::support::run(dead), context));
            self.forget_asked(at, dead);
        }
    }

    /// Bytes, open bytes, records, open records and undelivered ones of every node.
    pub fn figures(&self) -> Vec<[i64; 5]> {
        self.hosts.values().map(|host| host.node.figures()).collect()
    }

    /// What is left that could still happen: timers, lookups, questions, frames, names in the index.
    pub fn leftovers(&self) -> usize {
        let of_hosts = |host: &Host| host.timers.len() + host.kept.len() + host.indexed.len();
        self.hosts.values().map(of_hosts).sum::<usize>()
            + self.tasks.len()
            + self.asks.len()
            + self.links.values().map(VecDeque::len).sum::<usize>()
    }

    /// Whether every node would forget the vault.
    pub fn is_forgotten(&self) -> bool {
        self.hosts.values().all(|host| host.node.state.is_idle(self.now))
    }

    pub fn clock(&self) -> String {
        format!("{:>7.2}", self.now.since(START).as_secs_f64())
    }

    /// What happened.
    pub fn told(&self) -> String {
        self.story.join("\n")
    }
}

/// An effect in a line.
fn told(effect: &Effect) -> String {
    match effect {
        Effect::Send(to, body) => format!("to {}: {}", to.node, network::told(body)),
        other => format!("{other:?}"),
    }
}
