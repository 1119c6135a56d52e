//! What peers ask of the directory.

use std::sync::Arc;
use std::time::Duration;

use libp2p::Stream;

use crate::p2p::framing;
use crate::p2p::spread::Account;
use crate::p2p::spread::book::Full;
use crate::p2p::streams::Connection;
use crate::runtime::time;
use crate::wire::p2p::directory::{Found, MAX_REQUEST_BYTES, Request, Response};

use super::Directory;
use super::name::{self, Name, NoName};
use super::profile::Profile;
use super::relays::NoRelay;
use super::search::Search;

/// How long a peer may take to say what it wants, and to take the answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// Why something is not done.
#[derive(Debug, Clone, Copy, thiserror::Error)]
enum Refusal {
    #[error(transparent)]
    Name(#[from] NoName),
    #[error(transparent)]
    Relay(#[from] NoRelay),
    #[error("too many requests, try again in a minute")]
    Rate(&'static str),
    #[error("the directory is busy, try again")]
    Busy,
    #[error("the directory takes no more profiles, try again later")]
    Full(Full),
    #[error("the relay failed, try again")]
    Failed,
}

impl Refusal {
    /// One word for figures.
    fn word(&self) -> &'static str {
        match self {
            Self::Name(NoName::Length) => "name_length",
            Self::Name(NoName::Control) => "name_control",
            Self::Relay(_) => "relay_addr",
            Self::Rate(word) => word,
            Self::Busy => "busy",
            Self::Full(full) => full.word(),
            Self::Failed => "failed",
        }
    }
}

impl Directory {
    /// Serves one stream: one request, and its answer. What is no request has none.
    pub(super) async fn answer(&self, connection: &Arc<Connection>, mut stream: Stream) {
        let metrics = &self.inner.metrics.p2p;
        // Whatever comes now costs one request.
        let rate = self.inner.rates.check(connection).map_err(Refusal::Rate);
        let request = match framing::whole(&mut stream, MAX_REQUEST_BYTES, PATIENCE, Request::read).await {
            Ok(request) => request,
            Err(why) => return metrics.refuse_stream(why),
        };
        // Only who has said something, and may, takes room from others; who may not is told so, and holds none.
        let room = rate.and_then(|()| self.inner.serving.try_acquire().map_err(|_| Refusal::Busy));
        let response = match &room {
            Ok(_) => self.answered(connection, request).await,
            Err(refusal) => Err(*refusal),
        };
        let response = response.unwrap_or_else(|refusal| {
            metrics.refuse_directory(refusal.word());
            Response::Error(refusal.to_string())
        });
        framing::finish(stream, Some(&response.write()), PATIENCE).await;
        drop(room);
    }

    async fn answered(&self, connection: &Connection, request: Request) -> Result<Response, Refusal> {
        let metrics = &self.inner.metrics.p2p;
        match request {
            Request::Register { display_name, relay_addr } => {
                self.register(connection, &display_name, &relay_addr).await?;
                metrics.answer_directory("register");
                Ok(Response::Ok)
            }
            Request::Search { query } => {
                let found = self.search(&query).await;
                metrics.answer_directory("search");
                Ok(Response::Results(found))
            }
            Request::Remove => {
                self.remove(connection).await?;
                metrics.answer_directory("remove");
                Ok(Response::Ok)
            }
        }
    }

    async fn register(&self, connection: &Connection, name: &str, relay_addr: &str) -> Result<(), Refusal> {
        let (inner, peer) = (&self.inner, connection.peer);
        let (name, relay) = (Name::from(name::checked(name)?), inner.relays.kept(relay_addr, &peer)?);
        let profile = {
            // Under one lock, or two at once could take the last place.
            let mut book = inner.spread.book();
            let mut profile = Profile {
                peer,
                name,
                relay,
                until: time::now().plus(inner.limits.life),
                stamp: inner.spread.next_stamp(&mut book, &peer),
                account: connection.address.map(Account::from),
            };
            // Clients say the same every two minutes: not all of it is worth a write on every node.
            if book.index.is_kept(&peer) && book.of(&peer).is_some_and(|known| known.says_as_much_as(&profile)) {
                return Ok(());
            }
            profile.account = book.fits(&profile, inner.limits.bytes, usize::MAX).map_err(Refusal::Full)?;
            if !book.put(profile.clone()) {
                return Err(Refusal::Failed);
            }
            book.index.keeping(peer);
            profile
        };
        self.keep_and_tell(&profile).await?;
        tracing::debug!("directory: registered peer {peer} as '{}' (relay: {relay_addr:?})", &*profile.name);
        Ok(())
    }

    /// In steps, with the book free between them, and few at a time: a lock that many wait for holds up whole threads.
    async fn search(&self, query: &str) -> Vec<Found> {
        let inner = &self.inner;
        let turn = inner.searching.acquire().await;
        let mut search = Search::begin(&inner.spread.book(), query);
        while search.step(&inner.spread.book()) {
            tokio::task::yield_now().await;
        }
        drop(turn);
        let found = search.found();
        tracing::debug!("directory: search {query:?} -> {} results", found.len());
        let told = found.into_iter().map(|profile| Found {
            peer_id: profile.peer.to_base58(),
            display_name: profile.name.to_string(),
            last_seen: profile.seen().0 / 1000,
            relay_addr: inner.relays.told(&profile.relay, &profile.peer),
        });
        told.collect()
    }

    /// Leaves a mark in any case: what another node has taken may not be known here yet.
    async fn remove(&self, connection: &Connection) -> Result<(), Refusal> {
        let (inner, peer) = (&self.inner, connection.peer);
        let gone = {
            let mut book = inner.spread.book();
            let mut gone = Profile {
                peer,
                name: "".into(),
                relay: "".into(),
                until: time::now().plus(inner.limits.life),
                stamp: inner.spread.next_stamp(&mut book, &peer),
                account: connection.address.map(Account::from),
            };
            gone.account = book.fits(&gone, inner.limits.bytes, usize::MAX).map_err(Refusal::Full)?;
            if !book.put(gone.clone()) {
                return Err(Refusal::Failed);
            }
            book.index.keeping(peer);
            gone
        };
        self.keep_and_tell(&gone).await?;
        tracing::debug!("directory: removed profile for {peer}");
        Ok(())
    }

    async fn keep_and_tell(&self, profile: &Profile) -> Result<(), Refusal> {
        self.inner.spread.keep_and_tell(profile).await.map_err(|_| Refusal::Failed)?;
        let mut book = self.inner.spread.book();
        // Unless something newer is being kept.
        if book.of(&profile.peer).is_some_and(|known| known.stamp == profile.stamp) {
            book.index.kept(&profile.peer);
        }
        Ok(())
    }
}
