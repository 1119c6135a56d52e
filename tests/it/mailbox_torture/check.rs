//! Whether the mailboxes hold what they must.

use std::collections::HashSet;
use std::net::SocketAddr;

use parking_lot::Mutex;

use super::client::{Client, Heard};
use super::load::{RECIPIENTS, body, handshake, label_of, mailbox, plain};
use super::model::{MayBe, Model};
use crate::support::id;

/// Compares every mailbox with the model while nothing is sent, by way of one of these nodes, which are all there are.
/// `still` says that nothing is in flight either.
pub async fn check(nodes: &[SocketAddr], model: &Mutex<Model>, round: u64, still: bool) -> Result<(), String> {
    let cut = |_| "the connection of the check ended".to_owned();
    for recipient in 0..RECIPIENTS {
        // What comes last from each node shows that all of it has come.
        let lasts: Vec<_> = (0..nodes.len()).map(|node| format!("last-{round}-{recipient}-{node}")).collect();
        for (node, last) in lasts.iter().enumerate() {
            let mut sender = Client::connect(nodes[node], &plain(&id('d'), false)).await.map_err(cut)?;
            model.lock().sends(last, recipient, node);
            sender.update(last, &mailbox(recipient), &body(last)).await.map_err(cut)?;
            while !matches!(sender.hear().await.map_err(cut)?, Heard::Status { status, .. } if status == "Stored") {}
            model.lock().stored(last);
        }
        let reader = nodes[(recipient + usize::try_from(round).unwrap()) % nodes.len()];
        let mut client = Client::connect(reader, &handshake(recipient)).await.map_err(cut)?;
        let mut there = HashSet::new();
        while !lasts.iter().all(|last| there.contains(last)) {
            let Heard::Blob { id, body } = client.hear().await.map_err(cut)? else {
                return Err("a recipient was sent something else than its blobs".to_owned());
            };
            let label = label_of(&body)?;
            model.lock().came(recipient, &label, &id, MayBe::Nothing)?;
            if lasts.contains(&label) {
                model.lock().acknowledges(&label);
                client.acknowledge(&id, "Delivered").await.map_err(cut)?;
            }
            if !there.insert(label.clone()) {
                model.lock().came_twice(&label, MayBe::Nothing)?;
            }
        }
        client.settle().await.map_err(cut)?;
        match client.hear().await.map_err(cut)? {
            Heard::Settled => {}
            other => return Err(format!("after all there is, came {other:?}")),
        }
        let mut model = model.lock();
        model.holds(recipient, &there, still)?;
        model.deleted(lasts);
    }
    Ok(())
}
