//! The port for operators: `waystation.admin.v1` over gRPC, with reflection and the standard health service.
//!
//! | file | holds |
//! |---|---|
//! | `listener`, `auth` | connections; who calls, and whether they may |
//! | `service` | every call, in a few lines each |
//! | `status`, `members`, `peers`, `sessions`, `leaving`, `settings`, `backups`, `offload` | what the calls are about |
//! | `changes` | what becomes of a list that somebody watches |
//! | `proto`, `names` | the messages; their enumerations as words |
//!
//! Calls change nothing but through the services that they are about, and whatever changes something is logged with
//! who called.

mod auth;
mod backups;
mod changes;
mod leaving;
mod listener;
mod members;
pub mod names;
mod offload;
mod peers;
pub mod proto;
mod service;
mod sessions;
mod settings;
mod status;

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures::{Stream, StreamExt};
use rustls::ServerConfig;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::Status;
use tonic::service::interceptor::InterceptedService;
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;

use crate::cluster::Cluster;
use crate::cluster::membership::Membership;
use crate::config::Secret;
use crate::domain::ids::{ClusterId, Region};
use crate::federation::Federation;
use crate::mailbox::MailboxService;
use crate::observe::logs::LogHandle;
use crate::observe::metrics::Metrics;
use crate::p2p::Host;
use crate::runtime::leaving::{Leaving, Phase};
use crate::runtime::supervisor::Supervisor;
use crate::security::reload::Reloaded;
use crate::store::RocksStore;
use crate::vault::VaultService;

pub use settings::shown as shown_settings;

use auth::Auth;
use proto::admin_server::AdminServer;
use service::Service;

/// The name by which health checks ask for this service alone.
const NAME: &str = "waystation.admin.v1.Admin";

/// Largest call, in bytes.
const MAX_CALL_BYTES: usize = 64 * 1024;

/// Calls at one time on one connection.
const MAX_CALLS: u32 = 64;

/// How often a connection is asked whether it is still there, and how long it may take to say so.
const KEEPALIVE: (Duration, Duration) = (Duration::from_secs(20), Duration::from_secs(10));

/// How long callers may take to hear the end of their streams once the node stops.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// The parts that the port is made of.
pub struct AdminParts {
    /// What callers must show; `None`: nothing.
    pub token: Option<Reloaded<Secret>>,
    /// TLS; `None`: plain text.
    pub tls: Option<Reloaded<ServerConfig>>,
    /// What the node is called and where it is.
    pub about: About,
    /// The settings in effect.
    pub settings: Vec<proto::Setting>,
    /// What the process logs; `None` where that is not this program's.
    pub log: Option<LogHandle>,
    /// The node's part in its cluster.
    pub cluster: Cluster,
    /// Its place there.
    pub membership: Membership,
    /// The vault service.
    pub vault: VaultService,
    /// The mailbox service.
    pub mailbox: MailboxService,
    /// The service for libp2p peers, if there is one.
    pub p2p: Option<Host>,
    /// Its part in the federation, if it has one.
    pub federation: Option<Federation>,
    /// Whether it is in service.
    pub leaving: Leaving,
    /// Where everything is counted.
    pub metrics: Arc<Metrics>,
    /// What runs in the background.
    pub supervisor: Supervisor,
    /// What backups are made of, and where; `None`: nothing outlives the node.
    pub backups: Option<BackupParts>,
}

/// What a node is called and where it is.
#[derive(Debug, Clone)]
pub struct About {
    /// Its cluster.
    pub cluster: ClusterId,
    /// Its region.
    pub region: Region,
    /// Where clients connect.
    pub listen: SocketAddr,
    /// Whether the nodes of the cluster prove themselves to each other.
    pub secured: bool,
    /// How long a drain waits, if nothing else is said.
    pub drain_timeout: Duration,
}

/// What backups are made of, and where.
pub struct BackupParts {
    /// The store.
    pub store: Arc<RocksStore>,
    /// Other files that belong to it, by their names in the data folder; those that are there.
    pub beside: Vec<PathBuf>,
    /// The folder below which backups are made.
    pub root: PathBuf,
    /// What is left free on the disk, in bytes.
    pub reserve: u64,
}

/// What a call answers with, bit by bit.
type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// Why the port is not served.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// gRPC failed as a whole.
    #[error("the port for operators: {0}")]
    Grpc(#[from] tonic::transport::Error),
    /// The shapes of its messages cannot be read.
    #[error("reflection on the port for operators: {0}")]
    Reflection(#[from] tonic_reflection::server::Error),
}

/// Serves `listener` until the node stops.
///
/// # Errors
/// [`ServeError`].
pub async fn serve(parts: AdminParts, listener: TcpListener) -> Result<(), ServeError> {
    let (supervisor, metrics, stop) = (parts.supervisor.clone(), parts.metrics.clone(), parts.supervisor.token());
    let auth = Auth::new(parts.token.clone(), metrics.clone());
    let (health, checks) = tonic_health::server::health_reporter();
    let (sender, accepted) = mpsc::channel::<io::Result<listener::Stream>>(1);
    let accepting = listener::accept(listener, parts.tls.clone(), metrics, sender, stop.clone());
    supervisor.spawn("operators' connections", accepting);
    let (leaving, told) = (parts.leaving.clone(), stop.clone());
    supervisor.spawn("health of the operators' port", async move {
        told.run_until_cancelled(report(&leaving, &health)).await;
        Ok::<(), std::convert::Infallible>(())
    });
    let reflection = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(proto::DESCRIPTORS)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    let admin = AdminServer::new(Service::new(parts)).max_decoding_message_size(MAX_CALL_BYTES);
    let serving = tonic::transport::Server::builder()
        .max_concurrent_streams(MAX_CALLS)
        .http2_keepalive_interval(Some(KEEPALIVE.0))
        .http2_keepalive_timeout(Some(KEEPALIVE.1))
        // Without the token: probes have none, and it says no more than /ready does.
        .add_service(checks)
        .add_service(InterceptedService::new(reflection().build_v1()?, auth.clone()))
        .add_service(InterceptedService::new(reflection().build_v1alpha()?, auth.clone()))
        .add_service(InterceptedService::new(admin, auth))
        .serve_with_incoming_shutdown(ReceiverStream::new(accepted), stop.clone().cancelled_owned());
    let too_late = async {
        stop.cancelled().await;
        tokio::time::sleep(LAST_WORDS).await;
    };
    tokio::select! {
        served = serving => Ok(served?),
        () = too_late => Ok(()),
    }
}

/// Tells health checks whether the node is in service.
async fn report(leaving: &Leaving, health: &HealthReporter) {
    let mut watch = leaving.watch();
    loop {
        let serves = watch.borrow_and_update().phase == Phase::Serving;
        let status = if serves { ServingStatus::Serving } else { ServingStatus::NotServing };
        for name in ["", NAME] {
            health.set_service_status(name, status).await;
        }
        if watch.changed().await.is_err() {
            return;
        }
    }
}

/// A stream that also ends when the node stops.
fn until_stopped<T: Send + 'static>(
    stream: impl Stream<Item = Result<T, Status>> + Send + 'static,
    stop: CancellationToken,
) -> Answers<T> {
    Box::pin(stream.take_until(stop.cancelled_owned()))
}
