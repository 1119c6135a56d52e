//! Settings of the port for administration: where it is, and who may use it. Its files are read here.

use std::net::SocketAddr;
use std::path::PathBuf;

use rustls::ServerConfig;

use super::check::reloaded;
use super::error::ConfigError;
use super::parse;
use super::secret::Secret;
use super::setting::Setting;
use super::table;
use super::values::Values;
use crate::security::pem;
use crate::security::reload::{Fault, Reloaded};

/// The folder for backups in the data folder, unless another is set.
const BACKUPS: &str = "backups";

/// The port for administration. On anything but loopback it asks for a token or a certificate.
#[derive(Debug, Clone)]
pub struct AdminConfig {
    /// Where it is; port 0 picks a free one.
    pub listen: SocketAddr,
    /// What whoever calls must show; `None`: nothing.
    pub token: Option<Reloaded<Secret>>,
    /// TLS; `None`: plain text.
    pub tls: Option<Reloaded<ServerConfig>>,
    /// The folder below which backups are made.
    pub backups: PathBuf,
}

impl AdminConfig {
    /// Reads and checks them all; what is wrong is reported together.
    pub(super) fn read(values: &Values) -> Result<Self, Vec<ConfigError>> {
        let (listen, token, tls) = (values.address(&table::ADMIN_ADDR), token(values), tls(values));
        let backups = backups(values);
        match (listen, token, tls, backups) {
            (Ok(listen), Ok(token), Ok((tls, mutual)), Ok(backups)) => {
                let proven = token.is_some() || mutual;
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

fn token(values: &Values) -> Result<Option<Reloaded<Secret>>, ConfigError> {
    let setting = &table::ADMIN_TOKEN_FILE;
    let Some(path) = values.optional(setting, parse::path)? else { return Ok(None) };
    reloaded("the token of operators", &[(setting, path)], read_token).map(Some)
}

fn read_token(contents: &[Vec<u8>]) -> Result<Secret, Fault> {
    let text = contents.first().and_then(|bytes| std::str::from_utf8(bytes.trim_ascii()).ok());
    let long = text.filter(|text| text.len() >= parse::MIN_SECRET_BYTES);
    long.and_then(parse::token).ok_or_else(|| {
        let least = parse::MIN_SECRET_BYTES;
        (0, format!("must hold at least {least} visible ASCII characters without spaces"))
    })
}

/// TLS, and whether callers must have a certificate.
fn tls(values: &Values) -> Result<(Option<Reloaded<ServerConfig>>, bool), ConfigError> {
    let path = |setting: &Setting| values.optional(setting, parse::path);
    let paths = (path(&table::ADMIN_TLS_CERT)?, path(&table::ADMIN_TLS_KEY)?, path(&table::ADMIN_TLS_CA)?);
    let (certificate, key, authorities) = match paths {
        (None, None, None) => return Ok((None, false)),
        (Some(certificate), Some(key), authorities) => (certificate, key, authorities),
        _ => return Err(ConfigError::HalfAdminTls),
    };
    let mutual = authorities.is_some();
    let mut files = vec![(&table::ADMIN_TLS_CERT, certificate), (&table::ADMIN_TLS_KEY, key)];
    files.extend(authorities.map(|path| (&table::ADMIN_TLS_CA, path)));
    Ok((Some(reloaded("certificates of the operators' port", &files, pem::server)?), mutual))
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
        assert_eq!(config.admin.token.unwrap().current().expose(), b"0123456789abcdef");
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
