//! Bytes to domain and back. Every parser here takes what a stranger sent, is bounded and does not panic.

pub mod dcp;
