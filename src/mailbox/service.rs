//! The mailbox service of one node: its parts, its sessions, and how they are told of something new.

use std::future::poll_fn;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use parking_lot::Mutex;

use super::census::LastCensus;
use super::channel::Channel;
use super::flow::HERE;
use super::labels::Receipt;
use super::lane::{Done, Working};
use super::offload::{Offload, OffloadSettings};
use super::peers::Peers;
use super::rates::Rates;
use super::registry::Registry;
use super::session::{Identity, Over, Session};
use crate::cluster::Cluster;
use crate::domain::clock::Millis;
use crate::domain::mailbox::{MailboxKey, Place, Quota};
use crate::observe::log_gate::LogGate;
use crate::observe::metrics::Metrics;
use crate::runtime::supervisor::Supervisor;
use crate::runtime::time;
use crate::security::admission::Admission;
use crate::security::noise::Responder;
use crate::store::{Mailboxes, Moment, Records, StoreError};
use crate::wire::vauchi::outgoing::{Outgoing, RelayPayload};
use crate::wire::vauchi::payload::Status;

/// What the operator sets.
#[derive(Debug, Clone)]
pub struct MailboxSettings {
    /// The largest frame that is looked at, prefix included, in bytes.
    pub max_message_size: usize,
    /// Whether clients must use Noise.
    pub require_noise: bool,
    /// How long a client may take to say who it is.
    pub handshake_timeout: Duration,
    /// How long nothing may be said on a connection.
    pub idle_timeout: Duration,
    /// Messages of one client in a minute.
    pub rate: NonZeroU32,
    /// Operations on recovery proofs of one client in a minute.
    pub recovery_rate: NonZeroU32,
    /// Clients whose rates are remembered one by one.
    pub tracked_clients: usize,
    /// How much may be stored.
    pub quota: Quota,
    /// How long a blob waits.
    pub ttl: Duration,
    /// How often what has expired is deleted.
    pub cleanup_interval: Duration,
    /// How long a message that is done with is known.
    pub dedup_memory: Duration,
    /// When blobs move to other clusters; `None`: they do not, and none are taken in.
    pub offload: Option<OffloadSettings>,
}

/// The parts that the service is made of.
pub struct MailboxParts {
    /// What the operator sets.
    pub settings: MailboxSettings,
    /// The blobs.
    pub store: Arc<dyn Mailboxes>,
    /// Which devices a client has had messages for.
    pub records: Arc<dyn Records>,
    /// Answers those who begin with Noise.
    pub noise: Responder,
    /// Claims and recovery proofs.
    pub cluster: Cluster,
    /// The limits at the door.
    pub admission: Arc<Admission>,
    /// Where everything is counted.
    pub metrics: Arc<Metrics>,
    /// Runs the work of connections.
    pub supervisor: Supervisor,
}

/// The mailbox service of one node; clones share it.
#[derive(Clone)]
pub struct MailboxService {
    pub(super) inner: Arc<Inner>,
}

pub(super) struct Inner {
    pub settings: MailboxSettings,
    pub store: Arc<dyn Mailboxes>,
    pub records: Arc<dyn Records>,
    pub noise: Responder,
    pub cluster: Cluster,
    pub metrics: Arc<Metrics>,
    pub supervisor: Supervisor,
    pub rates: Rates,
    pub sessions: Registry,
    pub peers: Peers,
    pub census: LastCensus,
    pub offload: Offload,
    next: AtomicU64,
    draining: AtomicBool,
    log: Mutex<LogGate>,
}

impl MailboxService {
    /// A service without sessions; [`MailboxService::start`] begins its upkeep.
    #[must_use]
    pub fn new(parts: MailboxParts) -> Self {
        let MailboxParts { settings, store, records, noise, cluster, admission, metrics, supervisor } = parts;
        let rates =
            Rates::new(settings.rate, settings.recovery_rate, settings.tracked_clients, settings.ttl, admission);
        let inner = Inner {
            settings,
            store,
            records,
            noise,
            cluster,
            metrics,
            supervisor,
            rates,
            sessions: Registry::new(),
            peers: Peers::new(),
            census: LastCensus::default(),
            offload: Offload::default(),
            next: AtomicU64::new(1),
            draining: AtomicBool::new(false),
            log: Mutex::new(LogGate::once_a_minute()),
        };
        Self { inner: Arc::new(inner) }
    }

    /// Begins the upkeep, until the node stops, and follows who owns which name.
    pub async fn start(&self) {
        self.count_blobs().await;
        self.keep_up();
        self.meet_peers();
        self.offload_forever();
        let this = self.clone();
        self.inner.cluster.claims.on_rebound(Arc::new(move |principal, key| this.rebound(principal, key)));
    }

    /// The node leaves service: connections are closed once what was accepted on them is answered.
    pub fn drain(&self) {
        self.inner.draining.store(true, Ordering::Relaxed);
    }

    /// The node comes back into service.
    pub fn undrain(&self) {
        self.inner.draining.store(false, Ordering::Relaxed);
    }

    /// Whether the node leaves service.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.inner.draining.load(Ordering::Relaxed)
    }

    /// How many blobs wait on this node.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn blobs(&self) -> Result<u64, StoreError> {
        Ok(self.inner.store.usage().await?.blobs)
    }

    /// The moments that a call of the store goes by, now.
    pub(super) fn moment(&self) -> Moment {
        let now = time::now();
        let ttl = u64::try_from(self.inner.settings.ttl.as_millis()).unwrap_or(u64::MAX);
        Moment { now, horizon: Millis(now.0.saturating_sub(ttl)) }
    }

    /// Opens a session: it is greeted, and found by those who have something for it. What it may read is decided
    /// afterwards.
    pub(super) fn open(&self, who: Identity, channel: Channel) -> Arc<Session> {
        let session = Arc::new(Session::new(self.inner.next.fetch_add(1, Ordering::Relaxed), who, channel));
        let metrics = &self.inner.metrics.mailbox;
        metrics.sessions_opened.inc();
        metrics.sessions.inc();
        let greeting = RelayPayload::HandshakeAck {
            server_version: env!("CARGO_PKG_VERSION"),
            noise: session.channel.is_sealed(),
        };
        self.send(&session, frame(greeting));
        {
            let mut flow = session.flow.lock();
            flow.waits_here(Over::Blobs);
            flow.waits_here(Over::Devices);
        }
        self.inner.sessions.enter(&session, |mailbox| self.entered(mailbox));
        session
    }

    /// The connection of a session has ended.
    pub(super) fn close(&self, session: &Session) {
        self.inner.sessions.leave(session, |mailbox| self.left(mailbox));
        self.inner.metrics.mailbox.sessions.dec();
    }

    /// Takes a right away from a session because another key owns the name.
    pub(super) fn deny(&self, session: &Session, over: Over) {
        if session.deny(over) && over == Over::Blobs {
            self.inner.metrics.mailbox.send_only.inc();
        }
    }

    /// Grants a right to a session, unless it was denied meanwhile.
    pub(super) fn grant(&self, session: &Arc<Session>, over: Over) {
        if session.grant(over) {
            self.wake(session);
        }
    }

    /// Whether another key owns the name of a session cannot be found out now.
    pub(super) fn doubt(&self, session: &Session, over: Over) {
        if session.doubt(over) && over == Over::Blobs {
            self.inner.metrics.mailbox.doubted.inc();
        }
    }

    /// Queues a frame that its client waits for.
    pub(super) fn send(&self, session: &Session, frame: Bytes) {
        if session.send(frame) {
            self.inner.metrics.mailbox.sent.inc();
        }
    }

    /// Does `work` for a session, in its turn. `bytes` is the length of the frame that asked for it.
    pub(super) fn work(
        &self,
        session: &Arc<Session>,
        alone: bool,
        bytes: usize,
        work: impl Future<Output = Done> + Send + 'static,
    ) {
        session.lane.push(alone, bytes, work);
    }

    /// Goes on with the work of a session, and answers what is over. Ready once nothing is left to do.
    pub(super) fn proceed(&self, session: &Session, working: &mut Working, context: &mut Context<'_>) -> Poll<()> {
        working.proceed(&session.lane, context, |done| {
            if let Some(answer) = done.answer {
                self.send(session, answer);
            }
            done.arrived.into_iter().for_each(|(mailbox, place)| self.arrived(&mailbox, place, false));
        })
    }

    /// Does something beside, until the node stops. It must be such that nothing is lost if it is broken off anywhere.
    pub(super) fn until_stopped(&self, work: impl Future<Output = ()> + Send + 'static) {
        let stop = self.inner.supervisor.token();
        self.inner.supervisor.spawn_quiet(async move {
            stop.run_until_cancelled(work).await;
        });
    }

    /// Finishes the work of a session whose connection has gone.
    pub(super) fn finish(&self, session: &Arc<Session>, mut working: Working) {
        if session.lane.is_idle() {
            return;
        }
        let (this, session) = (self.clone(), session.clone());
        self.inner.supervisor.spawn_quiet(async move {
            poll_fn(|context| this.proceed(&session, &mut working, context)).await;
        });
    }

    /// Tells every session of a mailbox, on whichever node, that something has come at that place; if it is late, from
    /// another store, so that it may stand behind what was sent already.
    pub(super) fn arrived(&self, mailbox: &MailboxKey, place: Place, late: bool) {
        for session in self.inner.sessions.of(mailbox) {
            {
                let mut flow = session.flow.lock();
                if session.device == Some(*mailbox) {
                    flow.waits_here(Over::Devices);
                    flow.came(Over::Devices, HERE, place);
                } else {
                    flow.waits_here(Over::Blobs);
                    if late {
                        flow.came(Over::Blobs, HERE, place);
                    }
                }
            }
            self.wake(&session);
        }
        self.wake_peers(mailbox, place, late);
    }

    /// Tells the senders of blobs what became of them, each under its own name for it, if it is connected to any node.
    pub(super) fn tell_senders(&self, receipts: &[Option<Bytes>], status: Status) {
        for Receipt { routing_id, message_id } in receipts.iter().flatten().filter_map(Receipt::decode) {
            let here = self.tell_here(&routing_id, &message_id, status);
            if here + self.notify_peers(&routing_id, &message_id, status) == 0 {
                self.inner.metrics.mailbox.notices_dropped.inc();
            }
        }
    }

    /// Tells the sender of a blob what became of it, if it is connected here; how many sessions that are. Whoever is
    /// there under its name and may not read its mailbox is not told.
    pub(super) fn tell_here(&self, routing_id: &str, message_id: &str, status: Status) -> usize {
        let sessions = self.inner.sessions.of(&MailboxKey::blobs(routing_id));
        if sessions.is_empty() {
            return 0;
        }
        let notice = acknowledgment(message_id, status);
        let told = sessions.iter().filter(|session| session.tell(notice.clone())).count();
        self.inner.metrics.mailbox.sent.inc_by(told as u64);
        told
    }

    /// Logs that the store failed, once a minute for each kind of work.
    pub(super) fn store_failed(&self, work: &'static str, error: &StoreError) {
        if let Some(left_out) = self.inner.log.lock().pass(work, Instant::now()) {
            tracing::error!(%error, work, left_out, "the store of mailboxes failed");
        }
    }
}

/// A message with an id of its own, as a frame.
pub(super) fn frame(payload: RelayPayload<'_>) -> Bytes {
    frame_as(&fresh_id(), payload)
}

/// A message with this id, as a frame.
pub(super) fn frame_as(message_id: &str, payload: RelayPayload<'_>) -> Bytes {
    Outgoing { message_id, now: time::now(), payload }.encode()
}

/// What became of a message, as a frame.
pub(super) fn acknowledgment(message_id: &str, status: Status) -> Bytes {
    frame(RelayPayload::Acknowledgment { message_id, status })
}

/// A random UUID.
pub(super) fn fresh_id() -> String {
    uuid::Builder::from_random_bytes(rand::random()).into_uuid().as_hyphenated().to_string()
}
