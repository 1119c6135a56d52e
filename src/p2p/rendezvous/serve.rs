//! What peers ask of a rendezvous point.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use libp2p::Stream;

use crate::p2p::framing;
use crate::p2p::spread::Account;
use crate::p2p::streams::Connection;
use crate::runtime::time;
use crate::wire::p2p::rendezvous::{
    Found, MAX_REQUEST_BYTES, NoRequest, Request, Status, discovered, read, refused, registered,
};

use super::book::Registration;
use super::cookie::{BadCookie, Cookie};
use super::limits::{DEFAULT_TTL, MAX_FOUND, MAX_TTL, MIN_TTL};
use super::{Rendezvous, record};

/// How long a peer may take to say what it wants, and to take the answer.
const PATIENCE: Duration = Duration::from_secs(20);

impl Rendezvous {
    /// Serves one stream: one request, and its answer if it has one.
    pub(super) async fn answer(&self, connection: &Arc<Connection>, mut stream: Stream) {
        let metrics = &self.inner.metrics.p2p;
        let request = match framing::request(framing::read(&mut stream, MAX_REQUEST_BYTES), PATIENCE).await {
            Ok(Ok(message)) => read(&message),
            Ok(Err(_)) => Err(NoRequest(None)),
            Err(why) => return metrics.refuse_stream(why),
        };
        let answer = match request {
            Ok(request) => self.answered(connection, request).await,
            Err(NoRequest(answer)) => {
                metrics.refuse_stream("malformed");
                answer
            }
        };
        // Held until the answer has been taken: peers that do not take theirs must not fill the memory.
        let kib = answer.as_ref().map_or(0, |answer| u32::try_from(answer.len() >> 10).unwrap_or(u32::MAX));
        let Ok(_room) = self.inner.answers.try_acquire_many(kib) else {
            return metrics.refuse_stream("answers");
        };
        framing::finish(stream, answer.as_deref(), PATIENCE).await;
    }

    async fn answered(&self, connection: &Connection, request: Request) -> Option<Vec<u8>> {
        let rate = connection.address.map_or(Ok(()), |address| self.inner.requests.check(address));
        match request {
            Request::Register { namespace, record, ttl } => {
                let done = match rate {
                    Ok(()) => self.register(connection, &namespace, record, ttl).await,
                    Err(_) => Err((Status::Unavailable, "address_rate")),
                };
                Some(match done {
                    Ok(ttl) => registered(Status::Ok, ttl),
                    Err((status, reason)) => {
                        self.inner.metrics.p2p.refuse_registration(reason);
                        registered(status, 0)
                    }
                })
            }
            Request::Unregister { namespace } => {
                if rate.is_ok() {
                    self.unregister(connection, &namespace).await;
                }
                None
            }
            Request::Discover { namespace, limit, cookie } => {
                let done = match rate {
                    Ok(()) => self.discover(connection, namespace.as_deref(), limit, cookie.as_deref()).await,
                    Err(_) => Err(Status::Unavailable),
                };
                Some(done.unwrap_or_else(|status| {
                    self.inner.metrics.p2p.refuse_discovery(status.word());
                    refused(status)
                }))
            }
        }
    }

    async fn register(
        &self,
        connection: &Connection,
        namespace: &str,
        record: Bytes,
        ttl: Option<u64>,
    ) -> Result<u64, (Status, &'static str)> {
        let said = |status: Status| (status, status.word());
        let ttl = ttl.unwrap_or(DEFAULT_TTL.as_secs());
        if !(MIN_TTL.as_secs()..=MAX_TTL.as_secs()).contains(&ttl) {
            return Err(said(Status::InvalidTtl));
        }
        let form = record::check(&record, &connection.peer).map_err(said)?;
        connection.signs_in(form);
        let inner = &self.inner;
        let registration = {
            // Under one lock, or two at once could take the last place.
            let mut book = inner.spread.book();
            let key = (namespace.into(), connection.peer);
            let mut registration = Registration {
                stamp: inner.spread.next_stamp(&mut book, &key),
                namespace: key.0,
                peer: connection.peer,
                record: Bytes::copy_from_slice(&record),
                ttl,
                until: time::now().plus(Duration::from_secs(ttl)),
                form,
                account: connection.address.map(Account::from),
            };
            let account = book.has_room(&registration, &inner.limits);
            registration.account = account.map_err(|full| (Status::Unavailable, full.word()))?;
            if !book.put(registration.clone()) {
                return Err(said(Status::InternalError));
            }
            registration
        };
        self.inner.spread.keep_and_tell(&registration).await.map_err(|_| said(Status::InternalError))?;
        tracing::debug!("peer {} registered under namespace '{namespace}'", connection.peer);
        Ok(ttl)
    }

    async fn unregister(&self, connection: &Connection, namespace: &str) {
        let gone = {
            let mut book = self.inner.spread.book();
            let key = (namespace.into(), connection.peer);
            let stamp = self.inner.spread.next_stamp(&mut book, &key);
            let known = book.of(&key).filter(|known| known.stands());
            let gone = known.map(|known| Registration { record: Bytes::new(), stamp, ..(**known).clone() });
            gone.filter(|gone| book.put(gone.clone()))
        };
        if let Some(gone) = gone {
            // Not answered: what was not made durable is found until it ends if this node starts again before that.
            self.inner.spread.keep_and_tell(&gone).await.unwrap_or_default();
        }
    }

    async fn discover(
        &self,
        connection: &Connection,
        namespace: Option<&str>,
        limit: Option<u64>,
        cookie: Option<&[u8]>,
    ) -> Result<Vec<u8>, Status> {
        if namespace.is_none() && !self.inner.limits.lists_all {
            return Err(Status::NotAuthorized);
        }
        let cookie = match cookie.map(|bytes| Cookie::decode(bytes, namespace)).transpose() {
            Ok(cookie) => cookie,
            Err(BadCookie::Unknown) => None,
            Err(BadCookie::OtherNamespace) => return Err(Status::InvalidCookie),
        };
        let most = limit.and_then(|limit| usize::try_from(limit).ok()).unwrap_or(MAX_FOUND).min(MAX_FOUND);
        let form = connection.record_form().await;
        let (page, cookie) = self.inner.spread.book().page(namespace, form, cookie, most, time::now());
        tracing::debug!("served {} registrations to peer {}", page.len(), connection.peer);
        let found = page.into_iter().map(|registration| Found {
            namespace: registration.namespace.to_string(),
            record: registration.record.clone(),
            ttl: registration.ttl,
        });
        Ok(discovered(found.collect(), cookie.encode(namespace)))
    }
}
