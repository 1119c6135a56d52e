//! Settings of the node, and of its services for vaults and mailboxes.

use super::kinds::{GIB, KIB, MIB, TIB, bytes, choice, count, per_minute, seconds};
use crate::config::setting::{Alias, Kind, Setting, Unit};

settings! {
    LISTEN_ADDR = Setting::new("RELAY_LISTEN_ADDR", Kind::Address, "Where clients connect; port 0 picks a free one")
        .or("0.0.0.0:8080")
        .aliases(&[
            Alias::host("HOST"),
            Alias::host("DCP_RELAY_HOST"),
            Alias::port("PORT"),
            Alias::port("DCP_RELAY_PORT"),
        ])
        .flags(&[Alias::host("--host"), Alias::port("--port")]);
    DATA_DIR = Setting::new("RELAY_DATA_DIR", Kind::Path, "The folder for everything that must outlive the process")
        .or("./data");
    STORAGE_BACKEND = Setting::new(
        "RELAY_STORAGE_BACKEND",
        Kind::Choice { accepted: &["rocksdb", "memory"], replaced: &[("sqlite", "rocksdb")] },
        "Where what is kept is stored; memory forgets all at exit",
    )
    .or("rocksdb");
    ROCKSDB_CACHE_BYTES = Setting::new(
        "RELAY_ROCKSDB_CACHE_BYTES",
        bytes(MIB, TIB),
        "Memory for what was read from the disk",
    )
    .or("33554432");
    ROCKSDB_WRITE_BUFFER_BYTES = Setting::new(
        "RELAY_ROCKSDB_WRITE_BUFFER_BYTES",
        bytes(MIB, 64 * GIB),
        "Memory for changes that are in the log but not yet in sorted files",
    )
    .or("67108864");
    DISK_RESERVE_BYTES = Setting::new(
        "RELAY_DISK_RESERVE_BYTES",
        bytes(0, 1024 * TIB),
        "What new blobs leave free on the disk; acknowledgments, purges and compaction may use it",
    )
    .or("268435456");
    LOG_LEVEL = Setting::new("RELAY_LOG_LEVEL", Kind::LogFilter, "What is logged")
        .or("info")
        .aliases(&[Alias::whole("LOG_LEVEL"), Alias::whole("RUST_LOG"), Alias::switch("DCP_RELAY_DEBUG", "debug")])
        .flags(&[Alias::whole("--log-level")]);
    LOG_FORMAT = Setting::new("RELAY_LOG_FORMAT", choice(&["text", "json"]), "How log lines are written").or("text");
    OTLP_ENDPOINT = Setting::new("RELAY_OTLP_ENDPOINT", Kind::Url, "Where traces are sent, by OTLP over gRPC")
        .aliases(&[Alias::whole("OTEL_EXPORTER_OTLP_ENDPOINT")]);
    TRACE_SAMPLE_RATIO = Setting::new("RELAY_TRACE_SAMPLE_RATIO", Kind::Ratio, "The share of traces that are sent").or("0.1");
    METRICS_ADDR = Setting::new(
        "RELAY_METRICS_ADDR",
        Kind::Address,
        "A second port for /metrics and /pubkey alone; unset opens none",
    );
    METRICS_TOKEN = Setting::new(
        "RELAY_METRICS_TOKEN",
        Kind::Token,
        "What /metrics asks for as a bearer token, on either port; unset asks for nothing",
    );
    PUBLIC_METRICS = Setting::new(
        "RELAY_PUBLIC_METRICS",
        Kind::Boolean,
        "Whether /metrics is on the port for clients",
    )
    .or("true");
    ADMIN_ADDR = Setting::new(
        "RELAY_ADMIN_ADDR",
        Kind::Address,
        "Where operators call, over gRPC; on anything but loopback only with a token or certificates",
    )
    .or("127.0.0.1:9091");
    ADMIN_TOKEN_FILE = Setting::new(
        "RELAY_ADMIN_TOKEN_FILE",
        Kind::Path,
        "A file with what operators show as a bearer token, at least 16 characters; unset asks for none",
    );
    ADMIN_TLS_CERT = Setting::new(
        "RELAY_ADMIN_TLS_CERT",
        Kind::Path,
        "The certificate of the port for operators, in PEM; unset: plain text",
    );
    ADMIN_TLS_KEY = Setting::new("RELAY_ADMIN_TLS_KEY", Kind::Path, "The key of that certificate, in PEM");
    ADMIN_TLS_CA = Setting::new(
        "RELAY_ADMIN_TLS_CA",
        Kind::Path,
        "Authorities in PEM of whose certificates operators must have one; unset asks for none",
    );
    BACKUP_DIR = Setting::new(
        "RELAY_BACKUP_DIR",
        Kind::Path,
        "The folder below which backups are made, best on the disk of the data folder; unset: backups in the data folder",
    );
    OUTBOUND_CA_FILE = Setting::new(
        "RELAY_OUTBOUND_CA_FILE",
        Kind::Path,
        "Certificates in PEM of authorities that push calls, searches for GIFs and traces over https trust besides the public ones",
    );

    MAX_CONNECTIONS = Setting::new(
        "RELAY_MAX_CONNECTIONS",
        count(1, 10_000_000),
        "Client connections on this node at one time",
    )
    .or("100000");
    ADDRESS_MAX_CONNECTIONS = Setting::new(
        "RELAY_ADDRESS_MAX_CONNECTIONS",
        count(1, 10_000_000),
        "Client connections from one address at one time",
    )
    .or("1000");
    ADDRESS_RATE_LIMIT = Setting::new(
        "RELAY_ADDRESS_RATE_LIMIT",
        per_minute(100_000_000),
        "HTTP requests and connection attempts from one address",
    )
    .or("6000");
    CONNECTION_RATE_LIMIT = Setting::new(
        "RELAY_CONNECTION_RATE_LIMIT",
        per_minute(100_000_000),
        "Frames on one connection",
    )
    .or("60000");
    MAX_MESSAGE_SIZE = Setting::new(
        "RELAY_MAX_MESSAGE_SIZE",
        bytes(KIB, 64 * MIB),
        "The largest message or request body from a client",
    )
    .or("1048576");
    SEND_QUEUE_BYTES = Setting::new(
        "RELAY_SEND_QUEUE_BYTES",
        bytes(4 * KIB, GIB),
        "What may wait to be written to one connection; must hold the largest message and 1024 bytes",
    )
    .or("4194304");
    WRITE_TIMEOUT_SECS = Setting::new(
        "RELAY_WRITE_TIMEOUT_SECS",
        seconds(1, 3600),
        "How long one write to a client may take",
    )
    .or("20");
    HANDSHAKE_TIMEOUT_SECS = Setting::new(
        "RELAY_HANDSHAKE_TIMEOUT_SECS",
        seconds(1, 300),
        "How long a client may take to say who it is",
    )
    .or("10");
    IDLE_TIMEOUT_MS = Setting::new(
        "RELAY_IDLE_TIMEOUT_MS",
        Kind::integer(1000, 86_400_000, Unit::Milliseconds),
        "Agent connections without traffic and without pending requests, and mailbox connections without traffic, are \
         closed after this",
    )
    .or("300000")
    .aliases(&[Alias::whole("DCP_TIMEOUT"), Alias::seconds("RELAY_IDLE_TIMEOUT")])
    .flags(&[Alias::whole("--timeout")]);
    TRACKED_ADDRESSES = Setting::new(
        "RELAY_TRACKED_ADDRESSES",
        count(100, 10_000_000),
        "Addresses that the limiters remember",
    )
    .or("100000");
    DRAIN_TIMEOUT_SECS = Setting::new(
        "RELAY_DRAIN_TIMEOUT_SECS",
        seconds(0, 86_400),
        "How long a stop waits for what is in flight; 0 exits at once",
    )
    .or("300")
    .aliases(&[Alias::whole("RELAY_FEDERATION_DRAIN_TIMEOUT")]);
    TRUSTED_PROXIES = Setting::new(
        "RELAY_TRUSTED_PROXIES",
        Kind::Networks,
        "Proxies whose word on the client's address is taken",
    );
    CORS_ORIGINS = Setting::new("RELAY_CORS_ORIGINS", Kind::Origins, "Web pages that may call the HTTP interface");

    VAULT_RATE_LIMIT = Setting::new("RELAY_VAULT_RATE_LIMIT", per_minute(10_000_000), "Requests to one vault")
        .or("60")
        .aliases(&[Alias::whole("DCP_RATE_LIMIT"), Alias::whole("DCP_RELAY_RATE_LIMIT")])
        .flags(&[Alias::whole("--rate-limit")]);
    VAULT_RECONNECT_GRACE_SECS = Setting::new(
        "RELAY_VAULT_RECONNECT_GRACE_SECS",
        seconds(0, 300),
        "How long requests wait for a vault that has just gone",
    )
    .or("15");
    VAULT_SESSION_MODE = Setting::new(
        "RELAY_VAULT_SESSION_MODE",
        Kind::Boolean,
        "Whether the older flow of plain register and pair is served",
    )
    .or("true");
    VAULT_MAX_PENDING = Setting::new(
        "RELAY_VAULT_MAX_PENDING",
        count(1, 1_000_000),
        "Unanswered requests of one vault",
    )
    .or("1000");
    VAULT_RECORDS_BYTES = Setting::new(
        "RELAY_VAULT_RECORDS_BYTES",
        bytes(MIB, TIB),
        "Memory for pending requests and kept answers on this node",
    )
    .or("134217728");
    VAULT_PUSH_URL = Setting::new(
        "RELAY_VAULT_PUSH_URL",
        Kind::Url,
        "Where to ask for a push notification to a sleeping vault; unset sends none",
    )
    .aliases(&[Alias::whole("DCP_EXPO_PUSH_URL")]);

    RATE_LIMIT = Setting::new(
        "RELAY_RATE_LIMIT",
        per_minute(10_000_000),
        "Mailbox messages of one identity, or of one name at one address; acknowledgments are free",
    )
    .or("60");
    RECOVERY_RATE_LIMIT = Setting::new(
        "RELAY_RECOVERY_RATE_LIMIT",
        per_minute(10_000_000),
        "Recovery proofs stored and asked for by one identity or address",
    )
    .or("10");
    MAX_BLOBS_PER_USER = Setting::new(
        "RELAY_MAX_BLOBS_PER_USER",
        count(0, 1_000_000_000),
        "Blobs that wait in one mailbox; 0 for no limit",
    )
    .or("1000");
    MAX_STORAGE_PER_USER = Setting::new(
        "RELAY_MAX_STORAGE_PER_USER",
        bytes(0, TIB),
        "What waits in one mailbox, 512 bytes a blob included; 0 for no limit",
    )
    .or("50000000");
    MAX_SENDER_SHARE = Setting::new(
        "RELAY_MAX_SENDER_SHARE",
        Kind::Ratio,
        "The share of a mailbox that one sender, known by its key or else its address, may fill",
    )
    .or("0.5");
    MAX_STORAGE_BYTES = Setting::new(
        "RELAY_MAX_STORAGE_BYTES",
        bytes(MIB, 1024 * TIB),
        "What waits in all mailboxes of this node, 512 bytes a blob included",
    )
    .or("1073741824");
    BLOB_TTL_SECS = Setting::new(
        "RELAY_BLOB_TTL_SECS",
        seconds(1, 3_153_600_000),
        "How long a blob waits for its recipient",
    )
    .or("7776000");
    CLEANUP_INTERVAL = Setting::new(
        "RELAY_CLEANUP_INTERVAL",
        seconds(1, 86_400),
        "How often what has expired gives its disk back; nobody is shown it before either",
    )
    .or("3600");
    DEDUP_MEMORY_SECS = Setting::new(
        "RELAY_DEDUP_MEMORY_SECS",
        seconds(0, 31_536_000),
        "How long a message that was acknowledged or purged is known, so that a repeat is not stored",
    )
    .or("86400");
    NOISE_STATIC_KEY = Setting::new(
        "RELAY_NOISE_STATIC_KEY",
        Kind::NoiseKey,
        "The relay's Noise key; unset derives it from the cluster secret, or makes one and keeps it in the data folder",
    );
    REQUIRE_NOISE_ENCRYPTION = Setting::new(
        "RELAY_REQUIRE_NOISE_ENCRYPTION",
        Kind::Boolean,
        "Whether mailbox clients must use Noise",
    )
    .or("false");
    TLS_VERIFIED = Setting::new(
        "RELAY_TLS_VERIFIED",
        Kind::Boolean,
        "Accepted because the original relay asks for it; has no effect",
    );

    NODE_ID = Setting::new(
        "RELAY_NODE_ID",
        Kind::Name,
        "This node's name, unique in its cluster; unset makes one and keeps it in the data folder",
    );
    CLUSTER_ID = Setting::new("RELAY_CLUSTER_ID", Kind::Name, "The cluster that this node joins").or("waystation");
    CLUSTER_SEEDS = Setting::new(
        "RELAY_CLUSTER_SEEDS",
        Kind::Seeds,
        "Gossip addresses of nodes to join; unset starts a cluster of its own",
    );
    CLUSTER_SECRET = Setting::new(
        "RELAY_CLUSTER_SECRET",
        Kind::Secret,
        "What the nodes of a cluster prove themselves with; needed on anything but loopback",
    );
    CLUSTER_SECRET_FILE = Setting::new("RELAY_CLUSTER_SECRET_FILE", Kind::Path, "A file that holds the cluster secret");
    REGION = Setting::new("RELAY_REGION", Kind::Name, "Where the cluster is").or("default");
    GRPC_ADDR = Setting::new("RELAY_GRPC_ADDR", Kind::Address, "Where other nodes connect").or("127.0.0.1:7400");
    GOSSIP_ADDR = Setting::new("RELAY_GOSSIP_ADDR", Kind::Address, "Where other nodes gossip, over UDP")
        .or("127.0.0.1:7401");
    FEDERATION_ENABLED = Setting::new(
        "RELAY_FEDERATION_ENABLED",
        Kind::Boolean,
        "Whether this cluster speaks to others",
    )
    .or("false");
    FEDERATION_PEERS = Setting::new("RELAY_FEDERATION_PEERS", Kind::Peers, "Clusters that this one calls");
    FEDERATION_ADDR = Setting::new("RELAY_FEDERATION_ADDR", Kind::Address, "Where other clusters call")
        .or("127.0.0.1:7402")
        .aliases(&[Alias::whole("RELAY_FEDERATION_MTLS_ADDR")]);
    FEDERATION_TLS_CERT = Setting::new(
        "RELAY_FEDERATION_TLS_CERT",
        Kind::Path,
        "The certificate that this node shows to other clusters, in PEM; this, its key and authorities, or a secret, \
         are needed on anything but loopback",
    );
    FEDERATION_TLS_KEY = Setting::new("RELAY_FEDERATION_TLS_KEY", Kind::Path, "The key of that certificate, in PEM");
    FEDERATION_TLS_CA = Setting::new(
        "RELAY_FEDERATION_TLS_CA",
        Kind::Path,
        "Authorities in PEM of whose certificates other clusters must have one",
    );
    FEDERATION_PINS = Setting::new(
        "RELAY_FEDERATION_PINS",
        Kind::Pins,
        "Keys that relays of other clusters must have: the SHA-256 of the public key of each",
    );
    FEDERATION_SECRET = Setting::new(
        "RELAY_FEDERATION_SECRET",
        Kind::Secret,
        "What clusters prove themselves to one another with, instead of certificates",
    );
    FEDERATION_SECRET_FILE =
        Setting::new("RELAY_FEDERATION_SECRET_FILE", Kind::Path, "A file that holds the federation secret");
    FEDERATION_INSECURE = Setting::new(
        "RELAY_FEDERATION_INSECURE",
        choice(&["true", "false"]),
        "Whether clusters need not prove themselves to one another anywhere: who reaches the port may read and delete mail",
    )
    .or("false");
    FEDERATION_RELAY_ID = Setting::new(
        "RELAY_FEDERATION_RELAY_ID",
        Kind::Name,
        "This node's name among clusters; unset makes one and keeps it in the data folder",
    );
    FEDERATION_PEER_TIMEOUT = Setting::new(
        "RELAY_FEDERATION_PEER_TIMEOUT",
        seconds(1, 3600),
        "How long a peer may take to answer the first word, and be silent",
    )
    .or("30");
    FEDERATION_CAPACITY_INTERVAL = Setting::new(
        "RELAY_FEDERATION_CAPACITY_INTERVAL",
        seconds(1, 86_400),
        "How often peers are told how much is stored",
    )
    .or("60");
    FEDERATION_OFFLOAD_THRESHOLD = Setting::new(
        "RELAY_FEDERATION_OFFLOAD_THRESHOLD",
        Kind::Ratio,
        "The part of RELAY_MAX_STORAGE_BYTES above which this node moves its oldest blobs to peers",
    )
    .or("0.80");
    FEDERATION_OFFLOAD_REFUSE = Setting::new(
        "RELAY_FEDERATION_OFFLOAD_REFUSE",
        Kind::Ratio,
        "The part of RELAY_MAX_STORAGE_BYTES above which this node takes no blobs of peers; above the threshold",
    )
    .or("0.95");
    PUBLIC_URL = Setting::new(
        "RELAY_PUBLIC_URL",
        Kind::ClientUrl,
        "Where clients reach this cluster, as other clusters may tell them",
    );
    ADVERTISE_HOST = Setting::new(
        "RELAY_ADVERTISE_HOST",
        Kind::Host,
        "The host by which other nodes reach this one; needed when it listens on an unspecified address",
    );
}
