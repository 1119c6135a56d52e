//! One vault of a load run: answers every request at once.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::client::{ConnectOptions, VaultClient};
use super::error::ClientError;
use super::frames::Head;
use super::identity::VaultIdentity;
use super::tally::Tally;
use super::target::RelayUrl;

/// First pause before a lost connection is opened again; doubled with every failure.
const FIRST_BACKOFF: Duration = Duration::from_millis(100);

/// Longest pause between two attempts.
const LAST_BACKOFF: Duration = Duration::from_secs(5);

/// Calls `connect` until it succeeds, with growing pauses; `None` once `stop` is set.
pub(super) async fn reconnected<T, F>(
    stop: &CancellationToken,
    tally: &Tally,
    mut connect: impl FnMut() -> F,
) -> Option<T>
where
    F: Future<Output = Result<T, ClientError>>,
{
    let mut pause = FIRST_BACKOFF;
    loop {
        // Up to a quarter more, so that connections lost together do not come back together.
        stop.run_until_cancelled(sleep(pause.mul_f64(1.0 + rand::random::<f64>() / 4.0))).await?;
        match stop.run_until_cancelled(connect()).await? {
            Ok(fresh) => {
                tally.reconnect();
                return Some(fresh);
            }
            Err(error) => tally.errors(error.code(), 1),
        }
        pause = LAST_BACKOFF.min(pause * 2);
    }
}

/// One vault, with a key of its own.
#[derive(Debug)]
pub(super) struct Vault {
    pub(super) url: RelayUrl,
    pub(super) identity: VaultIdentity,
    pub(super) payload: Arc<str>,
    pub(super) tally: Arc<Tally>,
}

impl Vault {
    /// Opens the vault's connection and registers it.
    pub(super) async fn connect(&self) -> Result<VaultClient, ClientError> {
        VaultClient::connect(&self.url, &self.identity, ConnectOptions::BUSY).await
    }

    /// Answers until `stop`; a lost connection is opened again.
    pub(super) async fn run(self, mut client: VaultClient, stop: CancellationToken) {
        while let Some(Err(error)) = stop.run_until_cancelled(self.converse(&mut client)).await {
            self.tally.errors(error.code(), 1);
            match reconnected(&stop, &self.tally, || self.connect()).await {
                Some(fresh) => client = fresh,
                None => return,
            }
        }
        client.close().await;
    }

    async fn converse(&self, client: &mut VaultClient) -> Result<Infallible, ClientError> {
        loop {
            let text = client.next().await?;
            let Some(head) = Head::read(&text) else {
                self.tally.errors("UNREADABLE_FRAME", 1);
                continue;
            };
            match (head.kind, head.payload.request_id) {
                ("request", Some(id)) => client.respond(id, &self.payload).await?,
                ("ack", _) => self.tally.vault_ack(),
                ("error", _) => self.tally.errors(head.payload.code.unwrap_or("ERROR_WITHOUT_CODE"), 1),
                _ => {}
            }
        }
    }
}
