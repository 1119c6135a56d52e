//! Links between clusters break, their nodes die, and vaults move from one to another: what was accepted is answered
//! once, or ends.

use serde_json::json;

use crate::support::cluster::{expect_requests, figure, figure_is};
use crate::support::regions::{linked, regions_by_ways};
use crate::support::{SEED, TestAgent, TestNode, TestVault, VAULT, Way, envelope, exchange, registration};

const NOT_CONNECTED: (&str, &str) = ("RELAY_VAULT_NOT_CONNECTED", "Vault vault_demo01 is not connected");

const GRACE: (&str, &str) = ("RELAY_VAULT_RECONNECT_GRACE_SECS", "2");

/// A region of two nodes where agents ask, one of two where vaults are, and the way to that one.
struct Regions {
    us: Vec<TestNode>,
    eu: Vec<TestNode>,
    to_eu: Way,
    _to_us: Way,
}

impl Regions {
    async fn start(settings: &[(&str, &str)]) -> Self {
        let (mut regions, mut ways) = regions_by_ways(&[2, 2], settings).await;
        let (eu, us) = (regions.pop().unwrap(), regions.pop().unwrap());
        let (to_eu, to_us) = (ways.pop().unwrap(), ways.pop().unwrap());
        Self { us, eu, to_eu, _to_us: to_us }
    }

    /// The way leads to that node of EU.
    async fn lead_to(&self, node: &TestNode) {
        self.to_eu.lead_to(node.node().federated.unwrap());
    }

    async fn links_are(&self, up: f64) {
        let name = format!(r#"waystation_federation_up{{peer="{}"}}"#, self.to_eu.url);
        for node in &self.us {
            figure_is(node.public, &name, |is| is == up).await;
        }
    }
}

/// A request of `agent` that `vault` has got.
async fn ask(agent: &mut TestAgent, vault: &mut TestVault, id: &str) {
    agent.ask(VAULT, id).await;
    vault.expect_request(id).await;
}

#[tokio::test]
async fn the_node_that_answered_dies_and_the_answer_comes_once() {
    for answers_first in [true, false] {
        let mut regions = Regions::start(&[]).await;
        let mut vault = TestVault::registered(regions.eu[1].public, VAULT, SEED).await;
        let mut agent = TestAgent::connect(regions.us[1].public).await;
        ask(&mut agent, &mut vault, "req_1").await;
        regions.eu.remove(0).kill();
        regions.links_are(0.0).await;
        if answers_first {
            vault.respond("req_1", "EjRW").await;
        }
        // Asked while nobody can tell where the vault is.
        agent.ask(VAULT, "req_2").await;
        regions.lead_to(&regions.eu[0]).await;
        vault.expect_request("req_2").await;
        if !answers_first {
            vault.respond("req_1", "EjRW").await;
        }
        assert_eq!(agent.expect_response("req_1").await, "EjRW");
        vault.respond("req_2", "EjRW").await;
        agent.expect_response("req_2").await;
        vault.expect_nothing().await;
        agent.expect_nothing().await;
    }
}

#[tokio::test]
async fn a_link_that_is_cut_and_back_loses_nothing() {
    let regions = Regions::start(&[]).await;
    // The vault is at the node that answers.
    let mut vault = TestVault::registered(regions.eu[0].public, VAULT, SEED).await;
    let mut agents = Vec::new();
    for node in &regions.us {
        agents.push(TestAgent::connect(node.public).await);
    }
    for (n, agent) in agents.iter_mut().enumerate() {
        ask(agent, &mut vault, &format!("req_{n}")).await;
    }
    regions.to_eu.cut();
    regions.links_are(0.0).await;
    vault.respond("req_0", "EjRW").await;
    regions.lead_to(&regions.eu[0]).await;
    agents[0].expect_response("req_0").await;
    vault.respond("req_1", "EjRW").await;
    agents[1].expect_response("req_1").await;
    vault.expect_nothing().await;
    for agent in &mut agents {
        agent.expect_nothing().await;
        exchange(agent, &mut vault, "req_after").await;
    }
}

/// A request whose vault's region has gone.
async fn ask_a_region_that_goes(regions: &Regions) -> TestAgent {
    let mut vault = TestVault::registered(regions.eu[1].public, VAULT, SEED).await;
    let mut agent = TestAgent::connect(regions.us[0].public).await;
    ask(&mut agent, &mut vault, "req_1").await;
    regions.to_eu.cut();
    regions.links_are(0.0).await;
    agent
}

#[tokio::test]
async fn a_region_that_stays_away_ends_its_requests() {
    let regions = Regions::start(&[GRACE]).await;
    let mut agent = ask_a_region_that_goes(&regions).await;
    agent.ask(VAULT, "req_2").await;
    for _ in 0..2 {
        agent.expect_error(NOT_CONNECTED.0, NOT_CONNECTED.1).await;
    }
    agent.send_frame("request", envelope(VAULT, "req_3")).await;
    agent.expect_error(NOT_CONNECTED.0, NOT_CONNECTED.1).await;
}

#[tokio::test]
async fn a_vault_that_turns_up_here_gets_what_waits_for_a_region_that_has_gone() {
    let regions = Regions::start(&[]).await;
    let mut agent = ask_a_region_that_goes(&regions).await;
    let mut vault = TestVault::registered(regions.us[1].public, VAULT, SEED).await;
    vault.expect_request("req_1").await;
    vault.respond("req_1", "EjRW").await;
    agent.expect_response("req_1").await;
}

#[tokio::test]
async fn requests_follow_a_vault_from_one_region_to_another_and_back() {
    // Longer than anybody waits for anything here.
    let regions = Regions::start(&[("RELAY_VAULT_RECONNECT_GRACE_SECS", "300")]).await;
    let mut vault = TestVault::registered(regions.eu[1].public, VAULT, SEED).await;
    let mut near = TestAgent::connect(regions.eu[0].public).await;
    let mut far = TestAgent::connect(regions.us[0].public).await;
    ask(&mut near, &mut vault, "req_near").await;
    ask(&mut far, &mut vault, "req_far").await;
    drop(vault);
    let mut vault = TestVault::registered(regions.us[1].public, VAULT, SEED).await;
    assert_eq!(expect_requests(&mut vault, 2).await, ["req_far", "req_near"]);
    vault.respond("req_near", "EjRW").await;
    vault.respond("req_far", "EjRW").await;
    assert_eq!(near.expect_response("req_near").await, "EjRW");
    assert_eq!(far.expect_response("req_far").await, "EjRW");
    ask(&mut near, &mut vault, "req_again").await;
    drop(vault);
    let mut vault = TestVault::registered(regions.eu[0].public, VAULT, SEED).await;
    vault.expect_request("req_again").await;
    vault.respond("req_again", "EjRW").await;
    near.expect_response("req_again").await;
}

#[tokio::test]
async fn a_vault_in_two_regions_is_asked_in_the_agents_own() {
    let regions = Regions::start(&[]).await;
    let mut in_eu = TestVault::registered(regions.eu[1].public, VAULT, SEED).await;
    let mut agent = TestAgent::connect(regions.us[0].public).await;
    exchange(&mut agent, &mut in_eu, "req_1").await;
    let mut in_us = TestVault::registered(regions.us[1].public, VAULT, SEED).await;
    // The ack comes before all nodes have heard; what is said after it is read once they have.
    in_us.expect_nothing().await;
    exchange(&mut agent, &mut in_us, "req_2").await;
    let mut at_home = TestAgent::connect(regions.eu[0].public).await;
    exchange(&mut at_home, &mut in_eu, "req_3").await;
    // The other one takes over.
    agent.ask(VAULT, "req_4").await;
    in_us.expect_request("req_4").await;
    in_us.close().await;
    in_eu.expect_request("req_4").await;
    in_eu.respond("req_4", "EjRW").await;
    agent.expect_response("req_4").await;
}

#[tokio::test]
async fn a_peer_that_is_silent_or_down_does_not_keep_an_absent_vault_from_being_absent() {
    let regions = Regions::start(&[("RELAY_FEDERATION_PEER_TIMEOUT", "3600")]).await;
    let mut agent = TestAgent::connect(regions.us[0].public).await;
    regions.to_eu.silence();
    agent.send_frame("request", envelope(VAULT, "req_1")).await;
    agent.expect_error(NOT_CONNECTED.0, NOT_CONNECTED.1).await;
    assert_eq!(figure(regions.us[0].public, "waystation_federation_silent_total").await, 1.0);
    regions.to_eu.cut();
    regions.links_are(0.0).await;
    agent.send_frame("request", envelope(VAULT, "req_2")).await;
    agent.expect_error(NOT_CONNECTED.0, NOT_CONNECTED.1).await;
    linked(&regions.eu[0], 1).await;
}

#[tokio::test]
async fn the_node_that_answers_leaves_service_and_nothing_that_was_accepted_fails() {
    let mut regions = Regions::start(&[]).await;
    let mut vault = TestVault::registered(regions.eu[1].public, VAULT, SEED).await;
    let mut agent = TestAgent::connect(regions.us[0].public).await;
    ask(&mut agent, &mut vault, "req_1").await;
    let leaving = regions.eu.remove(0);
    let drained = tokio::spawn(leaving.drain());
    regions.eu[0].view_is(1).await;
    drained.await.unwrap();
    regions.lead_to(&regions.eu[0]).await;
    agent.ask(VAULT, "req_2").await;
    vault.respond("req_1", "EjRW").await;
    agent.expect_response("req_1").await;
    vault.expect_request("req_2").await;
    vault.respond("req_2", "EjRW").await;
    agent.expect_response("req_2").await;
    agent.expect_nothing().await;
}

#[tokio::test]
async fn a_name_that_a_key_owns_in_one_region_needs_it_in_every_other() {
    let regions = Regions::start(&[]).await;
    TestVault::registered(regions.eu[1].public, VAULT, SEED).await.close().await;
    for (n, node) in regions.us.iter().enumerate() {
        let mut stranger = TestVault::connect(node.public).await;
        stranger.send_frame("register", registration(VAULT, SEED + 1)).await;
        assert_eq!(stranger.expect("error").await["code"], "RELAY_UNAUTHORIZED", "node {n}");
        let mut plain = TestVault::connect(node.public).await;
        plain.send(&json!({"type": "register", "vault_id": VAULT})).await;
        assert_eq!(plain.next().await["code"], "RELAY_UNAUTHORIZED", "node {n}");
    }
    let _owner = TestVault::registered(regions.us[0].public, VAULT, SEED).await;
    // What was judged here is judged here, whoever can be asked.
    regions.to_eu.cut();
    regions.links_are(0.0).await;
    let mut stranger = TestVault::connect(regions.us[1].public).await;
    stranger.send_frame("register", registration(VAULT, SEED + 1)).await;
    assert_eq!(stranger.expect("error").await["code"], "RELAY_UNAUTHORIZED");
}
