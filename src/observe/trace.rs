//! Traces: spans sent to an OTLP collector, and the thread of one message that goes from node to node.
//!
//! Only spans of this crate at level `INFO` and above are sent, so that the exporter does not trace itself. Code
//! on the path of every message asks [`enabled`] before it makes a span: that is one load, and nothing else
//! happens while tracing is off.

mod export;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use http::Uri;
use opentelemetry::propagation::{Extractor, Injector, TextMapPropagator};
use opentelemetry::trace::{TraceContextExt, TracerProvider};
use opentelemetry::{Context, KeyValue};
use opentelemetry_otlp::ExporterBuildError;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkError;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::{Sampler, SdkTracerProvider};
use rustls::RootCertStore;
use tokio::runtime::Handle;
use tracing::level_filters::LevelFilter;
use tracing::{Span, Subscriber};
use tracing_opentelemetry::OpenTelemetrySpanExt;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::Layer;
use tracing_subscriber::registry::LookupSpan;

use crate::config::TraceConfig;
use crate::domain::ids::NodeId;
use export::Exporter;
pub(super) use export::is_said_by_exporter;

/// The name of this program in traces, and the prefix of its spans' targets.
const SERVICE: &str = "waystation";

/// The header of W3C Trace Context, section 3.2.
const TRACEPARENT: &str = "traceparent";

/// Length of a `traceparent` of version 00, the only one there is: 2 + 32 + 16 + 2 digits and three dashes.
const TRACEPARENT_BYTES: usize = 55;

/// How many [`Traces`] of this process send spans: several nodes may run in one process.
static SENDING: AtomicUsize = AtomicUsize::new(0);

/// Why traces are not sent.
#[derive(Debug, thiserror::Error)]
pub enum TraceError {
    /// The collector's address cannot be used.
    #[error("cannot send traces to {endpoint}: {reason}; give the URL of an OTLP collector for gRPC")]
    Endpoint {
        /// The address.
        endpoint: Uri,
        /// What is wrong with it.
        reason: ExporterBuildError,
    },
    /// There is no Tokio runtime here.
    #[error("cannot send traces: start them within a Tokio runtime")]
    NoRuntime,
    /// Some of the last spans did not reach the collector.
    #[error("the last spans were not sent: {0}; is the collector running?")]
    Flush(#[from] OTelSdkError),
    /// The thread that waited for the last spans came to an end.
    #[error("the last spans were not sent: the process is ending")]
    Interrupted,
}

/// The spans that a node sends, or that it sends none.
#[derive(Debug)]
pub struct Traces(Option<SdkTracerProvider>);

impl Traces {
    /// Sends nothing.
    #[must_use]
    pub fn off() -> Self {
        Self(None)
    }

    /// Sends spans of `node` as `config` says. Call it within the Tokio runtime that shall carry them. The
    /// collector need not be there: what it misses is lost, and logged. Over `https` it must have a certificate
    /// that one of `roots` stands behind.
    ///
    /// # Errors
    /// [`TraceError::Endpoint`] for an address that cannot be used, [`TraceError::NoRuntime`].
    pub fn start(config: &TraceConfig, roots: &RootCertStore, node: &NodeId) -> Result<Self, TraceError> {
        let Some(endpoint) = &config.endpoint else { return Ok(Self::off()) };
        Handle::try_current().map_err(|_| TraceError::NoRuntime)?;
        let exporter = Exporter::new(endpoint, roots)
            .map_err(|reason| TraceError::Endpoint { endpoint: endpoint.clone(), reason })?;
        let provider = SdkTracerProvider::builder()
            .with_batch_exporter(exporter)
            .with_sampler(Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(config.sample_ratio))))
            .with_resource(resource(node))
            .build();
        Ok(Self::of(provider))
    }

    fn of(provider: SdkTracerProvider) -> Self {
        SENDING.fetch_add(1, Ordering::Relaxed);
        Self(Some(provider))
    }

    /// What takes the spans out of a subscriber; `None` if none are sent.
    #[must_use]
    pub fn layer<S>(&self) -> Option<Box<dyn Layer<S> + Send + Sync>>
    where
        S: Subscriber + for<'a> LookupSpan<'a> + Send + Sync,
    {
        let tracer = self.0.as_ref()?.tracer(SERVICE);
        let ours = Targets::new().with_target(SERVICE, LevelFilter::INFO);
        Some(tracing_opentelemetry::layer().with_tracer(tracer).with_filter(ours).boxed())
    }

    /// Sends what is left and ends, within `limit`.
    ///
    /// # Errors
    /// [`TraceError::Flush`] and [`TraceError::Interrupted`] if spans were lost.
    pub async fn shutdown(mut self, limit: Duration) -> Result<(), TraceError> {
        let Some(provider) = self.stop() else { return Ok(()) };
        // It blocks until the exporter's thread is done, which in turn needs this runtime.
        let flush = tokio::task::spawn_blocking(move || provider.shutdown_with_timeout(limit));
        Ok(flush.await.map_err(|_| TraceError::Interrupted)??)
    }

    fn stop(&mut self) -> Option<SdkTracerProvider> {
        let provider = self.0.take()?;
        SENDING.fetch_sub(1, Ordering::Relaxed);
        Some(provider)
    }
}

/// Without [`Traces::shutdown`] the last spans may be lost.
impl Drop for Traces {
    fn drop(&mut self) {
        self.stop();
    }
}

fn resource(node: &NodeId) -> Resource {
    Resource::builder()
        .with_service_name(SERVICE)
        .with_attribute(KeyValue::new("service.instance.id", node.as_str().to_owned()))
        .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
        .build()
}

/// Whether spans are sent at all: one load.
#[must_use]
pub fn enabled() -> bool {
    SENDING.load(Ordering::Relaxed) != 0
}

/// What a frame carries to make another node's span a child of `span`: a W3C `traceparent`. `None` if `span`
/// is in no trace. A trace that was not chosen to be sent has one too, so that every node chooses alike.
#[must_use]
pub fn traceparent_of(span: &Span) -> Option<String> {
    if !enabled() {
        return None;
    }
    let mut carrier = Carrier(None);
    TraceContextPropagator::new().inject_context(&span.context(), &mut carrier);
    carrier.0
}

/// Makes `span`, which must not have been entered, a child of the one that `traceparent` names. A text that
/// names none changes nothing: a trace is never worth a message.
pub fn set_parent(span: &Span, traceparent: &str) {
    if !enabled() || traceparent.len() != TRACEPARENT_BYTES {
        return;
    }
    let carrier = Carrier(Some(traceparent.to_owned()));
    let parent = TraceContextPropagator::new().extract_with_context(&Context::new(), &carrier);
    if parent.span().span_context().is_valid()
        && let Err(error) = span.set_parent(parent)
    {
        tracing::debug!(%error, "this span keeps its own trace");
    }
}

/// One `traceparent`, for the propagator; `tracestate` is not carried.
struct Carrier(Option<String>);

impl Injector for Carrier {
    fn set(&mut self, key: &str, value: String) {
        if key == TRACEPARENT {
            self.0 = Some(value);
        }
    }
}

impl Extractor for Carrier {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.as_deref().filter(|_| key == TRACEPARENT)
    }

    fn keys(&self) -> Vec<&str> {
        vec![TRACEPARENT]
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tracing::subscriber::with_default;
    use tracing_subscriber::layer::SubscriberExt;
    use tracing_subscriber::registry::Registry;

    use super::*;

    const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    /// Runs `work` while spans are kept by `sampler`.
    fn traced<T>(sampler: Sampler, work: impl FnOnce() -> T) -> T {
        let traces = Traces::of(SdkTracerProvider::builder().with_sampler(sampler).build());
        with_default(Registry::default().with(traces.layer()), work)
    }

    fn start(endpoint: &str) -> Result<Traces, TraceError> {
        let config = TraceConfig { endpoint: Some(endpoint.parse().unwrap()), sample_ratio: 1.0 };
        Traces::start(&config, &RootCertStore::empty(), &"n1".parse().unwrap())
    }

    /// The trace, the span and the flags of a `traceparent`.
    fn parts(traceparent: &str) -> (&str, &str, &str) {
        (&traceparent[3..35], &traceparent[36..52], &traceparent[53..])
    }

    #[test]
    fn a_trace_goes_on_at_the_next_node() {
        let sent = traced(Sampler::AlwaysOn, || traceparent_of(&tracing::info_span!("accept")).unwrap());
        let passed_on = traced(Sampler::AlwaysOn, || {
            let span = tracing::info_span!("deliver");
            set_parent(&span, &sent);
            traceparent_of(&span).unwrap()
        });
        let ((trace, first, flags), (same, second, _)) = (parts(&sent), parts(&passed_on));
        assert_eq!((trace, flags), (same, "01"));
        assert_ne!(first, second);
    }

    #[test]
    fn the_first_node_decides_for_all_whether_a_trace_is_sent() {
        let ratio = |share| Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(share)));
        let dropped = traced(ratio(0.0), || traceparent_of(&tracing::info_span!("accept")).unwrap());
        assert_eq!(parts(&dropped).2, "00");
        let followed = traced(ratio(1.0), || {
            let span = tracing::info_span!("deliver");
            set_parent(&span, &dropped);
            traceparent_of(&span).unwrap()
        });
        assert_eq!((parts(&followed).0, parts(&followed).2), (parts(&dropped).0, "00"));
    }

    #[test]
    fn a_parent_that_cannot_be_read_leaves_the_span_a_trace_of_its_own() {
        traced(Sampler::AlwaysOn, || {
            for bad in
                ["", "00", &PARENT.replace("0af7651916cd43dd8448eb211c80319c", &"0".repeat(32)), &PARENT.to_uppercase()]
            {
                let span = tracing::info_span!("deliver");
                set_parent(&span, bad);
                assert_ne!(parts(&traceparent_of(&span).unwrap()).0, parts(PARENT).0, "{bad}");
            }
        });
    }

    #[test]
    fn spans_that_are_not_ours_and_spans_for_debugging_are_not_traced() {
        traced(Sampler::AlwaysOn, || {
            assert_eq!(traceparent_of(&tracing::info_span!(target: "h2", "frame")), None);
            assert_eq!(traceparent_of(&tracing::debug_span!("detail")), None);
            assert_eq!(traceparent_of(&Span::none()), None);
        });
    }

    #[tokio::test]
    async fn without_a_collector_nothing_is_traced() {
        let config = TraceConfig { endpoint: None, sample_ratio: 1.0 };
        let traces = Traces::start(&config, &RootCertStore::empty(), &"n1".parse().unwrap()).unwrap();
        assert!(traces.layer::<Registry>().is_none());
        traces.shutdown(Duration::ZERO).await.unwrap();
    }

    #[tokio::test]
    async fn an_address_that_cannot_be_used_is_told() {
        let bad = "https://no..name:4317";
        let error = start(bad).unwrap_err().to_string();
        assert!(error.contains(bad), "{error}");
    }

    #[test]
    fn without_a_runtime_nothing_can_be_sent() {
        assert!(matches!(start("http://127.0.0.1:4317"), Err(TraceError::NoRuntime)));
    }

    proptest! {
        #[test]
        fn any_parent_is_read_or_ignored(text in "\\PC{0,60}|[0-9a-f-]{55}") {
            traced(Sampler::AlwaysOn, || {
                let span = tracing::info_span!("deliver");
                set_parent(&span, &text);
                assert!(traceparent_of(&span).is_some());
            });
        }
    }
}
