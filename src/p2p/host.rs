//! The relay as a libp2p peer, put together.

use std::sync::Arc;
use std::time::Duration;

use libp2p::{Multiaddr, PeerId};
use tokio::sync::mpsc;

use crate::runtime::sessions::{SessionInfo, Wanted};
use crate::runtime::supervisor::Supervisor;
use crate::security::admission::{Admission, AdmissionLimits};

use super::addresses::Addresses;
use super::circuit::{CircuitParts, Circuits};
use super::directory::Directory;
use super::gif::{GifParts, Gifs};
use super::gossip::{Gossip, GossipParts};
use super::observed::Observed;
use super::parts::{HostError, HostParts};
use super::peers::{Peers, Standing};
use super::rendezvous::Rendezvous;
use super::running::{Command, Running, listen};
use super::served::Served;
use super::spread::SpreadParts;
use super::streams::{Door, ip_of};
use super::swarm::swarm;
use super::turn_credentials::TurnCredentials;

/// Things that may wait to be done by the swarm.
const COMMANDS: usize = 1024;

/// In how many parts peers are sent away when the node leaves service, and how long after one another: within a second
/// and a half, so that they do not all come to the other nodes at once.
const SHARES: usize = 30;
const BETWEEN_SHARES: Duration = Duration::from_millis(50);

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
    peers: Arc<Peers>,
    commands: mpsc::Sender<Command>,
    supervisor: Supervisor,
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
        let spread_parts = || SpreadParts {
            records: records.clone(),
            cluster: cluster.clone(),
            metrics: metrics.clone(),
            supervisor: supervisor.clone(),
        };
        let rendezvous = Rendezvous::open(settings.rendezvous, spread_parts()).await?;
        let directory = Directory::open(settings.directory, addresses.clone(), spread_parts()).await?;
        let turn_credentials = settings.turn_credentials;
        let turn_credentials =
            turn_credentials.map(|settings| TurnCredentials::new(settings, metrics.clone(), supervisor.clone()));
        let peers = Arc::<Peers>::default();
        let (commands, wanted) = mpsc::channel(COMMANDS);
        let gossip = (!settings.topics.is_empty()).then(|| {
            Gossip::start(GossipParts {
                topics: settings.topics,
                limits: settings.gossip,
                trusted: settings.trusted.clone().into(),
                peers: peers.clone(),
                commands: commands.clone(),
                cluster: cluster.clone(),
                metrics: metrics.clone(),
                supervisor: supervisor.clone(),
            })
        });
        let gifs = Gifs::start(GifParts {
            provider: settings.gif_provider,
            limits: settings.gifs,
            metrics: metrics.clone(),
            supervisor: supervisor.clone(),
        })?;
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
        let served = Served {
            circuits: circuits.clone(),
            rendezvous,
            directory,
            turn_credentials,
            gossip,
            gifs,
            peers: peers.clone(),
            metrics,
        };
        let mut swarm = swarm(&key, door, served, settings.idle)?;
        let listening = listen(&mut swarm, &settings.listen).await?;
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
        Ok(Self { peer, listening: listening.into(), addresses, circuits, peers, commands, supervisor })
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

    /// Connections of peers, which are all in one part.
    #[must_use]
    pub fn sessions(&self, wanted: Wanted) -> Vec<SessionInfo> {
        let shown = |standing: Standing| {
            let connection = &standing.connection;
            SessionInfo {
                number: standing.number,
                name: connection.peer.to_base58(),
                mailbox: String::new(),
                address: ip_of(&connection.remote),
                polling: false,
                proven: true,
                sealed: true,
                since: Some(standing.since),
                idle: None,
                queued: 0,
                relayed: Some(self.circuits.of(connection)),
            }
        };
        self.peers.wanted(wanted).into_iter().map(shown).collect()
    }

    /// Ends a connection; false if there is none of that number, or too much else is to be done.
    #[must_use]
    pub fn disconnect(&self, number: u64) -> bool {
        self.peers.of(number).is_some_and(|connection| self.commands.try_send(Command::Close(connection)).is_ok())
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
