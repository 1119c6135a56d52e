//! Sees to what a vault's rules ask for: frames to other nodes, lookups, timers, and the indexes of this node.

use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;

use crate::cluster::ends::End;
use crate::cluster::presence::Located;
use crate::cluster::proto::{Find, frame::Body, reply};
use crate::domain::ids::{RequestId, VaultId};
use crate::domain::principal::{Principal, Standing};
use crate::wire::dcp::envelope::RecordId;

use super::frames;
use super::service::{Kept, VaultService};
use super::state::{Effect, VaultState, Whereabouts};

/// How long the other nodes may take to say whether they have an answer.
const FIND_PATIENCE: Duration = Duration::from_millis(500);

impl VaultService {
    pub(super) fn see_to(&self, effect: Effect, state: &mut VaultState, more: &mut Vec<Effect>) {
        let vault = state.vault().clone();
        match effect {
            Effect::Send(node, body) => {
                let sent = match End::of(&node) {
                    None => self.inner.cluster.links.try_send(&node, body),
                    Some(end) => self.send_afar(&end, body),
                };
                if let Err(unsent) = sent {
                    self.apply(state, more, |state, context| state.unsent(&node, &unsent, context));
                }
            }
            Effect::Locate { anew } => self.beside(self.clone().locate(vault, anew)),
            Effect::LookAfar => self.beside(self.clone().look_afar(vault)),
            Effect::LookFurther(asked) => self.beside(self.clone().look_further(vault, asked)),
            Effect::Lapsed(peer) => self.has_lapsed(&peer),
            Effect::Find(request, id) => self.beside(self.clone().find_answer(vault, request, id)),
            Effect::Wake(after) => {
                let this = self.clone();
                self.beside(async move {
                    tokio::time::sleep(after).await;
                    this.with_known(vault.as_str(), VaultState::wake);
                });
            }
            Effect::Hold(epoch, standing) => {
                self.inner.cluster.presence.hold(&Principal::vault(vault.as_str()), epoch, standing);
            }
            Effect::Release(epoch) => self.inner.cluster.presence.release(&Principal::vault(vault.as_str()), epoch),
            Effect::Index(request) => {
                let mut index = self.index(request.as_str()).lock();
                let vaults = index.entry(request).or_default();
                if !vaults.contains(&vault) {
                    vaults.push(vault);
                }
            }
            Effect::Unindex(request) => {
                let mut index = self.index(request.as_str()).lock();
                if let Some(vaults) = index.get_mut(&request) {
                    vaults.retain(|known| *known != vault);
                    if vaults.is_empty() {
                        index.remove(&request);
                    }
                }
            }
            Effect::Push(request) => {
                if let Some(push) = self.inner.push.get() {
                    push.request_accepted(&vault, request.as_str());
                }
            }
            Effect::Keep(request, id, expires) => {
                self.inner.kept.lock().push_back(Kept { vault, request, id, expires });
            }
        }
    }

    /// Runs work beside the caller until the node stops.
    pub(super) fn beside(&self, work: impl Future<Output = ()> + Send + 'static) {
        let stop = self.inner.supervisor.token();
        self.inner.supervisor.spawn_quiet(async move {
            stop.run_until_cancelled(work).await;
        });
    }

    async fn locate(self, vault: VaultId, anew: bool) {
        let (presence, principal) = (&self.inner.cluster.presence, Principal::vault(vault.as_str()));
        let located = match anew {
            true => presence.locate_anew(&principal).await,
            false => presence.locate(&principal).await,
        };
        self.with_known(vault.as_str(), |state, context| {
            let whereabouts = match located {
                // Two nodes that both only wait for the vault must not send requests to each other.
                Located::At { standing: Standing::Waiting, .. } if state.is_waiting() => Whereabouts::Absent,
                Located::At { run, epoch, standing } => Whereabouts::At(run, standing, epoch),
                Located::Lost(wait) => Whereabouts::Lost(wait),
                Located::Absent => Whereabouts::Absent,
                Located::Unreachable => Whereabouts::Unreachable,
            };
            state.located(whereabouts, context);
        });
    }

    /// Asks every node for an answer to a request; whoever has one sends it before it replies.
    async fn find_answer(self, vault: VaultId, request: RequestId, id: RecordId) {
        let find =
            Find { vault_id: vault.to_string(), request_id: request.to_string(), record_id: frames::id_bits(id) };
        self.ask_all(&Body::Find(find), FIND_PATIENCE, |_, _| {}).await;
        self.with_known(vault.as_str(), |state, context| state.not_found(&request, id, context));
    }

    /// Waits until every other node has read what was sent to it before, `patience` at most.
    pub async fn settle_links(&self, patience: Duration) {
        // A question is answered behind everything that was sent before it.
        self.ask_all(&Body::Find(Find::default()), patience, |_, _| {}).await;
    }

    /// Asks every other live node and hands each answer on as it comes. True if all have answered.
    pub(super) async fn ask_all(
        &self,
        body: &Body,
        patience: Duration,
        mut heard: impl FnMut(&crate::domain::ids::NodeRun, reply::Body),
    ) -> bool {
        let nodes: Vec<_> = self.inner.cluster.nodes().others().map(|member| member.run.clone()).collect();
        let links = &self.inner.cluster.links;
        let mut asked: FuturesUnordered<_> =
            nodes.iter().map(|node| async move { (node, links.ask(node, body.clone(), patience).await) }).collect();
        let mut complete = true;
        while let Some((node, answer)) = asked.next().await {
            match answer {
                Ok(answer) => heard(node, answer),
                Err(_) => complete = false,
            }
        }
        complete
    }
}
