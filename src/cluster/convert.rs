//! Between the wire's words and the domain's.

use std::net::{IpAddr, Ipv6Addr};

use crate::cluster::proto;
use crate::domain::clock::Epoch;
use crate::domain::ids::{Generation, NodeRun};
use crate::domain::principal::{Kind, Principal, Standing};

/// A principal for the wire.
#[must_use]
pub fn principal(principal: &Principal) -> proto::Principal {
    let kind = match principal.kind {
        Kind::Vault => proto::Kind::Vault,
        Kind::Session => proto::Kind::Session,
        Kind::Mailbox => proto::Kind::Mailbox,
        Kind::Peer => proto::Kind::Peer,
    };
    proto::Principal { kind: kind.into(), name: principal.name.to_string() }
}

/// A principal from the wire; nothing if it is of a kind that this version does not know.
#[must_use]
pub fn principal_from(wire: Option<&proto::Principal>) -> Option<Principal> {
    let wire = wire?;
    let kind = match wire.kind() {
        proto::Kind::Vault => Kind::Vault,
        proto::Kind::Session => Kind::Session,
        proto::Kind::Mailbox => Kind::Mailbox,
        proto::Kind::Peer => Kind::Peer,
        proto::Kind::Unspecified => return None,
    };
    Some(Principal { kind, name: wire.name.as_str().into() })
}

/// A standing for the wire.
#[must_use]
pub fn standing(standing: Standing) -> proto::Standing {
    match standing {
        Standing::Waiting => proto::Standing::Waiting,
        Standing::Polling => proto::Standing::Polling,
        Standing::Live => proto::Standing::Live,
    }
}

/// A standing from the wire.
#[must_use]
pub fn standing_from(wire: proto::Standing) -> Option<Standing> {
    match wire {
        proto::Standing::Unspecified => None,
        proto::Standing::Waiting => Some(Standing::Waiting),
        proto::Standing::Polling => Some(Standing::Polling),
        proto::Standing::Live => Some(Standing::Live),
    }
}

/// The answer that `run` holds a principal.
#[must_use]
pub fn located(run: &NodeRun, epoch: Epoch, firm: Standing) -> proto::Located {
    proto::Located {
        node_id: run.node.to_string(),
        generation: run.generation.0,
        epoch: epoch.0,
        standing: standing(firm).into(),
        lost_wait_ms: 0,
    }
}

/// Who holds a principal, if the answer names anybody.
#[must_use]
pub fn holder(located: &proto::Located) -> Option<(NodeRun, Epoch, Standing)> {
    let run = node_run(&located.node_id, located.generation)?;
    Some((run, Epoch(located.epoch), standing_from(located.standing())?))
}

/// A run from its two parts; nothing if the node id is empty or no name.
#[must_use]
pub fn node_run(node_id: &str, generation: u64) -> Option<NodeRun> {
    Some(NodeRun { node: node_id.parse().ok()?, generation: Generation(generation) })
}

/// 16 bytes for the wire.
#[must_use]
pub fn bits(bytes: [u8; 16]) -> proto::Bits {
    let bits = u128::from_be_bytes(bytes);
    proto::Bits { high: (bits >> 64) as u64, low: bits as u64 }
}

/// 16 bytes from the wire.
#[must_use]
pub fn bits_from(wire: &proto::Bits) -> [u8; 16] {
    (u128::from(wire.high) << 64 | u128::from(wire.low)).to_be_bytes()
}

/// An address for the wire.
#[must_use]
pub fn address(address: IpAddr) -> proto::Bits {
    match address {
        IpAddr::V4(v4) => bits(v4.to_ipv6_mapped().octets()),
        IpAddr::V6(v6) => bits(v6.octets()),
    }
}

/// An address from the wire.
#[must_use]
pub fn address_from(wire: &proto::Bits) -> IpAddr {
    IpAddr::V6(Ipv6Addr::from(bits_from(wire))).to_canonical()
}
