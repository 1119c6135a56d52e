//! Telling other nodes what this one has sessions for, what waits for theirs, and what became of what was sent there.

use std::convert::Infallible;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::future::join_all;

use super::calls::PATIENCE;
use super::convert::{self, MAILBOX_BYTES};
use super::todo::{Lookup, Telling};
use crate::cluster::links::{AskError, LinkRefused};
use crate::cluster::proto::{MailInterest, MailNotice, MailWaiting, frame::Body, reply};
use crate::domain::ids::NodeRun;
use crate::domain::mailbox::{MailboxKey, Place};
use crate::mailbox::MailboxService;
use crate::wire::vauchi::payload::Status;

/// Mailboxes in one frame.
const FRAME_MAILBOXES: usize = 1024;

/// Mailboxes that are told before the other node has heard those before them.
const SAID_AT_ONCE: usize = 1 << 13;

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
        self.others().iter().for_each(|run| inner.peers.tellings.meet(run));
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
        let mut full = !telling.wakes.is_empty();
        for (run, mailbox) in telling.wakes {
            self.wake_peer(&run, mailbox, None);
        }
        let introduced = join_all(telling.introduce.iter().map(|run| self.introduce(run))).await;
        for (run, introduced) in telling.introduce.iter().zip(introduced) {
            if introduced == Err(LinkRefused::Full) {
                full = true;
                self.inner.peers.tellings.introduce(run);
            }
        }
        if full {
            tokio::time::sleep(FULL).await;
        }
    }

    /// Has a node obey the purges that it may have missed, then tells it all that this one has sessions for. No more is
    /// under way to it at a time than a link takes.
    async fn introduce(&self, run: &NodeRun) -> Result<(), LinkRefused> {
        if !self.inner.peers.tellings.has_told_purges(run) {
            self.repeat_purges(run).await?;
            self.inner.peers.tellings.note_told_purges(run);
        }
        let send = |interest| self.inner.cluster.links.send(run, Body::MailInterest(interest));
        send(MailInterest { anew: true, ..MailInterest::default() })?;
        let mut said = 0;
        for part in 0..self.inner.sessions.parts() {
            self.inner.sessions.with_part(part, |mailboxes| {
                said += mailboxes.len();
                mailboxes.chunks(FRAME_MAILBOXES).try_for_each(|mailboxes| {
                    send(MailInterest { mailboxes: list(mailboxes), ..MailInterest::default() })
                })
            })?;
            if said >= SAID_AT_ONCE {
                said = 0;
                heard(self.inner.cluster.links.ask(run, Body::MailInterest(MailInterest::default()), PATIENCE).await)?;
            }
            tokio::task::yield_now().await;
        }
        Ok(())
    }

    async fn repeat_purges(&self, run: &NodeRun) -> Result<(), LinkRefused> {
        let mut after: Option<Bytes> = None;
        loop {
            let page = match self.obeyed(after.as_deref()).await {
                Ok(page) => page,
                Err(error) => {
                    self.store_failed("purges", &error);
                    return Ok(());
                }
            };
            let Some((last, _)) = page.last() else { return Ok(()) };
            after = Some(last.clone());
            let links = &self.inner.cluster.links;
            let asked = page.into_iter().map(|(_, purge)| links.ask(run, Body::MailPurge(purge), PATIENCE));
            join_all(asked).await.into_iter().try_for_each(heard)?;
        }
    }

    async fn look_up(&self, lookup: Lookup) {
        match lookup {
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

/// Whether a node has heard what it was told, whatever it could do about it.
fn heard(answer: Result<reply::Body, AskError>) -> Result<(), LinkRefused> {
    match answer {
        Ok(_) | Err(AskError::Failed(_)) => Ok(()),
        Err(AskError::Refused(refused)) => Err(refused),
        Err(AskError::TimedOut) => Err(LinkRefused::Full),
    }
}
