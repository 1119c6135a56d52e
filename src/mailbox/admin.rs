//! What operators see and do: the sessions of this node, and mailboxes as a whole.

use std::sync::Arc;

use super::MailboxService;
use super::session::Session;
use crate::domain::mailbox::{Holdings, MailboxKey};
use crate::runtime::sessions::{self, SessionInfo, Wanted};
use crate::store::StoreError;

impl MailboxService {
    /// How many parts there are for [`MailboxService::sessions`].
    #[must_use]
    pub fn session_parts(&self) -> usize {
        self.inner.sessions.parts()
    }

    /// Sessions of this node.
    #[must_use]
    pub fn sessions(&self, wanted: Wanted) -> Vec<SessionInfo> {
        let all = self.inner.sessions.in_part(wanted.part).into_iter();
        wanted.of(all.map(|session| (session.number, session)).collect()).iter().map(info).collect()
    }

    /// How many sessions a mailbox has at this node.
    #[must_use]
    pub fn sessions_of(&self, mailbox: &MailboxKey) -> usize {
        self.inner.sessions.of(mailbox).len()
    }

    /// Ends a session; false if there is none of that number.
    #[must_use]
    pub fn disconnect(&self, number: u64, cut: bool) -> bool {
        let sessions = &self.inner.sessions;
        let mut all = (0..sessions.parts()).flat_map(|part| sessions.in_part(part));
        let Some(session) = all.find(|session| session.number == number) else { return false };
        sessions::end(&session.channel.outbox, cut);
        true
    }

    /// Empties a mailbox on all nodes, by the operator's right; how many blobs that were, as far as they answered in
    /// time. A node that did not, or is away, empties it later.
    ///
    /// # Errors
    /// When this node's store fails; a part may be deleted then.
    pub async fn purge_everywhere(&self, mailbox: MailboxKey) -> Result<u64, StoreError> {
        self.purge_mailbox(mailbox).await
    }

    /// What waits in all mailboxes of this node, and the most that may, in bytes.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn usage(&self) -> Result<(Holdings, u64), StoreError> {
        Ok((self.inner.store.usage().await?, self.inner.settings.quota.total_bytes))
    }
}

fn info(session: &Arc<Session>) -> SessionInfo {
    SessionInfo {
        number: session.number,
        name: session.who.client_id.clone(),
        mailbox: session.who.routing_id.clone(),
        address: Some(session.who.address),
        polling: false,
        proven: session.who.key.is_some(),
        sealed: session.channel.is_sealed(),
        since: None,
        idle: Some(session.idle()),
        queued: session.channel.outbox.queued_bytes(),
        relayed: None,
    }
}
