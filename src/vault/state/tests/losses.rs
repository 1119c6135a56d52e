//! Nodes that die and links that break: what was there, or on its way, is not lost.

use std::time::Duration;

use tokio::sync::oneshot;

use super::pair::*;
use super::support::*;
use crate::cluster::proto::frame::Body;
use crate::domain::clock::Epoch;
use crate::vault::record::Waiter;
use crate::vault::state::{Effect, VaultState, Whereabouts};

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
            let (_, effects) = pair.origin.apply(|state, context| state.adopt(&run(2), LIVE, Epoch(2), context));
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
    pair.origin.call(|state, context| _ = state.adopt(&run(2), LIVE, Epoch(2), context));
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
fn a_request_for_a_node_that_takes_nothing_has_time_until_a_dead_one_has_left_the_view() {
    let mut pair = Pair::with(&["r1"]);
    let mut effects = pair.submit("r2");
    pair.agent.heard();
    let begun = pair.origin.now;
    while let Some(Effect::Send(to, body)) = effects.iter().find(|effect| matches!(effect, Effect::Send(..))) {
        pair.origin.call(|state, context| state.unsent(to, body, context));
        let refused = !pair.agent.heard().is_empty();
        assert_eq!(
            refused,
            pair.origin.now >= begun.plus(Duration::from_secs(4)),
            "{:?}",
            pair.origin.now.since(begun)
        );
        pair.origin.now = pair.origin.now.plus(Duration::from_millis(500));
        pair.origin.call(VaultState::wake);
        effects = pair.origin.call(|state, context| state.located(at(1, 1), context));
    }
    assert_eq!(pair.origin.now, begun.plus(Duration::from_millis(4_500)));
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
