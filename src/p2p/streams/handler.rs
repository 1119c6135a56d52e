//! What each connection does with its streams.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};

use futures::StreamExt;
use futures::future::{Ready, ready};
use futures::stream::FuturesUnordered;
use libp2p::core::upgrade::{InboundUpgrade, ReadyUpgrade, UpgradeInfo};
use libp2p::swarm::handler::{ConnectionEvent, DialUpgradeError, FullyNegotiatedInbound, FullyNegotiatedOutbound};
use libp2p::swarm::{ConnectionHandler, ConnectionHandlerEvent, SubstreamProtocol};
use libp2p::{Stream, StreamProtocol};

use super::connection::{Carried, Reply};
use super::{Connection, OpenError, Serve};

/// One connection's part.
pub struct Handler {
    connection: Arc<Connection>,
    offered: Arc<[StreamProtocol]>,
    serve: Arc<dyn Serve>,
    carried: FuturesUnordered<Carried>,
}

impl Handler {
    pub(super) fn new(connection: Arc<Connection>, offered: Arc<[StreamProtocol]>, serve: Arc<dyn Serve>) -> Self {
        Self { connection, offered, serve, carried: FuturesUnordered::new() }
    }
}

impl Drop for Handler {
    fn drop(&mut self) {
        self.connection.close();
    }
}

impl ConnectionHandler for Handler {
    type FromBehaviour = Infallible;
    type ToBehaviour = Infallible;
    type InboundProtocol = Offered;
    type OutboundProtocol = ReadyUpgrade<StreamProtocol>;
    type InboundOpenInfo = ();
    type OutboundOpenInfo = Reply;

    fn listen_protocol(&self) -> SubstreamProtocol<Offered> {
        SubstreamProtocol::new(Offered(self.offered.clone()), ())
    }

    fn connection_keep_alive(&self) -> bool {
        self.connection.holds.load(Ordering::Relaxed) > 0
    }

    fn poll(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<ConnectionHandlerEvent<Self::OutboundProtocol, Reply, Infallible>> {
        // Nobody opens a stream that nobody waits for any more.
        while let Some((protocol, reply)) = self.connection.next_wanted(cx.waker()) {
            if !reply.is_closed() {
                let protocol = SubstreamProtocol::new(ReadyUpgrade::new(protocol), reply);
                return Poll::Ready(ConnectionHandlerEvent::OutboundSubstreamRequest { protocol });
            }
        }
        self.carried.extend(self.connection.newly_carried());
        while let Poll::Ready(Some(())) = self.carried.poll_next_unpin(cx) {}
        Poll::Pending
    }

    fn on_behaviour_event(&mut self, event: Infallible) {
        match event {}
    }

    fn on_connection_event(
        &mut self,
        event: ConnectionEvent<'_, Self::InboundProtocol, Self::OutboundProtocol, (), Reply>,
    ) {
        match event {
            ConnectionEvent::FullyNegotiatedInbound(FullyNegotiatedInbound {
                protocol: (protocol, stream), ..
            }) => {
                self.serve.stream(&self.connection, protocol, stream);
            }
            ConnectionEvent::FullyNegotiatedOutbound(FullyNegotiatedOutbound { protocol, info }) => {
                // Whoever asked has gone: the stream is reset.
                drop(info.send(Ok(protocol)));
            }
            ConnectionEvent::DialUpgradeError(DialUpgradeError { info, error }) => {
                tracing::debug!(peer = %self.connection.peer, %error, "a stream was not opened");
                drop(info.send(Err(OpenError::Refused)));
            }
            _ => {}
        }
    }
}

/// The protocols of which peers may open streams.
pub struct Offered(Arc<[StreamProtocol]>);

impl UpgradeInfo for Offered {
    type Info = StreamProtocol;
    type InfoIter = OneByOne;

    fn protocol_info(&self) -> OneByOne {
        OneByOne { all: self.0.clone(), next: 0 }
    }
}

/// These, without a list of them for each time that a connection is asked.
pub struct OneByOne {
    all: Arc<[StreamProtocol]>,
    next: usize,
}

impl Iterator for OneByOne {
    type Item = StreamProtocol;

    fn next(&mut self) -> Option<StreamProtocol> {
        let protocol = self.all.get(self.next).cloned();
        self.next += 1;
        protocol
    }
}

impl InboundUpgrade<Stream> for Offered {
    type Output = (StreamProtocol, Stream);
    type Error = Infallible;
    type Future = Ready<Result<Self::Output, Infallible>>;

    fn upgrade_inbound(self, stream: Stream, protocol: StreamProtocol) -> Self::Future {
        ready(Ok((protocol, stream)))
    }
}
