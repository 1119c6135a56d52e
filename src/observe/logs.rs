//! Log lines: one subscriber a process, whose filter can be changed while it runs.
//!
//! Lines go to standard error, for standard output belongs to what a command prints.

use std::io::{IsTerminal, stderr};
use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;
use tracing::Subscriber;
use tracing::subscriber::set_global_default;
use tracing_subscriber::filter::{EnvFilter, FilterExt, LevelFilter, ParseError, filter_fn};
use tracing_subscriber::fmt;
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::registry::Registry;
use tracing_subscriber::reload;

use super::trace::{self, Traces};
use crate::config::{LogConfig, LogFormat};

/// Why log lines cannot be written, or not as asked.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The level or directives cannot be read.
    #[error("cannot read the log level {level:?}: {reason}; give a level such as info, or directives")]
    Level {
        /// What was given.
        level: String,
        /// What the parser says.
        reason: ParseError,
    },
    /// This process has a subscriber.
    #[error("logging is set up already in this process; set it up once")]
    Installed,
    /// The subscriber is no more.
    #[error("the log level cannot be changed any more: {0}")]
    Gone(#[from] reload::Error),
}

/// Changes what is logged. Copies of it change the same.
#[derive(Debug, Clone)]
pub struct LogHandle {
    filter: reload::Handle<EnvFilter, Registry>,
    level: Arc<Mutex<String>>,
}

/// That of the process.
static INSTALLED: OnceLock<LogHandle> = OnceLock::new();

/// Changes what this process logs; `None` before [`init`].
#[must_use]
pub fn installed() -> Option<LogHandle> {
    INSTALLED.get().cloned()
}

impl LogHandle {
    /// The level or directives that decide.
    #[must_use]
    pub fn level(&self) -> String {
        self.level.lock().clone()
    }

    /// From now on `level` decides, a level or directives for [`EnvFilter`]. What is traced stays as it is.
    ///
    /// # Errors
    /// [`LogError::Level`] if it cannot be read: then nothing changes.
    pub fn set_level(&self, level: &str) -> Result<(), LogError> {
        let mut known = self.level.lock();
        self.filter.reload(filter(level)?)?;
        level.clone_into(&mut known);
        Ok(())
    }
}

/// Sends log lines to standard error and spans to `traces`, from here to the end of the process.
///
/// # Errors
/// [`LogError::Level`], and [`LogError::Installed`] if it was called before.
pub fn init(config: &LogConfig, traces: &Traces) -> Result<LogHandle, LogError> {
    let (subscriber, handle) = subscriber(config, traces, stderr().is_terminal(), stderr)?;
    set_global_default(subscriber).map_err(|_| LogError::Installed)?;
    Ok(INSTALLED.get_or_init(|| handle).clone())
}

/// The subscriber that writes lines by `writer`, coloured if `ansi`.
fn subscriber<W>(
    config: &LogConfig,
    traces: &Traces,
    ansi: bool,
    writer: W,
) -> Result<(impl Subscriber + Send + Sync + use<W>, LogHandle), LogError>
where
    W: for<'a> fmt::MakeWriter<'a> + Send + Sync + 'static,
{
    let (filter, handle) = reload::Layer::new(filter(&config.level)?);
    let lines = match config.format {
        LogFormat::Text => fmt::layer().with_ansi(ansi).with_writer(writer).boxed(),
        LogFormat::Json => fmt::layer().json().flatten_event(true).with_writer(writer).boxed(),
    };
    let once = filter_fn(|event| !trace::is_said_by_exporter(event)).with_max_level_hint(LevelFilter::TRACE);
    // The filter is the lines' alone, so that a quiet log does not silence the traces.
    let subscriber = Registry::default().with(lines.with_filter(filter.and(once))).with(traces.layer());
    let level = Arc::new(Mutex::new(config.level.clone()));
    Ok((subscriber, LogHandle { filter: handle, level }))
}

fn filter(level: &str) -> Result<EnvFilter, LogError> {
    EnvFilter::try_new(level).map_err(|reason| LogError::Level { level: level.to_owned(), reason })
}

#[cfg(test)]
mod tests {
    use std::io::{self, Write};
    use tracing::subscriber::with_default;

    use super::*;

    /// Where a test's lines go.
    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Lines {
        fn take(&self) -> String {
            String::from_utf8(std::mem::take(&mut *self.0.lock())).unwrap()
        }
    }

    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn set_up(level: &str, format: LogFormat) -> (impl Subscriber + Send + Sync, LogHandle, Lines) {
        let lines = Lines::default();
        let writer = lines.clone();
        let config = LogConfig { level: level.to_owned(), format };
        let (subscriber, handle) = subscriber(&config, &Traces::off(), false, move || writer.clone()).unwrap();
        (subscriber, handle, lines)
    }

    #[test]
    fn the_level_decides_and_can_be_changed_at_run_time() {
        let (subscriber, handle, lines) = set_up("info", LogFormat::Text);
        with_default(subscriber, || {
            let speak = || {
                tracing::debug!("quiet");
                tracing::info!(peer = 7, "loud");
            };
            speak();
            let text = lines.take();
            assert!(text.contains("INFO") && text.contains("loud") && text.contains("peer=7"), "{text}");
            assert!(!text.contains("quiet") && !text.contains('\x1b'), "{text:?}");

            handle.set_level("debug").unwrap();
            assert_eq!(handle.clone().level(), "debug");
            speak();
            assert!(lines.take().contains("quiet"));

            handle.set_level("off").unwrap();
            speak();
            assert_eq!(lines.take(), "");
        });
    }

    #[test]
    fn a_level_that_cannot_be_read_changes_nothing() {
        let (subscriber, handle, lines) = set_up("info", LogFormat::Text);
        with_default(subscriber, || {
            let error = handle.set_level("waystation=loud").unwrap_err();
            assert!(error.to_string().contains("waystation=loud"), "{error}");
            assert_eq!(handle.level(), "info");
            tracing::info!("still here");
            assert!(lines.take().contains("still here"));
        });
    }

    #[test]
    fn each_json_line_is_one_object() {
        let (subscriber, _handle, lines) = set_up("info", LogFormat::Json);
        with_default(subscriber, || tracing::warn!(node = "n1", "drained"));
        let line: serde_json::Value = serde_json::from_str(&lines.take()).unwrap();
        assert_eq!(
            (&line["level"], &line["message"], &line["node"]),
            (&"WARN".into(), &"drained".into(), &"n1".into())
        );
    }
}
