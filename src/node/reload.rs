//! Files of certificates and tokens that change while the node runs.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::config::{Config, FederationProof};
use crate::observe::metrics::{Metrics, Reloads};
use crate::runtime::supervisor::Supervisor;
use crate::security::reload::{Look, Reload};

/// How often files are looked at.
const LOOK: Duration = Duration::from_secs(2);

/// The task's name.
pub const TASK: &str = "files that change";

type Files = Vec<Arc<dyn Reload>>;

/// The files that the configuration names and that may change.
pub fn files(config: &Config) -> Files {
    let mut files: Files = Vec::new();
    if let Some(token) = &config.admin.token {
        files.push(Arc::new(token.clone()));
    }
    if let Some(tls) = &config.admin.tls {
        files.push(Arc::new(tls.clone()));
    }
    if let FederationProof::Certificates { tls, .. } = &config.federation.proof {
        files.push(Arc::new(tls.clone()));
    }
    files
}

/// Looks at the files again and again, until the node stops. What is broken is logged and counted, and changes nothing.
pub async fn watch(files: Files, metrics: Arc<Metrics>, supervisor: Supervisor) -> Result<(), Infallible> {
    let stop: CancellationToken = supervisor.token();
    while !files.is_empty() && stop.run_until_cancelled(tokio::time::sleep(LOOK)).await.is_some() {
        for file in &files {
            let looking = tokio::task::spawn_blocking({
                let file = file.clone();
                move || file.look()
            });
            let (name, outcome) = (file.name(), looking.await.unwrap_or(Look::Same));
            let outcome = match outcome {
                Look::Same => continue,
                Look::Taken => {
                    tracing::info!(name, "files have changed, and what they hold is in force from here on");
                    "taken"
                }
                Look::Broken(fault) => {
                    tracing::error!(name, %fault, "files have changed and cannot be used: what was before stays in force");
                    supervisor.went_on_after(TASK, &fault);
                    "broken"
                }
            };
            metrics.reloads.get_or_create(&Reloads { files: name, outcome }).inc();
        }
    }
    Ok(())
}
