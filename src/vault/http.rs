//! The vault service over HTTP (sheet sections 8.2 and 9), without HTTP: calls with their answers.

use std::time::Duration;

use serde_json::value::RawValue;
use serde_json::{Value, json};
use tokio::sync::oneshot;
use tokio_tungstenite::tungstenite::Utf8Bytes;

use crate::cluster::convert;
use crate::cluster::proto::{Poll, frame::Body, poll_result::State, reply};
use crate::domain::ids::{RequestId, VaultId};
use crate::domain::limits::HEARTBEAT_TIMEOUT;
use crate::runtime::time;
use crate::security::address::AddressKey;
use crate::wire::dcp::envelope::{EnvelopeError, RecordId, Unchecked};
use crate::wire::dcp::fields::Fields;
use crate::wire::dcp::frame;
use crate::wire::dcp::registration::{ProofRequired, Verified, verify_proof};

use super::frames;
use super::record::{Outcome, PollToken, Submitter, Waiter};
use super::refusal::{Refusal, whole_seconds};
use super::register::NotRegistered;
use super::service::{Poller, VaultService};
use super::span;
use super::state::{AnswerVerdict, NewRequest};

/// How long the other nodes may take over a poll.
const POLL_PATIENCE: Duration = Duration::from_millis(500);

/// How long a request over HTTP waits to know whether it is accepted.
const ACCEPT_PATIENCE: Duration = Duration::from_secs(10);

/// Longest long poll of a vault.
const LONGEST_POLL: Duration = Duration::from_secs(60);

/// Most requests handed out by one long poll.
const POLL_BATCH: usize = 100;

/// An answer over HTTP: status, body, and headers beside the usual ones.
#[derive(Debug, Clone)]
pub struct HttpAnswer {
    /// The status.
    pub status: u16,
    /// The body: JSON text.
    pub body: String,
    /// Further headers.
    pub headers: Vec<(&'static str, String)>,
}

impl HttpAnswer {
    /// An answer with this body.
    #[must_use]
    pub fn new(status: u16, body: &Value) -> Self {
        Self { status, body: body.to_string(), headers: Vec::new() }
    }

    fn error(status: u16, code: &str, message: &str, details: Option<Value>) -> Self {
        let mut error = json!({"code": code, "message": message});
        if let (Some(error), Some(details)) = (error.as_object_mut(), details) {
            error.insert("details".to_owned(), details);
        }
        Self::new(status, &json!({ "error": error }))
    }

    fn with(mut self, name: &'static str, value: impl ToString) -> Self {
        self.headers.push((name, value.to_string()));
        self
    }
}

impl VaultService {
    /// `POST /relay/request`.
    pub async fn post_request(&self, body: &str, asker: Submitter) -> HttpAnswer {
        let now = time::now();
        let envelope = match Unchecked::parse(body.as_bytes()).unwrap_or_default().check(now) {
            Ok(envelope) => envelope,
            Err(error) => return self.counted(bad_envelope(&error), error.code()),
        };
        let (vault, request) = (VaultId::from(&*envelope.vault_id), RequestId::from(&*envelope.request_id));
        // Whoever shows the token of the first submission is its submitter, wherever it comes from now.
        let first = self.with_known(vault.as_str(), |state, _| state.submitted_with_token(&request, &asker)).flatten();
        let submitter = match first {
            Some(address) => Submitter { address, token: asker.token },
            None => Submitter { address: asker.address, token: Some(PollToken(rand::random())) },
        };
        let id = RecordId::of(body, submitter.address);
        let known = self.with_known(vault.as_str(), |state, _| state.is_known(&request, id)).unwrap_or(false);
        if !known && let Err(limited) = self.inner.admission.request(AddressKey::from(asker.address)) {
            self.inner.metrics.vault.limited("address");
            return self.refused(&vault, &request, &Refusal::AddressLimit(limited.retry_after));
        }
        // The frame repeats the body as a member of another object: it must be one JSON value, which it is by now.
        let text = serde_json::from_str::<&RawValue>(body).map_or(body, RawValue::get);
        let (told, outcome) = oneshot::channel();
        let new = NewRequest {
            id,
            request: request.clone(),
            frame: frame::write("request", text, now),
            expires: envelope.expires,
            submitter,
            waiter: Waiter::Http(told),
            span: span::taken(),
        };
        self.submit(vault.as_str(), new);
        match tokio::time::timeout(ACCEPT_PATIENCE, outcome).await {
            Ok(Ok(Outcome::Accepted { remaining })) => {
                self.guard(&vault, &request, id);
                self.accepted(&request, remaining, submitter.token)
            }
            Ok(Ok(Outcome::Answered(answer))) => response(&answer),
            Ok(Ok(Outcome::Duplicate)) => self.refused(&vault, &request, &Refusal::Duplicate(request.clone())),
            Ok(Ok(Outcome::Refused(refusal))) => self.refused(&vault, &request, &refusal),
            Ok(Err(_)) | Err(_) => self.refused(&vault, &request, &Refusal::Unavailable),
        }
    }

    /// `GET /relay/response/{request_id}`.
    pub async fn get_response(&self, request: &str, asker: Submitter) -> HttpAnswer {
        let found = match self.poll_here(request, &asker) {
            Some(Some(answer)) => Some(Some(answer)),
            here => self.poll_elsewhere(request, &asker).await.or(here),
        };
        match found {
            Some(Some(answer)) => response(&answer),
            Some(None) => HttpAnswer::new(
                202,
                &json!({"pending": true, "request_id": request, "message": "Response not yet available"}),
            ),
            None => self.counted(unknown_request(), "RELAY_TIMEOUT"),
        }
    }

    /// `POST /relay/poll`: a vault fetches its requests.
    pub async fn post_poll(&self, body: &[u8]) -> HttpAnswer {
        let Some(fields) = Fields::parse(body) else { return proof_required() };
        let wait = fields.number("timeout_ms").unwrap_or(30_000.0);
        let last_seen = fields.text("last_message_id").map(|id| id.into_owned());
        let verified = match self.prove(body, None, false).await {
            Ok(verified) => verified,
            Err(answer) => return answer,
        };
        if wait <= 0.0 {
            return messages(&[], last_seen);
        }
        let vault = verified.vault_id.clone();
        let lost_answer = {
            let polls = self.inner.polls.lock();
            let given = polls.get(&vault).and_then(|poller| poller.last_given.as_ref());
            // What it was given last is not what it has seen last: that answer was lost on its way.
            given.is_some_and(|given| last_seen.as_deref().is_some_and(|seen| seen != given.as_str()))
        };
        let deadline = tokio::time::Instant::now() + Duration::from_millis(wait as u64).min(LONGEST_POLL);
        loop {
            let fetched = self.with(vault.as_str(), |state, context| state.fetch(lost_answer, POLL_BATCH, context));
            if !fetched.is_empty() || tokio::time::Instant::now() >= deadline || self.is_draining() {
                if let (Some((last, _)), Some(poller)) = (fetched.last(), self.inner.polls.lock().get_mut(&vault)) {
                    poller.last_given = Some(last.clone());
                }
                return messages(&fetched, last_seen);
            }
            tokio::time::sleep_until(deadline.min(tokio::time::Instant::now() + Duration::from_millis(50))).await;
        }
    }

    /// `POST /relay/respond`: a vault answers.
    pub async fn post_respond(&self, body: &str) -> HttpAnswer {
        let fields = Fields::parse(body.as_bytes());
        let request = fields.as_ref().and_then(|f| f.text("request_id"));
        let payload = fields.as_ref().and_then(|f| f.text("encrypted_payload"));
        let (Some(request), Some(_)) = (request, payload) else {
            return self.counted(
                HttpAnswer::error(400, "RELAY_INVALID_ENVELOPE", "Invalid response envelope", None),
                "RELAY_INVALID_ENVELOPE",
            );
        };
        let verified = match self.check_proof(body.as_bytes(), None, false).await {
            Ok((verified, _)) => verified,
            Err(answer) => return answer,
        };
        let (vault, request) = (verified.vault_id, RequestId::from(&*request));
        let text = serde_json::from_str::<&RawValue>(body).map_or(body, RawValue::get);
        let answer = frame::write("response", text, time::now());
        let verdict = self.with_known(vault.as_str(), |state, context| state.answer(&request, answer.clone(), context));
        if self.hand_answer_on(&vault, &request, answer, verdict.unwrap_or(AnswerVerdict::Unknown)).await {
            return HttpAnswer::new(200, &json!({"success": true, "request_id": request.as_str()}));
        }
        self.counted(
            HttpAnswer::error(403, "RELAY_UNAUTHORIZED", "Not the owner of this request", None),
            "RELAY_UNAUTHORIZED",
        )
    }

    /// `POST /v1/mobile/vaults/{vault_id}/online`: counts as connected without a socket, for a while.
    pub async fn post_online(&self, vault: &str, body: &[u8]) -> HttpAnswer {
        let has_key = Fields::parse(body).is_some_and(|fields| fields.text("public_key").is_some());
        if !has_key {
            return HttpAnswer::new(400, &json!({"error": "Missing public_key"}));
        }
        match self.prove(body, Some(vault), true).await {
            Ok(verified) => HttpAnswer::new(200, &json!({"success": true, "vault_id": verified.vault_id.as_str()})),
            Err(answer) => answer,
        }
    }

    /// Checks the proof in `body`, and takes note that its vault is there and polls.
    async fn prove(&self, body: &[u8], vault: Option<&str>, may_bind: bool) -> Result<Verified, HttpAnswer> {
        let (verified, epoch) = self.check_proof(body, vault, may_bind).await?;
        let until = time::now().plus(HEARTBEAT_TIMEOUT);
        let fresh = {
            let mut polls = self.inner.polls.lock();
            let poller = polls.get_mut(&verified.vault_id);
            let fresh = poller.is_none();
            let number = poller.as_ref().map_or_else(|| self.next_socket(), |poller| poller.number);
            match poller {
                Some(poller) => poller.until = until,
                None => drop(polls.insert(verified.vault_id.clone(), Poller { number, until, last_given: None })),
            }
            fresh.then_some(number)
        };
        if let Some(number) = fresh {
            self.open_session(&verified, number, None, epoch, None).await;
        }
        Ok(verified)
    }

    /// Checks the proof in `body`: signature, key, and that it has not been used before.
    pub(super) async fn check_proof(
        &self,
        body: &[u8],
        vault: Option<&str>,
        may_bind: bool,
    ) -> Result<(Verified, crate::domain::clock::Epoch), HttpAnswer> {
        let verified = verify_proof(body, vault, time::now()).map_err(|ProofRequired| proof_required())?;
        match self.claim(&verified, may_bind).await {
            Ok(epoch) => Ok((verified, epoch)),
            Err(NotRegistered::Refused(_) | NotRegistered::Unbound) => Err(proof_required()),
            Err(NotRegistered::Unavailable) => {
                Err(HttpAnswer::error(503, "RELAY_UNAVAILABLE", "The proof could not be checked; try again", None))
            }
        }
    }

    async fn poll_elsewhere(&self, request: &str, asker: &Submitter) -> Option<Option<Utf8Bytes>> {
        let poll = Body::Poll(Poll {
            request_id: request.to_owned(),
            address: Some(convert::address(asker.address)),
            token: asker.token.map(|token| convert::bits(token.0)),
        });
        let mut found = None;
        self.ask_all(&poll, POLL_PATIENCE, |_, answer| {
            if let reply::Body::Poll(result) = answer {
                match result.state() {
                    State::Answered => found = frames::text(result.frame).map(Some).or(found.take()),
                    State::Pending => {
                        found.get_or_insert(None);
                    }
                    State::Unknown | State::Unspecified => {}
                }
            }
        })
        .await;
        found
    }

    /// A request of which only this node knows is kept by another as well: its agent may poll there.
    fn guard(&self, vault: &VaultId, request: &RequestId, id: RecordId) {
        let view = self.inner.cluster.nodes();
        let hash = crate::domain::placement::KeyHash::of(&[b"guard", request.as_str().as_bytes()]);
        let guardian =
            view.owners(hash).find(|owner| owner.run != self.inner.cluster.me).map(|owner| owner.run.clone());
        if let Some(guardian) = guardian {
            self.with_known(vault.as_str(), |state, context| state.guard(request, id, &guardian, context));
        }
    }

    fn accepted(&self, request: &RequestId, remaining: Option<u32>, token: Option<PollToken>) -> HttpAnswer {
        let body = json!({
            "queued": true, "accepted": true, "request_id": request.as_str(), "message": "Request queued for delivery",
        });
        let answer = self.limits(HttpAnswer::new(202, &body), remaining);
        match token {
            Some(token) => answer.with("x-relay-poll-token", token.to_text()),
            None => answer,
        }
    }

    /// The limit, and what it leaves. That is known only where the vault's node has just been asked for room, so it
    /// is left out elsewhere; no shipped client reads it.
    fn limits(&self, answer: HttpAnswer, remaining: Option<u32>) -> HttpAnswer {
        let answer = answer.with("x-ratelimit-limit", self.inner.settings.rate);
        match remaining {
            Some(remaining) => answer.with("x-ratelimit-remaining", remaining),
            None => answer,
        }
    }

    fn refused(&self, vault: &VaultId, request: &RequestId, refusal: &Refusal) -> HttpAnswer {
        let (code, message) = (refusal.code(), refusal.to_string());
        let error = |status, details| HttpAnswer::error(status, code, &message, details);
        let answer = match refusal {
            Refusal::VaultLimit(_, wait) => {
                let details = json!({
                    "vault_id": vault.as_str(), "limit": self.inner.settings.rate.get(), "window_ms": 60_000,
                    "retry_after_ms": u64::try_from(wait.as_millis()).unwrap_or(u64::MAX),
                });
                let secs = whole_seconds(*wait);
                self.limits(error(429, Some(details)), Some(0))
                    .with("x-ratelimit-reset", secs)
                    .with("retry-after", secs)
            }
            Refusal::AddressLimit(wait) => error(429, None).with("retry-after", whole_seconds(*wait).max(1)),
            Refusal::NotConnected(_) => self.limits(error(503, None), None),
            Refusal::Full | Refusal::Unavailable => error(503, None).with("retry-after", 1),
            Refusal::Expired => error(400, None),
            Refusal::Unknown => error(404, None),
            Refusal::Duplicate(_) => self.limits(error(409, Some(json!({"request_id": request.as_str()}))), None),
        };
        // What is given up is counted where it is given up; these two are not.
        if matches!(refusal, Refusal::Duplicate(_) | Refusal::AddressLimit(_)) {
            return self.counted(answer, code);
        }
        answer
    }

    fn counted(&self, answer: HttpAnswer, code: &'static str) -> HttpAnswer {
        self.inner.metrics.vault.error(code);
        answer
    }
}

fn bad_envelope(error: &EnvelopeError) -> HttpAnswer {
    let details = match error {
        EnvelopeError::TtlTooLong(ttl) => Some(json!({"ttl_ms": ttl, "max_ttl_ms": 300_000})),
        _ => None,
    };
    HttpAnswer::error(400, error.code(), &error.to_string(), details)
}

fn response(answer: &Utf8Bytes) -> HttpAnswer {
    HttpAnswer { status: 200, body: frame::payload_of(answer).to_owned(), headers: Vec::new() }
}

fn unknown_request() -> HttpAnswer {
    HttpAnswer::error(404, Refusal::Unknown.code(), &Refusal::Unknown.to_string(), None)
}

fn proof_required() -> HttpAnswer {
    HttpAnswer::error(401, "RELAY_UNAUTHORIZED", &ProofRequired.to_string(), None)
}

fn messages(fetched: &[(RequestId, Utf8Bytes)], last_seen: Option<String>) -> HttpAnswer {
    let envelopes: Vec<&str> = fetched.iter().map(|(_, text)| frame::payload_of(text)).collect();
    let last = fetched.last().map_or_else(|| last_seen.unwrap_or_default(), |(request, _)| request.to_string());
    let mut body = format!(r#"{{"messages":[{}],"last_message_id":"#, envelopes.join(","));
    frame::push_string(&mut body, &last);
    body.push('}');
    HttpAnswer { status: 200, body, headers: Vec::new() }
}
