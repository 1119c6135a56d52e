//! Spans reach an OTLP collector, and those of one message are one trace whichever nodes it passes.

use std::net::SocketAddr;
use std::time::Duration;

use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{TraceService, TraceServiceServer};
use opentelemetry_proto::tonic::collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::Span;
use tokio::sync::mpsc;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::{Identity, Server, ServerTlsConfig};
use tonic::{Request, Response, Status};
use tracing::subscriber::with_default;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::Registry;
use waystation::config::Config;
use waystation::observe::trace::{self, Traces};

use crate::support::cluster::{figure_is, live_nodes_are};
use crate::support::tls::{Authority, choose_provider};
use crate::support::{Process, SEED, TestAgent, TestVault, VAULT, exchange, free_port};

const LIMIT: Duration = Duration::from_secs(30);

/// A collector that passes on what it gets.
struct Collector(mpsc::UnboundedSender<ExportTraceServiceRequest>);

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        self.0.send(request.into_inner()).map_err(|_| Status::unavailable("the test has ended"))?;
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

type Batches = mpsc::UnboundedReceiver<ExportTraceServiceRequest>;

/// A running collector's URL, and what it gets.
async fn collector() -> (String, Batches) {
    let (address, batches) = collect(Server::builder()).await;
    (format!("http://{address}"), batches)
}

/// The same over TLS, with a certificate of `authority`.
async fn tls_collector(authority: &Authority) -> (String, Batches) {
    choose_provider();
    let (certificate, key) = authority.certify("127.0.0.1");
    let tls = ServerTlsConfig::new().identity(Identity::from_pem(certificate, key));
    let (address, batches) = collect(Server::builder().tls_config(tls).unwrap()).await;
    (format!("https://{address}"), batches)
}

async fn collect(mut server: Server) -> (SocketAddr, Batches) {
    let (sender, batches) = mpsc::unbounded_channel();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = server.add_service(TraceServiceServer::new(Collector(sender)));
    tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
    (address, batches)
}

/// Every span of a node goes to `endpoint`.
fn start(endpoint: &str, node: &str) -> Traces {
    let settings = [("RELAY_OTLP_ENDPOINT", endpoint), ("RELAY_TRACE_SAMPLE_RATIO", "1")];
    let config = Config::from_pairs(settings).unwrap();
    Traces::start(&config.trace, &config.outbound_roots, &node.parse().unwrap()).unwrap()
}

/// A process of which every span goes to `endpoint`, at once; it trusts the authorities in the file `trusted`.
async fn traced(endpoint: &str, trusted: &str) -> Process {
    let settings = [
        ("RELAY_OTLP_ENDPOINT", endpoint),
        ("RELAY_TRACE_SAMPLE_RATIO", "1"),
        ("RELAY_OUTBOUND_CA_FILE", trusted),
        ("RELAY_LOG_LEVEL", "warn"),
        ("OTEL_BSP_SCHEDULE_DELAY", "10"),
    ];
    Process::start_with_log(&settings).await
}

/// The only span of a node's only batch, and what it says of the node.
async fn only_span(batches: &mut Batches) -> (Resource, Span) {
    let mut batch = tokio::time::timeout(LIMIT, batches.recv()).await.unwrap().unwrap();
    let mut resource = batch.resource_spans.remove(0);
    let mut spans = resource.scope_spans.remove(0).spans;
    assert_eq!((batch.resource_spans.len(), spans.len()), (0, 1), "{spans:?}");
    (resource.resource.unwrap(), spans.remove(0))
}

fn attribute(resource: &Resource, key: &str) -> String {
    let value = resource.attributes.iter().find(|attribute| attribute.key == key);
    format!("{:?}", value.and_then(|attribute| attribute.value.clone()))
}

#[tokio::test(flavor = "multi_thread")]
async fn one_message_is_one_trace_across_nodes() {
    let (endpoint, mut batches) = collector().await;
    let (first, second) = (start(&endpoint, "node-1"), start(&endpoint, "node-2"));

    let carried = with_default(Registry::default().with(first.layer()), || {
        let span = tracing::info_span!(target: "waystation::vault", "accept");
        trace::traceparent_of(&span).unwrap()
    });
    with_default(Registry::default().with(second.layer()), || {
        let span = tracing::info_span!(target: "waystation::vault", "deliver");
        trace::set_parent(&span, &carried);
        span.in_scope(|| ());
    });

    first.shutdown(LIMIT).await.unwrap();
    let (accepting, accept) = only_span(&mut batches).await;
    second.shutdown(LIMIT).await.unwrap();
    let (delivering, deliver) = only_span(&mut batches).await;

    assert_eq!((accept.name.as_str(), deliver.name.as_str()), ("accept", "deliver"));
    assert_eq!(deliver.trace_id, accept.trace_id);
    assert_eq!(deliver.parent_span_id, accept.span_id);
    assert!(accept.parent_span_id.is_empty());
    for (resource, node) in [(&accepting, "node-1"), (&delivering, "node-2")] {
        assert!(attribute(resource, "service.name").contains("waystation"));
        assert!(attribute(resource, "service.instance.id").contains(node));
        assert!(attribute(resource, "service.version").contains(env!("CARGO_PKG_VERSION")));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_is_gone_does_not_hold_up_the_end() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let traces = start(&endpoint, "node-1");
    with_default(Registry::default().with(traces.layer()), || {
        tracing::info_span!(target: "waystation::vault", "accept").in_scope(|| ());
    });
    let end = tokio::time::timeout(LIMIT, traces.shutdown(Duration::from_millis(100))).await.unwrap();
    assert!(end.is_err(), "the span cannot have been sent");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_is_one_trace_on_both_its_nodes() {
    let (endpoint, mut batches) = collector().await;
    let traced = [("RELAY_OTLP_ENDPOINT", endpoint.as_str()), ("RELAY_TRACE_SAMPLE_RATIO", "1.0")];
    let home = Process::start(&traced).await;
    let seed = home.gossip.to_string();
    let origin = Process::start(&[traced[0], traced[1], ("RELAY_CLUSTER_SEEDS", &seed)]).await;
    live_nodes_are([home.public, origin.public], 2).await;
    is_one_trace(&origin, &home, &mut batches).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_is_one_trace_in_both_its_clusters() {
    let (endpoint, mut batches) = collector().await;
    let traced = [
        ("RELAY_OTLP_ENDPOINT", endpoint.as_str()),
        ("RELAY_TRACE_SAMPLE_RATIO", "1.0"),
        ("RELAY_FEDERATION_ENABLED", "true"),
    ];
    let address = format!("127.0.0.1:{}", free_port());
    let peer = format!("http://{address}");
    let own = [("RELAY_REGION", "eu"), ("RELAY_FEDERATION_ADDR", address.as_str())];
    let home = Process::start(&[&traced[..], &own].concat()).await;
    let own = [("RELAY_FEDERATION_ADDR", "127.0.0.1:0"), ("RELAY_FEDERATION_PEERS", peer.as_str())];
    let origin = Process::start(&[&traced[..], &own].concat()).await;
    figure_is(origin.public, &format!(r#"waystation_federation_up{{peer="{peer}"}}"#), |up| up == 1.0).await;
    is_one_trace(&origin, &home, &mut batches).await;
}

/// A request at the one node is a span, and its delivery at the other one below it.
async fn is_one_trace(origin: &Process, home: &Process, batches: &mut Batches) {
    let mut vault = TestVault::registered(home.public, VAULT, SEED).await;
    let mut agent = TestAgent::connect(origin.public).await;
    exchange(&mut agent, &mut vault, "req_1").await;
    // What is left to be sent is sent when a node ends.
    drop((vault, agent));
    origin.sigterm();
    home.sigterm();

    let (mut request, mut deliver) = (None, None);
    while request.is_none() || deliver.is_none() {
        let (_, span) = only_span(batches).await;
        match span.name.as_str() {
            "vault.request" => request = Some(span),
            "vault.deliver" => deliver = Some(span),
            other => panic!("nothing else is traced: {other}"),
        }
    }
    let (request, deliver) = (request.unwrap(), deliver.unwrap());
    assert_eq!((&deliver.trace_id, &deliver.parent_span_id), (&request.trace_id, &request.span_id));
}

#[tokio::test(flavor = "multi_thread")]
async fn spans_reach_a_collector_that_the_operators_authority_stands_behind() {
    let authority = Authority::new();
    let (endpoint, mut batches) = tls_collector(&authority).await;
    let node = traced(&endpoint, &authority.file()).await;
    let mut vault = TestVault::registered(node.public, VAULT, SEED).await;
    let mut agent = TestAgent::connect(node.public).await;
    exchange(&mut agent, &mut vault, "req_1").await;
    let batch = tokio::time::timeout(LIMIT, batches.recv()).await.unwrap().unwrap();
    assert!(!batch.resource_spans.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_nobody_trusted_stands_behind_gets_no_span_and_one_line_in_the_log() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let (endpoint, mut batches) = tls_collector(&authority).await;
    let mut node = traced(&endpoint, &stranger.file()).await;
    let mut vault = TestVault::registered(node.public, VAULT, SEED).await;
    let mut agent = TestAgent::connect(node.public).await;
    exchange(&mut agent, &mut vault, "req_1").await;
    let line = node.log_line().await.unwrap();
    assert!(line.contains("spans were not sent") && line.contains("invalid peer certificate"), "{line}");

    // Spans that end later are not worth a line of their own, but those that are lost by the end are.
    exchange(&mut agent, &mut vault, "req_2").await;
    drop((agent, vault));
    node.sigterm();
    let mut rest = Vec::new();
    while let Some(line) = node.log_line().await {
        rest.push(line);
    }
    assert!(rest.iter().all(|line| line.contains("the last traces were not sent")), "{rest:#?}");
    assert!(batches.try_recv().is_err(), "a span was sent to a stranger");
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_share_of_traces_that_is_set_is_sent() {
    // At the default share, one of them is sent, but once in 40,000 runs.
    const REQUESTS: usize = 100;
    let (endpoint, mut batches) = collector().await;
    let mut node = Process::start(&[("RELAY_OTLP_ENDPOINT", &endpoint), ("RELAY_TRACE_SAMPLE_RATIO", "0.0")]).await;
    let mut vault = TestVault::registered(node.public, "vault_demo01", 7).await;
    let mut agent = TestAgent::connect(node.public).await;
    for n in 0..REQUESTS {
        let id = format!("req_{n}");
        agent.ask("vault_demo01", &id).await;
        vault.expect_request(&id).await;
        vault.respond(&id, "AAAA").await;
        agent.expect_response(&id).await;
    }
    drop((vault, agent));
    node.sigterm();
    assert!(node.ended().await.success());
    assert!(batches.try_recv().is_err(), "nothing of it is to be sent");
}
