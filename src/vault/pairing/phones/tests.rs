use serde_json::{Map, Value};

use super::super::Counts;
use super::super::fixture::{Fixture, NOW, key, parts};
use super::*;
use crate::security::ed25519::SigningKey;

const ID: &str = "mob_0123456789abcdef";

fn unsigned(id: &str) -> Map<String, Value> {
    let Value::Object(invite) = json!({
        "type": "dcp_agent_pairing",
        "version": "1.0",
        "relay_url": "wss://relay.example",
        "invite_id": id,
        "requested_agent_id": "agent_demo",
        "requested_scopes": ["sign:solana", "read:address"],
        "requested_budget": {"daily": 0.5, "currency": "SOL", "approval_threshold": 1e-7},
        "expires_at": "2026-01-02T04:04:05.678Z",
    }) else {
        panic!("not an object")
    };
    invite
}

fn invite(id: &str) -> Value {
    Invite::sign(unsigned(id), &key()).unwrap()
}

fn approval(invite: &Value, vault: &str) -> Vec<u8> {
    let body = json!({
        "invite": invite,
        "vault_id": vault,
        "agent_id": "agent_demo",
        "vault_hpke_public_key": "hpke",
        "vault_signing_public_key": "ed25519",
        "approved_scopes": ["read:address"],
        "approved_budget": {"daily": 0.25, "currency": "SOL"},
    });
    body.to_string().into_bytes()
}

async fn register(pairing: &Pairing, invite: &Value, now: Millis) -> (u16, Value) {
    let body = json!({ "invite": invite }).to_string();
    parts(&pairing.register_phone_pairing(body.as_bytes(), now).await)
}

async fn status(pairing: &Pairing, now: Millis) -> Value {
    let (status, body) = parts(&pairing.phone_pairing_status(ID, now).await);
    assert_eq!(status, 200);
    body
}

#[tokio::test]
async fn an_invite_is_left_fetched_approved_and_polled_on_different_nodes() {
    let fixture = Fixture::new();
    let (agent, phone) = (&fixture.pairing, fixture.another());
    let left = register(agent, &invite(ID), NOW).await;
    assert_eq!(left, (200, json!({"success": true, "invite_id": ID, "status": "pending"})));
    let fetched = parts(&phone.phone_invite(ID, NOW).await);
    assert_eq!(fetched, (200, json!({"invite_id": ID, "invite": invite(ID), "status": "pending"})));
    assert_eq!(status(agent, NOW).await, json!({"status": "pending", "invite_id": ID}));
    let body = approval(&fetched.1["invite"], "vault_demo01");
    let approved = phone.approve_phone_pairing(ID, &body, NOW).await;
    let expected = json!({
        "success": true,
        "invite_id": ID,
        "status": "approved",
        "agent_id": "agent_demo",
        "vault_id": "vault_demo01",
        "vault_hpke_public_key": "hpke",
        "vault_signing_public_key": "ed25519",
    });
    assert_eq!(parts(&approved), (200, expected));
    let expected = json!({
        "status": "approved",
        "invite_id": ID,
        "agent_id": "agent_demo",
        "vault_id": "vault_demo01",
        "vault_hpke_public_key": "hpke",
        "vault_signing_public_key": "ed25519",
        "approved_scopes": ["read:address"],
        "approved_budget": {"daily": 0.25, "currency": "SOL"},
    });
    assert_eq!(status(&fixture.another(), NOW).await, expected);
    assert_eq!(status(agent, NOW).await, expected);
    let again = register(agent, &invite(ID), NOW).await;
    assert_eq!(again.1["status"], "approved", "an invite that is left again stays as it stands");
    assert_eq!(agent.stats(NOW).phones, Counts { total: 1, approved: 1, ..Counts::default() });
}

#[tokio::test]
async fn an_invite_leaves_as_it_was_spelled() {
    let fixture = Fixture::new();
    let spelled = invite(ID).to_string().replace("0.5", "5.0e-1");
    let body = format!(r#"{{"invite": {spelled}}}"#);
    assert_eq!(fixture.pairing.register_phone_pairing(body.as_bytes(), NOW).await.status, 200);
    let answer = fixture.another().phone_invite(ID, NOW).await;
    assert!(String::from_utf8(answer.body.to_vec()).unwrap().contains(&spelled));
}

#[tokio::test]
async fn a_denial_and_its_reason_reach_the_agent() {
    let fixture = Fixture::new();
    register(&fixture.pairing, &invite(ID), NOW).await;
    let denied = fixture.another().deny_phone_pairing(ID, br#"{"denied_reason":"not mine"}"#, NOW).await;
    assert_eq!(parts(&denied), (200, json!({"success": true, "invite_id": ID, "status": "denied"})));
    let expected = json!({"status": "denied", "invite_id": ID, "error": "not mine"});
    assert_eq!(status(&fixture.pairing, NOW).await, expected);
    assert_eq!(fixture.pairing.stats(NOW).phones.denied, 1);
    let approved = fixture.pairing.approve_phone_pairing(ID, &approval(&invite(ID), "v"), NOW).await;
    assert_eq!(approved.status, 200, "the later decision stands");
    assert_eq!(status(&fixture.pairing, NOW).await["status"], "approved");
    assert_eq!(status(&fixture.pairing, NOW).await.get("error"), None);
}

#[tokio::test]
async fn nobody_knows_an_id_until_it_is_approved_or_denied() {
    let fixture = Fixture::new();
    assert_eq!(status(&fixture.pairing, NOW).await, json!({"status": "pending", "invite_id": ID}));
    let none = (404, json!({"success": false, "error": "Pairing invite not found"}));
    assert_eq!(parts(&fixture.pairing.phone_invite(ID, NOW).await), none);
    assert_eq!(fixture.pairing.deny_phone_pairing(ID, b"", NOW).await.status, 200);
    assert_eq!(status(&fixture.pairing, NOW).await["status"], "denied");
    assert_eq!(parts(&fixture.pairing.phone_invite(ID, NOW).await), none);
    assert_eq!(status(&fixture.pairing, NOW.plus(UNKNOWN_DENIAL_KEPT)).await["status"], "pending");
    let later = NOW.plus(UNKNOWN_DENIAL_KEPT);
    let approved = fixture.pairing.approve_phone_pairing(ID, &approval(&invite(ID), "v"), later).await;
    assert_eq!(approved.status, 200);
    assert_eq!(status(&fixture.another(), later).await["vault_id"], "v");
}

#[tokio::test]
async fn an_id_stays_with_the_key_that_it_was_first_seen_with() {
    let fixture = Fixture::new();
    register(&fixture.pairing, &invite(ID), NOW).await;
    let forged = Invite::sign(unsigned(ID), &SigningKey::from_seed(&[8; 32]).unwrap()).unwrap();
    let mismatch = (400, json!({"success": false, "error": "Invite ID mismatch"}));
    assert_eq!(register(&fixture.pairing, &forged, NOW).await, mismatch);
    let approved = fixture.pairing.approve_phone_pairing(ID, &approval(&forged, "v"), NOW).await;
    assert_eq!(parts(&approved), mismatch);
    assert_eq!(status(&fixture.pairing, NOW).await["status"], "pending");
}

#[tokio::test]
async fn each_refusal_has_its_own_answer() {
    let pairing = Fixture::new().pairing;
    let refused = |error: &str| (400, json!({"success": false, "error": error}));
    let answer = pairing.register_phone_pairing(b"{}", NOW).await;
    assert_eq!(parts(&answer), refused("Missing pairing invite"));
    let late = NOW.plus(Duration::from_secs(3_600));
    assert_eq!(register(&pairing, &invite(ID), late).await, refused("Invite expired"));
    let answer = pairing.approve_phone_pairing(ID, b"null", NOW).await;
    assert_eq!(parts(&answer), refused("Missing approval body"));
    let answer = pairing.approve_phone_pairing(ID, &approval(&invite("mob_other"), "v"), NOW).await;
    assert_eq!(parts(&answer), refused("Invite ID mismatch"));
    let answer = pairing.deny_phone_pairing(&"m".repeat(257), b"{}", NOW).await;
    assert_eq!(answer.status, 400);
}

#[tokio::test]
async fn a_pairing_that_nobody_decides_expires_and_then_is_gone() {
    let fixture = Fixture::new();
    register(&fixture.pairing, &invite(ID), NOW).await;
    let expired = NOW.plus(CLAIM_PENDING);
    assert_eq!(status(&fixture.pairing, expired).await["status"], "expired");
    assert_eq!(fixture.pairing.phone_invite(ID, expired).await.status, 404);
    assert_eq!(status(&fixture.pairing, NOW.plus(KEPT)).await["status"], "pending");
}

#[tokio::test]
async fn a_node_keeps_so_many_denials_of_what_nobody_knows() {
    let pairing = Fixture::new().pairing;
    for n in 0..MAX_UNKNOWN_DENIALS {
        assert_eq!(pairing.deny_phone_pairing(&format!("mob_{n}"), b"{}", NOW).await.status, 200);
    }
    assert_eq!(pairing.deny_phone_pairing("mob_more", b"{}", NOW).await.status, 429);
    register(&pairing, &invite(ID), NOW).await;
    assert_eq!(pairing.deny_phone_pairing(ID, b"{}", NOW).await.status, 200, "what is known can be denied");
    let later = NOW.plus(UNKNOWN_DENIAL_KEPT);
    assert_eq!(pairing.deny_phone_pairing("mob_more", b"{}", later).await.status, 200);
}
