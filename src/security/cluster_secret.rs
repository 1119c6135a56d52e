//! The secret that makes a machine a node of the cluster, and the keys derived from it.
//!
//! Everything is HKDF-SHA256 (RFC 5869) with a label for each purpose and the cluster id, so that two clusters
//! of one secret share no key. HKDF does not slow down guessing: the secret must be random (`openssl rand -hex
//! 32`), not a password.

use std::fmt;

use aws_lc_rs::hkdf::{HKDF_SHA256, Prk, Salt};

use crate::domain::ids::ClusterId;

/// Shortest secret, in bytes.
pub const MIN_SECRET_BYTES: usize = 16;

const SALT: &[u8] = b"waystation cluster secret v1";
const GOSSIP: &[u8] = b"gossip aead";
const AUTHORITY: &[u8] = b"node certificate authority";
const NOISE: &[u8] = b"noise static key";

/// Why no keys come of the operator's text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SecretError {
    /// Fewer than [`MIN_SECRET_BYTES`].
    #[error("the cluster secret has {0} bytes: give at least 16, best 32 random ones (`openssl rand -hex 32`)")]
    Short(usize),
    /// The cryptographic library refused; it does so for lengths only, which are fixed here.
    #[error("keys could not be derived from the cluster secret: report this as a bug")]
    Derivation,
}

/// What the keys of a cluster are derived from. Never printed, zeroised when dropped.
#[derive(Clone)]
pub struct ClusterSecret {
    root: Prk,
    protects: bool,
}

impl fmt::Debug for ClusterSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClusterSecret").field("protects", &self.protects).finish_non_exhaustive()
    }
}

impl ClusterSecret {
    /// From the operator's secret: any bytes, but not fewer than [`MIN_SECRET_BYTES`].
    ///
    /// # Errors
    /// [`SecretError::Short`].
    pub fn from_text(text: &[u8]) -> Result<Self, SecretError> {
        if text.len() < MIN_SECRET_BYTES {
            return Err(SecretError::Short(text.len()));
        }
        Ok(Self { root: Salt::new(HKDF_SHA256, SALT).extract(text), protects: true })
    }

    /// For nodes that talk over loopback only: whoever knows the cluster id knows the keys. It keeps two
    /// clusters on one machine apart and claims no security.
    #[must_use]
    pub fn unprotected() -> Self {
        Self { root: Salt::new(HKDF_SHA256, SALT).extract(b""), protects: false }
    }

    /// Whether the keys keep anybody out. If not, nothing but loopback may be bound with them.
    #[must_use]
    pub fn protects(&self) -> bool {
        self.protects
    }

    /// The key that gossip is sealed with.
    ///
    /// # Errors
    /// [`SecretError::Derivation`].
    pub fn gossip_key(&self, cluster: &ClusterId) -> Result<[u8; 32], SecretError> {
        self.derive(GOSSIP, cluster)
    }

    /// The Ed25519 seed of the authority that signs the nodes' certificates.
    ///
    /// # Errors
    /// [`SecretError::Derivation`].
    pub(super) fn authority_seed(&self, cluster: &ClusterId) -> Result<[u8; 32], SecretError> {
        self.derive(AUTHORITY, cluster)
    }

    /// The private half of the [`StaticKey`](super::noise::StaticKey) that clients know every node of the cluster by.
    ///
    /// # Errors
    /// [`SecretError::Derivation`].
    pub fn noise_key(&self, cluster: &ClusterId) -> Result<[u8; 32], SecretError> {
        self.derive(NOISE, cluster)
    }

    fn derive(&self, label: &[u8], cluster: &ClusterId) -> Result<[u8; 32], SecretError> {
        let info = [label, b"\0", cluster.as_str().as_bytes()];
        let mut key = [0; 32];
        let okm = self.root.expand(&info, HKDF_SHA256).map_err(|_| SecretError::Derivation)?;
        okm.fill(&mut key).map_err(|_| SecretError::Derivation)?;
        Ok(key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cluster(name: &str) -> ClusterId {
        name.parse().unwrap()
    }

    #[test]
    fn a_short_secret_is_refused_with_advice() {
        let error = ClusterSecret::from_text(b"fifteen bytes..").unwrap_err();
        assert_eq!(error, SecretError::Short(15));
        assert!(error.to_string().contains("openssl rand"));
        assert!(ClusterSecret::from_text(b"sixteen bytes...").is_ok());
    }

    #[test]
    fn purpose_cluster_and_secret_each_make_another_key() {
        let one = ClusterSecret::from_text(b"correct horse battery staple").unwrap();
        let two = ClusterSecret::from_text(b"correct horse battery stable").unwrap();
        let keys = [
            one.gossip_key(&cluster("a")).unwrap(),
            one.gossip_key(&cluster("b")).unwrap(),
            one.authority_seed(&cluster("a")).unwrap(),
            one.noise_key(&cluster("a")).unwrap(),
            two.gossip_key(&cluster("a")).unwrap(),
            ClusterSecret::unprotected().gossip_key(&cluster("a")).unwrap(),
        ];
        for (i, key) in keys.iter().enumerate() {
            assert!(keys.iter().skip(i + 1).all(|other| other != key), "key {i} comes twice");
        }
    }

    #[test]
    fn every_node_derives_the_same() {
        let key = || ClusterSecret::from_text(b"correct horse battery staple").unwrap().gossip_key(&cluster("a"));
        assert_eq!(key(), key());
    }

    #[test]
    fn debug_shows_no_secret() {
        let secret = ClusterSecret::from_text(b"correct horse battery staple").unwrap();
        assert_eq!(format!("{secret:?}"), "ClusterSecret { protects: true, .. }");
    }
}
