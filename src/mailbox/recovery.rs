//! Recovery proofs (section 4.7): shared records, so that every node finds them.
//!
//! A proof that a client stored with a proof of its key is replaced and purged by that key only. Whoever asks for a
//! proof gets it.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::join_all;

use super::MailboxService;
use super::lane::Done;
use super::service::{acknowledgment, frame};
use super::session::Session;
use crate::cluster::proto::SharedRecord;
use crate::domain::clock::Epoch;
use crate::runtime::time;
use crate::security::ed25519::{PUBLIC_KEY_BYTES, PublicKey};
use crate::store::StoreError;
use crate::wire::vauchi::outgoing::{RecoveryProof, RelayPayload};
use crate::wire::vauchi::payload::{RecoveryKeyHash, RecoveryProofQuery, RecoveryProofStore, Status};

/// The kind of the shared records.
const KIND: &str = "recovery";

/// How long a proof is kept.
const LIFE: Duration = Duration::from_secs(90 * 24 * 3600);

/// Longest proof, in bytes.
const MAX_PROOF_BYTES: usize = 8 << 10;

/// Most proofs that are looked for at a time; what is asked for beyond is not answered.
const MAX_ASKED: usize = 50;

/// A proof, and whose it is.
struct Kept {
    owner: Option<PublicKey>,
    /// `None` once it is purged.
    proof: Option<Bytes>,
    version: u64,
}

impl MailboxService {
    /// Keeps a recovery proof.
    pub(super) fn recovery_store(
        &self,
        session: &Arc<Session>,
        id: &str,
        store: RecoveryProofStore,
        frame_bytes: usize,
    ) {
        let Some(hash) = store.key_hash else { return self.inner.metrics.mailbox.ignore("hash") };
        if store.proof_data.len() > MAX_PROOF_BYTES {
            return self.refuse(session, id, "proof_size", frame_bytes);
        }
        let (this, of, id) = (self.clone(), session.clone(), id.to_owned());
        self.work(session, true, frame_bytes, async move {
            match this.keep_proof(&of, hash, Some(store.proof_data)).await {
                Ok(true) => {
                    this.inner.metrics.mailbox.recovery_stored.inc();
                    this.inner.metrics.mailbox.recovery_proofs.inc();
                    Done::answer(acknowledgment(&id, Status::Stored))
                }
                Ok(false) => this.failed(&id, "unproven"),
                Err(error) => {
                    this.store_failed("recovery", &error);
                    this.failed(&id, "store")
                }
            }
        });
    }

    /// Answers with the proofs that are found.
    pub(super) fn recovery_query(&self, session: &Arc<Session>, query: RecoveryProofQuery, frame_bytes: usize) {
        let mut hashes = query.key_hashes;
        hashes.sort_unstable();
        hashes.dedup();
        hashes.truncate(MAX_ASKED);
        // Four characters a byte, and half of the outbox for everything else.
        let mut room = session.channel.limit() / 8;
        let this = self.clone();
        self.work(session, true, frame_bytes, async move {
            let looked = join_all(hashes.iter().map(|hash| this.kept_proof(*hash))).await;
            let mut found = Vec::new();
            for (hash, kept) in hashes.iter().zip(looked) {
                match kept {
                    Ok(Some(Kept { proof: Some(proof), .. })) if proof.len() <= room => {
                        room -= proof.len();
                        found.push((*hash, proof));
                    }
                    Ok(_) => {}
                    Err(error) => this.store_failed("recovery", &error),
                }
            }
            let proofs: Vec<_> = found
                .iter()
                .map(|(key_hash, proof)| RecoveryProof { key_hash: *key_hash, proof_data: proof })
                .collect();
            Done::answer(frame(RelayPayload::RecoveryProofResponse(&proofs)))
        });
    }

    /// Deletes a proof; false if there is none, or it is another's.
    pub(super) async fn purge_proof(&self, session: &Session, hash: RecoveryKeyHash) -> Result<bool, StoreError> {
        let there = self.kept_proof(hash).await?.is_some_and(|kept| kept.proof.is_some());
        let purged = there && self.keep_proof(session, hash, None).await?;
        if purged {
            self.inner.metrics.mailbox.recovery_proofs.dec();
        }
        Ok(purged)
    }

    /// Replaces what is kept; false if that is another's.
    async fn keep_proof(
        &self,
        session: &Session,
        hash: RecoveryKeyHash,
        proof: Option<Bytes>,
    ) -> Result<bool, StoreError> {
        let known = self.kept_proof(hash).await?;
        if let Some(Kept { owner: Some(owner), proof: Some(_), .. }) = &known
            && session.who.key.as_ref() != Some(owner)
        {
            return Ok(false);
        }
        let newest = Epoch(known.map_or(0, |kept| kept.version));
        let owner = session.who.key.filter(|_| proof.is_some());
        let record = SharedRecord {
            kind: KIND.to_owned(),
            id: hash.to_string(),
            tag: String::new(),
            value: encode(owner.as_ref(), proof.as_deref()),
            version: self.inner.cluster.claims.next_epoch(newest).0,
            expires_ms: time::now().plus(LIFE).0,
        };
        self.inner.cluster.shared.store(record).await?;
        Ok(true)
    }

    async fn kept_proof(&self, hash: RecoveryKeyHash) -> Result<Option<Kept>, StoreError> {
        let found = self.inner.cluster.shared.fetch(KIND, &hash.to_string()).await?;
        Ok(found.and_then(|record| decode(&record.value, record.version)))
    }
}

/// One byte that says whether there is a proof (1) and an owner (2); the owner's key; the proof.
fn encode(owner: Option<&PublicKey>, proof: Option<&[u8]>) -> Bytes {
    let flags = u8::from(proof.is_some()) | u8::from(owner.is_some()) << 1;
    let owner = owner.map_or(&[][..], |key| &key.0);
    [&[flags], owner, proof.unwrap_or_default()].concat().into()
}

fn decode(value: &Bytes, version: u64) -> Option<Kept> {
    let (flags, rest) = (*value.first()?, value.slice(1..));
    let (owner, rest) = if flags & 2 == 0 {
        (None, rest)
    } else {
        let key = <[u8; PUBLIC_KEY_BYTES]>::try_from(rest.get(..PUBLIC_KEY_BYTES)?).ok()?;
        (Some(PublicKey(key)), rest.slice(PUBLIC_KEY_BYTES..))
    };
    Some(Kept { owner, proof: (flags & 1 == 1).then_some(rest), version })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_read() {
        let owner = PublicKey([7; 32]);
        for (owner, proof) in [(None, None), (None, Some(&b""[..])), (Some(&owner), Some(b"abc")), (Some(&owner), None)]
        {
            let kept = decode(&encode(owner, proof), 3).unwrap();
            assert_eq!((kept.owner.as_ref(), kept.proof.as_deref(), kept.version), (owner, proof, 3));
        }
        assert!(decode(&Bytes::new(), 0).is_none());
        assert!(decode(&Bytes::from_static(&[2, 1, 1]), 0).is_none());
    }
}
