//! The messages of `proto/waystation/cluster/v1`, and what makes them handy.

#![allow(missing_docs, reason = "generated; the .proto file is the documentation")]

tonic::include_proto!("waystation.cluster.v1");

use frame::Body;

/// What a frame costs on the wire beside its payload, roughly, in bytes.
const FRAME_OVERHEAD: usize = 160;

impl From<Body> for Frame {
    fn from(body: Body) -> Self {
        Self { ask: 0, body: Some(body) }
    }
}

impl Frame {
    /// Roughly the bytes that this frame occupies in a queue.
    #[must_use]
    pub fn weight(&self) -> usize {
        FRAME_OVERHEAD
            + match &self.body {
                Some(Body::Deliver(d)) => d.frame.len() + d.answer.len(),
                Some(Body::Answer(a)) => a.frame.len(),
                Some(Body::ForwardAnswer(a)) => a.frame.len(),
                Some(Body::Notify(n)) => n.frame.len(),
                Some(Body::SessionOpen(o)) => o.token.len(),
                Some(Body::SessionData(d)) => d.frame.len(),
                Some(Body::StoreShared(s)) => s.record.as_ref().map_or(0, |r| r.value.len()),
                Some(Body::Reply(Reply { body: Some(reply::Body::Poll(p)), .. })) => p.frame.len(),
                Some(Body::Reply(Reply { body: Some(reply::Body::Shared(s)), .. })) => {
                    s.records.iter().map(|r| r.value.len() + FRAME_OVERHEAD).sum()
                }
                _ => 0,
            }
    }
}
