//! A node: everything that runs in one process. The one place that knows every part: it builds them, starts them,
//! and stops them in reverse order.

mod drain;
mod identity;
mod noise_key;
mod regions;
mod reload;
mod remarks;
mod settings;
mod stores;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures::future::OptionFuture;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::cluster::cut::Cut;
use crate::cluster::membership::Membership;
use crate::cluster::{Cluster, ClusterSettings};
use crate::config::Config;
use crate::domain::ids::{Generation, NodeRun};
use crate::edge::routes::{self, Figures, Services};
use crate::edge::{Edge, Parts, accept, admin};
use crate::federation::Federation;
use crate::mailbox::{MailboxParts, MailboxService};
use crate::observe::logs;
use crate::observe::metrics::Metrics;
use crate::observe::trace::Traces;
use crate::p2p::{Host, HostError};
use crate::runtime::leaving::Leaving;
use crate::runtime::supervisor::Supervisor;
use crate::runtime::time;
use crate::security::admission::Admission;
use crate::security::cluster_secret::ClusterSecret;
use crate::security::noise::Responder;
use crate::security::proxies::TrustedProxies;
use crate::security::tls::ClusterTls;
use crate::store::Records;
use crate::vault::VaultService;
use stores::Stores;

/// How often expired records are swept, and how many at once: the rest waits for the next time.
const SWEEP: (Duration, usize) = (Duration::from_secs(10), 1_000);

/// How long a node that is given seeds waits for others before it serves alone: it may be the first one.
const MEET_PATIENCE: Duration = Duration::from_secs(3);

/// How long the last traces may take to be sent.
const TRACE_FLUSH: Duration = Duration::from_secs(3);

/// How long the tasks of a node may take to end once they are told to.
const STOP_PATIENCE: Duration = Duration::from_secs(5);

/// How long they may take when the operator does not want to wait.
const ABORT_PATIENCE: Duration = Duration::from_millis(200);

/// Why a node did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A port could not be opened.
    #[error("cannot listen on {address} ({setting}): {source}")]
    Listen {
        /// Its setting.
        setting: &'static str,
        /// Where.
        address: SocketAddr,
        /// Why not.
        source: std::io::Error,
    },
    /// The node's identity could not be read or kept.
    #[error(transparent)]
    Identity(#[from] identity::IdentityError),
    /// There is no Noise key.
    #[error(transparent)]
    Noise(#[from] noise_key::NoiseKeyError),
    /// The store could not be opened.
    #[error(transparent)]
    Store(#[from] crate::store::StoreError),
    /// The cluster's keys could not be made.
    #[error(transparent)]
    Secret(#[from] crate::security::cluster_secret::SecretError),
    /// A name of ours is none.
    #[error("a name could not be made ({0}): report this as a bug")]
    Names(String),
    /// TLS between nodes could not be set up.
    #[error(transparent)]
    Tls(#[from] crate::security::tls::TlsError),
    /// Gossip did not start.
    #[error(transparent)]
    Membership(#[from] crate::cluster::membership::MembershipError),
    /// TLS for push calls could not be set up.
    #[error("TLS for push calls (RELAY_VAULT_PUSH_URL) could not be set up: {0}")]
    Push(#[from] rustls::Error),
    /// libp2p peers cannot be served.
    #[error(transparent)]
    P2p(#[from] HostError),
    /// The address of the public port is not known.
    #[error("no address: {0}")]
    Address(#[from] std::io::Error),
}

/// A running node.
pub struct Node {
    /// Where clients reach it.
    pub public: SocketAddr,
    /// Where operators reach it.
    pub admin: SocketAddr,
    /// Where its figures are besides, if anywhere.
    pub figures: Option<SocketAddr>,
    /// Its part in the cluster.
    pub cluster: Cluster,
    /// Its place in the cluster.
    pub membership: Membership,
    /// Its figures.
    pub metrics: Arc<Metrics>,
    /// Its vault service.
    pub vault: VaultService,
    /// Its mailbox service.
    pub mailbox: MailboxService,
    /// Its service for libp2p peers, if it has one.
    pub p2p: Option<Host>,
    /// Its part in the federation, if it has one.
    pub federation: Option<Federation>,
    /// Where other clusters reach it, if anywhere.
    pub federated: Option<SocketAddr>,
    /// Nodes that it is cut off from: for tests and drills.
    pub cut: Cut,
    leaving: Leaving,
    supervisor: Supervisor,
    closing: CancellationToken,
    drain_timeout: Duration,
}

impl Node {
    /// Starts a node; when this returns, its ports are open. One that is given seeds meets other nodes first, or
    /// gives them up: until then clients connect, and wait.
    ///
    /// # Errors
    /// [`StartError`].
    pub async fn start(config: &Config) -> Result<Self, StartError> {
        let (supervisor, metrics) = (Supervisor::new(), Metrics::new());
        let node = identity::node_id(config)?;
        let me = NodeRun { node, generation: Generation(time::now().0) };
        let Stores { records, mailboxes, durable } = Stores::open(config, &metrics.store)?;
        let public = listen("RELAY_LISTEN_ADDR", config.listen).await?;
        let private = match config.metrics.listen {
            Some(address) => Some(listen("RELAY_METRICS_ADDR", address).await?),
            None => None,
        };
        let grpc = listen("RELAY_GRPC_ADDR", config.cluster.grpc).await?;
        let operators = listen("RELAY_ADMIN_ADDR", config.admin.listen).await?;
        let peers = match config.federation.enabled {
            true => Some(listen("RELAY_FEDERATION_ADDR", config.federation.listen).await?),
            false => None,
        };
        let federated = peers.as_ref().map(TcpListener::local_addr).transpose()?;

        let secret = match &config.cluster.secret {
            Some(text) => ClusterSecret::from_text(text.expose())?,
            None => ClusterSecret::unprotected(),
        };
        let noise = Responder::new(noise_key::noise_key(config, &secret)?);
        let cluster_id = config.cluster.cluster_id.clone();
        let tls = if secret.protects() { Some(ClusterTls::new(&secret, &cluster_id, &me.node)?) } else { None };
        let cut = Cut::default();
        let joining = settings::membership(config, &me, grpc.local_addr()?);
        let membership = Membership::start(joining, &secret, cut.clone(), metrics.clone(), &supervisor).await?;
        let settings =
            ClusterSettings { me, cluster: cluster_id, tls, grace: config.vault.reconnect_grace, cut: cut.clone() };
        let cluster = Cluster::start(settings, membership.watch(), records.clone(), &metrics, &supervisor);
        let links = cluster.links.clone();
        supervisor.spawn("node-to-node port", async move { links.serve(grpc).await });

        let admission = Arc::new(Admission::new(settings::admission(config)));
        let vault = VaultService::new(
            settings::vault(config),
            cluster.clone(),
            admission.clone(),
            metrics.clone(),
            supervisor.clone(),
        );
        vault.start(settings::push(config))?;
        let mailbox = MailboxService::new(MailboxParts {
            settings: settings::mailbox(config),
            store: mailboxes.clone(),
            records: records.clone(),
            noise: noise.clone(),
            cluster: cluster.clone(),
            admission: admission.clone(),
            metrics: metrics.clone(),
            supervisor: supervisor.clone(),
        });
        mailbox.start().await;
        let peers_parts = || settings::p2p(config, &records, &cluster, &membership, &metrics, &supervisor);
        let p2p = OptionFuture::from(config.p2p.enabled.then(|| Host::start(peers_parts()))).await.transpose()?;
        let load = (membership.clone(), mailboxes.clone(), metrics.clone());
        supervisor.spawn("load report", regions::report_load(load, config.mailbox.total_bytes, supervisor.token()));
        let federation = match peers {
            Some(listener) => {
                let (cluster, records) = (&cluster, records.clone());
                Some(regions::start(config, cluster, &membership, records, listener, &metrics, &supervisor)?)
            }
            None => None,
        };
        let files = reload::files(config);
        supervisor.spawn(reload::TASK, reload::watch(files, metrics.clone(), supervisor.clone()));
        supervisor.spawn("record sweep", sweep(records, supervisor.clone()));

        let edge = Edge::new(Parts {
            settings: settings::edge(config),
            admission,
            proxies: TrustedProxies(config.trusted_proxies.clone()),
            metrics: metrics.clone(),
            supervisor: supervisor.clone(),
        });
        let (address, figures) = (public.local_addr()?, private.as_ref().map(TcpListener::local_addr).transpose()?);
        let (joined, closing) = (CancellationToken::new(), CancellationToken::new());
        let services = Services {
            edge: edge.clone(),
            vault: vault.clone(),
            mailbox: mailbox.clone(),
            joined: joined.clone(),
            noise_public_key: noise.key().public_text().into(),
            figures: Figures {
                public: config.metrics.public,
                token: config.metrics.token.as_ref().map(|token| token.expose().into()),
            },
        };
        if let Some(listener) = private {
            let edge = Edge::new(settings::private_port(&supervisor));
            let routes = routes::private(services.clone());
            supervisor.spawn("metrics port", accept::run(edge, listener, routes, closing.clone()));
        }
        let routes = routes::public(services, config.cors_origins.clone());
        supervisor.spawn("public port", accept::run(edge, public, routes, closing.clone()));
        let leaving = Leaving::default();
        let drain = drain::Drain {
            leaving: leaving.clone(),
            membership: membership.clone(),
            vault: vault.clone(),
            mailbox: mailbox.clone(),
            p2p: p2p.clone(),
            federation: federation.clone(),
            links: cluster.links.clone(),
            metrics: metrics.clone(),
            closing: closing.clone(),
        };
        let stop = supervisor.token();
        supervisor.spawn("leaving service", async move {
            stop.run_until_cancelled(drain.run()).await;
            Ok::<(), std::convert::Infallible>(())
        });
        let admin = operators.local_addr()?;
        let parts = admin::AdminParts {
            token: config.admin.token.clone(),
            tls: config.admin.tls.clone(),
            about: settings::about(config, address),
            settings: admin::shown_settings(config),
            log: logs::installed(),
            cluster: cluster.clone(),
            membership: membership.clone(),
            vault: vault.clone(),
            mailbox: mailbox.clone(),
            p2p: p2p.clone(),
            federation: federation.clone(),
            leaving: leaving.clone(),
            metrics: metrics.clone(),
            supervisor: supervisor.clone(),
            backups: durable.map(|store| settings::backups(config, store)),
        };
        supervisor.spawn("operators' port", admin::serve(parts, operators));
        if !config.cluster.seeds.is_empty() {
            membership.meet(MEET_PATIENCE).await;
        }
        joined.cancel();
        let (public, drain_timeout) = (address, config.drain_timeout);
        Ok(Self {
            public,
            admin,
            leaving,
            figures,
            cluster,
            membership,
            metrics,
            vault,
            mailbox,
            p2p,
            federation,
            federated,
            cut,
            supervisor,
            closing,
            drain_timeout,
        })
    }

    /// Waits until a task on which the node depends has failed, or another process runs under its id.
    pub async fn failed(&self) -> String {
        tokio::select! {
            reason = self.supervisor.failed() => reason,
            superseded = self.membership.superseded() => superseded.to_string(),
        }
    }

    /// Ends all tasks: nothing is handed on, but clients get a moment to agree to the close of their sockets.
    /// Answers which have not ended in time.
    pub async fn stop(self) -> Vec<&'static str> {
        self.end(STOP_PATIENCE).await
    }

    /// Ends all tasks at once: sockets of clients that do not agree to their close at once are cut.
    pub async fn abort(self) {
        self.end(ABORT_PATIENCE).await;
    }

    async fn end(self, patience: Duration) -> Vec<&'static str> {
        self.closing.cancel();
        let late = self.supervisor.stop(patience).await;
        if !late.is_empty() {
            tracing::warn!(tasks = ?late, "these tasks did not end in time");
        }
        self.cluster.let_go();
        late
    }
}

/// Runs a node until it is told to stop (SIGTERM or SIGINT), then drains it; a second signal ends it at once.
///
/// # Errors
/// What kept it from starting, or made it fail.
pub async fn serve(mut config: Config) -> anyhow::Result<()> {
    let node = identity::node_id(&config)?;
    let traces = Traces::start(&config.trace, &config.outbound_roots, &node)?;
    logs::init(&config.log, &traces)?;
    remarks::log(&config);
    config.cluster.node_id = Some(node);
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let node = Node::start(&config).await?;
    tracing::info!(
        node = %node.cluster.me.node, public = %node.public, gossip = %node.membership.gossip_address(),
        admin = %node.admin, "serving"
    );
    println!("DCP Relay running on {}", node.public);
    for address in node.p2p.iter().flat_map(|p2p| p2p.addresses.own()) {
        println!("relay address: {address}");
    }
    println!("Press Ctrl+C to stop");
    tokio::select! {
        reason = node.failed() => {
            node.stop().await;
            anyhow::bail!("{reason}");
        }
        () = node.has_left() => {}
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    tracing::info!("leaving service");
    let drained = tokio::select! {
        () = node.drain() => true,
        _ = terminate.recv() => false,
        _ = interrupt.recv() => false,
    };
    if drained {
        node.stop().await;
    } else {
        tracing::warn!("second signal: ending at once");
        node.abort().await;
    }
    println!("DCP Relay stopped");
    if let Err(error) = traces.shutdown(TRACE_FLUSH).await {
        tracing::warn!(%error, "the last traces were not sent");
    }
    Ok(())
}

async fn listen(setting: &'static str, address: SocketAddr) -> Result<TcpListener, StartError> {
    TcpListener::bind(address).await.map_err(|source| StartError::Listen { setting, address, source })
}

async fn sweep(records: Arc<dyn Records>, supervisor: Supervisor) -> Result<(), crate::store::StoreError> {
    let stop = supervisor.token();
    while stop.run_until_cancelled(tokio::time::sleep(SWEEP.0)).await.is_some() {
        if let Err(error) = records.sweep(time::now(), SWEEP.1).await {
            tracing::error!(%error, "expired records were not swept");
            supervisor.went_on_after("record sweep", &error);
        }
    }
    Ok(())
}
