//! Blobs that move to other clusters because an operator says so.

use futures::Stream;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use super::proto::{OffloadNowRequest, OffloadProgress, OffloadedTo};
use super::service::Service;
use crate::mailbox;

/// Messages of progress that may wait for a slow reader; it misses what does not fit.
const WAITING: usize = 16;

impl Service {
    /// The part of what may be stored that may stay.
    pub(super) fn offload_goal(&self, request: &OffloadNowRequest) -> Result<f64, Status> {
        let none = || Status::failed_precondition("this node speaks to no other clusters (RELAY_FEDERATION_ENABLED)");
        let threshold = self.parts.mailbox.offload_threshold().ok_or_else(none)?;
        match request.down_to.unwrap_or(threshold) {
            part if (0.0..=1.0).contains(&part) => Ok(part),
            _ => Err(Status::invalid_argument("down_to must be 0 to 1")),
        }
    }

    /// Moves blobs, or says what would move, and tells how far it is. Goes on though nobody listens.
    pub(super) fn offload(
        &self,
        down_to: f64,
        dry_run: bool,
    ) -> impl Stream<Item = Result<OffloadProgress, Status>> + Send + 'static {
        let (mailbox, (sender, receiver)) = (self.parts.mailbox.clone(), mpsc::channel(WAITING));
        self.parts.supervisor.spawn_quiet(async move {
            let teller = sender.clone();
            let moved = match dry_run {
                true => mailbox.offload_plan(down_to).await,
                false => {
                    let goal = mailbox::Goal::Fast(down_to);
                    mailbox.offload(goal, |progress| drop(teller.try_send(Ok(shown(progress, false))))).await
                }
            };
            let last = moved.map(|progress| shown(&progress, true));
            // Nobody may listen any more.
            drop(sender.send(last.map_err(|error| Status::aborted(error.to_string()))).await);
        });
        ReceiverStream::new(receiver)
    }
}

fn shown(progress: &mailbox::OffloadProgress, done: bool) -> OffloadProgress {
    let to = progress.to.iter().map(|(peer, (blobs, bytes))| OffloadedTo {
        peer: peer.to_string(),
        blobs: *blobs,
        bytes: *bytes,
    });
    let mut to: Vec<_> = to.collect();
    to.sort_by(|a, b| a.peer.cmp(&b.peer));
    let mailbox::OffloadProgress { blobs, bytes, refused, left, .. } = *progress;
    OffloadProgress { blobs, bytes, refused, bytes_left: left, to, done }
}
