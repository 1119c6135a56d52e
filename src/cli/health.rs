//! The health of a node, asked over HTTP: what a container's health check runs.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Context, bail};
use bytes::Bytes;
use http::Uri;
use http_body_util::{BodyExt, Empty, Limited};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;

/// How long the whole exchange may take.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Longest answer that is read, in bytes.
const MAX_BODY_BYTES: usize = 64 * 1024;

/// The base URL of the node on this machine that listens on `listen`.
pub(super) fn local_url(listen: SocketAddr) -> String {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    format!("http://{}", SocketAddr::new(ip, listen.port()))
}

/// Asks the node at `url`, its base or its whole health URL, and returns the status that it reports.
///
/// # Errors
/// Anything but an answer of 200 within five seconds.
pub(super) async fn check(url: &str) -> anyhow::Result<String> {
    let uri = health_uri(url)?;
    tokio::time::timeout(TIMEOUT, ask(uri.clone()))
        .await
        .with_context(|| format!("no answer from {uri} within {} seconds", TIMEOUT.as_secs()))?
        .with_context(|| format!("{uri} is not healthy"))
}

async fn ask(uri: Uri) -> anyhow::Result<String> {
    let client: Client<_, Empty<Bytes>> = Client::builder(TokioExecutor::new()).build_http();
    let answer = client.get(uri).await?;
    let code = answer.status();
    let body = Limited::new(answer.into_body(), MAX_BODY_BYTES).collect().await;
    let body = body.map_err(|error| anyhow::anyhow!(error))?.to_bytes();
    let status = status_in(&body);
    if code != http::StatusCode::OK {
        bail!("HTTP {code}{}", status.map(|status| format!(", status {status:?}")).unwrap_or_default());
    }
    Ok(status.unwrap_or_else(|| code.to_string()))
}

/// The `status` of a health report, if it is one.
fn status_in(body: &[u8]) -> Option<String> {
    let report: serde_json::Value = serde_json::from_slice(body).ok()?;
    report.get("status")?.as_str().map(str::to_owned)
}

fn health_uri(url: &str) -> anyhow::Result<Uri> {
    let uri: Uri = url.trim().parse().with_context(|| format!("{url:?} is no URL"))?;
    let (Some("http"), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
        bail!("{url:?} must be a plain http:// URL, such as http://127.0.0.1:8080");
    };
    let base = uri.path().trim_end_matches('/');
    let path = if base.ends_with("/health") { base.to_owned() } else { format!("{base}/health") };
    format!("http://{authority}{path}").parse().with_context(|| format!("{url:?} is no URL"))
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use axum::routing::get;

    use super::*;

    /// A node whose `/health` answers with `code` and `body`; returns its base URL.
    async fn node(code: u16, body: &'static str) -> String {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = local_url(listener.local_addr().unwrap());
        let code = http::StatusCode::from_u16(code).unwrap();
        let router = Router::new().route("/health", get(move || async move { (code, body) }));
        tokio::spawn(async move { axum::serve(listener, router).await });
        url
    }

    #[tokio::test]
    async fn a_healthy_node_says_its_status() {
        let url = node(200, r#"{"status":"ok","version":"1"}"#).await;
        assert_eq!(check(&url).await.unwrap(), "ok");
        assert_eq!(check(&format!("{url}/health")).await.unwrap(), "ok");
    }

    #[tokio::test]
    async fn any_other_answer_is_a_failure_that_says_why() {
        let url = node(503, r#"{"status":"draining"}"#).await;
        let reason = format!("{:#}", check(&url).await.unwrap_err());
        assert!(reason.contains("503") && reason.contains("draining"), "{reason}");
    }

    #[tokio::test]
    async fn a_node_that_is_not_there_is_a_failure() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = local_url(listener.local_addr().unwrap());
        drop(listener);
        assert!(check(&url).await.is_err());
    }

    #[test]
    fn the_path_is_added_unless_it_is_there() {
        for url in ["http://h:1", "http://h:1/", "http://h:1/health", "http://h:1/health/"] {
            assert_eq!(health_uri(url).unwrap(), "http://h:1/health", "{url}");
        }
        assert_eq!(health_uri("http://h/relay").unwrap(), "http://h/relay/health");
        for bad in ["https://h", "h:1", "/health", "not a url"] {
            assert!(health_uri(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn an_unspecified_address_is_asked_on_loopback() {
        assert_eq!(local_url(([0, 0, 0, 0], 80).into()), "http://127.0.0.1:80");
        assert_eq!(local_url("[::]:80".parse().unwrap()), "http://[::1]:80");
        assert_eq!(local_url(([10, 0, 0, 1], 80).into()), "http://10.0.0.1:80");
    }
}
