//! What one peer is told.

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use futures::AsyncWriteExt;
use libp2p::{Stream, StreamProtocol};

use crate::p2p::streams::{Connection, OpenError};

use super::Gossip;
use super::speaker::Speaker;

/// How long a peer may take for one message.
const PATIENCE: Duration = Duration::from_secs(20);

/// Streams that are opened to one peer, one after the other, and how long apart: stock peers take no more than five.
const OPENINGS: usize = 4;
const APART: Duration = Duration::from_secs(30);

/// Why a peer is told nothing more on a stream.
enum Silence {
    /// The connection has ended.
    Ended,
    /// The stream has.
    Broken,
    /// It does not take what it is told.
    Slow,
}

impl Gossip {
    /// Tells the peer of the topics, and of all that is queued for it, until its connection ends. What it does not take in
    /// time it misses, with all that waits behind it; a while later it is told again.
    pub(super) async fn tell(&self, connection: &Arc<Connection>, protocol: StreamProtocol, speaker: &Speaker) {
        for _ in 0..OPENINGS {
            let why = match connection.open(protocol.clone()).await {
                Ok(stream) => match self.tell_on(stream, speaker).await {
                    Silence::Ended => return,
                    Silence::Broken => "broken",
                    Silence::Slow => "slow",
                },
                Err(OpenError::Closed) => return,
                Err(OpenError::Busy | OpenError::Refused) => "refused",
            };
            for _ in 0..speaker.queue.shut() {
                self.inner.metrics.drop_one("gossip", why);
            }
            if tokio::time::timeout(APART, speaker.queue.ended()).await.is_ok() {
                return;
            }
            speaker.queue.open();
        }
        speaker.queue.shut();
    }

    async fn tell_on(&self, mut stream: Stream, speaker: &Speaker) -> Silence {
        stream.ignore_for_keep_alive();
        let told = async {
            in_time(stream.write_all(&self.inner.hello)).await?;
            loop {
                let waiting = speaker.queue.pop();
                let parcel = match waiting {
                    Some(parcel) => parcel,
                    None => {
                        in_time(stream.flush()).await?;
                        speaker.queue.next().await.ok_or(Silence::Ended)?
                    }
                };
                in_time(stream.write_all(&parcel.framed)).await?;
            }
        };
        let told: Result<Infallible, Silence> = told.await;
        match told {
            Err(why) => why,
            Ok(never) => match never {},
        }
    }
}

/// What a peer takes in time.
async fn in_time(work: impl Future<Output = io::Result<()>>) -> Result<(), Silence> {
    match tokio::time::timeout(PATIENCE, work).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(_)) => Err(Silence::Broken),
        Err(_) => Err(Silence::Slow),
    }
}
