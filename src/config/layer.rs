//! One layer of the configuration: what it gives, checked against the table and under the settings' own keys.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;

use ::config::{Map, Source, Value};

use super::error::ConfigError;
use super::origin::{LayerKind, Origin};
use super::parse;
use super::setting::{Alias, Kind, Meaning, Setting};
use super::table::SETTINGS;

/// What one layer gives. Socket addresses are kept as host and port, so that a layer can change one of them.
#[derive(Clone)]
pub(super) struct Layer {
    kind: LayerKind,
    values: BTreeMap<String, (Origin, String)>,
}

/// The key of an address's host.
pub(super) fn host_key(setting: &Setting) -> String {
    format!("{}_host", setting.key())
}

/// The key of an address's port.
pub(super) fn port_key(setting: &Setting) -> String {
    format!("{}_port", setting.key())
}

impl Layer {
    /// A layer that gives nothing.
    pub(super) const fn new(kind: LayerKind) -> Self {
        Self { kind, values: BTreeMap::new() }
    }

    /// The defaults of the table.
    pub(super) fn defaults(errors: &mut Vec<ConfigError>) -> Self {
        let mut layer = Self::new(LayerKind::Default);
        for setting in SETTINGS {
            if let Some(text) = setting.default {
                layer.offer(setting, Alias::whole(setting.name), text, errors);
            }
        }
        layer
    }

    /// Takes `text` as the value of `setting` given by the name `by`. Text of white space is no value.
    pub(super) fn offer(&mut self, setting: &Setting, by: Alias, text: &str, errors: &mut Vec<ConfigError>) {
        let text = text.trim();
        if text.is_empty() {
            return;
        }
        let name = if self.kind == LayerKind::File { setting.key() } else { by.name.to_owned() };
        let origin = Origin { layer: self.kind, name };
        match claims(setting, by.meaning, text) {
            Ok(claims) => self.enter(setting, &origin, claims, errors),
            Err(accepted) => errors.push(ConfigError::invalid(setting, accepted, origin, text)),
        }
    }

    fn enter(
        &mut self,
        setting: &Setting,
        origin: &Origin,
        claims: Vec<(String, String)>,
        errors: &mut Vec<ConfigError>,
    ) {
        for (key, text) in claims {
            let (first, kept) = self.values.entry(key).or_insert_with(|| (origin.clone(), text.clone()));
            if *kept != text {
                let (first, second) = (first.clone(), origin.clone());
                errors.push(ConfigError::Conflict { setting: setting.name, first, second });
                return;
            }
        }
    }
}

/// The keys that a value gives, with their texts; else what would have been accepted.
fn claims(setting: &Setting, meaning: Meaning, text: &str) -> Result<Vec<(String, String)>, String> {
    let host = |ip: std::net::IpAddr| (host_key(setting), ip.to_string());
    let port = |number: u16| (port_key(setting), number.to_string());
    match (meaning, setting.kind) {
        (Meaning::Whole, Kind::Address) => parse::address(text)
            .map(|address: SocketAddr| vec![host(address.ip()), port(address.port())])
            .ok_or_else(|| setting.kind.correction(text)),
        (Meaning::Whole, kind) if kind.accepts(text) => Ok(vec![(setting.key(), text.to_owned())]),
        (Meaning::Whole, kind) => Err(kind.correction(text)),
        (Meaning::Host, _) => {
            parse::ip(text).map(|ip| vec![host(ip)]).ok_or_else(|| "an IP address or localhost".to_owned())
        }
        (Meaning::Port, _) => {
            parse::port(text).map(|number| vec![port(number)]).ok_or_else(|| "a port from 0 to 65535".to_owned())
        }
        (Meaning::Seconds, kind) => {
            let milliseconds = parse::integer(text, 0, u64::MAX / 1000).map(|seconds| (seconds * 1000).to_string());
            match milliseconds.filter(|text| kind.accepts(text)) {
                Some(text) => Ok(vec![(setting.key(), text)]),
                None => Err(format!("whole seconds, as many as {kind} are")),
            }
        }
        (Meaning::Switch(on), _) => match parse::boolean(text) {
            Some(true) => Ok(vec![(setting.key(), on.to_owned())]),
            Some(false) => Ok(Vec::new()),
            None => Err(Kind::Boolean.to_string()),
        },
    }
}

/// Shows keys only: values may be secrets.
impl fmt::Debug for Layer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Layer").field("kind", &self.kind).field("keys", &self.values.keys()).finish()
    }
}

impl Source for Layer {
    fn clone_into_box(&self) -> Box<dyn Source + Send + Sync> {
        Box::new(self.clone())
    }

    fn collect(&self) -> Result<Map<String, Value>, ::config::ConfigError> {
        let value = |(origin, text): &(Origin, String)| Value::new(Some(&origin.to_string()), text.as_str());
        Ok(self.values.iter().map(|(key, given)| (key.clone(), value(given))).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::table;

    fn offer(pairs: &[(Alias, &str)]) -> (Layer, Vec<ConfigError>) {
        let (mut layer, mut errors) = (Layer::new(LayerKind::Environment), Vec::new());
        for (by, text) in pairs {
            layer.offer(&table::LISTEN_ADDR, *by, text, &mut errors);
        }
        (layer, errors)
    }

    #[test]
    fn names_that_agree_may_both_be_set() {
        let (layer, errors) =
            offer(&[(Alias::whole("RELAY_LISTEN_ADDR"), "127.0.0.1:80"), (Alias::port("PORT"), "80")]);
        assert_eq!(errors, []);
        assert_eq!(layer.values.len(), 2);
    }

    #[test]
    fn names_that_disagree_are_both_named() {
        let (_, errors) = offer(&[(Alias::whole("RELAY_LISTEN_ADDR"), "127.0.0.1:80"), (Alias::port("PORT"), "81")]);
        let shown = errors.iter().map(ToString::to_string).collect::<String>();
        assert!(errors.len() == 1 && shown.contains("RELAY_LISTEN_ADDR") && shown.contains("PORT"), "{shown}");
    }

    #[test]
    fn white_space_is_no_value() {
        let (layer, errors) = offer(&[(Alias::port("PORT"), " \t")]);
        assert!(errors.is_empty() && layer.values.is_empty());
    }

    #[test]
    fn the_defaults_are_without_fault() {
        let mut errors = Vec::new();
        Layer::defaults(&mut errors);
        assert_eq!(errors, []);
    }
}
