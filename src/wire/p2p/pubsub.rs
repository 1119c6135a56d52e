//! Messages of gossipsub (specs/pubsub, "The RPC" and "The Message"). Framed by [`super::delimited`].
//!
//! What a message says is read once and written again in the one form that its signature covers, so nothing that was not
//! signed is passed on, but the key, which has to be that of the message's source. Control messages are passed over: a
//! relay that hands every message on at once needs none of them.

use bytes::{BufMut, Bytes, BytesMut};
use prost::Message;
use prost::encoding::{encode_varint, encoded_len_varint};

/// Largest RPC that stock peers read: none larger is written.
pub const MAX_RPC_BYTES: usize = 65_536;

/// Largest RPC that is read: stock peers bound the data in what they write, and not what stands around it.
pub const MAX_READ_BYTES: usize = MAX_RPC_BYTES + 1024;

/// What stands before a message whose signature is made (specs/pubsub, "Message Signing").
const SIGNED_FOR: &[u8] = b"libp2p-pubsub:";

/// What stands before a message in an RPC: field 2, length-delimited.
const PUBLISH_KEY: u8 = 2 << 3 | 2;

/// These bytes are no RPC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("this is no RPC of gossipsub")]
pub struct NoRpc;

/// What a peer tells.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Told {
    /// What it wants to hear of, and does not any more, in its order.
    pub subscriptions: Vec<Subscription>,
    /// What is published, each as [`read_message`] reads it.
    pub messages: Vec<Bytes>,
}

/// Whether a peer wants to hear of a topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subscription {
    /// Whether it does.
    pub wanted: bool,
    /// The topic.
    pub topic: String,
}

/// Why a message is none that may be passed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoMessage {
    /// It cannot be read.
    #[error("it cannot be read")]
    Malformed,
    /// It does not say whose it is.
    #[error("it does not say whose it is")]
    Source,
    /// It has no number of eight bytes.
    #[error("it has no number of eight bytes")]
    Number,
    /// It has no topic, or several.
    #[error("it has no topic, or several")]
    Topic,
    /// It is not signed.
    #[error("it is not signed")]
    Unsigned,
    /// Peers could not read what it is passed on in.
    #[error("it is larger than peers read")]
    TooLarge,
}

impl NoMessage {
    /// One word for figures.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::Source => "source",
            Self::Number => "number",
            Self::Topic => "topic",
            Self::Unsigned => "unsigned",
            Self::TooLarge => "too_large",
        }
    }
}

/// A message that has all that a signed one must have. Whether the signature is good is for others to say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Published {
    /// The id of the peer that says it.
    pub source: Bytes,
    /// Its number among those of that peer.
    pub number: [u8; 8],
    /// What it is about.
    pub topic: String,
    /// The signature of [`Published::signed_bytes`].
    pub signature: Bytes,
    /// The key of its source, if its id does not say it: a `PublicKey` message of libp2p.
    pub key: Option<Bytes>,
    /// The message without signature and key, written.
    content: Bytes,
}

/// Reads what a peer tells. Takes no more memory than some tens of times the bytes, and no time but for those.
///
/// # Errors
/// [`NoRpc`].
pub fn read(rpc: Bytes) -> Result<Told, NoRpc> {
    let rpc = Rpc::decode(rpc).map_err(|_| NoRpc)?;
    let named = |subscription: SubOpts| {
        Some(Subscription { wanted: subscription.subscribe.unwrap_or_default(), topic: subscription.topic? })
    };
    Ok(Told { subscriptions: rpc.subscriptions.into_iter().filter_map(named).collect(), messages: rpc.publish })
}

/// Reads a message.
///
/// # Errors
/// [`NoMessage`].
pub fn read_message(bytes: Bytes) -> Result<Published, NoMessage> {
    let message = PubsubMessage::decode(bytes).map_err(|_| NoMessage::Malformed)?;
    let source = message.from.clone().filter(|source| !source.is_empty()).ok_or(NoMessage::Source)?;
    let number = message.seqno.as_deref().and_then(|number| number.try_into().ok()).ok_or(NoMessage::Number)?;
    let [topic] = &message.topic[..] else { return Err(NoMessage::Topic) };
    let topic = topic.clone();
    let signature = message.signature.clone().filter(|signature| !signature.is_empty()).ok_or(NoMessage::Unsigned)?;
    let key = message.key.clone().filter(|key| !key.is_empty());
    let content = PubsubMessage { signature: None, key: None, ..message }.encode_to_vec().into();
    let message = Published { source, number, topic, signature, key, content };
    if message.rpc_bytes() > MAX_RPC_BYTES { Err(NoMessage::TooLarge) } else { Ok(message) }
}

impl Published {
    /// What its signature covers.
    #[must_use]
    pub fn signed_bytes(&self) -> Vec<u8> {
        [SIGNED_FOR, &self.content].concat()
    }

    /// The message in bytes.
    #[must_use]
    pub fn to_bytes(&self) -> Bytes {
        let mut bytes = BytesMut::with_capacity(self.message_bytes());
        self.write(&mut bytes);
        bytes.freeze()
    }

    /// An RPC that publishes it, with its length before it.
    #[must_use]
    pub fn framed(&self) -> Bytes {
        let (message, rpc) = (self.message_bytes(), self.rpc_bytes());
        let mut framed = BytesMut::with_capacity(encoded_len_varint(rpc as u64) + rpc);
        encode_varint(rpc as u64, &mut framed);
        framed.put_u8(PUBLISH_KEY);
        encode_varint(message as u64, &mut framed);
        self.write(&mut framed);
        framed.freeze()
    }

    fn write(&self, to: &mut BytesMut) {
        to.put_slice(&self.content);
        let proof = self.proof();
        let encoded = proof.encode(to);
        debug_assert!(encoded.is_ok(), "a growing buffer has room");
    }

    fn proof(&self) -> Proof {
        Proof { signature: Some(self.signature.clone()), key: self.key.clone() }
    }

    fn message_bytes(&self) -> usize {
        self.content.len() + self.proof().encoded_len()
    }

    fn rpc_bytes(&self) -> usize {
        let message = self.message_bytes();
        1 + encoded_len_varint(message as u64) + message
    }
}

/// An RPC that says what this peer wants to hear of, with its length before it.
#[must_use]
pub fn subscribing<'a>(topics: impl IntoIterator<Item = &'a str>) -> Vec<u8> {
    let wanted = |topic: &str| SubOpts { subscribe: Some(true), topic: Some(topic.to_owned()) };
    let rpc = Rpc { subscriptions: topics.into_iter().map(wanted).collect(), publish: Vec::new() };
    super::delimited::framed(&rpc)
}

#[derive(Clone, PartialEq, Message)]
struct Rpc {
    #[prost(message, repeated, tag = "1")]
    subscriptions: Vec<SubOpts>,
    #[prost(bytes = "bytes", repeated, tag = "2")]
    publish: Vec<Bytes>,
}

#[derive(Clone, PartialEq, Message)]
struct SubOpts {
    #[prost(bool, optional, tag = "1")]
    subscribe: Option<bool>,
    #[prost(string, optional, tag = "2")]
    topic: Option<String>,
}

#[derive(Clone, PartialEq, Message)]
struct PubsubMessage {
    #[prost(bytes = "bytes", optional, tag = "1")]
    from: Option<Bytes>,
    #[prost(bytes = "bytes", optional, tag = "2")]
    data: Option<Bytes>,
    #[prost(bytes = "bytes", optional, tag = "3")]
    seqno: Option<Bytes>,
    #[prost(string, repeated, tag = "4")]
    topic: Vec<String>,
    #[prost(bytes = "bytes", optional, tag = "5")]
    signature: Option<Bytes>,
    #[prost(bytes = "bytes", optional, tag = "6")]
    key: Option<Bytes>,
}

/// The part of a message that its signature does not cover.
#[derive(Clone, PartialEq, Message)]
struct Proof {
    #[prost(bytes = "bytes", optional, tag = "5")]
    signature: Option<Bytes>,
    #[prost(bytes = "bytes", optional, tag = "6")]
    key: Option<Bytes>,
}

#[cfg(test)]
mod tests;
