//! The mailbox benchmark: clients that store blobs and wait for `Stored`, for a fixed time (Vauchi relay protocol,
//! sections 1 to 5).
//!
//! Every connection is an ordinary client with a name of its own, without proof, and with Noise if the URL has the
//! relay's key. With [`MailboxLoad::deliver`] each writes to one recipient that is connected and acknowledges; otherwise to mailboxes
//! that nobody opens, in turn, so that a quota for one of them is not reached soon.

mod client;
mod recipient;
mod report;
mod sender;
mod tally;
#[cfg(test)]
mod tests;
mod url;

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::JoinSet;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::error::BenchError;
use super::load::{WARM_UP, finish};
use super::process::{require_open_files, usage_of_all};
use super::report::{Latency, ProcessCost};
use client::MailboxClient;
use recipient::Recipient;
use sender::Sender;
use tally::MailboxTally;

pub use report::MailboxReport;
pub use url::{MailboxUrl, NotAMailboxUrl};

/// Most clients of one run.
pub const MAX_CLIENTS: usize = 10_000;

/// Longest blob. As JSON it is about 900 KiB; shipped clients send no longer frames than 1 MiB, and with Noise none
/// longer than 65,519 bytes.
pub const MAX_PAYLOAD_BYTES: usize = 256 << 10;

/// Most mailboxes for one client.
pub const MAX_MAILBOXES: usize = 1_000_000;

/// How long a blob may go without an answer. What a relay drops for its rate limit is never answered.
pub const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// Open files that the process needs besides its connections.
const OTHER_FILES: u64 = 64;

/// What to run.
#[derive(Debug, Clone)]
pub struct MailboxLoad {
    /// The relay that senders connect to.
    pub url: MailboxUrl,
    /// The relay that recipients connect to, with [`MailboxLoad::deliver`]: the same, or another node of its cluster.
    pub recipient_url: MailboxUrl,
    /// Clients that store, each with a connection and a name of its own.
    pub clients: usize,
    /// Blobs that each client has on their way, at most [`MAX_IN_FLIGHT`](super::load::MAX_IN_FLIGHT).
    pub in_flight: usize,
    /// Bytes of each blob, at most [`MAX_PAYLOAD_BYTES`].
    pub payload_bytes: usize,
    /// Mailboxes that each client writes to, in turn.
    pub mailboxes: usize,
    /// Whether each client writes to one recipient instead, that is connected and acknowledges.
    pub deliver: bool,
    /// How long to measure, after [`WARM_UP`].
    pub duration: Duration,
    /// How long a blob may go without an answer before it is counted as lost: see [`ANSWER_TIMEOUT`].
    pub patience: Duration,
    /// Processes whose CPU time and memory to report.
    pub processes: Vec<u32>,
}

impl MailboxLoad {
    /// Runs it. Errors of single blobs are counted in the report and do not end the run.
    ///
    /// # Errors
    /// If a connection cannot be opened at the start, or a process to watch cannot be read.
    pub async fn run(&self) -> Result<MailboxReport, BenchError> {
        let connections = if self.deliver { 2 * self.clients } else { self.clients };
        require_open_files(connections as u64 + OTHER_FILES)?;
        let tally = Arc::new(MailboxTally::default());
        let (senders_stop, recipients_stop) = (CancellationToken::new(), CancellationToken::new());
        let (mut senders, mut recipients) = (JoinSet::new(), JoinSet::new());
        let mut connected = Vec::with_capacity(self.clients);
        for index in 0..self.clients {
            let mailboxes = if self.deliver {
                let (recipient, client) = self.connect_recipient(index, &tally).await?;
                let id = recipient.client_id().to_owned();
                recipients.spawn(recipient.run(client, recipients_stop.clone()));
                vec![id]
            } else {
                (0..self.mailboxes).map(|_| random_id()).collect()
            };
            connected.push(self.connect_sender(index, mailboxes, &tally).await?);
        }
        for (sender, client) in connected {
            senders.spawn(sender.run(client, senders_stop.clone()));
        }

        sleep(WARM_UP).await;
        let report = self.measure(&tally).await?;

        senders_stop.cancel();
        finish(senders).await?;
        recipients_stop.cancel();
        finish(recipients).await?;
        Ok(report)
    }

    async fn measure(&self, tally: &MailboxTally) -> Result<MailboxReport, BenchError> {
        let before = usage_of_all(&self.processes)?;
        let began = Instant::now();
        tally.common.start();
        sleep(self.duration).await;
        tally.common.stop();
        let elapsed = began.elapsed();
        let after = usage_of_all(&self.processes)?;
        let costs = self.processes.iter().zip(before.into_iter().zip(after));
        Ok(MailboxReport {
            clients: self.clients,
            in_flight: self.in_flight,
            payload_bytes: self.payload_bytes,
            seconds: elapsed.as_secs_f64(),
            stored: tally.common.round_trips().count(),
            latency: Latency::of(tally.common.round_trips()),
            failed: tally.failed(),
            delivered: tally.delivered(),
            reconnects: tally.common.reconnects(),
            errors: tally.common.error_counts(),
            processes: costs.map(|(pid, (before, after))| ProcessCost::new(*pid, before, after)).collect(),
        })
    }

    async fn connect_recipient(
        &self,
        index: usize,
        tally: &Arc<MailboxTally>,
    ) -> Result<(Recipient, MailboxClient), BenchError> {
        let recipient = Recipient::new(self.recipient_url.clone(), random_id(), Arc::clone(tally));
        match recipient.connect().await {
            Ok(client) => Ok((recipient, client)),
            Err(cause) => Err(BenchError::Start { role: "recipient", index, cause }),
        }
    }

    async fn connect_sender(
        &self,
        index: usize,
        mailboxes: Vec<String>,
        tally: &Arc<MailboxTally>,
    ) -> Result<(Sender, MailboxClient), BenchError> {
        let sender = Sender::new(self, random_id(), mailboxes, Arc::clone(tally));
        match sender.connect().await {
            Ok(client) => Ok((sender, client)),
            Err(cause) => Err(BenchError::Start { role: "client", index, cause }),
        }
    }
}

/// A name as clients have it: 64 hex digits.
fn random_id() -> String {
    hex::encode(rand::random::<[u8; 32]>())
}
