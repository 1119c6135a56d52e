//! What an agent may expect of the node that it is connected to.

use std::time::Duration;

use tokio::sync::oneshot;

use super::support::*;
use crate::domain::ids::RequestId;
use crate::vault::record::{Outcome, PollToken, Submitter, Waiter};
use crate::vault::refusal::Refusal;
use crate::vault::state::{AnswerVerdict, Effect, VaultState, Whereabouts};

fn accepted(request: &str) -> Heard {
    Heard::Accepted(request.to_owned())
}

fn error(code: &str, request: &str) -> Heard {
    Heard::Error(code.to_owned(), request.to_owned())
}

fn answer(text: &str) -> Heard {
    Heard::Answer(text.to_owned())
}

/// A node without others, with a socket of the vault.
fn served() -> (Node, Client) {
    let (mut node, vault) = (Node::alone(), Client::new());
    node.call(|state, context| state.session_opened(session(1, 1, &vault), context));
    (node, vault)
}

fn answers(node: &mut Node, request: &str, text: &str) -> AnswerVerdict {
    node.apply(|state, context| state.answer(&RequestId::from(request), text.into(), context)).0
}

#[test]
fn a_request_is_delivered_acknowledged_and_answered_once() {
    let ((mut node, vault), agent) = (served(), Agent::new(1));
    node.call(|state, context| state.submit(agent.request("r1"), context));
    assert_eq!(vault.received(), ["r1 from 10.0.0.1"]);
    assert_eq!(agent.heard(), [accepted("r1")]);
    assert_eq!(answers(&mut node, "r1", "first"), AnswerVerdict::Stored);
    assert_eq!(answers(&mut node, "r1", "second"), AnswerVerdict::Stray);
    assert_eq!(agent.heard(), [answer("first")]);
    assert_eq!(agent.pending(), 0);
}

#[test]
fn a_stored_answer_is_for_the_whole_envelope_from_the_same_address() {
    let ((mut node, vault), agent, stranger) = (served(), Agent::new(1), Agent::new(2));
    node.call(|state, context| state.submit(agent.request("r1"), context));
    answers(&mut node, "r1", "for 10.0.0.1");
    node.call(|state, context| state.submit(agent.request("r1"), context));
    assert_eq!(agent.heard(), [accepted("r1"), answer("for 10.0.0.1"), answer("for 10.0.0.1")]);
    vault.received();
    for other in [agent.request("r1#other envelope"), stranger.request("r1")] {
        node.call(|state, context| state.submit(other, context));
    }
    assert_eq!(vault.received(), ["r1#other envelope from 10.0.0.1", "r1 from 10.0.0.2"]);
    assert_eq!((agent.heard(), stranger.heard()), (vec![accepted("r1")], vec![accepted("r1")]));
}

#[test]
fn each_submitter_of_one_name_gets_its_own_answer() {
    let ((mut node, vault), agents) = (served(), [Agent::new(1), Agent::new(2)]);
    for agent in &agents {
        node.call(|state, context| state.submit(agent.request("r1"), context));
    }
    for text in vault.received() {
        answers(&mut node, "r1", &format!("answer to {text}"));
    }
    for agent in &agents {
        assert_eq!(agent.heard()[1], Heard::Answer(format!("answer to r1 from {}", agent.submitter.address)));
    }
}

#[test]
fn a_repeat_of_a_pending_request_is_acknowledged_and_gets_the_answer() {
    let ((mut node, vault), before, after) = (served(), Agent::new(1), Agent::new(1));
    for agent in [&before, &after] {
        node.call(|state, context| state.submit(agent.request("r1"), context));
    }
    assert_eq!((before.pending(), after.pending()), (0, 1));
    assert_eq!(vault.received().len(), 1);
    answers(&mut node, "r1", "once");
    assert_eq!((before.heard(), after.heard()), (vec![accepted("r1")], vec![accepted("r1"), answer("once")]));
}

#[test]
fn over_http_a_pending_request_is_a_duplicate_and_an_answered_one_is_answered() {
    let ((mut node, _vault), agent) = (served(), Agent::new(1));
    let post = |node: &mut Node| {
        let (told, mut outcome) = oneshot::channel();
        node.call(|state, context| state.submit(agent.request_by("r1", Waiter::Http(told)), context));
        outcome.try_recv().unwrap()
    };
    assert!(matches!(post(&mut node), Outcome::Accepted { remaining: Some(_) }));
    assert!(matches!(post(&mut node), Outcome::Duplicate));
    answers(&mut node, "r1", "done");
    assert!(matches!(post(&mut node), Outcome::Answered(text) if text == "done"));
}

#[test]
fn a_poll_needs_the_address_or_the_token() {
    let ((mut node, _vault), agent) = (served(), Agent::new(1));
    let (told, _outcome) = oneshot::channel();
    node.call(|state, context| state.submit(agent.request_by("r1", Waiter::Http(told)), context));
    let (name, elsewhere) = (RequestId::from("r1"), Agent::new(9).submitter);
    let poll = |node: &Node, asker: &Submitter, at| node.state.poll(&name, asker, at);
    assert_eq!(poll(&node, &agent.submitter, START), Some(None));
    answers(&mut node, "r1", "done");
    let with_token = Submitter { token: Some(PollToken([7; 16])), ..elsewhere };
    let guessing = Submitter { token: Some(PollToken([8; 16])), ..elsewhere };
    for (asker, found) in [(agent.submitter, true), (with_token, true), (elsewhere, false), (guessing, false)] {
        assert_eq!(poll(&node, &asker, START).flatten().is_some(), found, "{asker:?}");
    }
    assert_eq!(poll(&node, &agent.submitter, START.plus(TTL)), None);
}

#[test]
fn a_vault_that_is_connected_nowhere_is_reported_at_once() {
    let (mut node, agent) = (Node::alone(), Agent::new(1));
    let effects = node.call(|state, context| state.submit(agent.request("r1"), context));
    assert!(effects.contains(&Effect::Locate { anew: false }));
    node.call(|state, context| state.located(Whereabouts::Absent, context));
    assert_eq!(agent.heard(), [error("RELAY_VAULT_NOT_CONNECTED", "r1")]);
}

#[test]
fn before_that_every_node_is_asked_for_an_answer() {
    let (mut node, agent) = (Node::new(0), Agent::new(1));
    for request in ["r1", "r2"] {
        node.call(|state, context| state.submit(agent.request(request), context));
    }
    let effects = node.call(|state, context| state.located(Whereabouts::Absent, context));
    let find = |name: &str| Effect::Find(name.into(), agent.id(name));
    assert_eq!(effects, [find("r1"), find("r2")]);
    node.call(|state, context| state.answered(&"r1".into(), agent.id("r1"), "kept elsewhere".into(), context));
    for name in ["r1", "r2"] {
        node.call(|state, context| state.not_found(&name.into(), agent.id(name), context));
    }
    assert_eq!(agent.heard(), [answer("kept elsewhere"), error("RELAY_VAULT_NOT_CONNECTED", "r2")]);
}

#[test]
fn requests_have_room_until_a_bound_and_again_after_an_answer() {
    for by_bytes in [false, true] {
        let ((mut node, _vault), agent) = (served(), Agent::new(1));
        node.call(|state, context| state.submit(agent.request("r1"), context));
        if by_bytes {
            node.bounds.pending_bytes = node.figures()[1] as usize;
        } else {
            node.bounds.max_pending = 1;
        }
        node.call(|state, context| state.submit(agent.request("r2"), context));
        assert_eq!(agent.heard(), [accepted("r1"), error("RELAY_UNAVAILABLE", "r2")]);
        answers(&mut node, "r1", "done");
        node.call(|state, context| state.submit(agent.request("r2"), context));
        assert_eq!(agent.heard(), [answer("done"), accepted("r2")]);
    }
}

#[test]
fn the_vaults_limit_counts_requests_and_no_repeats() {
    let (mut node, vault, agent) = (Node::with_rate(0, 1), Client::new(), Agent::new(1));
    node.alone = true;
    node.call(|state, context| state.session_opened(session(1, 1, &vault), context));
    for request in ["r1", "r1", "r2"] {
        node.call(|state, context| state.submit(agent.request(request), context));
    }
    assert_eq!(agent.heard(), [accepted("r1"), accepted("r1"), error("RELAY_RATE_LIMITED", "r2")]);
    assert_eq!(vault.received(), ["r1 from 10.0.0.1"]);
}

#[test]
fn a_request_whose_time_is_over_ends_and_may_be_sent_anew() {
    let ((mut node, vault), agent) = (served(), Agent::new(1));
    node.call(|state, context| state.submit(agent.request("r1"), context));
    node.now = START.plus(TTL);
    node.call(VaultState::expire);
    assert_eq!(agent.heard(), [accepted("r1"), error("RELAY_MESSAGE_EXPIRED", "r1")]);
    assert_eq!(answers(&mut node, "r1", "too late"), AnswerVerdict::Unknown);
    vault.received();
    let mut again = agent.request("r1");
    again.expires = node.now.plus(TTL);
    node.call(|state, context| state.submit(again, context));
    assert_eq!((vault.received().len(), agent.heard()), (1, vec![accepted("r1")]));
}

#[test]
fn what_has_ended_uses_nothing() {
    let ((mut node, _vault), agent) = (served(), Agent::new(1));
    for request in ["answered", "expired", "undelivered"] {
        node.call(|state, context| state.submit(agent.request(request), context));
        if request == "expired" {
            node.call(|state, context| state.session_closed(1, false, context));
        }
    }
    answers(&mut node, "answered", "done");
    let [bytes, open_bytes, records, pending, undelivered] = node.figures();
    assert!(bytes > open_bytes && open_bytes > 0);
    assert_eq!([records, pending, undelivered], [3, 2, 1]);
    node.call(|state, context| state.forget(&"answered".into(), agent.id("answered"), context));
    node.now = START.plus(TTL);
    node.call(VaultState::expire);
    assert_eq!((node.figures(), agent.pending()), ([0; 5], 0));
}

#[test]
fn a_vault_that_many_ask_for_is_looked_up_once() {
    let (mut node, agent) = (Node::new(0), Agent::new(1));
    let mut effects = Vec::new();
    for number in 0..100 {
        effects.extend(node.call(|state, context| state.submit(agent.request(&format!("r{number}")), context)));
    }
    effects.retain(|effect| !matches!(effect, Effect::Index(_)));
    assert_eq!(effects, [Effect::Locate { anew: false }]);
    // The same while its return is awaited: one timer, one lookup a second.
    node.call(|state, context| state.located(Whereabouts::Lost(GRACE), context));
    for number in 100..200 {
        node.call(|state, context| state.submit(agent.request(&format!("r{number}")), context));
        let effects = node.call(|state, context| state.located(Whereabouts::Lost(GRACE), context));
        assert!(!effects.iter().any(|effect| matches!(effect, Effect::Wake(_))), "{effects:?}");
    }
    node.now = START.plus(Duration::from_secs(1));
    assert_eq!(node.call(VaultState::wake), [Effect::Locate { anew: false }]);
    assert_eq!(agent.heard().len(), 200, "all are accepted while the vault may come back");
}

#[test]
fn where_nobody_can_say_where_the_vault_is_only_accepted_requests_are_kept() {
    let (mut node, agent) = (Node::new(0), Agent::new(1));
    node.call(|state, context| state.submit(agent.request("r1"), context));
    node.call(|state, context| state.located(Whereabouts::Lost(Duration::from_secs(1)), context));
    node.call(|state, context| state.submit(agent.request("r2"), context));
    let effects = node.call(|state, context| state.located(Whereabouts::Unreachable, context));
    assert_eq!(agent.heard(), [accepted("r1"), error("RELAY_UNAVAILABLE", "r2")]);
    assert!(!effects.iter().any(|effect| matches!(effect, Effect::Find(..))), "{effects:?}");
    node.now = START.plus(Duration::from_secs(1));
    assert_eq!(node.call(VaultState::wake), [Effect::Locate { anew: true }]);
}

#[test]
fn a_vault_that_connects_here_while_it_is_looked_up_takes_requests_under_its_limit() {
    let (mut node, vault, agent) = (Node::with_rate(0, 1), Client::new(), Agent::new(1));
    for request in ["r1", "r2"] {
        node.call(|state, context| state.submit(agent.request(request), context));
    }
    node.call(|state, context| state.session_opened(session(1, 1, &vault), context));
    assert_eq!((vault.received().len(), agent.heard().len()), (0, 0), "other nodes are asked first");
    node.call(VaultState::adopted);
    assert_eq!(vault.received(), ["r1 from 10.0.0.1"]);
    assert_eq!(agent.heard(), [accepted("r1"), error("RELAY_RATE_LIMITED", "r2")]);
}

#[test]
fn a_node_that_stops_tells_whoever_waits_and_hands_on_what_others_poll_for() {
    let ((mut node, _vault), agent) = (served(), Agent::new(1));
    for request in ["awaited", "answered"] {
        node.call(|state, context| state.submit(agent.request(request), context));
    }
    let (told, _outcome) = oneshot::channel();
    node.call(|state, context| state.submit(agent.request_by("posted", Waiter::Http(told)), context));
    answers(&mut node, "answered", "done");
    agent.heard();
    let mut sibling = Node::new(1);
    let effects = node.call(|state, context| state.hand_over(&run(1), context));
    carry(&mut [&mut node, &mut sibling], 0, effects);
    let known = ["awaited", "answered", "posted"].map(|name| sibling.state.is_known(&name.into(), agent.id(name)));
    assert_eq!(known, [false, true, true]);
    assert!(node.state.is_awaited());
    node.call(VaultState::abandon);
    assert_eq!(agent.heard(), [error(Refusal::Unavailable.code(), "awaited")]);
    assert!(!node.state.is_awaited());
}
