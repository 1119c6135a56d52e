//! The messages of `proto/waystation/cluster/v1`, and what makes them handy.

#![allow(missing_docs, reason = "generated; the .proto file is the documentation")]

tonic::include_proto!("waystation.cluster.v1");

use frame::Body;

impl From<Body> for Frame {
    fn from(body: Body) -> Self {
        Self { ask: 0, body: Some(body) }
    }
}
