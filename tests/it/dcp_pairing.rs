//! Pairing: remote agents with an invite, phones, and the tokens that wake them.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::{Map, Value, json};
use tokio::io::AsyncReadExt;
use tokio::net::TcpListener;
use waystation::domain::clock::Millis;
use waystation::runtime::time::now;
use waystation::wire::dcp::claim::Claim;
use waystation::wire::dcp::invite::Invite;
use waystation::wire::dcp::time;

use crate::support::vault::key;
use crate::support::{SEED, TestAgent, TestNode, TestVault, VAULT, get, in_time, one_of_each, post, registration};

const INVITE: &str = "inv_0123456789abcdef";
const CLAIMS: &str = "/v1/pairing-claims";
const PHONE: &str = "mob_0123456789abcdef";
const PHONES: &str = "/v1/mobile/pairings";

fn object(value: Value) -> Map<String, Value> {
    value.as_object().unwrap().clone()
}

/// A claim signed by the key of `seed`, with `more` members among those that are signed.
fn claim(seed: u8, at: Millis, more: Value) -> Value {
    let mut claim = object(json!({
        "invite_id": INVITE, "agent_hostname": "vps-01", "agent_version": "3.1.1", "timestamp": at.0,
        "nonce": "7c1c2b1e-7a5e-4a55-9a43-0d6c0c9d4f11",
    }));
    claim.extend(object(more));
    Claim::sign(claim, &key(seed)).unwrap()
}

async fn submitted(address: SocketAddr, claim: &Value) -> (String, String) {
    let answer = post(address, CLAIMS, claim).await.expect(201);
    assert_eq!(answer["success"], true);
    let text = |name: &str| answer[name].as_str().unwrap().to_owned();
    (text("claim_id"), text("verification_phrase"))
}

async fn status(address: SocketAddr, claim_id: &str) -> Value {
    get(address, &format!("{CLAIMS}/{claim_id}/status")).await.expect(200)
}

#[tokio::test]
async fn an_agent_with_an_invite_is_approved() {
    let (node, mut vault, _agent) = one_of_each(&[]).await;
    let invite = json!({"invite_id": INVITE, "vault_id": VAULT});
    assert_eq!(post(node.public, "/v1/invites/register", &invite).await.expect(200), json!({"success": true}));
    let sent = claim(SEED, now(), json!({"vault_id": VAULT}));
    let (claim_id, phrase) = submitted(node.public, &sent).await;
    assert_eq!(phrase, "dignity-tiny-spend-soda");
    assert!(claim_id.strip_prefix("claim_").is_some_and(|hex| hex.len() == 16), "{claim_id}");

    let shown = vault.expect("pairing_claim").await;
    let received_at = shown["received_at"].as_u64().unwrap();
    assert!(received_at.abs_diff(now().0) < 10_000, "{shown}");
    let expected = json!({
        "claim_id": claim_id, "claim": sent, "verification_phrase": phrase, "received_at": received_at,
        "status": "pending", "vault_id": VAULT,
    });
    assert_eq!(shown, expected);
    assert_eq!(status(node.public, &claim_id).await, json!({"status": "pending", "vault_id": VAULT}));

    let result = json!({"claim_id": claim_id, "action": "approve", "agent_id": "vps_1a2b3c4d", "vault_id": VAULT});
    vault.send_frame("pairing_result", result).await;
    assert_eq!(vault.expect("ack").await, json!({"claim_id": claim_id, "status": "approved"}));
    let expected = json!({"status": "approved", "agent_id": "vps_1a2b3c4d", "vault_id": VAULT});
    assert_eq!(status(node.public, &claim_id).await, expected);
}

#[tokio::test]
async fn an_older_agent_that_names_no_vault_is_found_by_its_invite_and_has_the_older_phrase() {
    let (node, mut vault, _agent) = one_of_each(&[]).await;
    let invite = json!({"invite_id": INVITE, "vault_id": VAULT});
    post(node.public, "/v1/invites/register", &invite).await.expect(200);
    let sent = claim(SEED, now(), json!({"agent_version": "0.2.0"}));
    let (claim_id, phrase) = submitted(node.public, &sent).await;
    assert_eq!(phrase, "ember-castle-pepper");
    assert_eq!(vault.expect("pairing_claim").await["claim_id"], claim_id);
    vault.send_frame("pairing_result", json!({"claim_id": claim_id, "action": "deny", "vault_id": VAULT})).await;
    assert_eq!(vault.expect("ack").await, json!({"claim_id": claim_id, "status": "denied"}));
    assert_eq!(status(node.public, &claim_id).await["status"], "denied");
}

#[tokio::test]
async fn a_vault_that_registers_is_greeted_then_gets_its_requests_then_its_claims() {
    let (node, vault, mut agent) = one_of_each(&[]).await;
    drop(vault);
    node.websockets_are(1).await;
    agent.ask(VAULT, "req_1").await;
    agent.ask(VAULT, "req_2").await;
    let (first, _) = submitted(node.public, &claim(SEED, now(), json!({"vault_id": VAULT}))).await;
    let (second, _) = submitted(node.public, &claim(8, now(), json!({"vault_id": VAULT}))).await;
    for _ in 0..2 {
        let mut vault = TestVault::registered(node.public, VAULT, SEED).await;
        vault.expect_request("req_1").await;
        vault.expect_request("req_2").await;
        let shown = [vault.expect("pairing_claim").await, vault.expect("pairing_claim").await];
        assert!(shown.iter().any(|claim| claim["claim_id"] == first), "{shown:?}");
        assert!(shown.iter().any(|claim| claim["claim_id"] == second), "{shown:?}");
        drop(vault);
        node.websockets_are(1).await;
    }
}

#[tokio::test]
async fn each_failing_check_of_a_claim_has_its_answer() {
    let node = TestNode::start(&[]).await;
    let refused = |error: &str| (400, json!({"success": false, "error": error}));
    let refusal = |claim: Value| async move {
        let reply = post(node.public, CLAIMS, &claim).await;
        (reply.status.as_u16(), reply.json())
    };
    const MISSING: &str = "Missing required fields (invite_id, agent_public_key, signature)";
    assert_eq!(refusal(json!({})).await, refused(MISSING));
    let old = Millis(now().0 - 301_000);
    assert_eq!(refusal(claim(SEED, old, json!({}))).await, refused("Claim timestamp too old or in the future"));
    let mut forged = claim(SEED, now(), json!({}));
    forged["agent_hostname"] = json!("vps-02");
    const FORGED: &str = "Invalid signature - claim not signed by the provided public key";
    assert_eq!(refusal(forged).await, refused(FORGED));
    let mut unkeyed = claim(SEED, now(), json!({}));
    unkeyed["agent_public_key"] = json!("AAAA");
    let (status, answer) = refusal(unkeyed).await;
    assert_eq!(status, 400);
    assert!(answer["error"].as_str().unwrap().starts_with("Failed to verify signature: "), "{answer}");
}

#[tokio::test]
async fn invites_are_registered_for_vaults_that_are_connected() {
    let (node, _vault, _agent) = one_of_each(&[]).await;
    let register = |body: Value| async move { post(node.public, "/v1/invites/register", &body).await };
    let missing = json!({"error": "Missing invite_id or vault_id"});
    assert_eq!(register(json!({"invite_id": INVITE})).await.expect(400), missing);
    let away = register(json!({"invite_id": INVITE, "vault_id": "vault_away"})).await.expect(401);
    assert!(away["error"].as_str().unwrap().starts_with("vault_id is not connected;"), "{away}");
}

#[tokio::test]
async fn only_the_vault_that_a_claim_waits_for_decides_on_it() {
    let (node, mut vault, _agent) = one_of_each(&[]).await;
    let (claim_id, _) = submitted(node.public, &claim(SEED, now(), json!({"vault_id": VAULT}))).await;
    vault.expect("pairing_claim").await;
    let result = |vault: &str| json!({"claim_id": claim_id, "action": "approve", "agent_id": "x", "vault_id": vault});
    let mut unregistered = TestVault::connect(node.public).await;
    unregistered.send_frame("pairing_result", result(VAULT)).await;
    unregistered.expect_error("RELAY_UNAUTHORIZED", "pairing_result vault_id mismatch").await;
    let mut foreign = TestVault::registered(node.public, "vault_evil", 8).await;
    foreign.send_frame("pairing_result", result(VAULT)).await;
    foreign.expect_error("RELAY_UNAUTHORIZED", "pairing_result vault_id mismatch").await;
    foreign.send_frame("pairing_result", result("vault_evil")).await;
    foreign.expect_error("RELAY_UNAUTHORIZED", "claim does not belong to this vault").await;
    vault.send_frame("pairing_result", json!({"claim_id": claim_id, "vault_id": VAULT})).await;
    vault.expect_error("RELAY_INVALID_ENVELOPE", "Invalid pairing_result payload").await;
    let unknown = json!({"claim_id": "claim_0", "action": "deny", "vault_id": VAULT});
    vault.send_frame("pairing_result", unknown).await;
    assert_eq!(vault.expect("ack").await, json!({"claim_id": "claim_0", "status": "not_found"}));
    let resolve = format!("{CLAIMS}/{claim_id}/resolve");
    assert_eq!(post(node.public, &resolve, &result(VAULT)).await.status, 404);
    assert_eq!(status(node.public, &claim_id).await["status"], "pending");
    let none = json!({"status": "not_found", "error": "Claim not found or expired"});
    assert_eq!(get(node.public, &format!("{CLAIMS}/claim_0/status")).await.expect(404), none);
}

fn phone_invite(more: Value) -> Value {
    let mut invite = object(json!({
        "type": "dcp_agent_pairing", "version": "1.0", "relay_url": "wss://relay.example", "invite_id": PHONE,
        "requested_agent_id": "agent_demo", "agent_name": "Demo", "agent_client": "cli", "environment": "test",
        "requested_scopes": ["sign:solana", "read:address"],
        "requested_budget": {"daily": 0.5, "currency": "SOL", "approval_threshold": 1e-7},
        "created_at": time::format(now()), "expires_at": time::format(now().plus(Duration::from_secs(600))),
        "nonce": "n",
    }));
    invite.extend(object(more));
    Invite::sign(invite, &key(SEED)).unwrap()
}

fn approval(invite: &Value) -> Value {
    json!({
        "invite": invite, "vault_id": VAULT, "agent_id": "agent_demo", "vault_hpke_public_key": "hpke",
        "vault_signing_public_key": "ed25519", "approved_scopes": ["read:address"],
        "approved_budget": {"daily": 0.25, "currency": "SOL"},
    })
}

#[tokio::test]
async fn a_phone_approves_an_agent() {
    let node = TestNode::start(&[]).await;
    let polled = |what: &'static str| async move { get(node.public, &format!("{PHONES}/{PHONE}/{what}")).await };
    assert_eq!(polled("status").await.expect(200), json!({"status": "pending", "invite_id": PHONE}));
    let none = json!({"success": false, "error": "Pairing invite not found"});
    assert_eq!(polled("invite").await.expect(404), none);

    let invite = phone_invite(json!({}));
    let left = post(node.public, PHONES, &json!({"invite": invite})).await;
    assert_eq!(left.expect(200), json!({"success": true, "invite_id": PHONE, "status": "pending"}));
    let fetched = polled("invite").await.expect(200);
    assert_eq!(fetched, json!({"invite_id": PHONE, "invite": invite, "status": "pending"}));

    let approved = post(node.public, &format!("{PHONES}/{PHONE}/approve"), &approval(&fetched["invite"])).await;
    let expected = json!({
        "success": true, "invite_id": PHONE, "status": "approved", "agent_id": "agent_demo", "vault_id": VAULT,
        "vault_hpke_public_key": "hpke", "vault_signing_public_key": "ed25519",
    });
    assert_eq!(approved.expect(200), expected);
    let expected = json!({
        "status": "approved", "invite_id": PHONE, "agent_id": "agent_demo", "vault_id": VAULT,
        "vault_hpke_public_key": "hpke", "vault_signing_public_key": "ed25519", "approved_scopes": ["read:address"],
        "approved_budget": {"daily": 0.25, "currency": "SOL"},
    });
    assert_eq!(polled("status").await.expect(200), expected);
}

#[tokio::test]
async fn a_phone_denies_an_agent() {
    let node = TestNode::start(&[]).await;
    post(node.public, PHONES, &json!({"invite": phone_invite(json!({}))})).await.expect(200);
    let denied = post(node.public, &format!("{PHONES}/{PHONE}/deny"), &json!({"denied_reason": "not mine"})).await;
    assert_eq!(denied.expect(200), json!({"success": true, "invite_id": PHONE, "status": "denied"}));
    let expected = json!({"status": "denied", "invite_id": PHONE, "error": "not mine"});
    assert_eq!(get(node.public, &format!("{PHONES}/{PHONE}/status")).await.expect(200), expected);
    let unknown = crate::support::http(node.public, "POST", &format!("{PHONES}/mob_unknown/deny")).send().await;
    assert_eq!(unknown.expect(200), json!({"success": true, "invite_id": "mob_unknown", "status": "denied"}));
}

#[tokio::test]
async fn each_failing_check_of_an_invite_or_approval_has_its_answer() {
    let node = TestNode::start(&[]).await;
    let approve = format!("{PHONES}/{PHONE}/approve");
    let good = phone_invite(json!({}));
    let without = |mut value: Value, name: &str| {
        value.as_object_mut().unwrap().remove(name);
        value
    };
    let with = |mut value: Value, name: &str, other: Value| {
        value[name] = other;
        value
    };
    let invite = |invite: Value| (PHONES, json!({"invite": invite}));
    let approval = || approval(&good);
    let table = [
        ((PHONES, json!({})), "Missing pairing invite"),
        (invite(phone_invite(json!({"type": "other"}))), "Unsupported mobile pairing invite"),
        (invite(without(good.clone(), "signature")), "Invite signature is required"),
        (invite(phone_invite(json!({"expires_at": "soon"}))), "Invalid invite expiry"),
        (invite(phone_invite(json!({"expires_at": "2026-01-02T03:04:05.678Z"}))), "Invite expired"),
        (invite(with(good.clone(), "agent_name", json!("Other"))), "Invalid invite signature"),
        ((&approve, with(approval(), "invite", phone_invite(json!({"invite_id": "mob_2"})))), "Invite ID mismatch"),
        ((&approve, without(approval(), "vault_id")), "Missing vault_id or agent_id"),
        ((&approve, with(approval(), "agent_id", json!("other"))), "Agent ID mismatch"),
        ((&approve, without(approval(), "vault_hpke_public_key")), "Missing vault relay public keys"),
        ((&approve, without(approval(), "approved_scopes")), "approved_scopes must be an array"),
        ((&approve, without(approval(), "approved_budget")), "approved_budget is required"),
        (
            (&approve, with(approval(), "approved_scopes", json!(["write:all"]))),
            "Approved scope was not requested: write:all",
        ),
    ];
    for ((path, body), error) in table {
        let expected = json!({"success": false, "error": error});
        assert_eq!(post(node.public, path, &body).await.expect(400), expected);
    }
}

#[tokio::test]
async fn push_tokens_are_taken_from_their_vaults_and_used_for_their_requests() {
    let service = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/push", service.local_addr().unwrap());
    let node = TestNode::start(&[("RELAY_VAULT_PUSH_URL", &url)]).await;
    let register = |token: &'static str, seed: u8| async move {
        let mut body = registration(VAULT, seed);
        body["token"] = json!(token);
        body["platform"] = json!("ios");
        post(node.public, "/v1/devices/push-token", &body).await
    };
    let taken = register("ExponentPushToken[abc_DEF-123]", SEED).await.expect(200);
    assert_eq!((&taken["success"], &taken["vault_id"]), (&json!(true), &json!(VAULT)), "{taken}");
    assert_eq!(taken["platform"], "ios");
    assert_eq!(register("ExpoPushToken[x]", 8).await.error().0, 401);
    assert_eq!(register("token", SEED).await.expect(400)["error"], "Unsupported push token format");
    let bare = post(node.public, "/v1/devices/push-token", &json!({})).await;
    assert_eq!(bare.expect(400)["error"], "Missing vault_id or token");

    post(node.public, "/v1/mobile/vaults/vault_demo01/online", &registration(VAULT, SEED)).await.expect(200);
    let calling = async { service.accept().await.unwrap().0 };
    let mut agent = TestAgent::connect(node.public).await;
    agent.ask(VAULT, "req_1").await;
    let mut call = in_time("a call to the push service", calling).await;
    let mut text = String::new();
    let reading = async {
        while !text.contains("req_1") {
            let mut bytes = [0; 4096];
            let read = call.read(&mut bytes).await.unwrap();
            assert!(read > 0, "no word of the request: {text}");
            text.push_str(&String::from_utf8_lossy(&bytes[..read]));
        }
    };
    in_time("the call names the request", reading).await;
    assert!(text.starts_with("POST /push ") && text.contains("ExponentPushToken[abc_DEF-123]"), "{text}");
    assert!(!text.contains("q83vEjRWeJA="), "the payload is nobody's business: {text}");
}
