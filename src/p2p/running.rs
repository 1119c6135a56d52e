//! The swarm's task: ports that open and close, where the relay is reached, and connections that are to be closed.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use libp2p::core::transport::{ListenerId, TransportError};
use libp2p::swarm::{ConnectionId, SwarmEvent};
use libp2p::{Multiaddr, Swarm, identify};
use tokio::sync::mpsc;

use crate::cluster::membership::Membership;
use crate::security::admission::Admission;
use crate::wire::p2p::peer_record::{LEGACY, STANDARD};

use super::addresses::{Addresses, FACT};
use super::boxed::Boxed;
use super::observed::Observed;
use super::parts::HostError;
use super::streams::ip_of;
use super::swarm::{Spoken, SpokenEvent};

/// How long a port may take to be opened.
const OPENING: Duration = Duration::from_secs(10);

/// How often rates that no longer limit anybody are forgotten.
const SWEEP: Duration = Duration::from_secs(60);

/// What the swarm is to do.
pub enum Command {
    /// Close a connection.
    Close(ConnectionId),
}

/// Opens all ports, and waits until each has; where they are.
pub async fn listen(swarm: &mut Swarm<Boxed<Spoken>>, wanted: &[Multiaddr]) -> Result<Vec<Multiaddr>, HostError> {
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

/// The swarm's task.
pub struct Running {
    /// The swarm.
    pub swarm: Swarm<Boxed<Spoken>>,
    /// Where peers reach the relay.
    pub addresses: Arc<Addresses>,
    /// Where it listens.
    pub listening: Vec<Multiaddr>,
    /// Where peers say that they reach it.
    pub observed: Observed,
    /// The node's place in its cluster.
    pub membership: Membership,
    /// Bounds for the relay and for each address.
    pub admission: Arc<Admission>,
    /// What is to be done.
    pub wanted: mpsc::Receiver<Command>,
}

impl Running {
    /// Goes on for ever.
    pub async fn run(&mut self) {
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
                let Some(connection) = self.swarm.behaviour().0.streams.of(connection_id).cloned() else { return };
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
    pub async fn reached_at(&mut self) {
        self.addresses.learnt(&self.listening, self.observed.confirmed());
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
