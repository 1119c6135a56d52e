//! Vaults of several clusters: one that is registered in one region answers agents in another.

use std::time::Duration;

use crate::support::cluster::{figure, figure_is};
use crate::support::http::{get, post};
use crate::support::regions::{FEDERATION_SECRET, regions};
use crate::support::{SEED, TestAgent, TestVault, VAULT, envelope, in_time};

const NOT_CONNECTED: (&str, &str) = ("RELAY_VAULT_NOT_CONNECTED", "Vault vault_demo01 is not connected");

#[tokio::test]
async fn a_vault_in_one_region_answers_agents_at_every_node_of_another() {
    let regions = regions(&[2, 2], &[FEDERATION_SECRET]).await;
    let (us, eu) = (&regions[0], &regions[1]);
    for (seat, home) in eu.iter().enumerate() {
        let vault_id = format!("vault_{seat}");
        let mut vault = TestVault::registered(home.public, &vault_id, SEED).await;
        for (n, node) in us.iter().enumerate() {
            let mut agent = TestAgent::connect(node.public).await;
            for turn in 0..3 {
                let id = format!("req_{n}_{turn}");
                agent.ask(&vault_id, &id).await;
                vault.expect_request(&id).await;
                vault.respond(&id, "EjRW").await;
                assert_eq!(agent.expect_response(&id).await, "EjRW");
            }
            // A repeat is answered where it was asked first, and the vault hears nothing of it.
            let repeated = agent.ask(&vault_id, "req_again").await;
            vault.expect_request("req_again").await;
            vault.respond("req_again", "EjRW").await;
            agent.expect_response("req_again").await;
            agent.send_frame("request", repeated).await;
            agent.expect_response("req_again").await;
            vault.expect_nothing().await;
        }
    }
    let sent = figure(us[0].public, "waystation_federation_requests_sent_total").await;
    assert_eq!(sent, 8.0, "each request crosses once");
    figure_is(eu[0].public, "waystation_federation_requests_open", |open| open == 0.0).await;
}

#[tokio::test]
async fn an_agent_over_http_submits_in_one_region_and_polls_at_any_node_of_it() {
    let regions = regions(&[2, 1], &[]).await;
    let (us, eu) = (&regions[0], &regions[1]);
    let mut vault = TestVault::registered(eu[0].public, VAULT, SEED).await;
    let accepted = post(us[1].public, "/relay/request", &envelope(VAULT, "req_1")).await;
    accepted.expect(202);
    vault.expect_request("req_1").await;
    get(us[0].public, "/relay/response/req_1").await.expect(202);
    vault.respond("req_1", "EjRW").await;
    for node in us {
        in_time("the answer is polled", async {
            while get(node.public, "/relay/response/req_1").await.status == 202 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await;
        let answer = get(node.public, "/relay/response/req_1").await;
        assert_eq!(answer.expect(200)["encrypted_payload"], "EjRW");
    }
    // Who asked is the asker's cluster's affair.
    get(eu[0].public, "/relay/response/req_1").await.expect(404);
}

#[tokio::test]
async fn a_vault_that_nobody_has_is_absent_at_once_and_peers_are_not_asked_again_at_once() {
    let regions = regions(&[2, 2], &[]).await;
    let (us, eu) = (&regions[0], &regions[1]);
    let mut agent = TestAgent::connect(us[1].public).await;
    for n in 0..5 {
        let id = format!("req_{n}");
        agent.send_frame("request", envelope(VAULT, &id)).await;
        agent.expect_error(NOT_CONNECTED.0, NOT_CONNECTED.1).await;
    }
    let answered = figure(eu[0].public, "waystation_federation_lookups_answered_total").await;
    assert!(answered < 5.0, "{answered} questions crossed");
    // That is void as soon as the vault comes, wherever.
    let mut vault = TestVault::registered(eu[1].public, VAULT, SEED).await;
    figure_is(us[1].public, "waystation_federation_frames_received_total", |frames| frames > 0.0).await;
    in_time("the vault is found", async {
        for n in 10.. {
            let id = format!("req_{n}");
            agent.send_frame("request", envelope(VAULT, &id)).await;
            if agent.next().await["type"] == "ack" {
                return vault.expect_request(&id).await;
            }
        }
        unreachable!()
    })
    .await;
}
