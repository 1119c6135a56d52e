//! A node: everything that runs in one process.

use crate::config::Config;

/// Runs a node until it is told to stop.
///
/// # Errors
/// What kept it from starting.
pub async fn serve(config: Config) -> anyhow::Result<()> {
    for name in &config.unknown_variables {
        tracing::warn!(%name, "this environment variable is no setting and has no effect");
    }
    tracing::info!(listen = %config.listen, "configured");
    Ok(())
}

/// Runs a small cluster on this machine and shows it at work; `once`: ends after one round.
///
/// # Errors
/// What did not work as it should.
pub async fn demo(once: bool) -> anyhow::Result<()> {
    tracing::info!(once, "demonstration");
    Ok(())
}
