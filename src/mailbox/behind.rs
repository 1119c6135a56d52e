//! What came late, and stands behind what a session was sent already: it is fetched one by one.

use std::sync::Arc;

use super::MailboxService;
use super::delivery::Stop;
use super::flow::HERE;
use super::session::{Over, Session};
use crate::domain::mailbox::{MailboxKey, Place};
use crate::store::{StoreError, StoredBlob};

impl MailboxService {
    /// Sends what came and stands behind what was sent already.
    pub(super) async fn flush_behind(
        &self,
        session: &Arc<Session>,
        over: Over,
        mailbox: MailboxKey,
    ) -> Result<(), Stop> {
        let behind = session.flow.lock().behind(over);
        for (at, (holder, place)) in behind.iter().enumerate() {
            if let Err(stop) = self.send_from_behind(session, over, mailbox, (*holder, *place)).await {
                let mut flow = session.flow.lock();
                behind[at..].iter().for_each(|(holder, place)| flow.came(over, *holder, *place));
                return Err(stop);
            }
        }
        Ok(())
    }

    /// Sends the blob at a place, if it is still there. If its holder does not say, it is asked again when it is read
    /// again.
    async fn send_from_behind(
        &self,
        session: &Arc<Session>,
        over: Over,
        mailbox: MailboxKey,
        (holder, place): (usize, Place),
    ) -> Result<(), Stop> {
        let rests = session.flow.lock().rests(holder);
        match if rests { None } else { self.blob_at(session, holder, mailbox, place).await? } {
            Some(Some(blob)) => self.send_batch(session, over, mailbox, &[(holder, blob)]).await?,
            Some(None) => {}
            None => {
                session.flow.lock().came(over, holder, place);
                if !rests {
                    self.leave_out(session, over, holder);
                }
            }
        }
        Ok(())
    }

    /// The blob at a place of a holder, if it is still there; `None` if another node does not say.
    async fn blob_at(
        &self,
        session: &Session,
        holder: usize,
        mailbox: MailboxKey,
        place: Place,
    ) -> Result<Option<Option<StoredBlob>>, StoreError> {
        match holder {
            HERE => self.at(mailbox, place).await.map(Some),
            away => Ok(self.pull_at(session, away, mailbox, place).await),
        }
    }
}
