//! The nodes of one cluster: who is alive, which node holds which principal, who owns which name, and the links
//! between the nodes.

pub mod absences;
pub mod claims;
pub mod convert;
pub mod cut;
mod dispatch;
pub mod ends;
pub mod facts;
pub mod gossip;
pub mod links;
pub mod membership;
pub mod presence;
pub mod proto;
pub mod regions;
pub mod shared;
pub mod shares;
pub mod view;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use crate::domain::ids::{ClusterId, NodeRun};
use crate::observe::metrics::Metrics;
use crate::runtime::supervisor::Supervisor;
use crate::security::tls::ClusterTls;
use crate::store::Records;

use claims::Claims;
use cut::Cut;
pub use dispatch::{Frames, Services};
use links::{LinkSettings, Links};
use presence::Presence;
use regions::Afar;
use shared::Shared;
use view::View;

/// The version of what nodes say to one another. A node leaves those of another version alone.
pub const PROTOCOL: u32 = 1;

/// How often nodes that missed something are told again.
const CATCH_UP: Duration = Duration::from_secs(1);

/// What a node's part in its cluster needs.
pub struct ClusterSettings {
    /// This run.
    pub me: NodeRun,
    /// The cluster's name.
    pub cluster: ClusterId,
    /// Mutual TLS between nodes; without it, plain text, for loopback only.
    pub tls: Option<ClusterTls>,
    /// How long requests wait for a principal whose node has died.
    pub grace: Duration,
    /// Addresses not to be spoken to.
    pub cut: Cut,
}

/// A node's part in its cluster; clones share it.
#[derive(Clone)]
pub struct Cluster {
    /// This run.
    pub me: NodeRun,
    /// The live nodes.
    pub view: watch::Receiver<Arc<View>>,
    /// Links to them.
    pub links: Links,
    /// Which node holds which principal.
    pub presence: Presence,
    /// Which key owns which name.
    pub claims: Claims,
    /// Small durable facts.
    pub shared: Shared,
    /// Who is told of the frames that are not the cluster's own.
    pub services: Arc<Services>,
    /// Other clusters.
    pub afar: Arc<Afar>,
    metrics: Arc<Metrics>,
    supervisor: Supervisor,
}

impl Cluster {
    /// Joins what the membership sees: starts links, presence, claims and their upkeep.
    #[must_use]
    pub fn start(
        settings: ClusterSettings,
        view: watch::Receiver<Arc<View>>,
        records: Arc<dyn Records>,
        metrics: &Arc<Metrics>,
        supervisor: &Supervisor,
    ) -> Self {
        let me = settings.me;
        let (cluster, tls, cut) = (settings.cluster, settings.tls, settings.cut);
        let link_settings = LinkSettings { me: me.clone(), cluster, tls, cut };
        let links = Links::new(link_settings, metrics.clone(), supervisor.clone());
        let presence = Presence::new(me.clone(), view.clone(), links.clone(), settings.grace, metrics.clone());
        let claims = Claims::new(me.clone(), view.clone(), links.clone(), presence.clone(), records.clone());
        let shared = Shared::new(me.clone(), view.clone(), links.clone(), records);
        let (services, afar, metrics) = (Arc::new(Services::default()), Arc::new(Afar::default()), metrics.clone());
        let supervisor = supervisor.clone();
        let this =
            Self { me, view, links, presence, claims, shared, services, afar, metrics, supervisor: supervisor.clone() };
        this.links.dispatch_to(Arc::new(dispatch::Dispatcher::new(this.clone(), supervisor.clone())));
        this.presence.start(&supervisor);
        let (follower, stop) = (this.clone(), supervisor.token());
        supervisor.spawn("cluster upkeep", async move {
            stop.run_until_cancelled(follower.follow()).await;
            Ok::<(), std::convert::Infallible>(())
        });
        this
    }

    /// Lets go of everything that this part calls: the node has stopped.
    pub fn let_go(&self) {
        self.services.clear();
        self.afar.clear();
        self.links.let_go();
        self.claims.let_go();
    }

    /// The live nodes now.
    #[must_use]
    pub fn nodes(&self) -> Arc<View> {
        self.view.borrow().clone()
    }

    /// Links follow the view at once; what has new owners is handed to them afterwards.
    async fn follow(&self) {
        let mut changes = self.view.clone();
        let mut before = changes.borrow_and_update().clone();
        self.links.follow(&before);
        let mut catch_up = tokio::time::interval(CATCH_UP);
        catch_up.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let changed = tokio::select! {
                changed = changes.changed() => changed,
                _ = catch_up.tick() => {
                    self.beside_links(self.claims.catch_up()).await;
                    continue;
                }
            };
            if changed.is_err() {
                return;
            }
            let now = changes.borrow_and_update().clone();
            self.links.follow(&now);
            self.services.all().for_each(|service| service.view_changed(&before, &now));
            self.beside_links(self.hand_on(&before, &now)).await;
            before = now;
        }
    }

    async fn hand_on(&self, before: &View, now: &View) {
        self.claims.hand_on(before, now).await;
        if let Err(error) = self.shared.hand_on(before, now).await {
            tracing::error!(%error, "the store of shared records failed");
            self.supervisor.went_on_after("cluster upkeep", &error);
        }
    }

    /// Does `work`, while links follow the view.
    async fn beside_links(&self, work: impl Future<Output = ()>) {
        let mut changes = self.view.clone();
        changes.mark_unchanged();
        tokio::pin!(work);
        // Links must follow the next change even while this goes on.
        loop {
            tokio::select! {
                () = &mut work => return,
                changed = changes.changed() => match changed {
                    Ok(()) => self.links.follow(&changes.borrow_and_update().clone()),
                    Err(_) => return,
                },
            }
        }
    }
}
