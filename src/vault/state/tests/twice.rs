//! Requests that two nodes have open: the vault was asked by both, and answers one of them.

use super::pair::*;
use super::support::*;
use crate::cluster::proto::frame::Body;
use crate::domain::clock::Epoch;
use crate::vault::state::{AnswerVerdict, Effect, VaultState};

/// Who is sent an answer.
fn answers(effects: &[Effect]) -> Vec<usize> {
    let told = effects.iter().filter_map(|effect| match effect {
        Effect::Send(node, Body::Answer(_)) => Some(number_of(node)),
        _ => None,
    });
    told.collect()
}

/// A request that the vault was sent at node 1 and, having opened a socket there, at node 0, which took it from its
/// agent; node 1 has not heard of that.
fn asked_at_both() -> (Pair, Client) {
    let (mut pair, newer) = (Pair::with(&["r1"]), Client::new());
    open(&mut pair.origin, 2, &newer);
    pair.origin.call(VaultState::adopted);
    assert_eq!(
        (pair.vault.received(), newer.received()),
        (vec!["r1 from 10.0.0.1".into()], vec!["r1 from 10.0.0.1".into()])
    );
    (pair, newer)
}

#[test]
fn whoever_had_a_request_before_is_told_of_its_answer() {
    let (mut pair, _) = asked_at_both();
    let answer = |node: &mut Node| node.apply(|state, context| state.answer(&"r1".into(), "done".into(), context));
    let (verdict, effects) = answer(&mut pair.origin);
    assert_eq!((verdict, answers(&effects)), (AnswerVerdict::Stored, vec![1]));
    pair.carry(0, effects);
    assert_eq!(answer(&mut pair.home).0, AnswerVerdict::Stray, "it has nothing open any more");
    // It was lost; but the vault answers what it was asked there as well.
    assert_eq!(answers(&answer(&mut pair.origin).1), [1]);
}

#[test]
fn whoever_is_the_home_for_its_own_agent_is_told_by_the_node_that_took_its_request_back() {
    let mut pair = Pair::with(&["r1"]);
    let (other, newer) = (Agent::new(1), Client::new());
    pair.home.call(|state, context| state.submit(other.request("r1"), context));
    assert_eq!(other.heard(), [accepted("r1")]);
    open(&mut pair.origin, 2, &newer);
    pair.origin.call(VaultState::adopted);
    let effects = pair.origin.call(|state, context| drop(state.answer(&"r1".into(), "answer to r1".into(), context)));
    pair.carry(0, effects);
    assert_eq!((pair.agent.heard(), other.heard()), (vec![accepted("r1"), answered("r1")], vec![answered("r1")]));
}

#[test]
fn an_answer_that_was_lost_with_a_link_is_asked_for_at_whoever_had_the_request() {
    let (mut pair, _) = asked_at_both();
    let find = Effect::Find("r1".into(), pair.agent.id("r1"));
    assert_eq!(pair.origin.call(|state, context| state.repeat_to(&run(1), context)), [find]);
    assert_eq!(pair.origin.call(|state, context| state.repeat_to(&run(2), context)), [], "that one never had it");
    let effects = pair.origin.call(|state, context| state.not_found(&"r1".into(), pair.agent.id("r1"), context));
    assert_eq!((effects, pair.origin.figures()[3]), (vec![], 1), "it waits for the vault as before");
}

#[test]
fn nobody_tells_a_node_that_has_died() {
    let (mut pair, _) = asked_at_both();
    pair.origin.call(|state, context| state.node_lost(&run(1), context));
    let effects = pair.origin.call(|state, context| drop(state.answer(&"r1".into(), "done".into(), context)));
    assert_eq!(answers(&effects), [0; 0]);
}

#[test]
fn a_request_that_goes_from_node_to_node_is_remembered_at_the_last_four() {
    let mut pair = Pair::with(&["r1"]);
    for node in 2..8 {
        pair.origin.apply(|state, context| state.adopt(&run(node), LIVE, Epoch(node as u64), context));
    }
    open(&mut pair.origin, 9, &Client::new());
    let effects = pair.origin.call(|state, context| drop(state.answer(&"r1".into(), "done".into(), context)));
    assert_eq!(answers(&effects), [7, 6, 5, 4]);
}
