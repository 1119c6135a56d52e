//! Mutual TLS 1.3 between clusters, with certificates that their operators make.
//!
//! Either side demands a certificate of an authority that it trusts, good at this moment. Host names are not looked at:
//! behind one address there may be many nodes, each with a certificate of its own. For which relay a certificate may
//! speak is another question: see [`relay_certificate`](super::relay_certificate). Nothing is resumed, so that every
//! connection is judged by the certificates of its time.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, verify_server_cert_signed_by_trust_anchor};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, verify_tls13_signature};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, ParsedCertificate, WebPkiClientVerifier};
use rustls::version::TLS13;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, PeerIncompatible, RootCertStore, ServerConfig,
    SignatureScheme,
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use super::pem::{ALPN, CERTIFICATE, Material};
use super::reload::Fault;

/// Both ends of TLS between clusters.
pub struct PeerTls {
    /// For being called.
    pub server: Arc<ServerConfig>,
    /// For calling, under any name.
    pub client: Arc<ClientConfig>,
    callers: Arc<dyn ClientCertVerifier>,
    called: Arc<OfAuthority>,
}

/// The certificates that the other side of a connection showed, its own first; none without TLS.
#[derive(Debug, Clone, Default)]
pub struct Shown(Arc<[CertificateDer<'static>]>);

impl Shown {
    /// Those of a connection.
    #[must_use]
    pub fn of(connection: &rustls::CommonState) -> Self {
        Self(connection.peer_certificates().unwrap_or_default().into())
    }

    /// Its own.
    #[must_use]
    pub fn leaf(&self) -> Option<&CertificateDer<'static>> {
        self.0.first()
    }

    fn parts(&self) -> Result<(&CertificateDer<'static>, &[CertificateDer<'static>]), Error> {
        self.0.split_first().ok_or(Error::NoCertificatesPresented)
    }
}

impl PeerTls {
    /// Of the contents of three files: a certificate, its key, and the authorities of others' certificates.
    ///
    /// # Errors
    /// What is wrong, and with which file.
    pub fn from_files(contents: &[Vec<u8>]) -> Result<Self, Fault> {
        let Material { chain, key, roots } = Material::read(contents)?;
        let roots = roots.unwrap_or_else(|| Arc::new(RootCertStore::empty()));
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let unfit = |error: &dyn std::fmt::Display| (CERTIFICATE, error.to_string());
        let callers = WebPkiClientVerifier::builder_with_provider(roots.clone(), provider.clone()).build();
        let callers = callers.map_err(|error| unfit(&error))?;
        let called = Arc::new(OfAuthority { roots, algorithms: provider.signature_verification_algorithms });
        let server = server(&provider, callers.clone(), chain.clone(), key.clone_key());
        let client = client(&provider, called.clone(), chain, key);
        Ok(Self {
            server: Arc::new(server.map_err(|error| unfit(&error))?),
            client: Arc::new(client.map_err(|error| unfit(&error))?),
            callers,
            called,
        })
    }

    /// Whether what a caller showed is good, now.
    ///
    /// # Errors
    /// Why not.
    pub fn check_caller(&self, shown: &Shown) -> Result<(), Error> {
        let (leaf, others) = shown.parts()?;
        self.callers.verify_client_cert(leaf, others, UnixTime::now()).map(drop)
    }

    /// Whether what somebody showed who was called is good, now.
    ///
    /// # Errors
    /// Why not.
    pub fn check_called(&self, shown: &Shown) -> Result<(), Error> {
        let (leaf, others) = shown.parts()?;
        self.called.check(leaf, others, UnixTime::now())
    }
}

type Chain = Vec<CertificateDer<'static>>;
type Key = rustls_pki_types::PrivateKeyDer<'static>;

fn server(
    provider: &Arc<CryptoProvider>,
    verifier: Arc<dyn ClientCertVerifier>,
    chain: Chain,
    key: Key,
) -> Result<ServerConfig, Error> {
    let mut config = ServerConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[&TLS13])?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, key)?;
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(config)
}

fn client(
    provider: &Arc<CryptoProvider>,
    verifier: Arc<OfAuthority>,
    chain: Chain,
    key: Key,
) -> Result<ClientConfig, Error> {
    let mut config = ClientConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[&TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_client_auth_cert(chain, key)?;
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.resumption = Resumption::disabled();
    Ok(config)
}

/// That a certificate is one of an authority, for servers, and good now; for whichever host.
#[derive(Debug)]
struct OfAuthority {
    roots: Arc<RootCertStore>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl OfAuthority {
    fn check(&self, leaf: &CertificateDer<'_>, others: &[CertificateDer<'_>], now: UnixTime) -> Result<(), Error> {
        let leaf = ParsedCertificate::try_from(leaf)?;
        verify_server_cert_signed_by_trust_anchor(&leaf, &self.roots, others, now, self.algorithms.all)
    }
}

impl ServerCertVerifier for OfAuthority {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.check(end_entity, intermediates, now).map(|()| ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::PeerIncompatible(PeerIncompatible::Tls12NotOffered))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// Why a handshake failed, in one word for figures.
#[must_use]
pub fn fault(error: &std::io::Error) -> &'static str {
    use CertificateError::{BadSignature, Expired, ExpiredContext, NotValidYet, NotValidYetContext, UnknownIssuer};
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>());
    match inner {
        Some(Error::NoCertificatesPresented) => "no_certificate",
        Some(Error::InvalidCertificate(UnknownIssuer | BadSignature)) => "unknown_authority",
        Some(Error::InvalidCertificate(Expired | ExpiredContext { .. } | NotValidYet | NotValidYetContext { .. })) => {
            "expired"
        }
        Some(Error::InvalidCertificate(_)) => "bad_certificate",
        _ if error.kind() == std::io::ErrorKind::TimedOut => "timeout",
        _ if error.kind() == std::io::ErrorKind::QuotaExceeded => "connections",
        _ => "tls",
    }
}
