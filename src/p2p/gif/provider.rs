//! Who has the GIFs: klipy, or whoever answers in its form.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Uri, header};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use rustls::RootCertStore;

use crate::config::Secret;
use crate::security::outbound::{self, Failure, OutboundClient};
use crate::wire::p2p::gif::{Gif, NoAnswer, Wanted, read_answer};

/// Largest answer that is read: several times what is found at most.
const MAX_ANSWER_BYTES: usize = 512 << 10;

/// How long a connection may take to be made.
const CONNECTING: Duration = Duration::from_secs(5);

/// Where it is, and what it is shown.
#[derive(Debug, Clone)]
pub struct ProviderParts {
    /// The URL that its calls are below.
    pub url: Uri,
    /// The key that it has given the operator.
    pub key: Secret,
    /// Authorities one of which must stand behind its certificate.
    pub roots: Arc<RootCertStore>,
}

/// Asks it.
pub struct Provider {
    url: String,
    key: String,
    client: OutboundClient,
}

impl Provider {
    /// # Errors
    /// If the TLS library refuses its set-up; nothing that an operator sets makes it do so.
    pub fn new(parts: ProviderParts) -> Result<Self, rustls::Error> {
        let mut key = String::new();
        escape(parts.key.expose(), &mut key);
        let url = parts.url.to_string().trim_end_matches('/').to_owned();
        Ok(Self { url, key, client: outbound::client(parts.roots, CONNECTING)? })
    }

    /// What it has of that. Neither the key nor what is asked for is in any error.
    pub async fn ask(&self, wanted: &Wanted) -> Result<Vec<Gif>, Failure> {
        let failed = |reason| move |error: &(dyn std::error::Error + 'static)| Failure::new(reason, error);
        let request = Request::get(self.call(wanted))
            .header(header::ACCEPT, "application/json")
            .body(Full::default())
            .map_err(|error| failed("unbuildable")(&error))?;
        let answer = self.client.request(request).await.map_err(|error| failed("failed")(&error))?;
        let status = answer.status();
        let body = Limited::new(answer.into_body(), MAX_ANSWER_BYTES).collect().await.map_err(|error| {
            let reason = if error.is::<LengthLimitError>() { "oversized" } else { "failed" };
            failed(reason)(&*error)
        })?;
        if status != http::StatusCode::OK {
            return Err(Failure { reason: "refused", cause: status.to_string() });
        }
        read_answer(&body.to_bytes(), wanted.most).map_err(|error: NoAnswer| failed("malformed")(&error))
    }

    fn call(&self, wanted: &Wanted) -> String {
        let (url, key, most) = (&self.url, &self.key, wanted.most);
        let mut call = url.clone();
        match &wanted.query {
            Some(query) => {
                call.push_str("/search?q=");
                escape(query.as_bytes(), &mut call);
                call.push('&');
            }
            None => call.push_str("/featured?"),
        }
        call.push_str("key=");
        call.push_str(key);
        call.push_str("&media_filter=tinygif,gif&limit=");
        call.push_str(&most.to_string());
        call
    }
}

/// Writes `bytes` so that they mean nothing in a URL (RFC 3986, section 2).
fn escape(bytes: &[u8], to: &mut String) {
    for byte in bytes {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(byte) {
            to.push(char::from(*byte));
        } else {
            // Writing into a string does not fail.
            write!(to, "%{byte:02X}").unwrap_or_default();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for_cannot_change_the_call() {
        rustls::crypto::aws_lc_rs::default_provider().install_default().ok();
        let provider = Provider::new(ProviderParts {
            url: "https://p.example/v2/".parse().unwrap(),
            key: Secret::new(b"k&y"),
            roots: Arc::new(RootCertStore::empty()),
        });
        let call =
            |query: Option<&str>| provider.as_ref().unwrap().call(&Wanted { query: query.map(str::to_owned), most: 7 });
        assert_eq!(call(None), "https://p.example/v2/featured?key=k%26y&media_filter=tinygif,gif&limit=7");
        assert_eq!(
            call(Some("a b&key=ü#")),
            "https://p.example/v2/search?q=a%20b%26key%3D%C3%BC%23&key=k%26y&media_filter=tinygif,gif&limit=7"
        );
    }
}
