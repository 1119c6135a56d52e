//! Servers with certificates of an authority that no machine trusts unless it is told to.

use std::path::PathBuf;
use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, KeyUsagePurpose, SanType, date_time_ymd,
};
use rustls::ServerConfig;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tempfile::TempDir;
use tokio_rustls::TlsAcceptor;

/// Has TLS of this process use the provider that the relay uses.
pub fn choose_provider() {
    // Fails when another test was first, which is as good.
    rustls::crypto::aws_lc_rs::default_provider().install_default().ok();
}

/// An authority, and the file with its certificate that `RELAY_OUTBOUND_CA_FILE` takes.
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    folder: TempDir,
}

impl Authority {
    /// A new authority.
    pub fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let authority = Self {
            issuer: CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap(),
            folder: tempfile::tempdir().unwrap(),
        };
        std::fs::write(authority.path(), authority.issuer.pem()).unwrap();
        authority
    }

    /// The file with its certificate.
    pub fn file(&self) -> String {
        self.path().to_str().unwrap().to_owned()
    }

    /// A certificate for the host `name`, and its key, both in PEM.
    pub fn certify(&self, name: &str) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(vec![name.to_owned()]).unwrap().signed_by(&key, &self.issuer).unwrap();
        (certificate.pem(), key.serialize_pem())
    }

    /// A certificate whose subject has the common name `name`, and its key, both in PEM.
    pub fn certify_as(&self, name: &str) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        (certificate.pem(), key.serialize_pem())
    }

    /// A certificate with these names and the last day of that year, and its key, both in PEM. A name with a colon is a
    /// URI.
    pub fn certify_until(&self, names: &[&str], year: i32) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        let name = |name: &&str| match name.contains(':') {
            true => SanType::URI((*name).try_into().unwrap()),
            false => SanType::DnsName((*name).try_into().unwrap()),
        };
        params.subject_alt_names = names.iter().map(name).collect();
        (params.not_before, params.not_after) = (date_time_ymd(2000, 1, 1), date_time_ymd(year, 12, 31));
        (params.signed_by(&key, &self.issuer).unwrap().pem(), key.serialize_pem())
    }

    /// Its certificate, in PEM.
    pub fn pem(&self) -> String {
        self.issuer.pem()
    }

    /// Accepts TLS as the host `name`.
    pub fn acceptor(&self, name: &str) -> TlsAcceptor {
        let (certificate, key) = self.certify(name);
        let certificate = CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap();
        let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate], key)
            .unwrap();
        Arc::new(config).into()
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("authority.pem")
    }
}

/// Files of a node: its certificate, the key, and the authorities that it trusts.
pub struct TlsFiles {
    folder: TempDir,
}

impl TlsFiles {
    /// A certificate of `authority` with these names, and its key; that authority is trusted.
    pub fn new(authority: &Authority, names: &[&str]) -> Self {
        Self::with(&authority.certify_until(names, 2199), &authority.pem())
    }

    /// These contents.
    pub fn with(certified: &(String, String), authorities: &str) -> Self {
        let this = Self { folder: tempfile::tempdir().unwrap() };
        this.write_certified(certified);
        this.write("ca.pem", authorities);
        this
    }

    /// Replaces a file, as programs do that renew certificates: it is never seen in part.
    pub fn write(&self, name: &str, text: &str) {
        let new = self.folder.path().join("new");
        std::fs::write(&new, text).unwrap();
        std::fs::rename(new, self.folder.path().join(name)).unwrap();
    }

    /// Replaces the certificate and its key.
    pub fn write_certified(&self, (certificate, key): &(String, String)) {
        self.write("cert.pem", certificate);
        self.write("key.pem", key);
    }

    /// The path of a file.
    pub fn path(&self, name: &str) -> String {
        self.folder.path().join(name).to_str().unwrap().to_owned()
    }

    /// The settings that name them, which begin with `prefix`.
    pub fn settings(&self, prefix: &str) -> Vec<(String, String)> {
        let setting = |(name, file): (&str, &str)| (format!("{prefix}_{name}"), self.path(file));
        [("CERT", "cert.pem"), ("KEY", "key.pem"), ("CA", "ca.pem")].map(setting).into()
    }
}
