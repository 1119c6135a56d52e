//! What one peer is told.

use std::convert::Infallible;
use std::io;
use std::time::{Duration, Instant};

use futures::AsyncWriteExt;
use libp2p::{Stream, StreamProtocol};

use crate::p2p::streams::{Connection, OpenError};

use super::Gossip;
use super::queue::Queue;
use super::speaker::Speaker;

/// How long a peer may take for one message before it misses what waits behind it.
const PATIENCE: Duration = Duration::from_secs(20);

/// Streams that are opened on one connection, one after the other has broken, and how long apart: stock peers take no more
/// than five, and serve no stream at all after that.
const OPENINGS: usize = 4;
const APART: Duration = Duration::from_secs(30);

impl Gossip {
    /// Tells a peer of the topics, and of all that is queued for it, on one connection after the other until its last ends.
    pub(super) async fn tell(&self, protocol: StreamProtocol, speaker: &Speaker) {
        while !speaker.queue.has_ended() {
            let Some(connection) = self.inner.crowd.way(&speaker.peer) else {
                // It ends, or there is one soon.
                speaker.moved.notified().await;
                continue;
            };
            let left = async {
                while !connection.is_closed() && !speaker.queue.has_ended() {
                    speaker.moved.notified().await;
                }
            };
            tokio::select! {
                biased;
                () = left => {}
                never = self.tell_by(&connection, &protocol, speaker) => match never {},
            }
        }
    }

    /// Tells it on one stream after the other. The connection of a peer that wants to hear things, and does not take any of
    /// them, is closed, so that it comes anew.
    async fn tell_by(&self, connection: &Connection, protocol: &StreamProtocol, speaker: &Speaker) -> Infallible {
        for _ in 0..OPENINGS {
            speaker.queue.open();
            let why = match connection.open(protocol.clone()).await {
                Ok(stream) => match self.tell_on(stream, speaker).await {
                    // The stream has broken.
                    Err(_) => "broken",
                    // The queue has ended.
                    Ok(()) => return std::future::pending().await,
                },
                // Who waits here is told so.
                Err(OpenError::Closed) => return std::future::pending().await,
                Err(OpenError::Busy | OpenError::Refused) => "refused",
            };
            speaker.queue.shut(why);
            tokio::time::sleep(APART).await;
        }
        while speaker.subscriptions() == 0 {
            tokio::time::sleep(APART).await;
        }
        self.close(connection).await;
        std::future::pending().await
    }

    async fn tell_on(&self, mut stream: Stream, speaker: &Speaker) -> io::Result<()> {
        stream.ignore_for_keep_alive();
        let queue = &speaker.queue;
        patiently(queue, PATIENCE, stream.write_all(&self.inner.hello)).await?;
        loop {
            let waiting = queue.pop(Instant::now());
            let next = match waiting {
                Some(next) => Some(next),
                None => {
                    patiently(queue, PATIENCE, stream.flush()).await?;
                    queue.next().await
                }
            };
            let Some((parcel, framed)) = next else { return Ok(()) };
            patiently(queue, PATIENCE, stream.write_all(&framed)).await?;
            drop(parcel);
        }
    }
}

/// Waits until a peer has taken what is written, however long that takes. If it takes longer than `patience`, the peer misses
/// what waits behind it and what comes meanwhile.
async fn patiently(queue: &Queue, patience: Duration, work: impl Future<Output = io::Result<()>>) -> io::Result<()> {
    tokio::pin!(work);
    if let Ok(taken) = tokio::time::timeout(patience, &mut work).await {
        return taken;
    }
    queue.shut("slow");
    let taken = work.await;
    queue.open();
    taken
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use futures::FutureExt;
    use futures::channel::oneshot;

    use super::*;
    use crate::observe::metrics::Metrics;
    use crate::p2p::gossip::waiting::Waiting;

    #[tokio::test]
    async fn who_is_slow_misses_what_waits_and_hears_what_comes_after() {
        let metrics = Metrics::new();
        let queue = Arc::new(Queue::new(metrics.clone()));
        let parcel = Waiting::new(1, &metrics.p2p.gossip_waiting_bytes).parcel("said".into(), Instant::now()).unwrap();
        queue.push(&parcel).unwrap();
        let (taken, taking) = oneshot::channel();
        let work = taking.map(|taken| taken.map_err(io::Error::other));
        let writing = tokio::spawn({
            let queue = queue.clone();
            async move { patiently(&queue, Duration::ZERO, work).await }
        });
        while queue.push(&parcel) != Err("shut") {
            tokio::task::yield_now().await;
        }
        taken.send(()).unwrap();
        writing.await.unwrap().unwrap();
        assert!(queue.pop(Instant::now()).is_none(), "missed");
        assert_eq!(queue.push(&parcel), Ok(()));
        let broken = patiently(&queue, PATIENCE, async { Err(io::ErrorKind::BrokenPipe.into()) }).await;
        assert!(
            broken.is_err() && queue.pop(Instant::now()).is_some(),
            "what waits is for the next stream, or for nobody"
        );
    }
}
