//! What the two ends of a session tell each other, whether they are on one node or on two.

use std::borrow::Cow;

use bytes::Bytes;
use tokio_tungstenite::tungstenite::Utf8Bytes;

use crate::cluster::proto::{self, frame::Body, session_verdict};
use crate::domain::ids::VaultId;
use crate::vault::frames;
use crate::wire::dcp::session::SessionId;

/// An end of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The end at the vault's socket.
    Vault,
    /// The end at the agent's socket.
    Agent,
}

/// What became of a pair at the vault's node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The vault accepted.
    Accepted,
    /// The vault refused, with a reason of its own or without.
    Refused(Option<String>),
    /// The vault is not at that node.
    NotHere,
    /// The vault has as many sessions as it may.
    Full,
}

/// One word between the ends of a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Word {
    /// To the vault's node: an agent wants to pair.
    Open {
        /// The session that it is to be.
        session: SessionId,
        /// With whom.
        vault: VaultId,
        /// What the vault judges it by.
        token: String,
    },
    /// To the agent's end: what became of that.
    Verdict {
        /// The session.
        session: SessionId,
        /// What became of it.
        outcome: Outcome,
    },
    /// A message.
    Data {
        /// Its session.
        session: SessionId,
        /// To which end.
        to: Side,
        /// Its number in this direction, from 1.
        seq: u64,
        /// The text for the client.
        frame: Utf8Bytes,
    },
    /// The session is over.
    Close {
        /// The session.
        session: SessionId,
        /// To which end.
        to: Side,
        /// Why.
        reason: Cow<'static, str>,
    },
    /// The link was renewed: this is how the sender's end stands.
    Sync {
        /// The session.
        session: SessionId,
        /// To which end.
        to: Side,
        /// How many messages the sender's end has sent.
        sent: u64,
        /// Whether the sender's end knows of the vault's consent.
        open: bool,
    },
}

impl Side {
    fn is_agent(self) -> bool {
        self == Self::Agent
    }

    fn agent_if(to_agent: bool) -> Self {
        if to_agent { Self::Agent } else { Self::Vault }
    }
}

impl From<Word> for Body {
    fn from(word: Word) -> Self {
        let id = |session: SessionId| Bytes::copy_from_slice(&session.0);
        match word {
            Word::Open { session, vault, token } => {
                Self::SessionOpen(proto::SessionOpen { session_id: id(session), vault_id: vault.to_string(), token })
            }
            Word::Verdict { session, outcome } => {
                let (outcome, reason) = outcome_to(outcome);
                let outcome = outcome.into();
                Self::SessionVerdict(proto::SessionVerdict { session_id: id(session), outcome, reason })
            }
            Word::Data { session, to, seq, frame } => Self::SessionData(proto::SessionData {
                session_id: id(session),
                frame: frame.into(),
                to_agent: to.is_agent(),
                seq,
            }),
            Word::Close { session, to, reason } => Self::SessionClose(proto::SessionClose {
                session_id: id(session),
                reason: reason.into_owned(),
                to_agent: to.is_agent(),
            }),
            Word::Sync { session, to, sent, open } => {
                Self::SessionSync(proto::SessionSync { session_id: id(session), to_agent: to.is_agent(), sent, open })
            }
        }
    }
}

impl Word {
    /// Reads a frame of another node; nothing if it is none of session mode's, or malformed.
    #[must_use]
    pub fn read(body: Body) -> Option<Self> {
        let id = |bytes: Bytes| Some(SessionId(bytes.as_ref().try_into().ok()?));
        Some(match body {
            Body::SessionOpen(open) => {
                Self::Open { session: id(open.session_id)?, vault: open.vault_id.as_str().into(), token: open.token }
            }
            Body::SessionVerdict(verdict) => {
                let outcome = outcome_from(verdict.outcome(), verdict.reason)?;
                Self::Verdict { session: id(verdict.session_id)?, outcome }
            }
            Body::SessionData(data) => Self::Data {
                session: id(data.session_id)?,
                to: Side::agent_if(data.to_agent),
                seq: data.seq,
                frame: frames::text(data.frame)?,
            },
            Body::SessionClose(close) => Self::Close {
                session: id(close.session_id)?,
                to: Side::agent_if(close.to_agent),
                reason: close.reason.into(),
            },
            Body::SessionSync(sync) => Self::Sync {
                session: id(sync.session_id)?,
                to: Side::agent_if(sync.to_agent),
                sent: sync.sent,
                open: sync.open,
            },
            _ => return None,
        })
    }
}

fn outcome_to(outcome: Outcome) -> (session_verdict::Outcome, String) {
    use session_verdict::Outcome as Wire;
    match outcome {
        Outcome::Accepted => (Wire::Accepted, String::new()),
        Outcome::Refused(reason) => (Wire::Refused, reason.unwrap_or_default()),
        Outcome::NotHere => (Wire::NotHere, String::new()),
        Outcome::Full => (Wire::Full, String::new()),
    }
}

fn outcome_from(outcome: session_verdict::Outcome, reason: String) -> Option<Outcome> {
    use session_verdict::Outcome as Wire;
    Some(match outcome {
        Wire::Accepted => Outcome::Accepted,
        Wire::Refused => Outcome::Refused((!reason.is_empty()).then_some(reason)),
        Wire::NotHere => Outcome::NotHere,
        Wire::Full => Outcome::Full,
        Wire::Unspecified => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_survives_the_wire() {
        let session = SessionId([7; 16]);
        let words = [
            Word::Open { session, vault: "v".into(), token: "t".into() },
            Word::Verdict { session, outcome: Outcome::Accepted },
            Word::Verdict { session, outcome: Outcome::Refused(None) },
            Word::Verdict { session, outcome: Outcome::Refused(Some("no".into())) },
            Word::Verdict { session, outcome: Outcome::NotHere },
            Word::Verdict { session, outcome: Outcome::Full },
            Word::Data { session, to: Side::Agent, seq: 3, frame: "{}".into() },
            Word::Close { session, to: Side::Vault, reason: "over".into() },
            Word::Sync { session, to: Side::Agent, sent: 9, open: true },
        ];
        for word in words {
            assert_eq!(Word::read(word.clone().into()), Some(word));
        }
    }

    #[test]
    fn what_is_malformed_is_no_word() {
        let short = proto::SessionClose { session_id: vec![1; 15].into(), ..Default::default() };
        assert_eq!(Word::read(Body::SessionClose(short)), None);
        let mute = proto::SessionVerdict { session_id: vec![1; 16].into(), ..Default::default() };
        assert_eq!(Word::read(Body::SessionVerdict(mute)), None);
        assert_eq!(Word::read(Body::Notify(proto::Notify::default())), None);
    }
}
