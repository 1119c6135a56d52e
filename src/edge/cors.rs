//! Cross-origin requests of browsers (the Fetch standard, section 3.3): refused unless origins are configured.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_REQUEST_HEADERS, ACCESS_CONTROL_REQUEST_METHOD, ORIGIN, VARY,
};
use http::{HeaderMap, HeaderValue, Method, StatusCode};

const METHODS: HeaderValue = HeaderValue::from_static("GET,HEAD,PUT,PATCH,POST,DELETE");
const ANY: &str = "*";

/// The origins whose pages may read our answers; none by default. `*` stands for every origin.
#[derive(Debug, Clone, Default)]
pub struct Cors {
    origins: Arc<[String]>,
}

impl Cors {
    /// Allows these origins, each as a browser sends it (`https://app.example`).
    #[must_use]
    pub fn new(origins: impl IntoIterator<Item = String>) -> Self {
        Self { origins: origins.into_iter().collect() }
    }

    /// The request's origin, if its page may read the answer.
    fn allowed<'a>(&self, headers: &'a HeaderMap) -> Option<&'a HeaderValue> {
        let origin = headers.get(ORIGIN)?;
        self.origins.iter().any(|o| o == ANY || o.as_bytes() == origin.as_bytes()).then_some(origin)
    }
}

/// Middleware: answers preflight requests of allowed origins with 204, and marks other answers to them as
/// readable. Requests of other origins pass unmarked, so that the browser keeps the answer from the page.
pub async fn apply(State(cors): State<Cors>, request: Request, next: Next) -> Response {
    let Some(origin) = cors.allowed(request.headers()).cloned() else {
        return next.run(request).await;
    };
    let preflight =
        request.method() == Method::OPTIONS && request.headers().contains_key(ACCESS_CONTROL_REQUEST_METHOD);
    let mut response = if preflight { permission(request.headers()) } else { next.run(request).await };
    response.headers_mut().insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    response.headers_mut().append(VARY, HeaderValue::from_static("Origin"));
    response
}

fn permission(asked: &HeaderMap) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    let headers = response.headers_mut();
    headers.insert(ACCESS_CONTROL_ALLOW_METHODS, METHODS);
    if let Some(names) = asked.get(ACCESS_CONTROL_REQUEST_HEADERS) {
        headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, names.clone());
        headers.append(VARY, HeaderValue::from_static("Access-Control-Request-Headers"));
    }
    response
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use axum::routing::get;
    use tower::ServiceExt;

    use super::*;

    async fn ask(origins: &[&str], method: Method, origin: &str) -> Response {
        let cors = Cors::new(origins.iter().map(|&o| o.to_owned()));
        let router = Router::new()
            .route("/", get(|| async { "hello" }))
            .layer(axum::middleware::from_fn_with_state(cors, apply));
        let mut request = http::Request::builder().method(&method).uri("/").header(ORIGIN, origin);
        if method == Method::OPTIONS {
            request = request.header(ACCESS_CONTROL_REQUEST_METHOD, "POST");
            request = request.header(ACCESS_CONTROL_REQUEST_HEADERS, "content-type");
        }
        router.oneshot(request.body(Body::empty()).unwrap()).await.unwrap()
    }

    #[tokio::test]
    async fn nobody_is_allowed_by_default() {
        let response = ask(&[], Method::GET, "https://app.example").await;
        assert_eq!(response.status(), 200);
        assert!(!response.headers().contains_key(ACCESS_CONTROL_ALLOW_ORIGIN));
        assert_eq!(ask(&[], Method::OPTIONS, "https://app.example").await.status(), 405);
    }

    #[tokio::test]
    async fn listed_origins_are_reflected_and_others_are_not() {
        let listed = ask(&["https://app.example"], Method::GET, "https://app.example").await;
        assert_eq!(listed.headers()[ACCESS_CONTROL_ALLOW_ORIGIN], "https://app.example");
        assert_eq!(listed.headers()[VARY], "Origin");
        let other = ask(&["https://app.example"], Method::GET, "https://evil.example").await;
        assert!(!other.headers().contains_key(ACCESS_CONTROL_ALLOW_ORIGIN));
        let any = ask(&["*"], Method::GET, "https://evil.example").await;
        assert_eq!(any.headers()[ACCESS_CONTROL_ALLOW_ORIGIN], "https://evil.example");
    }

    #[tokio::test]
    async fn a_preflight_is_answered_without_asking_the_route() {
        let response = ask(&["https://app.example"], Method::OPTIONS, "https://app.example").await;
        assert_eq!(response.status(), 204);
        assert_eq!(response.headers()[ACCESS_CONTROL_ALLOW_METHODS], "GET,HEAD,PUT,PATCH,POST,DELETE");
        assert_eq!(response.headers()[ACCESS_CONTROL_ALLOW_HEADERS], "content-type");
    }
}
