//! A request that crosses from one region to another, against one between two nodes of a cluster, under the same load.
//!
//! One cluster has two nodes, the other one, all on this machine, so what is measured is the way and not the distance. The
//! vault is at the node that answers the other region, or at its neighbour.
//!
//! `cargo bench --bench region`

mod rounds;
mod servers;

use rounds::{LOADS, await_way, compare};
use servers::{Server, free_port};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    // `cargo test --benches` asks only whether this builds.
    if std::env::args().any(|argument| argument == "--test") {
        return Ok(());
    }
    let (eu, us, gossip) = (free_port()?, free_port()?, free_port()?);
    let answers = Server::relay_in(("the node that answers", "eu"), (gossip, None), (eu, us))?;
    let neighbour = Server::relay_in(("its neighbour", "eu"), (free_port()?, Some(gossip)), (free_port()?, us))?;
    let far = Server::relay_in(("the other region", "us"), (free_port()?, None), (us, eu))?;
    let sides = [
        ("two nodes", vec![&neighbour, &answers]),
        ("two regions", vec![&far, &answers]),
        ("by a node", vec![&far, &answers, &neighbour]),
    ];
    for (_, servers) in &sides {
        await_way(servers).await?;
    }
    for load in LOADS {
        compare(&sides, load).await?;
    }
    Ok(())
}
