//! Requests that go to another cluster, and requests that come from one.

use std::time::Duration;

use super::pair::*;
use super::support::*;
use crate::cluster::ends::End;
use crate::cluster::proto::frame::Body;
use crate::cluster::proto::refused::Reason;
use crate::cluster::regions::{Caller, PeerName};
use crate::domain::clock::Epoch;
use crate::domain::ids::NodeRun;
use crate::domain::principal::Standing;
use crate::vault::frames::{self, Delivered};
use crate::vault::record::{Origin, Submitter};
use crate::vault::state::{Effect, VaultState, Whereabouts};

fn peer(name: &str) -> NodeRun {
    End::Peer(PeerName(name.into())).run()
}

fn caller(number: u64) -> NodeRun {
    End::Caller(Caller(number)).run()
}

/// A node with a peer, and a request of its agent that nobody in the cluster can do anything about.
fn origin() -> (Node, Agent) {
    let (mut node, agent) = (Node { peers: true, ..Node::new(0) }, Agent::new(1));
    drop(node.call(|state, context| state.submit(agent.request("r1"), context)));
    assert_eq!(absent(&mut node, &agent), [Effect::LookAfar]);
    (node, agent)
}

/// Nobody in the cluster has the vault, nor an answer.
fn absent(node: &mut Node, agent: &Agent) -> Vec<Effect> {
    let effects = node.call(|state, context| state.located(Whereabouts::Absent, context));
    assert_eq!(effects, [Effect::Find("r1".into(), agent.id("r1"))]);
    node.call(|state, context| state.not_found(&"r1".into(), agent.id("r1"), context))
}

fn found(node: &mut Node, at: Option<&str>) -> Vec<Effect> {
    let found = at.map(|name| (peer(name), Standing::Live));
    node.call(|state, context| state.found_afar(found, context))
}

fn delivered(agent: &Agent, name: &str) -> Delivered {
    Delivered {
        id: agent.id(name),
        request: name.into(),
        frame: format!("{name} from afar").into(),
        answer: None,
        expires: START.plus(TTL),
        submitter: Submitter { address: [0, 0, 0, 0].into(), token: None },
        origin: run(9),
        order: 1,
        traceparent: String::new(),
        accepted: true,
        crossed: true,
        guard: false,
        home: None,
    }
}

/// A node of another cluster sends a request to `node`.
fn deliver(node: &mut Node, from: u64, name: &str) -> Vec<Effect> {
    let delivered = Delivered { origin: caller(from), ..delivered(&Agent::new(1), name) };
    node.call(|state, context| state.deliver_from_afar(&caller(from), delivered, context))
}

fn refused_by(node: &mut Node, agent: &Agent, by: &str, reason: Reason) -> Vec<Effect> {
    let Body::Refused(mut refused) = frames::not_here(&VAULT.into(), &"r1".into(), agent.id("r1")) else { panic!() };
    refused.reason = reason.into();
    node.call(|state, context| state.refused(&peer(by), &refused, context))
}

/// What is told to that party, in a word.
fn told(effects: &[Effect], to: &NodeRun) -> Vec<&'static str> {
    let words = effects.iter().filter_map(|effect| match effect {
        Effect::Send(node, body) if node == to => Some(match body {
            Body::Deliver(_) => "deliver",
            Body::Accepted(_) => "accepted",
            Body::Answer(_) => "answer",
            Body::Refused(refused) if refused.reason() == Reason::NotHere => "not here",
            Body::Refused(refused) if refused.reason() == Reason::NotConnected => "not connected",
            other => panic!("{other:?}"),
        }),
        _ => None,
    });
    words.collect()
}

#[test]
fn the_peers_are_asked_last_and_once_for_all_requests() {
    let (mut node, agent) = origin();
    drop(node.call(|state, context| state.submit(agent.request("r2"), context)));
    let effects = node.call(|state, context| state.located(Whereabouts::Absent, context));
    assert_eq!(effects.len(), 2, "{effects:?}");
    let effects = node.call(|state, context| state.not_found(&"r2".into(), agent.id("r2"), context));
    assert_eq!(effects, [], "they are being asked already");
    assert!(found(&mut node, None).iter().all(|effect| matches!(effect, Effect::Unindex(_))));
    assert_eq!(agent.heard(), [not_connected("r1"), not_connected("r2")]);
}

#[test]
fn who_has_it_is_sent_what_waits_and_what_comes_later_for_a_while() {
    let (mut node, agent) = origin();
    assert_eq!(told(&found(&mut node, Some("eu")), &peer("eu")), ["deliver"]);
    let effects = node.call(|state, context| state.submit(agent.request("r2"), context));
    assert_eq!(told(&effects, &peer("eu")), ["deliver"]);
    node.now = START.plus(Duration::from_secs(30));
    let effects = node.call(|state, context| state.submit(agent.request("r3"), context));
    assert!(effects.contains(&Effect::Locate { anew: false }), "{effects:?}");
}

#[test]
fn what_a_peer_refuses_is_looked_for_again_and_a_third_cluster_may_have_it() {
    for reason in [Reason::NotHere, Reason::NotConnected] {
        let (mut node, agent) = origin();
        found(&mut node, Some("eu"));
        let effects = refused_by(&mut node, &agent, "eu", reason);
        assert_eq!(effects, [Effect::Locate { anew: true }]);
        assert_eq!(absent(&mut node, &agent), [Effect::LookAfar]);
        assert_eq!(told(&found(&mut node, Some("as")), &peer("as")), ["deliver"]);
        assert!(refused_by(&mut node, &agent, "eu", reason).is_empty(), "it has no say in it any more");
        assert!(node.state.is_with(&"r1".into(), agent.id("r1"), &peer("as")));
    }
}

#[test]
fn a_session_in_this_cluster_wins_whenever_it_is_heard_of() {
    for by_lookup in [true, false] {
        let (mut node, _) = origin();
        found(&mut node, Some("eu"));
        let effects = if by_lookup {
            node.call(|state, context| state.located(Whereabouts::At(run(1), Standing::Polling, Epoch(1)), context))
        } else {
            node.apply(|state, context| state.adopt(&run(1), Some(Standing::Polling), Epoch(1), context)).1
        };
        assert_eq!(delivers(&effects, 1), ["r1"], "by lookup: {by_lookup}");
        assert_eq!(told(&found(&mut node, Some("eu")), &peer("eu")), [""; 0]);
    }
}

#[test]
fn a_link_that_ends_is_a_cluster_that_may_come_back_within_the_grace() {
    let (mut node, agent) = origin();
    found(&mut node, Some("eu"));
    let effects = node.call(|state, context| state.node_lost(&peer("eu"), context));
    assert_eq!(effects, [Effect::Locate { anew: false }]);
    let effects = node.call(|state, context| state.located(Whereabouts::Absent, context));
    assert!(effects.contains(&Effect::LookAfar), "{effects:?}");
    assert_eq!(agent.heard(), [accepted("r1")]);
    found(&mut node, None);
    assert_eq!(agent.heard(), [], "it waits");
    let effects = node.call(VaultState::seen_afar);
    assert!(effects.contains(&Effect::LookAfar), "{effects:?}");
    assert_eq!(told(&found(&mut node, Some("eu")), &peer("eu")), ["deliver"]);
}

#[test]
fn what_could_not_be_sent_waits_as_for_a_cluster_that_has_gone() {
    let (mut node, agent) = origin();
    let effects = found(&mut node, Some("eu"));
    let Some(Effect::Send(to, body)) = effects.into_iter().next() else { panic!("nothing is sent") };
    let effects = node.call(|state, context| state.unsent(&to, &body, context));
    assert!(matches!(effects.as_slice(), [Effect::Wake(_)]), "{effects:?}");
    node.now = START.plus(Duration::from_secs(1));
    assert_eq!(node.call(VaultState::wake), [Effect::Locate { anew: false }]);
    node.call(|state, context| state.located(Whereabouts::Absent, context));
    assert_eq!(agent.heard(), [accepted("r1")]);
}

#[test]
fn two_clusters_that_only_wait_send_each_other_nothing() {
    let (mut node, vault) = (Node { peers: true, ..Node::alone() }, Client::new());
    open(&mut node, 1, &vault);
    node.call(|state, context| state.submit(Agent::new(1).request("r1"), context));
    node.call(|state, context| state.session_closed(1, false, context));
    let effects = node.call(|state, context| state.located(Whereabouts::Absent, context));
    assert!(effects.contains(&Effect::LookAfar), "{effects:?}");
    let waits = Some((peer("eu"), Standing::Waiting));
    let effects = node.call(|state, context| state.found_afar(waits, context));
    assert_eq!((told(&effects, &peer("eu")), node.state.is_waiting()), (vec![], true));
    node.call(VaultState::seen_afar);
    assert_eq!(told(&found(&mut node, Some("eu")), &peer("eu")), ["deliver"]);
    assert!(!node.state.is_waiting());
}

#[test]
fn a_callers_request_is_looked_for_in_this_cluster_only() {
    let mut node = Node { peers: true, ..Node::new(0) };
    let effects = deliver(&mut node, 1, "r1");
    assert!(effects.contains(&Effect::Locate { anew: false }), "{effects:?}");
    node.call(|state, context| state.located(Whereabouts::Absent, context));
    let id = Agent::new(1).id("r1");
    let effects = node.call(|state, context| state.not_found(&"r1".into(), id, context));
    assert_eq!(told(&effects, &caller(1)), ["not connected"]);
    assert!(!effects.contains(&Effect::LookAfar));
    // What others of this cluster have found elsewhere is not for it.
    let (mut node, _) = origin();
    found(&mut node, Some("as"));
    assert_eq!(told(&deliver(&mut node, 1, "r2"), &caller(1)), ["not here"]);
    assert_eq!(node.figures()[3], 1);
}

#[test]
fn a_callers_request_follows_its_vault_and_is_told_of_what_becomes_of_it() {
    let (mut node, vault) = (Node { peers: true, ..Node::new(0) }, Client::new());
    open(&mut node, 1, &vault);
    node.call(VaultState::adopted);
    assert_eq!(told(&deliver(&mut node, 1, "r1"), &caller(1)), ["accepted"]);
    assert_eq!(vault.received(), ["r1 from afar"]);
    let (_, effects) = node.apply(|state, context| state.adopt(&run(1), LIVE, Epoch(2), context));
    assert_eq!((delivers(&effects, 1), told(&effects, &caller(1))), (vec!["r1".to_owned()], vec![]));
    let id = Agent::new(1).id("r1");
    let Some(Effect::Send(_, Body::Deliver(sent))) = effects.first() else { panic!("{effects:?}") };
    assert_eq!((sent.origin_node.as_str(), sent.crossings), ("", 1), "this node awaits the answer");
    let effects = node.call(|state, context| state.answered(&"r1".into(), id, "done".into(), context));
    assert_eq!(told(&effects, &caller(1)), ["answer"]);
}

#[test]
fn a_request_outlives_its_caller_and_is_told_to_the_next_one() {
    let mut node = Node { peers: true, ..Node::new(0) };
    deliver(&mut node, 1, "r1");
    node.call(|state, context| state.node_lost(&caller(1), context));
    let effects = deliver(&mut node, 2, "r1");
    assert_eq!(effects, [], "it is known, and not accepted yet");
    let effects = node.call(|state, context| state.located(at(1, 1), context));
    assert_eq!(delivers(&effects, 1), ["r1"]);
    let id = Agent::new(1).id("r1");
    let effects = node.call(|state, context| state.accepted(&"r1".into(), id, None, context));
    assert_eq!((told(&effects, &caller(1)), told(&effects, &caller(2))), (vec![], vec!["accepted"]));
    assert_eq!(told(&deliver(&mut node, 2, "r1"), &caller(2)), ["accepted"]);
    assert!(matches!(node.state.find(&"r1".into(), id).unwrap().origin, Origin::There(_)));
    assert!(!node.state.is_awaited(), "no agent of this node waits");
    node.call(VaultState::abandon);
    assert_eq!(node.figures()[3], 1, "a node that stops leaves it to its link to say so");
}

#[test]
fn a_request_that_has_crossed_crosses_no_more_though_its_caller_is_gone() {
    let id = Agent::new(1).id("r1");
    // Where it waits for a vault that has gone.
    let (mut home, vault) = (Node { peers: true, ..Node::new(0) }, Client::new());
    open(&mut home, 1, &vault);
    home.call(VaultState::adopted);
    deliver(&mut home, 1, "r1");
    home.call(|state, context| state.session_closed(1, false, context));
    home.call(|state, context| state.node_lost(&caller(1), context));
    let effects = home.call(|state, context| state.located(Whereabouts::Absent, context));
    assert!(!effects.contains(&Effect::LookAfar), "{effects:?}");
    home.now = START.plus(GRACE);
    assert!(home.call(VaultState::wake).contains(&Effect::Locate { anew: true }));
    home.call(|state, context| state.located(Whereabouts::Absent, context));
    let effects = home.call(|state, context| state.not_found(&"r1".into(), id, context));
    assert!(!effects.contains(&Effect::LookAfar), "{effects:?}");
    assert_eq!(home.figures()[3], 0, "it has ended");
    // Where others of this cluster have found the vault in a third.
    let (mut node, _) = origin();
    deliver(&mut node, 1, "r2");
    node.call(|state, context| state.node_lost(&caller(1), context));
    assert_eq!(told(&found(&mut node, Some("as")), &peer("as")), ["deliver"], "that of its own agent");
    assert_eq!(node.figures()[3], 1);
    // Where its node has died, too: the one that had the vault says what it has heard.
    let mut origin = Node { peers: true, ..Node::new(0) };
    deliver(&mut origin, 1, "r1");
    let effects = origin.call(|state, context| state.located(at(1, 1), context));
    let Some(Effect::Send(_, Body::Deliver(sent))) = effects.into_iter().next() else { panic!("nothing is sent") };
    let (mut home, vault) = (Node { peers: true, ..Node::new(1) }, Client::new());
    open(&mut home, 1, &vault);
    home.call(VaultState::adopted);
    home.call(received(&run(0), Body::Deliver(sent)));
    home.call(|state, context| state.node_lost(&run(0), context));
    home.call(|state, context| state.session_closed(1, false, context));
    let effects = home.call(|state, context| state.located(Whereabouts::Absent, context));
    assert!(!effects.contains(&Effect::LookAfar), "{effects:?}");
}

#[test]
fn a_request_that_an_agent_of_this_cluster_sends_as_well_may_leave_it_once() {
    let (mut node, agent) = (Node { peers: true, ..Node::new(0) }, Agent::new(1));
    deliver(&mut node, 1, "r1");
    node.call(|state, context| state.submit(agent.request("r1"), context));
    assert_eq!(absent(&mut node, &agent), [Effect::LookAfar]);
    let effects = found(&mut node, Some("as"));
    let Some(Effect::Send(_, Body::Deliver(sent))) = effects.first() else { panic!("{effects:?}") };
    assert_eq!(sent.crossings, 0);
    // Whoever asks for it here now is not kept waiting: what it wants is not here.
    assert_eq!(told(&deliver(&mut node, 2, "r1"), &caller(2)), ["not here"]);
    let effects = node.call(|state, context| state.answered(&"r1".into(), agent.id("r1"), "done".into(), context));
    assert_eq!(told(&effects, &caller(1)), ["answer"], "who asked before hears of it");
}

#[test]
fn two_clusters_that_both_have_lost_a_vaults_node_send_each_other_nothing() {
    let (mut node, agent) = origin();
    found(&mut node, Some("eu"));
    node.call(|state, context| state.node_lost(&peer("eu"), context));
    node.call(|state, context| state.located(Whereabouts::Absent, context));
    let waits = Some((peer("as"), Standing::Waiting));
    let effects = node.call(|state, context| state.found_afar(waits.clone(), context));
    assert_eq!(told(&effects, &peer("as")), [""; 0]);
    // Once the time is over in which it may come back, whoever still waits may have it.
    node.now = START.plus(GRACE);
    assert!(node.call(VaultState::wake).contains(&Effect::Locate { anew: true }));
    assert_eq!(absent(&mut node, &agent), [Effect::LookAfar]);
    let effects = node.call(|state, context| state.found_afar(waits, context));
    assert_eq!(told(&effects, &peer("as")), ["deliver"]);
}
