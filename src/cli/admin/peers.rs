//! The other clusters that a node calls.

use std::time::Duration;

use super::args::PeersChange;
use super::print::{ago, bytes, printable};
use super::{Out, print_json};
use crate::edge::admin::names::word;
use crate::edge::admin::proto::{AddPeerRequest, ListPeersRequest, Peer, RemovePeerRequest, WatchPeersRequest};

const HEADS: [&str; 10] =
    ["peer", "state", "since", "relay", "cluster", "region", "version", "round trip", "stored", "last error"];

impl Out {
    pub(super) async fn peers(&mut self) -> anyhow::Result<()> {
        let peers = self.client.list_peers(ListPeersRequest {}).await?.into_inner().peers;
        self.list(&HEADS, &peers, cells)
    }

    pub(super) async fn watch_peers(&mut self) -> anyhow::Result<()> {
        let mut events = self.client.watch_peers(WatchPeersRequest {}).await?.into_inner();
        while let Some(event) = events.message().await? {
            if self.json {
                print_json(&event)?;
                continue;
            }
            let change = word(event.change().as_str_name(), "PEER_CHANGE_");
            let cells = cells(&event.peer.unwrap_or_default());
            let cells: Vec<_> = cells.into_iter().filter(|cell| !cell.is_empty()).collect();
            println!("{change:<8} {}", printable(&cells.join("  ")));
        }
        Ok(())
    }

    pub(super) async fn change_peers(&mut self, change: PeersChange) -> anyhow::Result<()> {
        match change {
            PeersChange::Add { url } => {
                let added = self.client.add_peer(AddPeerRequest { url }).await?;
                self.say(added.get_ref(), || "added, until the process ends".to_owned())
            }
            PeersChange::Remove { url } => {
                let removed = self.client.remove_peer(RemovePeerRequest { url }).await?;
                self.say(removed.get_ref(), || "removed".to_owned())
            }
        }
    }
}

fn cells(peer: &Peer) -> Vec<String> {
    let added = if peer.added { " (added)" } else { "" };
    let round_trip = match peer.round_trip_us {
        0 => String::new(),
        time => format!("{:.1?}", Duration::from_micros(time)),
    };
    let stored = match peer.bytes_max {
        0 => String::new(),
        most => format!("{} of {}", bytes(peer.bytes), bytes(most)),
    };
    let error = match peer.last_error_ms {
        0 => String::new(),
        at => format!("{} ago: {}", ago(at), peer.last_error),
    };
    let state = word(peer.state().as_str_name(), "PEER_STATE_");
    let who = [&peer.relay_id, &peer.cluster_id, &peer.region, &peer.version].map(Clone::clone);
    let first = [format!("{}{added}", peer.url), state, ago(peer.since_ms)];
    first.into_iter().chain(who).chain([round_trip, stored, error]).collect()
}
