//! Two nodes of which only the rules are there, and a network that does what the test says.

mod random;

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll};

use serde_json::{Value, json};

use super::agents::{NewPair, PATIENCE};
use super::refusal::Refusal;
use super::table::{Context, Effect, Table};
use super::vaults::{MAX_PENDING, MAX_SESSIONS};
use super::words::{Outcome, Side, Word};
use crate::domain::clock::{Epoch, Millis};
use crate::domain::ids::{Generation, NodeRun};
use crate::observe::metrics::{Metrics, Reason};
use crate::runtime::outbox::{Next, Outbox, Outgoing};
use crate::wire::dcp::session::{self, SessionId};

fn run(node: usize) -> NodeRun {
    NodeRun { node: format!("node-{node}").parse().unwrap(), generation: Generation(1) }
}

/// Two nodes, and what is on its way between them.
struct Net {
    tables: [Table; 2],
    metrics: [Arc<Metrics>; 2],
    /// By sender: on the way to the other node.
    links: [VecDeque<Word>; 2],
    full: bool,
    now: Millis,
    epoch: u64,
    holders: HashMap<String, Vec<(Epoch, usize)>>,
}

impl Net {
    fn new() -> Self {
        Self {
            tables: Default::default(),
            metrics: [Metrics::new(), Metrics::new()],
            links: Default::default(),
            full: false,
            now: Millis(0),
            epoch: 0,
            holders: HashMap::new(),
        }
    }

    fn on<R>(&mut self, node: usize, rule: impl FnOnce(&mut Table, &mut Context<'_>) -> R) -> R {
        let (metrics, mut effects) = (self.metrics[node].clone(), VecDeque::new());
        let mut context = Context { now: self.now, metrics: &metrics, effects: &mut effects };
        let result = rule(&mut self.tables[node], &mut context);
        while let Some(effect) = context.effects.pop_front() {
            match effect {
                Effect::Tell(to, word) if to == run(node) => self.tables[node].hear(&to, word, &mut context),
                Effect::Tell(to, word) if self.full => self.tables[node].unsent(to, word, &mut context),
                Effect::Tell(_, word) => self.links[node].push_back(word),
                Effect::Hold(vault, epoch) => {
                    let holders = self.holders.entry(vault.to_string()).or_default();
                    holders.retain(|(_, holder)| *holder != node);
                    holders.push((epoch, node));
                    holders.sort_unstable();
                }
                Effect::Release(vault, epoch) => {
                    let holders = self.holders.entry(vault.to_string()).or_default();
                    holders.retain(|(known, holder)| *holder != node || *known > epoch);
                }
                Effect::Look { session, vault, .. } => {
                    let newest = self.holders.get(vault.as_str()).and_then(|holders| holders.last());
                    let found = newest.map(|(_, node)| run(*node)).ok_or(Refusal::NotConnected(vault));
                    self.tables[node].agents.found(session, found, &mut context);
                }
            }
        }
        self.tables[node].vaults.assert_sound();
        result
    }

    fn register(&mut self, node: usize, socket: u64, vault: &str) -> Outbox {
        let outbox = Outbox::new(1 << 20);
        self.epoch += 1;
        let epoch = Epoch(self.epoch);
        self.on(node, |table, context| table.vaults.enter(socket, &vault.into(), &outbox, context));
        self.on(node, |table, context| table.vaults.admit(socket, epoch, context));
        outbox
    }

    fn pair(&mut self, node: usize, session: SessionId, vault: &str) -> Outbox {
        let outbox = Outbox::new(1 << 20);
        let pair = NewPair { session, vault, token: "token", outbox: &outbox };
        self.on(node, |table, context| table.agents.begin(&pair, context));
        outbox
    }

    fn accept(&mut self, node: usize, socket: u64, session: SessionId) -> bool {
        self.on(node, |table, context| table.vaults.accept(socket, session, context)).is_ok()
    }

    /// A message of the vault that holds a number.
    fn vault_says(&mut self, node: usize, socket: u64, session: SessionId, number: u64) -> bool {
        let frame = session::message(&session, &number.to_string());
        self.on(node, |table, context| table.vaults.message(socket, session, frame, context)).is_ok()
    }

    fn agent_says(&mut self, node: usize, session: SessionId, number: u64) -> bool {
        let frame = session::message(&session, &number.to_string());
        self.on(node, |table, context| table.agents.message(session, frame, context)).is_ok()
    }

    /// One word arrives that `from` has sent; false if there is none.
    fn arrive(&mut self, from: usize) -> bool {
        let Some(word) = self.links[from].pop_front() else { return false };
        self.on(1 - from, |table, context| table.hear(&run(from), word, context));
        true
    }

    fn settle(&mut self) {
        while self.arrive(0) || self.arrive(1) {}
    }

    /// What is on the way is lost, and the links stand again.
    fn break_links(&mut self) {
        self.links = Default::default();
        for node in [0, 1] {
            self.on(node, |table, context| table.link_up(&run(1 - node), context));
        }
    }
}

/// What a client has been sent.
fn sent(outbox: &Outbox) -> Vec<Value> {
    let mut frames = Vec::new();
    let mut context = TaskContext::from_waker(std::task::Waker::noop());
    while let Poll::Ready(Next::Write(Outgoing::Text(text))) = outbox.poll_next(&mut context) {
        frames.push(serde_json::from_str(&text).unwrap());
    }
    frames
}

fn kinds(outbox: &Outbox) -> Vec<String> {
    sent(outbox).iter().map(|frame| frame["type"].as_str().unwrap().to_owned()).collect()
}

fn id(number: u8) -> SessionId {
    SessionId([number; 16])
}

/// A vault on node 0, an agent on node 1, and an open session between them.
fn paired() -> (Net, Outbox, Outbox) {
    let mut net = Net::new();
    let (vault, agent) = (net.register(0, 7, "v"), net.pair(1, id(1), "v"));
    net.settle();
    assert!(net.accept(0, 7, id(1)));
    net.settle();
    assert_eq!(kinds(&vault), ["registered", "pair"]);
    assert_eq!(sent(&agent), [json!({"type": "paired", "session_id": id(1).to_string(), "vault_id": "v"})]);
    (net, vault, agent)
}

#[test]
fn messages_pass_both_ways_in_order_on_one_node_and_across_two() {
    for agent_node in [0, 1] {
        let mut net = Net::new();
        let (vault, agent) = (net.register(0, 7, "v"), net.pair(agent_node, id(1), "v"));
        net.settle();
        net.accept(0, 7, id(1));
        net.settle();
        assert_eq!((kinds(&vault).len(), kinds(&agent).len()), (2, 1));
        for number in 0..3 {
            assert!(net.vault_says(0, 7, id(1), number) && net.agent_says(agent_node, id(1), number));
        }
        net.settle();
        for outbox in [&vault, &agent] {
            assert_eq!(sent(outbox).iter().map(|frame| frame["payload"].clone()).collect::<Vec<_>>(), [0, 1, 2]);
        }
        assert_eq!(net.metrics[agent_node].vault.sessions.get(), 1);
    }
}

#[test]
fn a_refusal_carries_the_vaults_words() {
    let mut net = Net::new();
    let (_vault, agent) = (net.register(0, 7, "v"), net.pair(1, id(1), "v"));
    net.settle();
    let refuse = |table: &mut Table, context: &mut Context<'_>| {
        table.vaults.refuse(7, id(1), Some("unknown token".into()), context)
    };
    assert!(net.on(0, refuse).is_ok());
    net.settle();
    let error = json!({"type": "error", "code": "RELAY_PAIR_REFUSED", "message": "unknown token", "vault_id": "v"});
    assert_eq!(sent(&agent), [error]);
    assert!(!net.agent_says(1, id(1), 1));
    assert_eq!(net.metrics[1].vault.pairs.get_or_create(&Reason { reason: "refused" }).get(), 1);
}

#[test]
fn a_session_is_only_for_the_socket_and_the_node_that_belong_to_it() {
    let (mut net, vault, agent) = paired();
    let other = net.register(0, 8, "w");
    let frame = session::message(&id(1), "1");
    assert!(net.on(0, |table, context| table.vaults.message(8, id(1), frame.clone(), context)).is_err());
    assert!(net.on(0, |table, context| table.vaults.close(8, id(1), context)).is_err());
    for word in [
        Word::Data { session: id(1), to: Side::Agent, seq: 1, frame: frame.clone() },
        Word::Close { session: id(1), to: Side::Agent, reason: "mine now".into() },
        Word::Data { session: id(1), to: Side::Vault, seq: 1, frame },
        Word::Close { session: id(1), to: Side::Vault, reason: "mine now".into() },
        Word::Verdict { session: id(1), outcome: Outcome::Accepted },
    ] {
        for node in [0, 1] {
            net.on(node, |table, context| table.hear(&run(9), word.clone(), context));
        }
    }
    net.links = Default::default();
    assert_eq!((sent(&vault).len(), sent(&agent).len()), (0, 0));
    assert_eq!(kinds(&other), ["registered"]);
    assert!(net.agent_says(1, id(1), 1) && net.vault_says(0, 7, id(1), 1));
}

#[test]
fn the_newest_registration_gets_the_pairs_and_the_next_takes_over() {
    let mut net = Net::new();
    let (old, new) = (net.register(0, 7, "v"), net.register(1, 8, "v"));
    net.pair(0, id(1), "v");
    net.settle();
    assert_eq!((kinds(&old), kinds(&new)), (vec!["registered".to_owned()], vec!["registered".into(), "pair".into()]));
    net.on(1, |table, context| table.vaults.leave(8, "gone", context));
    net.pair(0, id(2), "v");
    net.settle();
    assert_eq!(kinds(&old), ["pair"]);
}

#[test]
fn a_vault_that_goes_ends_its_sessions_and_so_does_its_node() {
    let (mut net, _vault, agent) = paired();
    net.on(0, |table, context| table.vaults.leave(7, "the vault has disconnected", context));
    net.settle();
    assert_eq!(sent(&agent)[0]["reason"], "the vault has disconnected");
    assert_eq!(net.metrics[0].vault.session_vaults.get(), 0);

    let (mut net, vault, agent) = paired();
    net.on(1, |table, context| table.node_lost(&run(0), context));
    net.on(0, |table, context| table.node_lost(&run(1), context));
    assert_eq!((kinds(&vault), kinds(&agent)), (vec!["closed".to_owned()], vec!["closed".to_owned()]));
    assert_eq!(net.metrics[1].vault.sessions.get(), 0);
}

#[test]
fn a_pair_that_nobody_answers_ends_in_time() {
    let mut net = Net::new();
    let (vault, agent) = (net.register(0, 7, "v"), net.pair(1, id(1), "v"));
    net.settle();
    net.now = Millis(0).plus(PATIENCE);
    net.on(1, |table, context| table.agents.expire(id(1), context));
    net.settle();
    assert_eq!(sent(&agent)[0]["code"], "RELAY_TIMEOUT");
    assert_eq!(kinds(&vault), ["registered", "pair", "closed"]);
    assert!(!net.accept(0, 7, id(1)));
}

#[test]
fn a_vault_has_only_so_many_pairs_waiting() {
    let mut net = Net::new();
    let vault = net.register(0, 7, "v");
    let ids: Vec<_> = (0..=MAX_PENDING).map(|n| id(u8::try_from(n).unwrap())).collect();
    let agents: Vec<_> = ids.iter().map(|id| net.pair(1, *id, "v")).collect();
    net.settle();
    assert_eq!(kinds(&vault).len(), 1 + MAX_PENDING);
    assert_eq!(sent(agents.last().unwrap())[0]["code"], "RELAY_UNAVAILABLE");
    assert!(net.accept(0, 7, ids[0]));
    net.pair(1, id(200), "v");
    net.settle();
    assert_eq!(kinds(&vault), ["pair"]);
}

#[test]
fn a_vault_has_only_so_many_sessions() {
    let mut net = Net::new();
    let vault = net.register(0, 7, "v");
    let ids: Vec<_> = (0..=MAX_SESSIONS as u128).map(|n| SessionId(n.to_be_bytes())).collect();
    let (&late, ids) = ids.split_last().unwrap();
    for id in ids {
        net.pair(1, *id, "v");
        net.settle();
        assert!(net.accept(0, 7, *id));
        net.settle();
    }
    assert_eq!(net.metrics[1].vault.sessions.get(), 1_000);
    let refused = net.pair(1, late, "v");
    net.settle();
    assert_eq!(sent(&refused)[0]["code"], "RELAY_UNAVAILABLE");
    assert_eq!(kinds(&vault).len(), 1 + MAX_SESSIONS);
    net.on(0, |table, context| table.vaults.close(7, ids[0], context)).unwrap();
    net.settle();
    net.pair(1, late, "v");
    net.settle();
    assert_eq!(kinds(&vault), ["pair"]);
}

#[test]
fn a_key_that_is_bound_turns_away_whoever_proved_nothing() {
    let (mut net, vault, agent) = paired();
    let checked = Outbox::new(1 << 20);
    net.on(0, |table, context| table.vaults.enter(8, &"v".into(), &checked, context));
    net.on(0, |table, context| table.vaults.bound("v", context));
    net.on(0, |table, context| table.vaults.admit(8, Epoch(9), context));
    net.settle();
    assert_eq!(kinds(&vault), ["closed", "error"]);
    assert_eq!(sent(&checked)[0]["code"], "RELAY_UNAUTHORIZED");
    assert_eq!(kinds(&agent), ["closed"]);
    assert!(net.holders["v"].is_empty() && !net.tables[0].vaults.is_registered(8));
}

#[test]
fn a_lost_message_ends_the_session_on_both_sides() {
    let (mut net, vault, agent) = paired();
    net.agent_says(1, id(1), 1);
    net.links[1].clear();
    net.agent_says(1, id(1), 2);
    net.settle();
    assert_eq!((kinds(&vault), kinds(&agent)), (vec!["closed".to_owned()], vec!["closed".to_owned()]));
}

#[test]
fn a_broken_link_ends_only_the_sessions_that_lost_something() {
    let (mut net, vault, agent) = paired();
    net.agent_says(1, id(1), 1);
    net.settle();
    net.break_links();
    net.settle();
    assert_eq!((kinds(&vault), kinds(&agent)), (vec!["message".to_owned()], vec![]));
    net.vault_says(0, 7, id(1), 1);
    net.break_links();
    net.settle();
    assert_eq!((kinds(&vault), kinds(&agent)), (vec!["closed".to_owned()], vec!["closed".to_owned()]));
}

#[test]
fn a_full_link_ends_the_session_here_at_once_and_there_when_it_has_room() {
    let (mut net, vault, agent) = paired();
    net.full = true;
    net.agent_says(1, id(1), 1);
    assert_eq!(kinds(&agent), ["closed"]);
    net.full = false;
    net.on(1, |table, context| table.say_owed(|_| true, context));
    net.settle();
    assert_eq!(kinds(&vault), ["closed"]);
}
