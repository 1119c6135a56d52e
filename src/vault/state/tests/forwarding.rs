//! Requests and answers on their way between two nodes.

use tokio::sync::oneshot;

use super::pair::*;
use super::support::*;
use crate::domain::clock::Epoch;
use crate::vault::record::{Outcome, Waiter};
use crate::vault::state::{AnswerVerdict, Effect, VaultState, Whereabouts};

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
fn what_the_limit_leaves_is_told_as_the_home_said_it_or_not_at_all() {
    for is_lost in [false, true] {
        let (mut pair, (told, mut outcome)) = (Pair::new(), oneshot::channel());
        let new = pair.agent.request_by("r1", Waiter::Http(told));
        drop(pair.origin.call(|state, context| state.submit(new, context)));
        let mut effects = pair.origin.call(|state, context| state.located(at(1, 1), context));
        if is_lost {
            for body in
                effects.into_iter().filter_map(|e| if let Effect::Send(_, body) = e { Some(body) } else { None })
            {
                drop(pair.home.call(received(&run(0), body)));
            }
            effects = pair.origin.call(|state, context| state.repeat_to(&run(1), context));
        }
        pair.carry(0, effects);
        let Ok(Outcome::Accepted { remaining }) = outcome.try_recv() else { panic!("not accepted") };
        assert_eq!(remaining, (!is_lost).then_some(999_999));
    }
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
    let (_, effects) = pair.origin.apply(|state, context| state.adopt(&run(1), LIVE, Epoch(1), context));
    pair.carry(0, effects);
    assert_eq!((pair.vault.received().len(), pair.agent.heard()), (1, vec![accepted("r2")]));
    pair.home.now = START.plus(TTL);
    let effects = pair.origin.call(|state, context| state.repeat_to(&run(1), context));
    pair.carry(0, effects);
    assert_eq!(pair.agent.heard(), [Heard::Error("RELAY_MESSAGE_EXPIRED".to_owned(), "r2".to_owned())]);
}

#[test]
fn an_answer_given_at_another_node_is_passed_to_the_request() {
    let mut pair = Pair::with(&["r1"]);
    let (verdict, _) = pair.origin.apply(|state, context| state.answer(&"r1".into(), "done".into(), context));
    assert_eq!(verdict, AnswerVerdict::Elsewhere(run(1)));
    pair.origin.call(|state, context| state.node_lost(&run(1), context));
    let (verdict, _) = pair.origin.apply(|state, context| state.answer(&"r1".into(), "done".into(), context));
    assert_eq!(verdict, AnswerVerdict::Stray, "where nobody has it, it is taken");
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
