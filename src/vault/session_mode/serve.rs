//! The node's part of session mode: carries out what the rules ask for, and finds vaults.

use std::collections::VecDeque;
use std::time::Duration;

use crate::cluster::presence::Located;
use crate::domain::clock::Epoch;
use crate::domain::ids::{NodeRun, VaultId};
use crate::domain::limits::MAX_ID_BYTES;
use crate::domain::principal::{Principal, Standing};
use crate::runtime::time;
use crate::security::address::AddressKey;
use crate::vault::service::VaultService;
use crate::wire::dcp::session::SessionId;

use super::refusal::Refusal;
use super::table::{Context, Effect, Table};
use super::words::Word;

/// How long it is tried to hear from every node whether a key owns a name: until a dead one has left the view.
const OWNER_PATIENCE: Duration = Duration::from_secs(4);

/// Pause between two tries.
const OWNER_PAUSE: Duration = Duration::from_millis(250);

impl VaultService {
    /// Runs a rule on the sessions of this node, and carries out what comes of it. Nothing here waits.
    pub(in crate::vault) fn in_session_mode<R>(&self, rule: impl FnOnce(&mut Table, &mut Context<'_>) -> R) -> R {
        let mut effects = VecDeque::new();
        let mut context = Context { now: time::now(), metrics: &self.inner.metrics, effects: &mut effects };
        // What is said of one session is said in order: the lock is held until all of it is.
        let mut table = self.inner.sessions.lock();
        let result = rule(&mut table, &mut context);
        while let Some(effect) = context.effects.pop_front() {
            self.carry_out(effect, &mut table, &mut context);
        }
        result
    }

    fn carry_out(&self, effect: Effect, table: &mut Table, context: &mut Context<'_>) {
        let cluster = &self.inner.cluster;
        match effect {
            Effect::Tell(node, word) if node == cluster.me => table.hear(&node, word, context),
            Effect::Tell(node, word) => {
                if let Err(body) = cluster.links.try_send(&node, word.into())
                    && let Some(word) = Word::read(*body)
                {
                    table.unsent(node, word, context);
                }
            }
            Effect::Hold(vault, epoch) => {
                cluster.presence.hold(&Principal::session(vault.as_str()), epoch, Standing::Live);
            }
            Effect::Release(vault, epoch) => cluster.presence.release(&Principal::session(vault.as_str()), epoch),
            Effect::Look { session, vault, anew } => self.beside(self.clone().look(session, vault, anew)),
        }
    }

    async fn look(self, session: SessionId, vault: VaultId, anew: bool) {
        let (owned, found) = tokio::join!(self.is_owned(&vault), self.find_plain_vault(&vault, anew));
        let found = match owned {
            Some(true) => Err(Refusal::HasKey),
            Some(false) => found,
            None => Err(Refusal::Unavailable),
        };
        self.in_session_mode(|table, context| table.agents.found(session, found, context));
    }

    /// Where the vault's newest plain registration is.
    async fn find_plain_vault(&self, vault: &VaultId, anew: bool) -> Result<NodeRun, Refusal> {
        let (presence, principal) = (&self.inner.cluster.presence, Principal::session(vault.as_str()));
        let elsewhere = match anew {
            true => presence.locate_anew(&principal).await,
            false => presence.locate(&principal).await,
        };
        let here = presence.held(&principal).map(|(epoch, _)| (epoch, self.inner.cluster.me.clone()));
        match (elsewhere, here) {
            (Located::At { run, epoch, .. }, here) => Ok(here.filter(|here| here.0 > epoch).map_or(run, |here| here.1)),
            (_, Some((_, me))) => Ok(me),
            (Located::Unreachable, None) => Err(Refusal::Unavailable),
            (Located::Absent | Located::Lost(_), None) => Err(Refusal::NotConnected(vault.clone())),
        }
    }

    /// Whether a client at that address may register as `vault`, or pair with it. Charged to the address.
    pub(super) fn may_name(&self, vault: &str, address: AddressKey) -> Result<(), Refusal> {
        if !self.inner.settings.session_mode {
            return Err(Refusal::Off);
        }
        if vault.len() > MAX_ID_BYTES {
            return Err(Refusal::IdTooLong);
        }
        self.inner.admission.request(address).map_err(|limited| {
            self.inner.metrics.vault.limited("address");
            Refusal::AddressLimit(limited.retry_after)
        })
    }

    /// Whether a key owns the vault's name; nothing if that could not be learnt in time.
    async fn is_owned(&self, vault: &VaultId) -> Option<bool> {
        let principal = Principal::vault(vault.as_str());
        let asking = async {
            loop {
                match self.inner.cluster.claims.is_owned(&principal).await {
                    Ok(true) => return true,
                    Ok(false) => {
                        if let Ok(owner) = self.owner_afar(&principal).await {
                            return owner.is_some();
                        }
                    }
                    Err(_) => {}
                }
                tokio::time::sleep(OWNER_PAUSE).await;
            }
        };
        tokio::time::timeout(OWNER_PATIENCE, asking).await.ok()
    }

    /// An epoch for a new plain registration of `vault`, newer than any known, unless a key owns the name.
    pub(super) async fn plain_epoch(&self, vault: &VaultId) -> Result<Epoch, Refusal> {
        let (cluster, principal) = (&self.inner.cluster, Principal::session(vault.as_str()));
        let (owned, located) = tokio::join!(self.is_owned(vault), cluster.presence.locate(&principal));
        match owned {
            None => Err(Refusal::Unavailable),
            Some(true) => Err(Refusal::HasKey),
            Some(false) => {
                let elsewhere = if let Located::At { epoch, .. } = located { epoch } else { Epoch::default() };
                Ok(cluster.claims.next_epoch(elsewhere.max(cluster.presence.newest_epoch(&principal))))
            }
        }
    }

    /// Says again what other nodes could not be told because their links were full.
    pub(in crate::vault) fn say_owed(&self) {
        let view = self.inner.cluster.nodes();
        self.in_session_mode(|table, context| table.say_owed(|node| view.is_live(node), context));
    }
}
