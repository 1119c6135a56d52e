//! Looking for a vault in other clusters, and saying whether this one has it.

use std::time::Instant;

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use smallvec::SmallVec;

use crate::cluster::convert;
use crate::cluster::ends::End;
use crate::cluster::links::AskError;
use crate::cluster::presence::Located;
use crate::cluster::proto::{self, Locate, frame::Body, reply};
use crate::cluster::regions::{Caller, PeerName, Word};
use crate::domain::ids::{NodeRun, VaultId};
use crate::domain::principal::{Kind, Principal, Standing};
use crate::observe::metrics::{PeerLabel, count};
use crate::runtime::time;
use crate::vault::service::VaultService;

impl VaultService {
    /// A peer that says that a key owns a name, and the key, as far as those that can be asked say. Of a name that is
    /// bound in this cluster none is asked: this cluster has judged, and no other can take it away.
    ///
    /// Nothing shows that the peer tells the truth: a key and its signature of the name are made in a moment, by
    /// whoever is asked for it. It is believed because who is refused wrongly can be let in once the peer is removed,
    /// and who is let in wrongly stays.
    ///
    /// # Errors
    /// [`AskError::Busy`] if a peer has too much to do to say.
    pub(in crate::vault) async fn owner_afar(
        &self,
        principal: &Principal,
    ) -> Result<Option<(PeerName, Bytes)>, AskError> {
        let cluster = &self.inner.cluster;
        if !cluster.afar.is_federated() || cluster.claims.is_owned(principal).await == Ok(true) {
            return Ok(None);
        }
        cluster.afar.owner(principal).await
    }

    /// A vault is refused because a peer says that another key owns its name: whoever runs this cluster can tell which
    /// peer says so of how many.
    pub(in crate::vault) fn is_refused_by(&self, peer: &PeerName) {
        self.inner.metrics.federation.names_refused.get_or_create(&PeerLabel { peer: peer.to_string() }).inc();
        if let Some(left_out) = self.inner.afar.log.lock().pass("name refused", Instant::now()) {
            tracing::warn!(
                %peer, left_out,
                "a vault was refused because a peer says that another key owns its name; remove the peer if it is not to be believed"
            );
        }
    }

    /// Asks the peers for a vault, and goes on with its requests.
    pub(in crate::vault) async fn look_afar(self, vault: VaultId) {
        let found = self.ask_peers(&vault, &[]).await;
        let found = found.map(|(standing, peer)| (End::Peer(peer).run(), standing));
        self.with_known(vault.as_str(), |state, context| state.found_afar(found, context));
    }

    /// Asks the peers other than `asked` for a vault, whose requests those have not answered for a while.
    pub(in crate::vault) async fn look_further(self, vault: VaultId, asked: SmallVec<[NodeRun; 1]>) {
        let found = self.ask_peers(&vault, &asked).await.filter(|(standing, _)| *standing > Standing::Waiting);
        if let Some((_, peer)) = found {
            let run = End::Peer(peer).run();
            self.with_known(vault.as_str(), |state, context| state.found_further(&run, context));
        }
    }

    /// A peer has taken a request and not answered it.
    pub(in crate::vault) fn has_lapsed(&self, peer: &NodeRun) {
        if let Some(End::Peer(peer)) = End::of(peer) {
            self.inner.metrics.federation.lapsed.get_or_create(&PeerLabel { peer: peer.to_string() }).inc();
            self.inner.afar.doubts.lock().lapses(&peer, time::now());
        }
    }

    /// The peer that has the vault most firmly, if one says in time that it has; one in doubt if no other has it.
    async fn ask_peers(&self, vault: &VaultId, but: &[NodeRun]) -> Option<(Standing, PeerName)> {
        let (afar, lookups) = (&self.inner.afar, &self.inner.metrics.federation.lookups);
        let out = self.inner.cluster.afar.out.get()?;
        let peers: Vec<_> = {
            let (now, absences) = (time::now(), afar.absences.lock());
            let others = out.serving_peers().into_iter().filter(|peer| !but.contains(&End::Peer(peer.clone()).run()));
            others.filter(|peer| !absences.knows(vault, peer, now)).collect()
        };
        if peers.is_empty() {
            count(lookups, "known");
            return None;
        }
        let ask = |peer: PeerName| async move {
            let (whom, places) = (Principal::vault(vault.as_str()), afar.questions_to(&peer));
            (self.inner.cluster.afar.word_of(&peer, &whom, &places).await, peer)
        };
        let mut asked: FuturesUnordered<_> = peers.into_iter().map(ask).collect();
        let (mut best, mut busy) = (None, false);
        while let Some((word, peer)) = asked.next().await {
            match word {
                Word::Has(standing) => {
                    let is_sure = !afar.doubts.lock().about(&peer, time::now());
                    best = best.max(Some((standing > Standing::Waiting, is_sure, standing, peer)));
                }
                // It is asked for the vault again the next time.
                Word::Later => busy = true,
                Word::HasNot => self.is_absent_at(vault, &peer),
                Word::Nothing => {
                    self.inner.metrics.federation.silent.inc();
                    self.is_absent_at(vault, &peer);
                }
            }
            if matches!(best, Some((_, true, Standing::Live, _))) {
                break;
            }
        }
        let outcome = match (&best, busy) {
            (Some(_), _) => "found",
            (None, true) => "busy",
            (None, false) => "absent",
        };
        count(lookups, outcome);
        best.map(|(_, _, standing, peer)| (standing, peer))
    }

    /// The peer is not asked for the vault for a while.
    pub(super) fn is_absent_at(&self, vault: &VaultId, peer: &PeerName) {
        if !self.inner.afar.absences.lock().note(vault, peer, time::now()) {
            self.inner.metrics.drop_one("afar", "absences");
        }
    }

    /// A caller asks for a vault.
    pub(super) fn answer_locate(&self, caller: Caller, ask: u64, locate: &Locate) {
        self.inner.metrics.federation.lookups_answered.inc();
        let principal = convert::principal_from(locate.principal.as_ref()).filter(|p| p.kind == Kind::Vault);
        let this = self.clone();
        self.beside(async move {
            let body = match principal {
                Some(principal) => this.located_for(caller, &principal).await,
                None => reply::Body::Failed("no vault".to_owned()),
            };
            if let Some(out) = this.inner.cluster.afar.out.get() {
                out.reply(caller, ask, body);
            }
        });
    }

    async fn located_for(&self, caller: Caller, principal: &Principal) -> reply::Body {
        let presence = &self.inner.cluster.presence;
        let standing = match presence.held(principal) {
            Some((_, standing)) => Some(standing),
            None => match presence.locate(principal).await {
                Located::At { standing, .. } => Some(standing),
                // Requests wait for it here.
                Located::Lost(_) => Some(Standing::Waiting),
                Located::Absent => None,
                Located::Unreachable => return reply::Body::Failed("a node is silent".to_owned()),
            },
        };
        if standing.is_none() {
            let vault = VaultId::from(&*principal.name);
            self.inner.afar.callers.lock().asked_in_vain(caller, &vault, time::now());
        }
        let standing = standing.map_or(proto::Standing::Unspecified, convert::standing).into();
        reply::Body::Located(proto::Located { standing, ..proto::Located::default() })
    }

    /// Tells callers that a vault has come which they asked for in vain.
    pub(super) fn tell_askers(&self, vault: &VaultId) {
        let askers = self.inner.afar.callers.lock().askers_of(vault);
        for caller in askers {
            let announce = proto::Announce {
                principal: Some(convert::principal(&Principal::vault(vault.as_str()))),
                ..proto::Announce::default()
            };
            self.tell_caller(caller, Body::Announce(announce)).unwrap_or_default();
        }
    }
}
