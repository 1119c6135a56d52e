//! Spans reach an OTLP collector, and those of one message are one trace whichever nodes it passes.

use std::time::Duration;

use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{TraceService, TraceServiceServer};
use opentelemetry_proto::tonic::collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::Span;
use tokio::sync::mpsc;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status};
use tracing::subscriber::with_default;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::Registry;
use waystation::config::TraceConfig;
use waystation::observe::trace::{self, Traces};

use crate::support::cluster::live_nodes_are;
use crate::support::{Process, TestAgent, TestVault};

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

/// A running collector's address, and what it gets.
async fn collector() -> (String, mpsc::UnboundedReceiver<ExportTraceServiceRequest>) {
    let (sender, receiver) = mpsc::unbounded_channel();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let server = tonic::transport::Server::builder().add_service(TraceServiceServer::new(Collector(sender)));
    tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
    (endpoint, receiver)
}

fn start(endpoint: &str, node: &str) -> Traces {
    let config = TraceConfig { endpoint: Some(endpoint.to_owned()), sample_ratio: 1.0 };
    Traces::start(&config, &node.parse().unwrap()).unwrap()
}

/// The only span of a node's only batch, and what it says of the node.
async fn only_span(batches: &mut mpsc::UnboundedReceiver<ExportTraceServiceRequest>) -> (Resource, Span) {
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
    let mut vault = TestVault::registered(home.public, "vault_demo01", 7).await;
    let mut agent = TestAgent::connect(origin.public).await;
    agent.ask("vault_demo01", "req_1").await;
    vault.expect_request("req_1").await;
    vault.respond("req_1", "AAAA").await;
    agent.expect_response("req_1").await;
    // What is left to be sent is sent when a node ends.
    drop((vault, agent));
    origin.sigterm();
    home.sigterm();

    let (mut request, mut deliver) = (None, None);
    while request.is_none() || deliver.is_none() {
        let (_, span) = only_span(&mut batches).await;
        match span.name.as_str() {
            "vault.request" => request = Some(span),
            "vault.deliver" => deliver = Some(span),
            other => panic!("nothing else is traced: {other}"),
        }
    }
    let (request, deliver) = (request.unwrap(), deliver.unwrap());
    assert_eq!((&deliver.trace_id, &deliver.parent_span_id), (&request.trace_id, &request.span_id));
}
