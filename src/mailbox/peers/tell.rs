//! Telling other nodes what this one has sessions for, what waits for theirs, and what became of what was sent there.

use std::convert::Infallible;
use std::time::Duration;

use bytes::{Bytes, BytesMut};

use super::convert::{self, MAILBOX_BYTES};
use super::todo::{Lookup, Telling};
use crate::cluster::links::LinkRefused;
use crate::cluster::proto::{MailInterest, MailNotice, MailPurge, MailWaiting, frame::Body};
use crate::domain::ids::NodeRun;
use crate::domain::mailbox::{MailboxKey, Place};
use crate::mailbox::MailboxService;
use crate::store::StoreError;
use crate::wire::vauchi::payload::Status;

/// Mailboxes in one frame.
const FRAME_MAILBOXES: usize = 1024;

/// The pause after a link was full.
const FULL: Duration = Duration::from_millis(100);

/// How often what others said and is void is forgotten.
const SWEEP: Duration = Duration::from_secs(30);

impl MailboxService {
    /// Begins to speak to other nodes, until the node stops.
    pub(in crate::mailbox) fn meet_peers(&self) {
        let inner = &self.inner;
        inner.cluster.links.hold_with(std::sync::Arc::new(self.clone()));
        inner.cluster.services.mailbox.fill(std::sync::Arc::new(self.clone()));
        // Links that were made before were told of to nobody.
        self.others().iter().for_each(|run| inner.peers.tellings.introduce(run));
        self.run("mailbox tellings", |this| async move {
            loop {
                let telling = this.inner.peers.tellings.next().await;
                this.tell(telling).await;
            }
        });
        self.run("mailbox lookups", |this| async move {
            loop {
                let lookup = this.inner.peers.lookups.next().await;
                this.inner.metrics.mailbox.lookups.set(this.inner.peers.lookups.len() as i64);
                this.look_up(lookup).await;
            }
        });
        self.run("mailbox interests", |this| async move {
            loop {
                tokio::time::sleep(SWEEP).await;
                let left = this.inner.peers.interests.sweep();
                this.inner.metrics.mailbox.interests.set(left as i64);
            }
        });
    }

    fn run<F>(&self, name: &'static str, task: impl FnOnce(Self) -> F)
    where
        F: Future<Output = Infallible> + Send + 'static,
    {
        let (work, stop) = (task(self.clone()), self.inner.supervisor.token());
        self.inner.supervisor.spawn(name, async move {
            stop.run_until_cancelled(work).await;
            Ok::<(), Infallible>(())
        });
    }

    /// Says to every other node that this one has sessions of a mailbox, or none any more. To be called in the order
    /// in which they come and go.
    pub(in crate::mailbox) fn announce(&self, mailbox: &MailboxKey, over: bool) {
        for member in self.inner.cluster.view.borrow().others() {
            let interest = MailInterest { mailboxes: convert::mailbox(mailbox), over, anew: false };
            if self.inner.cluster.links.send(&member.run, Body::MailInterest(interest)) == Err(LinkRefused::Full) {
                self.inner.peers.tellings.introduce(&member.run);
            }
        }
    }

    /// Wakes the sessions that other nodes have of a mailbox.
    pub(in crate::mailbox) fn wake_peers(&self, mailbox: &MailboxKey, place: Option<Place>) {
        for run in self.inner.peers.interests.of(mailbox) {
            self.wake_peer(&run, *mailbox, place);
        }
    }

    fn wake_peer(&self, run: &NodeRun, mailbox: MailboxKey, place: Option<Place>) {
        let waiting = MailWaiting { mailbox: convert::mailbox(&mailbox), place: place.map(convert::place) };
        // Once the node is gone, or its link is new, it says anew what it has sessions for, and is answered.
        if self.inner.cluster.links.send(run, Body::MailWaiting(waiting)) == Err(LinkRefused::Full)
            && !self.inner.peers.tellings.wake(run, mailbox)
        {
            self.inner.metrics.drop_one("mailbox", "wakes");
        }
    }

    /// Has the nodes that have sessions of a sender tell it what became of a message; how many those are.
    pub(in crate::mailbox) fn notify_peers(&self, routing_id: &str, message_id: &str, status: Status) -> usize {
        let peers = self.inner.peers.interests.of(&MailboxKey::blobs(routing_id));
        let told = peers.iter().filter(|run| {
            let notice = MailNotice {
                routing_id: routing_id.to_owned(),
                message_id: message_id.to_owned(),
                received: status == Status::ReceivedByRecipient,
            };
            self.inner.cluster.links.send(run, Body::MailNotice(notice)).is_ok()
        });
        told.count()
    }

    async fn tell(&self, telling: Telling) {
        let mut full = false;
        for run in telling.introduce {
            match self.introduce(&run).await {
                Ok(()) | Err(LinkRefused::Gone) => {}
                Err(LinkRefused::Full) => {
                    full = true;
                    self.inner.peers.tellings.introduce(&run);
                }
            }
        }
        for (run, mailbox) in telling.wakes {
            self.wake_peer(&run, mailbox, None);
            full = true;
        }
        if full {
            tokio::time::sleep(FULL).await;
        }
    }

    /// Tells a node the purges it may have missed, then all that this one has sessions for.
    async fn introduce(&self, run: &NodeRun) -> Result<(), LinkRefused> {
        if let Err(error) = self.repeat_purges(run).await? {
            self.store_failed("purges", &error);
        }
        let send = |interest| self.inner.cluster.links.send(run, Body::MailInterest(interest));
        send(MailInterest { anew: true, ..MailInterest::default() })?;
        for part in 0..self.inner.sessions.parts() {
            self.inner.sessions.with_part(part, |mailboxes| {
                mailboxes.chunks(FRAME_MAILBOXES).try_for_each(|mailboxes| {
                    send(MailInterest { mailboxes: list(mailboxes), ..MailInterest::default() })
                })
            })?;
            tokio::task::yield_now().await;
        }
        Ok(())
    }

    async fn repeat_purges(&self, run: &NodeRun) -> Result<Result<(), StoreError>, LinkRefused> {
        let mut after: Option<Bytes> = None;
        loop {
            let page = match self.obeyed(after.as_deref()).await {
                Ok(page) => page,
                Err(error) => return Ok(Err(error)),
            };
            let Some((last, _)) = page.last() else { return Ok(Ok(())) };
            after = Some(last.clone());
            for (_, purge) in page {
                self.inner.cluster.links.send(run, Body::MailPurge(purge))?;
            }
        }
    }

    async fn look_up(&self, lookup: Lookup) {
        match lookup {
            Lookup::Purge(purge) => {
                if let Err(error) = self.obey(&MailPurge { now: false, ..purge }).await {
                    self.store_failed("purges", &error);
                }
            }
            Lookup::Some(run, mailboxes) => self.check(&run, convert::mailboxes_from(&mailboxes)).await,
            Lookup::All(run) => {
                for part in self.inner.peers.interests.each_part_of(&run) {
                    self.check(&run, part.into_iter()).await;
                }
            }
        }
    }

    /// Says to a node which of these mailboxes hold something.
    async fn check(&self, run: &NodeRun, mailboxes: impl Iterator<Item = MailboxKey>) {
        for mailbox in mailboxes {
            match self.inner.store.holdings(mailbox).await {
                Ok(held) if held.blobs == 0 => {}
                Ok(_) => self.wake_peer(run, mailbox, None),
                // It may hold something, and whoever asks for it is told that it cannot be read, and tries again.
                Err(error) => {
                    self.store_failed("lookup", &error);
                    self.wake_peer(run, mailbox, None);
                }
            }
        }
    }
}

fn list(mailboxes: &[MailboxKey]) -> Bytes {
    let mut list = BytesMut::with_capacity(mailboxes.len() * MAILBOX_BYTES);
    mailboxes.iter().for_each(|mailbox| list.extend_from_slice(&mailbox.0));
    list.freeze()
}
