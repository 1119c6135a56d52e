//! Requests between nodes: forwarding, vaults that move, nodes that die, links that break.

use std::time::Duration;

use tokio::sync::oneshot;

use super::support::*;
use crate::cluster::proto::frame::Body;
use crate::domain::clock::Epoch;
use crate::domain::principal::Standing;
use crate::vault::record::Waiter;
use crate::vault::state::{AdoptAnswer, AnswerVerdict, Effect, VaultState, Whereabouts};

/// Two nodes, the vault at the second, and an agent at the first.
struct Pair {
    origin: Node,
    home: Node,
    vault: Client,
    agent: Agent,
}

impl Pair {
    fn new() -> Self {
        let (mut home, vault) = (Node::new(1), Client::new());
        open(&mut home, 1, &vault);
        home.call(VaultState::adopted);
        Self { origin: Node::new(0), home, vault, agent: Agent::new(1) }
    }

    /// With requests of the agent at the vault.
    fn with(names: &[&str]) -> Self {
        let mut pair = Self::new();
        for name in names {
            let effects = pair.submit(name);
            pair.carry(0, effects);
        }
        pair
    }

    /// What comes of a request, before any frame is carried.
    fn submit(&mut self, name: &str) -> Vec<Effect> {
        let mut effects = self.origin.call(|state, context| state.submit(self.agent.request(name), context));
        if effects.contains(&Effect::Locate { anew: false }) {
            effects.extend(self.origin.call(|state, context| state.located(at(1, 1), context)));
        }
        effects
    }

    fn carry(&mut self, at: usize, effects: Vec<Effect>) -> Vec<(usize, Effect)> {
        carry(&mut [&mut self.origin, &mut self.home], at, effects)
    }

    fn answer(&mut self, name: &str) -> Vec<Effect> {
        self.home.call(|state, context| drop(state.answer(&name.into(), format!("answer to {name}").into(), context)))
    }
}

fn at(node: usize, epoch: u64) -> Whereabouts {
    Whereabouts::At(run(node), Standing::Live, Epoch(epoch))
}

fn open(node: &mut Node, epoch: u64, vault: &Client) -> Vec<Effect> {
    node.call(|state, context| state.session_opened(session(epoch, epoch, vault), context))
}

fn accepted(name: &str) -> Heard {
    Heard::Accepted(name.to_owned())
}

fn answered(name: &str) -> Heard {
    Heard::Answer(format!("answer to {name}"))
}

fn not_connected(name: &str) -> Heard {
    Heard::Error("RELAY_VAULT_NOT_CONNECTED".to_owned(), name.to_owned())
}

fn delivers(effects: &[Effect], to: usize) -> Vec<String> {
    let names = effects.iter().filter_map(|effect| match effect {
        Effect::Send(node, Body::Deliver(deliver)) if *node == run(to) => Some(deliver.request_id.clone()),
        _ => None,
    });
    names.collect()
}

#[test]
fn a_request_reaches_a_vault_at_another_node_and_its_answer_comes_back() {
    let mut pair = Pair::with(&["r1"]);
    assert_eq!(pair.vault.received(), ["r1 from 10.0.0.1"]);
    let effects = pair.answer("r1");
    pair.carry(1, effects);
    assert_eq!(pair.agent.heard(), [accepted("r1"), answered("r1")]);
    let effects = pair.submit("r1");
    assert!(effects.is_empty(), "a repeat is answered here: {effects:?}");
    assert_eq!(pair.agent.heard(), [answered("r1")]);
}

#[test]
fn both_ends_forget_what_has_ended() {
    let mut pair = Pair::with(&["r1", "r2"]);
    let effects = pair.answer("r1");
    pair.carry(1, effects);
    for node in [&mut pair.origin, &mut pair.home] {
        node.now = START.plus(TTL);
        node.call(VaultState::expire);
        node.call(|state, context| state.forget(&"r1".into(), pair.agent.id("r1"), context));
        assert_eq!(node.figures(), [0; 5]);
    }
}

#[test]
fn a_vault_that_moves_takes_its_requests_along_in_their_order() {
    let mut pair = Pair::with(&["r1", "r2"]);
    let effects = pair.answer("r1");
    pair.carry(1, effects);
    let (mut new_home, back) = (Node::new(2), Client::new());
    open(&mut new_home, 2, &back);
    for number in [1, 0] {
        let node = if number == 0 { &mut pair.origin } else { &mut pair.home };
        let (_, effects) = node.apply(|state, context| state.adopt(&run(2), Epoch(2), context));
        carry(&mut [&mut pair.origin, &mut pair.home, &mut new_home], number, effects);
    }
    let effects = pair.submit("r3");
    assert_eq!(delivers(&effects, 2), ["r3"]);
    carry(&mut [&mut pair.origin, &mut pair.home, &mut new_home], 0, effects);
    new_home.call(VaultState::adopted);
    assert_eq!(back.received(), ["r2 from 10.0.0.1", "r3 from 10.0.0.1"]);
    assert!(new_home.state.kept_answer(&"r1".into(), pair.agent.id("r1")).is_some());
    assert!(!pair.home.state.is_known(&"r2".into(), pair.agent.id("r2")), "the old home has nothing to do with it");
}

#[test]
fn a_request_that_was_overtaken_on_its_way_is_put_in_its_place_again() {
    let mut pair = Pair::new();
    let (first, second) = (pair.submit("r1"), pair.submit("r2"));
    open(&mut pair.home, 2, &Client::new());
    let newest = Client::new();
    open(&mut pair.home, 3, &newest);
    pair.carry(0, second);
    pair.carry(0, first);
    pair.home.call(VaultState::adopted);
    pair.home.call(VaultState::adopted);
    assert_eq!(newest.received(), ["r1 from 10.0.0.1", "r2 from 10.0.0.1"]);
}

#[test]
fn an_older_claim_changes_nothing_however_late_it_comes() {
    let mut pair = Pair::with(&["r1"]);
    assert_eq!(
        pair.home.apply(|state, context| state.adopt(&run(2), Epoch(0), context)),
        (AdoptAnswer::NewerHere(Epoch(1)), vec![])
    );
    pair.origin.call(|state, context| _ = state.adopt(&run(2), Epoch(5), context));
    let (answer, effects) = pair.origin.apply(|state, context| state.adopt(&run(3), Epoch(4), context));
    assert_eq!((answer, effects), (AdoptAnswer::Sent(0), vec![]));
    assert_eq!(delivers(&pair.submit("r2"), 2), ["r2"]);
}

#[test]
fn an_older_socket_gets_nothing_while_a_newer_one_is_open_elsewhere() {
    let mut pair = Pair::new();
    pair.home.call(|state, context| _ = state.adopt(&run(2), Epoch(2), context));
    let effects = pair.submit("r1");
    let rest = pair.carry(0, effects);
    assert_eq!(pair.vault.received().len(), 0);
    // Both look anew: the sender for the newer socket, this node for whether it is still open.
    assert!(rest.contains(&(0, Effect::Locate { anew: true })) && rest.contains(&(1, Effect::Locate { anew: true })));
    pair.home.call(|state, context| state.located(Whereabouts::Absent, context));
    let effects = pair.origin.call(|state, context| state.located(at(1, 1), context));
    pair.carry(0, effects);
    assert_eq!(pair.vault.received(), ["r1 from 10.0.0.1"]);
    assert_eq!(pair.agent.heard(), [accepted("r1")]);
}

#[test]
fn when_the_newest_socket_closes_a_newer_one_elsewhere_goes_before_an_older_one_here() {
    let mut pair = Pair::new();
    open(&mut pair.home, 3, &Client::new());
    pair.home.call(VaultState::adopted);
    let effects = pair.submit("r1");
    pair.carry(0, effects);
    let effects = pair.home.call(|state, context| state.session_closed(3, false, context));
    assert!(effects.contains(&Effect::Locate { anew: true }));
    let effects = pair.home.call(|state, context| state.located(at(2, 2), context));
    assert_eq!(delivers(&effects, 2), ["r1"]);
    let mut pair = Pair::new();
    let effects = pair.home.call(|state, context| state.located(at(2, 0), context));
    assert_eq!(delivers(&effects, 2), [""; 0]);
}

#[test]
fn a_request_sent_again_at_another_node_is_answered_at_both() {
    for home_first in [false, true] {
        let (mut pair, elsewhere) = (Pair::new(), Agent::new(1));
        for at_home in [home_first, !home_first] {
            if at_home {
                pair.home.call(|state, context| state.submit(elsewhere.request("r1"), context));
            } else {
                let effects = pair.submit("r1");
                pair.carry(0, effects);
            }
        }
        assert_eq!(pair.vault.received().len(), 1);
        let effects = pair.answer("r1");
        pair.carry(1, effects);
        for agent in [&pair.agent, &elsewhere] {
            assert_eq!(agent.heard(), [accepted("r1"), answered("r1")], "home first: {home_first}");
        }
    }
}

#[test]
fn when_the_origin_dies_its_request_is_answered_to_whoever_repeats_it() {
    let mut pair = Pair::with(&["r1"]);
    pair.home.call(|state, context| state.node_lost(&run(0), context));
    let effects = pair.answer("r1");
    assert!(!effects.iter().any(|effect| matches!(effect, Effect::Send(..))), "{effects:?}");
    let (mut other, agent) = (Node::new(2), Agent::new(1));
    other.call(|state, context| state.submit(agent.request("r1"), context));
    let effects = other.call(|state, context| state.located(at(1, 1), context));
    carry(&mut [&mut other, &mut pair.home], 0, effects);
    assert_eq!(agent.heard(), [answered("r1")]);
}

#[test]
fn when_the_home_dies_requests_wait_for_the_vault_as_long_as_the_grace() {
    for comes_back in [true, false] {
        let mut pair = Pair::with(&["r1"]);
        let effects = pair.origin.call(|state, context| state.node_lost(&run(1), context));
        assert_eq!(effects, [Effect::Locate { anew: false }]);
        pair.submit("r2");
        let effects = pair.origin.call(|state, context| state.located(Whereabouts::Absent, context));
        assert_eq!(effects, [Effect::Wake(Duration::from_secs(1))]);
        assert_eq!(pair.agent.heard(), [accepted("r1"), accepted("r2")]);
        if comes_back {
            let (_, effects) = pair.origin.apply(|state, context| state.adopt(&run(2), Epoch(2), context));
            assert_eq!(delivers(&effects, 2), ["r1", "r2"]);
            continue;
        }
        pair.origin.now = START.plus(GRACE);
        assert_eq!(pair.origin.call(VaultState::wake), [Effect::Locate { anew: true }]);
        pair.origin.call(|state, context| state.located(Whereabouts::Absent, context));
        for name in ["r1", "r2"] {
            pair.origin.call(|state, context| state.not_found(&name.into(), pair.agent.id(name), context));
        }
        assert_eq!(pair.agent.heard(), [not_connected("r1"), not_connected("r2")]);
    }
}

#[test]
fn a_second_death_starts_the_grace_anew() {
    let mut pair = Pair::with(&["r1"]);
    let effects = pair.answer("r1");
    pair.carry(1, effects);
    pair.origin.call(|state, context| state.node_lost(&run(1), context));
    pair.origin.now = START.plus(GRACE * 4);
    pair.origin.call(|state, context| _ = state.adopt(&run(2), Epoch(2), context));
    pair.origin.call(|state, context| state.node_lost(&run(2), context));
    pair.origin.call(|state, context| state.submit(pair.agent.request("r2"), context));
    pair.origin.call(|state, context| state.located(Whereabouts::Absent, context));
    assert_eq!(pair.agent.heard().last(), Some(&accepted("r2")));
}

#[test]
fn what_a_broken_link_lost_is_said_again() {
    let mut pair = Pair::with(&["r1"]);
    drop(pair.answer("r1"));
    drop(pair.submit("r2"));
    let effects = pair.origin.call(|state, context| state.repeat_to(&run(1), context));
    assert_eq!(delivers(&effects, 1), ["r1", "r2"]);
    pair.carry(0, effects);
    assert_eq!(pair.agent.heard(), [accepted("r1"), answered("r1"), accepted("r2")]);
    assert_eq!(pair.vault.received().len(), 2, "each is delivered once");
}

#[test]
fn a_node_that_waits_for_a_vault_looks_for_it_when_a_link_is_new() {
    let mut pair = Pair::with(&["r1"]);
    pair.home.call(|state, context| state.session_closed(1, false, context));
    pair.home.call(|state, context| state.located(Whereabouts::Absent, context));
    let effects = pair.home.call(|state, context| state.repeat_to(&run(2), context));
    assert_eq!(effects, [Effect::Locate { anew: true }]);
    let effects = pair.home.call(|state, context| state.located(at(2, 2), context));
    let rest = pair.carry(1, effects);
    assert!(rest.contains(&(0, Effect::Locate { anew: true })), "its origin sends it there: {rest:?}");
}

#[test]
fn an_answer_that_does_not_fit_the_link_is_offered_again_but_not_for_ever() {
    let mut pair = Pair::with(&["r1"]);
    let effects = pair.answer("r1");
    let sent = |effects: &[Effect]| {
        let answers = effects.iter().filter_map(|effect| match effect {
            Effect::Send(_, body @ Body::Answer(_)) => Some(body.clone()),
            _ => None,
        });
        answers.collect::<Vec<_>>()
    };
    let mut offers = sent(&effects);
    for attempt in 1.. {
        assert!(attempt < 50, "offered for ever");
        let Some(answer) = offers.pop() else { break };
        pair.home.call(|state, context| state.unsent(&run(0), &answer, context));
        pair.home.now = pair.home.now.plus(Duration::from_secs(1));
        offers = sent(&pair.home.call(VaultState::wake));
        if attempt == 3 {
            let effects = offers.iter().map(|body| Effect::Send(run(0), body.clone())).collect();
            pair.carry(1, effects);
            assert_eq!(pair.agent.heard().last(), Some(&answered("r1")));
        }
    }
}

#[test]
fn a_request_that_cannot_be_sent_is_tried_again_and_refused_in_the_end_unless_accepted() {
    for is_accepted in [false, true] {
        let mut pair = if is_accepted { Pair::with(&["r1"]) } else { Pair::new() };
        let mut effects = match is_accepted {
            true => pair.origin.call(|state, context| state.repeat_to(&run(1), context)),
            false => pair.submit("r1"),
        };
        pair.agent.heard();
        for _ in 0..20 {
            let Some(Effect::Send(to, body)) = effects.iter().find(|effect| matches!(effect, Effect::Send(..))) else {
                break;
            };
            pair.origin.call(|state, context| state.unsent(to, body, context));
            pair.origin.now = pair.origin.now.plus(Duration::from_secs(1));
            pair.origin.call(VaultState::wake);
            effects = pair.origin.call(|state, context| state.located(at(1, 1), context));
        }
        let refused = Heard::Error("RELAY_UNAVAILABLE".to_owned(), "r1".to_owned());
        assert_eq!(pair.agent.heard(), if is_accepted { vec![] } else { vec![refused] });
    }
}

#[test]
fn two_nodes_that_take_each_other_for_the_vaults_home_do_not_argue() {
    let (mut a, mut b, agent) = (Node::new(0), Node::new(1), Agent::new(1));
    for (node, other) in [(&mut a, 1), (&mut b, 0)] {
        node.call(|state, context| state.submit(agent.request("r1"), context));
        drop(node.call(|state, context| state.located(at(other, 1), context)));
    }
    let effects = a.call(|state, context| state.repeat_to(&run(1), context));
    let rest = carry(&mut [&mut a, &mut b], 0, effects);
    assert_eq!(rest, [(1, Effect::Locate { anew: true }), (0, Effect::Locate { anew: true })]);
}

#[test]
fn whoever_sends_to_a_node_without_the_vault_looks_it_up_anew() {
    let mut pair = Pair::with(&["r1"]);
    pair.home.call(|state, context| state.session_closed(1, true, context));
    let effects = pair.submit("r2");
    let rest = pair.carry(0, effects);
    assert!(rest.contains(&(0, Effect::Locate { anew: true })), "{rest:?}");
    let effects = pair.origin.call(|state, context| state.located(at(2, 2), context));
    assert_eq!(delivers(&effects, 2), ["r1", "r2"], "what else was sent there goes along, in order");
}

#[test]
fn the_home_refuses_for_want_of_room_and_of_time_but_not_what_was_accepted() {
    let mut pair = Pair::new();
    pair.home.bounds.max_pending = 0;
    let effects = pair.submit("r1");
    pair.carry(0, effects);
    assert_eq!(pair.agent.heard(), [Heard::Error("RELAY_UNAVAILABLE".to_owned(), "r1".to_owned())]);
    pair.origin.call(|state, context| state.node_lost(&run(1), context));
    pair.origin.call(|state, context| state.submit(pair.agent.request("r2"), context));
    pair.origin.call(|state, context| state.located(Whereabouts::Absent, context));
    let (_, effects) = pair.origin.apply(|state, context| state.adopt(&run(1), Epoch(1), context));
    pair.carry(0, effects);
    assert_eq!((pair.vault.received().len(), pair.agent.heard()), (1, vec![accepted("r2")]));
    pair.home.now = START.plus(TTL);
    let effects = pair.origin.call(|state, context| state.repeat_to(&run(1), context));
    pair.carry(0, effects);
    assert_eq!(pair.agent.heard(), [Heard::Error("RELAY_MESSAGE_EXPIRED".to_owned(), "r2".to_owned())]);
}

#[test]
fn a_guarded_request_survives_its_only_node() {
    let (mut home, mut guardian, agent) = (Node::new(0), Node::new(1), Agent::new(1));
    open(&mut home, 1, &Client::new());
    home.call(VaultState::adopted);
    let (told, _outcome) = oneshot::channel();
    home.call(|state, context| state.submit(agent.request_by("r1", Waiter::Http(told)), context));
    let effects = home.call(|state, context| state.guard(&"r1".into(), agent.id("r1"), &run(1), context));
    carry(&mut [&mut home, &mut guardian], 0, effects);
    assert_eq!(guardian.state.poll(&"r1".into(), &agent.submitter, START), Some(None));
    let effects = guardian.call(|state, context| state.node_lost(&run(0), context));
    assert_eq!(effects, [Effect::Locate { anew: false }]);
    let back = Client::new();
    open(&mut guardian, 2, &back);
    guardian.call(VaultState::adopted);
    assert_eq!(back.received(), ["r1 from 10.0.0.1"]);
}

#[test]
fn a_guardian_hears_of_the_end_whichever_it_is() {
    for is_answered in [true, false] {
        let (mut home, mut guardian, agent) = (Node::new(0), Node::new(1), Agent::new(1));
        open(&mut home, 1, &Client::new());
        home.call(VaultState::adopted);
        let (told, _outcome) = oneshot::channel();
        home.call(|state, context| state.submit(agent.request_by("r1", Waiter::Http(told)), context));
        let mut effects = home.call(|state, context| state.guard(&"r1".into(), agent.id("r1"), &run(1), context));
        if is_answered {
            effects.extend(home.call(|state, context| drop(state.answer(&"r1".into(), "done".into(), context))));
        } else {
            effects.extend(home.call(|state, context| state.session_closed(1, true, context)));
            effects.extend(home.call(|state, context| state.located(Whereabouts::Absent, context)));
            effects.extend(home.call(|state, context| state.not_found(&"r1".into(), agent.id("r1"), context)));
        }
        carry(&mut [&mut home, &mut guardian], 0, effects);
        let polled = guardian.state.poll(&"r1".into(), &agent.submitter, START);
        assert_eq!(polled, is_answered.then(|| Some("done".into())));
    }
}

#[test]
fn an_answer_given_at_another_node_is_passed_to_the_request() {
    let mut pair = Pair::with(&["r1"]);
    let (verdict, _) = pair.origin.apply(|state, context| state.answer(&"r1".into(), "done".into(), context));
    assert_eq!(verdict, AnswerVerdict::Elsewhere(run(1)));
    pair.origin.call(|state, context| state.node_lost(&run(1), context));
    let (verdict, _) = pair.origin.apply(|state, context| state.answer(&"r1".into(), "done".into(), context));
    assert_eq!(verdict, AnswerVerdict::Stored, "where nobody has it, it is taken");
    assert_eq!(pair.agent.heard(), [accepted("r1"), Heard::Answer("done".to_owned())]);
}

#[test]
fn an_answer_that_a_vault_gives_again_is_told_again() {
    let mut pair = Pair::with(&["r1"]);
    drop(pair.answer("r1"));
    let effects = pair.home.call(|state, context| drop(state.answer(&"r1".into(), "another".into(), context)));
    pair.carry(1, effects);
    assert_eq!(pair.agent.heard(), [accepted("r1"), answered("r1")], "the first answer stands");
}
