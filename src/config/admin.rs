//! Settings of the port for administration: where it is, and who may use it. Its files are read here.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use super::error::ConfigError;
use super::file;
use super::parse;
use super::secret::Secret;
use super::setting::Setting;
use super::table;
use super::values::Values;

/// A longer file is no key, certificate or token that somebody meant, in bytes.
const MAX_FILE_BYTES: u64 = 256 * 1024;

/// The folder for backups in the data folder, unless another is set.
const BACKUPS: &str = "backups";

/// The protocol spoken inside TLS: HTTP/2 (RFC 7301, RFC 9113).
const ALPN: &[u8] = b"h2";

/// The port for administration. On anything but loopback it asks for a token or a certificate.
#[derive(Debug, Clone)]
pub struct AdminConfig {
    /// Where it is; port 0 picks a free one.
    pub listen: SocketAddr,
    /// What whoever calls must show; `None`: nothing.
    pub token: Option<Secret>,
    /// TLS; `None`: plain text.
    pub tls: Option<AdminTls>,
    /// The folder below which backups are made.
    pub backups: PathBuf,
}

/// TLS of the port for administration.
#[derive(Debug, Clone)]
pub struct AdminTls {
    /// The certificate, its key, and whose certificates callers must have.
    pub server: Arc<ServerConfig>,
    /// Whether callers must have one.
    pub mutual: bool,
}

impl AdminConfig {
    /// Reads and checks them all; what is wrong is reported together.
    pub(super) fn read(values: &Values) -> Result<Self, Vec<ConfigError>> {
        let (listen, token, tls) = (values.address(&table::ADMIN_ADDR), token(values), tls(values));
        let backups = backups(values);
        match (listen, token, tls, backups) {
            (Ok(listen), Ok(token), Ok(tls), Ok(backups)) => {
                let proven = token.is_some() || tls.as_ref().is_some_and(|tls| tls.mutual);
                if !proven && !listen.ip().is_loopback() {
                    return Err(vec![ConfigError::NeedsAdminProof]);
                }
                Ok(Self { listen, token, tls, backups })
            }
            (listen, token, tls, backups) => {
                let errors = [listen.err(), token.err(), tls.err(), backups.err()];
                // A value that has been refused is reported already.
                let known = |error: &ConfigError| matches!(error, ConfigError::Missing { setting, .. } if values.is_faulty_name(setting));
                Err(errors.into_iter().flatten().filter(|error| !known(error)).collect())
            }
        }
    }
}

fn backups(values: &Values) -> Result<PathBuf, ConfigError> {
    match values.optional(&table::BACKUP_DIR, parse::path)? {
        Some(path) => Ok(path),
        None => Ok(values.required(&table::DATA_DIR, parse::path)?.join(BACKUPS)),
    }
}

fn token(values: &Values) -> Result<Option<Secret>, ConfigError> {
    let setting = &table::ADMIN_TOKEN_FILE;
    let Some(path) = values.optional(setting, parse::path)? else { return Ok(None) };
    let token = file::read(&path, MAX_FILE_BYTES).and_then(|bytes| {
        let text = std::str::from_utf8(bytes.trim_ascii()).ok();
        let long = text.filter(|text| text.len() >= parse::MIN_SECRET_BYTES);
        long.and_then(parse::token).ok_or_else(|| {
            format!("must hold at least {} visible ASCII characters without spaces", parse::MIN_SECRET_BYTES)
        })
    });
    token.map(Some).map_err(|reason| ConfigError::named_file(setting, path, reason))
}

fn tls(values: &Values) -> Result<Option<AdminTls>, ConfigError> {
    let path = |setting: &Setting| values.optional(setting, parse::path);
    let paths = (path(&table::ADMIN_TLS_CERT)?, path(&table::ADMIN_TLS_KEY)?, path(&table::ADMIN_TLS_CA)?);
    let (certificate, key, authorities) = match paths {
        (None, None, None) => return Ok(None),
        (Some(certificate), Some(key), authorities) => (certificate, key, authorities),
        _ => return Err(ConfigError::HalfAdminTls),
    };
    let chain = certificates(&table::ADMIN_TLS_CERT, &certificate)?;
    let key = private_key(&key)?;
    let mutual = authorities.is_some();
    let roots = authorities.map(|path| roots(&path)).transpose()?;
    let server = server(chain, key, roots)
        .map_err(|reason| ConfigError::named_file(&table::ADMIN_TLS_CERT, certificate, reason))?;
    Ok(Some(AdminTls { server: Arc::new(server), mutual }))
}

fn certificates(setting: &Setting, path: &Path) -> Result<Vec<CertificateDer<'static>>, ConfigError> {
    let read = || {
        let pem = file::read(path, MAX_FILE_BYTES)?;
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
        let chain = chain.map_err(|error| error.to_string())?;
        if chain.is_empty() { Err("holds no certificate in PEM".to_owned()) } else { Ok(chain) }
    };
    read().map_err(|reason| ConfigError::named_file(setting, path.to_owned(), reason))
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, ConfigError> {
    let read = || {
        let pem = file::read(path, MAX_FILE_BYTES)?;
        PrivateKeyDer::from_pem_slice(&pem).map_err(|error| format!("holds no private key in PEM: {error}"))
    };
    read().map_err(|reason| ConfigError::named_file(&table::ADMIN_TLS_KEY, path.to_owned(), reason))
}

fn roots(path: &Path) -> Result<RootCertStore, ConfigError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(&table::ADMIN_TLS_CA, path)? {
        roots
            .add(certificate)
            .map_err(|error| ConfigError::named_file(&table::ADMIN_TLS_CA, path.to_owned(), error.to_string()))?;
    }
    Ok(roots)
}

fn server(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    roots: Option<RootCertStore>,
) -> Result<ServerConfig, String> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?;
    let builder = match roots {
        None => builder.with_no_client_auth(),
        Some(roots) => builder.with_client_cert_verifier(
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
                .build()
                .map_err(|error| error.to_string())?,
        ),
    };
    let mut config = builder.with_single_cert(chain, key).map_err(|error| error.to_string())?;
    config.alpn_protocols = vec![ALPN.to_vec()];
    Ok(config)
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair};

    use crate::config::Config;

    const ELSEWHERE: (&str, &str) = ("RELAY_ADMIN_ADDR", "0.0.0.0:9091");

    fn told(pairs: &[(&str, &str)]) -> String {
        Config::from_pairs(pairs.iter().copied()).map(|_| ()).unwrap_err().to_string()
    }

    /// A certificate for itself and its key, in files.
    fn files() -> (tempfile::TempDir, [String; 2]) {
        let dir = tempfile::tempdir().unwrap();
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(vec!["relay".to_owned()]).unwrap().self_signed(&key).unwrap();
        let names = ["cert.pem", "key.pem"].map(|name| dir.path().join(name));
        std::fs::write(&names[0], certificate.pem()).unwrap();
        std::fs::write(&names[1], key.serialize_pem()).unwrap();
        (dir, names.map(|name| name.to_str().unwrap().to_owned()))
    }

    #[test]
    fn strangers_reach_it_only_with_a_token_or_a_certificate() {
        let (_dir, [cert, key]) = files();
        assert!(Config::from_pairs([]).unwrap().admin.listen.ip().is_loopback());
        assert!(told(&[ELSEWHERE]).contains("RELAY_ADMIN_TOKEN_FILE"));
        let tls = [("RELAY_ADMIN_TLS_CERT", cert.as_str()), ("RELAY_ADMIN_TLS_KEY", key.as_str())];
        assert!(told(&[ELSEWHERE, tls[0], tls[1]]).contains("RELAY_ADMIN_TOKEN_FILE"), "anybody may use that");
        Config::from_pairs([ELSEWHERE, tls[0], tls[1], ("RELAY_ADMIN_TLS_CA", cert.as_str())]).unwrap();
        let token = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(token.path(), "0123456789abcdef\n").unwrap();
        let token = ("RELAY_ADMIN_TOKEN_FILE", token.path().to_str().unwrap());
        let config = Config::from_pairs([ELSEWHERE, token]).unwrap();
        assert_eq!(config.admin.token.unwrap().expose(), b"0123456789abcdef");
    }

    #[test]
    fn what_is_wrong_with_its_files_is_told_with_their_setting() {
        let (dir, [cert, key]) = files();
        let short = dir.path().join("short");
        std::fs::write(&short, "too short").unwrap();
        let short = short.to_str().unwrap();
        let shown = told(&[("RELAY_ADMIN_TOKEN_FILE", short)]);
        assert!(shown.contains("RELAY_ADMIN_TOKEN_FILE") && shown.contains("16"), "{shown}");
        assert!(told(&[("RELAY_ADMIN_TLS_CERT", &cert)]).contains("RELAY_ADMIN_TLS_KEY"));
        let shown = told(&[("RELAY_ADMIN_TLS_CERT", &cert), ("RELAY_ADMIN_TLS_KEY", &cert)]);
        assert!(shown.contains("RELAY_ADMIN_TLS_KEY") && shown.contains("no private key"), "{shown}");
        let (_other, [_, foreign]) = files();
        let shown = told(&[("RELAY_ADMIN_TLS_CERT", &cert), ("RELAY_ADMIN_TLS_KEY", &foreign)]);
        assert!(shown.contains("RELAY_ADMIN_TLS_CERT"), "{shown}");
        let ca =
            [("RELAY_ADMIN_TLS_CERT", cert.as_str()), ("RELAY_ADMIN_TLS_KEY", &key), ("RELAY_ADMIN_TLS_CA", short)];
        assert!(told(&ca).contains("RELAY_ADMIN_TLS_CA"));
    }

    #[test]
    fn an_address_that_is_none_is_told_once() {
        assert_eq!(told(&[("RELAY_ADMIN_ADDR", "nowhere")]).lines().count(), 1);
    }
}
