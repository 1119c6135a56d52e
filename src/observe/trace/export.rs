//! Spans on their way to the collector: by OTLP over gRPC, over TLS if its URL says so.

use std::time::{Duration, Instant};

use http::Uri;
use http::uri::Scheme;
use opentelemetry_otlp::tonic_types::transport::ClientTlsConfig;
use opentelemetry_otlp::{ExporterBuildError, SpanExporter, WithExportConfig, WithTonicConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{SpanData, SpanExporter as Export};
use parking_lot::Mutex;
use rustls::RootCertStore;
use tracing::Metadata;

use crate::observe::log_gate::LogGate;

/// How long one batch may take to be sent, tries included; and, within that, the TLS handshake.
const EXPORT_TIMEOUT: Duration = Duration::from_secs(5);

/// Sends spans, and logs once a minute that they cannot be sent, and why.
#[derive(Debug)]
pub(super) struct Exporter {
    inner: SpanExporter,
    gate: Mutex<LogGate>,
}

impl Exporter {
    /// An exporter to `collector`, which over `https` must have a certificate that one of `roots` stands behind.
    ///
    /// # Errors
    /// If no connection to `collector` can succeed.
    pub(super) fn new(collector: &Uri, roots: &RootCertStore) -> Result<Self, ExporterBuildError> {
        let plain =
            SpanExporter::builder().with_tonic().with_endpoint(collector.to_string()).with_timeout(EXPORT_TIMEOUT);
        let exporter = if collector.scheme() == Some(&Scheme::HTTPS) {
            let tls = ClientTlsConfig::new().trust_anchors(roots.roots.iter().cloned()).timeout(EXPORT_TIMEOUT);
            plain.with_tls_config(tls)
        } else {
            plain
        };
        Ok(Self { inner: exporter.build()?, gate: Mutex::new(LogGate::once_a_minute()) })
    }
}

impl Export for Exporter {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let spans = batch.len();
        let sent = self.inner.export(batch).await;
        if let Err(error) = &sent
            && let Some(left_out) = self.gate.lock().pass("export", Instant::now())
        {
            tracing::warn!(%error, spans, left_out, "spans were not sent");
        }
        sent
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.inner.shutdown_with_timeout(timeout)
    }

    fn shutdown(&self) -> OTelSdkResult {
        self.inner.shutdown()
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.inner.force_flush()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.inner.set_resource(resource);
    }
}

/// Whether these are the SDK's own words on a batch that was not sent: two lines for every batch, for as long as
/// the collector is away.
pub(in crate::observe) fn is_said_by_exporter(event: &Metadata<'_>) -> bool {
    event.name() == "BatchSpanProcessor.ExportError" || event.name().starts_with("Export.Failed.")
}
