//! JSON bodies, bounded in size and in time.

use std::time::Duration;

use axum::extract::Request;
use bytes::Bytes;
use http::HeaderMap;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde::de::IgnoredAny;

use super::errors::BodyError;
use super::settings::EdgeSettings;

/// What a body may cost.
#[derive(Debug, Clone, Copy)]
pub struct BodyLimits {
    /// Bytes: exactly as many pass.
    pub max_bytes: usize,
    /// From the head of the request to the last byte of the body.
    pub timeout: Duration,
}

impl From<&EdgeSettings> for BodyLimits {
    fn from(settings: &EdgeSettings) -> Self {
        Self { max_bytes: settings.max_body_size, timeout: settings.handshake_timeout }
    }
}

/// Reads a body that is one JSON value; its text, as it came.
///
/// # Errors
/// As [`read`]; [`BodyError::InvalidJson`]; [`BodyError::Empty`] for `null`, which says as little.
pub async fn json(request: Request, limits: BodyLimits) -> Result<String, BodyError> {
    let text = String::from_utf8(read(request, limits).await?.into()).map_err(|_| BodyError::InvalidJson)?;
    match serde_json::from_str::<IgnoredAny>(&text) {
        Ok(_) if text.trim_ascii() == "null" => Err(BodyError::Empty),
        Ok(_) => Ok(text),
        Err(_) => Err(BodyError::InvalidJson),
    }
}

/// Reads a body that says it is JSON; what it holds is not looked at.
///
/// # Errors
/// Too long, too slow, broken off, empty, or of another content type.
async fn read(request: Request, limits: BodyLimits) -> Result<Bytes, BodyError> {
    let announced = announced_length(request.headers());
    if announced.is_some_and(|length| length > limits.max_bytes as u64) {
        return Err(BodyError::TooLarge);
    }
    let has_type = request.headers().contains_key(CONTENT_TYPE);
    if has_type {
        require_json(request.headers())?;
    }
    let body = Limited::new(request.into_body(), limits.max_bytes);
    let read = tokio::time::timeout(limits.timeout, body.collect()).await.map_err(|_| BodyError::Timeout)?;
    let bytes = read.map_err(|error| classify(&*error))?.to_bytes();
    match (bytes.is_empty(), has_type) {
        (true, _) => Err(BodyError::Empty),
        (false, false) => Err(BodyError::MediaType("undefined".to_owned())),
        (false, true) => Ok(bytes),
    }
}

fn announced_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

fn require_json(headers: &HeaderMap) -> Result<(), BodyError> {
    let value = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or("undefined");
    let essence = value.split(';').next().unwrap_or_default().trim();
    if essence.eq_ignore_ascii_case("application/json") { Ok(()) } else { Err(BodyError::MediaType(value.to_owned())) }
}

fn classify(error: &(dyn std::error::Error + Send + Sync + 'static)) -> BodyError {
    if error.is::<LengthLimitError>() { BodyError::TooLarge } else { BodyError::Broken }
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use proptest::prelude::*;

    use super::*;

    const LIMITS: BodyLimits = BodyLimits { max_bytes: 16, timeout: Duration::from_secs(5) };

    fn post(content_type: Option<&str>, body: impl Into<Body>) -> Request {
        let mut request = http::Request::post("/");
        if let Some(content_type) = content_type {
            request = request.header(CONTENT_TYPE, content_type);
        }
        request.body(body.into()).unwrap()
    }

    async fn error(content_type: &str, body: &'static str) -> BodyError {
        json(post(Some(content_type), body), LIMITS).await.unwrap_err()
    }

    #[tokio::test]
    async fn exactly_the_limit_passes_and_one_byte_more_does_not() {
        let sixteen = post(Some("application/json; charset=utf-8"), r#""12345678901234""#);
        assert_eq!(json(sixteen, LIMITS).await.unwrap(), r#""12345678901234""#);
        assert_eq!(error("application/json", r#""123456789012345""#).await, BodyError::TooLarge);
    }

    #[tokio::test]
    async fn what_is_no_json_object_of_any_kind_is_told_apart() {
        assert_eq!(error("application/json", "").await, BodyError::Empty);
        assert_eq!(error("application/json", "null").await, BodyError::Empty);
        assert_eq!(error("application/json", " null ").await, BodyError::Empty);
        assert_eq!(error("application/json", "{").await, BodyError::InvalidJson);
        let latin1 = post(Some("application/json"), b"\"\xfc\"".as_slice());
        assert_eq!(json(latin1, LIMITS).await.unwrap_err(), BodyError::InvalidJson);
        assert_eq!(error("text/xml", "<a/>").await, BodyError::MediaType("text/xml".to_owned()));
        assert_eq!(json(post(None, ""), LIMITS).await.unwrap_err(), BodyError::Empty);
        assert!(matches!(json(post(None, "{}"), LIMITS).await.unwrap_err(), BodyError::MediaType(_)));
    }

    #[tokio::test]
    async fn a_body_that_does_not_come_is_given_up() {
        let never = Body::from_stream(futures::stream::pending::<Result<Bytes, std::io::Error>>());
        let limits = BodyLimits { timeout: Duration::from_millis(1), ..LIMITS };
        let request = post(Some("application/json"), never);
        assert_eq!(json(request, limits).await.unwrap_err(), BodyError::Timeout);
    }

    proptest! {
        #[test]
        fn no_body_is_worse_than_a_client_error(body: Vec<u8>) {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
            let outcome = runtime.block_on(json(post(Some("application/json"), body.clone()), LIMITS));
            prop_assert!(outcome.is_err() || body.len() <= LIMITS.max_bytes);
        }
    }
}
