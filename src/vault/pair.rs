//! Pairing, as the sockets and routes of this node meet it.

use std::sync::Weak;

use async_trait::async_trait;
use bytes::Bytes;
use tokio_tungstenite::tungstenite::Utf8Bytes;

use crate::cluster::presence::Located;
use crate::cluster::proto::{Notify, frame::Body};
use crate::domain::ids::VaultId;
use crate::domain::principal::{Principal, Standing};
use crate::runtime::outbox::Outbox;
use crate::runtime::time;
use crate::wire::dcp::frame;
use crate::wire::dcp::stored_claim::PairingResult;

use super::http::HttpAnswer;
use super::pairing::{Pairing, PairingResponse, VaultLookup};
use super::service::{Inner, VaultService};

/// How pairing finds vaults. Holds the service weakly: the service owns its pairing.
pub(super) struct Lookup(pub Weak<Inner>);

#[async_trait]
impl VaultLookup for Lookup {
    async fn is_connected(&self, vault: &VaultId) -> bool {
        let Some(inner) = self.0.upgrade() else { return false };
        VaultService { inner }.is_connected(vault).await
    }

    fn notify(&self, vault: &VaultId, payload: Bytes) {
        let Some(inner) = self.0.upgrade() else { return };
        let Ok(payload) = std::str::from_utf8(&payload) else { return };
        VaultService { inner }.notify(vault, &frame::write("pairing_claim", payload, time::now()));
    }
}

impl VaultService {
    /// The pairing of this node.
    #[must_use]
    pub fn pairing(&self) -> &Pairing {
        &self.inner.pairing
    }

    /// Whether the vault has a live socket on any node.
    async fn is_connected(&self, vault: &VaultId) -> bool {
        if self.with_known(vault.as_str(), |state, _| state.has_socket()) == Some(true) {
            return true;
        }
        let located = self.inner.cluster.presence.locate(&Principal::vault(vault.as_str())).await;
        matches!(located, Located::At { standing: Standing::Live, .. })
    }

    /// Sends a frame to the vault's newest socket, here or wherever it is.
    fn notify(&self, vault: &VaultId, text: &Utf8Bytes) {
        if self.notify_here(vault.as_str(), text) {
            return;
        }
        let body = Body::Notify(Notify { vault_id: vault.to_string(), frame: text.clone().into() });
        let (this, vault) = (self.clone(), vault.clone());
        self.beside(async move {
            if let Located::At { run, .. } = this.inner.cluster.presence.locate(&Principal::vault(vault.as_str())).await
            {
                // Sent again when the vault registers.
                this.inner.cluster.links.send(&run, body).unwrap_or_default();
            }
        });
    }

    /// Shows a vault that has just registered the claims that wait for it (sheet section 5.1, step 3).
    pub(super) async fn show_pending_claims(&self, vault: &VaultId, outbox: &Outbox) {
        match self.inner.pairing.pending_claims(vault, time::now()).await {
            Ok(claims) => {
                for claim in &claims {
                    let payload = std::str::from_utf8(claim).unwrap_or_default();
                    // A socket that takes nothing more is being closed.
                    outbox.text(frame::write("pairing_claim", payload, time::now())).unwrap_or_default();
                }
            }
            Err(error) => tracing::error!(%error, "pending claims were not shown to a vault"),
        }
    }

    /// A `pairing_result` frame of a socket that stands for `vault`: the payload of its ack.
    pub(super) async fn pairing_result(
        &self,
        vault: Option<&VaultId>,
        payload: &str,
    ) -> Result<String, (&'static str, String)> {
        let result =
            PairingResult::parse(payload.as_bytes()).map_err(|error| ("RELAY_INVALID_ENVELOPE", error.to_string()))?;
        let ack = self.inner.pairing.resolve_claim(vault, &result, time::now()).await;
        let ack = ack.map_err(|error| (error.code(), error.to_string()))?;
        Ok(frame::object(&[("claim_id", &ack.claim_id), ("status", ack.status)]))
    }

    /// `POST /v1/devices/push-token`.
    pub async fn post_push_token(&self, body: &[u8]) -> Result<PairingResponse, HttpAnswer> {
        let token = match Pairing::read_push_token(body) {
            Ok(token) => token,
            Err(response) => return Ok(response),
        };
        let (verified, _) = self.check_proof(body, None, true).await?;
        Ok(self.inner.pairing.register_push_token(&verified, &token, time::now()).await)
    }
}
