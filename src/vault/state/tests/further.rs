//! What a peer has taken and does not answer.

use std::time::Duration;

use super::pair::{accepted, answered};
use super::support::*;
use crate::cluster::ends::End;
use crate::cluster::proto::frame::Body;
use crate::cluster::proto::refused::Reason;
use crate::cluster::regions::PeerName;
use crate::domain::clock::Millis;
use crate::domain::ids::NodeRun;
use crate::domain::principal::Standing;
use crate::vault::frames;
use crate::vault::state::{Effect, VaultState, Whereabouts};

fn peer(name: &str) -> NodeRun {
    End::Peer(PeerName(name.into())).run()
}

/// A node whose peer "eu" has accepted a request, and so many seconds later.
fn taken_by_eu(seconds: u64) -> (Node, Agent) {
    let (mut node, agent) = (Node { peers: true, ..Node::alone() }, Agent::new(1));
    node.call(|state, context| state.submit(agent.request("r1"), context));
    node.call(|state, context| state.located(Whereabouts::Absent, context));
    node.call(|state, context| state.found_afar(Some((peer("eu"), Standing::Live)), context));
    node.call(|state, context| state.accepted(&"r1".into(), agent.id("r1"), None, context));
    assert_eq!(agent.heard(), [accepted("r1")]);
    node.now = after(seconds);
    (node, agent)
}

fn after(seconds: u64) -> Millis {
    START.plus(Duration::from_secs(seconds))
}

/// The peers that are not asked because they have it already, if others are asked.
fn looks_but_at(effects: &[Effect]) -> Option<Vec<NodeRun>> {
    effects.iter().find_map(|effect| match effect {
        Effect::LookFurther(asked) => Some(asked.to_vec()),
        _ => None,
    })
}

fn sent_to(effects: &[Effect]) -> Vec<NodeRun> {
    let sent = effects.iter().filter_map(|effect| match effect {
        Effect::Send(node, Body::Deliver(deliver)) if deliver.crossings == 0 => Some(node.clone()),
        _ => None,
    });
    sent.collect()
}

fn further(node: &mut Node, name: &str) -> Vec<Effect> {
    node.call(|state, context| state.found_further(&peer(name), context))
}

fn answers(node: &mut Node, agent: &Agent, name: &str) -> Vec<Effect> {
    let (id, answer) = (agent.id("r1"), "answer to r1".into());
    let effects = node.call(|state, context| {
        state.answered_afar(&peer(name), &"r1".into(), id, answer, context);
    });
    effects.into_iter().filter(|effect| matches!(effect, Effect::Lapsed(_))).collect()
}

#[test]
fn what_a_peer_does_not_answer_is_looked_for_at_the_others_now_and_then() {
    let (mut node, _) = taken_by_eu(9);
    assert_eq!(looks_but_at(&node.call(VaultState::wake)), None, "it has ten seconds for itself");
    for (seconds, looks) in [(10, true), (11, false), (39, false), (40, true)] {
        node.now = after(seconds);
        let effects = node.call(VaultState::wake);
        assert_eq!(looks_but_at(&effects), looks.then(|| vec![peer("eu")]), "after {seconds} s");
    }
}

#[test]
fn another_peer_that_has_the_vault_gets_it_as_well_and_the_first_answer_counts() {
    for first in ["eu", "as"] {
        let (mut node, agent) = taken_by_eu(10);
        node.call(VaultState::wake);
        assert_eq!(sent_to(&further(&mut node, "as")), [peer("as")]);
        assert_eq!(sent_to(&further(&mut node, "as")), [], "it has it");
        let lapsed = if first == "as" { vec![Effect::Lapsed(peer("eu"))] } else { vec![] };
        assert_eq!(answers(&mut node, &agent, first), lapsed);
        assert_eq!(answers(&mut node, &agent, "eu"), [], "too late");
        assert_eq!(agent.heard(), [answered("r1")]);
    }
}

#[test]
fn at_most_three_peers_have_it_and_one_that_refuses_has_no_say_any_more() {
    let (mut node, agent) = taken_by_eu(10);
    node.call(VaultState::wake);
    further(&mut node, "as");
    assert_eq!(sent_to(&further(&mut node, "us")), [], "that one has ten seconds, too");
    node.now = after(40);
    assert_eq!(looks_but_at(&node.call(VaultState::wake)), Some(vec![peer("eu"), peer("as")]));
    assert_eq!(sent_to(&further(&mut node, "us")), [peer("us")]);
    node.now = after(80);
    assert_eq!(looks_but_at(&node.call(VaultState::wake)), None);
    let Body::Refused(mut refused) = frames::not_here(&VAULT.into(), &"r1".into(), agent.id("r1")) else { panic!() };
    refused.reason = Reason::NotConnected.into();
    assert_eq!(node.call(|state, context| state.refused(&peer("as"), &refused, context)), [], "eu has it still");
    let has_a_say = |name| node.state.is_with(&"r1".into(), agent.id("r1"), &peer(name));
    assert_eq!(["eu", "as", "us"].map(has_a_say), [true, false, true]);
}

#[test]
fn who_lets_a_request_expire_has_lapsed_and_who_has_lost_its_link_has_not() {
    let (mut node, _) = taken_by_eu(TTL.as_secs());
    assert!(node.call(VaultState::expire).contains(&Effect::Lapsed(peer("eu"))));
    let (mut node, _) = taken_by_eu(1);
    node.call(|state, context| state.node_lost(&peer("eu"), context));
    node.now = after(TTL.as_secs());
    assert!(!node.call(VaultState::expire).contains(&Effect::Lapsed(peer("eu"))));
}

#[test]
fn nothing_is_looked_for_any_more_when_nothing_waits() {
    let (mut node, agent) = taken_by_eu(10);
    answers(&mut node, &agent, "eu");
    assert_eq!(node.call(VaultState::wake), []);
}
