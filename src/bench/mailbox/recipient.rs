//! One client that reads: acknowledges every blob at once.

use std::convert::Infallible;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::client::{MailboxClient, uuid};
use super::tally::MailboxTally;
use super::url::MailboxUrl;
use crate::bench::client::ConnectOptions;
use crate::bench::error::ClientError;
use crate::bench::vault::reconnected;
use crate::wire::vauchi::incoming::Incoming;
use crate::wire::vauchi::payload::{Acknowledgment, ClientPayload, Status};

/// One client.
#[derive(Debug)]
pub(super) struct Recipient {
    url: MailboxUrl,
    client_id: String,
    tally: Arc<MailboxTally>,
}

impl Recipient {
    /// A client with this name, which is that of its mailbox.
    pub(super) fn new(url: MailboxUrl, client_id: String, tally: Arc<MailboxTally>) -> Self {
        Self { url, client_id, tally }
    }

    /// Its name.
    pub(super) fn client_id(&self) -> &str {
        &self.client_id
    }

    /// Opens the client's connection.
    pub(super) async fn connect(&self) -> Result<MailboxClient, ClientError> {
        MailboxClient::connect(&self.url, &self.client_id, ConnectOptions::BUSY).await
    }

    /// Reads until `stop`; a lost connection is opened again.
    pub(super) async fn run(self, mut client: MailboxClient, stop: CancellationToken) {
        while let Some(Err(error)) = stop.run_until_cancelled(self.converse(&mut client)).await {
            self.tally.common.errors(error.code(), 1);
            match reconnected(&stop, &self.tally.common, || self.connect()).await {
                Some(fresh) => client = fresh,
                None => return,
            }
        }
        client.close().await;
    }

    async fn converse(&self, client: &mut MailboxClient) -> Result<Infallible, ClientError> {
        loop {
            let frame = client.next().await?;
            let Ok(message) = Incoming::decode(&frame) else {
                self.tally.common.errors("UNREADABLE_FRAME", 1);
                continue;
            };
            if matches!(message.payload, ClientPayload::EncryptedUpdate(_)) {
                self.tally.deliver();
                let ack = Acknowledgment { message_id: message.message_id, status: Status::ReceivedByRecipient };
                client.send(&uuid(), ClientPayload::Acknowledgment(ack)).await?;
            }
        }
    }
}
