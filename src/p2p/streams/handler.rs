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
        let untouched = self.connection.close();
        for work in std::mem::take(&mut self.carried).into_iter().chain(untouched) {
            self.serve.outlive(work);
        }
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

#[cfg(test)]
mod tests {
    use futures::FutureExt;
    use futures::task::noop_waker;
    use libp2p::PeerId;
    use libp2p::swarm::ConnectionId;
    use parking_lot::Mutex;

    use super::*;

    #[derive(Default)]
    struct Outlived(Mutex<Vec<Carried>>);

    impl Serve for Outlived {
        fn stream(&self, _: &Arc<Connection>, _: StreamProtocol, _: Stream) {}

        fn outlive(&self, work: Carried) {
            self.0.lock().push(work);
        }

        fn opened(&self, _: &Arc<Connection>) {}

        fn closed(&self, _: &Arc<Connection>) {}
    }

    #[test]
    fn what_a_connection_carries_is_carried_by_its_task_and_outlives_it() {
        let remote = "/ip4/192.0.2.1/tcp/1".parse().unwrap();
        let connection = Arc::new(Connection::incoming(PeerId::random(), ConnectionId::new_unchecked(1), &remote));
        let outlived = Arc::<Outlived>::default();
        let mut handler = Handler::new(connection.clone(), Arc::new([]), outlived.clone());
        let done = Arc::new(Mutex::new(0));
        let count = |done: &Arc<Mutex<i32>>| {
            let done = done.clone();
            async move { *done.lock() += 1 }.boxed()
        };
        assert!(connection.carry(count(&done)).is_ok() && connection.carry(futures::future::pending().boxed()).is_ok());
        assert!(handler.poll(&mut Context::from_waker(&noop_waker())).is_pending());
        assert_eq!(*done.lock(), 1, "the task of the connection has done what could be done");
        assert!(connection.carry(count(&done)).is_ok());
        drop(handler);
        let left = std::mem::take(&mut *outlived.0.lock());
        let ready: Vec<_> = left.into_iter().map(FutureExt::now_or_never).collect();
        assert!(ready.len() == 2 && ready.contains(&None), "what waits goes on, and what had not begun begins");
        assert_eq!(*done.lock(), 2);
        assert!(connection.carry(count(&done)).is_err());
    }
}
