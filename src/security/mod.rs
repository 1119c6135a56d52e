//! Who may come in, how often, and how it is proven who they are.

pub mod address;
pub mod admission;
pub mod certificate;
pub mod cluster_secret;
pub mod ed25519;
pub mod file;
pub mod limiter;
pub mod noise;
pub mod outbound;
pub mod peer_tls;
pub mod pem;
pub mod proxies;
pub mod relay_certificate;
pub mod reload;
pub mod tls;
pub mod turn_password;
