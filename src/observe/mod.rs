//! What the operator can see: figures, traces and log lines.

pub mod log_gate;
pub mod logs;
pub mod metrics;
pub mod trace;
