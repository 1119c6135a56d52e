//! Requests over WebSocket, from the agent's side.

use crate::support::{TestAgent, TestNode, TestVault};

#[tokio::test]
async fn a_request_is_answered() {
    let node = TestNode::start(&[]).await;
    let mut vault = TestVault::registered(node.public, "vault_demo01", 7).await;
    let mut agent = TestAgent::connect(node.public).await;
    let envelope = agent.ask("vault_demo01", "req_1").await;
    let request = vault.expect_request("req_1").await;
    assert_eq!(request, envelope);
    vault.answer(&request, "EjRW").await;
    assert_eq!(agent.expect_response("req_1").await, "EjRW");
}
