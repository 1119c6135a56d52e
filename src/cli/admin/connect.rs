//! The way to a node's port for operators.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, bail};
use http::Uri;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};
use tonic::{Request, Status};

use super::args::Target;
use crate::edge::admin::proto::admin_client::AdminClient;

/// How long connecting may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// How often the node is asked whether it is still there while it says nothing.
const KEEPALIVE: Duration = Duration::from_secs(20);

/// Largest answer that is read, in bytes: a page of a thousand sessions with the longest names.
const MAX_ANSWER_BYTES: usize = 16 << 20;

/// Calls a node.
pub(super) type Client = AdminClient<InterceptedService<Channel, Token>>;

/// What every call shows.
#[derive(Clone)]
pub(super) struct Token(Option<MetadataValue<Ascii>>);

impl Interceptor for Token {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(token) = &self.0 {
            request.metadata_mut().insert(http::header::AUTHORIZATION.as_str(), token.clone());
        }
        Ok(request)
    }
}

/// Connects to the node.
///
/// # Errors
/// When a file cannot be read, or the node cannot be reached.
pub(super) async fn connect(target: &Target) -> anyhow::Result<Client> {
    let uri = uri(&target.addr, target.ca.is_some() || target.cert.is_some())?;
    let is_tls = uri.scheme_str() == Some("https");
    let mut endpoint = Endpoint::from(uri.clone())
        .connect_timeout(PATIENCE)
        .http2_keep_alive_interval(KEEPALIVE)
        .user_agent(concat!("waystation/", env!("CARGO_PKG_VERSION")))?;
    if is_tls {
        endpoint = endpoint.tls_config(tls(target)?)?;
    }
    let token = target.token_file.as_deref().map(token).transpose()?;
    let channel = endpoint.connect().await.map_err(|error| {
        let reason = anyhow::Error::from(error);
        anyhow::anyhow!("cannot reach {uri}: {}", reason.root_cause())
    })?;
    Ok(AdminClient::with_interceptor(channel, Token(token)).max_decoding_message_size(MAX_ANSWER_BYTES))
}

fn uri(address: &str, secure: bool) -> anyhow::Result<Uri> {
    let scheme = if secure { "https" } else { "http" };
    // A node that listens everywhere is reached here.
    let address = match address.split_at_checked(address.rfind(':').unwrap_or(0)) {
        Some(("0.0.0.0", port)) => format!("127.0.0.1{port}"),
        Some(("[::]", port)) => format!("[::1]{port}"),
        _ => address.to_owned(),
    };
    let text = if address.contains("://") { address } else { format!("{scheme}://{address}") };
    let uri: Uri = text.parse().with_context(|| format!("{text:?} is no address"))?;
    if !matches!(uri.scheme_str(), Some("http" | "https")) || uri.port_u16().is_none() {
        bail!("{text:?} must be host:port, or such a URL with http:// or https://");
    }
    if secure && uri.scheme_str() == Some("http") {
        bail!("{text:?} is without TLS, but authorities or a certificate are given: say https://");
    }
    Ok(uri)
}

fn tls(target: &Target) -> anyhow::Result<ClientTlsConfig> {
    let mut config = ClientTlsConfig::new();
    config = match &target.ca {
        Some(file) => config.ca_certificate(Certificate::from_pem(read(file)?)),
        None => config.trust_anchors(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()),
    };
    if let (Some(certificate), Some(key)) = (&target.cert, &target.key) {
        config = config.identity(Identity::from_pem(read(certificate)?, read(key)?));
    }
    if let Some(name) = &target.server_name {
        config = config.domain_name(name);
    }
    Ok(config)
}

fn token(file: &Path) -> anyhow::Result<MetadataValue<Ascii>> {
    let text = String::from_utf8(read(file)?).ok();
    let value = text.and_then(|text| format!("Bearer {}", text.trim()).parse::<MetadataValue<Ascii>>().ok());
    let mut value = value.with_context(|| format!("{} holds no token", file.display()))?;
    value.set_sensitive(true);
    Ok(value)
}

fn read(file: &Path) -> anyhow::Result<Vec<u8>> {
    std::fs::read(file).with_context(|| format!("cannot read {}", file.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_becomes_a_url() {
        assert_eq!(uri("127.0.0.1:9091", false).unwrap(), "http://127.0.0.1:9091");
        assert_eq!(uri("relay:9091", true).unwrap(), "https://relay:9091");
        assert_eq!(uri("https://relay:9091", false).unwrap(), "https://relay:9091");
        assert_eq!(uri("0.0.0.0:9091", false).unwrap(), "http://127.0.0.1:9091");
        assert_eq!(uri("[::]:9091", false).unwrap(), "http://[::1]:9091");
        for (bad, secure) in [("relay", false), ("ftp://relay:1", false), ("http://relay:1", true), ("a b:1", false)] {
            assert!(uri(bad, secure).is_err(), "{bad}");
        }
    }
}
