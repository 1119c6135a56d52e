//! Stock libp2p peers, and the stock relay, for comparison.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow};
use futures::{AsyncReadExt, AsyncWriteExt, StreamExt};
use libp2p::multiaddr::Protocol;
use libp2p::swarm::{NetworkBehaviour, SwarmEvent};
use libp2p::{Multiaddr, PeerId, StreamProtocol, Swarm, SwarmBuilder, identify, noise, ping, relay, tcp, yamux};
use tokio::sync::{mpsc, oneshot};

/// What targets read and throw away.
const SINK: StreamProtocol = StreamProtocol::new("/bench/sink");

/// Longest wait for a connection, a place or a circuit.
const PATIENCE: Duration = Duration::from_secs(30);

/// Bytes written at once.
const BLOCK: usize = 64 << 10;

#[derive(NetworkBehaviour)]
struct Client {
    relay: relay::client::Behaviour,
    identify: identify::Behaviour,
    ping: ping::Behaviour,
    streams: libp2p_stream::Behaviour,
}

#[derive(NetworkBehaviour)]
struct Stock {
    relay: relay::Behaviour,
    identify: identify::Behaviour,
    ping: ping::Behaviour,
}

type Reply<T> = oneshot::Sender<anyhow::Result<T>>;

enum Command {
    Dial(Multiaddr, Option<PeerId>, Reply<PeerId>),
    Reserve(Multiaddr, Reply<()>),
}

/// A peer that runs until it is dropped.
pub struct Peer {
    /// Its id.
    pub id: PeerId,
    /// Bytes that it has thrown away.
    pub sunk: Arc<AtomicU64>,
    commands: mpsc::UnboundedSender<Command>,
    streams: libp2p_stream::Control,
    _tasks: tokio::task::JoinSet<()>,
}

impl Peer {
    /// A peer that knows nobody.
    pub fn start() -> anyhow::Result<Self> {
        let swarm = SwarmBuilder::with_new_identity()
            .with_tokio()
            .with_tcp(tcp::Config::default().nodelay(true), noise::Config::new, yamux::Config::default)?
            .with_relay_client(noise::Config::new, yamux::Config::default)?
            .with_behaviour(|key, relay| Client {
                relay,
                identify: identify::Behaviour::new(identify::Config::new("/bench".into(), key.public())),
                ping: ping::Behaviour::default(),
                streams: libp2p_stream::Behaviour::new(),
            })
            .map_err(|error| anyhow!("{error}"))?
            .with_swarm_config(|config| config.with_idle_connection_timeout(Duration::from_secs(3600)))
            .build();
        let (id, streams) = (*swarm.local_peer_id(), swarm.behaviour().streams.new_control());
        let (commands, wanted) = mpsc::unbounded_channel();
        let (sunk, mut tasks) = (Arc::new(AtomicU64::new(0)), tokio::task::JoinSet::new());
        let mut incoming = streams.clone().accept(SINK)?;
        tasks.spawn(run(swarm, wanted));
        let counter = sunk.clone();
        tasks.spawn(async move {
            while let Some((_, mut stream)) = incoming.next().await {
                let counter = counter.clone();
                tokio::spawn(async move {
                    let mut buffer = vec![0; BLOCK];
                    while let Ok(read @ 1..) = stream.read(&mut buffer).await {
                        counter.fetch_add(read as u64, Ordering::Relaxed);
                    }
                });
            }
        });
        Ok(Self { id, sunk, commands, streams, _tasks: tasks })
    }

    /// Connects to whoever is at `address`.
    pub async fn dial(&self, address: Multiaddr, expect: Option<PeerId>) -> anyhow::Result<PeerId> {
        self.command(|reply| Command::Dial(address, expect, reply)).await
    }

    /// Takes a place at the relay at `address`.
    pub async fn reserve(&self, address: &Multiaddr) -> anyhow::Result<()> {
        let address = address.clone().with(Protocol::P2pCircuit);
        self.command(|reply| Command::Reserve(address, reply)).await
    }

    /// Writes to `target`, through the relay at `relay`, until `end`; how long the circuit took to stand.
    pub async fn circuit(&self, relay: &Multiaddr, target: PeerId) -> anyhow::Result<Duration> {
        let begun = Instant::now();
        let address = relay.clone().with(Protocol::P2pCircuit).with(Protocol::P2p(target));
        self.dial(address, Some(target)).await?;
        Ok(begun.elapsed())
    }

    /// Writes to `target`, which it is connected with, until `end`.
    pub async fn write(&self, target: PeerId, end: Instant) -> anyhow::Result<()> {
        let mut stream = self.streams.clone().open_stream(target, SINK).await?;
        let block = vec![7; BLOCK];
        while Instant::now() < end {
            stream.write_all(&block).await?;
        }
        stream.close().await?;
        Ok(())
    }

    async fn command<T>(&self, command: impl FnOnce(Reply<T>) -> Command) -> anyhow::Result<T> {
        let (reply, done) = oneshot::channel();
        self.commands.send(command(reply)).map_err(|_| anyhow!("the peer has ended"))?;
        tokio::time::timeout(PATIENCE, done).await.context("a relay or peer does not answer")??
    }
}

async fn run(mut swarm: Swarm<Client>, mut wanted: mpsc::UnboundedReceiver<Command>) {
    let mut dialling: Vec<(Option<PeerId>, Reply<PeerId>)> = Vec::new();
    let mut reserving: Vec<Reply<()>> = Vec::new();
    loop {
        let event = tokio::select! {
            event = swarm.select_next_some() => event,
            command = wanted.recv() => {
                match command {
                    Some(Command::Dial(address, expect, reply)) => match swarm.dial(address) {
                        Ok(()) => dialling.push((expect, reply)),
                        Err(error) => drop(reply.send(Err(error.into()))),
                    },
                    Some(Command::Reserve(address, reply)) => match swarm.listen_on(address) {
                        Ok(_) => reserving.push(reply),
                        Err(error) => drop(reply.send(Err(anyhow!("{error}")))),
                    },
                    None => return,
                }
                continue;
            }
        };
        match event {
            SwarmEvent::ConnectionEstablished { peer_id, .. } => {
                let wanted = dialling.iter().position(|(expect, _)| expect.is_none_or(|expect| expect == peer_id));
                if let Some(at) = wanted {
                    drop(dialling.remove(at).1.send(Ok(peer_id)));
                }
            }
            SwarmEvent::OutgoingConnectionError { error, .. } => {
                if let Some((_, reply)) = dialling.pop() {
                    drop(reply.send(Err(anyhow!("{error:?}"))));
                }
            }
            SwarmEvent::Behaviour(ClientEvent::Relay(relay::client::Event::ReservationReqAccepted { .. })) => {
                reserving.drain(..).for_each(|reply| drop(reply.send(Ok(()))));
            }
            SwarmEvent::ListenerClosed { reason: Err(error), .. } => {
                reserving.drain(..).for_each(|reply| drop(reply.send(Err(anyhow!("{error}")))));
            }
            _ => {}
        }
    }
}

/// rust-libp2p's own relay on that port of loopback, without bounds, for ever.
pub async fn stock_relay(port: u16) -> anyhow::Result<()> {
    let unbounded = relay::Config {
        max_reservations: usize::MAX,
        max_reservations_per_peer: usize::MAX,
        max_circuits: usize::MAX,
        max_circuits_per_peer: usize::MAX,
        max_circuit_bytes: u64::MAX,
        max_circuit_duration: Duration::from_secs(86_400),
        reservation_rate_limiters: Vec::new(),
        circuit_src_rate_limiters: Vec::new(),
        ..Default::default()
    };
    let mut swarm = SwarmBuilder::with_new_identity()
        .with_tokio()
        .with_tcp(tcp::Config::default().nodelay(true), noise::Config::new, yamux::Config::default)?
        .with_behaviour(|key| Stock {
            relay: relay::Behaviour::new(key.public().to_peer_id(), unbounded),
            identify: identify::Behaviour::new(identify::Config::new("/bench".into(), key.public())),
            ping: ping::Behaviour::default(),
        })?
        .with_swarm_config(|config| config.with_idle_connection_timeout(Duration::from_secs(3600)))
        .build();
    let address: Multiaddr = format!("/ip4/127.0.0.1/tcp/{port}").parse()?;
    swarm.add_external_address(address.clone());
    swarm.listen_on(address)?;
    loop {
        swarm.select_next_some().await;
    }
}
