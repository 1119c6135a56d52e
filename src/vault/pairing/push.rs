//! Waking a vault that sleeps on a phone: an HTTP call in Expo's format for every accepted request of a vault
//! with push tokens (section 12). Off unless the operator names a URL, for it tells whoever is behind that URL
//! which vault is asked, and when.
//!
//! Calls are made by one worker behind a bounded queue, never by whoever accepts a request. A call that fails is
//! not repeated: the request itself waits for the vault in any case.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Request, Uri, header};
use http_body_util::{BodyExt, Full, Limited};
use moka::sync::Cache;
use rustls::RootCertStore;
use serde_json::json;
use tokio::sync::mpsc;

use super::Pairing;
use crate::domain::ids::VaultId;
use crate::observe::log_gate::LogGate;
use crate::observe::metrics::Metrics;
use crate::runtime::supervisor::Supervisor;
use crate::runtime::time;
use crate::security::outbound::{self, Failure, OutboundClient};

/// Accepted requests that may wait for their push call.
pub const PUSH_QUEUE: usize = 1_000;

/// How long one call may take.
pub const PUSH_TIMEOUT: Duration = Duration::from_secs(5);

/// Longest answer to a call that is read, in bytes; more ends the connection.
const MAX_ANSWER_BYTES: usize = 64 * 1024;

/// Vaults whose tokens are remembered, most of them as having none.
const REMEMBERED_VAULTS: u64 = 10_000;

/// How long tokens are remembered: a new one is used after this at the latest.
const REMEMBERED: Duration = Duration::from_secs(30);

/// The name of the queue in the figures.
const QUEUE: &str = "push";

/// Who sends the notifications.
#[derive(Debug, Clone)]
pub struct PushService {
    /// What is called, over `http` or `https`.
    pub url: Uri,
    /// Over `https` it must have a certificate that one of these stands behind.
    pub roots: Arc<RootCertStore>,
}

/// Makes push calls; clones share the queue.
#[derive(Debug, Clone)]
pub struct Push {
    queue: mpsc::Sender<Job>,
    metrics: Arc<Metrics>,
}

#[derive(Debug)]
struct Job {
    vault_id: VaultId,
    request_id: String,
}

impl Push {
    /// Starts the worker, which calls `service` until the node stops.
    ///
    /// # Errors
    /// If the TLS library refuses its set-up; nothing that an operator sets makes it do so.
    pub fn start(
        service: PushService,
        pairing: Pairing,
        metrics: &Arc<Metrics>,
        supervisor: &Supervisor,
    ) -> Result<Self, rustls::Error> {
        let (queue, jobs) = mpsc::channel(PUSH_QUEUE);
        let worker = Worker {
            url: service.url,
            pairing,
            client: outbound::client(service.roots, PUSH_TIMEOUT)?,
            tokens: Cache::builder().max_capacity(REMEMBERED_VAULTS).time_to_live(REMEMBERED).build(),
            metrics: metrics.clone(),
        };
        let stop = supervisor.token();
        supervisor.spawn("push", async move {
            stop.run_until_cancelled(worker.run(jobs)).await;
            Ok::<(), std::convert::Infallible>(())
        });
        Ok(Self { queue, metrics: metrics.clone() })
    }

    /// A request for this vault has been accepted. Returns at once; what does not fit the queue is counted.
    pub fn request_accepted(&self, vault_id: &VaultId, request_id: &str) {
        let job = Job { vault_id: vault_id.clone(), request_id: request_id.to_owned() };
        if let Err(refused) = self.queue.try_send(job) {
            let reason = match refused {
                mpsc::error::TrySendError::Full(_) => "full",
                mpsc::error::TrySendError::Closed(_) => "closed",
            };
            self.metrics.drop_one(QUEUE, reason);
        }
    }
}

struct Worker {
    url: Uri,
    pairing: Pairing,
    client: OutboundClient,
    tokens: Cache<VaultId, Arc<[String]>>,
    metrics: Arc<Metrics>,
}

impl Worker {
    async fn run(self, mut jobs: mpsc::Receiver<Job>) {
        let mut gate = LogGate::once_a_minute();
        while let Some(job) = jobs.recv().await {
            let outcome = match tokio::time::timeout(PUSH_TIMEOUT, self.push(&job)).await {
                Ok(outcome) => outcome,
                Err(elapsed) => Err(Failure::new("timed_out", &elapsed)),
            };
            if let Err(Failure { reason, cause }) = outcome {
                self.metrics.drop_one(QUEUE, reason);
                if let Some(left_out) = gate.pass(reason, Instant::now()) {
                    tracing::warn!(reason, cause, left_out, "a push call was lost");
                }
            }
        }
    }

    /// Makes the call of one request.
    async fn push(&self, job: &Job) -> Result<(), Failure> {
        let tokens = self.tokens_of(&job.vault_id).await?;
        if tokens.is_empty() {
            return Ok(());
        }
        let request = Request::post(&self.url)
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::ACCEPT, "application/json")
            .body(Full::new(Bytes::from(messages(&tokens, job))))
            .map_err(|error| Failure::new("unbuildable", &error))?;
        let answer = self.client.request(request).await.map_err(|error| Failure::new("failed", &error))?;
        let status = answer.status();
        // Read to its end, so that the connection serves the next call.
        let body = Limited::new(answer.into_body(), MAX_ANSWER_BYTES).collect().await;
        body.map_err(|error| Failure::new("failed", &*error))?;
        if status.is_success() { Ok(()) } else { Err(Failure { reason: "refused", cause: status.to_string() }) }
    }

    async fn tokens_of(&self, vault: &VaultId) -> Result<Arc<[String]>, Failure> {
        if let Some(tokens) = self.tokens.get(vault) {
            return Ok(tokens);
        }
        let tokens = self.pairing.push_tokens(vault, time::now()).await;
        let tokens: Arc<[String]> = tokens.map_err(|error| Failure::new("store", &error))?.into();
        self.tokens.insert(vault.clone(), tokens.clone());
        Ok(tokens)
    }
}

/// One message a token, in Expo's format.
fn messages(tokens: &[String], job: &Job) -> String {
    let message = |token: &String| {
        json!({
            "to": token,
            "title": "Approval requested",
            "body": "An agent is asking your vault.",
            "data": {"vault_id": job.vault_id.as_str(), "request_id": job.request_id},
            "priority": "high",
        })
    };
    serde_json::Value::from_iter(tokens.iter().map(message)).to_string()
}

#[cfg(test)]
mod tests {
    use http_body_util::Empty;
    use hyper::body::Incoming;
    use hyper::server::conn::http1;
    use hyper::service::service_fn;
    use hyper_util::rt::TokioIo;
    use serde_json::Value;
    use tokio::net::TcpListener;

    use super::super::fixture::{Fixture, key};
    use super::*;
    use crate::observe::metrics::Dropped;
    use crate::wire::dcp::registration::Verified;

    const PATIENCE: Duration = Duration::from_secs(10);

    fn at(url: &str) -> PushService {
        PushService { url: url.parse().unwrap(), roots: Arc::new(RootCertStore::empty()) }
    }

    /// A push service that answers `status`, and the calls it gets.
    async fn service(status: u16) -> (PushService, mpsc::UnboundedReceiver<Value>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let service = at(&format!("http://{}/push", listener.local_addr().unwrap()));
        let (calls, received) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let calls = calls.clone();
                let answer = service_fn(move |request: Request<Incoming>| {
                    let calls = calls.clone();
                    async move {
                        assert_eq!(request.uri().path(), "/push");
                        let body = request.into_body().collect().await.unwrap().to_bytes();
                        calls.send(serde_json::from_slice(&body).unwrap()).unwrap();
                        http::Response::builder().status(status).body(Empty::<Bytes>::new())
                    }
                });
                tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), answer));
            }
        });
        (service, received)
    }

    /// A node with a push token for `vault_demo01`.
    async fn node() -> Pairing {
        let pairing = Fixture::new().pairing;
        let proof = Verified {
            vault_id: "vault_demo01".into(),
            public_key: String::new(),
            signing_key: key().public_key(),
            signed_at: time::now(),
            nonce: Vec::new(),
        };
        let body = br#"{"vault_id":"vault_demo01","token":"ExpoPushToken[a]"}"#;
        let token = Pairing::read_push_token(body).unwrap();
        assert_eq!(pairing.register_push_token(&proof, &token, time::now()).await.status, 200);
        pairing
    }

    fn dropped(metrics: &Metrics, reason: &'static str) -> u64 {
        metrics.dropped.get_or_create(&Dropped { queue: QUEUE, reason }).get()
    }

    #[tokio::test]
    async fn an_accepted_request_wakes_the_phones_of_its_vault_only() {
        let (service, mut calls) = service(200).await;
        let (metrics, supervisor) = (Metrics::new(), Supervisor::new());
        let push = Push::start(service, node().await, &metrics, &supervisor).unwrap();
        push.request_accepted(&"vault_without_phone".into(), "req_0");
        for request in ["req_1", "req_2"] {
            push.request_accepted(&"vault_demo01".into(), request);
            let call = tokio::time::timeout(PATIENCE, calls.recv()).await.unwrap().unwrap();
            let expected = json!([{
                "to": "ExpoPushToken[a]",
                "title": "Approval requested",
                "body": "An agent is asking your vault.",
                "data": {"vault_id": "vault_demo01", "request_id": request},
                "priority": "high",
            }]);
            assert_eq!(call, expected);
        }
        assert!(supervisor.stop(PATIENCE).await.is_empty());
        push.request_accepted(&"vault_demo01".into(), "req_3");
        assert_eq!(dropped(&metrics, "closed"), 1);
    }

    #[tokio::test]
    async fn a_call_that_is_refused_is_counted_and_the_next_one_made() {
        let (service, mut calls) = service(500).await;
        let (metrics, supervisor) = (Metrics::new(), Supervisor::new());
        let push = Push::start(service, node().await, &metrics, &supervisor).unwrap();
        for request in ["req_1", "req_2"] {
            push.request_accepted(&"vault_demo01".into(), request);
            tokio::time::timeout(PATIENCE, calls.recv()).await.unwrap().unwrap();
        }
        // The second call was made after the first had its answer.
        assert!(dropped(&metrics, "refused") >= 1);
        supervisor.stop(PATIENCE).await;
    }

    #[tokio::test]
    async fn what_does_not_fit_the_queue_is_counted() {
        let (metrics, supervisor) = (Metrics::new(), Supervisor::new());
        let push = Push::start(at("http://127.0.0.1:9/"), node().await, &metrics, &supervisor).unwrap();
        // The worker has no turn before this test awaits.
        for _ in 0..PUSH_QUEUE + 3 {
            push.request_accepted(&"vault_demo01".into(), "req");
        }
        assert_eq!(dropped(&metrics, "full"), 3);
        supervisor.stop(PATIENCE).await;
    }
}
