//! `waystation admin`: the client of a node's port for operators.

mod args;
mod connect;
mod lists;
mod peers;
mod print;
mod streams;

use anyhow::Context;
use serde::Serialize;
use serde_json::json;
use tonic::Status;

pub use args::AdminArgs;

use self::args::{Call, PurgeArgs};
use self::connect::Client;
use self::print::{Table, bytes, duration};
use crate::edge::admin::names::word;
use crate::edge::admin::proto::purge_mailbox_request::Mailbox;
use crate::edge::admin::proto::{
    ClusterStatusRequest, DisconnectSessionRequest, DrainRequest, GetLogFilterRequest, NodeStatusRequest,
    NodeStatusResponse, OffloadNowRequest, PurgeMailboxRequest, SetLogFilterRequest, UndrainRequest,
};

/// Does what is asked for, and prints what comes of it.
///
/// # Errors
/// When the node cannot be reached or refuses; when a backup is damaged.
pub async fn run(arguments: AdminArgs) -> anyhow::Result<()> {
    let client = connect::connect(&arguments.target).await?;
    let out = Out { client, json: arguments.json };
    out.run(arguments.call).await.map_err(explained)
}

/// What a node says in refusal, without the machinery around it.
fn explained(error: anyhow::Error) -> anyhow::Error {
    match error.downcast_ref::<Status>() {
        Some(status) => anyhow::anyhow!("{}: {}", word(&format!("{:?}", status.code()), ""), status.message()),
        None => error,
    }
}

/// A node, and how to print what it says.
struct Out {
    client: Client,
    json: bool,
}

impl Out {
    async fn run(mut self, call: Call) -> anyhow::Result<()> {
        match call {
            Call::Status => self.status().await,
            Call::Members { watch: false } => self.members().await,
            Call::Members { watch: true } => self.watch_members().await,
            Call::Peers { change: Some(change), .. } => self.change_peers(change).await,
            Call::Peers { watch: false, .. } => self.peers().await,
            Call::Peers { watch: true, .. } => self.watch_peers().await,
            Call::Sessions { service, reveal_ids, limit } => self.sessions(service, reveal_ids, limit).await,
            Call::Disconnect { session, cut } => {
                let ended = self.client.disconnect_session(DisconnectSessionRequest { id: session, cut }).await?;
                self.say(ended.get_ref(), || "disconnected".to_owned())
            }
            Call::Mailboxes { limit, fresh } => self.mailboxes(limit, fresh).await,
            Call::Purge(which) => self.purge(which).await,
            Call::Drain { timeout, watch, evacuate } => {
                let request = DrainRequest { timeout_secs: timeout, evacuate };
                let begun = self.client.drain(request).await?.into_inner();
                if watch {
                    return self.watch_drain().await;
                }
                let status = begun.status.unwrap_or_default();
                self.say(&status, || streams::told(&status))
            }
            Call::Offload { dry_run, down_to } => self.offload(OffloadNowRequest { dry_run, down_to }).await,
            Call::Undrain => {
                let status = self.client.undrain(UndrainRequest {}).await?.into_inner().status.unwrap_or_default();
                self.say(&status, || streams::told(&status))
            }
            Call::DrainStatus { watch: false } => self.drain_status().await,
            Call::DrainStatus { watch: true } => self.watch_drain().await,
            Call::Tasks => self.tasks().await,
            Call::Log { filter } => {
                let filter = match filter {
                    Some(filter) => self.client.set_log_filter(SetLogFilterRequest { filter }).await?,
                    None => self.client.get_log_filter(GetLogFilterRequest {}).await?,
                };
                self.say(filter.get_ref(), || filter.get_ref().filter.clone())
            }
            Call::Config { changed } => self.config(changed).await,
            Call::Backup { name } => self.backup(name).await,
            Call::Backups => self.backups().await,
            Call::Verify { name } => self.verify(name).await,
        }
    }

    async fn status(&mut self) -> anyhow::Result<()> {
        let node = self.client.node_status(NodeStatusRequest {}).await?.into_inner();
        let cluster = self.client.cluster_status(ClusterStatusRequest {}).await?.into_inner();
        if self.json {
            return print_json(&json!({ "node": node, "cluster": cluster }));
        }
        let spread = |counts: &std::collections::HashMap<String, u32>| {
            let mut counts: Vec<_> = counts.iter().map(|(name, count)| format!("{name} ({count})")).collect();
            counts.sort();
            counts.join(", ")
        };
        let secured = if cluster.secured { "sealed" } else { "open" };
        let mut lines = vec![
            ("node", format!("{} {}, {}", node.node_id, node.version, phase(&node))),
            ("up for", duration(std::time::Duration::from_secs(node.uptime_secs))),
            ("clients at", format!("{}, {} WebSockets", node.listen, node.websockets)),
            ("vaults", format!("{}, {} requests wait for an answer", node.vaults, node.pending_requests)),
            ("mailboxes", format!("{} sessions, {} blobs wait", node.mailbox_sessions, node.blobs)),
            (
                "peers",
                format!(
                    "{} libp2p connections, {} reservations, {} circuits",
                    node.p2p_connections, node.reservations, node.circuits
                ),
            ),
            ("stored", format!("{} of {}", bytes(node.blob_bytes), bytes(node.blob_bytes_max))),
            (
                "cluster",
                format!(
                    "{}: {} in service, {} drain ({secured})",
                    cluster.cluster_id, cluster.serving, cluster.draining
                ),
            ),
            ("links", format!("{} up", cluster.links_up)),
            ("regions", spread(&cluster.regions)),
            ("versions", spread(&cluster.versions)),
        ];
        if !node.store_error.is_empty() {
            lines.push(("store", node.store_error));
        }
        for (name, value) in lines {
            println!("{name:<11} {}", print::printable(&value));
        }
        Ok(())
    }

    async fn purge(&mut self, which: PurgeArgs) -> anyhow::Result<()> {
        let named = which.routing_id.map(Mailbox::RoutingId).or(which.hash.map(Mailbox::Hash));
        let mailbox = Some(named.context("name a mailbox")?);
        let purged = self.client.purge_mailbox(PurgeMailboxRequest { mailbox }).await?;
        self.say(purged.get_ref(), || format!("deleted {} blobs", purged.get_ref().deleted))
    }

    /// Prints an answer: as JSON, or in words.
    fn say<T: Serialize>(&self, answer: &T, words: impl FnOnce() -> String) -> anyhow::Result<()> {
        if self.json {
            return print_json(answer);
        }
        println!("{}", print::printable(&words()));
        Ok(())
    }

    /// Prints a list: an object a line, or a table.
    fn list<T: Serialize>(&self, heads: &[&str], items: &[T], cells: impl Fn(&T) -> Vec<String>) -> anyhow::Result<()> {
        if self.json {
            return items.iter().try_for_each(print_json);
        }
        let mut table = Table::new(heads);
        items.iter().for_each(|item| table.row(cells(item)));
        Ok(table.print()?)
    }
}

fn phase(node: &NodeStatusResponse) -> String {
    word(node.phase().as_str_name(), "PHASE_")
}

fn print_json<T: Serialize>(value: &T) -> anyhow::Result<()> {
    println!("{}", serde_json::to_string(value)?);
    Ok(())
}
