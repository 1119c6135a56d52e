//! Connections that are turned away at once: a short answer, without reading what they ask for.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;

use super::Edge;
use crate::observe::metrics::count;
use crate::security::admission::Refusal;

/// Connections that are told so at one time; more are just closed.
const MAX_ANSWERED: usize = 64;

/// How long one is given to take its answer.
const PATIENCE: Duration = Duration::from_secs(1);

/// What is read of a request that is not served, in bytes: without reading, closing would be a reset that
/// overtakes the answer.
const GLANCE_BYTES: usize = 1024;

/// A whole answer that ends the connection.
macro_rules! answer {
    ($status:literal) => {
        concat!("HTTP/1.1 ", $status, "\r\nRetry-After: 10\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
    };
}

/// Tells connections that they cannot come in.
pub(super) struct Doorman {
    answering: Arc<Semaphore>,
}

impl Doorman {
    pub(super) fn new() -> Self {
        Self { answering: Arc::new(Semaphore::new(MAX_ANSWERED)) }
    }

    /// Counts the refusal, and answers it if not too many are being answered.
    pub(super) fn refuse(&self, edge: &Edge, stream: TcpStream, refusal: Refusal) {
        let (reason, answer) = match refusal {
            Refusal::Full => ("connections", answer!("503 Service Unavailable")),
            Refusal::AddressFull => ("address_connections", answer!("429 Too Many Requests")),
        };
        count(&edge.metrics.edge.refused, reason);
        if let Ok(place) = self.answering.clone().try_acquire_owned() {
            edge.supervisor.spawn_quiet(async move {
                // Whether the answer arrives makes no difference to us.
                drop(tokio::time::timeout(PATIENCE, say(stream, answer)).await);
                drop(place);
            });
        }
    }
}

async fn say(mut stream: TcpStream, answer: &'static str) -> std::io::Result<()> {
    let mut glance = [0; GLANCE_BYTES];
    if stream.read(&mut glance).await? == 0 {
        return Ok(());
    }
    stream.write_all(answer.as_bytes()).await?;
    stream.shutdown().await?;
    while stream.read(&mut glance).await? > 0 {}
    Ok(())
}
