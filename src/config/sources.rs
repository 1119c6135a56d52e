//! The layers as the operator gives them: a file, the environment, and flags.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::path::{Path, PathBuf};

use ::config::{FileFormat, Source, Value, ValueKind};

use super::error::ConfigError;
use super::layer::Layer;
use super::origin::LayerKind;
use super::setting::{Alias, Setting};
use super::table::SETTINGS;

/// The environment variable that names the configuration file. It is no setting: a file cannot name itself.
pub const FILE_VARIABLE: &str = "RELAY_CONFIG";

/// Everything that a configuration is read from, given and not looked up, so that tests need no process of
/// their own.
#[derive(Clone, Default)]
pub struct Sources {
    /// The configuration file, in TOML; `None`: there is none.
    pub file: Option<PathBuf>,
    /// Environment variables by name.
    pub environment: BTreeMap<String, OsString>,
    /// Flags by name, with their dashes.
    pub flags: BTreeMap<&'static str, String>,
}

impl Sources {
    /// The sources of a process: `file` as its flag gives it, else as [`FILE_VARIABLE`] does.
    #[must_use]
    pub fn new(
        file: Option<PathBuf>,
        environment: BTreeMap<String, OsString>,
        flags: BTreeMap<&'static str, String>,
    ) -> Self {
        let named = || environment.get(FILE_VARIABLE).filter(|path| !path.is_empty()).map(PathBuf::from);
        Self { file: file.or_else(named), environment, flags }
    }

    /// The four layers, lowest first. What is wrong with them is added to `errors`.
    pub(super) fn layers(&self, errors: &mut Vec<ConfigError>) -> [Layer; 4] {
        [Layer::defaults(errors), self.file_layer(errors), self.environment_layer(errors), self.flag_layer(errors)]
    }

    /// Variables that look like settings and are none.
    pub(super) fn unknown_variables(&self) -> Vec<String> {
        let known: BTreeSet<_> =
            SETTINGS.iter().flat_map(|setting| variables(setting)).map(|by| by.name).chain([FILE_VARIABLE]).collect();
        let unknown = |name: &&String| name.starts_with("RELAY_") && !known.contains(name.as_str());
        self.environment.keys().filter(unknown).cloned().collect()
    }

    fn environment_layer(&self, errors: &mut Vec<ConfigError>) -> Layer {
        let mut layer = Layer::new(LayerKind::Environment);
        for setting in SETTINGS {
            for by in variables(setting) {
                match self.environment.get(by.name).map(|value| value.to_str()) {
                    Some(Some(text)) => layer.offer(setting, by, text, errors),
                    Some(None) => errors.push(ConfigError::NotText { setting: setting.name, name: by.name.to_owned() }),
                    None => {}
                }
            }
        }
        layer
    }

    fn flag_layer(&self, errors: &mut Vec<ConfigError>) -> Layer {
        let mut layer = Layer::new(LayerKind::Flag);
        for setting in SETTINGS {
            for by in setting.flags {
                if let Some(text) = self.flags.get(by.name) {
                    layer.offer(setting, *by, text, errors);
                }
            }
        }
        layer
    }

    fn file_layer(&self, errors: &mut Vec<ConfigError>) -> Layer {
        let mut layer = Layer::new(LayerKind::File);
        let Some(path) = &self.file else { return layer };
        let mut entries = match read_toml(path) {
            Ok(entries) => entries,
            Err(error) => {
                errors.push(error);
                return layer;
            }
        };
        for setting in SETTINGS {
            if let Some(value) = entries.remove(&setting.key()) {
                layer.offer(setting, Alias::whole(setting.name), &text_of(setting, &value), errors);
            }
        }
        errors.extend(entries.into_keys().map(|key| ConfigError::UnknownKey { key, path: path.clone() }));
        layer
    }
}

/// Shows names only: values may be secrets.
impl fmt::Debug for Sources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sources")
            .field("file", &self.file)
            .field("environment", &self.environment.keys())
            .field("flags", &self.flags.keys())
            .finish()
    }
}

/// The environment variables that give a setting: its name first, then its aliases.
fn variables(setting: &Setting) -> impl Iterator<Item = Alias> {
    std::iter::once(Alias::whole(setting.name)).chain(setting.aliases.iter().copied())
}

fn read_toml(path: &Path) -> Result<BTreeMap<String, Value>, ConfigError> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| ConfigError::File { path: path.to_owned(), reason: error.to_string() })?;
    // The parser's message quotes the line that it stumbles over, which may hold a secret: only its first line,
    // the position, is passed on.
    let not_toml = |error: ::config::ConfigError| {
        let message = match error {
            ::config::ConfigError::FileParse { cause, .. } => cause.to_string(),
            other => other.to_string(),
        };
        let reason = message.lines().next().unwrap_or_default().to_owned();
        ConfigError::NotToml { path: path.to_owned(), reason }
    };
    let table = ::config::File::from_str(&text, FileFormat::Toml).collect().map_err(not_toml)?;
    Ok(table.into_iter().collect())
}

/// A value of the file as the environment would give it. An array is a list, if the setting is one.
fn text_of(setting: &Setting, value: &Value) -> String {
    match &value.kind {
        ValueKind::Array(items) if setting.kind.is_list() => {
            items.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
        }
        ValueKind::Array(_) => "[an array]".to_owned(),
        ValueKind::Table(_) => "[a table]".to_owned(),
        scalar => scalar.to_string(),
    }
}

/// The environment of this process. Names that are not text are no settings and are left out.
#[must_use]
pub fn process_environment() -> BTreeMap<String, OsString> {
    std::env::vars_os().filter_map(|(name, value)| Some((OsStr::to_str(&name)?.to_owned(), value))).collect()
}
