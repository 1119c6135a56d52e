//! What has to be done now and then: ending what is over, forgetting what is idle; and leaving service.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::domain::clock::Millis;
use crate::domain::principal::Kind;
use crate::runtime::time;

use crate::wire::dcp::frame;
use crate::wire::dcp::registration::RegistrationError;

use super::pairing::{Push, PushService};
use super::record::AgentSocket;
use super::service::VaultService;
use super::state::{NewRequest, VaultState};

/// How often requests are looked through for those whose time is over.
const TICK: Duration = Duration::from_secs(1);

/// Ticks between two looks for vaults of which nothing is left.
const IDLE_TICKS: u32 = 15;

/// How long a draining node takes new requests on an agent's socket that is never without one.
const BUSY_PATIENCE: Duration = Duration::from_secs(3);

/// How long a draining node leaves a vault's socket open that owes an answer.
const OWED_PATIENCE: Duration = Duration::from_secs(10);

impl VaultService {
    /// Begins the upkeep, until the node stops. Requests are announced to the vault's phones by way of `service`.
    ///
    /// # Errors
    /// As [`Push::start`].
    pub fn start(&self, service: Option<PushService>) -> Result<(), rustls::Error> {
        if let Some(service) = service {
            let push = Push::start(service, self.inner.pairing.clone(), &self.inner.metrics, &self.inner.supervisor)?;
            self.inner.push.get_or_init(|| push);
        }
        self.inner.cluster.services.vault.fill(Arc::new(self.clone()));
        self.inner.cluster.afar.vault.fill(Arc::new(self.clone()));
        let this = self.clone();
        self.inner.cluster.claims.on_rebound(Arc::new(move |principal, key| {
            if principal.kind == Kind::Mailbox {
                return;
            }
            let error = RegistrationError::KeyMismatch;
            let refusal = frame::error(error.code(), &error.to_string(), None, time::now());
            this.with_known(&principal.name, |state, context| state.rebound(key, &refusal, context));
            this.in_session_mode(|table, context| table.vaults.bound(&principal.name, context));
        }));
        let (this, stop) = (self.clone(), self.inner.supervisor.token());
        self.inner.supervisor.spawn("vault upkeep", async move {
            stop.run_until_cancelled(this.keep_up()).await;
            Ok::<(), Infallible>(())
        });
        Ok(())
    }

    async fn keep_up(&self) {
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        for ticks in 0u32.. {
            tick.tick().await;
            self.tidy();
            self.say_owed();
            self.count_callers();
            if ticks % IDLE_TICKS == 0 {
                self.forget_idle();
            }
        }
    }

    /// Ends requests whose time is over, answers that have been kept long enough, and vaults that stopped polling.
    fn tidy(&self) {
        let now = time::now();
        let mut vaults = 0;
        self.for_each(|state, context| {
            vaults += i64::from(state.has_socket());
            state.expire(context);
        });
        self.inner.metrics.vault.vaults.set(vaults);
        loop {
            let kept = {
                let mut queue = self.inner.kept.lock();
                match queue.front() {
                    Some(oldest) if oldest.expires <= now => queue.pop_front(),
                    _ => None,
                }
            };
            let Some(kept) = kept else { break };
            self.with_known(kept.vault.as_str(), |state, context| state.forget(&kept.request, kept.id, context));
        }
        self.end_polling(now);
    }

    fn end_polling(&self, now: Millis) {
        let mut ended = Vec::new();
        self.inner.polls.lock().retain(|vault, poller| {
            let stays = poller.until > now;
            if !stays {
                ended.push((vault.clone(), poller.number));
            }
            stays
        });
        for (vault, number) in ended {
            self.with_known(vault.as_str(), |state, context| state.session_closed(number, false, context));
        }
    }

    /// Takes a request into the state of its vault.
    pub(super) fn submit(&self, vault: &str, new: NewRequest) {
        if self.with_known(vault, |_, _| ()).is_none() && !self.has_room_for_vaults() {
            let mut waiter = new.waiter;
            return waiter.refuse(&new.request, super::refusal::Refusal::Full, time::now());
        }
        self.with(vault, |state, context| state.submit(new, context));
    }

    /// Whether a draining node closes a vault's socket now, which owes an answer or does not.
    pub(super) fn may_close(&self, owes: bool) -> bool {
        let since = self.inner.draining_since.load(Ordering::Relaxed);
        if since == 0 {
            return false;
        }
        if !self.has_sibling() {
            // Nobody else can carry the answer: the socket stays as long as it owes one.
            return !owes;
        }
        !owes || time::now().since(Millis(since)) > OWED_PATIENCE
    }

    /// Whether this node leaves service while another can take its vaults.
    pub(super) fn sends_vaults_away(&self) -> bool {
        self.is_draining() && self.has_sibling()
    }

    /// Whether agents' sockets take no new requests any more, because they would never be without one.
    pub(super) fn is_closed_to_agents(&self) -> bool {
        let since = self.inner.draining_since.load(Ordering::Relaxed);
        since != 0 && time::now().since(Millis(since)) > BUSY_PATIENCE
    }

    /// Leaves service: sockets without unanswered requests are closed within a second or two (1012), the others
    /// when they are answered.
    pub fn drain(&self) {
        self.inner.draining_since.store(time::now().0.max(1), Ordering::Relaxed);
    }

    /// Comes back into service: sockets that are open stay, and get what waited for them.
    pub fn undrain(&self) {
        self.inner.draining_since.store(0, Ordering::Relaxed);
        self.for_each(VaultState::stay);
    }

    /// Whether some agent of this node still waits on its socket.
    #[must_use]
    pub fn is_awaited(&self) -> bool {
        let mut awaited = false;
        self.for_each(|state, _| awaited |= state.is_awaited());
        awaited
    }

    /// Hands what agents may still poll for to another node, if there is one.
    pub fn hand_over(&self) {
        let view = self.inner.cluster.nodes();
        let sibling = view.others().find(|member| !member.facts.draining).or_else(|| view.others().next());
        if let Some(sibling) = sibling {
            self.for_each(|state, context| state.hand_over(&sibling.run, context));
        }
    }

    /// Tells every agent that still waits that this node stops.
    pub fn abandon(&self) {
        self.for_each(|state, context| state.abandon(context));
    }

    fn has_sibling(&self) -> bool {
        self.inner.cluster.nodes().others().any(|member| !member.facts.draining)
    }

    pub(super) fn agent_opened(&self, socket: &Arc<AgentSocket>) {
        if self.is_draining() {
            socket.outbox.close(1012, "service restart");
        }
    }
}
