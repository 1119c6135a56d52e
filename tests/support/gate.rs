//! One address for several nodes, as a balancer gives it: a connection goes to whichever of them takes it.

use std::net::SocketAddr;

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

/// The address; closed when dropped, with the connections through it.
pub struct Gate {
    /// Where it listens.
    pub address: SocketAddr,
    task: JoinHandle<()>,
}

impl Gate {
    /// An address for `nodes`.
    pub async fn open(nodes: Vec<SocketAddr>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let task = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            for turn in 0.. {
                let (mut from, _) = listener.accept().await.unwrap();
                let mut nodes = nodes.clone();
                let first = turn % nodes.len();
                nodes.rotate_left(first);
                connections.spawn(async move {
                    if let Some(mut to) = first_of(&nodes).await {
                        // It ends when either side does.
                        copy_bidirectional(&mut from, &mut to).await.unwrap_or_default();
                    }
                });
                while connections.try_join_next().is_some() {}
            }
        });
        Self { address, task }
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn first_of(nodes: &[SocketAddr]) -> Option<TcpStream> {
    for node in nodes {
        if let Ok(stream) = TcpStream::connect(node).await {
            return Some(stream);
        }
    }
    None
}
