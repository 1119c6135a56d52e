//! All vaults of this node: finds a vault's state, runs a rule on it, and sees to what comes out.

use std::collections::{HashMap, VecDeque};
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use parking_lot::{Mutex, RwLock};
use smallvec::SmallVec;
use tokio::sync::Semaphore;

use crate::cluster::Cluster;
use crate::domain::clock::Millis;
use crate::domain::ids::{RequestId, VaultId};
use crate::observe::metrics::Metrics;
use crate::runtime::supervisor::Supervisor;
use crate::runtime::time;
use crate::security::admission::Admission;
use crate::wire::dcp::envelope::RecordId;

use super::afar::Afar;
use super::limit::VaultLimit;
use super::pair::Lookup;
use super::pairing::{ClusterFacts, Pairing, Push};
use super::session_mode;
use super::state::{Bounds, Context, Effect, Usage, VaultState};

/// Parts of the maps, each with a lock of its own.
pub(super) const SHARDS: usize = 64;

/// Most vaults that a node remembers at once, connected or asked for.
pub const MAX_VAULTS: usize = 2_000_000;

/// Most answers that are passed to all other nodes at a time, in case one waits for them.
const MAX_STRAYS: usize = 256;

/// What the operator sets.
#[derive(Debug, Clone)]
pub struct VaultSettings {
    /// Requests a vault takes in a minute.
    pub rate: NonZeroU32,
    /// How long requests wait for a vault that has gone.
    pub grace: Duration,
    /// Most unanswered requests of one vault.
    pub max_pending: usize,
    /// Bytes of memory for requests and kept answers; unanswered ones may use half.
    pub records_bytes: usize,
    /// Whether vaults without a key are served.
    pub session_mode: bool,
}

/// The vault service of one node; clones share it.
#[derive(Clone)]
pub struct VaultService {
    pub(super) inner: Arc<Inner>,
}

pub(super) struct Inner {
    pub settings: VaultSettings,
    pub cluster: Cluster,
    pub admission: Arc<Admission>,
    pub metrics: Arc<Metrics>,
    pub pairing: Pairing,
    pub push: OnceLock<Push>,
    pub supervisor: Supervisor,
    bounds: Bounds,
    usage: Usage,
    vaults: Vec<RwLock<HashMap<VaultId, Arc<Cell>>>>,
    index: Vec<Mutex<HashMap<RequestId, SmallVec<[VaultId; 1]>>>>,
    pub kept: Mutex<VecDeque<Kept>>,
    pub polls: Mutex<HashMap<VaultId, Poller>>,
    pub sessions: Mutex<session_mode::Table>,
    pub afar: Afar,
    /// Room for answers that are being passed to all other nodes.
    pub strays: Arc<Semaphore>,
    sockets: AtomicU64,
    /// When the node began to leave service, in milliseconds since 1970; zero before.
    pub draining_since: AtomicU64,
}

/// One vault's state, and whether it has been taken out of the map.
struct Cell {
    state: Mutex<(VaultState, bool)>,
}

/// An answer that is kept, in the order of answering.
pub(super) struct Kept {
    pub vault: VaultId,
    pub request: RequestId,
    pub id: RecordId,
    pub expires: Millis,
}

/// A vault that fetches by polling.
pub(super) struct Poller {
    pub number: u64,
    pub until: Millis,
    pub last_given: Option<RequestId>,
}

impl VaultService {
    /// A service without vaults; [`VaultService::start`] begins its upkeep.
    #[must_use]
    pub fn new(
        settings: VaultSettings,
        cluster: Cluster,
        admission: Arc<Admission>,
        metrics: Arc<Metrics>,
        supervisor: Supervisor,
    ) -> Self {
        let bounds = Bounds {
            grace: settings.grace,
            max_pending: settings.max_pending,
            pending_bytes: settings.records_bytes / 2,
        };
        let records_bytes = settings.records_bytes;
        let facts = ClusterFacts { shared: cluster.shared.clone(), claims: cluster.claims.clone() };
        let inner = Arc::new_cyclic(|weak| Inner {
            push: OnceLock::new(),
            pairing: Pairing::new(Arc::new(facts), Arc::new(Lookup(weak.clone()))),
            settings,
            cluster,
            admission,
            metrics,
            supervisor,
            bounds,
            usage: Usage::default(),
            vaults: std::iter::repeat_with(RwLock::default).take(SHARDS).collect(),
            index: std::iter::repeat_with(Mutex::default).take(SHARDS).collect(),
            kept: Mutex::default(),
            polls: Mutex::default(),
            sessions: Mutex::default(),
            afar: Afar::new(records_bytes / 4),
            strays: Arc::new(Semaphore::new(MAX_STRAYS)),
            sockets: AtomicU64::new(1),
            draining_since: AtomicU64::new(0),
        });
        Self { inner }
    }

    /// A number for a new socket, unique on this node.
    pub(super) fn next_socket(&self) -> u64 {
        self.inner.sockets.fetch_add(1, Ordering::Relaxed)
    }

    /// Runs a rule on the state of `vault`, which is made if there is none, and sees to the effects.
    pub(super) fn with<R>(&self, vault: &str, rule: impl FnOnce(&mut VaultState, &mut Context<'_>) -> R) -> R {
        let mut rule = Some(rule);
        loop {
            let cell = self.cell(vault);
            let mut guard = cell.state.lock();
            let (state, removed) = &mut *guard;
            // Between finding the cell and locking it, upkeep may have taken it out of the map.
            if *removed {
                continue;
            }
            if let Some(rule) = rule.take() {
                let result = self.run(state, rule);
                drop(guard);
                self.make_room();
                return result;
            }
        }
    }

    /// As [`VaultService::with`], but only if something is known of the vault.
    pub(super) fn with_known<R>(
        &self,
        vault: &str,
        rule: impl FnOnce(&mut VaultState, &mut Context<'_>) -> R,
    ) -> Option<R> {
        let cell = self.shard(vault).read().get(vault).cloned()?;
        let mut guard = cell.state.lock();
        let (state, removed) = &mut *guard;
        (!*removed).then(|| self.run(state, rule))
    }

    /// Runs a rule on every vault's state, one after the other.
    pub(super) fn for_each(&self, mut rule: impl FnMut(&mut VaultState, &mut Context<'_>)) {
        (0..SHARDS).for_each(|part| self.for_each_in(part, &mut rule));
    }

    /// The same, of one of [`SHARDS`] parts.
    pub(super) fn for_each_in(&self, part: usize, mut rule: impl FnMut(&mut VaultState, &mut Context<'_>)) {
        let Some(shard) = self.inner.vaults.get(part) else { return };
        let cells: Vec<_> = shard.read().values().cloned().collect();
        for cell in cells {
            let mut guard = cell.state.lock();
            let (state, removed) = &mut *guard;
            if !*removed {
                self.run(state, &mut rule);
            }
        }
    }

    /// Forgets vaults of which nothing is left.
    pub(super) fn forget_idle(&self) {
        let now = time::now();
        for shard in &self.inner.vaults {
            shard.write().retain(|_, cell| {
                // One that is locked is in use.
                let Some(mut guard) = cell.state.try_lock() else { return true };
                guard.1 = guard.0.is_idle(now);
                !guard.1
            });
        }
    }

    /// The vaults that know a request of that name.
    pub(super) fn vaults_of(&self, request: &str) -> SmallVec<[VaultId; 1]> {
        self.index(request).lock().get(request).cloned().unwrap_or_default()
    }

    /// How many vaults are remembered.
    pub(super) fn tracked_vaults(&self) -> usize {
        self.inner.vaults.iter().map(|shard| shard.read().len()).sum()
    }

    /// Whether another vault can be remembered.
    pub(super) fn has_room_for_vaults(&self) -> bool {
        self.inner.vaults.iter().map(|shard| shard.read().len()).max().unwrap_or(0) < MAX_VAULTS / SHARDS
    }

    /// Whether this node is stopping.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.inner.draining_since.load(Ordering::Relaxed) != 0
    }

    pub(super) fn is_alone(&self) -> bool {
        self.inner.cluster.view.borrow().members.len() <= 1
    }

    fn run<R>(&self, state: &mut VaultState, rule: impl FnOnce(&mut VaultState, &mut Context<'_>) -> R) -> R {
        let mut effects = Vec::new();
        let result = self.apply(state, &mut effects, rule);
        // Under the lock, so that what is said of one vault is said in order. Nothing here waits.
        while !effects.is_empty() {
            for effect in std::mem::take(&mut effects) {
                self.see_to(effect, state, &mut effects);
            }
        }
        result
    }

    /// Calls `rule` with a context whose effects go to `effects`, which the caller sees to.
    pub(super) fn apply<R>(
        &self,
        state: &mut VaultState,
        effects: &mut Vec<Effect>,
        rule: impl FnOnce(&mut VaultState, &mut Context<'_>) -> R,
    ) -> R {
        let mut context = Context {
            now: time::now(),
            me: &self.inner.cluster.me,
            alone: self.is_alone(),
            peers: self.inner.cluster.afar.is_federated(),
            bounds: &self.inner.bounds,
            usage: &self.inner.usage,
            metrics: &self.inner.metrics,
            effects,
        };
        rule(state, &mut context)
    }

    /// Forgets the oldest kept answers while records use more memory than they may.
    pub(super) fn make_room(&self) {
        let used = self.inner.usage.bytes.load(Ordering::Relaxed);
        self.inner.metrics.vault.record_bytes.set(used as i64);
        while self.inner.usage.bytes.load(Ordering::Relaxed) > self.inner.settings.records_bytes {
            let Some(kept) = self.inner.kept.lock().pop_front() else { return };
            self.with_known(kept.vault.as_str(), |state, context| state.forget(&kept.request, kept.id, context));
        }
    }

    fn cell(&self, vault: &str) -> Arc<Cell> {
        let shard = self.shard(vault);
        if let Some(cell) = shard.read().get(vault) {
            return cell.clone();
        }
        let vault = VaultId::from(vault);
        let limit = Arc::new(VaultLimit::new(self.inner.settings.rate));
        let fresh = || Arc::new(Cell { state: Mutex::new((VaultState::new(vault.clone(), limit), false)) });
        shard.write().entry(vault.clone()).or_insert_with(fresh).clone()
    }

    fn shard(&self, vault: &str) -> &RwLock<HashMap<VaultId, Arc<Cell>>> {
        &self.inner.vaults[shard_of(vault)]
    }

    pub(super) fn index(&self, request: &str) -> &Mutex<HashMap<RequestId, SmallVec<[VaultId; 1]>>> {
        &self.inner.index[shard_of(request)]
    }
}

/// FNV-1a: spreads over the shards; the maps themselves hash with a secret.
fn shard_of(text: &str) -> usize {
    let hash = text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3));
    (hash % SHARDS as u64) as usize
}
