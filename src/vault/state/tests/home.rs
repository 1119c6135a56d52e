//! What a vault may expect of the node that it is connected to, and agents while it is away.

use std::time::Duration;

use super::support::*;
use crate::domain::clock::{Epoch, Millis};
use crate::domain::ids::RequestId;
use crate::domain::limits::HEARTBEAT_TIMEOUT;
use crate::domain::principal::Standing;
use crate::vault::state::{AnswerVerdict, Effect, Session, VaultState, Whereabouts};

/// A node without others, with sockets of the vault: the first has number 1 and epoch 1, and so on.
fn served<const N: usize>() -> (Node, [Client; N], Agent) {
    let (mut node, vaults) = (Node::alone(), std::array::from_fn(|_| Client::new()));
    for (number, vault) in (1..).zip(&vaults) {
        node.call(|state, context| state.session_opened(session(number, number, vault), context));
    }
    (node, vaults, Agent::new(1))
}

fn submit(node: &mut Node, agent: &Agent, names: &[&str]) {
    for name in names {
        node.call(|state, context| state.submit(agent.request(name), context));
    }
}

fn close(node: &mut Node, number: u64) -> Vec<Effect> {
    node.call(|state, context| state.session_closed(number, false, context))
}

fn not_connected(request: &str) -> Heard {
    Heard::Error("RELAY_VAULT_NOT_CONNECTED".to_owned(), request.to_owned())
}

#[test]
fn while_the_vault_reconnects_requests_are_accepted_and_wait() {
    let (mut node, [vault], agent) = served();
    submit(&mut node, &agent, &["delivered", "answered"]);
    node.call(|state, context| drop(state.answer(&"answered".into(), "done".into(), context)));
    let effects = close(&mut node, 1);
    assert_eq!(effects, [Effect::Hold(Epoch(1), Standing::Waiting), Effect::Wake(GRACE)]);
    assert!(node.state.is_waiting());
    submit(&mut node, &agent, &["new"]);
    assert_eq!(agent.heard().last(), Some(&Heard::Accepted("new".to_owned())));
    vault.received();
    let back = Client::new();
    node.call(|state, context| state.session_opened(session(2, 2, &back), context));
    assert_eq!(back.received(), ["delivered from 10.0.0.1", "new from 10.0.0.1"]);
    assert_eq!(node.metrics.vault.redelivered.get(), 1);
}

#[test]
fn when_the_grace_ends_without_the_vault_agents_are_told() {
    let (mut node, [_vault], agent) = served();
    submit(&mut node, &agent, &["r1"]);
    close(&mut node, 1);
    agent.heard();
    node.now = START.plus(GRACE);
    let effects = node.call(VaultState::wake);
    assert!(effects.contains(&Effect::Release(Epoch(1))), "{effects:?}");
    assert_eq!(agent.heard(), [not_connected("r1")]);
    assert!(!node.state.is_waiting());
    assert_eq!(node.figures(), [0; 5]);
}

#[test]
fn a_timer_that_is_ahead_of_the_wall_clock_is_set_again() {
    let (mut node, [_vault], agent) = served();
    submit(&mut node, &agent, &["r1"]);
    close(&mut node, 1);
    node.now = START.plus(GRACE - Duration::from_millis(1));
    assert_eq!(node.call(VaultState::wake), [Effect::Wake(Duration::from_millis(1))]);
    node.now = START.plus(GRACE);
    node.call(VaultState::wake);
    assert_eq!(agent.heard().last(), Some(&not_connected("r1")));
}

#[test]
fn unregistering_skips_the_grace() {
    let (mut node, [_vault], agent) = served();
    submit(&mut node, &agent, &["r1"]);
    node.call(|state, context| state.session_closed(1, true, context));
    assert_eq!(agent.heard(), [Heard::Accepted("r1".to_owned()), not_connected("r1")]);
    assert!(!node.state.is_waiting());
}

#[test]
fn before_the_last_word_a_vault_that_has_gone_is_looked_for_on_other_nodes() {
    for for_good in [false, true] {
        let (mut node, vault, agent) = (Node::new(0), Client::new(), Agent::new(1));
        node.call(|state, context| state.session_opened(session(1, 1, &vault), context));
        node.call(VaultState::adopted);
        submit(&mut node, &agent, &["r1"]);
        node.call(|state, context| state.session_closed(1, for_good, context));
        if !for_good {
            node.call(|state, context| state.located(Whereabouts::Absent, context));
            node.now = START.plus(GRACE);
            assert!(node.call(VaultState::wake).contains(&Effect::Locate { anew: true }));
        }
        let found = Whereabouts::At(run(1), Standing::Live, Epoch(2));
        let effects = node.call(|state, context| state.located(found, context));
        assert!(matches!(&effects[..], [Effect::Send(to, _)] if *to == run(1)), "{effects:?}");
        assert_eq!(agent.heard(), [Heard::Accepted("r1".to_owned())]);
    }
}

#[test]
fn when_the_newest_socket_closes_the_newest_one_left_gets_what_is_unanswered() {
    let (mut node, [oldest, older, newest], agent) = served();
    submit(&mut node, &agent, &["r1", "r2"]);
    assert_eq!(newest.received().len(), 2);
    node.call(|state, context| drop(state.answer(&"r1".into(), "done".into(), context)));
    let effects = close(&mut node, 3);
    assert_eq!(effects, [Effect::Release(Epoch(3)), Effect::Hold(Epoch(2), Standing::Live)]);
    assert_eq!((oldest.received().len(), older.received()), (0, vec!["r2 from 10.0.0.1".to_owned()]));
    assert!(node.state.owes(2) && !node.state.owes(1));
}

#[test]
fn an_older_socket_that_closes_changes_nothing() {
    let (mut node, [older, newest], agent) = served();
    submit(&mut node, &agent, &["r1"]);
    close(&mut node, 1);
    submit(&mut node, &agent, &["r2"]);
    assert_eq!((older.received().len(), newest.received().len()), (0, 2));
    assert!(node.state.has_socket() && !node.state.is_waiting());
}

#[test]
fn an_answer_counts_from_whichever_socket_and_while_the_vault_is_away() {
    let (mut node, [_vault], agent) = served();
    submit(&mut node, &agent, &["r1"]);
    close(&mut node, 1);
    let (verdict, _) = node.apply(|state, context| state.answer(&"r1".into(), "done".into(), context));
    assert_eq!(verdict, AnswerVerdict::Stored);
    assert_eq!(agent.heard().last(), Some(&Heard::Answer("done".to_owned())));
    let (verdict, _) = node.apply(|state, context| state.answer(&"unknown".into(), "done".into(), context));
    assert_eq!(verdict, AnswerVerdict::Unknown);
}

#[test]
fn of_several_requests_of_one_name_the_one_delivered_first_is_answered() {
    let (mut node, [_vault, _newer], agent) = served();
    submit(&mut node, &agent, &["r1#a", "r1#b"]);
    let newest = Client::new();
    close(&mut node, 2);
    node.call(|state, context| state.session_opened(session(3, 3, &newest), context));
    for text in ["a", "b"] {
        node.call(|state, context| drop(state.answer(&"r1".into(), text.into(), context)));
    }
    let kept = |name: &str| node.state.kept_answer(&"r1".into(), agent.id(name)).map(ToString::to_string);
    assert_eq!((kept("r1#a"), kept("r1#b")), (Some("a".to_owned()), Some("b".to_owned())));
}

#[test]
fn a_vault_that_polls_fetches_each_request_once_or_again_if_it_asks() {
    let (mut node, agent) = (Node::alone(), Agent::new(1));
    let polling = Session { outbox: None, ..session(1, 1, &Client::new()) };
    let effects = node.call(|state, context| state.session_opened(polling, context));
    assert_eq!(effects, [Effect::Hold(Epoch(1), Standing::Polling)]);
    submit(&mut node, &agent, &["r1", "r2", "r3"]);
    let mut fetch = |again, limit| {
        let (fetched, _) = node.apply(|state, context| state.fetch(again, limit, context));
        fetched.into_iter().map(|(request, _)| request.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(fetch(false, 2), ["r1", "r2"]);
    assert_eq!(fetch(false, 2), ["r3"]);
    assert_eq!(fetch(false, 2), [""; 0]);
    assert_eq!(fetch(true, 9), ["r1", "r2", "r3"]);
}

#[test]
fn a_name_that_gets_another_owner_ends_all_sessions_of_strangers_at_once() {
    let (mut node, [stranger, other_stranger], agent) = served();
    let owner = Client::new();
    let session = Session { key: bytes::Bytes::from_static(b"key of the owner"), ..session(9, 0, &owner) };
    node.call(|state, context| state.session_opened(session, context));
    submit(&mut node, &agent, &["r1"]);
    assert_eq!(other_stranger.received().len(), 1);
    node.call(|state, context| state.rebound(b"key of the owner", &"go away".into(), context));
    assert_eq!((stranger.received(), other_stranger.received()), (vec!["go away".into()], vec!["go away".into()]));
    assert_eq!(owner.received(), ["r1 from 10.0.0.1"]);
    assert!(node.state.is_registered(9) && !node.state.is_registered(1) && !node.state.is_registered(2));
}

#[test]
fn a_session_that_ends_while_it_asks_others_holds_nothing_up() {
    let (mut node, vault, late, agent) = (Node::new(0), Client::new(), Client::new(), Agent::new(1));
    node.call(|state, context| state.session_opened(session(1, 1, &vault), context));
    node.call(VaultState::adopted);
    node.call(|state, context| state.session_opened(session(2, 2, &late), context));
    close(&mut node, 2);
    submit(&mut node, &agent, &["r1"]);
    node.now = START.plus(Duration::from_secs(2));
    node.call(VaultState::wake);
    assert_eq!(vault.received(), ["r1 from 10.0.0.1"]);
}

#[test]
fn deliveries_begin_when_the_last_of_several_new_sessions_has_asked() {
    let (mut node, vaults, agent) = (Node::new(0), [Client::new(), Client::new()], Agent::new(1));
    for (number, vault) in (1..).zip(&vaults) {
        node.call(|state, context| state.session_opened(session(number, number, vault), context));
    }
    submit(&mut node, &agent, &["r1"]);
    node.call(VaultState::adopted);
    assert_eq!(vaults[1].received().len(), 0);
    node.call(VaultState::adopted);
    assert_eq!(vaults[1].received(), ["r1 from 10.0.0.1"]);
}

#[test]
fn a_socket_that_takes_nothing_leaves_the_request_for_the_next() {
    let (mut node, [older, newest], agent) = served();
    newest.outbox.abandon();
    submit(&mut node, &agent, &["r1"]);
    assert_eq!((older.received().len(), agent.heard()), (0, vec![Heard::Accepted("r1".to_owned())]));
    close(&mut node, 2);
    assert_eq!(older.received(), ["r1 from 10.0.0.1"]);
}

#[test]
fn silence_is_measured_where_the_vault_is() {
    let (mut node, [_vault], _) = served();
    let limit = |last_heard: Millis| last_heard.plus(HEARTBEAT_TIMEOUT);
    let later = |moment: Millis| moment.plus(Duration::from_millis(1));
    assert!(!node.state.is_silent(limit(START)) && node.state.is_silent(later(limit(START))));
    let heard = START.plus(Duration::from_secs(30));
    node.state.alive(1, heard);
    assert!(!node.state.is_silent(limit(heard)) && node.state.is_silent(later(limit(heard))));
    node.alone = false;
    node.call(|state, context| _ = state.adopt(&run(1), LIVE, Epoch(7), context));
    assert!(!node.state.is_silent(later(limit(heard))), "heartbeats go to the newer socket");
}

#[test]
fn heartbeats_of_sockets_that_do_not_stand_for_the_vault_are_no_sign_of_its_life() {
    const STRANGER: u64 = 9;
    let (mut node, [_older, _newest], _) = served();
    let (heard, end) = (START.plus(Duration::from_secs(60)), START.plus(HEARTBEAT_TIMEOUT + Duration::from_secs(1)));
    node.state.alive(STRANGER, heard);
    assert!(node.state.is_silent(end));
    close(&mut node, 1);
    node.state.alive(1, heard);
    assert!(node.state.is_silent(end), "it has gone");
    node.state.alive(2, heard);
    assert!(!node.state.is_silent(end));
}

#[test]
fn a_vault_of_which_nothing_is_left_is_forgotten() {
    let (mut node, [_vault], agent) = served();
    let idle_after = |node: &Node, at: Duration| node.state.is_idle(START.plus(at));
    let (minute, hour) = (Duration::from_secs(60), Duration::from_secs(3_600));
    assert!(!idle_after(&node, hour), "it is connected");
    submit(&mut node, &agent, &["r1"]);
    close(&mut node, 1);
    assert!(!idle_after(&node, hour), "requests wait for it");
    node.call(|state, context| state.session_opened(session(2, 2, &Client::new()), context));
    node.call(|state, context| drop(state.answer(&RequestId::from("r1"), "done".into(), context)));
    node.call(|state, context| state.session_closed(2, true, context));
    assert!(!idle_after(&node, hour), "an answer is kept");
    node.call(|state, context| state.forget(&"r1".into(), agent.id("r1"), context));
    assert!(!idle_after(&node, minute - Duration::from_millis(1)) && idle_after(&node, minute));
}

#[test]
fn a_vault_that_comes_back_to_much_is_given_it_as_it_reads() {
    let (mut node, [_vault], agent) = served();
    close(&mut node, 1);
    let names: Vec<String> = (10..30).map(|number| format!("r{number}")).collect();
    submit(&mut node, &agent, &names.iter().map(String::as_str).collect::<Vec<_>>());
    let back = Client::with_limit(100);
    let mut effects = node.call(|state, context| state.session_opened(session(2, 2, &back), context));
    submit(&mut node, &agent, &["r30"]);
    let mut read = Vec::new();
    for _ in 0..100 {
        read.extend(back.received());
        let Some(after) = effects.iter().find_map(|e| if let Effect::Wake(after) = e { Some(*after) } else { None })
        else {
            break;
        };
        node.now = node.now.plus(after);
        effects = node.call(VaultState::wake);
    }
    assert_eq!(read, (10..31).map(|number| format!("r{number} from 10.0.0.1")).collect::<Vec<_>>());
}

#[test]
fn a_socket_that_is_sent_away_gets_nothing_more_and_may_answer_what_it_has() {
    let (mut node, [leaving], agent) = served();
    submit(&mut node, &agent, &["r1"]);
    assert!(node.state.run_dry(1), "it owes an answer");
    submit(&mut node, &agent, &["r2"]);
    assert_eq!(leaving.received(), ["r1 from 10.0.0.1"]);
    node.call(|state, context| drop(state.answer(&"r1".into(), "done".into(), context)));
    assert!(!node.state.run_dry(1));
    close(&mut node, 1);
    let back = Client::new();
    node.call(|state, context| state.session_opened(session(2, 2, &back), context));
    assert_eq!(back.received(), ["r2 from 10.0.0.1"]);
}

#[test]
fn a_socket_whose_node_stays_after_all_gets_what_waited_for_it() {
    let (mut node, [staying], agent) = served();
    submit(&mut node, &agent, &["r1"]);
    assert!(node.state.run_dry(1));
    submit(&mut node, &agent, &["r2"]);
    assert_eq!(staying.received(), ["r1 from 10.0.0.1"]);
    node.call(VaultState::stay);
    submit(&mut node, &agent, &["r3"]);
    assert_eq!(staying.received(), ["r2 from 10.0.0.1", "r3 from 10.0.0.1"]);
}
