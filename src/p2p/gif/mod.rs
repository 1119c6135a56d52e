//! The GIF search of Dusk: a peer asks the relay, which asks a provider, so that the provider does not learn who asks.
//!
//! No call is made for what was found lately, and one call for all who want the same at one time. Calls are made beside
//! everything else, by few at a time, and each is given up after a while. Whatever goes wrong, a peer is told that nothing was
//! found: the protocol has no word for anything else. Without a key nothing is ever found, and nobody outside is asked.

mod limits;
mod provider;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use libp2p::{Stream, StreamProtocol};
use moka::Expiry;
use moka::sync::Cache;
use parking_lot::Mutex;
use tokio::sync::{Semaphore, watch};

use crate::observe::log_gate::LogGate;
use crate::observe::metrics::Metrics;
use crate::runtime::supervisor::Supervisor;
use crate::security::address::AddressKey;
use crate::security::outbound::Failure;
use crate::wire::p2p::gif::{self, MAX_REQUEST_BYTES, Wanted};

use super::framing;
use super::rates::Rates;
use super::streams::{Connection, Serving, Work};

pub use limits::GifLimits;
pub use provider::ProviderParts;

use limits::Calls;
use provider::Provider;

/// The protocol.
pub const GIF: StreamProtocol = StreamProtocol::new("/dusk/gif/1.0.0");

/// Requests of one connection that are worked on at once.
const MAX_SERVING: usize = 16;

/// Calls to the provider at one time.
const MAX_CALLS: usize = 32;

/// How long a peer may take to say what it wants, and to take the answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long what is liked now is kept, and what was searched for.
const KEPT: (Duration, Duration) = (Duration::from_secs(600), Duration::from_secs(1800));

/// What is charged for an answer that is kept, besides its bytes.
const KEPT_BESIDE: usize = 256;

/// What the search for GIFs needs of its node.
pub struct GifParts {
    /// Who has them; if nobody is named, nothing is found.
    pub provider: Option<ProviderParts>,
    /// How often it is asked.
    pub limits: GifLimits,
    /// The node's figures.
    pub metrics: Arc<Metrics>,
    /// Who runs its tasks.
    pub supervisor: Supervisor,
}

/// The search for GIFs of a node; clones share it.
#[derive(Clone)]
pub struct Gifs {
    inner: Arc<Inner>,
}

struct Inner {
    provider: Option<Provider>,
    patience: Duration,
    kept: Cache<Wanted, Bytes>,
    under_way: Mutex<HashMap<Wanted, watch::Receiver<Option<Bytes>>>>,
    rates: Rates,
    calls: Calls,
    places: Arc<Semaphore>,
    nothing: Bytes,
    failures: Mutex<LogGate>,
    metrics: Arc<Metrics>,
    supervisor: Supervisor,
}

impl Gifs {
    /// Nothing has been found yet.
    ///
    /// # Errors
    /// If the TLS library refuses its set-up; nothing that an operator sets makes it do so.
    pub fn start(parts: GifParts) -> Result<Self, rustls::Error> {
        let GifParts { provider, limits, metrics, supervisor } = parts;
        let per_minute = (limits.address_requests_per_minute, limits.requests_per_minute);
        let weigh = |_: &Wanted, answer: &Bytes| u32::try_from(answer.len() + KEPT_BESIDE).unwrap_or(u32::MAX);
        let kept = Cache::builder().max_capacity(limits.kept_bytes).weigher(weigh).expire_after(Lives).build();
        let inner = Inner {
            provider: provider.map(Provider::new).transpose()?,
            patience: limits.patience,
            kept,
            under_way: Mutex::default(),
            rates: Rates::start("GIF rates", per_minute, limits.tracked, &supervisor),
            calls: Calls::new(limits.calls_per_minute),
            places: Arc::new(Semaphore::new(MAX_CALLS)),
            nothing: gif::found(Vec::new()),
            failures: Mutex::new(LogGate::once_a_minute()),
            metrics,
            supervisor,
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// A peer has opened a stream of [`GIF`].
    pub fn serve(&self, connection: &Arc<Connection>, stream: Stream) {
        let (this, asker) = (self.clone(), connection.clone());
        let answering = async move { this.answer(&asker, stream).await };
        if !Serving::spawn(connection, (Work::Gif, MAX_SERVING), &self.inner.supervisor, answering) {
            self.inner.metrics.p2p.refuse_stream("busy");
        }
    }

    async fn answer(&self, connection: &Connection, mut stream: Stream) {
        let inner = &self.inner;
        let wanted = match framing::whole(&mut stream, MAX_REQUEST_BYTES, PATIENCE, gif::read).await {
            Ok(wanted) => wanted,
            Err(why) => return inner.metrics.p2p.refuse_stream(why),
        };
        let answer = self.found(connection, wanted).await.unwrap_or_else(|why| {
            inner.metrics.p2p.fail_gif(why);
            inner.nothing.clone()
        });
        framing::finish(stream, Some(&answer), PATIENCE).await;
    }

    /// What is found for that peer.
    ///
    /// # Errors
    /// Why it was not looked for, in one word for figures.
    async fn found(&self, connection: &Connection, wanted: Wanted) -> Result<Bytes, &'static str> {
        let inner = &self.inner;
        if inner.provider.is_none() {
            return Ok(inner.nothing.clone());
        }
        inner.rates.check(connection)?;
        let mut found = self.look_for(connection.address, wanted)?;
        let found = found.wait_for(Option::is_some).await.map(|found| found.clone()).ok().flatten();
        Ok(found.unwrap_or_else(|| inner.nothing.clone()))
    }

    /// Where the answer is, or will be: kept, or under way, or asked for now.
    fn look_for(
        &self,
        address: Option<AddressKey>,
        wanted: Wanted,
    ) -> Result<watch::Receiver<Option<Bytes>>, &'static str> {
        let inner = &self.inner;
        // Under one lock, or what has just been found would be asked for again.
        let mut under_way = inner.under_way.lock();
        if let Some(known) = under_way.get(&wanted) {
            return Ok(known.clone());
        }
        if let Some(kept) = inner.kept.get(&wanted) {
            inner.metrics.p2p.gifs_kept.inc();
            return Ok(watch::channel(Some(kept)).1);
        }
        let place = inner.places.clone().try_acquire_owned().map_err(|_| "busy")?;
        inner.calls.take(address, Instant::now())?;
        inner.metrics.p2p.gifs_asked.inc();
        let (done, answer) = watch::channel(None);
        under_way.insert(wanted.clone(), answer.clone());
        let (this, stop) = (self.clone(), inner.supervisor.token());
        inner.supervisor.spawn_quiet(async move {
            let found = stop.run_until_cancelled(this.ask(&wanted)).await.flatten();
            this.settle(&wanted, found, &done);
            drop(place);
        });
        Ok(answer)
    }

    /// What the provider has found, if it has found anything.
    async fn ask(&self, wanted: &Wanted) -> Option<Bytes> {
        let inner = &self.inner;
        let asked = tokio::time::timeout(inner.patience, inner.provider.as_ref()?.ask(wanted)).await;
        match asked.unwrap_or_else(|elapsed| Err(Failure::new("timed_out", &elapsed))) {
            Ok(gifs) => (!gifs.is_empty()).then(|| gif::found(gifs)),
            Err(Failure { reason, cause }) => {
                inner.metrics.p2p.fail_gif(reason);
                if let Some(left_out) = inner.failures.lock().pass(reason, Instant::now()) {
                    tracing::warn!(reason, cause, left_out, "the provider of GIFs was asked in vain");
                }
                None
            }
        }
    }

    /// Keeps what was found, and tells all who wait for it.
    fn settle(&self, wanted: &Wanted, found: Option<Bytes>, done: &watch::Sender<Option<Bytes>>) {
        if let Some(found) = &found {
            self.inner.kept.insert(wanted.clone(), found.clone());
        }
        self.inner.under_way.lock().remove(wanted);
        done.send_replace(Some(found.unwrap_or_else(|| self.inner.nothing.clone())));
    }
}

/// How long each answer is kept.
struct Lives;

impl Expiry<Wanted, Bytes> for Lives {
    fn expire_after_create(&self, wanted: &Wanted, _answer: &Bytes, _now: Instant) -> Option<Duration> {
        Some(if wanted.query.is_none() { KEPT.0 } else { KEPT.1 })
    }
}
