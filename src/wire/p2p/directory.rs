//! Messages of `/dusk/directory/1.0.0`: one item of CBOR each way, in the form of serde's enums.

use serde::{Deserialize, Serialize};

use super::cbor::{self, NotRead};

/// Largest request: a name with all the space around it that somebody may leave, and an address.
pub const MAX_REQUEST_BYTES: usize = 8 << 10;

/// Longest name, in characters.
pub const MAX_NAME_CHARS: usize = 64;

/// What a peer asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// To be found by that name.
    Register {
        /// As it came.
        display_name: String,
        /// Where the peer says that it is reached; empty, if it does not say.
        relay_addr: String,
    },
    /// Who is found by that text.
    Search {
        /// As it came.
        query: String,
    },
    /// Not to be found any more.
    Remove,
}

impl Request {
    /// Reads what a peer asks. What else a message has is passed over.
    ///
    /// # Errors
    /// [`NotRead`]: it is none of these.
    pub fn read(message: &[u8]) -> Result<Self, NotRead> {
        match cbor::read(message)? {
            Shape::Bare(Word::Remove) => Ok(Self::Remove),
            Shape::With(Variants { register: Some(register), search: None }) => {
                Ok(Self::Register { display_name: register.display_name, relay_addr: register.relay_addr })
            }
            Shape::With(Variants { register: None, search: Some(search) }) => Ok(Self::Search { query: search.query }),
            Shape::With(_) => Err(NotRead),
        }
    }
}

/// Not an enum of serde by itself: that reads no maps of indefinite length.
#[derive(Deserialize)]
#[serde(untagged)]
enum Shape {
    Bare(Word),
    With(Variants),
}

#[derive(Deserialize)]
enum Word {
    Remove,
}

#[derive(Deserialize)]
struct Variants {
    #[serde(rename = "Register")]
    register: Option<Register>,
    #[serde(rename = "Search")]
    search: Option<Search>,
}

#[derive(Deserialize)]
struct Register {
    display_name: String,
    #[serde(default)]
    relay_addr: String,
}

#[derive(Deserialize)]
struct Search {
    query: String,
}

/// What a peer is told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub enum Response {
    /// It is done.
    Ok,
    /// Who was found.
    Results(Vec<Found>),
    /// Why it is not done, for a person.
    Error(String),
}

impl Response {
    /// In bytes.
    #[must_use]
    pub fn write(&self) -> Vec<u8> {
        cbor::write(self)
    }
}

/// Somebody who was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Found {
    /// The peer, as text in base 58.
    pub peer_id: String,
    /// Its name.
    pub display_name: String,
    /// When it last said so, in seconds since 1970.
    pub last_seen: u64,
    /// The circuit by which it is reached; empty, if none is known.
    pub relay_addr: String,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn bytes(hex: &str) -> Vec<u8> {
        hex::decode(hex.replace(' ', "")).unwrap()
    }

    #[test]
    fn requests_have_the_bytes_of_the_sheet() {
        let ann = "a1 68 5265676973746572 a2 6c 646973706c61795f6e616d65 63 416e6e 6a 72656c61795f61646472 62 2f78";
        let register =
            |relay_addr: &str| Request::Register { display_name: "Ann".into(), relay_addr: relay_addr.into() };
        assert_eq!(Request::read(&bytes(ann)), Ok(register("/x")));
        let older = "a1 68 5265676973746572 a1 6c 646973706c61795f6e616d65 63 416e6e";
        assert_eq!(Request::read(&bytes(older)), Ok(register("")));
        let search = Request::Search { query: "an".into() };
        assert_eq!(Request::read(&bytes("a1 66 536561726368 a1 65 7175657279 62 616e")), Ok(search.clone()));
        assert_eq!(Request::read(&bytes("66 52656d6f7665")), Ok(Request::Remove));
        let indefinite = "bf 66 536561726368 bf 65 7175657279 7f 61 61 61 6e ff ff ff";
        assert_eq!(Request::read(&bytes(indefinite)), Ok(search.clone()), "of indefinite lengths");
        let more = "a2 66 536561726368 a2 65 7175657279 62 616e 61 78 01 61 79 80";
        assert_eq!(Request::read(&bytes(more)), Ok(search), "with more than is known");
    }

    #[test]
    fn answers_have_the_bytes_of_the_sheet() {
        assert_eq!(Response::Ok.write(), bytes("62 4f6b"));
        assert_eq!(Response::Results(Vec::new()).write(), bytes("a1 67 526573756c7473 80"));
        assert_eq!(Response::Error("no".into()).write(), bytes("a1 65 4572726f72 62 6e6f"));
        let found = Found {
            peer_id: "12D3".into(),
            display_name: "Ann".into(),
            last_seen: 1_800_000_000,
            relay_addr: String::new(),
        };
        let entry = "a4 67 706565725f6964 64 31324433 6c 646973706c61795f6e616d65 63 416e6e \
                     69 6c6173745f7365656e 1a 6b49d200 6a 72656c61795f61646472 60";
        assert_eq!(Response::Results(vec![found]).write(), bytes(&format!("a1 67 526573756c7473 81 {entry}")));
    }

    #[test]
    fn what_is_no_request_is_refused() {
        for bad in [
            "",
            "62 4f6b",
            "66 52656d6f7665 00",
            "a0",
            "a1 66 536561726368 a0",
            "a1 66 536561726368 a1 65 7175657279 01",
            "a1 68 5265676973746572 a1 6a 72656c61795f61646472 62 2f78",
            "a2 66 536561726368 a1 65 7175657279 60 68 5265676973746572 a1 6c 646973706c61795f6e616d65 60",
            "a2 66 536561726368 a1 65 7175657279 60 66 536561726368 a1 65 7175657279 60",
            "a1 66 536561726368 a1 65 7175657279 62 ffff",
        ] {
            assert_eq!(Request::read(&bytes(bad)), Err(NotRead), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn arbitrary_messages_are_read_or_refused(message: Vec<u8>) {
            let _any = Request::read(&message);
        }
    }
}
