//! What `waystation admin` may be told. The doc comments here are the manual that `--help` prints.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

/// Ask a node, and tell it what to do, over its port for operators.
#[derive(Debug, Args)]
pub struct AdminArgs {
    #[command(flatten)]
    pub(super) target: Target,
    /// Print JSON, one object a line, instead of tables
    #[arg(long, global = true)]
    pub(super) json: bool,
    #[command(subcommand)]
    pub(super) call: Call,
}

/// Which node, and by what right.
#[derive(Debug, Args)]
pub(super) struct Target {
    /// The node: host:port, or a URL with http:// or https://
    #[arg(long, global = true, env = "RELAY_ADMIN_ADDR", default_value = "127.0.0.1:9091", value_name = "ADDRESS")]
    pub(super) addr: String,
    /// A file with the token to show
    #[arg(long, global = true, env = "RELAY_ADMIN_TOKEN_FILE", value_name = "FILE")]
    pub(super) token_file: Option<PathBuf>,
    /// Speak TLS, and trust these authorities, in PEM
    #[arg(long, global = true, value_name = "FILE")]
    pub(super) ca: Option<PathBuf>,
    /// The certificate to show, in PEM
    #[arg(long, global = true, value_name = "FILE", requires = "key")]
    pub(super) cert: Option<PathBuf>,
    /// Its key, in PEM
    #[arg(long, global = true, value_name = "FILE", requires = "cert")]
    pub(super) key: Option<PathBuf>,
    /// The name that the node's certificate must have, if not that in the address
    #[arg(long, global = true, value_name = "NAME")]
    pub(super) server_name: Option<String>,
}

/// What to ask or do.
#[derive(Debug, Subcommand)]
pub(super) enum Call {
    /// The node and its cluster at this moment.
    Status,
    /// The live nodes.
    Members {
        /// Go on and print what changes
        #[arg(long)]
        watch: bool,
    },
    /// The other clusters that the node calls.
    #[command(args_conflicts_with_subcommands = true)]
    Peers {
        /// Go on and print what changes
        #[arg(long)]
        watch: bool,
        #[command(subcommand)]
        change: Option<PeersChange>,
    },
    /// The sessions of vaults and mailboxes at the node.
    Sessions {
        /// Only those of this service
        #[arg(long)]
        service: Option<ServiceName>,
        /// Show names and addresses as they are
        #[arg(long)]
        reveal_ids: bool,
        /// At most so many
        #[arg(long, default_value_t = 100)]
        limit: usize,
    },
    /// End a session.
    Disconnect {
        /// As `sessions` prints it
        session: String,
        /// Cut the connection instead of closing it
        #[arg(long)]
        cut: bool,
    },
    /// The mailboxes for which the node holds most.
    Mailboxes {
        /// How many
        #[arg(long, default_value_t = 20)]
        limit: u32,
        /// Count anew, even if the last result is no minute old
        #[arg(long)]
        fresh: bool,
    },
    /// Delete what waits in a mailbox, on all nodes.
    Purge(PurgeArgs),
    /// Take the node out of service, and end its process.
    Drain {
        /// How many seconds to wait for what is open [default: RELAY_DRAIN_TIMEOUT_SECS of the node]
        #[arg(long, value_name = "SECONDS")]
        timeout: Option<u32>,
        /// Stay until the node has left
        #[arg(long)]
        watch: bool,
        /// Move all blobs to other nodes, or other clusters, first
        #[arg(long)]
        evacuate: bool,
    },
    /// Move the oldest blobs to other clusters now.
    Offload {
        /// Only say how much would move, and to whom
        #[arg(long)]
        dry_run: bool,
        /// The part of RELAY_MAX_STORAGE_BYTES that may stay [default: RELAY_FEDERATION_OFFLOAD_THRESHOLD of the node]
        #[arg(long, value_name = "RATIO")]
        down_to: Option<f64>,
    },
    /// Put a node that drains back into service.
    Undrain,
    /// How far the node has left service.
    DrainStatus {
        /// Stay until it has left
        #[arg(long)]
        watch: bool,
    },
    /// What runs in the background.
    Tasks,
    /// What is logged; with a filter, change that until the process ends.
    Log {
        /// A level or directives, as RELAY_LOG_LEVEL takes
        filter: Option<String>,
    },
    /// The settings in effect, and what gave each of them.
    Config {
        /// Only those that something else than the defaults gave
        #[arg(long)]
        changed: bool,
    },
    /// Make a backup of the node, while it serves.
    Backup {
        /// The folder that it gets below RELAY_BACKUP_DIR of the node
        name: String,
    },
    /// The backups there are.
    Backups,
    /// Read a backup from end to end and check it: exit code 1 if it is damaged.
    Verify {
        /// As `backups` prints it
        name: String,
    },
}

/// Which clusters the node calls.
#[derive(Debug, Subcommand)]
pub(super) enum PeersChange {
    /// Have the node call one more, until its process ends.
    Add {
        /// An http, https, ws or wss URL without a path
        url: String,
    },
    /// Have the node call one no more, until its process ends.
    Remove {
        /// As `peers` prints it
        url: String,
    },
}

/// Which mailbox.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub(super) struct PurgeArgs {
    /// The routing token or client id that names it
    #[arg(long)]
    pub(super) routing_id: Option<String>,
    /// Its hash, as `mailboxes` prints it
    #[arg(long)]
    pub(super) hash: Option<String>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(super) enum ServiceName {
    Vault,
    Mailbox,
    P2p,
}
