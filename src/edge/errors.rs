//! HTTP answers that belong to no route, in the shapes that the clients of the original relay know
//! (Fastify's), and a helper for JSON answers.

use axum::body::Body;
use axum::extract::{OriginalUri, Request};
use axum::response::{IntoResponse, Response};
use http::header::{CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderValue, Method, StatusCode};
use serde::Serialize;

use crate::security::limiter::RateLimited;

/// An answer with a JSON body.
#[must_use]
pub fn json(status: StatusCode, value: &impl Serialize) -> Response {
    let Ok(body) = serde_json::to_vec(value) else {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    };
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json; charset=utf-8"));
    response
}

/// Why a request's body was not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    /// No body, or JSON `null`.
    #[error("Body cannot be empty when content-type is set to 'application/json'")]
    Empty,
    /// Not JSON.
    #[error("Body is not valid JSON but content-type is set to 'application/json'")]
    InvalidJson,
    /// Some other content type, or none.
    #[error("Unsupported Media Type: {0}")]
    MediaType(String),
    /// Longer than allowed.
    #[error("Request body is too large")]
    TooLarge,
    /// It took too long.
    #[error("Request body did not arrive in time; send it again")]
    Timeout,
    /// The connection broke, or what came was no HTTP body.
    #[error("Request body size did not match Content-Length")]
    Broken,
}

#[derive(Serialize)]
struct Described<'a> {
    #[serde(rename = "statusCode")]
    status: u16,
    code: &'a str,
    error: &'a str,
    message: String,
}

fn described(status: StatusCode, code: &str, message: String) -> Response {
    let error = status.canonical_reason().unwrap_or_default();
    json(status, &Described { status: status.as_u16(), code, error, message })
}

impl IntoResponse for BodyError {
    fn into_response(self) -> Response {
        let (status, code) = match self {
            Self::Empty => (StatusCode::BAD_REQUEST, "FST_ERR_CTP_EMPTY_JSON_BODY"),
            Self::InvalidJson => (StatusCode::BAD_REQUEST, "FST_ERR_CTP_INVALID_JSON_BODY"),
            Self::MediaType(_) => (StatusCode::UNSUPPORTED_MEDIA_TYPE, "FST_ERR_CTP_INVALID_MEDIA_TYPE"),
            Self::TooLarge => (StatusCode::PAYLOAD_TOO_LARGE, "FST_ERR_CTP_BODY_TOO_LARGE"),
            Self::Timeout => (StatusCode::REQUEST_TIMEOUT, "FST_ERR_CTP_BODY_TIMEOUT"),
            Self::Broken => (StatusCode::BAD_REQUEST, "FST_ERR_CTP_INVALID_CONTENT_LENGTH"),
        };
        described(status, code, self.to_string())
    }
}

impl IntoResponse for RateLimited {
    fn into_response(self) -> Response {
        let seconds = self.retry_after_secs();
        let message = format!("Rate limit exceeded, retry in {seconds} seconds");
        let mut response = described(StatusCode::TOO_MANY_REQUESTS, "FST_ERR_RATE_LIMITED", message);
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
        response
    }
}

#[derive(Serialize)]
struct NotFound {
    message: String,
    error: &'static str,
    #[serde(rename = "statusCode")]
    status: u16,
}

/// 404 for a path that has no route, or none for this method. `uri` with its query.
#[must_use]
pub fn not_found(method: &Method, uri: &http::Uri) -> Response {
    let uri = uri.path_and_query().map_or("/", |uri| uri.as_str());
    let message = format!("Route {method}:{uri} not found");
    json(StatusCode::NOT_FOUND, &NotFound { message, error: "Not Found", status: 404 })
}

/// The router's fallback, also for a known path with another method.
pub async fn unknown_route(OriginalUri(uri): OriginalUri, request: Request) -> Response {
    not_found(request.method(), &uri)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use http_body_util::BodyExt;

    use super::*;

    async fn text(response: Response) -> String {
        String::from_utf8(response.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap()
    }

    #[tokio::test]
    async fn an_unknown_route_is_named_with_its_query() {
        let response = not_found(&Method::GET, &"/x?y=1".parse().unwrap());
        assert_eq!(response.status(), 404);
        let expected = r#"{"message":"Route GET:/x?y=1 not found","error":"Not Found","statusCode":404}"#;
        assert_eq!(text(response).await, expected);
    }

    #[tokio::test]
    async fn body_errors_have_the_shape_that_clients_know() {
        let response = BodyError::TooLarge.into_response();
        assert_eq!(response.status(), 413);
        let expected = concat!(
            r#"{"statusCode":413,"code":"FST_ERR_CTP_BODY_TOO_LARGE","error":"Payload Too Large","#,
            r#""message":"Request body is too large"}"#
        );
        assert_eq!(text(response).await, expected);
    }

    #[test]
    fn a_rate_limit_says_when_to_come_back() {
        let response = RateLimited { retry_after: Duration::from_millis(1500) }.into_response();
        assert_eq!(response.status(), 429);
        assert_eq!(response.headers()[RETRY_AFTER], "2");
    }
}
