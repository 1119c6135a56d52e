//! The messages of `proto/waystation/federation/v1`.

#![allow(missing_docs, reason = "generated; the .proto file is the documentation")]

tonic::include_proto!("waystation.federation.v1");
