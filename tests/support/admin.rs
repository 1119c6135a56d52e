//! An operator: the port for administration, by the library's client and by the binary's.

use std::net::SocketAddr;
use std::process::{Output, Stdio};

use tokio::process::Command;
use tonic::transport::{Channel, Endpoint};
use waystation::edge::admin::proto::admin_client::AdminClient;

use super::{LONG_PATIENCE, TestNode, in_time, within};

/// A client of a node's port, without TLS and token.
pub async fn admin(node: &TestNode) -> AdminClient<Channel> {
    AdminClient::new(channel(node.node().admin).await)
}

/// A connection without TLS.
pub async fn channel(address: SocketAddr) -> Channel {
    let endpoint = Endpoint::from_shared(format!("http://{address}")).unwrap();
    in_time("a connection to the port for operators", endpoint.connect()).await.unwrap()
}

/// `waystation admin` with these arguments, at a node.
pub async fn run(address: SocketAddr, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_waystation"));
    command.env_clear().arg("admin").args(["--addr", &address.to_string()]).args(arguments);
    command.stdin(Stdio::null()).kill_on_drop(true);
    within(LONG_PATIENCE, "the command ends", command.output()).await.unwrap()
}

/// The same: what it prints, which must be all right.
pub async fn printed(address: SocketAddr, arguments: &[&str]) -> String {
    let output = run(address, arguments).await;
    assert!(output.status.success(), "{arguments:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// An address on loopback that was free a moment ago.
pub fn free_address() -> SocketAddr {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}
