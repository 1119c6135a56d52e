//! Settings of this node among others.

use std::net::SocketAddr;

use crate::domain::ids::{ClusterId, NodeId, Region};

use super::error::ConfigError;
use super::parse;
use super::secret::Secret;
use super::table;
use super::values::Values;

/// Settings of this node among others. Without a secret both addresses are loopback ones.
#[derive(Debug, Clone)]
pub struct ClusterConfig {
    /// This node's name; `None`: one is made once and kept in the data folder.
    pub node_id: Option<NodeId>,
    /// The cluster that this node joins.
    pub cluster_id: ClusterId,
    /// Gossip addresses of nodes to join, `host:port` each; none: this node starts a cluster.
    pub seeds: Vec<String>,
    /// What the nodes of the cluster prove themselves with.
    pub secret: Option<Secret>,
    /// Where the cluster is.
    pub region: Region,
    /// Where other nodes connect; port 0 picks a free one.
    pub grpc: SocketAddr,
    /// Where other nodes gossip, over UDP; port 0 picks a free one.
    pub gossip: SocketAddr,
    /// The host by which other nodes reach this one; always there when an address above is unspecified.
    pub advertise_host: Option<String>,
}

impl ClusterConfig {
    pub(super) fn read(values: &Values, secret: Option<Secret>) -> Result<Self, ConfigError> {
        Ok(Self {
            node_id: values.optional(&table::NODE_ID, parse::name)?,
            cluster_id: values.required(&table::CLUSTER_ID, parse::name)?,
            seeds: values.optional(&table::CLUSTER_SEEDS, parse::seeds)?.unwrap_or_default(),
            secret,
            region: values.required(&table::REGION, parse::name)?,
            grpc: values.address(&table::GRPC_ADDR)?,
            gossip: values.address(&table::GOSSIP_ADDR)?,
            advertise_host: values.optional(&table::ADVERTISE_HOST, parse::host)?,
        })
    }
}
