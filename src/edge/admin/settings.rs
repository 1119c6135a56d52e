//! What the node runs with: its settings, its log filter, its tasks.

use tonic::Status;

use super::proto::{LogFilter, Setting, Task};
use super::service::Service;
use crate::config::table::SETTINGS;
use crate::config::{Config, Kind};

/// The setting that a call may change while the node runs, and what its origin is called then.
const LOG_LEVEL: &str = "RELAY_LOG_LEVEL";
const CALLED: &str = "SetLogFilter";

/// Every setting of a configuration as it may be shown.
#[must_use]
pub fn shown(config: &Config) -> Vec<Setting> {
    let setting = |setting: &&crate::config::Setting| {
        let shown = config.shown.get(setting.name);
        Setting {
            name: setting.name.to_owned(),
            value: shown.map_or_else(String::new, |shown| shown.text.clone()),
            origin: config.origins.get(setting.name).map_or_else(String::new, ToString::to_string),
            hidden: shown.is_some_and(|shown| shown.hidden),
            meaning: setting.doc.to_owned(),
        }
    };
    SETTINGS.iter().map(setting).collect()
}

/// A filter that is one.
pub(super) fn checked(filter: &str) -> Result<&str, Status> {
    let filter = filter.trim();
    let accepted = !filter.is_empty() && Kind::LogFilter.accepts(filter);
    accepted.then_some(filter).ok_or_else(|| Status::invalid_argument(format!("give {}", Kind::LogFilter)))
}

impl Service {
    /// The settings in effect.
    pub(super) fn settings(&self) -> Vec<Setting> {
        let mut settings = self.parts.settings.clone();
        if let Some(level) = self.parts.log.as_ref().map(crate::observe::logs::LogHandle::level)
            && let Some(setting) = settings.iter_mut().find(|setting| setting.name == LOG_LEVEL)
            && setting.value != level
        {
            (setting.value, setting.origin) = (level, CALLED.to_owned());
        }
        settings
    }

    /// What is logged.
    pub(super) fn log_filter(&self) -> Result<LogFilter, Status> {
        Ok(LogFilter { filter: self.log()?.level() })
    }

    /// Changes what is logged.
    pub(super) fn set_filter(&self, filter: &str) -> Result<(), Status> {
        self.log()?.set_level(filter).map_err(|error| Status::aborted(error.to_string()))
    }

    /// What runs in the background.
    pub(super) fn tasks(&self) -> Vec<Task> {
        let tasks = self.parts.supervisor.tasks().into_iter();
        let shown = tasks.map(|(name, task)| {
            let (last_error, at) = task.last_error.unwrap_or_default();
            Task {
                name: name.to_owned(),
                running: task.running,
                started: task.started,
                since_ms: task.since.0,
                errors: task.errors,
                last_error,
                last_error_ms: at.0,
            }
        });
        shown.collect()
    }

    fn log(&self) -> Result<&crate::observe::logs::LogHandle, Status> {
        self.parts.log.as_ref().ok_or_else(|| Status::failed_precondition("this process logs by itself"))
    }
}
