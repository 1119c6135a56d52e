//! What a client of Dusk says to its relay beside libp2p's own protocols: one CBOR item each way.

use libp2p::{PeerId, StreamProtocol};
use serde::{Deserialize, Serialize};

use super::peer::TestPeer;

/// The directory.
pub const DIRECTORY: StreamProtocol = StreamProtocol::new("/dusk/directory/1.0.0");

/// Credentials for TURN.
pub const TURN_CREDENTIALS: StreamProtocol = StreamProtocol::new("/dusk/turn-credentials/1.0.0");

/// What the directory is asked, as the client has it.
#[derive(Serialize)]
pub enum Ask<'a> {
    Register { display_name: &'a str, relay_addr: &'a str },
    Search { query: &'a str },
    Remove,
}

/// What it answers.
#[derive(Debug, PartialEq, Eq, Deserialize)]
pub enum Answer {
    Ok,
    Results(Vec<Found>),
    Error(String),
}

/// Somebody who was found.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Found {
    pub peer_id: String,
    pub display_name: String,
    pub last_seen: u64,
    pub relay_addr: String,
}

#[derive(Serialize)]
struct CredentialsRequest<'a> {
    peer_id: &'a str,
}

/// What opens a TURN server.
#[derive(Debug, Deserialize)]
pub struct Credentials {
    pub username: String,
    pub password: String,
    pub ttl: u64,
    pub uris: Vec<String>,
}

impl TestPeer {
    /// Asks the directory of the relay of that id, which it is connected with.
    pub async fn directory(&self, at: PeerId, ask: &Ask<'_>) -> Answer {
        let answer = self.say(at, DIRECTORY, &bytes(ask)).await;
        ciborium::from_reader(&answer[..]).unwrap_or_else(|error| panic!("{answer:x?}: {error}"))
    }

    /// Is to be found there by that name.
    pub async fn is_called(&self, at: PeerId, display_name: &str) -> Answer {
        self.directory(at, &Ask::Register { display_name, relay_addr: "" }).await
    }

    /// Who is found there by that text.
    pub async fn search(&self, at: PeerId, query: &str) -> Vec<Found> {
        match self.directory(at, &Ask::Search { query }).await {
            Answer::Results(found) => found,
            other => panic!("{other:?}"),
        }
    }

    /// The names of those who are found there by that text.
    pub async fn names(&self, at: PeerId, query: &str) -> Vec<String> {
        self.search(at, query).await.into_iter().map(|found| found.display_name).collect()
    }

    /// Asks for credentials in the name of `peer_id`; `None`: there was no answer.
    pub async fn turn_credentials(&self, at: PeerId, peer_id: &str) -> Option<Credentials> {
        let answer = self.say(at, TURN_CREDENTIALS, &bytes(&CredentialsRequest { peer_id })).await;
        ciborium::from_reader(&answer[..]).ok()
    }
}

fn bytes(item: &impl Serialize) -> Vec<u8> {
    let mut bytes = Vec::new();
    ciborium::into_writer(item, &mut bytes).unwrap();
    bytes
}
