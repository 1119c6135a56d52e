//! Whatever can be addressed, and how firmly a node holds it.

use std::sync::Arc;

use super::placement::KeyHash;

/// The kinds of principal. Names of different kinds never meet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// A vault that proved its key.
    Vault,
    /// A vault of session mode, which proved nothing.
    Session,
    /// A client of mailboxes that proved its key: its `client_id`, or a routing token of its.
    Mailbox,
    /// A libp2p peer. Its id is the hash of its key, so nobody else can ever prove it.
    Peer,
}

impl Kind {
    /// The kind's byte in keys of the store. Never changes.
    #[must_use]
    pub fn byte(self) -> u8 {
        match self {
            Self::Vault => b'v',
            Self::Session => b's',
            Self::Mailbox => b'm',
            Self::Peer => b'p',
        }
    }
}

/// Whatever can be addressed: a kind and a name.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Principal {
    /// Its kind.
    pub kind: Kind,
    /// Its name, unique in its kind.
    pub name: Arc<str>,
}

impl Principal {
    /// A vault that proves its key.
    #[must_use]
    pub fn vault(name: &str) -> Self {
        Self { kind: Kind::Vault, name: name.into() }
    }

    /// A vault of session mode.
    #[must_use]
    pub fn session(name: &str) -> Self {
        Self { kind: Kind::Session, name: name.into() }
    }

    /// A client of mailboxes, by its `client_id`: the hex of its key, so that nobody else can ever prove it.
    #[must_use]
    pub fn mailbox_client(client_id: &str) -> Self {
        Self { kind: Kind::Mailbox, name: client_id.into() }
    }

    /// A routing token, which belongs to whoever first proves a key with it. A name of its own kind, or strangers
    /// could take a client's id for their token and own it before the client does.
    #[must_use]
    pub fn mailbox_token(token: &str) -> Self {
        Self { kind: Kind::Mailbox, name: format!("token/{token}").into() }
    }

    /// A libp2p peer, by its id in base 58.
    #[must_use]
    pub fn peer(id: &str) -> Self {
        Self { kind: Kind::Peer, name: id.into() }
    }

    /// What places it on its owners.
    #[must_use]
    pub fn hash(&self) -> KeyHash {
        KeyHash::of(&[&[self.kind.byte()], self.name.as_bytes()])
    }
}

/// How firmly a node holds a principal; the firmer standing is routed to, then the newer epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Standing {
    /// Its last session has closed; requests wait until the grace ends.
    Waiting,
    /// It fetches by polling.
    Polling,
    /// It has a live session.
    Live,
}
