//! A stock peer of gossipsub, and messages and RPCs made by hand.

use std::collections::{HashSet, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use libp2p::gossipsub::{self, IdentTopic, MessageAuthenticity, MessageId, TopicHash, Version};
use libp2p::identity::Keypair;
use libp2p::swarm::dial_opts::DialOpts;
use libp2p::swarm::{NetworkBehaviour, SwarmEvent};
use libp2p::{Multiaddr, PeerId, StreamProtocol, Swarm, SwarmBuilder, identify, noise, ping, tcp, yamux};
use parking_lot::Mutex;
use prost::Message;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use super::{in_time, until};

/// What is spoken.
pub const MESHSUB: StreamProtocol = StreamProtocol::new("/meshsub/1.1.0");

/// The relay's topics.
pub const SYNC: &str = "dusk/sync";
/// See [`SYNC`].
pub const DIRECTORY: &str = "dusk/directory";

/// How a peer takes the relay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum As {
    /// As one of a mesh.
    Mesh,
    /// As an explicit peer, as Dusk's clients do.
    Explicit,
    /// As one of a mesh, in the first version of the protocol.
    Old,
}

#[derive(NetworkBehaviour)]
struct Client {
    gossip: gossipsub::Behaviour,
    identify: identify::Behaviour,
    ping: ping::Behaviour,
}

/// A message that came: its topic, its source and its bytes.
pub type Heard = (String, PeerId, Vec<u8>);

enum Command {
    Publish(&'static str, Vec<u8>, oneshot::Sender<Result<(), String>>),
    ConnectAgain,
    CloseOldest,
}

/// A peer that runs until it is dropped.
pub struct Gossiper {
    /// Its id.
    pub id: PeerId,
    commands: mpsc::UnboundedSender<Command>,
    heard: mpsc::UnboundedReceiver<Heard>,
    meshed: Arc<Mutex<HashSet<String>>>,
    running: JoinHandle<()>,
}

impl Drop for Gossiper {
    fn drop(&mut self) {
        self.running.abort();
    }
}

impl Gossiper {
    /// One that is connected with the relay at that address, has subscribed to `topics`, and knows that the relay has.
    pub async fn join(relay: &Multiaddr, how: As, topics: &[&'static str]) -> Self {
        let swarm = swarm(how, topics);
        let id = *swarm.local_peer_id();
        let (commands, wanted) = mpsc::unbounded_channel();
        let (hears, heard) = mpsc::unbounded_channel();
        let (meshed, subscribed) = (Arc::<Mutex<HashSet<String>>>::default(), Arc::<Mutex<usize>>::default());
        let state = State { hears, meshed: meshed.clone(), subscribed: subscribed.clone(), how };
        let running = tokio::spawn(run(swarm, relay.clone(), wanted, state));
        until("the relay has said its topics", || *subscribed.lock() >= topics.len()).await;
        Self { id, commands, heard, meshed, running }
    }

    /// Says something to all who have subscribed.
    pub async fn publish(&self, topic: &'static str, data: &[u8]) -> Result<(), String> {
        let (reply, published) = oneshot::channel();
        assert!(self.commands.send(Command::Publish(topic, data.to_vec(), reply)).is_ok());
        in_time("a message is published", published).await.unwrap()
    }

    /// Makes one more connection with the relay.
    pub fn connect_again(&self) {
        assert!(self.commands.send(Command::ConnectAgain).is_ok());
    }

    /// Closes the oldest of its connections.
    pub fn close_oldest(&self) {
        assert!(self.commands.send(Command::CloseOldest).is_ok());
    }

    /// The next message that comes.
    pub async fn hear(&mut self) -> Heard {
        in_time("a message comes", self.heard.recv()).await.unwrap()
    }

    /// Waits until the relay is in its mesh for a topic.
    pub async fn is_meshed(&self, topic: &str) {
        until("the relay is in the mesh", || self.meshed.lock().contains(topic)).await;
    }
}

struct State {
    hears: mpsc::UnboundedSender<Heard>,
    meshed: Arc<Mutex<HashSet<String>>>,
    subscribed: Arc<Mutex<usize>>,
    how: As,
}

fn swarm(how: As, topics: &[&'static str]) -> Swarm<Client> {
    let mut config = gossipsub::ConfigBuilder::default();
    // As Dusk's clients name messages.
    config.heartbeat_interval(Duration::from_secs(1)).message_id_fn(|message: &gossipsub::Message| {
        let mut hasher = DefaultHasher::new();
        message.data.hash(&mut hasher);
        message.source.hash(&mut hasher);
        MessageId::from(hasher.finish().to_string())
    });
    if how == As::Old {
        config.protocol_id("/meshsub/1.0.0", Version::V1_0);
    }
    let config = config.build().unwrap();
    let mut swarm = SwarmBuilder::with_new_identity()
        .with_tokio()
        .with_tcp(tcp::Config::default().nodelay(true), noise::Config::new, yamux::Config::default)
        .unwrap()
        .with_behaviour(|key| Client {
            gossip: gossipsub::Behaviour::new(MessageAuthenticity::Signed(key.clone()), config).unwrap(),
            identify: identify::Behaviour::new(identify::Config::new("/test".into(), key.public())),
            ping: ping::Behaviour::default(),
        })
        .unwrap()
        .build();
    for topic in topics {
        swarm.behaviour_mut().gossip.subscribe(&IdentTopic::new(*topic)).unwrap();
    }
    swarm
}

async fn run(mut swarm: Swarm<Client>, relay: Multiaddr, mut wanted: mpsc::UnboundedReceiver<Command>, state: State) {
    swarm.dial(relay.clone()).unwrap();
    let mut connections = VecDeque::new();
    let mut look = tokio::time::interval(Duration::from_millis(50));
    loop {
        let event = tokio::select! {
            event = swarm.select_next_some() => event,
            command = wanted.recv() => {
                match command {
                    Some(Command::Publish(topic, data, reply)) => {
                        let published = swarm.behaviour_mut().gossip.publish(IdentTopic::new(topic), data);
                        drop(reply.send(published.map(drop).map_err(|error| error.to_string())));
                    }
                    // The port it comes from is taken by the first.
                    Some(Command::ConnectAgain) => {
                        let again = DialOpts::unknown_peer_id().address(relay.clone()).allocate_new_port().build();
                        swarm.dial(again).unwrap();
                    }
                    Some(Command::CloseOldest) => assert!(swarm.close_connection(connections.pop_front().unwrap())),
                    None => return,
                }
                continue;
            }
            _ = look.tick() => {
                let gossip = &swarm.behaviour().gossip;
                let meshed = gossip.topics().filter(|topic| gossip.mesh_peers(topic).next().is_some());
                *state.meshed.lock() = meshed.map(TopicHash::to_string).collect();
                continue;
            }
        };
        match event {
            SwarmEvent::ConnectionEstablished { peer_id, connection_id, .. } => {
                connections.push_back(connection_id);
                if state.how == As::Explicit {
                    swarm.behaviour_mut().gossip.add_explicit_peer(&peer_id);
                }
            }
            SwarmEvent::Behaviour(ClientEvent::Gossip(gossipsub::Event::Subscribed { .. })) => {
                *state.subscribed.lock() += 1;
            }
            SwarmEvent::Behaviour(ClientEvent::Gossip(gossipsub::Event::Message { message, .. })) => {
                let heard = (message.topic.to_string(), message.source.unwrap(), message.data);
                state.hears.send(heard).unwrap_or_default();
            }
            _ => {}
        }
    }
}

/// A message, as it is on the wire.
#[derive(Clone, PartialEq, Message)]
pub struct Said {
    /// Its source.
    #[prost(bytes = "vec", optional, tag = "1")]
    pub from: Option<Vec<u8>>,
    /// What is said.
    #[prost(bytes = "vec", optional, tag = "2")]
    pub data: Option<Vec<u8>>,
    /// Its number.
    #[prost(bytes = "vec", optional, tag = "3")]
    pub seqno: Option<Vec<u8>>,
    /// Its topic.
    #[prost(string, optional, tag = "4")]
    pub topic: Option<String>,
    /// The signature of what stands before.
    #[prost(bytes = "vec", optional, tag = "5")]
    pub signature: Option<Vec<u8>>,
}

impl Said {
    /// Signed with that key, in the name of its peer.
    pub fn by(key: &Keypair, number: u64, topic: &str, data: &[u8]) -> Self {
        Self::in_the_name_of(key.public().to_peer_id(), key, number, topic, data)
    }

    /// Signed with that key, in the name of any peer.
    pub fn in_the_name_of(peer: PeerId, key: &Keypair, number: u64, topic: &str, data: &[u8]) -> Self {
        let said = Self {
            from: Some(peer.to_bytes()),
            data: Some(data.to_vec()),
            seqno: Some(number.to_be_bytes().to_vec()),
            topic: Some(topic.to_owned()),
            signature: None,
        };
        let signature = key.sign(&[b"libp2p-pubsub:", &said.encode_to_vec()[..]].concat()).unwrap();
        Self { signature: Some(signature), ..said }
    }
}

/// As much of an RPC as is told to the relay.
#[derive(Clone, PartialEq, Message)]
struct Rpc {
    #[prost(message, repeated, tag = "1")]
    subscriptions: Vec<SubOpts>,
    #[prost(message, repeated, tag = "2")]
    publish: Vec<Said>,
}

#[derive(Clone, PartialEq, Message)]
struct SubOpts {
    #[prost(bool, optional, tag = "1")]
    subscribe: Option<bool>,
    #[prost(string, optional, tag = "2")]
    topic: Option<String>,
}

/// An RPC that publishes these.
pub fn publishing(messages: &[Said]) -> Vec<u8> {
    Rpc { subscriptions: Vec::new(), publish: messages.to_vec() }.encode_length_delimited_to_vec()
}

/// An RPC that subscribes to a topic.
pub fn subscribing(topic: &str) -> Vec<u8> {
    let subscription = SubOpts { subscribe: Some(true), topic: Some(topic.to_owned()) };
    Rpc { subscriptions: vec![subscription], publish: Vec::new() }.encode_length_delimited_to_vec()
}
