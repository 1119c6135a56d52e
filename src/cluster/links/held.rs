//! Answers that hold a place until their bytes have been sent: a bound on answers bounds what waits in memory only if
//! it counts those that nobody reads.

use std::any::Any;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use http_body_util::BodyExt;
use tonic::Response;
use tonic::body::Body;
use tonic::server::NamedService;
use tower::Service;

/// Given back when the last of its clones is dropped.
#[derive(Clone)]
struct Held {
    _place: Arc<dyn Any + Send + Sync>,
}

/// An answer of a service within [`Holding`] that holds `place` until the connection has let go of its bytes.
pub fn until_sent<T>(answer: T, place: impl Send + Sync + 'static) -> Response<T> {
    let mut response = Response::new(answer);
    response.extensions_mut().insert(Held { _place: Arc::new(place) });
    response
}

/// A gRPC service whose answers may hold places.
#[derive(Debug, Clone)]
pub struct Holding<S>(pub S);

impl<S: NamedService> NamedService for Holding<S> {
    const NAME: &'static str = S::NAME;
}

impl<S, R> Service<http::Request<R>> for Holding<S>
where
    S: Service<http::Request<R>, Response = http::Response<Body>>,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<S::Response, S::Error>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, request: http::Request<R>) -> Self::Future {
        let answering = self.0.call(request);
        async move {
            let mut response = answering.await?;
            let Some(held) = response.extensions_mut().remove::<Held>() else { return Ok(response) };
            Ok(response.map(|body| Body::new(body.map_frame(move |frame| frame.map_data(|data| piece(data, &held))))))
        }
        .boxed()
    }
}

/// These bytes, which hold the place as long as anybody has them: HTTP/2 takes them off the body long before it can
/// send them.
fn piece(data: Bytes, held: &Held) -> Bytes {
    struct Piece {
        data: Bytes,
        _held: Held,
    }
    impl AsRef<[u8]> for Piece {
        fn as_ref(&self) -> &[u8] {
            &self.data
        }
    }
    Bytes::from_owner(Piece { data, _held: held.clone() })
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use http_body_util::Full;
    use tokio::sync::Semaphore;
    use tower::{ServiceExt, service_fn};

    use super::*;

    #[tokio::test]
    async fn a_place_is_held_until_the_last_bytes_are_let_go() {
        let places = Arc::new(Semaphore::new(1));
        let place = places.clone().try_acquire_owned().unwrap();
        let answer = until_sent((), place).into_parts().2;
        let service = service_fn(move |_: http::Request<()>| {
            let mut response = http::Response::new(Body::new(Full::new(Bytes::from("answer"))));
            *response.extensions_mut() = answer.clone();
            async { Ok::<_, Infallible>(response) }
        });
        let response = Holding(service).oneshot(http::Request::new(())).await.unwrap();
        let mut body = response.into_body();
        let data = body.frame().await.unwrap().unwrap().into_data().unwrap();
        assert!(body.frame().await.is_none());
        drop(body);
        assert_eq!((&data[..], places.available_permits()), (&b"answer"[..], 0));
        drop(data);
        assert_eq!(places.available_permits(), 1);
    }
}
