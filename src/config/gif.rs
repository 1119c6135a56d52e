//! Settings of the search for GIFs.

use std::num::NonZeroU32;
use std::time::Duration;

use http::Uri;

use super::check;
use super::error::ConfigError;
use super::parse;
use super::secret::Secret;
use super::table;
use super::values::Values;

/// Settings of the search for GIFs.
#[derive(Debug, Clone)]
pub struct GifConfig {
    /// The provider's key; `None`: it is not asked.
    pub key: Option<Secret>,
    /// Where it is asked.
    pub url: Uri,
    /// How long it may take.
    pub timeout: Duration,
    /// Calls to it, per minute.
    pub rate: NonZeroU32,
    /// Searches of one peer, per minute.
    pub peer_rate: NonZeroU32,
    /// Searches from one address, per minute.
    pub address_rate: NonZeroU32,
    /// Memory for what was found, in bytes.
    pub cache_bytes: u64,
}

impl GifConfig {
    pub(super) fn read(values: &Values) -> Result<Self, ConfigError> {
        let url = values.optional(&table::P2P_GIF_URL, parse::url)?;
        Ok(Self {
            key: check::token(values, &table::P2P_GIF_API_KEY, &table::P2P_GIF_API_KEY_FILE)?,
            url: url.unwrap_or_default(),
            timeout: values.duration(&table::P2P_GIF_TIMEOUT_SECS)?,
            rate: values.non_zero(&table::P2P_GIF_RATE_LIMIT)?,
            peer_rate: values.non_zero(&table::P2P_GIF_PEER_RATE_LIMIT)?,
            address_rate: values.non_zero(&table::P2P_GIF_ADDRESS_RATE_LIMIT)?,
            cache_bytes: values.integer(&table::P2P_GIF_CACHE_BYTES)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use crate::config::Config;

    #[test]
    fn the_key_may_come_from_a_file_and_is_not_shown() {
        let key = |pairs: &[(&str, &str)]| match Config::from_pairs(pairs.iter().copied()) {
            Ok(config) => Ok(config.gif.key.map(|key| String::from_utf8_lossy(key.expose()).into_owned())),
            Err(errors) => Err(errors.to_string()),
        };
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        let file = ("RELAY_P2P_GIF_API_KEY_FILE", path.to_str().unwrap());
        assert_eq!(key(&[]), Ok(None));
        assert!(key(&[file]).unwrap_err().contains(file.1));
        std::fs::write(&path, "k3y\n").unwrap();
        assert_eq!(key(&[file]), Ok(Some("k3y".to_owned())));
        assert!(key(&[file, ("KLIPY_API_KEY", "k3y")]).unwrap_err().contains("not both"));
        for bad in ["", "two words"] {
            std::fs::write(&path, bad).unwrap();
            assert!(key(&[file]).unwrap_err().contains("without spaces"), "{bad}");
        }
        let shown = format!("{:?}", Config::from_pairs([("KLIPY_API_KEY", "hunter2")]));
        assert!(!shown.contains("hunter2"));
    }

    #[test]
    fn a_test_key_is_used_a_hundred_times_a_minute() {
        let rate =
            |pairs: &[(&str, &str)]| Config::from_pairs(pairs.iter().copied()).map(|config| config.gif.rate.get());
        assert_eq!(rate(&[("KLIPY_TEST_KEY", "1")]).unwrap(), 100);
        assert_eq!(rate(&[("KLIPY_TEST_KEY", "false")]).unwrap(), 3000);
        assert!(rate(&[("KLIPY_TEST_KEY", "perhaps")]).is_err());
    }
}
