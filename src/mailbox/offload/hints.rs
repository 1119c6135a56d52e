//! What clients are told of what lies elsewhere (sections 4.10 and 14.7), if they say that they fetch it themselves.

use std::collections::HashSet;

use bytes::Bytes;
use futures::future::join_all;

use super::follow::peer_at;
use crate::cluster::proto::{MailHint, MailHinted, MailHints, frame::Body, reply};
use crate::domain::mailbox::{BlobId, MailboxKey};
use crate::mailbox::MailboxService;
use crate::mailbox::peers::{PATIENCE, convert};
use crate::mailbox::service::frame;
use crate::mailbox::session::{Over, Session};
use crate::store::StoreError;
use crate::wire::vauchi::outgoing::{Hint, RelayPayload};

/// Most hints of one mailbox that a node gives. What is not hinted at is delivered.
const MAX_HINTS: usize = 1000;

/// Bytes of a frame of hints besides the hints.
const FRAME_BYTES: usize = 512;

/// Bytes of a hint besides its URL, more than enough.
const HINT_BYTES: usize = 128;

impl MailboxService {
    /// Finds out what lies elsewhere for a session that fetches it itself, and notes that it is not to be delivered: the
    /// frame that says where, which is to follow what is delivered.
    pub(in crate::mailbox) async fn hint_at(&self, session: &Session) -> Option<Bytes> {
        if !session.who.accept_hints || !session.may(Over::Blobs).await {
            return None;
        }
        let mut hints = self.hints_here(session.blobs).await.unwrap_or_else(|error| {
            self.store_failed("hints", &error);
            Vec::new()
        });
        let others = self.others();
        let asked = others.iter().map(|run| {
            let question = MailHints { mailbox: convert::mailbox(&session.blobs) };
            self.inner.cluster.links.ask(run, Body::MailHints(question), PATIENCE)
        });
        for answer in join_all(asked).await {
            if let Ok(reply::Body::MailHinted(hinted)) = answer {
                hints.extend(hinted.hints);
            }
        }
        let mut bytes = FRAME_BYTES;
        let fitting = hints.iter().filter_map(|hint| Some((id_of(hint)?, hint))).take_while(|(_, hint)| {
            bytes += HINT_BYTES + hint.relay_url.len();
            bytes <= session.channel.limit()
        });
        let given: Vec<_> = fitting.map(|(id, hint)| (id, id.to_string(), hint)).collect();
        if given.is_empty() {
            return None;
        }
        let hinted: HashSet<_> = given.iter().map(|(id, ..)| id.message()).collect();
        session.flow.lock().leave_to_client(hinted);
        let hints: Vec<_> = given
            .iter()
            .map(|(_, id, hint)| Hint { blob_id: id, relay_url: &hint.relay_url, expires_at_secs: hint.ends_ms / 1000 })
            .collect();
        Some(frame(RelayPayload::ForwardingHints(&hints)))
    }

    /// What another node asks for.
    ///
    /// # Errors
    /// When the store fails.
    pub(in crate::mailbox) async fn answer_hints(&self, asked: &MailHints) -> Result<reply::Body, StoreError> {
        let hints = match convert::mailbox_from(&asked.mailbox) {
            Some(mailbox) => self.hints_here(mailbox).await?,
            None => Vec::new(),
        };
        Ok(reply::Body::MailHinted(MailHinted { hints }))
    }

    /// What this node has moved, of one mailbox, to where a client finds it.
    async fn hints_here(&self, mailbox: MailboxKey) -> Result<Vec<MailHint>, StoreError> {
        let Some(out) = self.inner.cluster.afar.out.get() else { return Ok(Vec::new()) };
        let moved = self.inner.store.elsewhere(Some(mailbox), None, MAX_HINTS, self.moment()).await?;
        let hint = |moved: crate::store::Elsewhere| {
            let relay_url = out.public_url(&peer_at(&moved.place).filter(|_| !moved.owed)?)?;
            Some(MailHint { id: Bytes::copy_from_slice(&moved.id.to_bytes()), relay_url, ends_ms: moved.until.0 })
        };
        Ok(moved.into_iter().filter_map(hint).collect())
    }
}

fn id_of(hint: &MailHint) -> Option<BlobId> {
    BlobId::from_bytes(hint.id[..].try_into().ok()?)
}
