//! Behaviour of the whole: its shape, its documentation, and what leaves the process.

// Clippy lets tests unwrap, but not their helpers.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod layers;
mod settings_table;
mod traces;
