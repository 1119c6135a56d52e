//! What one peer says.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use libp2p::Stream;

use crate::p2p::framing;
use crate::p2p::streams::Connection;
use crate::wire::p2p::pubsub::{self, MAX_READ_BYTES, NoMessage, Published, Told};

use super::limits::Payer;
use super::speaker::Speaker;
use super::{Gossip, proof};

/// How long a peer may take for an RPC that it has begun.
const PATIENCE: Duration = Duration::from_secs(20);

/// Messages in one RPC. Stock peers put one into each, and more only into answers to what the relay never asks for.
const MAX_MESSAGES: usize = 64;

/// Subscriptions in one RPC: stock peers say in one to what they subscribe, of use here or not.
const MAX_SUBSCRIPTIONS: usize = 1024;

/// For how long nothing is read of who says too much.
const PAUSE: Duration = Duration::from_millis(100);

impl Gossip {
    /// Reads what a peer says until its stream ends, or makes no sense.
    pub(super) async fn listen(&self, connection: &Arc<Connection>, speaker: &Arc<Speaker>, mut stream: Stream) {
        let metrics = &self.inner.metrics.p2p;
        loop {
            let rpc = match framing::next(&mut stream, MAX_READ_BYTES, PATIENCE).await {
                Ok(Some(rpc)) => read(rpc.into()),
                Ok(None) => return,
                Err(why) => Err(why),
            };
            let told = match rpc {
                Ok(told) => told,
                Err(why) => {
                    // It costs what a message costs.
                    self.charge(connection, 0).unwrap_or_default();
                    return metrics.refuse_stream(why);
                }
            };
            let said = NonZeroU32::MIN.saturating_add(told.messages.len() as u32 + told.subscriptions.len() as u32);
            while !speaker.said.check_many(said) {
                tokio::time::sleep(PAUSE).await;
            }
            if let Err(why) = self.told(connection, speaker, told) {
                return metrics.refuse_stream(why);
            }
        }
    }

    /// What is said, as long as not too much of it is refused.
    fn told(&self, connection: &Connection, speaker: &Arc<Speaker>, told: Told) -> Result<(), &'static str> {
        for subscription in told.subscriptions {
            // Any other is of no use here, and not kept.
            if let Some(topic) = self.topic(&subscription.topic) {
                self.inner.crowd.want(speaker, topic, subscription.wanted);
            }
        }
        for message in told.messages {
            let Err(why) = self.published(connection, message) else { continue };
            self.inner.metrics.p2p.refuse_gossip(why);
            // What came already, or is too much for all at its address, is not for this peer to answer for.
            let its_own = !["duplicate", "address_rate", "address_bytes"].contains(&why);
            if its_own && !self.is_trusted(connection) && !speaker.refused.check() {
                return Err("refused_much");
            }
        }
        Ok(())
    }

    /// Passes on what a peer says that its source has published.
    fn published(&self, connection: &Connection, bytes: Bytes) -> Result<(), &'static str> {
        let length = bytes.len();
        let read = pubsub::read_message(bytes).and_then(|message| {
            let topic = self.topic(&message.topic).ok_or(NoMessage::Topic)?;
            Ok((topic, message))
        });
        // Peers pass on to the relay what came to them by others: that is not theirs to pay for.
        if read.as_ref().is_ok_and(|(_, message)| self.inner.seen.has(message)) {
            return Err("duplicate");
        }
        self.charge(connection, length)?;
        let (topic, message) = read.map_err(NoMessage::word)?;
        let Some(source) = proof::signer(&message) else { return Err("signature") };
        self.take(&message)?;
        self.inner.metrics.p2p.gossip_taken.inc();
        let payer = (!self.is_trusted(connection)).then(|| Payer::of(connection));
        self.hand_on(topic, &message, payer, &[source, connection.peer]);
        self.spread(&message);
        Ok(())
    }

    /// Takes a message of so many bytes from what the peer may say.
    fn charge(&self, connection: &Connection, length: usize) -> Result<(), &'static str> {
        if self.is_trusted(connection) { Ok(()) } else { self.inner.rates.take(connection, length) }
    }

    fn is_trusted(&self, connection: &Connection) -> bool {
        self.inner.trusted.contains(&connection.peer)
    }

    /// Takes note of a message, if it has not come by another way.
    pub(super) fn take(&self, message: &Published) -> Result<(), &'static str> {
        if self.inner.seen.note(message, Instant::now()) { Ok(()) } else { Err("duplicate") }
    }

    /// The number of that topic, if it is one of the relay's.
    pub(super) fn topic(&self, name: &str) -> Option<usize> {
        self.inner.topics.iter().position(|topic| topic == name)
    }
}

fn read(rpc: Bytes) -> Result<Told, &'static str> {
    let told = pubsub::read(rpc).map_err(|_| "malformed")?;
    let crowded = told.messages.len() > MAX_MESSAGES || told.subscriptions.len() > MAX_SUBSCRIPTIONS;
    if crowded { Err("too_many") } else { Ok(told) }
}
