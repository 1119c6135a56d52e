//! Certificates, keys and authorities from PEM (RFC 7468), and a server for operators of them.

use std::sync::Arc;

use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use super::reload::Fault;

/// The protocol spoken inside TLS: HTTP/2 (RFC 7301, RFC 9113).
pub(super) const ALPN: &[u8] = b"h2";

/// The places of the three files among those of a setting, in this order.
pub(super) const CERTIFICATE: usize = 0;
const KEY: usize = 1;
const AUTHORITIES: usize = 2;

/// What the files of a certificate, its key and, if there is a third, authorities hold.
pub(super) struct Material {
    /// The certificate, and those between it and its authority.
    pub chain: Vec<CertificateDer<'static>>,
    pub key: PrivateKeyDer<'static>,
    /// Whose certificates others must have.
    pub roots: Option<Arc<RootCertStore>>,
}

impl Material {
    pub fn read(contents: &[Vec<u8>]) -> Result<Self, Fault> {
        let file = |index: usize| contents.get(index).map(Vec::as_slice).unwrap_or_default();
        let chain = certificates(file(CERTIFICATE)).map_err(|reason| (CERTIFICATE, reason))?;
        let key = PrivateKeyDer::from_pem_slice(file(KEY))
            .map_err(|error| (KEY, format!("holds no private key in PEM: {error}")))?;
        let roots = contents.get(AUTHORITIES).map(|pem| roots(pem).map(Arc::new)).transpose();
        Ok(Self { chain, key, roots: roots.map_err(|reason| (AUTHORITIES, reason))? })
    }
}

fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let chain = chain.map_err(|error| error.to_string())?;
    if chain.is_empty() { Err("holds no certificate in PEM".to_owned()) } else { Ok(chain) }
}

fn roots(pem: &[u8]) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(pem)? {
        roots.add(certificate).map_err(|error| error.to_string())?;
    }
    Ok(roots)
}

/// Accepts TLS with the certificate and key of the first two files; if there is a third, from those only who have a
/// certificate of an authority in it.
///
/// # Errors
/// What is wrong, and with which file.
pub fn server(contents: &[Vec<u8>]) -> Result<ServerConfig, Fault> {
    let Material { chain, key, roots } = Material::read(contents)?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let unfit = |error: &dyn std::fmt::Display| (CERTIFICATE, error.to_string());
    let builder = ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|error| unfit(&error))?;
    let builder = match roots {
        None => builder.with_no_client_auth(),
        Some(roots) => builder.with_client_cert_verifier(
            WebPkiClientVerifier::builder_with_provider(roots, provider).build().map_err(|error| unfit(&error))?,
        ),
    };
    let mut config = builder.with_single_cert(chain, key).map_err(|error| unfit(&error))?;
    config.alpn_protocols = vec![ALPN.to_vec()];
    Ok(config)
}
