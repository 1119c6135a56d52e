//! Credentials for TURN (`/dusk/turn-credentials/1.0.0`): what a peer needs to be let in by a TURN server that has the same
//! secret as this relay, for a day or so.
//!
//! They are those of the peer that asks, whatever peer it names: a server can then count what each uses.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use libp2p::{PeerId, Stream, StreamProtocol};

use crate::config::Secret;
use crate::domain::clock::Millis;
use crate::observe::metrics::Metrics;
use crate::runtime::supervisor::Supervisor;
use crate::runtime::time;
use crate::security::turn_password::turn_password;
use crate::wire::p2p::turn_credentials::{MAX_REQUEST_BYTES, Request, Response};

use super::framing;
use super::rates::Rates;
use super::streams::{Connection, Serving, Work};

/// The protocol.
pub const TURN_CREDENTIALS: StreamProtocol = StreamProtocol::new("/dusk/turn-credentials/1.0.0");

/// Requests of one connection that are worked on at once.
const MAX_SERVING: usize = 8;

/// How long a peer may take to say what it wants, and to take the answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// Of which server credentials are given, and how often.
#[derive(Debug, Clone)]
pub struct TurnCredentialsSettings {
    /// What the server knows as well.
    pub secret: Secret,
    /// Where it is.
    pub uris: Vec<String>,
    /// How long credentials hold.
    pub life: Duration,
    /// Requests from one address, per minute.
    pub requests_per_minute: NonZeroU32,
    /// Requests of one peer, per minute.
    pub requests_of_peer: NonZeroU32,
    /// Addresses, and peers, whose rates are known one by one.
    pub tracked: usize,
}

/// Gives credentials; clones share it.
#[derive(Clone)]
pub struct TurnCredentials {
    inner: Arc<Inner>,
}

struct Inner {
    settings: TurnCredentialsSettings,
    rates: Rates,
    metrics: Arc<Metrics>,
    supervisor: Supervisor,
}

impl TurnCredentials {
    /// Of that server.
    #[must_use]
    pub fn new(settings: TurnCredentialsSettings, metrics: Arc<Metrics>, supervisor: Supervisor) -> Self {
        let per_minute = (settings.requests_per_minute, settings.requests_of_peer);
        let rates = Rates::start("TURN credential rates", per_minute, settings.tracked, &supervisor);
        Self { inner: Arc::new(Inner { settings, rates, metrics, supervisor }) }
    }

    /// A peer has opened a stream of [`TURN_CREDENTIALS`].
    pub fn serve(&self, connection: &Arc<Connection>, stream: Stream) {
        let (this, asker) = (self.clone(), connection.clone());
        let answering = async move { this.answer(&asker, stream).await };
        if !Serving::spawn(connection, (Work::TurnCredentials, MAX_SERVING), &self.inner.supervisor, answering) {
            self.inner.metrics.p2p.refuse_stream("busy");
        }
    }

    /// Serves one stream. What is no request, or one too many, has no answer: the protocol has none for it.
    async fn answer(&self, connection: &Connection, mut stream: Stream) {
        let metrics = &self.inner.metrics.p2p;
        // Whatever comes now costs one request.
        let rate = self.inner.rates.check(connection);
        if let Err(why) = framing::whole(&mut stream, MAX_REQUEST_BYTES, PATIENCE, Request::read).await {
            return metrics.refuse_stream(why);
        }
        if let Err(why) = rate {
            return metrics.refuse_turn_credentials(why);
        }
        let response = self.inner.settings.credentials(&connection.peer, time::now());
        metrics.turn_credentials.inc();
        tracing::debug!("generated TURN credentials for peer {}", connection.peer);
        framing::finish(stream, Some(&response.write()), PATIENCE).await;
    }
}

impl TurnCredentialsSettings {
    /// Those of that peer, from `now` on.
    fn credentials(&self, peer: &PeerId, now: Millis) -> Response {
        let username = format!("{}:{peer}", now.plus(self.life).0 / 1000);
        let password = turn_password(self.secret.expose(), &username);
        Response { username, password, ttl: self.life.as_secs(), uris: self.uris.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_made_as_the_sheet_says() {
        let settings = TurnCredentialsSettings {
            secret: Secret::new(b"north"),
            uris: vec!["turn:a.example:3478".into()],
            life: Duration::from_secs(86_400),
            requests_per_minute: NonZeroU32::MAX,
            requests_of_peer: NonZeroU32::MAX,
            tracked: 1,
        };
        let peer = PeerId::random();
        let given = settings.credentials(&peer, Millis(1_799_913_600_999));
        assert_eq!(given.username, format!("1800000000:{peer}"));
        assert_eq!(given.password, turn_password(b"north", &given.username));
        assert_eq!((given.ttl, given.uris), (86_400, settings.uris));
    }
}
