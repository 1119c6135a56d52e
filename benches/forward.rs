//! The relay against the floor: how many times the bare transport's cost is one round trip?
//!
//! Both run as processes of their own, in turn and for as long, driven by the same client, so that whatever else
//! the machine does meets both alike. Then a second relay joins the first, and round trips cross both.
//!
//! `cargo bench --bench forward`

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
    let floor = Server::floor()?;
    let gossip = free_port()?;
    let relay = Server::relay("the relay", gossip, None)?;
    for load in LOADS {
        compare(&[("floor", vec![&floor]), ("relay", vec![&relay])], load).await?;
    }

    let second = Server::relay("the second node", free_port()?, Some(gossip))?;
    await_way(&[&second, &relay]).await?;
    for load in LOADS {
        compare(&[("one node", vec![&relay]), ("two nodes", vec![&second, &relay])], load).await?;
    }
    Ok(())
}
