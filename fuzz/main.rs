//! Fuzz targets: one for each parser that reads what a stranger sent, with the properties it promises.
//!
//! `cargo test` runs each briefly, on the inputs kept below `__fuzz__` and on random ones; `make fuzz` lets
//! libFuzzer look for inputs that reach something new.

// Clippy lets tests unwrap, but not their helpers.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod config;
mod dcp;
mod network;
mod noise;
mod p2p;
mod text;
mod vauchi;

use waystation::domain::clock::Millis;

/// Random inputs per target in `cargo test`: well below a second in an unoptimised build.
const ITERATIONS: usize = 1000;

/// 2026-01-02T03:04:06Z, when the worked examples of the protocols take place.
const NOW: Millis = Millis(1_767_323_046_000);
