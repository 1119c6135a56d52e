//! Mutual TLS 1.3 between the nodes of a cluster, with no certificates for the operator to look after.
//!
//! The cluster's secret gives every node the same certificate authority: key and subject are derived, and a
//! verifier looks at nothing else of a root. Each node signs itself a certificate for a key that it makes at
//! start and never stores. Both sides demand a certificate of that authority, so a connection stands only
//! between machines that know the secret. Whoever knows it may claim any node id: the secret is what a node is
//! trusted for, its id is an address. Changing the secret shuts out every certificate made with the old one.

use std::sync::Arc;

use aws_lc_rs::signature::Ed25519KeyPair;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PKCS_ED25519, date_time_ymd,
};
use rustls::client::WebPkiServerVerifier;
use rustls::crypto::CryptoProvider;
use rustls::server::WebPkiClientVerifier;
use rustls::version::TLS13;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};

use super::cluster_secret::{ClusterSecret, SecretError};
use crate::domain::ids::{ClusterId, NodeId};

/// The name that every node's certificate carries: to connect to whichever node answers.
pub const ANY_NODE: &str = "node.waystation.internal";

/// The protocol spoken inside: HTTP/2 (RFC 7301, RFC 9113).
const ALPN: &[u8] = b"h2";

/// Why there is no TLS between nodes. None of these depends on what the operator set.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// No key for the authority.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// The derived seed is no key.
    #[error("the key of the node authority was refused ({0}): report this as a bug")]
    Authority(String),
    /// A certificate could not be made.
    #[error("a node certificate could not be made: {0}")]
    Certificate(#[from] rcgen::Error),
    /// The TLS library refused the set-up.
    #[error("TLS between nodes could not be set up: {0}")]
    Setup(String),
}

/// Both ends of TLS between the nodes of one cluster.
#[derive(Debug, Clone)]
pub struct ClusterTls {
    /// For accepting other nodes.
    pub server: Arc<ServerConfig>,
    /// For connecting to them, under [`ClusterTls::any_node`] or [`ClusterTls::name_of`].
    pub client: Arc<ClientConfig>,
}

impl ClusterTls {
    /// Makes a fresh certificate for `node`, signed by the authority of `secret` and `cluster`.
    ///
    /// # Errors
    /// [`TlsError`], if the cryptographic libraries refuse.
    pub fn new(secret: &ClusterSecret, cluster: &ClusterId, node: &NodeId) -> Result<Self, TlsError> {
        let authority = authority(secret, cluster)?;
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let chain = vec![leaf(node)?.signed_by(&key, &authority)?.der().clone()];
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut roots = RootCertStore::empty();
        roots.add(authority.der().clone()).map_err(setup)?;
        let roots = Arc::new(roots);
        Ok(Self {
            server: Arc::new(server(&provider, &roots, chain.clone(), key.clone_key())?),
            client: Arc::new(client(&provider, &roots, chain, key)?),
        })
    }

    /// The server name that every node answers to.
    ///
    /// # Errors
    /// [`TlsError::Setup`], never for the constant it is made of.
    pub fn any_node() -> Result<ServerName<'static>, TlsError> {
        ServerName::try_from(ANY_NODE).map_err(setup)
    }

    /// The server name that only `node` answers to.
    ///
    /// # Errors
    /// [`TlsError::Setup`], if the name is too long for DNS; a valid [`NodeId`] never is.
    pub fn name_of(node: &NodeId) -> Result<ServerName<'static>, TlsError> {
        ServerName::try_from(dns_name(node)).map_err(setup)
    }
}

fn setup(error: impl std::fmt::Display) -> TlsError {
    TlsError::Setup(error.to_string())
}

/// The authority that all nodes share: only its key and subject count, see RFC 5280, section 6.1.1 (d).
fn authority(secret: &ClusterSecret, cluster: &ClusterId) -> Result<CertifiedIssuer<'static, KeyPair>, TlsError> {
    let refused = |error: &dyn std::fmt::Display| TlsError::Authority(error.to_string());
    let pair = Ed25519KeyPair::from_seed_unchecked(&secret.authority_seed(cluster)?).map_err(|e| refused(&e))?;
    let pkcs8 = pair.to_pkcs8().map_err(|e| refused(&e))?;
    let key = KeyPair::from_pkcs8_der_and_sign_algo(&PrivatePkcs8KeyDer::from(pkcs8.as_ref()), &PKCS_ED25519)?;
    let mut params = params(&format!("waystation cluster {cluster}"), Vec::new())?;
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    Ok(CertifiedIssuer::self_signed(params, key)?)
}

fn leaf(node: &NodeId) -> Result<CertificateParams, TlsError> {
    let mut params = params(node.as_str(), vec![ANY_NODE.to_owned(), dns_name(node)])?;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    Ok(params)
}

/// Validity is wide: a leaf's key dies with its process, so an end date would only add a way to fail when a
/// clock is wrong.
fn params(common_name: &str, alternative_names: Vec<String>) -> Result<CertificateParams, TlsError> {
    let mut params = CertificateParams::new(alternative_names)?;
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, common_name);
    params.not_before = date_time_ymd(2000, 1, 1);
    params.not_after = date_time_ymd(2200, 1, 1);
    Ok(params)
}

/// A node id as a DNS name. In hexadecimal, because ids may hold what DNS does not allow and differ only in
/// case; in labels of 62 characters, because 63 is the most (RFC 1035, section 2.3.4).
fn dns_name(node: &NodeId) -> String {
    let mut name = String::new();
    for part in node.as_str().as_bytes().chunks(31) {
        name.push_str(&hex::encode(part));
        name.push('.');
    }
    name + ANY_NODE
}

fn server(
    provider: &Arc<CryptoProvider>,
    roots: &Arc<RootCertStore>,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<ServerConfig, TlsError> {
    let verifier =
        WebPkiClientVerifier::builder_with_provider(roots.clone(), provider.clone()).build().map_err(setup)?;
    let mut config = ServerConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[&TLS13])
        .map_err(setup)?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, key)
        .map_err(setup)?;
    config.alpn_protocols = vec![ALPN.to_vec()];
    Ok(config)
}

fn client(
    provider: &Arc<CryptoProvider>,
    roots: &Arc<RootCertStore>,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<ClientConfig, TlsError> {
    let verifier =
        WebPkiServerVerifier::builder_with_provider(roots.clone(), provider.clone()).build().map_err(setup)?;
    let mut config = ClientConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[&TLS13])
        .map_err(setup)?
        .with_webpki_verifier(verifier)
        .with_client_auth_cert(chain, key)
        .map_err(setup)?;
    config.alpn_protocols = vec![ALPN.to_vec()];
    Ok(config)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio_rustls::{TlsAcceptor, TlsConnector};

    /// Each side starts from the operator's text, as two machines would.
    fn node(secret: &[u8], cluster: &str, node: &str) -> ClusterTls {
        let secret = ClusterSecret::from_text(secret).unwrap();
        ClusterTls::new(&secret, &cluster.parse().unwrap(), &node.parse().unwrap()).unwrap()
    }

    /// A handshake and one byte each way: TLS 1.3 lets a client believe in success before the server has
    /// looked at its certificate.
    async fn meet(server: &ClusterTls, client: &ClusterTls, name: ServerName<'static>) -> [io::Result<()>; 2] {
        let (near, far) = tokio::io::duplex(16 * 1024);
        let accept = async {
            let mut stream = TlsAcceptor::from(server.server.clone()).accept(far).await?;
            assert_eq!(stream.get_ref().1.alpn_protocol(), Some(ALPN));
            let byte = stream.read_u8().await?;
            stream.write_u8(byte).await?;
            stream.shutdown().await
        };
        let connect = async {
            let mut stream = TlsConnector::from(client.client.clone()).connect(name, near).await?;
            stream.write_u8(7).await?;
            assert_eq!(stream.read_u8().await?, 7);
            Ok(())
        };
        <[_; 2]>::from(tokio::join!(accept, connect))
    }

    const SECRET: &[u8] = b"correct horse battery staple";

    #[tokio::test]
    async fn nodes_of_one_secret_meet() {
        let (a, b) = (node(SECRET, "c", "a"), node(SECRET, "c", "b"));
        for (server, client) in [(&a, &b), (&b, &a)] {
            let ends = meet(server, client, ClusterTls::any_node().unwrap()).await;
            assert!(ends.iter().all(Result::is_ok), "{ends:?}");
        }
    }

    #[tokio::test]
    async fn another_secret_or_cluster_fails_on_both_sides() {
        let home = node(SECRET, "c", "a");
        for stranger in [node(b"another secret entirely", "c", "b"), node(SECRET, "d", "b")] {
            let ends = meet(&home, &stranger, ClusterTls::any_node().unwrap()).await;
            assert!(ends.iter().all(Result::is_err), "{ends:?}");
        }
    }

    #[tokio::test]
    async fn the_server_turns_away_a_client_without_a_certificate_of_the_cluster() {
        let (home, stranger) = (node(SECRET, "c", "a"), node(b"another secret entirely", "c", "b"));
        // A stranger that trusts the cluster's authority, so that only the server can refuse.
        let mut trusting = ClientConfig::clone(&home.client);
        trusting.client_auth_cert_resolver = stranger.client.client_auth_cert_resolver.clone();
        let trusting = ClusterTls { client: Arc::new(trusting), ..stranger };
        let ends = meet(&home, &trusting, ClusterTls::any_node().unwrap()).await;
        assert!(ends.iter().all(Result::is_err), "{ends:?}");
    }

    #[tokio::test]
    async fn a_node_is_not_taken_for_another() {
        let long = "N".repeat(64);
        let (a, b) = (node(SECRET, "c", &long), node(SECRET, "c", "b"));
        let right = meet(&a, &b, ClusterTls::name_of(&long.parse().unwrap()).unwrap()).await;
        assert!(right.iter().all(Result::is_ok), "{right:?}");
        let wrong = meet(&a, &b, ClusterTls::name_of(&"n".repeat(64).parse().unwrap()).unwrap()).await;
        assert!(wrong.iter().all(Result::is_err), "{wrong:?}");
    }
}
