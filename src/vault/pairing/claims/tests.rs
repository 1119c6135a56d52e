use std::time::Duration;

use serde_json::Value;

use super::super::fixture::{Fixture, NOW, claim, parts};
use super::super::{Counts, KEPT};
use super::*;

const DEMO: &str = "vault_demo01";
const INVITE: &str = "inv_0123456789abcdef";

async fn submit(pairing: &Pairing, invite: &str, vault: Option<&str>, now: Millis) -> (u16, Value) {
    parts(&pairing.submit_claim(&claim(invite, vault), now).await)
}

async fn submitted(pairing: &Pairing, invite: &str, vault: Option<&str>, now: Millis) -> String {
    let (status, answer) = submit(pairing, invite, vault, now).await;
    assert_eq!(status, 201, "{answer}");
    answer["claim_id"].as_str().unwrap().to_owned()
}

async fn register_invite(fixture: &Fixture, vault: &str) {
    let body = json!({"invite_id": INVITE, "vault_id": vault}).to_string();
    assert_eq!(fixture.pairing.register_invite(body.as_bytes(), NOW).await.status, 200);
}

async fn pending(pairing: &Pairing, vault: &str, now: Millis) -> Vec<Value> {
    let payloads = pairing.pending_claims(&vault.into(), now).await.unwrap();
    payloads.iter().map(|payload| serde_json::from_slice(payload).unwrap()).collect()
}

fn decision(claim_id: &str, action: &str, vault: &str) -> PairingResult {
    let payload = json!({"claim_id": claim_id, "action": action, "agent_id": "vps_1a2b3c4d", "vault_id": vault});
    PairingResult::parse(payload.to_string().as_bytes()).unwrap()
}

/// Whatever socket decides, it stands for the vault that it names.
async fn decide(pairing: &Pairing, claim_id: &str, action: &str, vault: &str, now: Millis) -> PairingAck {
    pairing.resolve_claim(Some(&vault.into()), &decision(claim_id, action, vault), now).await.unwrap()
}

#[tokio::test]
async fn the_worked_example_runs_over_three_nodes() {
    let fixture = Fixture::new();
    register_invite(&fixture, DEMO).await;
    let (agents, vaults) = (fixture.another(), fixture.another());
    let (status, answer) = submit(&agents, INVITE, Some(DEMO), NOW).await;
    let id = answer["claim_id"].as_str().unwrap();
    assert!(id.starts_with("claim_") && id.len() == 22, "{id}");
    let expected = json!({"success": true, "claim_id": id, "verification_phrase": "dignity-tiny-spend-soda"});
    assert_eq!((status, &answer), (201, &expected));
    let sent: Value = serde_json::from_slice(&claim(INVITE, Some(DEMO))).unwrap();
    let frame = json!({
        "claim_id": id,
        "claim": sent,
        "verification_phrase": "dignity-tiny-spend-soda",
        "received_at": NOW.0,
        "status": "pending",
        "vault_id": DEMO,
    });
    assert_eq!(*fixture.vaults.told.lock(), [(DEMO.to_owned(), frame.clone())]);
    assert_eq!(pending(&vaults, DEMO, NOW).await, [frame]);
    let polled = fixture.pairing.claim_status(id, NOW).await;
    assert_eq!(parts(&polled), (200, json!({"status": "pending", "vault_id": DEMO})));
    let ack = decide(&vaults, id, "approve", DEMO, NOW).await;
    assert_eq!(serde_json::to_value(ack).unwrap(), json!({"claim_id": id, "status": "approved"}));
    let polled = agents.claim_status(id, NOW).await;
    let expected = json!({"status": "approved", "agent_id": "vps_1a2b3c4d", "vault_id": DEMO});
    assert_eq!(parts(&polled), (200, expected));
    assert_eq!(pending(&agents, DEMO, NOW).await, [] as [Value; 0]);
    let approved = Counts { total: 1, approved: 1, ..Counts::default() };
    assert_eq!((agents.stats(NOW).claims, vaults.stats(NOW).claims), (approved, approved));
}

#[tokio::test]
async fn the_invite_decides_the_vault_before_the_claim_does() {
    let fixture = Fixture::new();
    register_invite(&fixture, DEMO).await;
    submitted(&fixture.pairing, INVITE, None, NOW).await;
    submitted(&fixture.pairing, INVITE, Some("vault_other"), NOW).await;
    submitted(&fixture.pairing, "inv_other", Some("vault_other"), NOW).await;
    assert_eq!(pending(&fixture.pairing, DEMO, NOW).await.len(), 2);
    assert_eq!(pending(&fixture.pairing, "vault_other", NOW).await.len(), 1);
    let told: Vec<_> = fixture.vaults.told.lock().iter().map(|(vault, _)| vault.clone()).collect();
    assert_eq!(told, [DEMO, DEMO, "vault_other"]);
}

#[tokio::test]
async fn a_claim_without_a_vault_is_kept_and_pushed_to_nobody() {
    let fixture = Fixture::new();
    let id = submitted(&fixture.pairing, "inv_nobody", None, NOW).await;
    assert!(fixture.vaults.told.lock().is_empty());
    let polled = fixture.pairing.claim_status(&id, NOW).await;
    assert_eq!(parts(&polled), (200, json!({"status": "pending"})));
    let refused = fixture.pairing.resolve_claim(Some(&DEMO.into()), &decision(&id, "approve", DEMO), NOW).await;
    assert!(matches!(refused, Err(ResolveError::NotOwner)));
}

#[tokio::test]
async fn only_the_vault_of_a_claim_decides_on_it() {
    let fixture = Fixture::new();
    let pairing = &fixture.pairing;
    let id = submitted(pairing, INVITE, Some(DEMO), NOW).await;
    let evil = VaultId::from("vault_evil");
    for (socket, vault, message) in [
        (None, DEMO, "pairing_result vault_id mismatch"),
        (Some(&evil), DEMO, "pairing_result vault_id mismatch"),
        (Some(&evil), "vault_evil", "claim does not belong to this vault"),
    ] {
        let error = pairing.resolve_claim(socket, &decision(&id, "approve", vault), NOW).await.unwrap_err();
        assert_eq!((error.code(), error.to_string().as_str()), ("RELAY_UNAUTHORIZED", message));
    }
    assert_eq!(decide(pairing, "claim_unknown", "deny", DEMO, NOW).await.status, "not_found");
    assert_eq!(decide(pairing, &id, "deny", DEMO, NOW).await.status, "denied");
    assert_eq!(decide(pairing, &id, "approve", DEMO, NOW).await.status, "approved");
}

#[tokio::test]
async fn a_claim_that_nobody_decides_expires_and_then_is_gone() {
    let fixture = Fixture::new();
    let id = submitted(&fixture.pairing, INVITE, Some(DEMO), NOW).await;
    let status = async |after| parts(&fixture.pairing.claim_status(&id, NOW.plus(after)).await);
    assert_eq!(status(CLAIM_PENDING).await, (200, json!({"status": "expired", "vault_id": DEMO})));
    assert!(pending(&fixture.pairing, DEMO, NOW.plus(CLAIM_PENDING)).await.is_empty());
    let gone = (404, json!({"status": "not_found", "error": "Claim not found or expired"}));
    assert_eq!(status(KEPT).await, gone);
    assert_eq!(parts(&fixture.pairing.claim_status(&"c".repeat(1_000), NOW).await), gone);
    assert_eq!(decide(&fixture.pairing, &id, "approve", DEMO, NOW.plus(KEPT)).await.status, "not_found");
}

#[tokio::test]
async fn a_vault_gets_what_waits_for_it_oldest_first() {
    let fixture = Fixture::new();
    let mut ids = Vec::new();
    for second in 0..5 {
        let now = NOW.plus(Duration::from_secs(second));
        ids.push(submitted(&fixture.another(), INVITE, Some(DEMO), now).await);
    }
    decide(&fixture.pairing, &ids.remove(2), "deny", DEMO, NOW).await;
    let waiting: Vec<_> = pending(&fixture.pairing, DEMO, NOW.plus(Duration::from_secs(5))).await;
    let waiting: Vec<_> = waiting.iter().map(|claim| claim["claim_id"].as_str().unwrap()).collect();
    assert_eq!(waiting, ids);
}

#[tokio::test]
async fn strangers_fill_their_own_queue_only() {
    let fixture = Fixture::new();
    register_invite(&fixture, DEMO).await;
    let pairing = &fixture.pairing;
    let mut ids = Vec::new();
    for _ in 0..MAX_WAITING_CLAIMS {
        ids.push(submitted(pairing, "inv_stranger", Some(DEMO), NOW).await);
    }
    let (status, answer) = submit(&fixture.another(), "inv_stranger", Some(DEMO), NOW).await;
    assert_eq!((status, &answer["success"]), (429, &json!(false)));
    submitted(pairing, INVITE, Some(DEMO), NOW).await;
    submitted(pairing, "inv_stranger", Some("vault_other"), NOW).await;
    decide(pairing, &ids[0], "deny", DEMO, NOW).await;
    submitted(pairing, "inv_stranger", Some(DEMO), NOW).await;
}

#[tokio::test]
async fn a_node_keeps_so_many_claims_that_nobody_will_decide() {
    let fixture = Fixture::new();
    for _ in 0..MAX_UNKNOWN_CLAIMS {
        submitted(&fixture.pairing, "inv_nobody", None, NOW).await;
    }
    assert_eq!(submit(&fixture.pairing, "inv_nobody", None, NOW).await.0, 429);
    submitted(&fixture.pairing, "inv_nobody", Some(DEMO), NOW).await;
}

#[tokio::test]
async fn what_is_no_good_claim_is_refused_without_a_trace() {
    let fixture = Fixture::new();
    let (status, answer) = parts(&fixture.pairing.submit_claim(b"{}", NOW).await);
    let error = "Missing required fields (invite_id, agent_public_key, signature)";
    assert_eq!((status, answer), (400, json!({"success": false, "error": error})));
    let late = NOW.plus(Duration::from_secs(3_600));
    let (status, answer) = submit(&fixture.pairing, INVITE, Some(DEMO), late).await;
    assert_eq!((status, &answer["error"]), (400, &json!("Claim timestamp too old or in the future")));
    assert_eq!(fixture.pairing.stats(NOW).claims, Counts::default());
}

#[tokio::test]
async fn a_broken_store_is_said() {
    let fixture = Fixture::new();
    fixture.facts.broken.store(true, std::sync::atomic::Ordering::Relaxed);
    assert_eq!(submit(&fixture.pairing, INVITE, Some(DEMO), NOW).await.0, 503);
    assert_eq!(fixture.pairing.claim_status("claim_1", NOW).await.status, 503);
    let refused = fixture.pairing.resolve_claim(Some(&DEMO.into()), &decision("c", "deny", DEMO), NOW).await;
    assert_eq!(refused.unwrap_err().code(), "RELAY_UNAVAILABLE");
}
