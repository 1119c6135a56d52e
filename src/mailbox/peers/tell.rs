//! Telling other nodes what this one has sessions for, what waits for theirs, and what became of what was sent there.

use std::convert::Infallible;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use futures::future::join_all;

use super::calls::{PATIENCE, PATIENCE_AFAR};
use super::convert::{self, MAILBOX_BYTES};
use super::todo::{Asker, Audience, Lookup, Telling};
use crate::cluster::convert::principal as principal_to_wire;
use crate::cluster::links::{AskError, LinkRefused};
use crate::cluster::proto::{Bound, MailInterest, MailNotice, MailWaiting, frame::Body, reply};
use crate::domain::ids::NodeId;
use crate::domain::mailbox::{MailboxKey, Place};
use crate::domain::principal::Principal;
use crate::mailbox::MailboxService;
use crate::runtime::backoff::Backoff;
use crate::store::{Known, MAX_MESSAGES};
use crate::wire::vauchi::payload::Status;

/// Mailboxes in one frame.
const FRAME_MAILBOXES: usize = 1024;

/// Mailboxes that are told before the other has heard those before them.
const SAID_AT_ONCE: usize = 1 << 13;

/// Pauses after a link was full, or somebody did not hear what they were told.
const FULL: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(1));

/// How often what others said and is void is forgotten.
const SWEEP: Duration = Duration::from_secs(30);

/// What has become of the sessions of a mailbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    /// There is one: whoever holds something is to say so.
    Begun,
    /// The same, and it has been sent nothing yet.
    Fresh,
    /// There is one, and it asks who holds something.
    Asks,
    /// There are none any more.
    Over,
}

impl MailboxService {
    /// Begins to speak to other nodes, until the node stops.
    pub(in crate::mailbox) fn meet_peers(&self) {
        let inner = &self.inner;
        inner.cluster.links.hold_with(std::sync::Arc::new(self.clone()));
        inner.cluster.services.mailbox.fill(std::sync::Arc::new(self.clone()));
        inner.cluster.afar.mailbox.fill(std::sync::Arc::new(self.clone()));
        // Links that were made before were told of to nobody.
        self.others().into_iter().for_each(|run| inner.peers.tellings.meet(Audience::Node(run)));
        self.note_seen_soon();
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
                let left = this.inner.peers.interests.sweep() + this.inner.peers.callers.sweep();
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

    /// This node has a session of a mailbox. To be called in the order in which sessions of it come and go.
    pub(in crate::mailbox) fn entered(&self, mailbox: &MailboxKey) {
        self.announce_near(mailbox, Change::Asks);
        self.announce_afar(mailbox, false);
    }

    /// This node has no session of a mailbox any more. To be called in the order in which sessions of it come and go.
    pub(in crate::mailbox) fn left(&self, mailbox: &MailboxKey) {
        if self.inner.peers.callers.of(mailbox).is_empty() {
            self.announce_near(mailbox, Change::Over);
        }
        self.announce_afar(mailbox, true);
    }

    /// Says to every other node of this cluster that this one, or a caller of it, has sessions of a mailbox, or none any
    /// more.
    pub(super) fn announce_near(&self, mailbox: &MailboxKey, change: Change) {
        let (over, asks, fresh) = (change == Change::Over, change == Change::Asks, change == Change::Fresh);
        for member in self.inner.cluster.view.borrow().others() {
            let interest = MailInterest { mailboxes: convert::mailbox(mailbox), over, asks, fresh, anew: false };
            if self.inner.cluster.links.send(&member.run, Body::MailInterest(interest)) == Err(LinkRefused::Full) {
                self.inner.peers.tellings.introduce(Audience::Node(member.run.clone()));
            }
        }
    }

    /// Says the same to other clusters, of this node's own sessions.
    fn announce_afar(&self, mailbox: &MailboxKey, over: bool) {
        let Some(out) = self.inner.cluster.afar.out.get() else { return };
        for peer in out.peers() {
            let mailboxes = convert::mailbox(mailbox);
            let interest = MailInterest { mailboxes, over, fresh: !over, ..MailInterest::default() };
            if out.send(&peer, None, Body::MailInterest(interest)) == Err(LinkRefused::Full) {
                self.inner.peers.tellings.introduce(Audience::Peer(peer));
            }
        }
    }

    /// Wakes the sessions that others have of a mailbox: this node holds something.
    pub(in crate::mailbox) fn wake_peers(&self, mailbox: &MailboxKey, place: Place, late: bool) {
        if late || place.rank > 0 {
            self.inner.peers.latecomers.note(*mailbox, place, Instant::now());
        }
        let waiting = MailWaiting { mailbox: convert::mailbox(mailbox), place: Some(convert::place(place)), late };
        for run in self.inner.peers.interests.of(mailbox) {
            self.wake_asker(Asker::Node(run), &self.inner.cluster.me.node, *mailbox, waiting.clone());
        }
        self.wake_callers(&self.inner.cluster.me.node, *mailbox, &waiting);
    }

    /// Tells the callers that have sessions of a mailbox which node holds something.
    pub(super) fn wake_callers(&self, holder: &NodeId, mailbox: MailboxKey, waiting: &MailWaiting) {
        for caller in self.inner.peers.callers.of(&mailbox) {
            self.wake_asker(Asker::Caller(caller), holder, mailbox, waiting.clone());
        }
    }

    fn wake_asker(&self, asker: Asker, holder: &NodeId, mailbox: MailboxKey, waiting: MailWaiting) {
        // What a version orders, or another store, may stand behind what was sent already.
        let behind = waiting.place.as_ref().and_then(convert::place_from).filter(|at| waiting.late || at.rank > 0);
        let waiting = Body::MailWaiting(waiting);
        let cluster = &self.inner.cluster;
        let sent = match &asker {
            Asker::Node(run) => cluster.links.send(run, waiting),
            Asker::Caller(caller) => {
                cluster.afar.out.get().map_or(Err(LinkRefused::Gone), |out| out.tell(*caller, holder, waiting))
            }
        };
        // Once it is gone, or its link is new, it says anew what it has sessions for, and is answered.
        if sent == Err(LinkRefused::Full) && !self.inner.peers.tellings.wake(asker, holder, mailbox, behind) {
            self.inner.metrics.drop_one("mailbox", "wakes");
        }
    }

    /// Tells somebody that a node holds something, and names what may stand behind what was sent already.
    fn wake_asker_of(&self, asker: Asker, holder: &NodeId, mailbox: MailboxKey, behind: &[Place]) {
        let something = MailWaiting { mailbox: convert::mailbox(&mailbox), ..MailWaiting::default() };
        if behind.is_empty() {
            return self.wake_asker(asker, holder, mailbox, something);
        }
        for place in behind {
            let waiting = MailWaiting { place: Some(convert::place(*place)), late: true, ..something.clone() };
            self.wake_asker(asker.clone(), holder, mailbox, waiting);
        }
    }

    /// Has whoever has sessions of a sender tell it what became of a message; how many those are.
    pub(in crate::mailbox) fn notify_peers(&self, routing_id: &str, message_id: &str, status: Status) -> usize {
        let notice = MailNotice {
            routing_id: routing_id.to_owned(),
            message_id: message_id.to_owned(),
            received: status == Status::ReceivedByRecipient,
        };
        let near = self.inner.peers.interests.of(&MailboxKey::blobs(routing_id));
        let told = near.iter().filter(|run| {
            let notice = Body::MailNotice(notice.clone());
            self.inner.cluster.links.send(run, notice).is_ok()
        });
        told.count() + self.notify_callers(&notice)
    }

    /// The same for callers only.
    pub(super) fn notify_callers(&self, notice: &MailNotice) -> usize {
        let Some(out) = self.inner.cluster.afar.out.get() else { return 0 };
        let callers = self.inner.peers.callers.of(&MailboxKey::blobs(&notice.routing_id));
        let me = &self.inner.cluster.me.node;
        callers.iter().filter(|caller| out.tell(**caller, me, Body::MailNotice(notice.clone())).is_ok()).count()
    }

    /// Tells callers that have sessions of a mailbox which key owns its name.
    pub(in crate::mailbox) fn tell_callers_of_owner(&self, principal: &Principal, key: &Bytes) {
        let Some(out) = self.inner.cluster.afar.out.get() else { return };
        let routing_id = principal.name.strip_prefix("token/").unwrap_or(&principal.name);
        for caller in self.inner.peers.callers.of(&MailboxKey::blobs(routing_id)) {
            let bound = Bound { principal: Some(principal_to_wire(principal)), key: key.clone(), bound_at: 0 };
            // A caller that cannot be told asks again when its link is new.
            out.tell(caller, &self.inner.cluster.me.node, Body::Bound(bound)).unwrap_or_default();
        }
    }

    async fn tell(&self, telling: Telling) {
        for to in telling.introduce {
            let this = self.clone();
            // Who does not answer holds up nobody else.
            self.until_stopped(async move { this.introduce_until_heard(&to).await });
        }
        if telling.wakes.is_empty() {
            return;
        }
        for ((asker, holder, mailbox), behind) in telling.wakes {
            self.wake_asker_of(asker, &holder, mailbox, &behind);
        }
        tokio::time::sleep(FULL.0).await;
    }

    async fn introduce_until_heard(&self, to: &Audience) {
        let (tellings, mut backoff) = (&self.inner.peers.tellings, Backoff::new(FULL.0, FULL.1));
        let meeting = tellings.meeting(to);
        while self.introduce(to, meeting).await == Err(LinkRefused::Full) {
            if tellings.meeting(to) != meeting {
                // What has been said of it may stand behind what is said since the next meeting, and void that.
                tellings.introduce(to.clone());
                break;
            }
            tokio::time::sleep(backoff.next(rand::random())).await;
        }
        tellings.introduced(to, meeting);
    }

    /// Has somebody obey the purges that they may have missed, then tells them what there are sessions for. No more is
    /// under way to them at a time than a link takes.
    async fn introduce(&self, to: &Audience, meeting: Option<u64>) -> Result<(), LinkRefused> {
        let tellings = &self.inner.peers.tellings;
        if !tellings.has_told_purges(to) {
            self.repeat_purges(to).await?;
            tellings.note_told_purges(to, meeting);
        }
        if let Audience::Peer(peer) = to {
            self.decide_again(peer).await?;
        }
        // Asked, because one that is starting hears nothing yet.
        let anew = MailInterest { anew: true, ..MailInterest::default() };
        heard(self.ask_audience(to, Body::MailInterest(anew)).await)?;
        let mut said = 0;
        for part in 0..self.inner.sessions.parts() {
            self.inner.sessions.with_part(part, |mut mailboxes| {
                if matches!(to, Audience::Node(_)) {
                    mailboxes.extend(self.inner.peers.callers.part(part));
                }
                said += mailboxes.len();
                mailboxes.chunks(FRAME_MAILBOXES).try_for_each(|mailboxes| {
                    let interest = MailInterest { mailboxes: list(mailboxes), ..MailInterest::default() };
                    self.say(to, Body::MailInterest(interest))
                })
            })?;
            if said >= SAID_AT_ONCE {
                said = 0;
                heard(self.ask_audience(to, Body::MailInterest(MailInterest::default())).await)?;
            }
            tokio::task::yield_now().await;
        }
        Ok(())
    }

    /// Asks another node, or another cluster as a whole.
    pub(super) async fn ask_audience(&self, to: &Audience, body: Body) -> Result<reply::Body, AskError> {
        match to {
            Audience::Node(run) => self.inner.cluster.links.ask(run, body, PATIENCE).await,
            Audience::Peer(peer) => {
                let out = self.inner.cluster.afar.out.get().ok_or(LinkRefused::Gone)?;
                out.ask(peer, None, body, PATIENCE_AFAR).await
            }
        }
    }

    fn say(&self, to: &Audience, body: Body) -> Result<(), LinkRefused> {
        match to {
            Audience::Node(run) => self.inner.cluster.links.send(run, body),
            Audience::Peer(peer) => self.inner.cluster.afar.out.get().ok_or(LinkRefused::Gone)?.send(peer, None, body),
        }
    }

    async fn repeat_purges(&self, to: &Audience) -> Result<(), LinkRefused> {
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
            let asked = page.into_iter().map(|(_, purge)| self.ask_audience(to, Body::MailPurge(purge)));
            join_all(asked).await.into_iter().try_for_each(heard)?;
        }
    }

    async fn look_up(&self, lookup: Lookup) {
        match lookup {
            Lookup::Some(asker, mailboxes, fresh) => {
                self.check(&asker, convert::mailboxes_from(&mailboxes), fresh).await;
            }
            Lookup::All(Asker::Node(run)) => {
                for part in self.inner.peers.interests.each_part_of(&run) {
                    self.check(&Asker::Node(run.clone()), part.into_iter(), false).await;
                }
            }
            Lookup::All(Asker::Caller(caller)) => {
                for part in self.inner.peers.callers.each_part_of(&caller) {
                    self.check(&Asker::Caller(caller), part.into_iter(), false).await;
                }
            }
        }
    }

    /// Says to somebody which of these mailboxes this node holds something for, and, unless they have been sent nothing
    /// yet, what has come behind.
    async fn check(&self, asker: &Asker, mailboxes: impl Iterator<Item = MailboxKey>, fresh: bool) {
        for mailbox in mailboxes {
            let holds = match self.inner.store.holdings(mailbox).await {
                Ok(held) => held.blobs > 0,
                // It may hold something, and whoever asks for it is told that it cannot be read, and tries again.
                Err(error) => {
                    self.store_failed("lookup", &error);
                    true
                }
            };
            if holds {
                // Its link may have been away when they came.
                let late = if fresh { Vec::new() } else { self.late_in(mailbox).await };
                self.wake_asker_of(asker.clone(), &self.inner.cluster.me.node, mailbox, &late);
            }
        }
    }

    /// What came late in a mailbox not long ago, and still waits without having reached anybody.
    async fn late_in(&self, mailbox: MailboxKey) -> Vec<Place> {
        let (late, mut left) = (self.inner.peers.latecomers.of(&mailbox, Instant::now()), Vec::new());
        for part in late.chunks(MAX_MESSAGES) {
            let messages = part.iter().map(|place| place.id.message()).collect();
            match self.inner.store.known(mailbox, messages, self.moment()).await {
                Ok(known) => left.extend(known.into_iter().filter_map(|known| match known {
                    Known::Live(place) => Some(place),
                    Known::Absent | Known::Moved | Known::Done => None,
                })),
                Err(error) => {
                    self.store_failed("lookup", &error);
                    left.extend_from_slice(part);
                }
            }
        }
        left
    }
}

/// Whether somebody has done what they were told. Who could not is told again, like one whose link is full.
fn heard(answer: Result<reply::Body, AskError>) -> Result<(), LinkRefused> {
    match answer {
        Ok(_) => Ok(()),
        Err(AskError::Refused(refused)) => Err(refused),
        Err(AskError::TimedOut | AskError::Broken | AskError::Busy | AskError::Failed(_)) => Err(LinkRefused::Full),
    }
}

fn list(mailboxes: &[MailboxKey]) -> Bytes {
    let mut list = BytesMut::with_capacity(mailboxes.len() * MAILBOX_BYTES);
    mailboxes.iter().for_each(|mailbox| list.extend_from_slice(&mailbox.0));
    list.freeze()
}
