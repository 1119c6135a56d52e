//! Out of service, and back.

use std::time::Duration;

use futures::{Stream, stream};
use tonic::Status;

use super::auth::Caller;
use super::proto::{self, DrainRequest, DrainStatusResponse};
use super::service::Service;
use crate::runtime::leaving::{Phase, Progress};

impl Service {
    /// How long a drain shall wait.
    pub(super) fn drain_time(&self, request: &DrainRequest) -> Duration {
        let said = request.timeout_secs.map(|secs| Duration::from_secs(secs.into()));
        said.unwrap_or(self.parts.about.drain_timeout)
    }

    /// Tells the node to leave.
    pub(super) fn begin_drain(
        &self,
        caller: &Caller,
        within: Duration,
        evacuate: bool,
    ) -> Result<DrainStatusResponse, Status> {
        let (leaving, by) = (&self.parts.leaving, caller.to_string());
        let begun = if evacuate { leaving.begin_emptying(&by, within) } else { leaving.begin(&by, within, true) };
        begun.map_err(|error| Status::failed_precondition(error.to_string()))?;
        Ok(self.drain_now())
    }

    /// Tells the node to return; it has when this answers.
    pub(super) async fn undo_drain(&self) -> Result<DrainStatusResponse, Status> {
        let undone = self.parts.leaving.undo().await;
        undone.map_err(|error| Status::failed_precondition(error.to_string()))?;
        Ok(self.drain_now())
    }

    /// How far it is.
    pub(super) fn drain_now(&self) -> DrainStatusResponse {
        let metrics = &self.parts.metrics;
        let count = |open: i64| u64::try_from(open).unwrap_or(0);
        let (websockets, requests) = (count(metrics.edge.websockets.get()), count(metrics.vault.pending.get()));
        shown(&Progress { websockets, requests, ..self.parts.leaving.now() })
    }

    /// How far it is, now and at every change, up to its end.
    pub(super) fn drain_changes(&self) -> impl Stream<Item = Result<DrainStatusResponse, Status>> + Send + 'static {
        let mut watch = self.parts.leaving.watch();
        watch.mark_changed();
        stream::unfold(Some(watch), |watch| async {
            let mut watch = watch?;
            watch.changed().await.ok()?;
            let now = watch.borrow_and_update().clone();
            let more = (now.phase != Phase::Left).then_some(watch);
            Some((Ok(shown(&now)), more))
        })
    }
}

fn shown(progress: &Progress) -> DrainStatusResponse {
    DrainStatusResponse {
        phase: phase(progress.phase).into(),
        by: progress.by.to_string(),
        since_ms: progress.since.0,
        deadline_ms: progress.deadline.0,
        may_return: progress.may_return,
        websockets: progress.websockets,
        pending_requests: progress.requests,
        evacuates: progress.evacuates,
        blobs_left: progress.blobs,
    }
}

/// The same in the words of the wire.
pub(super) fn phase(phase: Phase) -> proto::Phase {
    match phase {
        Phase::Serving => proto::Phase::Serving,
        Phase::Draining => proto::Phase::Draining,
        Phase::Returning => proto::Phase::Returning,
        Phase::Closing => proto::Phase::Closing,
        Phase::Left => proto::Phase::Left,
    }
}
