//! A vault registers at this node (sheet section 5.1), by socket or by a signed proof over HTTP.

use std::time::Duration;

use bytes::Bytes;
use tokio_tungstenite::tungstenite::Utf8Bytes;

use crate::cluster::claims::{ClaimError, Proof};
use crate::cluster::convert;
use crate::cluster::proto::{Adopt, frame::Body, reply};
use crate::domain::clock::Epoch;
use crate::domain::ids::NodeRun;
use crate::domain::limits::NONCE_MEMORY;
use crate::domain::principal::{Principal, Standing};
use crate::runtime::outbox::Outbox;
use crate::wire::dcp::registration::{RegistrationError, Verified};

use super::service::VaultService;
use super::state::{Rank, Session};

/// How long the other nodes may take to hand over what they have for a vault before deliveries begin.
const ADOPT_PATIENCE: Duration = Duration::from_secs(1);

/// Why a vault is not registered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NotRegistered {
    /// The vault is told so.
    Refused(RegistrationError),
    /// The proof is good, but nobody owns the name, and a poll must not bind it.
    Unbound,
    /// Whoever decides cannot be reached: try again.
    Unavailable,
}

impl VaultService {
    /// Claims the name for the key that was proven. With `may_bind`, a name that nobody owns becomes this key's.
    pub(super) async fn claim(&self, verified: &Verified, may_bind: bool) -> Result<Epoch, NotRegistered> {
        let proof = Proof {
            key: Bytes::copy_from_slice(&verified.signing_key.0),
            nonce: verified.nonce.clone().into(),
            nonce_until: verified.signed_at.plus(NONCE_MEMORY),
        };
        let principal = Principal::vault(verified.vault_id.as_str());
        // A peer that has too much to do has not said that nobody owns it there.
        if let Some((peer, owner)) = self.owner_afar(&principal).await.map_err(|_| NotRegistered::Unavailable)?
            && owner != proof.key
        {
            self.is_refused_by(&peer);
            return Err(NotRegistered::Refused(RegistrationError::KeyMismatch));
        }
        self.inner.cluster.claims.claim(&principal, &proof, may_bind).await.map_err(|error| match error {
            ClaimError::KeyMismatch => NotRegistered::Refused(RegistrationError::KeyMismatch),
            ClaimError::NonceReused => NotRegistered::Refused(RegistrationError::NonceReused),
            ClaimError::Unbound => NotRegistered::Unbound,
            ClaimError::Unavailable => NotRegistered::Unavailable,
        })
    }

    /// Opens a session of the vault at this node and fetches what other nodes have for it. `greeting` is sent
    /// before anything else.
    pub(super) async fn open_session(
        &self,
        verified: &Verified,
        number: u64,
        outbox: Option<Outbox>,
        epoch: Epoch,
        greeting: Option<Utf8Bytes>,
    ) {
        let vault = verified.vault_id.as_str();
        let key = Bytes::copy_from_slice(&verified.signing_key.0);
        let session = Session { number, epoch, key, outbox: outbox.clone() };
        let opened = self.with(vault, |state, context| {
            if let (Some(outbox), Some(greeting)) = (outbox, greeting) {
                // A socket that has closed meanwhile is noticed by whoever owns it.
                outbox.text(greeting).unwrap_or_default();
            }
            state.session_opened(session, context);
            state.rank()
        });
        self.has_come(&verified.vault_id);
        let Some((standing, epoch)) = opened else { return };
        let said = convert::standing(standing).into();
        let adopt = Body::Adopt(Adopt { vault_id: vault.to_owned(), epoch: epoch.0, standing: said });
        let mut better: Option<(Rank, NodeRun)> = None;
        let complete = self
            .ask_all(&adopt, ADOPT_PATIENCE, |node, answer| {
                if let reply::Body::Adopted(adopted) = answer
                    && adopted.newer_here
                {
                    let standing = convert::standing_from(adopted.standing()).unwrap_or(Standing::Live);
                    better = better.take().max(Some(((standing, Epoch(adopted.epoch)), node.clone())));
                }
            })
            .await;
        self.with(vault, |state, context| {
            match better {
                Some((rank, node)) => state.outranked_by(&node, rank, context),
                // Whoever was silent may have a better session, with which this one must not compete.
                None if !complete => state.look_for_better(context),
                None => {}
            }
            state.adopted(context);
        });
    }
}
