//! Behaviour of the whole: its shape, its documentation, what clients see of it, and what leaves the process.

// Clippy lets tests unwrap, but not their helpers.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod dcp_agent;
mod layers;
mod session_mode;
mod settings_table;
#[path = "../support/mod.rs"]
mod support;
mod traces;
