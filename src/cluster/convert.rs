//! Between the wire's words and the domain's.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

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

/// An address as its bytes: 4 or 16.
#[must_use]
pub fn address(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    }
}

/// An address from its bytes.
#[must_use]
pub fn address_from(bytes: &[u8]) -> Option<IpAddr> {
    if let Ok(v4) = <[u8; 4]>::try_from(bytes) {
        return Some(Ipv4Addr::from(v4).into());
    }
    <[u8; 16]>::try_from(bytes).ok().map(|v6| Ipv6Addr::from(v6).into())
}
