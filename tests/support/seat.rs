//! Nodes that keep their ids, their ports and their disks while their processes come and go.

use std::net::SocketAddr;

use tempfile::TempDir;

use super::Process;
use super::cluster::SECRET;

/// A process that keeps its id, its ports and its disk.
pub struct Seat {
    settings: Vec<(&'static str, String)>,
    _disk: TempDir,
}

impl Seat {
    /// The three seats of a cluster, each with `settings`, on a loopback address that nothing else uses if `net` is
    /// given to no other test.
    pub fn cluster(net: u8, settings: &[(&'static str, &str)]) -> Vec<Self> {
        let host = Self::host(net);
        let seeds = (0..3).map(|n| format!("{host}:{}", 7510 + n)).collect::<Vec<_>>().join(",");
        let seat = |n: usize| {
            let disk = tempfile::tempdir().unwrap();
            let own = vec![
                (SECRET.0, SECRET.1.to_owned()),
                ("RELAY_NODE_ID", format!("seat-{n}")),
                ("RELAY_LISTEN_ADDR", format!("{host}:{}", 8080 + n)),
                ("RELAY_GRPC_ADDR", format!("{host}:{}", 7400 + n)),
                ("RELAY_GOSSIP_ADDR", format!("{host}:{}", 7510 + n)),
                ("RELAY_FEDERATION_ADDR", Self::federation(&host, n)),
                ("RELAY_CLUSTER_SEEDS", seeds.clone()),
                ("RELAY_STORAGE_BACKEND", "rocksdb".to_owned()),
                ("RELAY_DATA_DIR", disk.path().to_str().unwrap().to_owned()),
            ];
            let settings = settings.iter().map(|(name, value)| (*name, (*value).to_owned())).chain(own).collect();
            Self { settings, _disk: disk }
        };
        (0..3).map(seat).collect()
    }

    /// Where other clusters call the nodes of the cluster on this net.
    pub fn federated(net: u8) -> Vec<SocketAddr> {
        (0..3).map(|n| Self::federation(&Self::host(net), n).parse().unwrap()).collect()
    }

    fn host(net: u8) -> String {
        let [_, _, high, low] = std::process::id().to_be_bytes();
        format!("127.{net}.{high}.{low}")
    }

    fn federation(host: &str, n: usize) -> String {
        format!("{host}:{}", 7600 + n)
    }

    /// How its process is started.
    pub fn settings(&self) -> Vec<(&str, &str)> {
        self.settings.iter().map(|(name, value)| (*name, value.as_str())).collect()
    }

    /// Starts its process, and waits until it serves.
    pub async fn start(&self) -> Process {
        Process::start(&self.settings()).await
    }
}
