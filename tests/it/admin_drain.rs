//! An operator takes a node out of service, and puts it back.

use std::time::Duration;

use tonic::{Code, Streaming};
use waystation::edge::admin::proto::{
    DrainRequest, DrainStatusRequest, DrainStatusResponse, Phase, UndrainRequest, WatchDrainRequest,
};

use crate::support::admin::{admin, free_address, printed};
use crate::support::{Process, TestAgent, TestNode, TestVault, VAULT, get, in_time, one_of_each};

const PATIENT: DrainRequest = DrainRequest { timeout_secs: Some(300), evacuate: false };

/// The first status that is in this phase.
async fn reaches(statuses: &mut Streaming<DrainStatusResponse>, phase: Phase) -> DrainStatusResponse {
    in_time("the phase", async {
        loop {
            let status = statuses.message().await.unwrap().expect("the stream goes on");
            if status.phase() == phase {
                return status;
            }
        }
    })
    .await
}

#[tokio::test]
async fn a_drained_node_waits_for_what_is_open_and_says_what_that_is() {
    let (node, mut vault, mut agent) = one_of_each(&[]).await;
    agent.ask(VAULT, "req_1").await;
    vault.expect_request("req_1").await;
    let mut client = admin(&node).await;
    let mut statuses = client.watch_drain(WatchDrainRequest {}).await.unwrap().into_inner();
    assert_eq!(reaches(&mut statuses, Phase::Serving).await.by, "");
    let begun = client.drain(PATIENT).await.unwrap().into_inner().status.unwrap();
    assert_eq!((begun.phase(), begun.may_return), (Phase::Draining, true));
    assert!(begun.by.starts_with("127.0.0.1:") && begun.deadline_ms >= begun.since_ms + 300_000, "{begun:?}");
    in_time("what runs is told", async {
        while client.drain_status(DrainStatusRequest {}).await.unwrap().into_inner().pending_requests != 1 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    agent.expect_nothing().await;
    vault.respond("req_1", "EjRW").await;
    agent.expect_response("req_1").await;
    assert_eq!(agent.closed().await.0, 1012);
    assert_eq!(vault.closed().await.0, 1012);
    agent.ended().await;
    vault.ended().await;
    let closing = reaches(&mut statuses, Phase::Closing).await;
    assert!(!closing.may_return && closing.websockets == 0, "{closing:?}");
    reaches(&mut statuses, Phase::Left).await;
    assert!(in_time("the stream ends", statuses.message()).await.unwrap().is_none());
    let refused = client.undrain(UndrainRequest {}).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition);
}

#[tokio::test]
async fn a_node_that_returns_serves_as_before_and_delivers_what_waited() {
    let mut nodes = TestNode::cluster(2, &[]).await;
    let other = nodes.remove(1);
    let node = nodes.remove(0);
    let mut vault = TestVault::registered(node.public, VAULT, 7).await;
    let mut agent = TestAgent::connect(other.public).await;
    // What it owes keeps its socket open; with another node to go to, it gets nothing more.
    agent.ask(VAULT, "req_1").await;
    vault.expect_request("req_1").await;
    let mut client = admin(&node).await;
    client.drain(PATIENT).await.unwrap();
    in_time("the node is out of service", async {
        while get(node.public, "/ready").await.status != 503 || !other_sees(&other, true) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    agent.ask(VAULT, "req_2").await;
    let back = client.undrain(UndrainRequest {}).await.unwrap().into_inner().status.unwrap();
    assert_eq!(back.phase(), Phase::Serving);
    vault.expect_request("req_2").await;
    for id in ["req_1", "req_2"] {
        vault.respond(id, "EjRW").await;
        agent.expect_response(id).await;
    }
    assert_eq!(get(node.public, "/ready").await.status, 200);
    in_time("the other node knows", async {
        while !other_sees(&other, false) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    let mut late = TestAgent::connect(node.public).await;
    late.ask(VAULT, "req_3").await;
    vault.expect_request("req_3").await;
    let refused = client.undrain(UndrainRequest {}).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition);
}

fn other_sees(other: &TestNode, draining: bool) -> bool {
    other.node().membership.view().others().any(|member| member.facts.draining) == draining
}

#[tokio::test]
async fn the_process_ends_well_when_an_operator_has_drained_it() {
    let address = free_address();
    let mut process = Process::start(&[("RELAY_ADMIN_ADDR", &address.to_string())]).await;
    let mut agent = TestAgent::connect(process.public).await;
    let told = printed(address, &["drain", "--watch", "--timeout", "60"]);
    let (told, ()) = tokio::join!(told, agent.ended());
    assert_eq!(told, "the node has left service\n");
    assert!(process.ended().await.success());
}

#[tokio::test]
async fn what_a_signal_began_no_operator_undoes() {
    let address = free_address();
    let settings = [("RELAY_ADMIN_ADDR", address.to_string()), ("RELAY_DRAIN_TIMEOUT_SECS", "300".to_owned())];
    let settings: Vec<_> = settings.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let mut process = Process::start(&settings).await;
    let mut vault = TestVault::registered(process.public, VAULT, 7).await;
    let mut agent = TestAgent::connect(process.public).await;
    agent.ask(VAULT, "req_1").await;
    vault.expect_request("req_1").await;
    printed(address, &["drain"]).await;
    process.sigterm();
    in_time("the signal counts", async { while !printed(address, &["drain-status"]).await.contains("is final") {} })
        .await;
    let refused = crate::support::admin::run(address, &["undrain"]).await;
    let told = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(refused.status.code() == Some(1) && told.contains("signal"), "{told}");
    vault.respond("req_1", "EjRW").await;
    agent.expect_response("req_1").await;
    agent.ended().await;
    vault.ended().await;
    assert!(process.ended().await.success());
}
