//! The relay as a libp2p peer: its ports, who connects, and what they are told of it.

use std::num::NonZeroU32;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use libp2p::core::transport::{ListenerId, TransportError};
use libp2p::identity::Keypair;
use libp2p::swarm::{ConnectionId, SwarmEvent};
use libp2p::{Multiaddr, PeerId, Stream, StreamProtocol, Swarm, identify};
use tokio::sync::mpsc;

use crate::cluster::Cluster;
use crate::cluster::membership::Membership;
use crate::observe::metrics::Metrics;
use crate::runtime::supervisor::Supervisor;
use crate::security::admission::{Admission, AdmissionLimits};
use crate::store::{Records, StoreError};
use crate::wire::p2p::peer_record::{LEGACY, STANDARD};

use super::addresses::{Addresses, FACT};
use super::circuit::{CircuitLimits, CircuitParts, Circuits, HOP};
use super::identity::{self, KeyError};
use super::observed::Observed;
use super::rendezvous::{RENDEZVOUS, Rendezvous, RendezvousLimits, RendezvousParts};
use super::streams::{Connection, Door, Serve, ip_of};
use super::swarm::{Spoken, SpokenEvent, SwarmError, swarm};

/// How long a port may take to be opened.
const OPENING: Duration = Duration::from_secs(10);

/// Things that may wait to be done by the swarm.
const COMMANDS: usize = 1024;

/// In how many parts peers are sent away when the node leaves service, and how long after one another: within a second
/// and a half, so that they do not all come to the other nodes at once.
const SHARES: usize = 30;
const BETWEEN_SHARES: Duration = Duration::from_millis(50);

/// How often rates that no longer limit anybody are forgotten.
const SWEEP: Duration = Duration::from_secs(60);

/// What the relay needs to know of its configuration.
#[derive(Debug, Clone)]
pub struct HostSettings {
    /// Where to listen.
    pub listen: Vec<Multiaddr>,
    /// Where peers reach the relay; if there are none, it finds out.
    pub external: Vec<Multiaddr>,
    /// Connections at one time.
    pub connections: usize,
    /// Connections of one peer.
    pub connections_per_peer: usize,
    /// Connections from one address.
    pub connections_per_address: usize,
    /// Connections made from one address, per minute.
    pub connections_per_minute: NonZeroU32,
    /// After how long a connection without streams is closed, if nothing holds it.
    pub idle: Duration,
    /// Peers that are bound only by what the node as a whole may serve.
    pub trusted: Vec<PeerId>,
    /// Places and circuits.
    pub circuits: CircuitLimits,
    /// Registrations.
    pub rendezvous: RendezvousLimits,
}

/// Why the relay does not listen.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    /// There is no key.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// A transport could not be set up.
    #[error(transparent)]
    Swarm(#[from] SwarmError),
    /// What is kept could not be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A port could not be opened.
    #[error("cannot listen on {address} (RELAY_P2P_LISTEN): {reason}")]
    Listen {
        /// Where.
        address: Multiaddr,
        /// Why not.
        reason: String,
    },
}

/// Where the relay's key is.
#[derive(Debug, Clone)]
pub enum KeyPlace {
    /// In the data directory, or, if there is none yet, where the Dusk relay would have it.
    Kept {
        /// The data directory.
        folder: PathBuf,
        /// Files that are looked for then.
        fallbacks: Vec<PathBuf>,
    },
    /// Nowhere: it is made anew.
    Memory,
}

/// What the relay is made of.
pub struct HostParts {
    /// What is configured.
    pub settings: HostSettings,
    /// Where its key is.
    pub key: KeyPlace,
    /// Where registrations are kept.
    pub records: Arc<dyn Records>,
    /// The node's part in its cluster.
    pub cluster: Cluster,
    /// Its place in it.
    pub membership: Membership,
    /// Its figures.
    pub metrics: Arc<Metrics>,
    /// Who runs its tasks.
    pub supervisor: Supervisor,
}

/// The relay; clones share it.
#[derive(Clone)]
pub struct Host {
    /// Its peer id.
    pub peer: PeerId,
    /// Where it listens, port numbers included.
    pub listening: Arc<[Multiaddr]>,
    /// Where peers reach it.
    pub addresses: Arc<Addresses>,
    circuits: Circuits,
    commands: mpsc::Sender<Command>,
    supervisor: Supervisor,
}

/// What the swarm is to do.
enum Command {
    /// Close a connection.
    Close(ConnectionId),
}

impl Host {
    /// Opens the ports. When this returns, peers can connect.
    ///
    /// # Errors
    /// [`HostError`].
    pub async fn start(parts: HostParts) -> Result<Self, HostError> {
        let HostParts { settings, key, records, cluster, membership, metrics, supervisor } = parts;
        let key = key.open()?;
        let peer = key.public().to_peer_id();
        let addresses = Arc::new(Addresses::new(peer, &settings.external, cluster.view.clone()));
        let rendezvous = Rendezvous::open(RendezvousParts {
            limits: settings.rendezvous,
            records,
            cluster: cluster.clone(),
            metrics: metrics.clone(),
            supervisor: supervisor.clone(),
        })
        .await?;
        let circuits = Circuits::new(CircuitParts {
            key: key.clone(),
            limits: settings.circuits,
            trusted: settings.trusted.iter().copied().collect(),
            cluster,
            addresses: addresses.clone(),
            metrics: metrics.clone(),
            supervisor: supervisor.clone(),
        });
        let admission = Arc::new(Admission::new(AdmissionLimits {
            connections: settings.connections,
            connections_per_address: settings.connections_per_address,
            requests_per_minute: settings.connections_per_minute,
            tracked_addresses: settings.circuits.tracked_addresses,
        }));
        let door = {
            let metrics = metrics.clone();
            let refused = Box::new(move |why| metrics.p2p.refuse_connection(why));
            Door { admission: admission.clone(), per_peer: settings.connections_per_peer, refused }
        };
        let served = Arc::new(Served { circuits: circuits.clone(), rendezvous, metrics });
        let mut swarm = swarm(&key, door, served, settings.idle)?;
        let listening = listen(&mut swarm, &settings.listen).await?;
        let (commands, wanted) = mpsc::channel(COMMANDS);
        let mut running = Running {
            swarm,
            addresses: addresses.clone(),
            listening: listening.clone(),
            observed: Observed::default(),
            membership,
            admission,
            wanted,
        };
        running.reached_at().await;
        for address in addresses.own() {
            tracing::info!("external address: {address}");
        }
        tracing::info!("connection limit: {} max concurrent peers", settings.connections);
        tracing::info!("peer id: {peer}");
        circuits.start();
        let stop = supervisor.token();
        supervisor.spawn("libp2p", async move {
            stop.run_until_cancelled(running.run()).await;
            Ok::<(), std::convert::Infallible>(())
        });
        Ok(Self { peer, listening: listening.into(), addresses, circuits, commands, supervisor })
    }

    /// Leaves service: no places are given or kept for longer, and peers that have one are disconnected, a part at a
    /// time, so that they take one at another node. Those that have circuits keep them until these end.
    pub fn drain(&self) {
        if !self.circuits.drain(true) {
            let this = self.clone();
            self.supervisor.spawn_quiet(async move { this.send_away().await });
        }
    }

    /// Is in service again.
    pub fn undrain(&self) {
        self.circuits.drain(false);
    }

    /// Circuits that have a half here.
    #[must_use]
    pub fn circuits(&self) -> usize {
        self.circuits.open()
    }

    async fn send_away(&self) {
        let stop = self.supervisor.token();
        let mut share = None;
        while self.circuits.is_draining() {
            let at_rest = self.circuits.at_rest();
            let share = *share.get_or_insert(at_rest.len().div_ceil(SHARES));
            for connection in at_rest.into_iter().take(share.max(1)) {
                // A relay that has stopped has closed it.
                self.commands.send(Command::Close(connection)).await.unwrap_or_default();
            }
            if stop.run_until_cancelled(tokio::time::sleep(BETWEEN_SHARES)).await.is_none() {
                return;
            }
        }
    }
}

impl KeyPlace {
    fn open(&self) -> Result<Keypair, KeyError> {
        match self {
            Self::Kept { folder, fallbacks } => Ok(identity::kept(folder, fallbacks)?.0),
            Self::Memory => Ok(Keypair::generate_ed25519()),
        }
    }
}

/// Opens all ports, and waits until each has; where they are.
async fn listen(swarm: &mut Swarm<Spoken>, wanted: &[Multiaddr]) -> Result<Vec<Multiaddr>, HostError> {
    let mut opening: Vec<(ListenerId, &Multiaddr)> = Vec::new();
    for address in wanted {
        let failed = |error: TransportError<std::io::Error>| HostError::Listen {
            address: address.clone(),
            reason: match error {
                TransportError::MultiaddrNotSupported(_) => "no transport for such an address".to_owned(),
                TransportError::Other(error) => error.to_string(),
            },
        };
        opening.push((swarm.listen_on(address.clone()).map_err(failed)?, address));
    }
    let mut listening = Vec::new();
    let all_open = async {
        while !opening.is_empty() {
            match swarm.select_next_some().await {
                SwarmEvent::NewListenAddr { listener_id, address } => {
                    listening.push(address);
                    opening.retain(|(id, _)| *id != listener_id);
                }
                SwarmEvent::ListenerClosed { listener_id, reason: Err(error), .. } => {
                    if let Some((_, address)) = opening.iter().find(|(id, _)| *id == listener_id) {
                        return Err(HostError::Listen { address: (*address).clone(), reason: error.to_string() });
                    }
                }
                _ => {}
            }
        }
        Ok(())
    };
    match tokio::time::timeout(OPENING, all_open).await {
        Ok(opened) => opened?,
        // A machine without such an interface, most likely: peers come by the others.
        Err(_) => tracing::warn!("not all addresses of RELAY_P2P_LISTEN are in use on this machine"),
    }
    Ok(listening)
}

/// Who serves what.
struct Served {
    circuits: Circuits,
    rendezvous: Rendezvous,
    metrics: Arc<Metrics>,
}

impl Serve for Served {
    fn stream(&self, connection: &Arc<Connection>, protocol: StreamProtocol, stream: Stream) {
        if protocol == HOP {
            self.circuits.serve(connection, stream);
        } else if protocol == RENDEZVOUS {
            self.rendezvous.serve(connection, stream);
        }
    }

    fn opened(&self, connection: &Arc<Connection>) {
        let total = self.metrics.p2p.connections.inc() + 1;
        tracing::debug!("peer connected: {} (total connections: {total})", connection.peer);
    }

    fn closed(&self, connection: &Arc<Connection>) {
        self.metrics.p2p.connections.dec();
        tracing::debug!("peer disconnected: {}", connection.peer);
        self.circuits.closed(connection);
    }
}

/// The swarm's task.
struct Running {
    swarm: Swarm<Spoken>,
    addresses: Arc<Addresses>,
    listening: Vec<Multiaddr>,
    observed: Observed,
    membership: Membership,
    admission: Arc<Admission>,
    wanted: mpsc::Receiver<Command>,
}

impl Running {
    async fn run(&mut self) {
        let mut sweep = tokio::time::interval(SWEEP);
        loop {
            tokio::select! {
                event = self.swarm.select_next_some() => self.event(event).await,
                Some(command) = self.wanted.recv() => match command {
                    Command::Close(connection) => drop(self.swarm.close_connection(connection)),
                },
                _ = sweep.tick() => self.admission.sweep(),
            }
        }
    }

    async fn event(&mut self, event: SwarmEvent<SpokenEvent>) {
        match event {
            SwarmEvent::NewListenAddr { address, .. } if !self.listening.contains(&address) => {
                self.listening.push(address);
                self.reached_at().await;
            }
            SwarmEvent::ExpiredListenAddr { address, .. } => {
                self.listening.retain(|known| *known != address);
                self.reached_at().await;
            }
            SwarmEvent::ListenerError { error, .. } => tracing::warn!(%error, "a port of RELAY_P2P_LISTEN failed once"),
            SwarmEvent::ListenerClosed { addresses, reason, .. } => {
                tracing::error!(?addresses, ?reason, "a port of RELAY_P2P_LISTEN is closed");
            }
            SwarmEvent::Behaviour(SpokenEvent::Identify(identify::Event::Received { info, connection_id, .. })) => {
                let Some(connection) = self.swarm.behaviour().streams.of(connection_id).cloned() else { return };
                let standard = ["js-libp2p", "go-libp2p"].iter().any(|other| info.agent_version.contains(other));
                connection.seems_to_sign_in(if standard { STANDARD } else { LEGACY });
                let from = connection.address.and_then(|_| ip_of(&connection.remote));
                if from.is_some_and(|from| self.observed.seen(&info.observed_addr, from, &self.listening)) {
                    self.reached_at().await;
                }
            }
            _ => {}
        }
    }

    /// Where the relay is reached has changed: itself, the others, and peers that ask are told.
    async fn reached_at(&mut self) {
        let learnt: Vec<_> = self.listening.iter().chain(self.observed.confirmed()).cloned().collect();
        self.addresses.learnt(&learnt);
        let own = self.addresses.own();
        let known: Vec<_> = self.swarm.external_addresses().cloned().collect();
        known.iter().filter(|address| !own.contains(address)).for_each(|gone| self.swarm.remove_external_address(gone));
        for address in own.into_iter().filter(|address| !known.contains(address)) {
            self.swarm.add_external_address(address);
        }
        if let Err(error) = self.membership.publish(FACT, &self.addresses.as_fact()).await {
            tracing::warn!(%error, "the other nodes cannot be told where peers reach this one");
        }
    }
}
