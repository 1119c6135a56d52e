//! Where phones can be woken (section 12): the push tokens of a vault, in one record.
//!
//! Two tokens that reach two nodes in the same moment may leave only one behind; a phone registers its token
//! whenever its app starts, so the other comes back.

use std::sync::atomic::Ordering;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::json;

use super::facts::{self, Place};
use super::{Pairing, PairingError, PairingResponse};
use crate::domain::clock::Millis;
use crate::domain::ids::VaultId;
use crate::wire::dcp::push_token::PushToken;
use crate::wire::dcp::registration::{ProofRequired, Verified};
use crate::wire::dcp::time;

/// How long a token is kept after it was last registered.
pub const PUSH_TOKEN_KEPT: Duration = Duration::from_secs(90 * 24 * 3600);

/// Most tokens of one vault; the one registered longest ago gives way.
pub const MAX_PUSH_TOKENS: usize = 8;

const PUSH_TOKENS: &str = "push_tokens";

#[derive(Serialize, Deserialize)]
struct KeptToken {
    token: String,
    platform: String,
    device_id: Option<String>,
    /// In milliseconds since 1970.
    updated_at: u64,
}

impl KeptToken {
    /// Whether `newer` takes this one's place: the same token, or another of the same device.
    fn gives_way_to(&self, newer: &PushToken) -> bool {
        self.token == newer.token || (self.device_id.is_some() && self.device_id == newer.device_id)
    }
}

impl Pairing {
    /// First half of POST `/v1/devices/push-token`: reads the body. The caller then checks the proof in it.
    ///
    /// # Errors
    /// The answer, if the body is no good.
    pub fn read_push_token(body: &[u8]) -> Result<PushToken, PairingResponse> {
        PushToken::parse(body).map_err(|error| PairingResponse::error(400, &error.to_string()))
    }

    /// Second half: keeps the token for the vault that was proven.
    pub async fn register_push_token(&self, proof: &Verified, token: &PushToken, now: Millis) -> PairingResponse {
        if proof.vault_id != token.vault_id {
            return PairingResponse::with(401, &json!({"error": ProofRequired.to_string()}));
        }
        match self.keep_push_token(token, now).await {
            Ok(()) => PairingResponse::ok(&json!({
                "success": true,
                "vault_id": token.vault_id.as_str(),
                "platform": token.platform,
                "updated_at": time::format(now),
            })),
            Err(error) => error.into(),
        }
    }

    /// The push tokens of a vault, the one registered last first.
    ///
    /// # Errors
    /// [`PairingError`].
    pub async fn push_tokens(&self, vault: &VaultId, now: Millis) -> Result<Vec<String>, PairingError> {
        Ok(self.kept_push_tokens(vault, now).await?.0.into_iter().map(|kept| kept.token).collect())
    }

    async fn keep_push_token(&self, token: &PushToken, now: Millis) -> Result<(), PairingError> {
        let (mut kept, seen) = self.kept_push_tokens(&token.vault_id, now).await?;
        let is_new = kept.iter().all(|known| known.token != token.token);
        kept.retain(|known| !known.gives_way_to(token));
        let PushToken { vault_id, token, platform, device_id } = token.clone();
        kept.insert(0, KeptToken { token, platform, device_id, updated_at: now.0 });
        kept.truncate(MAX_PUSH_TOKENS);
        let expires = now.plus(PUSH_TOKEN_KEPT);
        let place = Place { kind: PUSH_TOKENS, id: vault_id.as_str(), tag: "", seen, expires };
        facts::write(self.facts(), place, &kept).await?;
        self.inner.push_tokens.fetch_add(u64::from(is_new), Ordering::Relaxed);
        Ok(())
    }

    async fn kept_push_tokens(&self, vault: &VaultId, now: Millis) -> Result<(Vec<KeptToken>, u64), PairingError> {
        let found = facts::read::<Vec<KeptToken>>(self.facts(), PUSH_TOKENS, vault.as_str(), now).await?;
        let Some(mut found) = found else { return Ok((Vec::new(), 0)) };
        found.value.retain(|kept| now.since(Millis(kept.updated_at)) < PUSH_TOKEN_KEPT);
        Ok((found.value, found.version))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::super::fixture::{Fixture, NOW, key, parts};
    use super::*;

    fn proof(vault: &str) -> Verified {
        Verified {
            vault_id: vault.into(),
            public_key: String::new(),
            signing_key: key().public_key(),
            signed_at: NOW,
            nonce: vec![0; 32],
        }
    }

    async fn register(pairing: &Pairing, token: &str, device: Option<&str>, now: Millis) -> (u16, Value) {
        let token = format!("ExpoPushToken[{token}]");
        let body = json!({"vault_id": "vault_demo01", "token": token, "platform": "ios", "device_id": device});
        let token = Pairing::read_push_token(body.to_string().as_bytes()).unwrap();
        parts(&pairing.register_push_token(&proof("vault_demo01"), &token, now).await)
    }

    async fn tokens(pairing: &Pairing, now: Millis) -> Vec<String> {
        pairing.push_tokens(&"vault_demo01".into(), now).await.unwrap()
    }

    #[tokio::test]
    async fn a_token_is_known_on_every_node_for_ninety_days() {
        let fixture = Fixture::new();
        let answer = register(&fixture.pairing, "a", None, NOW).await;
        let expected = json!({
            "success": true,
            "vault_id": "vault_demo01",
            "platform": "ios",
            "updated_at": "2026-01-02T03:04:05.700Z",
        });
        assert_eq!(answer, (200, expected));
        assert_eq!(tokens(&fixture.another(), NOW).await, ["ExpoPushToken[a]"]);
        register(&fixture.another(), "b", None, NOW.plus(PUSH_TOKEN_KEPT / 2)).await;
        assert_eq!(tokens(&fixture.pairing, NOW.plus(PUSH_TOKEN_KEPT)).await, ["ExpoPushToken[b]"]);
    }

    #[tokio::test]
    async fn each_refusal_has_its_own_answer() {
        let read = |body: &[u8]| Pairing::read_push_token(body).map_err(|refused| parts(&refused));
        assert_eq!(read(b"{}"), Err((400, json!({"error": "Missing vault_id or token"}))));
        let other = json!({"vault_id": "v", "token": "fcm:abc"}).to_string();
        assert_eq!(read(other.as_bytes()), Err((400, json!({"error": "Unsupported push token format"}))));
        let good = read(json!({"vault_id": "v", "token": "ExpoPushToken[a]"}).to_string().as_bytes()).unwrap();
        let refused = Fixture::new().pairing.register_push_token(&proof("vault_other"), &good, NOW).await;
        assert_eq!(parts(&refused), (401, json!({"error": "A signed proof of vault ownership is required"})));
    }

    #[tokio::test]
    async fn a_vault_keeps_its_newest_tokens_and_a_device_one() {
        let fixture = Fixture::new();
        register(&fixture.pairing, "old", Some("phone"), NOW).await;
        register(&fixture.pairing, "new", Some("phone"), NOW).await;
        register(&fixture.pairing, "new", Some("phone"), NOW).await;
        assert_eq!(tokens(&fixture.pairing, NOW).await, ["ExpoPushToken[new]"]);
        for n in 0..MAX_PUSH_TOKENS {
            register(&fixture.pairing, &n.to_string(), None, NOW).await;
        }
        let kept = tokens(&fixture.pairing, NOW).await;
        assert_eq!((kept.len(), kept[0].as_str()), (MAX_PUSH_TOKENS, "ExpoPushToken[7]"));
        assert!(!kept.contains(&"ExpoPushToken[new]".to_owned()));
        assert_eq!(fixture.pairing.stats(NOW).push_tokens, 10);
    }
}
