//! Vaults that move from node to node, or are at several.

use super::pair::*;
use super::support::*;
use crate::domain::clock::Epoch;
use crate::vault::state::{AdoptAnswer, Effect, VaultState, Whereabouts};

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
