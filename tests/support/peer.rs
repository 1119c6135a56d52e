//! A stock libp2p peer: rust-libp2p's client of circuit relays, and streams of a protocol of its own.

use std::collections::HashSet;
use std::sync::Arc;

use futures::{AsyncReadExt, AsyncWriteExt, StreamExt};
use libp2p::core::Transport;
use libp2p::core::transport::ListenerId;
use libp2p::core::upgrade::Version;
use libp2p::identity::Keypair;
use libp2p::multiaddr::Protocol;
use libp2p::rendezvous::{Cookie, Namespace};
use libp2p::swarm::{NetworkBehaviour, SwarmEvent};
use libp2p::{
    Multiaddr, PeerId, Stream, StreamProtocol, Swarm, SwarmBuilder, identify, noise, ping, relay, rendezvous, tcp, tls,
    yamux,
};
use parking_lot::Mutex;
use sha2::{Digest, Sha256};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use super::in_time;

/// What peers say to one another: each echoes what it is sent until it has been sent all.
pub const ECHO: StreamProtocol = StreamProtocol::new("/test/echo");

#[derive(NetworkBehaviour)]
struct Client {
    relay: relay::client::Behaviour,
    identify: identify::Behaviour,
    ping: ping::Behaviour,
    rendezvous: rendezvous::client::Behaviour,
    streams: libp2p_stream::Behaviour,
}

enum Command {
    Reserve(Multiaddr, oneshot::Sender<Result<(), String>>),
    Dial(Multiaddr, PeerId, oneshot::Sender<Result<(), String>>),
    Disconnect(PeerId),
    Register(PeerId, &'static str, Option<u64>, oneshot::Sender<Result<u64, String>>),
    Unregister(PeerId, &'static str),
    Discover(PeerId, Option<&'static str>, Option<Cookie>, Option<u64>, oneshot::Sender<Result<Discovered, String>>),
}

/// Who was found, and what to ask for the rest with.
pub type Discovered = (Vec<PeerId>, Option<Cookie>);

/// A peer that runs until it is dropped.
pub struct TestPeer {
    /// Its id.
    pub id: PeerId,
    /// Its key.
    pub key: Keypair,
    commands: mpsc::UnboundedSender<Command>,
    streams: libp2p_stream::Control,
    reached: Arc<Mutex<HashSet<Multiaddr>>>,
    running: Vec<JoinHandle<()>>,
}

impl Drop for TestPeer {
    fn drop(&mut self) {
        self.running.iter().for_each(JoinHandle::abort);
    }
}

impl TestPeer {
    /// A peer that nobody knows yet; it echoes what it is sent.
    pub fn start() -> Self {
        Self::start_as("rust-libp2p")
    }

    /// The same, of an implementation of that name.
    pub fn start_as(agent: &str) -> Self {
        let key = Keypair::generate_ed25519();
        let swarm = SwarmBuilder::with_existing_identity(key.clone())
            .with_tokio()
            .with_tcp(
                tcp::Config::default().nodelay(true),
                (noise::Config::new, tls::Config::new),
                yamux::Config::default,
            )
            .unwrap()
            .with_quic()
            .with_other_transport(|key| {
                libp2p_websocket::Config::new(tcp::tokio::Transport::new(tcp::Config::default()))
                    .upgrade(Version::V1Lazy)
                    .authenticate(noise::Config::new(key).unwrap())
                    .multiplex(yamux::Config::default())
            })
            .unwrap()
            .with_relay_client((noise::Config::new, tls::Config::new), yamux::Config::default)
            .unwrap()
            .with_behaviour(|key, relay| Client {
                relay,
                identify: identify::Behaviour::new(
                    identify::Config::new("/test".into(), key.public()).with_agent_version(agent.to_owned()),
                ),
                ping: ping::Behaviour::default(),
                rendezvous: rendezvous::client::Behaviour::new(key.clone()),
                streams: libp2p_stream::Behaviour::new(),
            })
            .unwrap()
            .build();
        let id = *swarm.local_peer_id();
        let streams = swarm.behaviour().streams.new_control();
        let (commands, wanted) = mpsc::unbounded_channel();
        let reached = Arc::default();
        let mut incoming = streams.clone().accept(ECHO).unwrap();
        let echo = tokio::spawn(async move {
            while let Some((_, stream)) = incoming.next().await {
                tokio::spawn(echo(stream));
            }
        });
        let running = vec![tokio::spawn(run(swarm, wanted, Arc::clone(&reached))), echo];
        Self { id, key, commands, streams, reached, running }
    }

    /// Takes a place at `relay`.
    pub async fn reserve(&self, relay: &Multiaddr) -> Result<(), String> {
        let (reply, reserved) = oneshot::channel();
        let circuit = relay.clone().with(Protocol::P2pCircuit);
        assert!(self.commands.send(Command::Reserve(circuit, reply)).is_ok());
        in_time("a place at a relay", reserved).await.unwrap()
    }

    /// Connects to `target` through `relay`.
    pub async fn dial_through(&self, relay: &Multiaddr, target: PeerId) -> Result<(), String> {
        self.dial(&relay.clone().with(Protocol::P2pCircuit).with(Protocol::P2p(target)), target).await
    }

    /// Connects to `target` at `address`.
    pub async fn dial(&self, address: &Multiaddr, target: PeerId) -> Result<(), String> {
        let (reply, dialled) = oneshot::channel();
        assert!(self.commands.send(Command::Dial(address.clone(), target, reply)).is_ok());
        in_time("a connection", dialled).await.unwrap()
    }

    /// Registers at the relay of that id, which it is connected with; for how many seconds that holds.
    pub async fn register(&self, at: PeerId, namespace: &'static str, ttl: Option<u64>) -> Result<u64, String> {
        let (reply, registered) = oneshot::channel();
        assert!(self.commands.send(Command::Register(at, namespace, ttl, reply)).is_ok());
        in_time("a registration", registered).await.unwrap()
    }

    /// Takes a registration back. Nobody answers.
    pub fn unregister(&self, at: PeerId, namespace: &'static str) {
        assert!(self.commands.send(Command::Unregister(at, namespace)).is_ok());
    }

    /// Asks who is registered.
    pub async fn discover(
        &self,
        at: PeerId,
        namespace: Option<&'static str>,
        cookie: Option<Cookie>,
        limit: Option<u64>,
    ) -> Result<Discovered, String> {
        let (reply, discovered) = oneshot::channel();
        assert!(self.commands.send(Command::Discover(at, namespace, cookie, limit, reply)).is_ok());
        in_time("a discovery", discovered).await.unwrap()
    }

    /// Closes all connections to `other`.
    pub fn disconnect(&self, other: PeerId) {
        assert!(self.commands.send(Command::Disconnect(other)).is_ok());
    }

    /// Sends `bytes` to `target`, which it is connected with, and reads as many back; whether they are the same.
    pub async fn echoed(&self, target: PeerId, bytes: usize) -> bool {
        let stream = in_time("a stream", self.streams.clone().open_stream(target, ECHO)).await.unwrap();
        echoes(stream, bytes).await
    }

    /// Opens a stream of `protocol` to `other`, says `bytes` and no more; what comes back until that is closed or reset, which
    /// may be before all is said.
    pub async fn say(&self, other: PeerId, protocol: StreamProtocol, bytes: &[u8]) -> Vec<u8> {
        let mut stream = in_time("a stream", self.streams.clone().open_stream(other, protocol)).await.unwrap();
        let mut answer = Vec::new();
        in_time("an answer", async {
            stream.write_all(bytes).await.unwrap_or_default();
            stream.close().await.unwrap_or_default();
            stream.read_to_end(&mut answer).await.unwrap_or_default();
        })
        .await;
        answer
    }

    /// Whether `other`, which it is connected with, takes streams of `protocol`.
    pub async fn speaks(&self, other: PeerId, protocol: StreamProtocol) -> bool {
        match in_time("a stream", self.streams.clone().open_stream(other, protocol)).await {
            Ok(_) => true,
            Err(libp2p_stream::OpenStreamError::UnsupportedProtocol(_)) => false,
            Err(error) => panic!("{error}"),
        }
    }

    /// A stream to `target` that is only opened.
    pub async fn stream(&self, target: PeerId) -> Stream {
        self.open(target, ECHO).await
    }

    /// The same of another protocol.
    pub async fn open(&self, target: PeerId, protocol: StreamProtocol) -> Stream {
        self.try_open(target, protocol).await.unwrap()
    }

    /// The same, if `target` takes it.
    pub async fn try_open(&self, target: PeerId, protocol: StreamProtocol) -> Option<Stream> {
        in_time("a stream", self.streams.clone().open_stream(target, protocol)).await.ok()
    }

    /// Takes streams of a protocol, which nobody reads.
    pub fn incoming(&self, protocol: StreamProtocol) -> libp2p_stream::IncomingStreams {
        self.streams.clone().accept(protocol).unwrap()
    }

    /// Where it says that it is reached.
    pub fn reached_at(&self) -> Vec<String> {
        self.reached.lock().iter().map(ToString::to_string).collect()
    }

    /// Whether it says that it is reached through the relay of that id.
    pub fn is_reached_through(&self, relay: PeerId) -> bool {
        self.reached.lock().iter().any(|address| address.iter().any(|part| part == Protocol::P2p(relay)))
    }
}

/// Sends so many bytes and reads them back; whether they are the same.
pub async fn echoes(stream: Stream, bytes: usize) -> bool {
    let (mut reader, mut writer) = stream.split();
    let block: Vec<u8> = (0..64 << 10).map(|n: usize| u8::try_from(n % 251).unwrap()).collect();
    let writing = {
        let block = block.clone();
        async move {
            let (mut left, mut hash) = (bytes, Sha256::new());
            while left > 0 {
                let part = &block[..left.min(block.len())];
                writer.write_all(part).await?;
                hash.update(part);
                left -= part.len();
            }
            writer.close().await?;
            Ok::<_, std::io::Error>(hash.finalize())
        }
    };
    let reading = async move {
        let (mut read, mut hash, mut buffer) = (0, Sha256::new(), vec![0; 64 << 10]);
        loop {
            match reader.read(&mut buffer).await? {
                0 => return Ok::<_, std::io::Error>((read, hash.finalize())),
                some => {
                    hash.update(&buffer[..some]);
                    read += some;
                }
            }
        }
    };
    match futures::future::try_join(writing, reading).await {
        Ok((sent, (count, came))) => count == bytes && sent == came,
        Err(error) => panic!("the circuit broke: {error}"),
    }
}

async fn echo(stream: Stream) {
    let (reader, mut writer) = stream.split();
    // A peer that goes away ends it.
    if futures::io::copy(reader, &mut writer).await.is_ok() {
        writer.close().await.unwrap_or_default();
    }
}

/// Places that are being taken, and who waits for them.
type Reserving = Vec<(ListenerId, oneshot::Sender<Result<(), String>>)>;

async fn run(
    mut swarm: Swarm<Client>,
    mut wanted: mpsc::UnboundedReceiver<Command>,
    reached: Arc<Mutex<HashSet<Multiaddr>>>,
) {
    let (mut reserving, mut dialling) = (Reserving::new(), Vec::new());
    let (mut registering, mut discovering) = (Vec::new(), Vec::new());
    loop {
        let event = tokio::select! {
            event = swarm.select_next_some() => event,
            command = wanted.recv() => {
                match command {
                    Some(Command::Reserve(address, reply)) => match swarm.listen_on(address) {
                        Ok(id) => reserving.push((id, reply)),
                        Err(error) => drop(reply.send(Err(error.to_string()))),
                    },
                    Some(Command::Dial(address, peer, reply)) => match swarm.dial(address) {
                        Ok(()) => dialling.push((peer, reply)),
                        Err(error) => drop(reply.send(Err(error.to_string()))),
                    },
                    Some(Command::Disconnect(peer)) => drop(swarm.disconnect_peer_id(peer)),
                    Some(Command::Register(at, namespace, ttl, reply)) => {
                        let namespace = Namespace::from_static(namespace);
                        match swarm.behaviour_mut().rendezvous.register(namespace, at, ttl) {
                            Ok(()) => registering.push(reply),
                            Err(error) => drop(reply.send(Err(error.to_string()))),
                        }
                    }
                    Some(Command::Unregister(at, namespace)) => {
                        swarm.behaviour_mut().rendezvous.unregister(Namespace::from_static(namespace), at);
                    }
                    Some(Command::Discover(at, namespace, cookie, limit, reply)) => {
                        let namespace = namespace.map(Namespace::from_static);
                        swarm.behaviour_mut().rendezvous.discover(namespace, cookie, limit, at);
                        discovering.push(reply);
                    }
                    None => return,
                }
                continue;
            }
        };
        match event {
            SwarmEvent::NewListenAddr { address, .. } => {
                reached.lock().insert(address);
            }
            SwarmEvent::Behaviour(ClientEvent::Relay(relay::client::Event::ReservationReqAccepted { .. })) => {
                for (_, reply) in reserving.drain(..) {
                    drop(reply.send(Ok(())));
                }
            }
            SwarmEvent::Behaviour(ClientEvent::Rendezvous(event)) => match event {
                rendezvous::client::Event::Registered { ttl, .. } => {
                    registering.drain(..).for_each(|reply: oneshot::Sender<_>| drop(reply.send(Ok(ttl))));
                }
                rendezvous::client::Event::RegisterFailed { error, .. } => {
                    registering.drain(..).for_each(|reply| drop(reply.send(Err(format!("{error:?}")))));
                }
                rendezvous::client::Event::Discovered { registrations, cookie, .. } => {
                    let found: Vec<_> = registrations.iter().map(|found| found.record.peer_id()).collect();
                    for reply in discovering.drain(..) {
                        let reply: oneshot::Sender<Result<Discovered, String>> = reply;
                        drop(reply.send(Ok((found.clone(), Some(cookie.clone())))));
                    }
                }
                rendezvous::client::Event::DiscoverFailed { error, .. } => {
                    discovering.drain(..).for_each(|reply| drop(reply.send(Err(format!("{error:?}")))));
                }
                rendezvous::client::Event::Expired { .. } => {}
            },
            SwarmEvent::ListenerClosed { listener_id, reason, .. } => {
                if let Some(at) = reserving.iter().position(|(id, _)| *id == listener_id) {
                    drop(reserving.remove(at).1.send(Err(format!("{reason:?}"))));
                }
            }
            SwarmEvent::ConnectionEstablished { peer_id, .. } => {
                if let Some(at) = dialling.iter().position(|(peer, _)| *peer == peer_id) {
                    drop(dialling.remove(at).1.send(Ok(())));
                }
            }
            SwarmEvent::OutgoingConnectionError { peer_id: Some(failed), error, .. } => {
                if let Some(at) = dialling.iter().position(|(peer, _)| *peer == failed) {
                    drop(dialling.remove(at).1.send(Err(format!("{error:?}"))));
                }
            }
            _ => {}
        }
    }
}
