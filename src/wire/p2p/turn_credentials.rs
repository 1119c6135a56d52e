//! Messages of `/dusk/turn-credentials/1.0.0`: one item of CBOR each way.

use serde::{Deserialize, Serialize};

use super::cbor::{self, NotRead};

/// Largest request: a peer id, and what says so.
pub const MAX_REQUEST_BYTES: usize = 1 << 10;

/// A peer asks for credentials.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Request {
    /// Whose it says that they are to be: nobody's word for it.
    pub peer_id: String,
}

impl Request {
    /// Reads what a peer asks. What else a message has is passed over.
    ///
    /// # Errors
    /// [`NotRead`].
    pub fn read(message: &[u8]) -> Result<Self, NotRead> {
        cbor::read(message)
    }
}

/// What opens a TURN server.
#[derive(Clone, PartialEq, Eq, Serialize)]
pub struct Response {
    /// When it ends in seconds since 1970, a colon, and the peer.
    pub username: String,
    /// What goes with it.
    pub password: String,
    /// For how many seconds it holds.
    pub ttl: u64,
    /// Where the server is.
    pub uris: Vec<String>,
}

impl Response {
    /// In bytes.
    #[must_use]
    pub fn write(&self) -> Vec<u8> {
        cbor::write(self)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn bytes(hex: &str) -> Vec<u8> {
        hex::decode(hex.replace(' ', "")).unwrap()
    }

    #[test]
    fn messages_have_the_shapes_of_the_sheet() {
        let asked = Ok(Request { peer_id: "x".into() });
        assert_eq!(Request::read(&bytes("a1 67 706565725f6964 61 78")), asked);
        assert_eq!(Request::read(&bytes("bf 67 706565725f6964 61 78 ff")), asked, "of indefinite length");
        for bad in ["", "a0", "a1 67 706565725f6964 01", "61 78", "81 61 78", "a1 67 706565725f6964 61 78 00"] {
            assert_eq!(Request::read(&bytes(bad)), Err(NotRead), "{bad}");
        }
        let response =
            Response { username: "u".into(), password: "p".into(), ttl: 86_400, uris: vec!["turn:h:1".into()] };
        let expected = "a4 68 757365726e616d65 61 75 68 70617373776f7264 61 70 63 74746c 1a 00015180 \
                        64 75726973 81 68 7475726e3a683a31";
        assert_eq!(response.write(), bytes(expected));
    }

    proptest! {
        #[test]
        fn arbitrary_messages_are_read_or_refused(message: Vec<u8>) {
            let _any = Request::read(&message);
        }
    }
}
