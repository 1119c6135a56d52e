//! What each part of a node is told of the configuration.

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::sync::Arc;

use crate::cluster::Cluster;
use crate::cluster::facts::Facts;
use crate::cluster::membership::{Membership, MembershipConfig};
use crate::config::{Config, StorageBackend};
use crate::domain::ids::NodeRun;
use crate::domain::mailbox::Quota;
use crate::edge::admin::{About, BackupParts};
use crate::edge::{EdgeSettings, Parts};
use crate::mailbox::{MailboxSettings, OffloadSettings};
use crate::observe::metrics::Metrics;
use crate::p2p::identity::dusk_files;
use crate::p2p::{
    CircuitLimits, DirectoryLimits, GifLimits, GossipLimits, HostParts, HostSettings, KeyPlace, ProviderParts,
    RendezvousLimits, TurnCredentialsSettings,
};
use crate::runtime::supervisor::Supervisor;
use crate::security::admission::{Admission, AdmissionLimits};
use crate::security::proxies::TrustedProxies;
use crate::store::{Records, RocksStore};
use crate::vault::VaultSettings;
use crate::vault::pairing::PushService;

pub fn admission(config: &Config) -> AdmissionLimits {
    let limits = &config.limits;
    AdmissionLimits {
        connections: limits.max_connections,
        connections_per_address: limits.address_max_connections,
        requests_per_minute: limits.address_rate,
        tracked_addresses: limits.tracked_addresses,
    }
}

/// What operators are told of the node; clients connect at `listen`.
pub fn about(config: &Config, listen: SocketAddr) -> About {
    About {
        cluster: config.cluster.cluster_id.clone(),
        region: config.cluster.region.clone(),
        listen,
        secured: config.cluster.secret.is_some(),
        drain_timeout: config.drain_timeout,
    }
}

/// What backups are made of. The files that make the node who it is belong to it.
pub fn backups(config: &Config, store: Arc<RocksStore>) -> BackupParts {
    let files =
        [super::identity::NODE_FILE, super::identity::RELAY_FILE, super::noise_key::FILE, crate::p2p::identity::FILE];
    BackupParts {
        store,
        beside: files.map(|file| config.data_dir.join(file)).into(),
        root: config.admin.backups.clone(),
        reserve: config.rocksdb.reserve_bytes,
    }
}

/// Connections at one time to the port for figures: a few scrapers, and somebody who looks.
const PRIVATE_CONNECTIONS: usize = 64;

/// The port for figures. Its connections are not counted among those of clients, and take no place from them.
pub fn private_port(supervisor: &Supervisor) -> Parts {
    let limits = AdmissionLimits {
        connections: PRIVATE_CONNECTIONS,
        connections_per_address: PRIVATE_CONNECTIONS,
        requests_per_minute: NonZeroU32::MAX,
        tracked_addresses: PRIVATE_CONNECTIONS,
    };
    Parts {
        settings: EdgeSettings::default(),
        admission: Arc::new(Admission::new(limits)),
        proxies: TrustedProxies(Vec::new()),
        metrics: Metrics::new(),
        supervisor: supervisor.clone(),
    }
}

/// `grpc` is where this node listens for the links of others.
pub fn membership(config: &Config, me: &NodeRun, grpc: SocketAddr) -> MembershipConfig {
    let cluster = &config.cluster;
    let host = cluster.advertise_host.clone();
    let reached = host.as_ref().map_or_else(|| grpc.to_string(), |host| with_port(host, grpc.port()));
    MembershipConfig {
        cluster: cluster.cluster_id.clone(),
        node: me.node.clone(),
        generation: me.generation,
        listen: cluster.gossip,
        advertise: host,
        seeds: cluster.seeds.clone(),
        facts: Facts::new(reached, cluster.region.clone()),
    }
}

pub fn vault(config: &Config) -> VaultSettings {
    VaultSettings {
        rate: config.vault.rate,
        grace: config.vault.reconnect_grace,
        max_pending: config.vault.max_pending,
        records_bytes: config.vault.records_bytes,
        session_mode: config.vault.session_mode,
    }
}

/// `None` if nobody is to be called.
pub fn push(config: &Config) -> Option<PushService> {
    let url = config.vault.push_url.clone()?;
    Some(PushService { url, roots: config.outbound_roots.clone() })
}

pub fn mailbox(config: &Config) -> MailboxSettings {
    let (limits, mailbox) = (&config.limits, &config.mailbox);
    // At least one blob, or a sender could store nothing however empty the mailbox.
    let share = |most: u64| (((most as f64) * mailbox.sender_share) as u64).max(1);
    MailboxSettings {
        max_message_size: limits.max_message_size,
        require_noise: config.noise.required,
        handshake_timeout: limits.handshake_timeout,
        idle_timeout: limits.idle_timeout,
        rate: mailbox.rate,
        recovery_rate: mailbox.recovery_rate,
        tracked_clients: limits.tracked_addresses,
        quota: Quota {
            blobs: mailbox.max_blobs,
            bytes: mailbox.max_bytes,
            sender_blobs: mailbox.max_blobs.map(share),
            sender_bytes: mailbox.max_bytes.map(share),
            total_bytes: mailbox.total_bytes,
        },
        ttl: mailbox.ttl,
        cleanup_interval: mailbox.cleanup_interval,
        dedup_memory: mailbox.dedup_memory,
        offload: config.federation.enabled.then_some(OffloadSettings {
            threshold: config.federation.offload_threshold,
            refuse: config.federation.offload_refuse,
            interval: config.federation.capacity_interval,
        }),
    }
}

fn p2p_key(config: &Config) -> KeyPlace {
    match config.storage {
        StorageBackend::RocksDb => {
            KeyPlace::Kept { folder: config.data_dir.clone(), fallbacks: dusk_files(|name| std::env::var(name).ok()) }
        }
        StorageBackend::Memory => KeyPlace::Memory,
    }
}

/// What the service for libp2p peers is made of.
pub fn p2p(
    config: &Config,
    records: &Arc<dyn Records>,
    cluster: &Cluster,
    membership: &Membership,
    metrics: &Arc<Metrics>,
    supervisor: &Supervisor,
) -> HostParts {
    HostParts {
        settings: host(config),
        key: p2p_key(config),
        records: records.clone(),
        cluster: cluster.clone(),
        membership: membership.clone(),
        metrics: metrics.clone(),
        supervisor: supervisor.clone(),
    }
}

fn host(config: &Config) -> HostSettings {
    let p2p = &config.p2p;
    HostSettings {
        listen: p2p.listen.clone(),
        external: p2p.external.clone(),
        connections: p2p.max_connections,
        connections_per_peer: p2p.peer_max_connections,
        connections_per_address: p2p.address_max_connections,
        connections_per_minute: p2p.address_rate,
        idle: p2p.idle_timeout,
        trusted: p2p.trusted.clone(),
        circuits: CircuitLimits {
            reservations: p2p.max_reservations,
            reservations_per_address: p2p.address_max_reservations,
            reservation_life: p2p.reservation_life,
            circuits: p2p.max_circuits,
            circuits_per_peer: p2p.peer_max_circuits,
            circuits_per_address: p2p.address_max_circuits,
            requests_per_minute: p2p.address_rate,
            tracked_addresses: config.limits.tracked_addresses,
            duration: p2p.circuit_duration,
            bytes: p2p.circuit_bytes,
            rate: p2p.circuit_rate,
            idle: None,
        },
        rendezvous: RendezvousLimits {
            per_peer: p2p.peer_max_registrations,
            per_namespace: p2p.namespace_max_registrations,
            bytes: p2p.registrations_bytes,
            requests_per_minute: p2p.address_rate,
            tracked_addresses: config.limits.tracked_addresses,
            lists_all: p2p.lists_all,
        },
        gif_provider: config.gif.key.clone().map(|key| ProviderParts {
            url: config.gif.url.clone(),
            key,
            roots: config.outbound_roots.clone(),
        }),
        gifs: GifLimits {
            requests_per_minute: config.gif.peer_rate,
            address_requests_per_minute: config.gif.address_rate,
            calls_per_minute: config.gif.rate,
            patience: config.gif.timeout,
            kept_bytes: config.gif.cache_bytes,
            tracked: config.limits.tracked_addresses,
        },
        topics: p2p.gossip.topics.clone(),
        gossip: GossipLimits {
            messages_per_minute: p2p.gossip.rate,
            kib_per_minute: p2p.gossip.kib,
            address_messages_per_minute: p2p.gossip.address_rate,
            address_kib_per_minute: p2p.gossip.address_kib,
            sent_kib_per_minute: p2p.gossip.send_kib,
            waiting_kib: p2p.gossip.queue_kib.get() as usize,
            tracked: config.limits.tracked_addresses,
        },
        directory: DirectoryLimits {
            bytes: p2p.directory_bytes,
            life: p2p.directory_life,
            requests_per_minute: p2p.address_rate,
            requests_of_peer: p2p.peer_rate,
            tracked: config.limits.tracked_addresses,
            relays: p2p.directory_relays.clone(),
        },
        turn_credentials: turn_credentials(config),
    }
}

/// `None` if there is no TURN server, or it is switched off.
fn turn_credentials(config: &Config) -> Option<TurnCredentialsSettings> {
    let (turn, p2p) = (&config.turn, &config.p2p);
    let (secret, host) = turn.secret.clone().filter(|_| turn.enabled).zip(turn.host.as_ref())?;
    let (udp, tcp) = (with_port(host, turn.udp_port), with_port(host, turn.tcp_port));
    Some(TurnCredentialsSettings {
        secret,
        uris: vec![format!("turn:{udp}"), format!("turn:{tcp}?transport=tcp")],
        life: turn.credentials_life,
        requests_per_minute: p2p.address_rate,
        requests_of_peer: p2p.peer_rate,
        tracked: config.limits.tracked_addresses,
    })
}

pub fn edge(config: &Config) -> EdgeSettings {
    let limits = &config.limits;
    EdgeSettings {
        max_message_size: limits.max_message_size,
        max_body_size: limits.max_message_size,
        send_queue_bytes: limits.send_queue_bytes,
        messages_per_minute: Some(limits.connection_rate),
        handshake_timeout: limits.handshake_timeout,
        write_timeout: limits.write_timeout,
        idle_timeout: limits.idle_timeout,
        ..EdgeSettings::default()
    }
}

fn with_port(host: &str, port: u16) -> String {
    if host.contains(':') && !host.starts_with('[') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}
