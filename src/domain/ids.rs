//! Names of the things that can be addressed, one type each, so that none is taken for another.

use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// Longest name of a node, cluster or region, in bytes.
pub const MAX_NAME_BYTES: usize = 64;

/// Why a text is no name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be 1 to 64 characters from A-Z, a-z, 0-9, '.', '_' and '-'")]
pub struct NotAName;

macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(Arc<str>);

        impl $name {
            /// The text itself.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&*self.0, f)
            }
        }
    };
}

macro_rules! operator_name {
    ($(#[$doc:meta])* $name:ident) => {
        text_id! { $(#[$doc])* $name }

        impl FromStr for $name {
            type Err = NotAName;

            fn from_str(text: &str) -> Result<Self, NotAName> {
                let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
                if text.is_empty() || text.len() > MAX_NAME_BYTES || !text.bytes().all(plain) {
                    return Err(NotAName);
                }
                Ok(Self(text.into()))
            }
        }
    };
}

macro_rules! client_text {
    ($(#[$doc:meta])* $name:ident) => {
        text_id! { $(#[$doc])* $name }

        impl From<&str> for $name {
            fn from(text: &str) -> Self {
                Self(text.into())
            }
        }
    };
}

operator_name! {
    /// One process of a cluster. Unique in its cluster; chosen by the operator or made at first start.
    NodeId
}
operator_name! {
    /// The nodes that gossip with one another.
    ClusterId
}
operator_name! {
    /// Where a cluster is, in its operator's words.
    Region
}
client_text! {
    /// The name that a vault registers under and agents address: any text its client chose.
    VaultId
}
client_text! {
    /// The name of one request, chosen by the agent; unique only together with who sent it.
    RequestId
}

/// What a [`NodeId`] begins with that is no node's: no operator can give such a name, and none is read from the wire.
const AFAR: char = '@';

impl NodeId {
    /// A name under which the rules of this cluster's nodes know an end of a link to another cluster.
    #[must_use]
    pub fn afar(end: &str) -> Self {
        Self(format!("{AFAR}{end}").into())
    }
}

/// Which run of a node: start time in milliseconds since 1970, so that a later run has the larger number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Generation(pub u64);

/// One run of one node. What a node said of its sessions is void once another run of it is known.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeRun {
    /// The node.
    pub node: NodeId,
    /// Its run.
    pub generation: Generation,
}

impl NodeRun {
    /// Whether this is no node of this cluster, but an end of a link to another one.
    #[must_use]
    pub fn is_afar(&self) -> bool {
        self.node.0.starts_with(AFAR)
    }
}

impl fmt::Display for NodeRun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.node, self.generation.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_short_plain_and_not_empty() {
        assert_eq!("relay-1.eu_west".parse::<NodeId>().map(|n| n.to_string()), Ok("relay-1.eu_west".into()));
        for bad in ["", "two words", "a/b", "ü", &"x".repeat(65)] {
            assert_eq!(bad.parse::<NodeId>(), Err(NotAName), "{bad:?}");
        }
    }

    #[test]
    fn an_end_of_a_link_to_another_cluster_has_no_nodes_name() {
        let run = |node| NodeRun { node, generation: Generation(0) };
        let (afar, near) = (NodeId::afar("x"), "x".parse::<NodeId>().unwrap());
        assert_eq!(afar.as_str().parse::<NodeId>(), Err(NotAName));
        assert!(run(afar).is_afar() && !run(near).is_afar());
    }
}
