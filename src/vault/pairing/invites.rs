//! Which vault an invite came from (section 11.1), so that the claim of an agent that names no vault finds it.

use std::time::Duration;

use serde_json::json;

use super::facts::{self, Place};
use super::{Pairing, PairingError, PairingResponse};
use crate::domain::clock::Millis;
use crate::domain::ids::VaultId;
use crate::wire::dcp::invite_registration::InviteRegistration;

/// How long an invite is known: vaults let it live for an hour by default, and their users may choose a day.
pub const INVITE_KEPT: Duration = Duration::from_secs(24 * 3600);

/// Most invites of one vault. One hundred a day is far more than agents that a user sets up by hand.
pub const MAX_VAULT_INVITES: usize = 100;

const INVITE: &str = "pairing_invite";

impl Pairing {
    /// POST `/v1/invites/register`. An invite that is known keeps its vault, and its time.
    pub async fn register_invite(&self, body: &[u8], now: Millis) -> PairingResponse {
        self.try_register_invite(body, now).await.unwrap_or_else(|refused| refused)
    }

    async fn try_register_invite(&self, body: &[u8], now: Millis) -> Result<PairingResponse, PairingResponse> {
        let invite =
            InviteRegistration::parse(body).map_err(|error| PairingResponse::error(400, &error.to_string()))?;
        let vault = &invite.vault_id;
        if !self.inner.vaults.is_connected(vault).await {
            let error = "vault_id is not connected; invite registration requires an authenticated vault connection";
            return Err(PairingResponse::error(401, error));
        }
        match self.vault_of_invite(&invite.invite_id, now).await? {
            Some(known) if known != *vault => {
                return Err(PairingResponse::error(409, "invite_id is already registered for another vault"));
            }
            Some(_) => {}
            None => self.keep_invite(&invite, now).await?,
        }
        Ok(PairingResponse::ok(&json!({"success": true})))
    }

    /// The vault that an invite was registered for.
    pub(super) async fn vault_of_invite(&self, invite_id: &str, now: Millis) -> Result<Option<VaultId>, PairingError> {
        let found = facts::read::<String>(self.facts(), INVITE, invite_id, now).await?;
        Ok(found.map(|found| VaultId::from(&*found.value)))
    }

    async fn keep_invite(&self, invite: &InviteRegistration, now: Millis) -> Result<(), PairingResponse> {
        let vault = invite.vault_id.as_str();
        let entered = self.inner.under_way.enter(&format!("invite/{vault}"));
        let known = facts::tagged::<String>(self.facts(), INVITE, vault, now).await?.len();
        if known + entered.others >= MAX_VAULT_INVITES {
            let error = format!("Too many invites of this vault (max {MAX_VAULT_INVITES} in 24 hours)");
            return Err(PairingResponse::error(429, &error));
        }
        let place = Place { kind: INVITE, id: &invite.invite_id, tag: vault, seen: 0, expires: now.plus(INVITE_KEPT) };
        Ok(facts::write(self.facts(), place, &vault).await?)
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{Fixture, NOW, parts};
    use super::*;

    fn body(invite: &str, vault: &str) -> Vec<u8> {
        json!({"invite_id": invite, "vault_id": vault}).to_string().into_bytes()
    }

    #[tokio::test]
    async fn an_invite_is_known_on_every_node_until_it_ends() {
        let fixture = Fixture::new();
        let answer = fixture.pairing.register_invite(&body("inv_1", "vault_demo01"), NOW).await;
        assert_eq!(parts(&answer), (200, json!({"success": true})));
        let other = fixture.another();
        assert_eq!(other.vault_of_invite("inv_1", NOW).await.unwrap(), Some("vault_demo01".into()));
        assert_eq!(other.vault_of_invite("inv_1", NOW.plus(INVITE_KEPT)).await.unwrap(), None);
    }

    #[tokio::test]
    async fn each_refusal_has_its_own_answer() {
        let fixture = Fixture::new();
        let register = |body: Vec<u8>| async move { parts(&Fixture::new().pairing.register_invite(&body, NOW).await) };
        assert_eq!(register(b"{}".to_vec()).await, (400, json!({"error": "Missing invite_id or vault_id"})));
        let (status, answer) = register(body("inv_1", "vault_away")).await;
        assert_eq!(status, 401);
        assert!(answer["error"].as_str().unwrap().starts_with("vault_id is not connected; "));
        fixture.facts.broken.store(true, std::sync::atomic::Ordering::Relaxed);
        assert_eq!(fixture.pairing.register_invite(&body("inv_1", "vault_demo01"), NOW).await.status, 503);
    }

    #[tokio::test]
    async fn an_invite_stays_with_the_vault_that_it_was_registered_for() {
        let fixture = Fixture::new();
        fixture.vaults.connected.lock().push("vault_evil".into());
        for (vault, status) in [("vault_demo01", 200), ("vault_evil", 409), ("vault_demo01", 200)] {
            assert_eq!(fixture.pairing.register_invite(&body("inv_1", vault), NOW).await.status, status);
        }
    }

    #[tokio::test]
    async fn a_vault_has_so_many_invites() {
        let fixture = Fixture::new();
        for n in 0..MAX_VAULT_INVITES {
            let answer = fixture.pairing.register_invite(&body(&format!("inv_{n}"), "vault_demo01"), NOW).await;
            assert_eq!(answer.status, 200);
        }
        let one_more = body("inv_more", "vault_demo01");
        assert_eq!(fixture.pairing.register_invite(&one_more, NOW).await.status, 429);
        assert_eq!(fixture.pairing.register_invite(&one_more, NOW.plus(INVITE_KEPT)).await.status, 200);
    }
}
