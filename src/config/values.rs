//! The merged layers: the text of every setting, and typed access to it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use super::error::ConfigError;
use super::layer::{Layer, host_key, port_key};
use super::origin::Origin;
use super::parse;
use super::setting::{Kind, Setting, Unit};
use super::shown::Shown;
use super::table::SETTINGS;

/// What the layers give together. Every text has been accepted by its setting when its layer took it.
pub(super) struct Values {
    given: BTreeMap<String, (Origin, String)>,
    faulty: BTreeSet<&'static str>,
}

impl Values {
    /// Merges layers, lowest first; `errors` is what was wrong with them.
    pub(super) fn merge(layers: impl IntoIterator<Item = Layer>, errors: &[ConfigError]) -> Result<Self, ConfigError> {
        let merge = |error: ::config::ConfigError| ConfigError::Merge { reason: error.to_string() };
        let merged = layers.into_iter().fold(::config::Config::builder(), |all, layer| all.add_source(layer));
        let table = merged.build().and_then(|all| all.cache.into_table()).map_err(merge)?;
        let mut given = BTreeMap::new();
        for (key, value) in table {
            if let Some(origin) = value.origin().and_then(Origin::read) {
                given.insert(key, (origin, value.into_string().map_err(merge)?));
            }
        }
        Ok(Self { given, faulty: errors.iter().filter_map(ConfigError::faulty_setting).collect() })
    }

    /// Where the value of each setting came from; settings without a value are left out.
    pub(super) fn origins(&self) -> BTreeMap<&'static str, Origin> {
        let origin = |setting: &Setting| {
            let keys = [setting.key(), host_key(setting), port_key(setting)];
            keys.iter().filter_map(|key| self.given.get(key)).map(|(origin, _)| origin).max().cloned()
        };
        SETTINGS.iter().filter_map(|setting| Some((setting.name, origin(setting)?))).collect()
    }

    /// The value of a setting that may be unset.
    pub(super) fn optional<T>(
        &self,
        setting: &Setting,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> Result<Option<T>, ConfigError> {
        let Some((origin, text)) = self.given.get(&setting.key()) else { return Ok(None) };
        let invalid = || ConfigError::invalid(setting, setting.kind.correction(text), origin.clone(), text);
        parse(text).map(Some).ok_or_else(invalid)
    }

    /// The value of a setting that has a default.
    pub(super) fn required<T>(
        &self,
        setting: &Setting,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> Result<T, ConfigError> {
        self.optional(setting, parse)?.ok_or_else(|| missing(setting))
    }

    /// A whole number.
    pub(super) fn integer<T: TryFrom<u64>>(&self, setting: &Setting) -> Result<T, ConfigError> {
        let Kind::Integer { min, max, .. } = setting.kind else { return Err(missing(setting)) };
        self.required(setting, |text| T::try_from(parse::integer(text, min, max)?).ok())
    }

    /// A whole number that is not zero.
    pub(super) fn non_zero(&self, setting: &Setting) -> Result<std::num::NonZeroU32, ConfigError> {
        let number: u32 = self.integer(setting)?;
        number.try_into().map_err(|_| missing(setting))
    }

    /// A length of time, in the setting's unit.
    pub(super) fn duration(&self, setting: &Setting) -> Result<Duration, ConfigError> {
        let number = self.integer(setting)?;
        match setting.kind {
            Kind::Integer { unit: Unit::Milliseconds, .. } => Ok(Duration::from_millis(number)),
            _ => Ok(Duration::from_secs(number)),
        }
    }

    /// A socket address, put together from its host and port.
    pub(super) fn address(&self, setting: &Setting) -> Result<SocketAddr, ConfigError> {
        self.optional_address(setting).ok_or_else(|| missing(setting))
    }

    /// The same, of a setting that may be unset.
    pub(super) fn optional_address(&self, setting: &Setting) -> Option<SocketAddr> {
        let part = |key: String| self.given.get(&key).map(|(_, text)| text.as_str());
        let ip = part(host_key(setting)).and_then(parse::ip);
        let port = part(port_key(setting)).and_then(parse::port);
        ip.zip(port).map(SocketAddr::from)
    }

    /// The value of each setting as it may be shown; settings without a value are left out.
    pub(super) fn shown(&self) -> BTreeMap<&'static str, Shown> {
        let text = |setting: &Setting| match setting.kind {
            Kind::Address => self.optional_address(setting).map(|address| address.to_string()),
            _ => self.given.get(&setting.key()).map(|(_, text)| text.clone()),
        };
        SETTINGS.iter().filter_map(|setting| Some((setting.name, Shown::of(setting, &text(setting)?)))).collect()
    }

    /// Whether a layer gives a value for a setting that is no address, be it one that has been refused.
    pub(super) fn is_given(&self, setting: &Setting) -> bool {
        self.given.contains_key(&setting.key()) || self.is_faulty(setting)
    }

    /// Whether a layer gives a value for a setting that has been refused: what stands here may be another one.
    pub(super) fn is_faulty(&self, setting: &Setting) -> bool {
        self.is_faulty_name(setting.name)
    }

    /// The same by the setting's name.
    pub(super) fn is_faulty_name(&self, name: &str) -> bool {
        self.faulty.contains(name)
    }
}

fn missing(setting: &Setting) -> ConfigError {
    ConfigError::Missing { setting: setting.name, accepted: setting.kind.to_string() }
}
