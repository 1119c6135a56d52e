//! Who speaks, on a path that does not tell: decided by the first frame.

use tokio_tungstenite::tungstenite::Utf8Bytes;

use crate::runtime::time;
use crate::wire::dcp::frame::Frame;
use crate::wire::dcp::session;

/// What the first frame of a connection says of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Role {
    /// A vault, which registers.
    Vault,
    /// An agent, which pairs or asks.
    Agent,
    /// Neither yet: this is the answer.
    Unsaid(Utf8Bytes),
}

impl Role {
    /// Reads a first message.
    #[must_use]
    pub fn of(message: &[u8]) -> Self {
        let kind = Frame::parse(message).map(|frame| frame.kind);
        match kind.as_deref() {
            Some("register") => Self::Vault,
            Some("pair" | "request") => Self::Agent,
            Some("heartbeat" | "ping") => Self::Unsaid(session::heartbeat(time::now())),
            Some(_) => Self::Unsaid(refusal("Say register (a vault) or pair (an agent) first")),
            None => Self::Unsaid(refusal("Invalid message format")),
        }
    }
}

fn refusal(message: &str) -> Utf8Bytes {
    session::error("RELAY_INVALID_ENVELOPE", message, None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_frame_tells_vaults_from_agents() {
        assert_eq!(Role::of(br#"{"type":"register","vault_id":"v"}"#), Role::Vault);
        assert_eq!(Role::of(br#"{"type":"pair","vault_id":"v","token":"t"}"#), Role::Agent);
        assert_eq!(Role::of(br#"{"type":"request","payload":{}}"#), Role::Agent);
        for other in [r#"{"type":"ping"}"#, r#"{"type":"message"}"#, "[]", ""] {
            assert!(matches!(Role::of(other.as_bytes()), Role::Unsaid(_)), "{other}");
        }
    }
}
