//! Whose mailbox a connection may read (sections 3.1 to 3.3), and how that is proven.
//!
//! A `client_id` is the hex of a key. Once that key was proven, on any node, the id is *claimed*: its mailbox is read,
//! acknowledged and purged, and its devices are written to, with proof only. A routing token that comes with a proof
//! belongs to the key that was proven. Whoever comes to a claimed name without proof may send, and nothing else.
//!
//! Ids and tokens are claimed apart, and an id wins: otherwise a stranger could take another client's id for its
//! token, and be its owner before it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::MailboxService;
use super::channel::Channel;
use super::session::{Identity, Over, Session};
use crate::cluster::claims::{ClaimError, Proof};
use crate::cluster::links::{AskError, LinkRefused};
use crate::cluster::regions::PeerName;
use crate::domain::clock::Millis;
use crate::domain::mailbox::MailboxKey;
use crate::domain::principal::{Kind, Principal};
use crate::runtime::backoff::Backoff;
use crate::wire::vauchi::proof::{Proof as Signed, TIME_SKEW_SECS};

/// How long a nonce is remembered after the time it was signed at: as long as that time passes, and a minute for
/// clocks of nodes that differ.
const NONCE_MEMORY: Duration = Duration::from_secs(TIME_SKEW_SECS + 60);

/// How long it is tried to find out whether a name is claimed, and with what pause: long enough for a node that has died
/// to leave the view, on a busy machine too. A session for which it is not found out by then only sends, until it is.
const PATIENCE: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(100);

/// Waits between later trials for one session, each of which asks once.
const AGAIN: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(30));

/// Names that another cluster is asked for at a time.
const NAMES: usize = 256;

/// Why a handshake that was well formed and well signed is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Refused(pub &'static str);

impl MailboxService {
    /// Claims the names of a client that signed, for its key: each nonce counts once, on all nodes together.
    pub(super) async fn claim(&self, who: &Identity, signed: &Signed) -> Result<(), Refused> {
        let proof = Proof {
            key: Bytes::copy_from_slice(&signed.key.0),
            nonce: Bytes::copy_from_slice(&signed.nonce),
            nonce_until: Millis(signed.timestamp.saturating_mul(1000)).plus(NONCE_MEMORY),
        };
        let claims = &self.inner.cluster.claims;
        let refused = |error| match error {
            ClaimError::KeyMismatch => Refused("key_mismatch"),
            ClaimError::NonceReused => Refused("nonce_reused"),
            ClaimError::Unbound | ClaimError::Unavailable => Refused("unavailable"),
        };
        claims.claim(&Principal::mailbox_client(&who.client_id), &proof, true).await.map_err(refused)?;
        if who.has_token() {
            match self.is_claimed(&Principal::mailbox_client(&who.routing_id), PATIENCE).await {
                Some(false) => {}
                Some(true) => return Err(Refused("token_is_id")),
                None => return Err(Refused("unavailable")),
            }
            let token = Principal::mailbox_token(&who.routing_id);
            // Of a name that is owned here, no other cluster decides.
            let is_here = claims.is_owned(&token).await.unwrap_or_default();
            if !is_here {
                let owner = self.inner.cluster.afar.owner(&token).await.map_err(|_| Refused("unavailable"))?;
                if owner.is_some_and(|(_, owner)| owner != proof.key) {
                    return Err(Refused("key_mismatch"));
                }
            }
            claims.claim(&token, &proof, true).await.map_err(refused)?;
        }
        Ok(())
    }

    /// Opens the session of a client that proved its key.
    pub(super) fn open_proven(&self, who: Identity, channel: Channel) -> Arc<Session> {
        let names = names(&who).into_iter().take(1 + usize::from(who.has_token()));
        let session = self.open(who, channel);
        session.grant(Over::Blobs);
        session.grant(Over::Devices);
        // Whoever else is there without proof may not read any more, even if the claim was known here before.
        let key = session.who.key.map(|key| Bytes::copy_from_slice(&key.0)).unwrap_or_default();
        names.for_each(|name| self.take_from_others(&name, &key, |_| true));
        self.wake(&session);
        session
    }

    /// Opens the session of a client that proved nothing. It is greeted at once, and may send; whether it may read is
    /// found out beside.
    pub(super) fn open_unproven(&self, who: Identity, channel: Channel) -> Arc<Session> {
        let session = self.open(who, channel);
        let (this, of) = (self.clone(), session.clone());
        self.inner.supervisor.spawn_quiet(async move {
            if !this.decide(&of, PATIENCE).await {
                this.decide_later(of);
            }
        });
        self.wake(&session);
        session
    }

    /// Tries again to decide what a session may read, while it is there.
    fn decide_later(&self, session: Arc<Session>) {
        let this = self.clone();
        self.until_stopped(async move {
            let mut backoff = Backoff::new(AGAIN.0, AGAIN.1);
            loop {
                tokio::time::sleep(backoff.next(rand::random())).await;
                if session.channel.outbox.is_closed() || this.decide(&session, Duration::ZERO).await {
                    return;
                }
            }
        });
    }

    /// Grants or denies a session its rights; false if one of them is in doubt.
    async fn decide(&self, session: &Arc<Session>, patience: Duration) -> bool {
        let is_claimed = |principal| self.is_claimed(principal, patience);
        let who = &session.who;
        let (client, mailbox) = (Principal::mailbox_client(&who.client_id), Principal::mailbox_client(&who.routing_id));
        let token = Principal::mailbox_token(&who.routing_id);
        let (client, mailbox, token) = if who.has_token() {
            tokio::join!(is_claimed(&client), is_claimed(&mailbox), is_claimed(&token))
        } else {
            let (client, token) = tokio::join!(is_claimed(&client), is_claimed(&token));
            (client, client, token)
        };
        if who.has_token() && mailbox == Some(true) {
            self.inner.metrics.mailbox.reject_handshake("token_is_id");
            session.channel.outbox.cut("handshake");
        }
        for (over, owned) in [(Over::Devices, [client, client]), (Over::Blobs, [mailbox, token])] {
            match owned {
                [Some(true), _] | [_, Some(true)] => self.deny(session, over),
                [Some(false), Some(false)] => self.grant(session, over),
                [None, _] | [_, None] => self.doubt(session, over),
            }
        }
        session.is_decided()
    }

    /// Whether a key owns a name; `None` if that cannot be found out in time. It is asked once at least.
    async fn is_claimed(&self, principal: &Principal, patience: Duration) -> Option<bool> {
        let begun = Instant::now();
        loop {
            match self.inner.cluster.claims.is_owned(principal).await {
                Ok(true) => return Some(true),
                // A peer that has too much to do has not said that nobody owns it there.
                Ok(false) => match self.inner.cluster.afar.owner(principal).await {
                    Ok(owner) => return Some(owner.is_some()),
                    Err(error) => tracing::debug!(%error, "it cannot be found out yet whether a name is owned"),
                },
                Err(_) => {}
            }
            if begun.elapsed() >= patience {
                return None;
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// A peer can be asked again: takes from the sessions without proof what is owned there.
    ///
    /// # Errors
    /// [`LinkRefused::Full`] if it has too much to do: it is to be asked once more.
    pub(super) async fn decide_again(&self, peer: &PeerName) -> Result<(), LinkRefused> {
        for part in 0..self.inner.sessions.parts() {
            let mut sessions = self.inner.sessions.in_part(part);
            sessions.retain(|session| session.who.key.is_none());
            for some in sessions.chunks(NAMES / 2) {
                let names: Vec<_> = some.iter().flat_map(|session| names(&session.who)).collect();
                let owners = match self.inner.cluster.afar.owners_at(peer, &names).await {
                    Ok(owners) => owners,
                    Err(AskError::Busy) => return Err(LinkRefused::Full),
                    // It is taken to own nothing.
                    Err(_) => return Ok(()),
                };
                for (name, owner) in names.iter().zip(owners) {
                    if let Some(owner) = owner {
                        self.owned_afar(name, &owner);
                    }
                }
            }
        }
        Ok(())
    }

    /// A name has, as far as this node knows, another owner than before.
    pub(super) fn rebound(&self, principal: &Principal, key: &Bytes) {
        if principal.kind == Kind::Mailbox {
            self.tell_callers_of_owner(principal, key);
            self.take_from_others(principal, key, |_| true);
        }
    }

    /// A name has an owner in another cluster, as that one says: whoever has proven nothing is not the owner. Those who
    /// have proven a key are judged by this cluster alone.
    pub(super) fn owned_afar(&self, principal: &Principal, key: &Bytes) {
        if principal.kind == Kind::Mailbox {
            self.take_from_others(principal, key, |session| session.who.key.is_none());
        }
    }

    /// Of those who are judged, only `key` may use this name any more.
    fn take_from_others(&self, principal: &Principal, key: &Bytes, is_judged: impl Fn(&Session) -> bool) {
        let key = <[u8; 32]>::try_from(&**key).ok();
        let is_other = |session: &Session| is_judged(session) && session.who.key.map(|key| key.0) != key;
        if let Some(token) = principal.name.strip_prefix("token/") {
            for session in self.inner.sessions.of(&MailboxKey::blobs(token)) {
                // A client that proved that the name is its own id keeps it.
                let is_id = session.who.key.is_some() && session.who.client_id == token;
                if !is_id && is_other(&session) {
                    self.deny(&session, Over::Blobs);
                }
            }
            return;
        }
        let client = &*principal.name;
        for session in self.inner.sessions.of_client(client) {
            if is_other(&session) {
                self.deny(&session, Over::Devices);
            }
        }
        for session in self.inner.sessions.of(&MailboxKey::blobs(client)) {
            if is_other(&session) || (session.who.client_id != client && is_judged(&session)) {
                self.deny(&session, Over::Blobs);
            }
        }
    }
}

/// What a client without proof must not be told of, if a key owns it.
fn names(who: &Identity) -> [Principal; 2] {
    let named = if who.has_token() { Principal::mailbox_token } else { Principal::mailbox_client };
    [Principal::mailbox_client(&who.client_id), named(&who.routing_id)]
}
