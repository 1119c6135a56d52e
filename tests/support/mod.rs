//! Real nodes on loopback, and clients that speak to them frame by frame.

// A tool box: no test needs every tool.
#![allow(dead_code, unused_imports)]

pub mod admin;
pub mod agent;
pub mod cluster;
pub mod disk;
pub mod dusk;
pub mod far;
pub mod front;
pub mod gate;
pub mod gifs;
pub mod gossiper;
pub mod http;
pub mod mailbox;
pub mod node;
pub mod offers;
pub mod peer;
pub mod process;
pub mod regions;
pub mod seat;
pub mod socket;
pub mod tls;
pub mod vault;
pub mod way;

use std::future::Future;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use serde_json::Value;

pub use agent::{TestAgent, envelope};
pub use http::{Reply, get, http, post};
pub use mailbox::{TestMailbox, id};
pub use node::TestNode;
pub use process::Process;
pub use seat::Seat;
pub use socket::Socket;
pub use vault::{TestVault, registration};
pub use way::Way;

/// How long anything that must happen may take. Nothing waits this long unless it fails.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// How long may take what needs several nodes or processes, or many megabytes.
pub const LONG_PATIENCE: Duration = Duration::from_secs(60);

/// How often a condition that cannot be awaited is looked at.
const LOOK: Duration = Duration::from_millis(5);

/// The vault of most tests; its key is that of [`SEED`].
pub const VAULT: &str = "vault_demo01";

/// See [`vault::key`].
pub const SEED: u8 = 7;

/// Another loopback address: a client that comes from it is another client.
pub const ELSEWHERE: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));

/// A TCP port of loopback that nobody uses, below those that the system gives to whoever asks for any.
pub fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    loop {
        let offset = (std::process::id() as u16).wrapping_mul(64).wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed));
        let port = 20_000 + offset % 10_000;
        if std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return port;
        }
    }
}

/// A node with `settings`, [`VAULT`] registered at it, and an agent.
pub async fn one_of_each(settings: &[(&str, &str)]) -> (TestNode, TestVault, TestAgent) {
    let node = TestNode::start(settings).await;
    let vault = TestVault::registered(node.public, VAULT, SEED).await;
    let agent = TestAgent::connect(node.public).await;
    (node, vault, agent)
}

/// A request of `agent` to [`VAULT`], and its answer; returns the envelope.
pub async fn exchange(agent: &mut TestAgent, vault: &mut TestVault, id: &str) -> Value {
    let asked = agent.ask(VAULT, id).await;
    vault.expect_request(id).await;
    vault.respond(id, "EjRW").await;
    assert_eq!(agent.expect_response(id).await, "EjRW");
    asked
}

/// Awaits `work`; `what` says what did not happen in time.
pub async fn in_time<T>(what: &str, work: impl Future<Output = T>) -> T {
    within(PATIENCE, what, work).await
}

/// The same within another time than [`PATIENCE`].
pub async fn within<T>(limit: Duration, what: &str, work: impl Future<Output = T>) -> T {
    match tokio::time::timeout(limit, work).await {
        Ok(done) => done,
        Err(_) => panic!("not within {limit:?}: {what}"),
    }
}

/// Waits until `condition` holds; `what` says what it stands for.
pub async fn until(what: &str, condition: impl Fn() -> bool) {
    in_time(what, async {
        while !condition() {
            tokio::time::sleep(LOOK).await;
        }
    })
    .await;
}
