//! HTTP calls to services outside, by `http`, or by `https` to whoever has a certificate that an authority which the operator
//! trusts stands behind.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use rustls::crypto::aws_lc_rs;
use rustls::{ClientConfig, RootCertStore};

/// Makes calls; clones share their connections. Follows nobody who says that what is asked for is elsewhere.
pub type OutboundClient = Client<HttpsConnector<HttpConnector>, Full<Bytes>>;

/// A client that gives each connection so long to be made, TLS not included.
///
/// # Errors
/// If the TLS library refuses its set-up; nothing that an operator sets makes it do so.
pub fn client(roots: Arc<RootCertStore>, connecting: Duration) -> Result<OutboundClient, rustls::Error> {
    let tls = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let mut http = HttpConnector::new();
    http.enforce_http(false);
    http.set_nodelay(true);
    http.set_connect_timeout(Some(connecting));
    let https = HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http().enable_http1().wrap_connector(http);
    Ok(Client::builder(TokioExecutor::new()).build(https))
}

/// Why a call was not made, or not taken.
#[derive(Debug)]
pub struct Failure {
    /// One word, for the figures.
    pub reason: &'static str,
    /// The error and what caused it, for the log.
    pub cause: String,
}

impl Failure {
    /// For that reason, because of this error.
    #[must_use]
    pub fn new(reason: &'static str, error: &(dyn Error + 'static)) -> Self {
        let chain = std::iter::successors(Some(error), |error| (**error).source());
        Self { reason, cause: chain.map(ToString::to_string).collect::<Vec<_>>().join(": ") }
    }
}
