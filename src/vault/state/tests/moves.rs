//! Vaults that move from node to node, or are at several.

use super::pair::*;
use super::support::*;
use crate::domain::clock::Epoch;
use crate::domain::principal::Standing;
use crate::vault::frames;
use crate::vault::state::{AdoptAnswer, Effect, Rank, Session, VaultState, Whereabouts};

#[test]
fn a_vault_that_moves_takes_its_requests_along_in_their_order() {
    let mut pair = Pair::with(&["r1", "r2"]);
    let effects = pair.answer("r1");
    pair.carry(1, effects);
    let (mut new_home, back) = (Node::new(2), Client::new());
    open(&mut new_home, 2, &back);
    for number in [1, 0] {
        let node = if number == 0 { &mut pair.origin } else { &mut pair.home };
        let (_, effects) = node.apply(|state, context| state.adopt(&run(2), LIVE, Epoch(2), context));
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
        pair.home.apply(|state, context| state.adopt(&run(2), LIVE, Epoch(0), context)),
        (AdoptAnswer::Outranked((Standing::Live, Epoch(1))), vec![])
    );
    pair.origin.call(|state, context| _ = state.adopt(&run(2), LIVE, Epoch(5), context));
    let (answer, effects) = pair.origin.apply(|state, context| state.adopt(&run(3), LIVE, Epoch(4), context));
    assert_eq!((answer, effects), (AdoptAnswer::Sent(0), vec![]));
    assert_eq!(delivers(&pair.submit("r2"), 2), ["r2"]);
}

/// A poll that began after everything else.
const POLL: Rank = (Standing::Polling, Epoch(5));

/// A node at which the vault polls.
fn polling() -> Node {
    let mut node = Node::new(2);
    let poll = Session { outbox: None, ..session(POLL.1.0, POLL.1.0, &Client::new()) };
    node.call(|state, context| state.session_opened(poll, context));
    node
}

#[test]
fn a_newer_poll_at_another_node_takes_nothing_from_a_socket_and_gives_it_what_it_has() {
    let mut pair = Pair::with(&["r1"]);
    let live = (Standing::Live, Epoch(1));
    for node in [&mut pair.home, &mut pair.origin] {
        let (_, effects) = node.apply(|state, context| state.adopt(&run(2), Some(POLL.0), POLL.1, context));
        assert!(effects.is_empty(), "{effects:?}");
    }
    let (answer, _) = pair.home.apply(|state, context| state.adopt(&run(2), Some(POLL.0), POLL.1, context));
    assert_eq!(answer, AdoptAnswer::Outranked(live));
    let effects = pair.submit("r2");
    assert_eq!(delivers(&effects, 1), ["r2"], "the origin goes on sending to the socket");

    let (mut poller, agent) = (polling(), Agent::new(2));
    poller.call(|state, context| state.submit(agent.request("r3"), context));
    let effects = poller.call(|state, context| state.outranked_by(&run(1), live, context));
    carry(&mut [&mut poller, &mut pair.home], 0, effects);
    poller.call(VaultState::adopted);
    assert!(poller.apply(|state, context| state.fetch(true, 9, context)).0.is_empty());
    assert_eq!(pair.vault.received(), ["r1 from 10.0.0.1", "r3 from 10.0.0.2"]);
}

#[test]
fn an_older_socket_takes_what_waits_for_a_newer_poll() {
    let (mut poller, agent) = (polling(), Agent::new(1));
    poller.call(VaultState::adopted);
    poller.call(|state, context| state.submit(agent.request("r1"), context));
    let (_, effects) = poller.apply(|state, context| state.adopt(&run(1), LIVE, Epoch(1), context));
    assert_eq!(delivers(&effects, 1), ["r1"]);
}

#[test]
fn a_poll_does_not_lift_a_socket_above_a_newer_one_elsewhere() {
    let mut pair = Pair::with(&["r1"]);
    let poll = Session { outbox: None, ..session(5, 5, &Client::new()) };
    let effects = pair.home.call(|state, context| state.session_opened(poll, context));
    assert!(effects.contains(&Effect::Hold(Epoch(1), Standing::Live)), "{effects:?}");
    let (_, effects) = pair.home.apply(|state, context| state.adopt(&run(2), LIVE, Epoch(2), context));
    assert_eq!(delivers(&effects, 2), ["r1"]);
}

#[test]
fn a_node_that_does_not_say_how_firmly_it_has_the_vault_is_compared_by_epoch() {
    let mut poller = polling();
    let (answer, _) = poller.apply(|state, context| state.adopt(&run(1), None, Epoch(4), context));
    assert_eq!(answer, AdoptAnswer::Outranked(POLL));
    let mut pair = Pair::with(&["r1"]);
    let (_, effects) = pair.home.apply(|state, context| state.adopt(&run(2), None, Epoch(2), context));
    assert_eq!(delivers(&effects, 2), ["r1"]);
}

/// A vault whose socket at [`Pair::home`] has been followed by one at node 2.
fn moved_on() -> Pair {
    let mut pair = Pair::new();
    pair.home.call(|state, context| _ = state.adopt(&run(2), LIVE, Epoch(2), context));
    pair
}

#[test]
fn an_older_socket_gets_nothing_while_a_newer_one_is_open_elsewhere() {
    let mut pair = moved_on();
    let effects = pair.submit("r1");
    let rest = pair.carry(0, effects);
    assert!(rest.contains(&(1, Effect::Locate { anew: true })), "is the newer one still open? {rest:?}");
    let effects = pair.home.call(|state, context| state.located(at(2, 2), context));
    assert_eq!(delivers(&effects, 2), [""; 0], "it is the origin that forwards");
    pair.carry(1, effects);
    let effects = pair.origin.call(|state, context| state.located(at(2, 2), context));
    assert_eq!(delivers(&effects, 2), ["r1"]);
    assert_eq!((pair.vault.received().len(), pair.agent.heard()), (0, vec![]));
}

#[test]
fn an_older_socket_gets_requests_in_their_order_once_the_newer_one_is_known_to_have_gone() {
    let mut pair = moved_on();
    let mut found = Vec::new();
    for name in ["r1", "r2", "r3"] {
        let effects = pair.submit(name);
        let rest = pair.carry(0, effects);
        found.extend(rest.into_iter().filter(|(_, effect)| *effect == Effect::Locate { anew: true }));
        assert_eq!((pair.vault.received().len(), pair.agent.heard()), (0, vec![]));
    }
    assert_eq!(found, [(1, Effect::Locate { anew: true })], "all wait for one lookup");
    let effects = pair.home.call(|state, context| state.located(Whereabouts::Absent, context));
    pair.carry(1, effects);
    assert_eq!(pair.vault.received(), ["r1 from 10.0.0.1", "r2 from 10.0.0.1", "r3 from 10.0.0.1"]);
    assert_eq!(pair.agent.heard(), [accepted("r1"), accepted("r2"), accepted("r3")]);
}

#[test]
fn requests_that_come_back_from_where_the_vault_was_go_before_later_ones() {
    let (mut pair, mut was) = (moved_on(), Node::new(2));
    let effects = pair.home.call(|state, context| state.submit(pair.agent.request("r1"), context));
    let rest = carry(&mut [&mut pair.home, &mut was], 0, effects);
    assert!(rest.contains(&(0, Effect::Locate { anew: true })), "{rest:?}");
    pair.home.call(|state, context| state.submit(pair.agent.request("r2"), context));
    assert_eq!(pair.vault.received().len(), 0);
    pair.home.call(|state, context| state.located(Whereabouts::Absent, context));
    assert_eq!(pair.vault.received(), ["r1 from 10.0.0.1", "r2 from 10.0.0.1"]);
}

#[test]
fn a_request_of_the_node_that_the_vault_was_at_brings_back_what_was_sent_there() {
    let (mut pair, mut was) = (moved_on(), Node::new(2));
    pair.home.call(|state, context| state.submit(pair.agent.request("r1"), context));
    was.call(|state, context| state.submit(Agent::new(2).request("r2"), context));
    let effects = was.call(|state, context| state.located(at(1, 1), context));
    carry(&mut [&mut pair.home, &mut was], 1, effects);
    pair.home.call(|state, context| state.submit(pair.agent.request("r3"), context));
    assert_eq!(pair.vault.received(), ["r1 from 10.0.0.1", "r2 from 10.0.0.2", "r3 from 10.0.0.1"]);
}

#[test]
fn what_waits_for_a_lookup_goes_back_when_the_vault_registers_where_it_came_from() {
    let mut pair = moved_on();
    let effects = pair.submit("r1");
    pair.carry(0, effects);
    let (_, effects) = pair.home.apply(|state, context| state.adopt(&run(0), LIVE, Epoch(3), context));
    let back = frames::not_here(&VAULT.into(), &"r1".into(), pair.agent.id("r1"));
    assert!(effects.contains(&Effect::Send(run(0), back)), "{effects:?}");
}

#[test]
fn what_waits_for_a_lookup_is_accepted_when_the_socket_closes() {
    let mut pair = moved_on();
    let effects = pair.submit("r1");
    pair.carry(0, effects);
    let effects = pair.home.call(|state, context| state.session_closed(1, false, context));
    pair.carry(1, effects);
    assert_eq!(pair.agent.heard(), [accepted("r1")]);
}

#[test]
fn a_poll_gets_nothing_before_it_is_known_that_the_socket_has_gone() {
    let (mut poller, mut origin, agent) = (polling(), Node::new(0), Agent::new(1));
    poller.call(VaultState::adopted);
    poller.call(|state, context| _ = state.adopt(&run(1), LIVE, Epoch(1), context));
    origin.call(|state, context| state.submit(agent.request("r1"), context));
    let effects = origin.call(|state, context| state.located(at(2, POLL.1.0), context));
    carry(&mut [&mut origin, &mut poller], 0, effects);
    assert_eq!(poller.apply(|state, context| state.fetch(true, 9, context)).0, []);
    poller.call(|state, context| state.located(Whereabouts::Absent, context));
    assert_eq!(poller.apply(|state, context| state.fetch(true, 9, context)).0.len(), 1);
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
