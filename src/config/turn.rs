//! Settings of TURN. The file with the secret is read here.

use std::time::Duration;

use super::check;
use super::error::ConfigError;
use super::parse;
use super::secret::Secret;
use super::table;
use super::values::Values;

/// A TURN server that takes time-limited credentials.
#[derive(Debug, Clone)]
pub struct TurnConfig {
    /// Whether credentials for it are given.
    pub enabled: bool,
    /// What it knows as well; `None`: no credentials are given.
    pub secret: Option<Secret>,
    /// Where clients reach it; there is one if there is a secret and it is enabled.
    pub host: Option<String>,
    /// Its port for UDP.
    pub udp_port: u16,
    /// Its port for TCP.
    pub tcp_port: u16,
    /// How long credentials hold.
    pub credentials_life: Duration,
}

impl TurnConfig {
    pub(super) fn read(values: &Values) -> Result<Self, ConfigError> {
        let enabled = values.required(&table::TURN_ENABLED, parse::boolean)?;
        let secret = check::secret(values, &table::TURN_SECRET, &table::TURN_SECRET_FILE)?;
        let host = match values.optional(&table::TURN_PUBLIC_HOST, parse::host)? {
            Some(host) => Some(host),
            None => values.optional(&table::TURN_PUBLIC_IP, parse::host)?,
        };
        // A host that has been refused is reported already.
        let hosts = [&table::TURN_PUBLIC_HOST, &table::TURN_PUBLIC_IP];
        if enabled && secret.is_some() && host.is_none() && !hosts.iter().any(|setting| values.is_faulty(setting)) {
            return Err(ConfigError::NeedsTurnHost);
        }
        Ok(Self {
            enabled,
            secret,
            host,
            udp_port: values.integer(&table::TURN_UDP_PORT)?,
            tcp_port: values.integer(&table::TURN_TCP_PORT)?,
            credentials_life: values.duration(&table::TURN_CREDENTIALS_TTL_SECS)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use crate::config::{Config, TurnConfig};

    const SECRET: &str = "0123456789abcdef";

    fn turn(pairs: &[(&str, &str)]) -> TurnConfig {
        Config::from_pairs(pairs.iter().copied()).unwrap().turn
    }

    fn error(pairs: &[(&str, &str)]) -> String {
        Config::from_pairs(pairs.iter().copied()).unwrap_err().to_string()
    }

    #[test]
    fn empty_is_unset() {
        let none = turn(&[("DUSK_TURN_SECRET", ""), ("DUSK_TURN_PUBLIC_HOST", ""), ("DUSK_TURN_PUBLIC_IP", " ")]);
        assert!(none.secret.is_none() && none.host.is_none());
    }

    #[test]
    fn it_is_switched_off_whatever_else_is_set() {
        let secret = ("DUSK_TURN_SECRET", SECRET);
        for off in ["false", "0"] {
            assert!(!turn(&[("DUSK_TURN_ENABLED", off), secret]).enabled, "{off}");
        }
        assert!(turn(&[secret, ("DUSK_TURN_PUBLIC_IP", "192.0.2.1")]).enabled);
        assert!(error(&[("RELAY_TURN_ENABLED", "perhaps")]).contains("RELAY_TURN_ENABLED"));
    }

    #[test]
    fn the_address_stands_in_for_the_host() {
        let both = [("DUSK_TURN_PUBLIC_IP", "192.0.2.1"), ("DUSK_TURN_PUBLIC_HOST", "turn.example")];
        assert_eq!(turn(&both).host.as_deref(), Some("turn.example"));
        assert_eq!(turn(&both[..1]).host.as_deref(), Some("192.0.2.1"));
    }

    #[test]
    fn a_secret_needs_a_host_and_comes_from_one_place() {
        let host = ("RELAY_TURN_PUBLIC_HOST", "turn.example");
        assert!(error(&[("RELAY_TURN_SECRET", SECRET)]).contains("RELAY_TURN_PUBLIC_HOST"));
        let unspecified = error(&[("RELAY_TURN_SECRET", SECRET), ("DUSK_TURN_PUBLIC_IP", "0.0.0.0")]);
        assert!(unspecified.lines().count() == 1 && unspecified.contains("DUSK_TURN_PUBLIC_IP"), "{unspecified}");
        let short = error(&[("RELAY_TURN_SECRET", "north"), host]);
        assert!(short.contains("at least 16 bytes") && !short.contains("north"), "{short}");
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secret");
        std::fs::write(&path, format!("{SECRET}\n")).unwrap();
        let file = ("RELAY_TURN_SECRET_FILE", path.to_str().unwrap());
        assert_eq!(turn(&[file, host]).secret.unwrap().expose(), SECRET.as_bytes());
        assert!(error(&[file, host, ("RELAY_TURN_SECRET", SECRET)]).contains("not both"));
        std::fs::write(&path, "short").unwrap();
        assert!(error(&[file, host]).contains(file.1));
    }
}
