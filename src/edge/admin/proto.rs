//! The messages, the server and the client of `proto/waystation/admin/v1`.

#![allow(missing_docs, reason = "generated; the .proto file is the documentation")]

tonic::include_proto!("waystation.admin.v1");

/// The shapes of them all, for reflection.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/admin.bin"));
