//! What the operator can see: figures, traces and log lines.

pub mod metrics;
