//! Whom calls out of the relay trust: the public authorities, and besides them those of the operator.

use std::fmt::Display;
use std::path::Path;
use std::sync::Arc;

use rustls::RootCertStore;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

use super::error::ConfigError;
use super::parse;
use super::table::OUTBOUND_CA_FILE;
use super::values::Values;
use crate::security::file;

/// A longer file is no bundle that somebody meant, in bytes: the public authorities are a quarter of it.
const MAX_BUNDLE_BYTES: u64 = 1024 * 1024;

/// The roots of Mozilla's programme, and every certificate in the operator's bundle.
pub(super) fn read(values: &Values) -> Result<Arc<RootCertStore>, ConfigError> {
    let mut roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    if let Some(path) = values.optional(&OUTBOUND_CA_FILE, parse::path)? {
        add(&mut roots, &path).map_err(|reason| ConfigError::named_file(&OUTBOUND_CA_FILE, path, reason))?;
    }
    Ok(Arc::new(roots))
}

fn add(roots: &mut RootCertStore, bundle: &Path) -> Result<(), String> {
    let pem = file::read(bundle, MAX_BUNDLE_BYTES)?;
    let public = roots.len();
    for (index, certificate) in CertificateDer::pem_slice_iter(&pem).enumerate() {
        let unusable = |error: &dyn Display| format!("certificate {} cannot be used: {error}", index + 1);
        let certificate = certificate.map_err(|error| unusable(&error))?;
        roots.add(certificate).map_err(|error| unusable(&error))?;
    }
    if roots.len() == public { Err("holds no certificate in PEM".to_owned()) } else { Ok(()) }
}
