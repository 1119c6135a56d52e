//! An address in front of nodes: it leads whoever connects to where it points.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

/// Works as long as the test does.
#[derive(Clone)]
pub struct Front {
    /// Where it is reached.
    pub address: SocketAddr,
    state: Arc<Mutex<State>>,
    open: Arc<AtomicUsize>,
    most: Arc<AtomicUsize>,
}

struct State {
    target: SocketAddr,
    cut: CancellationToken,
}

impl Front {
    /// One that points there.
    pub async fn of(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let this = Self {
            address: listener.local_addr().unwrap(),
            state: Arc::new(Mutex::new(State { target, cut: CancellationToken::new() })),
            open: Arc::default(),
            most: Arc::default(),
        };
        let front = this.clone();
        tokio::spawn(async move {
            while let Ok((from, _)) = listener.accept().await {
                tokio::spawn(front.clone().carry(from));
            }
        });
        this
    }

    /// Its URL, as a peer's.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Leads new connections there.
    pub fn point_to(&self, target: SocketAddr) {
        self.state.lock().target = target;
    }

    /// Cuts every connection that is open.
    pub fn cut(&self) {
        std::mem::take(&mut self.state.lock().cut).cancel();
    }

    /// How many connections are open, and how many were at one time.
    pub fn connections(&self) -> (usize, usize) {
        (self.open.load(Ordering::SeqCst), self.most.load(Ordering::SeqCst))
    }

    async fn carry(self, mut from: TcpStream) {
        let (target, cut) = {
            let state = self.state.lock();
            (state.target, state.cut.clone())
        };
        let open = self.open.fetch_add(1, Ordering::SeqCst) + 1;
        self.most.fetch_max(open, Ordering::SeqCst);
        let carried = async {
            if let Ok(mut to) = TcpStream::connect(target).await {
                copy_bidirectional(&mut from, &mut to).await.ok();
            }
        };
        cut.run_until_cancelled(carried).await;
        self.open.fetch_sub(1, Ordering::SeqCst);
    }
}
