//! What goes on beside the sessions: sweeps of what has expired, and of rates that limit nobody.

use std::convert::Infallible;
use std::time::{Duration, Instant};

use super::MailboxService;
use crate::store::SWEEP_STEP;

/// How often rates are swept.
const RATES: Duration = Duration::from_secs(60);

/// A sweep rests this many times as long as its last step took, so that others do not feel it.
const REST: u32 = 4;

/// The least rest between two steps.
const LEAST_REST: Duration = Duration::from_millis(1);

impl MailboxService {
    /// Begins the upkeep, until the node stops.
    pub(super) fn keep_up(&self) {
        let (this, stop) = (self.clone(), self.inner.supervisor.token());
        self.inner.supervisor.spawn("mailbox sweep", async move {
            stop.run_until_cancelled(this.sweep_forever()).await;
            Ok::<(), Infallible>(())
        });
        let (this, stop) = (self.clone(), self.inner.supervisor.token());
        self.inner.supervisor.spawn("mailbox rates", async move {
            while stop.run_until_cancelled(tokio::time::sleep(RATES)).await.is_some() {
                this.inner.rates.sweep();
            }
            Ok::<(), Infallible>(())
        });
    }

    async fn sweep_forever(&self) {
        loop {
            self.sweep_all().await;
            tokio::time::sleep(self.inner.settings.cleanup_interval).await;
        }
    }

    /// Sweeps all that has expired, a step at a time.
    pub(super) async fn sweep_all(&self) {
        self.note_seen().await;
        loop {
            let begun = Instant::now();
            match self.inner.store.sweep(self.moment(), SWEEP_STEP).await {
                Ok(swept) => {
                    self.inner.metrics.mailbox.expired.inc_by(swept.blobs as u64);
                    if swept.blobs + swept.done < SWEEP_STEP {
                        break;
                    }
                }
                Err(error) => {
                    self.store_failed("sweep", &error);
                    self.inner.supervisor.went_on_after("mailbox sweep", &error);
                    break;
                }
            }
            tokio::time::sleep((begun.elapsed() * REST).max(LEAST_REST)).await;
        }
        if let Err(error) = self.count_purges().await {
            self.store_failed("purges", &error);
            self.inner.supervisor.went_on_after("mailbox sweep", &error);
        }
        self.count_blobs().await;
    }

    /// Has the figure of blobs be what the store says, in case that what became of some was not.
    pub(super) async fn count_blobs(&self) {
        if let Ok(blobs) = self.blobs().await {
            self.inner.metrics.mailbox.blobs.set(i64::try_from(blobs).unwrap_or(i64::MAX));
        }
    }
}
