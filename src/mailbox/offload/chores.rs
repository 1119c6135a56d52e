//! What is found out of peers about what was offered to them, and what lies there: each is asked at its own pace, beside
//! the others, so that one that is slow holds up nobody else.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use tokio::sync::Notify;

use crate::cluster::regions::PeerName;
use crate::mailbox::MailboxService;
use crate::store::StoreError;

/// What is done about blobs that were offered, and that have moved.
#[derive(Debug, Clone, Copy)]
enum Chore {
    Settle,
    Follow,
}

/// Whom it is done about: a peer, or the other nodes of this cluster.
type Subject = Option<PeerName>;

impl Chore {
    fn name(self) -> &'static str {
        match self {
            Self::Settle => "offload notes",
            Self::Follow => "offload follow-up",
        }
    }

    fn told(self, service: &MailboxService) -> &Notify {
        match self {
            Self::Settle => &service.inner.offload.settle,
            Self::Follow => &service.inner.offload.follow,
        }
    }
}

impl MailboxService {
    /// Settles what was left open, and follows what has moved, now and then and when it is told to, until the node stops.
    pub(super) fn do_chores(&self, interval: Duration) {
        for chore in [Chore::Settle, Chore::Follow] {
            let (this, stop) = (self.clone(), self.inner.supervisor.token());
            self.inner.supervisor.spawn(chore.name(), async move {
                stop.run_until_cancelled(this.do_forever(chore, interval)).await;
                Ok::<(), Infallible>(())
            });
        }
    }

    async fn do_forever(&self, chore: Chore, interval: Duration) {
        // Those with whom it is being done, and with whom it is to be done again at once.
        let (mut busy, mut again) = (BTreeSet::new(), BTreeSet::new());
        let mut under_way = FuturesUnordered::new();
        let begin = |subject: Subject| async move { (self.chore(chore, subject.clone()).await, subject) };
        loop {
            match self.subjects(chore).await {
                Ok(subjects) => {
                    for subject in subjects {
                        match busy.insert(subject.clone()) {
                            true => under_way.push(begin(subject)),
                            false => drop(again.insert(subject)),
                        }
                    }
                }
                Err(error) => self.chore_failed(chore, &error),
            }
            let mut pause = std::pin::pin!(tokio::time::sleep(interval));
            loop {
                tokio::select! {
                    Some((done, subject)) = under_way.next() => {
                        if let Err(error) = done {
                            // What cannot be done now is done next time.
                            self.chore_failed(chore, &error);
                            again.remove(&subject);
                        }
                        match again.remove(&subject) {
                            true => under_way.push(begin(subject)),
                            false => drop(busy.remove(&subject)),
                        }
                    }
                    () = chore.told(self).notified() => break,
                    () = &mut pause => break,
                }
            }
        }
    }

    async fn subjects(&self, chore: Chore) -> Result<Vec<Subject>, StoreError> {
        Ok(match chore {
            Chore::Settle => self.open_offers().await?.into_iter().map(Some).collect(),
            Chore::Follow => self.inner.cluster.afar.peers().into_iter().map(Some).chain([None]).collect(),
        })
    }

    async fn chore(&self, chore: Chore, subject: Subject) -> Result<(), StoreError> {
        match (chore, subject) {
            (Chore::Settle, Some(peer)) => self.settle_with(&peer).await,
            (Chore::Settle, None) => Ok(()),
            (Chore::Follow, Some(peer)) => self.follow(&Bytes::copy_from_slice(peer.0.as_bytes())).await,
            (Chore::Follow, None) => self.follow(&Bytes::new()).await,
        }
    }

    fn chore_failed(&self, chore: Chore, error: &StoreError) {
        self.store_failed(chore.name(), error);
        self.inner.supervisor.went_on_after(chore.name(), error);
    }
}
