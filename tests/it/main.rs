//! Behaviour of the whole: its shape, its documentation, what clients see of it, and what leaves the process.

// Clippy lets tests unwrap, but not their helpers.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod admin_access;
mod admin_backup;
mod admin_calls;
mod admin_cli;
mod admin_drain;
mod admin_evacuate;
mod admin_peers;
mod cluster_cuts;
mod cluster_drain;
mod cluster_keys;
mod cluster_moves;
mod cluster_presence;
mod cluster_rolling;
mod cluster_routing;
mod cluster_strangers;
mod dcp_abuse;
mod dcp_agent;
mod dcp_http;
mod dcp_http_vault;
mod dcp_limits;
mod dcp_pairing;
mod dcp_vault;
mod federation_drain;
mod federation_failover;
mod federation_hostile;
mod federation_links;
mod federation_mailbox;
mod federation_offload;
mod federation_offload_breaks;
mod federation_offload_peers;
mod federation_pulls;
mod federation_rolling;
mod federation_tls;
mod federation_vault;
mod figures;
mod layers;
mod mailbox_claims;
mod mailbox_cluster;
mod mailbox_limits;
mod mailbox_messages;
mod mailbox_noise;
mod mailbox_returns;
mod mailbox_sessions;
mod mailbox_torture;
mod operator;
mod protos;
mod push_tls;
mod session_mode;
mod settings_table;
#[path = "../support/mod.rs"]
mod support;
mod traces;
