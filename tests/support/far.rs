//! A node of another cluster, written by hand, that says whatever a test wants: as a peer that is called, or as a caller.

use std::pin::Pin;

use futures::{Stream, StreamExt};
use http::uri::PathAndQuery;
use prost::Message;
use tokio::net::TcpListener;
use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};
use tokio_stream::wrappers::{TcpListenerStream, UnboundedReceiverStream};
use tonic::client::Grpc;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity, Server};
use tonic::{Request, Response, Status, Streaming};
use tonic_prost::ProstCodec;
use waystation::cluster::proto::{self, PullPage, Reply, frame::Body, reply};
use waystation::domain::ids::NodeId;
use waystation::federation::proto::federation_server::{Federation, FederationServer};
use waystation::federation::proto::{Batch, Frame, Hello, OffloadPart, PullRequest, Vault, frame};

use super::{TestNode, in_time};

/// One link, seen from the hand-written side.
pub struct FarNode {
    says: UnboundedSender<Batch>,
    hears: UnboundedReceiver<Frame>,
}

impl FarNode {
    /// Calls `node`, and is let in.
    pub async fn calls(node: &TestNode) -> Self {
        Self::calls_as(node, "far").await.unwrap()
    }

    /// Calls `node` as the relay of that id.
    pub async fn calls_as(node: &TestNode, relay: &str) -> Result<Self, Status> {
        FarWire::to(node).await.link_as(relay).await
    }

    /// Opens a link, with that as its first word.
    pub async fn says_first(wire: &FarWire, first: Batch) -> Result<Self, Status> {
        let (says, saying) = mpsc::unbounded_channel();
        let (hearing, hears) = mpsc::unbounded_channel();
        says.send(first).unwrap();
        let saying = UnboundedReceiverStream::new(saying);
        let answers: Streaming<Batch> = wire.stream("Link", saying).await?;
        tokio::spawn(hear(answers, hearing));
        Ok(Self { says, hears })
    }

    /// Says a frame about a vault, or asks if `ask` is not zero.
    pub fn say(&self, ask: u64, body: Body) {
        self.say_frame(ask, frame::Body::Vault(Vault { frame: Some(body.into()) }));
    }

    /// Says a batch.
    pub fn say_batch(&self, frames: Vec<Frame>) {
        self.says.send(Batch { hello: None, frames }).unwrap();
    }

    /// Waits until the other side has ended the link.
    pub async fn ended(&mut self) {
        in_time("the link ends", async { while self.hears.recv().await.is_some() {} }).await;
    }

    /// Says any frame.
    pub fn say_frame(&self, ask: u64, body: frame::Body) {
        self.says.send(Batch { hello: None, frames: vec![Frame { ask, body: Some(body) }] }).unwrap();
    }

    /// Answers a question.
    pub fn reply(&self, ask: u64, body: reply::Body) {
        self.say_frame(0, frame::Body::Reply(Reply { ask, body: Some(body) }));
    }

    /// The next frame about a vault, and its number if it is a question. What is about anything else is left out.
    pub async fn next(&mut self) -> (u64, Body) {
        loop {
            let Frame { ask, body } = in_time("a frame", self.hears.recv()).await.expect("a link");
            if let Some(frame::Body::Vault(vault)) = body {
                return (ask, vault.frame.unwrap().body.unwrap());
            }
        }
    }

    /// The next frame about mailboxes, or about who owns a name, and its number if it is a question.
    pub async fn next_mail(&mut self) -> (u64, Body) {
        loop {
            let Frame { ask, body } = in_time("a frame", self.hears.recv()).await.expect("a link");
            if let Some(frame::Body::Mail(mail)) = body {
                return (ask, mail.frame.unwrap().body.unwrap());
            }
        }
    }

    /// The next reply, and the number of its question.
    pub async fn next_reply(&mut self) -> (u64, reply::Body) {
        loop {
            let Frame { body, .. } = in_time("a reply", self.hears.recv()).await.expect("a link");
            if let Some(frame::Body::Reply(reply)) = body {
                return (reply.ask, reply.body.unwrap());
            }
        }
    }

    /// Of a caller: waits until everything that was said before has been read; fails if anything about a vault is heard meanwhile.
    pub async fn expect_nothing(&mut self) {
        const PROBE: u64 = u64::MAX;
        self.say_frame(PROBE, frame::Body::Ping(waystation::federation::proto::Ping {}));
        loop {
            let frame = in_time("a reply", self.hears.recv()).await.expect("a link");
            match frame.body {
                Some(frame::Body::Reply(reply)) if reply.ask == PROBE => return,
                Some(frame::Body::Vault(vault)) => panic!("{vault:?}"),
                _ => {}
            }
        }
    }
}

/// A connection of a hand-written node to a real one, with whatever calls it makes.
#[derive(Clone)]
pub struct FarWire(Channel);

impl FarWire {
    /// Connects to `node`.
    pub async fn to(node: &TestNode) -> Self {
        let address = node.node().federated.unwrap();
        Self(Endpoint::from_shared(format!("http://{address}")).unwrap().connect().await.unwrap())
    }

    /// Connects to `node`, whose name is `called`, with this certificate and its key; `authority` is trusted.
    pub async fn certified(node: &TestNode, (certificate, key): &(String, String), authority: &str) -> Self {
        let address = node.node().federated.unwrap();
        let tls = ClientTlsConfig::new().domain_name("called").ca_certificate(Certificate::from_pem(authority));
        let tls = tls.identity(Identity::from_pem(certificate, key));
        let endpoint = Endpoint::from_shared(format!("https://{address}")).unwrap().tls_config(tls).unwrap();
        Self(endpoint.connect().await.unwrap())
    }

    /// Opens a link as the relay of that id.
    pub async fn link_as(&self, relay: &str) -> Result<FarNode, Status> {
        FarNode::says_first(self, Batch { hello: Some(hello_of(relay)), frames: Vec::new() }).await
    }

    /// A call with a stream either way; returns once it is taken or refused.
    pub async fn stream<T: Message + 'static, U: Message + Default + 'static>(
        &self,
        call: &str,
        says: impl Stream<Item = T> + Send + 'static,
    ) -> Result<Streaming<U>, Status> {
        let mut grpc = Grpc::new(self.0.clone());
        grpc.ready().await.unwrap();
        let path = format!("/waystation.federation.v1.Federation/{call}").parse().unwrap();
        let answers = grpc.streaming(Request::new(says), path, ProstCodec::<T, U>::default());
        Ok(in_time("the call is taken", answers).await?.into_inner())
    }

    /// Asks for a page.
    pub async fn pull(&self, request: PullRequest) -> Result<PullPage, Status> {
        let mut grpc = Grpc::new(self.0.clone());
        grpc.ready().await.unwrap();
        let path = PathAndQuery::from_static("/waystation.federation.v1.Federation/Pull");
        let page = grpc.unary(Request::new(request), path, ProstCodec::<PullRequest, PullPage>::default()).await?;
        Ok(page.into_inner())
    }
}

/// Bytes of an answer that a connection takes though nobody reads them.
const WINDOW: u32 = (1 << 16) - 1;

/// Asks `node` for a page as a caller that speaks to `at` of its cluster. The answer is read by whoever wants to.
pub async fn pulls(node: &TestNode, at: &NodeId, what: proto::PullRequest) -> Result<Streaming<PullPage>, Status> {
    let endpoint = Endpoint::from_shared(format!("http://{}", node.node().federated.unwrap())).unwrap();
    let endpoint = endpoint.initial_stream_window_size(WINDOW).initial_connection_window_size(WINDOW);
    let mut grpc = Grpc::new(endpoint.connect().await.unwrap()).max_decoding_message_size(64 << 20);
    grpc.ready().await.unwrap();
    let path = PathAndQuery::from_static("/waystation.federation.v1.Federation/Pull");
    let request = PullRequest { hello: hello().hello, node: at.to_string(), what: Some(what) };
    let codec = ProstCodec::<PullRequest, PullPage>::default();
    Ok(grpc.server_streaming(Request::new(request), path, codec).await?.into_inner())
}

/// A peer that is called at `url`, and each link to it.
pub struct FarPeer {
    /// Where it is called.
    pub url: String,
    links: UnboundedReceiver<FarNode>,
}

impl FarPeer {
    /// Listens.
    pub async fn listens() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (sender, links) = mpsc::unbounded_channel();
        let service = FederationServer::new(Callee(sender));
        tokio::spawn(Server::builder().add_service(service).serve_with_incoming(TcpListenerStream::new(listener)));
        Self { url, links }
    }

    /// The next link that is made to it.
    pub async fn called(&mut self) -> FarNode {
        in_time("a call", self.links.recv()).await.unwrap()
    }
}

struct Callee(UnboundedSender<FarNode>);

#[tonic::async_trait]
impl Federation for Callee {
    type LinkStream = Pin<Box<dyn Stream<Item = Result<Batch, Status>> + Send>>;

    async fn link(&self, request: Request<Streaming<Batch>>) -> Result<Response<Self::LinkStream>, Status> {
        let (says, saying) = mpsc::unbounded_channel();
        let (hearing, hears) = mpsc::unbounded_channel();
        says.send(hello()).unwrap();
        tokio::spawn(hear(request.into_inner(), hearing));
        self.0.send(FarNode { says, hears }).unwrap_or_default();
        Ok(Response::new(Box::pin(UnboundedReceiverStream::new(saying).map(Ok))))
    }

    async fn pull(&self, _: Request<PullRequest>) -> Result<Response<PullPage>, Status> {
        Err(Status::unimplemented("no mail here"))
    }

    type OffloadStream = Pin<Box<dyn Stream<Item = Result<proto::MailMoved, Status>> + Send>>;

    async fn offload(&self, _: Request<Streaming<OffloadPart>>) -> Result<Response<Self::OffloadStream>, Status> {
        Err(Status::unimplemented("no mail here"))
    }
}

/// Reads what the other side says. Its pings are not answered: links of tests do not live that long.
async fn hear(mut batches: Streaming<Batch>, hearing: UnboundedSender<Frame>) {
    while let Ok(Some(batch)) = batches.message().await {
        for frame in batch.frames {
            if hearing.send(frame).is_err() {
                return;
            }
        }
    }
}

fn hello() -> Batch {
    Batch { hello: Some(hello_of("far")), frames: Vec::new() }
}

/// What a relay of that id says of itself.
pub fn hello_of(relay: &str) -> Hello {
    let name = |text: &str| text.to_owned();
    Hello {
        protocol: waystation::federation::PROTOCOL,
        relay_id: name(relay),
        cluster_id: name("far"),
        region: name("far"),
        version: name("0"),
        public_url: String::new(),
    }
}

/// That the vault is there, as a peer says it.
pub fn has_it() -> reply::Body {
    reply::Body::Located(proto::Located { standing: proto::Standing::Live.into(), ..proto::Located::default() })
}
