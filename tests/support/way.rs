//! A way between two clusters: a port of loopback that leads to one node, to another, or to none, and may fall silent.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use super::free_port;

/// Where connections to its port lead. It is gone when this is dropped.
pub struct Way {
    /// What peers call.
    pub url: String,
    state: Arc<watch::Sender<State>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Default)]
struct State {
    to: Option<SocketAddr>,
    /// Connections of an earlier turn are over.
    turn: u64,
    silent: bool,
}

impl Way {
    /// A way that leads nowhere yet.
    pub async fn new() -> Self {
        let port = free_port();
        let listener = TcpListener::bind(("127.0.0.1", port)).await.unwrap();
        let state = Arc::new(watch::Sender::new(State::default()));
        let turns = state.subscribe();
        tokio::spawn(accept(listener, turns));
        Self { url: format!("http://127.0.0.1:{port}"), state }
    }

    /// Leads to that address from now on; older connections are cut.
    pub fn lead_to(&self, address: SocketAddr) {
        self.state.send_modify(|state| *state = State { to: Some(address), turn: state.turn + 1, silent: false });
    }

    /// Leads nowhere; all connections are cut.
    pub fn cut(&self) {
        self.state.send_modify(|state| *state = State { to: None, turn: state.turn + 1, silent: false });
    }

    /// Connections stay, and carry nothing any more.
    pub fn silence(&self) {
        self.state.send_modify(|state| state.silent = true);
    }
}

async fn accept(listener: TcpListener, state: watch::Receiver<State>) {
    let mut ended = state.clone();
    let accepting = async {
        while let Ok((near, _)) = listener.accept().await {
            let now = *state.borrow();
            if let Some(to) = now.to {
                tokio::spawn(carry(near, to, now.turn, state.clone()));
            }
        }
    };
    tokio::select! {
        () = accepting => {}
        // Its owner has gone.
        _ = async { while ended.changed().await.is_ok() {} } => {}
    }
}

async fn carry(near: TcpStream, to: SocketAddr, turn: u64, state: watch::Receiver<State>) {
    let Ok(far) = TcpStream::connect(to).await else { return };
    let ((mut near_reads, mut near_writes), (mut far_reads, mut far_writes)) = (near.into_split(), far.into_split());
    let mut over = state.clone();
    tokio::select! {
        () = pipe(&mut near_reads, &mut far_writes, state.clone()) => {}
        () = pipe(&mut far_reads, &mut near_writes, state) => {}
        _ = over.wait_for(|state| state.turn != turn) => {}
    }
}

async fn pipe(
    from: &mut (impl AsyncReadExt + Unpin),
    to: &mut (impl AsyncWriteExt + Unpin),
    mut state: watch::Receiver<State>,
) {
    let mut buffer = vec![0; 64 << 10];
    while let Ok(length @ 1..) = from.read(&mut buffer).await {
        let heard = state.wait_for(|state| !state.silent).await.is_ok();
        if !heard || to.write_all(&buffer[..length]).await.is_err() {
            return;
        }
    }
}
