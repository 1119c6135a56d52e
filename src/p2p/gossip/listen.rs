//! What one peer says.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use libp2p::Stream;

use crate::p2p::framing;
use crate::p2p::streams::Connection;
use crate::security::limiter::ConnectionLimiter;
use crate::wire::p2p::pubsub::{self, MAX_READ_BYTES, NoMessage, Published, Told};

use super::speaker::Speaker;
use super::{Gossip, proof};

/// How long a peer may take for an RPC that it has begun.
const PATIENCE: Duration = Duration::from_secs(20);

/// RPCs that are read from one stream in a minute; for more, nothing is read for a while. What a peer passes on that came
/// already by others counts here, and nowhere else.
const RPCS_PER_MINUTE: NonZeroU32 = NonZeroU32::new(12_000).unwrap();

/// For how long nothing is read.
const PAUSE: Duration = Duration::from_millis(100);

impl Gossip {
    /// Reads what a peer says until its stream ends, or makes no sense.
    pub(super) async fn listen(&self, connection: &Arc<Connection>, speaker: &Speaker, mut stream: Stream) {
        let metrics = &self.inner.metrics.p2p;
        let read = ConnectionLimiter::new(RPCS_PER_MINUTE);
        loop {
            let rpc = match framing::next(&mut stream, MAX_READ_BYTES, PATIENCE).await {
                Ok(Some(rpc)) => pubsub::read(rpc.into()).map_err(|_| "malformed"),
                Ok(None) => return,
                Err(why) => Err(why),
            };
            match rpc {
                Ok(told) => self.told(connection, speaker, told),
                Err(why) => {
                    // It costs what a message costs.
                    self.charge(connection, 0).unwrap_or_default();
                    return metrics.refuse_stream(why);
                }
            }
            while !read.check() {
                tokio::time::sleep(PAUSE).await;
            }
        }
    }

    fn told(&self, connection: &Connection, speaker: &Speaker, told: Told) {
        let metrics = &self.inner.metrics.p2p;
        for subscription in told.subscriptions {
            // Any other is of no use here, and not kept.
            let Some(topic) = self.topic(&subscription.topic) else { continue };
            if speaker.want(topic, subscription.wanted) {
                metrics.gossip_subscriptions.inc_by(if subscription.wanted { 1 } else { -1 });
            }
        }
        for message in told.messages {
            if let Err(why) = self.published(connection, message) {
                metrics.refuse_gossip(why);
            }
        }
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
        self.hand_on(topic, &message, &[source, connection.peer]);
        self.spread(&message);
        Ok(())
    }

    /// Takes a message of so many bytes from what the peer may say.
    fn charge(&self, connection: &Connection, length: usize) -> Result<(), &'static str> {
        if self.inner.trusted.contains(&connection.peer) {
            return Ok(());
        }
        self.inner.rates.take(connection, length)
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
